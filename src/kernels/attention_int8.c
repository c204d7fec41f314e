// SPDX-License-Identifier: MIT
// Attention in int8, plain C: the definition and the witness; and the layout of the scratch of both.
//
//   k - mean = sk_j qk            a key's row has one step; mean over the keys, channel by channel
//   scale q = sq qq               a query's row has one step
//   v = sv qv                     a channel has one step in each block of 264 keys
//   s_j = sq sk_j sum qq qk       M_b = max s_j of block b, M = max M_b
//   P_j = round(255 e_j), e_j = exp(s_j - M_b)                               in [0, 255]
//   y = sum_b exp(M_b - M) sum_j P_j v_j / (255 sum_b exp(M_b - M) sum_j e_j)
//
// Taking the mean away changes every score of a query by the same number, which the softmax does not see, and leaves the
// levels to what tells keys apart.
//
// Easy to get wrong: the mean is summed in f32 in the order of the keys, and a level is rounded as int8.c says, so that
// every tier has the same levels to the bit; the divisor is the sum of e before rounding, as in bf16, and so a NaN
// reaches the result.
#include "kernels/attention_int8.h"

static void *take(uint8_t *base, struct level_parts *u, size_t rows, size_t row, size_t size)
{
    size_t n, bytes, at = u->bytes;
    if (!mul_size(rows, row, &n) || !mul_size(n, size, &bytes) ||
        !add_size(at, round_up(bytes, KERNEL_SCRATCH_ALIGN), &u->bytes))
        u->bytes = SIZE_MAX;
    return base && u->bytes != SIZE_MAX ? base + at : NULL;
}

struct level_parts level_parts_of(const struct attention_job *j, void *base)
{
    size_t blocks = div_up(j->n_k, LEVEL_KEYS);
    struct level_parts u = {
        .k_rows = level_rows(j->n_k), .k_stride = round_up(j->d, 4), .v_rows = level_rows(j->d)};
    u.mean = take(base, &u, 1, j->d, sizeof(float));
    u.k = take(base, &u, u.k_rows, u.k_stride, 1);
    u.k_step = take(base, &u, 1, u.k_rows, sizeof(float));
    u.k_base = take(base, &u, 1, u.k_rows, sizeof(int32_t));
    u.v = take(base, &u, blocks, u.v_rows * LEVEL_KEYS, 1);
    u.v_step = take(base, &u, blocks, u.v_rows, sizeof(float));
    u.s = take(base, &u, LEVEL_KEYS, LEVEL_QUERIES, sizeof(float));
    u.p = take(base, &u, LEVEL_KEYS, LEVEL_QUERIES, 1);
    u.q = take(base, &u, u.k_stride, LEVEL_QUERIES, 1);
    u.acc = take(base, &u, u.v_rows, LEVEL_QUERIES, sizeof(float));
    return u;
}

size_t attention_int8_scratch(const struct product_kernels *p, const struct attention_job *j)
{
    (void)p;
    return level_parts_of(j, NULL).bytes;
}

// ---- the witness

static void key_levels(const struct attention_job *j, const struct level_parts *u)
{
    const float *k = j->k;
    for (size_t c = 0; c < j->d; c++) {
        float sum = 0;
        for (size_t i = 0; i < j->n_k; i++)
            sum += k[i * j->k_stride + c];
        u->mean[c] = sum / (float)j->n_k;
    }
    for (size_t i = 0; i < j->n_k; i++) {
        float row[KERNEL_HEAD_MAX];
        for (size_t c = 0; c < j->d; c++)
            row[c] = k[i * j->k_stride + c] - u->mean[c];
        u->k_step[i] = int8_levels_of(u->k + i * u->k_stride, row, j->d);
    }
}

static void value_levels(const struct attention_job *j, const struct level_parts *u)
{
    const float *v = j->v;
    for (size_t k0 = 0, b = 0; k0 < j->n_k; k0 += LEVEL_KEYS, b++)
        for (size_t c = 0; c < j->d; c++) {
            size_t n = min_size(LEVEL_KEYS, j->n_k - k0);
            float column[LEVEL_KEYS];
            for (size_t i = 0; i < n; i++)
                column[i] = v[(k0 + i) * j->v_stride + c];
            u->v_step[b * u->v_rows + c] =
                int8_levels_of(u->v + (b * u->v_rows + c) * LEVEL_KEYS, column, n);
        }
}

// y [d] of one query.
static void attend_row(const struct attention_job *j, const struct level_parts *u, const float *q,
                       float *y)
{
    float row[KERNEL_HEAD_MAX];
    int8_t level[KERNEL_HEAD_MAX];
    for (size_t c = 0; c < j->d; c++)
        row[c] = q[c] * j->scale;
    double step = (double)int8_levels_of(level, row, j->d);
    double acc[KERNEL_HEAD_MAX] = {0}, total = 0, max = -INFINITY;
    for (size_t k0 = 0, b = 0; k0 < j->n_k; k0 += LEVEL_KEYS, b++) {
        size_t n = min_size(LEVEL_KEYS, j->n_k - k0);
        double s[LEVEL_KEYS], here = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            const int8_t *k = u->k + (k0 + i) * u->k_stride;
            int32_t sum = 0;
            for (size_t c = 0; c < j->d; c++)
                sum += level[c] * k[c];
            s[i] = step * (double)u->k_step[k0 + i] * (double)sum;
            here = s[i] > here ? s[i] : here;
        }
        double now = here > max ? here : max, old = b == 0 ? 0 : exp(max - now);
        double weight = exp(here - now), sum = 0;
        int32_t p[LEVEL_KEYS];
        for (size_t i = 0; i < n; i++) {
            double e = exp(s[i] - here);
            sum += e;
            p[i] = e >= 0 ? (int32_t)rint(LEVEL_TOP * e) : 0; // a NaN is in the sum
        }
        total = total * old + weight * sum;
        max = now;
        for (size_t c = 0; c < j->d; c++) {
            const int8_t *v = u->v + (b * u->v_rows + c) * LEVEL_KEYS;
            int32_t part = 0;
            for (size_t i = 0; i < n; i++)
                part += p[i] * v[i];
            acc[c] = acc[c] * old +
                     weight / LEVEL_TOP * (double)u->v_step[b * u->v_rows + c] * (double)part;
        }
    }
    for (size_t c = 0; c < j->d; c++)
        y[c] = (float)(acc[c] / total);
}

void attention_int8_ref(const struct product_kernels *p, const struct attention_job *j,
                        void *scratch)
{
    (void)p;
    if (j->n_q == 0)
        return;
    struct level_parts u = level_parts_of(j, scratch);
    key_levels(j, &u);
    value_levels(j, &u);
    for (size_t i = 0; i < j->n_q; i++)
        for (size_t h = 0; h < j->group; h++)
            attend_row(j, &u, j->q + i * j->q_stride + h * j->d, j->y + i * j->y_stride + h * j->d);
}
