// SPDX-License-Identifier: MIT
// Weights as GGUF files have them, of every type that is read, through the ops of a stream: rows looked up, linear layers
// of few and of many rows with biases, into f32 and bf16, layers of different types side by side, none of them quantised
// again, LayerScale and GELU behind a layer of every type but BF16, F32 and Q5_0, and layers that are not to meet int8.
// Against sums in double over what the processor reads (dtype_to_f32).
//
// Gates: a look-up has no error. Where products are of bf16 a factor is within 2^-9 of itself; rows that few layers in
// blocks meet are int8 with a step of a 127th of the largest of 32, so within half of that; sums of k terms round k times
// in f32; and what lies between two ops is bf16.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "device_matrix.h"
#include "gpu/gpu.h"
#include "kernels/kernels.h"

enum { K = 512, N_OUT = 48, MOST_ROWS = 70, MOST_TENSORS = 2048, SCRATCH = 16 << 20 };

static const enum dtype types[] = {DT_F32,  DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0,
                                   DT_Q4_K, DT_Q6_K, DT_Q5_K, DT_Q5_0, DT_Q4_1};
enum { N_TYPE = sizeof types / sizeof *types };

static const char *const compute_names[] = {[COMPUTE_F32] = "f32", [COMPUTE_BF16] = "bf16"};

struct machine {
    struct gpu *gpu;
    struct ops *o;
    struct kernels kernels;
    enum compute compute;
};

static void *held[2 * MOST_TENSORS]; // a device knows tensors by their addresses: freed at the end
static size_t n_held;

static void *hold(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p || n_held == sizeof held / sizeof *held)
        exit(1);
    held[n_held++] = p;
    return p;
}

static void must(int rc, const struct err *e, const char *what)
{
    if (rc == 0)
        return;
    printf("not ok - %s: %s\n", what, e->msg);
    exit(1);
}

static bool has_kernel(enum dtype t)
{
    return t == DT_Q8_0 || t == DT_Q4_0 || t == DT_Q4_K || t == DT_Q6_K;
}

// ---- weights

static void put_half(uint8_t *p)
{
    unsigned bits = (unsigned)(fabs(random_signed()) * 3072) + (8 << 10); // 2^-7 .. 2^-4
    p[0] = (uint8_t)bits;
    p[1] = (uint8_t)(bits >> 8);
}

static struct tensor tensor_new(enum dtype t, size_t rows, size_t cols)
{
    size_t n = rows * cols, bytes = dtype_span(t, n), block = dtype_block_bytes(t);
    uint8_t *p = hold(bytes);
    for (size_t i = 0; i < n && !dtype_is_block(t); i++) {
        float f = (float)random_signed();
        uint16_t half = t == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
        if (t == DT_F32)
            memcpy(p + 4 * i, &f, 4);
        else
            memcpy(p + 2 * i, &half, 2);
    }
    for (size_t i = 0; i < bytes && dtype_is_block(t); i++)
        p[i] = (uint8_t)((random_signed() + 1) * 128);
    for (size_t i = 0; i < bytes && dtype_is_block(t); i += block) {
        put_half(p + i + (t == DT_Q6_K ? 208 : 0));
        if (t == DT_Q4_K || t == DT_Q5_K || t == DT_Q4_1)
            put_half(p + i + 2);
    }
    return (struct tensor){.data = p,
                           .dtype = t,
                           .rank = rows == 1 ? 1 : 2,
                           .dim = {rows == 1 ? cols : rows, cols},
                           .bytes = bytes,
                           .name = "lm.test"};
}

static float *values_of(const struct tensor *t, size_t n)
{
    float *v = hold(n * sizeof *v);
    dtype_to_f32(v, t->data, t->dtype, n);
    return v;
}

// Of N_OUT outputs. Products of blocks come to some hundreds.
static struct tensor bias_new(void)
{
    struct tensor b = tensor_new(DT_F32, 1, N_OUT);
    float *v = held[n_held - 1];
    for (int i = 0; i < N_OUT; i++)
        v[i] *= 256;
    return b;
}

