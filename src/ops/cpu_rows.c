// SPDX-License-Identifier: MIT
// Ops in which every output row comes from its own input row: sums, norms, activations, conversions,
// look-ups, rotary positions. Rows are shared out among the threads.
//
// Rotary table (RoFormer, arXiv 2104.09864; the f32 steps are those of the published models):
//   inv_freq_j = 1 / theta^(2j / d)      each operation rounded to f32
//   angle      = f32(pos) * inv_freq_j   rounded to f32: at large positions this is the error that counts
// powers, cosines and sines are taken in double and rounded, which is at most one ulp from any good f32
// routine.
#include "ops/cpu_backend.h"

#include <math.h>
#include <string.h>

#include "tensor/block_coding.h"

// What the row functions below need, each its part of it.
struct row_job {
    const struct kernels *k;
    struct mat y, x, z;
    const float *w, *b;
    size_t w_rows;
    float eps;
    size_t n_head, d_head;
    const uint32_t *pos;
    const int32_t *ids;
    const struct tensor *table;
};

static char *bytes_at(struct mat m, size_t r)
{
    return (char *)m.data + dtype_span(m.dtype, r * m.stride);
}

void cpu_widen(const struct kernels *k, float *dst, const void *src, enum dtype t, size_t n)
{
    if (dtype_is_block(t))
        k->f32.unpack(dst, src, t, n);
    else
        k->to_f32(dst, src, t, n);
}

void cpu_narrow(const struct kernels *k, void *dst, enum dtype t, const float *src, size_t n)
{
    if (dtype_is_block(t))
        blocks_from_f32(dst, t, src, n, NULL);
    else
        k->from_f32(dst, t, src, n);
}

static void copy_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++) {
        char *to = bytes_at(j->y, r);
        const char *src = bytes_at(j->x, r);
        if (j->y.dtype == j->x.dtype)
            memcpy(to, src, dtype_span(j->x.dtype, j->x.cols));
        else if (j->x.dtype == DT_F32)
            cpu_narrow(j->k, to, j->y.dtype, (const float *)(const void *)src, j->x.cols);
        else
            cpu_widen(j->k, (float *)(void *)to, src, j->x.dtype, j->x.cols);
    }
}

void cpu_copy(struct ops *o, struct mat dst, struct mat src)
{
    struct row_job j = {.k = o->kernels, .y = dst, .x = src};
    cpu_rows(o, copy_rows, &j, dst.rows, dst.cols);
}

static void add_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->add(row_at(j->y, r), row_at(j->x, r), j->y.cols);
}

void cpu_add(struct ops *o, struct mat x, struct mat y)
{
    struct row_job j = {.k = o->kernels, .y = x, .x = y};
    cpu_rows(o, add_rows, &j, x.rows, x.cols);
}

static void add_scaled_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->add_scaled(row_at(j->y, r), row_at(j->x, r), j->w, j->y.cols);
}

void cpu_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale)
{
    size_t mark = ops_mark(o);
    float *w = cpu_vector_scratch(o, x.cols);
    if (w) {
        struct row_job j = {.k = o->kernels, .y = x, .x = y, .w = cpu_vector(o, scale, w)};
        cpu_rows(o, add_scaled_rows, &j, x.rows, x.cols);
    }
    ops_pop(o, mark);
}

static void add_table_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->add(row_at(j->y, r), j->w + r % j->w_rows * j->y.cols, j->y.cols);
}

void cpu_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                   const struct tensor *same)
{
    (void)same; // t is as near
    struct row_job j = {.k = o->kernels, .y = x, .w = t, .w_rows = t_rows};
    cpu_rows(o, add_table_rows, &j, x.rows, x.cols);
}

static void rms_norm_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    j->k->rms_norm(row_at(j->y, from), j->y.stride, row_at(j->x, from), j->x.stride, n, j->y.cols,
                   j->w, j->eps);
}

void cpu_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps)
{
    size_t mark = ops_mark(o);
    float *scratch = cpu_vector_scratch(o, x.cols);
    if (scratch) {
        struct row_job j = {
            .k = o->kernels, .y = y, .x = x, .w = cpu_vector(o, w, scratch), .eps = eps};
        cpu_rows(o, rms_norm_rows, &j, y.rows, y.cols);
    }
    ops_pop(o, mark);
}

static void layer_norm_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    j->k->layer_norm(row_at(j->y, from), j->y.stride, row_at(j->x, from), j->x.stride, n, j->y.cols,
                     j->w, j->b, j->eps);
}

