// SPDX-License-Identifier: MIT
// Weights on their way to the device:
//   - rows that are larger than the pinned memory they pass through, of every kind of conversion, with gaps between them
//     and with a factor for each: the bits that dtype_to_f32 gives, rounded once; gaps stay as they are;
//   - such a vector through the door that ops use, and on a gpu that only plans the same bytes;
//   - one tensor as a vector, as a table and in layers: different things, each made once;
//   - where the device is emulated: what found no room is refused from then on, by its name, and nothing else is.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "device_matrix.h"
#include "gpu/cuda/device.h"
#include "kernels/kernels.h"

enum { ROWS = 2, GAP = 64 }; // GAP: bytes between rows

static struct kernels kernels;
static uint32_t state = 1;
static void *held[8]; // a gpu knows tensors by their addresses: these stay until the end
static size_t n_held;

static uint32_t random_bits(void)
{
    return state = state * 1664525 + 1013904223;
}

static void *must_alloc(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p) {
        report(false, "no memory for the test");
        exit(report_end());
    }
    return p;
}

static struct gpu *open_gpu(bool plans)
{
    struct gpu_options opt = {.compute = COMPUTE_BF16, .kernels = &kernels};
    struct gpu *g = NULL;
    struct err e = {0};
    if ((plans ? gpu_open_plan(&opt, &g, &e) : gpu_open(&opt, &g, &e)) != 0) {
        report(false, "gpu_open: %s", e.msg);
        exit(report_end());
    }
    return g;
}

// Finite numbers near 1, of either sign; any bytes of DT_U8.
static struct tensor tensor_new(enum dtype t, size_t rows, size_t cols)
{
    size_t n = rows * cols, bytes = dtype_span(t, n);
    uint8_t *p = must_alloc(bytes);
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t bits = t == DT_F32    ? (random_bits() & 0x81ffffff) | 0x3e000000
                        : t == DT_BF16 ? (random_bits() & 0x81ff81ff) | 0x3e003e00
                                       : random_bits() >> 3;
        memcpy(p + i, &bits, 4);
    }
    for (size_t i = 0; t == DT_Q8_0 && i < bytes; i += 34)
        p[i + 1] = 0x2c; // the scale's exponent
    return (struct tensor){.data = p,
                           .dtype = t,
                           .rank = rows == 1 ? 1 : 2,
                           .dim = {rows == 1 ? cols : rows, cols},
                           .bytes = bytes,
                           .name = "lm.test"};
}

static struct tensor tensor_held(enum dtype t, size_t rows, size_t cols)
{
    struct tensor made = tensor_new(t, rows, cols);
    held[n_held++] = (void *)(uintptr_t)made.data;
    return made;
}

// A row of t as it is to lie on the device.
static void want_row(const struct tensor *t, size_t row, size_t cols, enum dtype to, float scale,
                     char *out)
{
    const char *src = (const char *)t->data + dtype_span(t->dtype, row * cols);
    if (t->dtype == to && scale == 1) {
        memcpy(out, src, cols * dtype_bytes(to));
        return;
    }
    float *v = must_alloc(cols * sizeof *v);
    dtype_to_f32(v, src, t->dtype, cols);
    for (size_t i = 0; i < cols; i++) {
        float f = v[i] * scale;
        uint16_t half = f32_to_bf16(f);
        memcpy(out + i * dtype_bytes(to), to == DT_BF16 ? (void *)&half : (void *)&f,
               dtype_bytes(to));
    }
    free(v);
}

static void check_rows(struct gpu *g, enum dtype from, enum dtype to, size_t beyond, size_t gap,
                       const float *scale)
{
    size_t cols = STAGE_BYTES / dtype_bytes(to) + beyond, row_bytes = cols * dtype_bytes(to);
    size_t stride = row_bytes + gap, wrong = 0;
    struct tensor t = tensor_new(from, ROWS, cols);
    struct err e = {0};
    char *device = NULL, *have = must_alloc(ROWS * stride), *want = must_alloc(row_bytes);
    cuda_must(cudaMalloc((void **)&device, ROWS * stride), "cudaMalloc");
    cuda_must(cudaMemset(device, 0xa5, ROWS * stride), "cudaMemset");
    cuda_must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    int rc = scale ? place_scaled(g, &t, scale, ROWS, cols, device, stride, to, &e)
                   : place_rows(g, &t, ROWS, cols, device, stride, to, &e);
    if (rc == 0)
        rc = place_finish(g, &e);
    cuda_must(cudaMemcpy(have, device, ROWS * stride, cudaMemcpyDeviceToHost), "copy back");
    for (size_t r = 0; r < ROWS && rc == 0; r++) {
        want_row(&t, r, cols, to, scale ? scale[r] : 1, want);
        wrong += memcmp(have + r * stride, want, row_bytes) != 0;
        for (size_t i = row_bytes; i < stride; i++)
            wrong += have[r * stride + i] != (char)0xa5;
    }
    report(rc == 0 && wrong == 0, "rows of %zu bytes, %s to %s%s%s: %s", row_bytes,
           dtype_name(from), dtype_name(to), gap ? ", with gaps" : "", scale ? ", scaled" : "",
           rc == 0 ? "as they are read" : e.msg);
    (void)cudaFree(device);
    free((void *)(uintptr_t)t.data);
    free(have);
    free(want);
}