static void machine_open(struct machine *m, enum compute compute)
{
    struct err e = {0};
    m->compute = compute;
    kernels_init(&m->kernels, cpu_best(cpu_detect()));
    struct gpu_options opt = {.compute = compute, .kernels = &m->kernels};
    struct ops_options ops = {.kernels = &m->kernels, .compute = compute};
    must(gpu_open(&opt, &m->gpu, &e), &e, "gpu_open");
    must(ops_open_gpu(m->gpu, &ops, &m->o, &e), &e, "a stream");
    must(ops_reserve(m->o, SCRATCH, &e), &e, "scratch");
}

static void machine_close(struct machine *m)
{
    struct err e = {0};
    must(ops_status(m->o, &e), &e, "ops");
    ops_close(m->o);
    gpu_close(m->gpu);
}

// ---- rows to look up

static void check_embed(const struct machine *m, enum dtype t, bool by_id)
{
    enum { ROWS = 9 };
    struct tensor table = tensor_new(t, N_OUT, K);
    const float *v = values_of(&table, (size_t)N_OUT * K);
    static float have[ROWS * K];
    int32_t ids[ROWS];
    size_t mark = ops_mark(m->o), wrong = 0;
    struct mat y = ops_mat(m->o, ROWS, K);
    bool rounds = m->compute == COMPUTE_BF16 && dtype_is_block(t) && !has_kernel(t);
    for (int i = 0; i < ROWS; i++)
        ids[i] = by_id ? (i * 29 + 7) % N_OUT : i;
    op_embed(m->o, y, &table, by_id ? ids : NULL);
    op_download(m->o, have, y);
    for (int i = 0; i < ROWS * K; i++) {
        float want = v[ids[i / K] * K + i % K];
        wrong += have[i] != (rounds ? bf16_round(want) : want);
    }
    report(wrong == 0, "%s, %s: rows %s as the processor reads them%s", compute_names[m->compute],
           dtype_name(t), by_id ? "by number" : "in order", rounds ? ", in bf16" : "");
    ops_pop(m->o, mark);
}

// ---- linear layers

// What a row of the input may be off by, element by element, and its values.
struct row {
    double v[K], off[K];
};

// blocks: rows are int8 there.
static void row_off(const struct machine *m, struct row *r, bool blocks)
{
    for (int c = 0; c < K; c++)
        r->off[c] = m->compute == COMPUTE_BF16 ? ldexp(fabs(r->v[c]), -9) : 0;
    for (int c = 0; c < K && blocks; c += 32) {
        double most = 0;
        for (int i = c; i < c + 32; i++)
            most = fmax(most, fabs(r->v[i]));
        for (int i = c; i < c + 32; i++)
            r->off[i] += most / 254 * (1 + ldexp(1, -10));
    }
}

// Product with a row of weights, and its gate.
static double product(const struct machine *m, const struct row *x, const float *w, double *gate)
{
    double sum = 0, size = 0, off = 0;
    for (int c = 0; c < K; c++) {
        double term = x->v[c] * (double)w[c];
        sum += term;
        size += fabs(term);
        off += x->off[c] * fabs((double)w[c]);
    }
    *gate = off + size * K * ldexp(1, -23);
    if (m->compute == COMPUTE_BF16) // a weight without kernels is rounded, too
        *gate += ldexp(size, -9);
    return sum;
}

