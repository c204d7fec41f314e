// SPDX-License-Identifier: MIT
// The plain products: y = x W^T with double sums, one output after the other. The witness against which
// every other tier is checked; never made faster.
//
// In bf16 both factors are rounded to bf16 first, then multiplied exactly (a product of two bf16 has 16
// significant bits). Prepared rows are f32 holding the rounded values.
#include "kernels/tiers.h"

#include <string.h>

#include "tensor/blocks.h"

// Element i of a row-major matrix of stored weights that may lie at any address.
static float weight_at(const void *w, enum dtype t, size_t i, bool round)
{
    float v;
    dtype_to_f32(&v, (const uint8_t *)w + i * dtype_bytes(t), t, 1);
    return round ? bf16_round(v) : v;
}

static void prepare_ref(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                        size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++) {
        float *to = (float *)(void *)((uint8_t *)dst + r * bytes);
        memset(to, 0, bytes);
        for (size_t i = 0; i < k; i++)
            to[i] = p->round ? bf16_round(x[r * x_stride + i]) : x[r * x_stride + i];
    }
}

// Row o of W in blocks times x.
static double blocks_ref(const struct product_job *j, const float *x, size_t o, bool round)
{
    double sum = 0;
    float w[BLOCK_SUPER];
    size_t block = dtype_block(j->w_type);
    const uint8_t *row = (const uint8_t *)j->w + o * dtype_span(j->w_type, j->w_stride);
    for (size_t i = 0; i < j->k; i += block, row += dtype_block_bytes(j->w_type)) {
        dtype_to_f32(w, row, j->w_type, block);
        for (size_t q = 0; q < block; q++)
            sum += (double)x[i + q] * (double)(round ? bf16_round(w[q]) : w[q]);
    }
    return sum;
}

static void product_ref(const struct product_kernels *p, const struct product_job *j, bool few)
{
    size_t bytes = product_x_stride(p, j->k);
    bool blocks = dtype_is_block(j->w_type);
    for (size_t r = 0; r < j->m; r++) {
        const float *x = (const float *)(const void *)((const uint8_t *)j->x + r * bytes);
        for (size_t o = 0; o < j->n; o++) {
            double sum = blocks ? blocks_ref(j, x, o, p->round && !few) : 0;
            for (size_t i = 0; !blocks && i < j->k; i++)
                sum += (double)x[i] *
                       (double)weight_at(j->w, j->w_type, o * j->w_stride + i, p->round);
            if (j->bias)
                sum += (double)j->bias[o];
            float *y = &j->y[r * j->y_stride + o];
            *y = (float)(j->add ? (double)*y + sum : sum);
        }
    }
}

static void many_ref(const struct product_kernels *p, const struct product_job *j, void *scratch)
{
    (void)scratch;
    product_ref(p, j, false);
}

static void few_ref(const struct product_kernels *p, const struct product_job *j)
{
    product_ref(p, j, true);
}

void product_set_ref(struct product_kernels *p, bool round)
{
    p->x_elem = sizeof(float);
    p->panel = 1;
    p->round = round;
    p->prepare = prepare_ref;
    p->few = few_ref;
    p->many = many_ref;
    p->unpack = dtype_to_f32;
    p->attention = attention_ref;
    p->attention_scratch = attention_ref_scratch;
}