static void check_large_vector(struct gpu *g)
{
    size_t n = STAGE_BYTES / sizeof(float) + 77, wrong = 0;
    struct tensor t = tensor_held(DT_F32, 1, n);
    float *have = must_alloc(n * sizeof *have);
    const float *device = NULL, *none = NULL;
    struct gpu_memory m;
    struct err e = {0};
    int rc = place_vector(g, &t, &device, &e);
    if (rc == 0) {
        cuda_must(cudaMemcpy(have, device, n * sizeof *have, cudaMemcpyDeviceToHost), "copy back");
        wrong = memcmp(have, t.data, n * sizeof *have) != 0;
    }
    report(rc == 0 && wrong == 0, "a vector of %zu bytes: %s", n * sizeof *have,
           rc == 0 ? "as it is" : e.msg);
    struct gpu *plan = open_gpu(true);
    rc = place_vector(plan, &t, &none, &e);
    gpu_get_memory(plan, &m);
    report(rc == 0 && !none && m.used[GPU_MEM_VECTORS] == n * sizeof *have, "planned: %s",
           rc == 0 ? "its bytes" : e.msg);
    gpu_close(plan);
    free(have);
}

static void check_keys(struct gpu *g)
{
    enum { N = 64 };
    struct tensor t = tensor_held(DT_F32, N, N);
    struct linear l = {.w = t};
    const struct linear *const w[] = {&l, &l};
    const struct placed_linear *one[2], *two[2];
    struct placed_rows table[2];
    const float *vector[2];
    struct gpu_memory m[2];
    struct err e = {0};
    int rc = 0;
    for (int i = 0; i < 2; i++) {
        rc = rc ? rc : place_vector(g, &t, &vector[i], &e);
        rc = rc ? rc : place_table(g, &t, N, &table[i], &e);
        rc = rc ? rc : place_linears(g, w, 1, NULL, &one[i], &e);
        rc = rc ? rc : place_linears(g, w, 2, NULL, &two[i], &e);
        gpu_get_memory(g, &m[i]);
    }
    report(rc == 0 && vector[0] && vector[0] == vector[1] && table[0].view.data &&
               table[0].view.data == table[1].view.data && one[0] == one[1] && two[0] == two[1] &&
               one[0]->n_out == N && two[0]->n_out == 2 * N && m[0].used_all == m[1].used_all &&
               (const void *)vector[0] != table[0].view.data && one[0]->w != two[0]->w,
           "a tensor as a vector, a table and in layers: each made once%s%s", rc ? ": " : "",
           rc ? e.msg : "");
    const struct tensor scale = tensor_held(DT_F32, 1, N);
    rc = place_linears(g, w, 1, &scale, &one[1], &e);
    report(rc == ERR_FAIL && strstr(e.msg, "is there with another LayerScale"),
           "a layer with another LayerScale than it was made with: refused");
}

// Emulated it can be given less memory than there was.
static void check_refused(struct gpu *g)
{
    struct gpu_info info;
    struct tensor t = tensor_held(DT_F32, 1, 4096), other = tensor_held(DT_F32, 1, 4096);
    const float *v;
    struct err first = {0}, again = {0}, e = {0};
    gpu_get_info(g, &info);
    if (strcmp(info.name, "emulated") != 0) {
        printf("# not emulated: nothing is refused\n");
    } else {
        setenv("EMULATE_MEMORY", "1", 1);
        int rc = place_vector(g, &t, &v, &first);
        unsetenv("EMULATE_MEMORY");
        report(rc == ERR_LIMIT && !v && strstr(first.msg, "16384 bytes for lm.test"),
               "no room for a vector: refused with its bytes");
        rc = place_vector(g, &t, &v, &again);
        report(rc == ERR_LIMIT && !v && strstr(again.msg, "lm.test is not on the device"),
               "asked for again: refused by its name");
        rc = place_vector(g, &other, &v, &e);
        report(rc == 0 && v, "another one: there");
    }
}

int main(void)
{
    static const float scale[ROWS] = {0.75f, -3};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!device_present())
        return 77;
    kernels_init(&kernels, cpu_best(cpu_detect()));
    struct gpu *g = open_gpu(false);
    check_rows(g, DT_F32, DT_F32, 333, 0, NULL);
    check_rows(g, DT_F32, DT_BF16, 1, GAP, NULL);
    check_rows(g, DT_BF16, DT_F32, 333, GAP, scale);
    check_rows(g, DT_Q8_0, DT_BF16, 96, GAP, NULL);
    check_rows(g, DT_U8, DT_U8, 1, 0, NULL);
    check_large_vector(g);
    check_keys(g);
    check_refused(g);
    gpu_close(g);
    while (n_held > 0)
        free(held[--n_held]);
    return report_end();
}
