// SPDX-License-Identifier: MIT
// cuda_few_linear and cuda_prepare against plain C in double, their rows' independence of each other bit by bit, and
// (--bench) their speed.
//
//   check_linear [--quick]    --quick leaves out the large matrices
//   check_linear --bench
//
// The witness takes the same rounded inputs, so only the device's own sums and roundings are allowed for:
//   a sum of n products in f32: n_step * 2^-23 * sum |a b|, n_step the longest chain (a tensor core step adds 16
//   products with one rounding or truncation); bf16 output: half a unit in the last place, at most 2^-8 of the value.
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "gpu/cuda/device_kernels.h"

enum {
    POISON = 0xff,
    GUARD = 256,
    MAX_ROWS = CUDA_FEW_ROWS
}; // POISON: NaN in both types; GUARD: bytes
static const double EPS = 1.0 / (1 << 23), HALF_BF16 = 1.0 / (1 << 8);

static int n_check, n_failed;

static void report(bool ok, const char *what, const char *why)
{
    n_check++;
    n_failed += !ok;
    if (ok)
        printf("ok %s\n", what);
    else
        printf("not ok %s: %s\n", what, why);
    fflush(stdout);
}

static void must(cudaError_t rc, const char *what)
{
    if (rc == cudaSuccess)
        return;
    printf("not ok %s: CUDA error %d: %s\n", what, (int)rc, cudaGetErrorString(rc));
    exit(1);
}

static void *host_bytes(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p) {
        printf("not ok: no %zu bytes\n", n);
        exit(1);
    }
    return p;
}

static void *device_bytes(size_t n)
{
    void *p = NULL;
    must(cudaMalloc(&p, n ? n : 1), "cudaMalloc");
    return p;
}

static void *upload(const void *host, size_t n)
{
    void *p = device_bytes(n);
    must(cudaMemcpy(p, host, n, cudaMemcpyHostToDevice), "cudaMemcpy");
    return p;
}

static void sync_device(const char *what)
{
    must(cudaGetLastError(), what);
    must(cudaDeviceSynchronize(), what);
}

static uint32_t seed = 1;

static uint32_t random_bits(void)
{
    seed = seed * 1664525u + 1013904223u;
    uint32_t x = seed;
    x = (x ^ x >> 16) * 0x7feb352du;
    return x ^ x >> 15;
}

static float random_real(void) // in [-1, 1)
{
    return (float)random_bits() / 2147483648.0f - 1.0f;
}

