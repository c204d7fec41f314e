// SPDX-License-Identifier: MIT
// Dot products with weights in blocks, in plain C for the tiers that have no kernel of their own for them: a
// block becomes f32 in the cache, then meets every row of x.
//
// A row's result has 16 sums over the inputs and one tree at its end, whatever the other rows are. Easy to
// get wrong: the sum must not depend on how the inputs are cut in blocks, so the lanes go on from block to
// block; prepared rows are f32 or bf16, by x_elem.
#include "kernels/tiers.h"

#include <string.h>

#include "base/size.h"
#include "tensor/blocks.h"

enum { LANE = 16 };

static float x_at(const uint8_t *x, size_t i, size_t elem)
{
    float f;
    uint16_t h;
    if (elem == sizeof f) {
        memcpy(&f, x + i * sizeof f, sizeof f);
        return f;
    }
    memcpy(&h, x + i * sizeof h, sizeof h);
    return bf16_to_f32(h);
}

static void block_add(float sum[LANE], const float *w, const uint8_t *x, size_t at, size_t n,
                      size_t elem)
{
    for (size_t i = 0; i < n; i += LANE)
        for (size_t l = 0; l < LANE; l++)
            sum[l] += w[i + l] * x_at(x, at + i + l, elem);
}

static float tree(float sum[LANE])
{
    for (size_t n = LANE / 2; n > 0; n /= 2)
        for (size_t l = 0; l < n; l++)
            sum[l] += sum[l + n];
    return sum[0];
}

void product_few_blocks(const struct product_kernels *p, const struct product_job *j)
{
    size_t x_stride = product_x_stride(p, j->k), block = dtype_block(j->w_type);
    size_t block_bytes = dtype_block_bytes(j->w_type),
           row_bytes = dtype_span(j->w_type, j->w_stride);
    for (size_t o = 0; o < j->n; o++) {
        float sum[KERNEL_FEW_ROWS][LANE] = {{0}}, w[BLOCK_SUPER];
        const uint8_t *row = (const uint8_t *)j->w + o * row_bytes;
        for (size_t i = 0; i < j->k; i += block, row += block_bytes) {
            p->unpack(w, row, j->w_type, block);
            for (size_t r = 0; r < j->m; r++)
                block_add(sum[r], w, (const uint8_t *)j->x + r * x_stride, i, block, p->x_elem);
        }
        for (size_t r = 0; r < j->m; r++) {
            float *y = &j->y[r * j->y_stride + o], v = tree(sum[r]);
            v += j->bias ? j->bias[o] : 0.0f;
            *y = j->add ? *y + v : v;
        }
    }
}