void cpu_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                    const struct tensor *b, float eps)
{
    size_t mark = ops_mark(o);
    float *w_scratch = cpu_vector_scratch(o, x.cols), *b_scratch = cpu_vector_scratch(o, x.cols);
    if (w_scratch && b_scratch) {
        struct row_job j = {.k = o->kernels,
                            .y = y,
                            .x = x,
                            .w = cpu_vector(o, w, w_scratch),
                            .b = cpu_vector(o, b, b_scratch),
                            .eps = eps};
        cpu_rows(o, layer_norm_rows, &j, y.rows, y.cols);
    }
    ops_pop(o, mark);
}

static void gelu_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->gelu(row_at(j->y, r), j->y.cols);
}

void cpu_gelu(struct ops *o, struct mat x)
{
    struct row_job j = {.k = o->kernels, .y = x};
    cpu_rows(o, gelu_rows, &j, x.rows, x.cols);
}

static void silu_mul_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->silu_mul(row_at(j->y, r), row_at(j->x, r), j->y.cols);
}

void cpu_silu_mul(struct ops *o, struct mat gate, struct mat up)
{
    struct row_job j = {.k = o->kernels, .y = gate, .x = up};
    cpu_rows(o, silu_mul_rows, &j, gate.rows, gate.cols);
}

static void rope_table_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    size_t half = j->y.cols / 2;
    for (size_t r = from; r < from + n; r++) {
        float *cos_row = row_at(j->y, r), *sin_row = cos_row + half;
        float pos = (float)j->pos[r];
        for (size_t i = 0; i < half; i++) {
            float angle = pos * j->w[i];
            cos_row[i] = (float)cos((double)angle);
            sin_row[i] = (float)sin((double)angle);
        }
    }
}

void cpu_rope_table(struct ops *o, struct mat table, const uint32_t *pos, double theta)
{
    size_t mark = ops_mark(o), half = table.cols / 2;
    float *inv_freq = cpu_vector_scratch(o, half);
    if (inv_freq) {
        for (size_t i = 0; i < half; i++) {
            float exponent = (float)(2 * i) / (float)table.cols;
            inv_freq[i] = 1.0f / (float)pow((double)(float)theta, (double)exponent);
        }
        struct row_job j = {.y = table, .w = inv_freq, .pos = pos};
        cpu_rows(o, rope_table_rows, &j, table.rows, table.cols);
    }
    ops_pop(o, mark);
}

static void rope_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->rope(row_at(j->y, r), j->n_head, j->x.cols, row_at(j->x, r));
}

void cpu_rope(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    struct row_job j = {.k = o->kernels, .y = x, .x = table, .n_head = n_head};
    cpu_rows(o, rope_rows, &j, x.rows, x.cols);
}

static void rope_pair_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    for (size_t r = from; r < from + n; r++)
        j->k->rope_pairs(row_at(j->y, r), j->n_head, j->x.cols, row_at(j->x, r));
}

void cpu_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    struct row_job j = {.k = o->kernels, .y = x, .x = table, .n_head = n_head};
    cpu_rows(o, rope_pair_rows, &j, x.rows, x.cols);
}

static void embed_rows(const void *ctx, size_t from, size_t n)
{
    const struct row_job *j = ctx;
    enum dtype t = j->table->dtype;
    size_t step = dtype_span(t, j->y.cols);
    for (size_t r = from; r < from + n; r++) {
        size_t id = j->ids ? (size_t)j->ids[r] : r;
        const char *row = (const char *)j->table->data + id * step;
        cpu_widen(j->k, row_at(j->y, r), row, t, j->y.cols);
    }
}

void cpu_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids)
{
    struct row_job j = {.k = o->kernels, .y = y, .table = table, .ids = ids};
    cpu_rows(o, embed_rows, &j, y.rows, y.cols);
}

struct split_job {
    struct mat q, k, v, qkv;
    size_t d_head;
};

static void split_rows(const void *ctx, size_t from, size_t n)
{
    const struct split_job *j = ctx;
    size_t d = j->d_head, n_kv = j->k.cols / d, q_cols = j->q.cols / n_kv;
    for (size_t r = from; r < from + n; r++) {
        const float *src = row_at(j->qkv, r);
        for (size_t g = 0; g < n_kv; g++, src += q_cols + 2 * d) {
            memcpy(row_at(j->q, r) + g * q_cols, src, q_cols * sizeof *src);
            memcpy(row_at(j->k, r) + g * d, src + q_cols, d * sizeof *src);
            memcpy(row_at(j->v, r) + g * d, src + q_cols + d, d * sizeof *src);
        }
    }
}

void cpu_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                    size_t d_head)
{
    struct split_job j = {q, k, v, qkv, d_head};
    cpu_rows(o, split_rows, &j, qkv.rows, qkv.cols);
}