// Layers of one input, each with a bias that counts beside its product, with RMSNorm in front. y is f32, or bf16 where
// activations are.
static void check_group(const struct machine *m, const enum dtype *t, size_t n_w, size_t rows,
                        bool act)
{
    static float x[MOST_ROWS * K], have[MOST_ROWS * 4 * N_OUT];
    static struct row r;
    struct linear l[4];
    const struct linear *each[4];
    const float *v[4], *b[4];
    size_t mark = ops_mark(m->o), cols = n_w * N_OUT, wrong = 0;
    struct tensor norm = tensor_new(DT_F32, 1, K);
    const float *norm_v = norm.data;
    double worst = 0;
    char name[64] = "";
    for (size_t i = 0; i < n_w; i++) {
        l[i] = (struct linear){.w = tensor_new(t[i], N_OUT, K), .b = bias_new()};
        each[i] = &l[i];
        b[i] = l[i].b.data;
        v[i] = values_of(&l[i].w, (size_t)N_OUT * K);
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%s", i ? ", " : "",
                 dtype_name(t[i]));
    }
    for (size_t i = 0; i < rows * K; i++)
        x[i] = (float)random_signed() * 3;
    struct mat in = ops_mat(m->o, rows, K);
    struct mat y = act ? ops_act(m->o, rows, cols) : ops_mat(m->o, rows, cols);
    op_upload(m->o, in, x);
    op_linears(
        m->o, y,
        &(struct linear_input){
            .kind = INPUT_RMS_NORM, .x = in, .norm = &norm, .eps = 1e-5f, .next_silu = n_w == 2},
        each, n_w);
    op_download(m->o, have, y);
    for (size_t i = 0; i < rows; i++) {
        double square = 0;
        for (int c = 0; c < K; c++)
            square += (double)x[i * K + (size_t)c] * (double)x[i * K + (size_t)c];
        for (int c = 0; c < K; c++)
            r.v[c] = (double)x[i * K + (size_t)c] / sqrt(square / K + 1e-5) * (double)norm_v[c];
        for (size_t j = 0; j < cols; j++) {
            double gate;
            enum dtype type = t[j / N_OUT];
            row_off(m, &r,
                    m->compute == COMPUTE_BF16 && has_kernel(type) && rows <= ops_few_rows(m->o));
            double bias = (double)b[j / N_OUT][j % N_OUT];
            double want = product(m, &r, v[j / N_OUT] + j % N_OUT * K, &gate) + bias;
            gate += ldexp(fabs(bias), m->compute == COMPUTE_BF16 ? -9 : -22);
            gate += y.dtype == DT_BF16 ? ldexp(fabs(want), -8) : 0;
            double far = fabs((double)have[i * cols + j] - want) / gate;
            wrong += !(far <= 1);
            worst = fmax(worst, far);
        }
    }
    report(wrong == 0, "%s, %zu row%s, %s, biases, y in %s: %.2f of the gate, %zu beyond",
           compute_names[m->compute], rows, rows == 1 ? "" : "s", name, dtype_name(y.dtype), worst,
           wrong);
    ops_pop(m->o, mark);
}

// A one in each row of the input takes a column out: the very values of the file, not such as were quantised again. Rounded
// to bf16 where a product reads that; a row of int8 has the one up to the roundings of its scale and minimum.
static void check_values(const struct machine *m, const enum dtype *t, size_t n_w, size_t rows)
{
    static float x[MOST_ROWS * K], have[MOST_ROWS * 4 * N_OUT];
    struct linear l[4];
    const struct linear *each[4];
    const float *v[4];
    size_t mark = ops_mark(m->o), cols = n_w * N_OUT, wrong = 0;
    char name[64] = "";
    for (size_t i = 0; i < n_w; i++) {
        l[i] = (struct linear){.w = tensor_new(t[i], N_OUT, K)};
        each[i] = &l[i];
        v[i] = values_of(&l[i].w, (size_t)N_OUT * K);
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%s", i ? ", " : "",
                 dtype_name(t[i]));
    }
    memset(x, 0, sizeof x);
    for (size_t i = 0; i < rows; i++)
        x[i * K + (i * 37 + 11) % K] = 1;
    struct mat in = ops_mat(m->o, rows, K), y = ops_mat(m->o, rows, cols);
    op_upload(m->o, in, x);
    op_linears(m->o, y, &(struct linear_input){.kind = INPUT_ROWS, .x = in}, each, n_w);
    op_download(m->o, have, y);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            const float *w = v[j / N_OUT] + j % N_OUT * K;
            bool blocks = m->compute == COMPUTE_BF16 && has_kernel(t[j / N_OUT]);
            float want = w[(i * 37 + 11) % K], most = 0;
            for (int c = 0; c < K && blocks && rows <= ops_few_rows(m->o); c++)
                most = fmaxf(most, fabsf(w[c]));
            if (m->compute == COMPUTE_BF16 && most == 0)
                want = bf16_round(want);
            wrong += !(fabsf(have[i * cols + j] - want) <= ldexpf(most, -18));
        }
    report(wrong == 0, "%s, %zu row%s, %s: the values of the file", compute_names[m->compute], rows,
           rows == 1 ? "" : "s", name);
    ops_pop(m->o, mark);
}

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}

