// SPDX-License-Identifier: MIT
// A product of many rows, cut into blocks for a tier's pack and tile kernels.
//
//   for each block of outputs          (p->block of them, a few panels)
//     for each block of inputs         (p->depth of them)
//       pack the weights into scratch  (stays in L2; a panel goes through L1)
//       for each block of rows         (its inputs stay in L2 while the panels pass)
//         for each panel: y += x panel
//
// Easy to get wrong: y carries the sums from one block of inputs to the next, so the order of the sum
// is that of the inputs whatever the blocks are; only the first block may ignore y's old values. The
// bias is the sum's start. Blocks of inputs end at multiples of 256, so x stays aligned at
// every one, blocks of weights stay whole, and only the last one has the zeros behind a row's end.
#include "kernels/tiers.h"

#include <string.h>

#include "base/size.h"
#include "tensor/blocks.h"

enum { ROW_BLOCK = 96 }; // x rows swept per panel: at full depth in bf16 these are 384 KiB of L2

// Inputs taken next of those left: about as many each time, and whole blocks of weights.
static size_t depth_of(const struct product_kernels *p, size_t left)
{
    if (left <= p->depth)
        return left;
    return min_size(p->depth, round_up(div_up(left, div_up(left, p->depth)), BLOCK_SUPER));
}

static void add_bias(const struct product_job *j, size_t from, size_t n)
{
    for (size_t r = 0; r < j->m; r++) {
        float *y = j->y + r * j->y_stride + from;
        for (size_t o = 0; o < n; o++)
            y[o] += j->bias[from + o];
    }
}

// The same for weights in blocks: a panel's rows become f32 behind the panels, then they are packed.
static void pack_unpacked(const struct product_kernels *p, const struct product_job *j,
                          void *scratch, size_t step, size_t n0, size_t n, size_t k0, size_t k)
{
    size_t row_bytes = dtype_span(j->w_type, j->w_stride), at = dtype_span(j->w_type, k0);
    uint8_t *to = scratch;
    float *stage = (float *)(void *)(to + p->block / p->panel * p->panel * p->depth * p->x_elem);
    for (size_t o = 0; o < n; o += p->panel, to += step) {
        size_t rows = min_size(p->panel, n - o);
        const uint8_t *w = (const uint8_t *)j->w + (n0 + o) * row_bytes + at;
        for (size_t r = 0; r < rows; r++)
            p->unpack(stage + r * p->depth, w + r * row_bytes, j->w_type, k);
        p->pack(to, stage, p->depth, DT_F32, rows, k);
    }
}

// Packs the weights of outputs [n0, n0 + n) and inputs [k0, k0 + k); panel i starts at i * step bytes.
static void pack_block(const struct product_kernels *p, const struct product_job *j, void *scratch,
                       size_t step, size_t n0, size_t n, size_t k0, size_t k)
{
    size_t elem = dtype_bytes(j->w_type);
    uint8_t *to = scratch;
    if (dtype_is_block(j->w_type)) {
        pack_unpacked(p, j, scratch, step, n0, n, k0, k);
        return;
    }
    for (size_t o = 0; o < n; o += p->panel, to += step) {
        const uint8_t *w = (const uint8_t *)j->w + ((n0 + o) * j->w_stride + k0) * elem;
        p->pack(to, w, j->w_stride, j->w_type, min_size(p->panel, n - o), k);
    }
}

void product_many_blocked(const struct product_kernels *p, const struct product_job *j,
                          void *scratch)
{
    size_t x_stride = product_x_stride(p, j->k);
    for (size_t n0 = 0; n0 < j->n; n0 += p->block) {
        size_t n = min_size(p->block, j->n - n0);
        if (j->bias && j->add)
            add_bias(j, n0, n);
        bool add = j->add;
        size_t k0 = 0;
        do { // once even when k is 0: y is written
            size_t k = depth_of(p, j->k - k0);
            size_t step = p->panel * p->depth * p->x_elem;
            pack_block(p, j, scratch, step, n0, n, k0, k);
            for (size_t m0 = 0; m0 < j->m; m0 += ROW_BLOCK) {
                struct tile_job t = {
                    .x = (const uint8_t *)j->x + m0 * x_stride + k0 * p->x_elem,
                    .x_stride = x_stride,
                    .y_stride = j->y_stride,
                    .m = min_size(ROW_BLOCK, j->m - m0),
                    .k = k,
                    .add = add,
                };
                for (size_t o = 0; o < n; o += p->panel) {
                    t.y = j->y + m0 * j->y_stride + n0 + o;
                    t.panel = (const uint8_t *)scratch + o / p->panel * step;
                    t.n = min_size(p->panel, n - o);
                    t.bias = j->bias ? j->bias + n0 + o : NULL;
                    p->tile(&t);
                }
            }
            add = true;
            k0 += k;
        } while (k0 < j->k);
    }
}