static float from_bf16(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// A host matrix of either element type, with its copy on the device.
struct matrix {
    uint8_t *host, *device;
    bool is_bf16;
    int rows, cols;
    int64_t stride, lead; // elements; lead: before the first one
    size_t bytes;
};

static size_t element(bool is_bf16)
{
    return is_bf16 ? 2 : 4;
}

static float matrix_get(const struct matrix *m, int r, int c)
{
    size_t i = (size_t)(m->lead + r * m->stride + c);
    return m->is_bf16 ? from_bf16(((const uint16_t *)(const void *)m->host)[i])
                      : ((const float *)(const void *)m->host)[i];
}

static void matrix_set(struct matrix *m, int r, int c, float v)
{
    size_t i = (size_t)(m->lead + r * m->stride + c);
    if (m->is_bf16)
        ((uint16_t *)(void *)m->host)[i] = to_bf16(v);
    else
        ((float *)(void *)m->host)[i] = v;
}

static bool same_bits(const struct matrix *a, int ra, const struct matrix *b, int rb, int from,
                      int to)
{
    size_t e = element(a->is_bf16);
    return !memcmp(a->host + (size_t)(a->lead + ra * a->stride + from) * e,
                   b->host + (size_t)(b->lead + rb * b->stride + from) * e,
                   (size_t)(to - from) * e);
}

static struct matrix matrix_new(bool is_bf16, int rows, int cols, int64_t stride, int64_t lead)
{
    struct matrix m = {
        .is_bf16 = is_bf16, .rows = rows, .cols = cols, .stride = stride, .lead = lead};
    m.bytes = (size_t)(lead + rows * stride) * element(is_bf16);
    m.host = host_bytes(m.bytes);
    m.device = device_bytes(m.bytes);
    memset(m.host, POISON, m.bytes);
    return m;
}

static void matrix_send(struct matrix *m)
{
    must(cudaMemcpy(m->device, m->host, m->bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
}

static void matrix_fetch(struct matrix *m)
{
    must(cudaMemcpy(m->host, m->device, m->bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

static void matrix_free(struct matrix *m)
{
    free(m->host);
    must(cudaFree(m->device), "cudaFree");
}

static struct cuda_view view_of(const struct matrix *m)
{
    return (struct cuda_view){.data = m->device + (size_t)m->lead * element(m->is_bf16),
                              .is_bf16 = m->is_bf16,
                              .rows = m->rows,
                              .cols = m->cols,
                              .stride = m->stride};
}

static void fill_random(struct matrix *m, float scale, bool integer)
{
    for (int r = 0; r < m->rows; r++)
        for (int c = 0; c < m->cols; c++)
            matrix_set(m, r, c,
                       integer ? (float)((int)(random_bits() % 9) - 4) : scale * random_real());
    matrix_send(m);
}

// Elements outside [rows, cols] still hold the poison.
static bool outside_untouched(const struct matrix *m)
{
    size_t e = element(m->is_bf16);
    for (size_t i = 0; i < m->bytes; i++) {
        int64_t at = (int64_t)(i / e) - m->lead;
        bool inside = at >= 0 && at / m->stride < m->rows && at % m->stride < m->cols;
        if (!inside && m->host[i] != POISON)
            return false;
    }
    return true;
}

// ---- few_linear

struct linear_case {
    int n_out, k;
    bool bias, add, scale, y_bf16, integer;
};

struct linear_data {
    struct linear_case c;
    struct matrix w, x;
    float *bias, *scale, *bias_device, *scale_device;
};

static float start_value(int r, int o) // of y, where the product is added
{
    return (float)((r * 31 + o * 7) % 64) / 8.0f - 4.0f;
}

// Rows [first, first + rows) of x; y has `rows` rows.
static struct matrix run_linear(const struct linear_data *d, int first, int rows)
{
    struct matrix y = matrix_new(d->c.y_bf16, rows, d->c.n_out, d->c.n_out + 24, 16);
    if (d->c.add)
        for (int r = 0; r < rows; r++)
            for (int o = 0; o < d->c.n_out; o++)
                matrix_set(&y, r, o, start_value(first + r, o));
    matrix_send(&y);
    struct cuda_few_linear a = {.w = d->w.device,
                                .x = d->x.device + (size_t)first * (size_t)d->c.k * 2,
                                .bias = d->c.bias ? d->bias_device : NULL,
                                .y = view_of(&y),
                                .add = d->c.add,
                                .scale = d->c.scale ? d->scale_device : NULL,
                                .k = d->c.k};
    must((cudaError_t)cuda_few_linear(&a, NULL), "cuda_few_linear");
    sync_device("cuda_few_linear");
    matrix_fetch(&y);
    return y;
}

// Every output of a narrow matrix, some of a wide one, against the sum in double.
static bool linear_right(const struct linear_data *d, const struct matrix *y, char *why,
                         size_t why_bytes)
{
    int step = d->c.n_out <= 64 ? 1 : d->c.n_out / 37;
    for (int r = 0; r < y->rows; r++)
        for (int o = 0; o < d->c.n_out;
             o = o + step < d->c.n_out || o == d->c.n_out - 1 ? o + step : d->c.n_out - 1) {
            double sum = 0, size = 0;
            for (int i = 0; i < d->c.k; i++) {
                double p = (double)matrix_get(&d->x, r, i) * (double)matrix_get(&d->w, o, i);
                sum += p;
                size += fabs(p);
            }
            if (d->c.bias) {
                sum += (double)d->bias[o];
                size += fabs((double)d->bias[o]);
            }
            double limit = d->c.integer ? 0.0 : (d->c.k / 128.0 + 24) * EPS * size;
            if (d->c.add) {
                double s = d->c.scale ? (double)d->scale[o] : 1.0;
                sum = (double)start_value(r, o) + s * sum;
                limit = fabs(s) * limit + (d->c.integer ? 0.0 : EPS * fabs(sum));
            }
            if (d->c.y_bf16)
                limit += HALF_BF16 * (fabs(sum) + limit);
            double got = (double)matrix_get(y, r, o);
            if (!(fabs(got - sum) <= limit)) {
                snprintf(why, why_bytes, "row %d of %d, output %d: %.9g, expected %.9g +- %.3g", r,
                         y->rows, o, got, sum, limit);
                return false;
            }
        }
    return true;
}

static bool linear_one(const struct linear_data *d, char *why, size_t why_bytes)
{
    static const int counts[] = {1, 2, 7, 8, 9, 16, 17, 32, 33};
    bool ok = false;
    struct matrix all = run_linear(d, 0, MAX_ROWS);
    if (!outside_untouched(&all))
        snprintf(why, why_bytes, "wrote outside y");
    else
        ok = linear_right(d, &all, why, why_bytes);
    for (size_t i = 0; ok && i < sizeof counts / sizeof *counts; i++) {
        int first = i % 2 ? MAX_ROWS - counts[i] : (int)i; // also at another place among the rows
        struct matrix some = run_linear(d, first, counts[i]);
        if (!outside_untouched(&some)) {
            snprintf(why, why_bytes, "%d rows: wrote outside y", counts[i]);
            ok = false;
        }
        for (int r = 0; ok && r < counts[i]; r++)
            if (!same_bits(&some, r, &all, first + r, 0, d->c.n_out)) {
                snprintf(why, why_bytes, "row %d: other bits with %d rows than with %d", first + r,
                         counts[i], MAX_ROWS);
                ok = false;
            }
        matrix_free(&some);
    }
    matrix_free(&all);
    return ok;
}

static void check_few_linear(const struct linear_case *c)
{
    struct linear_data d = {.c = *c};
    char name[160], why[200] = "";
    snprintf(name, sizeof name, "few_linear n_out %d k %d%s%s%s%s%s", c->n_out, c->k,
             c->bias ? " bias" : "", c->add ? " add" : "", c->scale ? " scale" : "",
             c->y_bf16 ? " bf16" : " f32", c->integer ? " exact" : "");
    d.w = matrix_new(true, c->n_out, c->k, c->k, 0);
    d.x = matrix_new(true, MAX_ROWS, c->k, c->k, 0);
    fill_random(&d.w, 0.5f, c->integer);
    fill_random(&d.x, 2.0f, c->integer);
    size_t n = (size_t)c->n_out * sizeof(float);
    d.bias = host_bytes(n);
    d.scale = host_bytes(n);
    for (int o = 0; o < c->n_out; o++) {
        d.bias[o] = c->integer ? (float)(o % 5 - 2) : random_real();
        d.scale[o] = c->integer ? (o % 2 ? 0.5f : -2.0f) : random_real();
    }
    d.bias_device = upload(d.bias, n);
    d.scale_device = upload(d.scale, n);
    bool ok = linear_one(&d, why, sizeof why);
    report(ok, name, why);
    matrix_free(&d.w);
    matrix_free(&d.x);
    must(cudaFree(d.bias_device), "cudaFree");
    must(cudaFree(d.scale_device), "cudaFree");
    free(d.bias);
    free(d.scale);
}

static void check_linears(bool quick)
{
    static const int outs[] = {1, 15, 16, 17, 48, 130, 4096},
                     columns[] = {16, 32, 48, 64, 80, 528, 1024, 4112, 14352};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        for (size_t j = 0; j < sizeof outs / sizeof *outs; j++) {
            if (quick &&
                (outs[j] > 130 || columns[i] > 4112 || (outs[j] > 48 && columns[i] > 1024)))
                continue;
            size_t way = i + j;
            check_few_linear(&(struct linear_case){.n_out = outs[j],
                                                   .k = columns[i],
                                                   .integer = true,
                                                   .bias = way % 2 == 0,
                                                   .add = way % 3 == 0,
                                                   .scale = way % 3 == 0 && way % 2});
            check_few_linear(&(struct linear_case){.n_out = outs[j],
                                                   .k = columns[i],
                                                   .bias = way % 2 == 1,
                                                   .add = way % 3 == 1,
                                                   .scale = way % 3 == 1 && way % 2,
                                                   .y_bf16 = way % 3 == 2});
        }
}

// ---- prepare

struct prepare_case {
    enum cuda_input kind;
    int d_in, n_lora;
    bool lora, x_bf16, up_bf16, out_bf16, odd; // odd: nothing is aligned
};

static const char *const kind_names[] = {"rows", "rms", "silu_mul", "gelu"};

struct prepare_data {
    struct prepare_case c;
    struct matrix x, up, norm_w, lora_a;
    int rows, k_out;
};

static const float EPS_NORM = 1e-5f, LORA_SCALE = 2.0f;

static struct matrix run_prepare(const struct prepare_data *d, int first, int rows, bool lora)
{
    struct matrix out =
        matrix_new(d->c.out_bf16, rows, d->k_out, d->k_out, d->c.odd ? GUARD / 4 + 1 : GUARD / 4);
    matrix_send(&out);
    struct cuda_prepare a = {.kind = d->c.kind,
                             .x = view_of(&d->x),
                             .up = view_of(&d->up),
                             .norm_w = (const float *)view_of(&d->norm_w).data,
                             .eps = EPS_NORM,
                             .out = view_of(&out).data,
                             .out_bf16 = d->c.out_bf16,
                             .k_out = d->k_out,
                             .lora_a = lora ? view_of(&d->lora_a).data : NULL,
                             .n_lora = d->c.n_lora,
                             .lora_scale = LORA_SCALE};
    a.x.rows = a.up.rows = rows;
    a.x.data = (uint8_t *)a.x.data + (size_t)(first * d->x.stride) * element(d->x.is_bf16);
    a.up.data = (uint8_t *)a.up.data + (size_t)(first * d->up.stride) * element(d->up.is_bf16);
    must((cudaError_t)cuda_prepare(&a, NULL), "cuda_prepare");
    sync_device("cuda_prepare");
    matrix_fetch(&out);
    return out;
}

// f of element c of row r, and how far f32 arithmetic may be from it.
static double transformed(const struct prepare_data *d, int r, int c, double inverse, double *limit)
{
    double x = (double)matrix_get(&d->x, r, c);
    *limit = 0;
    switch (d->c.kind) {
    case CUDA_INPUT_RMS:
        x *= inverse * (double)matrix_get(&d->norm_w, 0, c);
        *limit = 32 * EPS * fabs(x);
        break;
    case CUDA_INPUT_SILU_MUL:
        x = x / (1 + exp(-x)) * (double)matrix_get(&d->up, r, c);
        *limit = 16 * EPS * fabs(x) + 1e-35; // f32's exp overflows beyond 88
        break;
    case CUDA_INPUT_GELU:
        *limit = 4 * EPS * fabs(x); // 1 + erf loses what they cancel
        x = 0.5 * x * (1 + erf(x / sqrt(2.0)));
        *limit += 4 * EPS * fabs(x);
        break;
    case CUDA_INPUT_ROWS:
        break;
    }
    return x;
}

static bool prepare_right(const struct prepare_data *d, const struct matrix *out, bool lora,
                          char *why, size_t why_bytes)
{
    for (int r = 0; r < out->rows; r++) {
        double sum = 0;
        for (int c = 0; c < d->c.d_in; c++)
            sum += pow((double)matrix_get(&d->x, r, c), 2);
        double inverse = 1 / sqrt(sum / d->c.d_in + (double)EPS_NORM);
        for (int c = 0; c < d->c.d_in; c++) {
            double limit, want = transformed(d, r, c, inverse, &limit),
                          got = (double)matrix_get(out, r, c);
            if (d->c.out_bf16)
                limit += HALF_BF16 * (fabs(want) + limit) + 1e-40;
            if (!(fabs(got - want) <= limit)) {
                snprintf(why, why_bytes, "row %d, column %d: %.9g, expected %.9g +- %.3g", r, c,
                         got, want, limit);
                return false;
            }
        }
        for (int j = 0; lora && j < d->c.n_lora; j++) {
            double want = 0, size = 0, got = (double)matrix_get(out, r, d->c.d_in + j);
            for (int c = 0; c < d->c.d_in; c++) {
                double p = (double)matrix_get(out, r, c) * (double)matrix_get(&d->lora_a, j, c);
                want += p;
                size += fabs(p);
            }
            want *= (double)LORA_SCALE;
            double limit = (d->c.d_in / 512.0 + 16) * EPS * size * (double)LORA_SCALE;
            limit += HALF_BF16 * (fabs(want) + limit);
            if (!(fabs(got - want) <= limit)) {
                snprintf(why, why_bytes, "row %d, t[%d]: %.9g, expected %.9g +- %.3g", r, j, got,
                         want, limit);
                return false;
            }
        }
        size_t e = element(d->c.out_bf16);
        static const uint8_t poison[4] = {POISON, POISON, POISON, POISON}, zero[4] = {0};
        for (int c = d->c.d_in; c < d->k_out; c++) {
            bool is_t = c < d->c.d_in + d->c.n_lora;
            const uint8_t *p = out->host + (size_t)(out->lead + r * out->stride + c) * e;
            if (!(is_t && lora) && memcmp(p, is_t ? poison : zero, e)) {
                snprintf(why, why_bytes, "row %d, column %d: %s", r, c,
                         is_t ? "not left alone" : "not zero");
                return false;
            }
        }
    }
    if (!outside_untouched(out)) {
        snprintf(why, why_bytes, "wrote outside out");
        return false;
    }
    return true;
}

static bool prepare_one(const struct prepare_data *d, char *why, size_t why_bytes)
{
    struct matrix all = run_prepare(d, 0, d->rows, d->c.lora);
    bool ok = prepare_right(d, &all, d->c.lora, why, why_bytes);
    for (int i = 0; ok && i < 3; i++) { // one row alone, the last two, and the other path
        int first = i ? d->rows - 2 : 0, rows = i ? 2 : 1;
        struct matrix some = run_prepare(d, first, rows, i == 2 ? false : d->c.lora);
        for (int r = 0; ok && r < rows; r++)
            if (!same_bits(&some, r, &all, first + r, 0, i == 2 ? d->c.d_in : d->k_out)) {
                snprintf(why, why_bytes, "row %d: other bits %s", first + r,
                         i == 2 ? "without LoRA" : "with fewer rows");
                ok = false;
            }
        matrix_free(&some);
    }
    matrix_free(&all);
    return ok;
}

static void check_prepare(const struct prepare_case *c)
{
    struct prepare_data d = {.c = *c, .rows = c->lora ? 5 : 37};
    char name[160], why[200] = "";
    d.k_out = (c->d_in + c->n_lora + 15) / 16 * 16 + (c->odd ? 17 : 16);
    snprintf(name, sizeof name, "prepare %s d_in %d %s%s -> %s, %s %d%s", kind_names[c->kind],
             c->d_in, c->x_bf16 ? "bf16" : "f32",
             c->kind == CUDA_INPUT_SILU_MUL ? c->up_bf16 ? " * bf16" : " * f32" : "",
             c->out_bf16 ? "bf16" : "f32", c->lora ? "lora" : "room", c->n_lora,
             c->odd ? " unaligned" : "");
    int stride = c->d_in + (c->odd ? 3 : 8), lead = c->odd;
    if (!c->odd)
        stride = (stride + 7) / 8 * 8;
    d.x = matrix_new(c->x_bf16, d.rows, c->d_in, stride, lead);
    d.up = matrix_new(c->up_bf16, d.rows, c->d_in, stride, lead);
    d.norm_w = matrix_new(false, 1, c->d_in, c->d_in, lead);
    d.lora_a = matrix_new(true, c->n_lora, c->d_in, c->d_in, lead);
    fill_random(&d.x, 6.0f, false);
    for (int i = 0; i < c->d_in; i += 13) // the rows' ends of the functions
        matrix_set(&d.x, i % d.rows, i,
                   (float[]){0.0f, -0.0f, 30.0f, -30.0f, 100.0f, -100.0f, 1e-6f}[i % 7]);
    matrix_send(&d.x);
    fill_random(&d.up, 2.0f, false);
    fill_random(&d.norm_w, 1.5f, false);
    fill_random(&d.lora_a, 0.1f, false);
    bool ok = prepare_one(&d, why, sizeof why);
    report(ok, name, why);
    matrix_free(&d.x);
    matrix_free(&d.up);
    matrix_free(&d.norm_w);
    matrix_free(&d.lora_a);
}

static void check_prepares(bool quick)
{
    static const int widths[] = {1, 8, 16, 100, 264, 1408, 4096, 6144, 14336, 16392, 20000};
    static const int loras[] = {0, 1, 16, 48, 64};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++)
            for (int way = 0; way < 16; way++) {
                struct prepare_case c = {.kind = (enum cuda_input)kind, .d_in = widths[i]};
                c.x_bf16 = c.up_bf16 = way & 1;
                c.out_bf16 = way & 2;
                c.lora = c.out_bf16 && way & 4;
                c.odd = way & 8;
                c.n_lora = loras[(i + (size_t)way + (size_t)kind) % 5];
                if (kind == CUDA_INPUT_SILU_MUL && way == 6)
                    c.up_bf16 = true; // of a type of its own
                if (quick && (widths[i] > 6144 || widths[i] == 4096) && way % 5)
                    continue;
                check_prepare(&c);
            }
}

// ---- speed

enum { N_TIMES = 20 };

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct timer {
    cudaStream_t stream;
    cudaEvent_t start, stop;
};

// Median over N_TIMES of `run` recorded once as a graph and replayed; ms.
static float time_graph(struct timer *t, void (*run)(void *, cudaStream_t), void *arg)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float ms[N_TIMES];
    run(arg, t->stream); // first use of each kernel, outside the recording
    must(cudaStreamSynchronize(t->stream), "warm up");
    must(cudaStreamBeginCapture(t->stream, cudaStreamCaptureModeThreadLocal),
         "cudaStreamBeginCapture");
    run(arg, t->stream);
    must(cudaStreamEndCapture(t->stream, &graph), "cudaStreamEndCapture");
    must(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    for (int i = -3; i < N_TIMES; i++) {
        must(cudaEventRecord(t->start, t->stream), "cudaEventRecord");
        must(cudaGraphLaunch(exec, t->stream), "cudaGraphLaunch");
        must(cudaEventRecord(t->stop, t->stream), "cudaEventRecord");
        must(cudaEventSynchronize(t->stop), "cudaEventSynchronize");
        if (i >= 0)
            must(cudaEventElapsedTime(&ms[i], t->start, t->stop), "cudaEventElapsedTime");
    }
    must(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
    must(cudaGraphDestroy(graph), "cudaGraphDestroy");
    qsort(ms, N_TIMES, sizeof *ms, compare_floats);
    return ms[N_TIMES / 2];
}

// Device bf16 numbers of about 1/64: real bits, as constant ones would let the memory rest.
static void *random_weights(size_t n)
{
    enum { N_TABLE = 1 << 20 };
    static uint16_t table[N_TABLE];
    uint8_t *p = device_bytes(n * 2);
    if (!table[0])
        for (int i = 0; i < N_TABLE; i++)
            table[i] = to_bf16(random_real() / 64);
    for (size_t i = 0; i < n; i += N_TABLE)
        must(cudaMemcpy(p + 2 * i, table, 2 * (n - i < N_TABLE ? n - i : N_TABLE),
                        cudaMemcpyHostToDevice),
             "cudaMemcpy");
    return p;
}

struct shape {
    int n_out, k;
};
// One decoder layer (query, key, value; output; gate and up; down) with its LoRA columns, and the logits.
static const struct shape shapes[] = {
    {6144, 4144}, {4096, 4112}, {28672, 4128}, {4096, 14352}, {32000, 4112}};
enum { N_SHAPE = 5, N_LAYER = 32 };

struct bench_linear {
    struct cuda_few_linear a;
    uint8_t *w;
    size_t w_bytes;
    int n_copy, n_call;
};

static void run_bench_linear(void *arg, cudaStream_t stream)
{
    struct bench_linear *b = arg;
    for (int i = 0; i < b->n_call; i++) {
        b->a.w = b->w + (size_t)(i % b->n_copy) * b->w_bytes;
        must((cudaError_t)cuda_few_linear(&b->a, stream), "cuda_few_linear");
    }
}

static void bench_few_linear(struct timer *t)
{
    static const int rows[] = {1, 8, 32, 64};
    printf("%-16s %5s %10s %10s\n", "n_out x k", "rows", "us", "GB/s of W");
    for (int s = 0; s < N_SHAPE; s++) {
        size_t n = (size_t)shapes[s].n_out * (size_t)shapes[s].k;
        struct bench_linear b = {.w_bytes = 2 * n};
        b.n_copy = (int)((1u << 30) / b.w_bytes) + 2; // more than the L2 cache holds
        b.n_call = 2 * b.n_copy;
        b.w = random_weights(n * (size_t)b.n_copy);
        void *x = random_weights((size_t)MAX_ROWS * (size_t)shapes[s].k);
        float *y = device_bytes(sizeof(float) * MAX_ROWS * (size_t)shapes[s].n_out);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            b.a = (struct cuda_few_linear){
                .x = x,
                .k = shapes[s].k,
                .y = {y, false, rows[i], shapes[s].n_out, shapes[s].n_out}};
            double us = 1e3 * (double)time_graph(t, run_bench_linear, &b) / b.n_call;
            printf("%6d x %-7d %5d %10.2f %10.0f\n", shapes[s].n_out, shapes[s].k, rows[i], us,
                   (double)b.w_bytes / us / 1e3);
        }
        must(cudaFree(b.w), "cudaFree");
        must(cudaFree(x), "cudaFree");
        must(cudaFree(y), "cudaFree");
    }
}

enum { N_PREPARE = 100 };

static void run_bench_prepare(void *arg, cudaStream_t stream)
{
    for (int i = 0; i < N_PREPARE; i++)
        must((cudaError_t)cuda_prepare(arg, stream), "cuda_prepare");
}

static void bench_prepare(struct timer *t)
{
    enum { N_LORA = 48, MANY = 12294, D_FFN = 14336 };
    void *x = random_weights((size_t)MANY * D_FFN), *up = random_weights((size_t)MANY * D_FFN);
    void *out = device_bytes((size_t)MANY * 2 * (D_FFN + 64)),
         *lora = random_weights((size_t)N_LORA * D_FFN);
    float *norm_w = device_bytes(sizeof(float) * D_FFN);
    must(cudaMemset(norm_w, 0, sizeof(float) * D_FFN), "cudaMemset");
    printf("%-10s %6s %6s %5s %10s %8s\n", "prepare", "d_in", "rows", "lora", "us", "GB/s");
    for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++)
        for (int i = 0; i < 4; i++) {
            int rows = i < 2 ? 1 : i == 2 ? 32 : MANY;
            int d_in = kind == CUDA_INPUT_SILU_MUL ? D_FFN : kind == CUDA_INPUT_GELU ? 6144 : 4096;
            bool with_lora = i == 1 || i == 2;
            struct cuda_prepare a = {.kind = (enum cuda_input)kind,
                                     .x = {x, true, rows, d_in, d_in},
                                     .up = {up, true, rows, d_in, d_in},
                                     .norm_w = norm_w,
                                     .eps = EPS_NORM,
                                     .out = out,
                                     .out_bf16 = true,
                                     .k_out = d_in + N_LORA,
                                     .lora_a = with_lora ? lora : NULL,
                                     .n_lora = N_LORA,
                                     .lora_scale = LORA_SCALE};
            double us = 1e3 * (double)time_graph(t, run_bench_prepare, &a) / N_PREPARE;
            double bytes = (double)rows * d_in * 2 * (kind == CUDA_INPUT_SILU_MUL ? 3 : 2);
            printf("%-10s %6d %6d %5d %10.2f %8.0f\n", kind_names[kind], d_in, rows,
                   with_lora ? N_LORA : 0, us, bytes / us / 1e3);
        }
    must(cudaFree(x), "cudaFree");
    must(cudaFree(up), "cudaFree");
    must(cudaFree(out), "cudaFree");
    must(cudaFree(lora), "cudaFree");
    must(cudaFree(norm_w), "cudaFree");
}

struct bench_step {
    uint8_t *w[N_LAYER][4], *lora[N_LAYER][4], *w_logits;
    float *norm_w, *state, *logits; // state: f32 [rows, 4096], the stream of the layers
    void *x, *wide;                 // wide: bf16 [rows, 28672]
    int rows;
};

static void step_linear(const struct bench_step *b, int shape, const void *w, struct cuda_view y,
                        bool add, cudaStream_t stream)
{
    struct cuda_few_linear a = {.w = w, .x = b->x, .y = y, .add = add, .k = shapes[shape].k};
    must((cudaError_t)cuda_few_linear(&a, stream), "cuda_few_linear");
}

// What a decoding step reads: every product of every layer with what makes its input; no attention.
static void run_bench_step(void *arg, cudaStream_t stream)
{
    static const int d_in[N_SHAPE] = {4096, 4096, 4096, 14336, 4096};
    struct bench_step *b = arg;
    struct cuda_view state = {b->state, false, b->rows, 4096, 4096},
                     wide = {b->wide, true, b->rows, 28672, 28672};
    struct cuda_view qkv = {b->wide, true, b->rows, 6144, 28672},
                     logits = {b->logits, false, b->rows, 32000, 32000};
    for (int l = 0; l <= N_LAYER; l++)
        for (int s = l < N_LAYER ? 0 : 4; s < (l < N_LAYER ? 4 : 5); s++) {
            struct cuda_prepare p = {.kind = s == 1   ? CUDA_INPUT_ROWS
                                             : s == 3 ? CUDA_INPUT_SILU_MUL
                                                      : CUDA_INPUT_RMS,
                                     .norm_w = b->norm_w,
                                     .eps = EPS_NORM,
                                     .out = b->x,
                                     .out_bf16 = true,
                                     .k_out = shapes[s].k,
                                     .n_lora = shapes[s].k - d_in[s],
                                     .lora_scale = LORA_SCALE};
            p.lora_a = b->lora[l < N_LAYER ? l : 0][s < 4 ? s : 0];
            p.x = s == 1 || s == 3 ? wide : state;
            p.x.cols = d_in[s];
            p.up = wide;
            p.up.cols = d_in[s];
            p.up.data = (uint8_t *)b->wide + 2 * (size_t)14336;
            must((cudaError_t)cuda_prepare(&p, stream), "cuda_prepare");
            if (s == 4)
                step_linear(b, s, b->w_logits, logits, false, stream);
            else
                step_linear(b, s, b->w[l][s], s == 0 ? qkv : s == 2 ? wide : state, s % 2, stream);
        }
}

static void bench_step(struct timer *t)
{
    static struct bench_step b;
    size_t bytes = 0;
    for (int l = 0; l < N_LAYER; l++)
        for (int s = 0; s < 4; s++) {
            size_t n = (size_t)shapes[s].n_out * (size_t)shapes[s].k;
            b.w[l][s] = random_weights(n);
            b.lora[l][s] = random_weights((size_t)64 * 14336);
            bytes += 2 * n;
        }
    b.w_logits = random_weights((size_t)shapes[4].n_out * (size_t)shapes[4].k);
    bytes += 2 * (size_t)shapes[4].n_out * (size_t)shapes[4].k;
    b.norm_w = device_bytes(4096 * sizeof(float));
    float ones[4096];
    for (int i = 0; i < 4096; i++)
        ones[i] = 1.0f;
    must(cudaMemcpy(b.norm_w, ones, sizeof ones, cudaMemcpyHostToDevice), "cudaMemcpy");
    b.state = device_bytes(sizeof(float) * MAX_ROWS * 4096);
    b.logits = device_bytes(sizeof(float) * MAX_ROWS * 32000);
    b.x = device_bytes((size_t)2 * MAX_ROWS * 14352);
    b.wide = device_bytes((size_t)2 * MAX_ROWS * 28672);
    must(cudaMemset(b.state, 0x3d, sizeof(float) * MAX_ROWS * 4096), "cudaMemset");
    printf("%-34s %5s %10s %10s %12s\n", "decoding step without attention", "rows", "ms",
           "GB/s of W", "tokens/s");
    for (int overlap = 0; overlap < 2; overlap++)
        for (b.rows = 1; b.rows <= 32; b.rows *= b.rows == 1 ? 8 : 4) {
            cuda_overlap(overlap);
            double ms = (double)time_graph(t, run_bench_step, &b);
            printf("%-34s %5d %10.3f %10.0f %12.1f\n",
                   overlap ? "overlapping kernels" : "one kernel after another", b.rows, ms,
                   (double)bytes / ms / 1e6, 1e3 * b.rows / ms);
        }
    for (int l = 0; l < N_LAYER; l++)
        for (int s = 0; s < 4; s++) {
            must(cudaFree(b.w[l][s]), "cudaFree");
            must(cudaFree(b.lora[l][s]), "cudaFree");
        }
    must(cudaFree(b.w_logits), "cudaFree");
}

static void bench(void)
{
    struct timer t;
    struct cudaDeviceProp prop;
    must(cudaGetDeviceProperties(&prop, 0), "cudaGetDeviceProperties");
    printf("%s, %d processors; medians of %d graph replays\n", prop.name, prop.multiProcessorCount,
           N_TIMES);
    must(cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    must(cudaEventCreate(&t.start), "cudaEventCreate");
    must(cudaEventCreate(&t.stop), "cudaEventCreate");
    bench_few_linear(&t);
    bench_step(&t);
    bench_prepare(&t);
    must(cudaEventDestroy(t.start), "cudaEventDestroy");
    must(cudaEventDestroy(t.stop), "cudaEventDestroy");
    must(cudaStreamDestroy(t.stream), "cudaStreamDestroy");
}

int main(int argc, char **argv)
{
    int n_device = 0;
    bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    if (cudaGetDeviceCount(&n_device) != cudaSuccess || n_device == 0) {
        printf("SKIP no CUDA device\n");
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        bench();
        return 0;
    }
    check_linears(quick);
    check_prepares(quick);
    printf("%d checks, %d failed\n", n_check, n_failed);
    return n_failed > 0;
}