// Bias and LayerScale, or GELU, behind a layer: what the vision part has.
static void check_behind(const struct machine *m, enum dtype t, size_t rows, bool scaled)
{
    static float x[MOST_ROWS * K], y0[MOST_ROWS * N_OUT], have[MOST_ROWS * N_OUT];
    static struct row r;
    struct linear l = {.w = tensor_new(t, N_OUT, K), .b = tensor_new(DT_F32, 1, N_OUT)};
    struct tensor scale = tensor_new(DT_F32, 1, N_OUT);
    const struct linear *each = &l;
    const float *v = values_of(&l.w, (size_t)N_OUT * K), *b = l.b.data, *s = scale.data;
    size_t mark = ops_mark(m->o), wrong = 0;
    double worst = 0;
    for (size_t i = 0; i < rows * K; i++)
        x[i] = (float)random_signed() / (dtype_is_block(t) ? 64 : 4); // the bias counts beside it
    for (size_t i = 0; i < rows * N_OUT; i++)
        y0[i] = (float)random_signed();
    struct mat in = ops_mat(m->o, rows, K), y = ops_mat(m->o, rows, N_OUT);
    struct linear_input input = {.kind = INPUT_ROWS, .x = in};
    op_upload(m->o, in, x);
    op_upload(m->o, y, y0);
    if (scaled) {
        op_linear_add(m->o, y, &input, &l, &scale);
    } else {
        input.gelu = ops_gelu_early(m->o);
        op_linears(m->o, y, &input, &each, 1);
        if (!input.gelu)
            op_gelu(m->o, y);
    }
    op_download(m->o, have, y);
    for (size_t i = 0; i < rows; i++) {
        for (int c = 0; c < K; c++)
            r.v[c] = (double)x[i * K + (size_t)c];
        row_off(m, &r, m->compute == COMPUTE_BF16 && has_kernel(t) && rows <= ops_few_rows(m->o));
        for (size_t j = 0; j < N_OUT; j++) {
            double gate, want = product(m, &r, v + j * K, &gate) + (double)b[j];
            gate += ldexp(fabs(want) + fabs((double)b[j]), m->compute == COMPUTE_BF16 ? -8 : -22);
            if (scaled) { // the scale may be rounded with a weight or a bias
                gate = fabs((double)s[j]) * gate + ldexp(fabs((double)y0[i * N_OUT + j]), -22);
                want = (double)y0[i * N_OUT + j] + (double)s[j] * want;
            } else { // GELU's slope is at most 1.13
                want = gelu(want);
                gate = 1.13 * gate + ldexp(fabs(want), -8) +
                       (m->compute == COMPUTE_BF16 ? 5e-4 : 1e-6);
            }
            double far = fabs((double)have[i * N_OUT + j] - want) / gate;
            wrong += !(far <= 1);
            worst = fmax(worst, far);
        }
    }
    report(wrong == 0, "%s, %zu rows, %s with bias and %s: %.2f of the gate, %zu beyond",
           compute_names[m->compute], rows, dtype_name(t), scaled ? "LayerScale" : "GELU", worst,
           wrong);
    ops_pop(m->o, mark);
}

