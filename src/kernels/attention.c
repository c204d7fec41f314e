// SPDX-License-Identifier: MIT
// The plain attention: for each query row and head two passes over the keys (largest score, then
// exponentials and values), sums in double. The witness for attention_blocked.c; never made faster.
//
//   s_j = (scale q) . k_j     p_j = exp(s_j - max s)     y = sum_j p_j v_j / sum_j p_j
//
// In bf16 scale q, k, v and p are rounded to bf16 (k in blocks not, where the kernels for a few rows read it in
// place); the sum below is that of the p before rounding, as a
// softmax that is rounded at its end has it. scratch holds the scores of one row.
#include "kernels/attention_parts.h"
#include "kernels/tiers.h"

#include <math.h>

#include "base/size.h"
#include "tensor/blocks.h"

static double value_at(const void *m, enum dtype t, size_t i, bool round)
{
    float v, block[BLOCK_SUPER];
    size_t n = dtype_block(t);
    if (n == 1) {
        dtype_to_f32(&v, (const uint8_t *)m + i * dtype_bytes(t), t, 1);
    } else {
        dtype_to_f32(block, (const uint8_t *)m + dtype_span(t, i - i % n), t, n);
        v = block[i % n];
    }
    return (double)(round ? bf16_round(v) : v);
}

// Query head h of one row.
static void attend_row(const struct product_kernels *p, const struct attention_job *j, size_t h,
                       const float *q, float *y, size_t n_k, float *s)
{
    size_t at = h / j->group * j->d; // of its key head
    float max = -INFINITY;
    bool round_k = p->round && !(j->few && dtype_is_block(j->k_type));
    for (size_t i = 0; i < n_k; i++) {
        double sum = 0;
        for (size_t c = 0; c < j->d; c++) {
            float qc = q[c] * j->scale;
            sum += (double)(p->round ? bf16_round(qc) : qc) *
                   value_at(j->k, j->k_type, i * j->k_stride + at + c, round_k);
        }
        s[i] = (float)sum;
        if (s[i] > max)
            max = s[i];
    }
    double total = 0;
    for (size_t i = 0; i < n_k; i++) {
        float e = (float)exp((double)s[i] - (double)max);
        total += (double)e;
        s[i] = p->round ? bf16_round(e) : e;
    }
    for (size_t c = 0; c < j->d; c++) {
        double sum = 0;
        for (size_t i = 0; i < n_k; i++)
            sum += (double)s[i] * value_at(j->v, j->v_type, i * j->v_stride + at + c, p->round);
        y[c] = (float)(sum / total);
    }
}

size_t attention_ref_scratch(const struct product_kernels *p, const struct attention_job *j)
{
    (void)p;
    size_t bytes;
    return mul_size(j->n_k, sizeof(float), &bytes) ? bytes : SIZE_MAX;
}

void attention_ref(const struct product_kernels *p, const struct attention_job *j, void *scratch)
{
    for (size_t i = 0; i < j->n_q; i++) {
        size_t seen = j->causal ? min_size(j->first_pos + i + 1, j->n_k) : j->n_k;
        for (size_t h = 0; h < attention_heads(j) * j->group; h++)
            attend_row(p, j, h, j->q + i * j->q_stride + h * j->d,
                       j->y + i * j->y_stride + h * j->d, seen, scratch);
    }
}
