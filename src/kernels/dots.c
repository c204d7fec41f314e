// SPDX-License-Identifier: MIT
// Few rows times weights in blocks, plain C: the witness, and the definition of the levels that every tier must
// give to the bit (dots_parts.h). Weights count as they are stored; all that is rounded is x.
//
// Easy to get wrong: a level is rounded from value * (32512 / max), not from value / step, which differ in the last
// bit of f32; the half of 256 goes up, whatever the sign, so `low` is in [-128, 127].
#include "kernels/dots_parts.h"
#include "kernels/tiers.h"

#include "base/size.h"
#include "tensor/blocks.h"

// Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even.
static int32_t level(float v, float inverse)
{
    const float magic = 12582912.0f;
    return (int32_t)(v * inverse + magic - magic);
}

// Inputs [at, at + n) of lane l, n <= 16.
static void prepare_lane(struct dots_block *to, size_t l, const float *x, size_t n)
{
    uint32_t top = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        u &= 0x7fffffff;
        top = u > top ? u : top;
    }
    struct dots_scale s = dots_scale_of(top);
    int32_t all = 0, highs = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t q = s.inverse != 0 ? level(x[i], s.inverse) : 0;
        int32_t high = (q + 128 + (1 << 20)) / 256 - (1 << 12); // rounded down
        size_t at = i / 4 * 64 + 4 * l + i % 4;
        to->high[at] = (int8_t)high;
        to->low[at] = (int8_t)(q - 256 * high);
        all += q;
        highs += high;
    }
    to->step[l] = s.step;
    to->sum[l] = s.step * 256.0f * (float)highs;
    to->base[l] = -128 * all;
}

static void prepare_ref(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                        size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++) {
        uint8_t *row = (uint8_t *)dst + r * bytes;
        struct dots_block *to = (struct dots_block *)(void *)row;
        memset(row, 0, bytes);
        for (size_t i = 0; i < k; i += DOTS_LANES)
            prepare_lane(&to[i / DOTS_BLOCK], i % DOTS_BLOCK / DOTS_LANES, x + r * x_stride + i,
                         min_size(DOTS_LANES, k - i));
    }
}

static double value_at(const struct dots_block *x, size_t i, bool bytes)
{
    x += i / DOTS_BLOCK;
    i %= DOTS_BLOCK;
    size_t l = i / DOTS_LANES, at = i % DOTS_LANES / 4 * 64 + 4 * l + i % 4;
    return (double)x->step[l] * (256 * x->high[at] + (bytes ? 0 : x->low[at]));
}

static void few_ref(const struct product_kernels *p, const struct product_job *j)
{
    size_t bytes = product_x_stride(p, j->k), block = dtype_block(j->w_type);
    size_t block_bytes = dtype_block_bytes(j->w_type),
           row_bytes = dtype_span(j->w_type, j->w_stride);
    for (size_t r = 0; r < j->m; r++) {
        const void *x = (const uint8_t *)j->x + r * bytes;
        for (size_t o = 0; o < j->n; o++) {
            const uint8_t *row = (const uint8_t *)j->w + o * row_bytes;
            double sum = j->bias ? (double)j->bias[o] : 0;
            float w[BLOCK_SUPER];
            for (size_t i = 0; i < j->k; i += block, row += block_bytes) {
                dtype_to_f32(w, row, j->w_type, block);
                for (size_t q = 0; q < block; q++)
                    sum += (double)w[q] * value_at(x, i + q, dots_in_bytes(j->w_type));
            }
            float *y = &j->y[r * j->y_stride + o];
            *y = (float)(j->add ? (double)*y + sum : sum);
        }
    }
}

void dots_set_ref(struct product_kernels *p)
{
    p->x_elem = sizeof(struct dots_block);
    p->x_block = DOTS_BLOCK;
    p->panel = 1;
    p->prepare = prepare_ref;
    p->few = few_ref;
}