// A layer that is fine between two that are not, all in Q8_0. Where inputs are large weights are 0: beside them int8 has
// nothing left of the others, and bf16 everything.
static void check_fine(const struct machine *m, size_t rows)
{
    enum { N_W = 3, LARGE = 5, BLOCK_BYTES = 34 };
    static float x[MOST_ROWS * K], have[MOST_ROWS * N_W * N_OUT];
    static struct row r;
    struct linear l[N_W];
    const struct linear *each[N_W];
    const float *v[N_W];
    size_t mark = ops_mark(m->o), cols = (size_t)N_W * N_OUT, wrong = 0;
    double worst = 0;
    for (size_t i = 0; i < N_W; i++) {
        l[i] = (struct linear){.w = tensor_new(DT_Q8_0, N_OUT, K), .fine = i == 1};
        uint8_t *block = held[n_held - 1];
        for (size_t c = 0; c < (size_t)N_OUT * K / 32; c++)
            block[c * BLOCK_BYTES + 2 + LARGE] = 0;
        each[i] = &l[i];
        v[i] = values_of(&l[i].w, (size_t)N_OUT * K);
    }
    for (size_t i = 0; i < rows * K; i++)
        x[i] = (float)random_signed() * (i % 32 == LARGE ? 0 : 1) + (i % 32 == LARGE ? 1000 : 0);
    struct mat in = ops_mat(m->o, rows, K), y = ops_mat(m->o, rows, cols);
    op_upload(m->o, in, x);
    op_linears(m->o, y, &(struct linear_input){.kind = INPUT_ROWS, .x = in}, each, N_W);
    op_download(m->o, have, y);
    for (size_t i = 0; i < rows; i++) {
        for (int c = 0; c < K; c++)
            r.v[c] = (double)x[i * K + (size_t)c];
        for (size_t j = 0; j < cols; j++) {
            double gate;
            row_off(m, &r,
                    m->compute == COMPUTE_BF16 && !l[j / N_OUT].fine && rows <= ops_few_rows(m->o));
            double want = product(m, &r, v[j / N_OUT] + j % N_OUT * K, &gate);
            double far = fabs((double)have[i * cols + j] - want) / gate;
            wrong += !(far <= 1);
            worst = fmax(worst, far);
        }
    }
    report(wrong == 0, "%s, %zu rows, a fine layer between others: %.2f of the gate, %zu beyond",
           compute_names[m->compute], rows, worst, wrong);
    ops_pop(m->o, mark);
}

static void check_all(enum compute compute)
{
    static const enum dtype groups[][3] = {
        {DT_Q5_K, DT_Q4_K},          {DT_Q4_K, DT_Q4_K, DT_Q6_K}, {DT_Q5_0, DT_F16},
        {DT_Q5_0, DT_Q5_0, DT_Q8_0}, {DT_Q8_0, DT_Q6_K},          {DT_Q8_0, DT_F16, DT_Q4_0},
        {DT_Q4_0, DT_F32},           {DT_BF16, DT_Q6_K, DT_Q4_1},
    };
    static const size_t rows[] = {1, 3, MOST_ROWS};
    struct machine m;
    machine_open(&m, compute);
    for (size_t i = 0; i < N_TYPE; i++) {
        check_embed(&m, types[i], true);
        check_embed(&m, types[i], false);
        for (size_t j = 0; j < 3; j++)
            check_group(&m, &types[i], 1, rows[j], false);
        for (size_t j = 1; j < 3 && compute == COMPUTE_BF16; j++)
            check_group(&m, &types[i], 1, rows[j], true);
        for (size_t j = 1; j < 3 && (i % 2 == 1 || has_kernel(types[i])); j++) {
            check_behind(&m, types[i], rows[j], true);
            check_behind(&m, types[i], rows[j], false);
        }
    }
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (size_t j = 0; j < 3; j++) {
            check_group(&m, groups[i], 2 + i % 2, rows[j], false);
            if (j > 0 && compute == COMPUTE_BF16)
                check_group(&m, groups[i], 2 + i % 2, rows[j], true);
        }
    for (size_t j = 1; j < 3; j++)
        check_fine(&m, rows[j]);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (size_t j = 1; j < 3; j++)
            check_values(&m, groups[i], 2 + i % 2, rows[j]);
    machine_close(&m);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!device_present())
        return 77;
    check_all(COMPUTE_BF16);
    check_all(COMPUTE_F32);
    while (n_held > 0)
        free(held[--n_held]);
    return report_end();
}
