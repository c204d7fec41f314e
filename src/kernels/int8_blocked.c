// SPDX-License-Identifier: MIT
// A product of many rows in int8, cut into panels for a tier's small kernels.
//
//   for each panel of outputs
//     for each two blocks of inputs           (depth)
//       weights -> levels -> panel            (stays in L1)
//       all rows: y += x panel                (x and y from L2 or L3)
//
// Blocks meet y in the order of the inputs, so the sum does not depend on how the product was cut. The bias is
// the sum's start.
#include "kernels/int8_parts.h"
#include "kernels/tiers.h"

// Inputs taken next of those left: about as many each time.
static size_t depth_of(size_t left)
{
    size_t times = div_up(left, INT8_DEPTH);
    return times < 2 ? left : round_up(div_up(left, times), KERNEL_INT8_BLOCK);
}

static void add_bias(const struct product_job *j, size_t from, size_t n)
{
    for (size_t r = 0; r < j->m; r++) {
        float *y = j->y + r * j->y_stride + from;
        for (size_t o = 0; o < n; o++)
            y[o] += j->bias[from + o];
    }
}

// Rows of W are pages apart, where the hardware's prefetchers start anew: what is packed next comes into L2 while
// this is.
static void bring(const uint8_t *w, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        __builtin_prefetch(w + line, 0, 2);
}

// Outputs [n0, n0 + n) and k <= INT8_DEPTH inputs from k0 on.
static void pack(const struct product_kernels *p, const struct product_job *j, uint8_t *panel,
                 int8_t *stage, size_t n0, size_t n, size_t k0, size_t k)
{
    size_t row_bytes = dtype_span(j->w_type, j->w_stride);
    const uint8_t *rows = (const uint8_t *)j->w + n0 * row_bytes;
    for (size_t at = k0; at < k0 + k; at += KERNEL_INT8_BLOCK, panel += int8_panel_bytes(p)) {
        size_t some = min_size(KERNEL_INT8_BLOCK, k0 + k - at);
        size_t next = at + KERNEL_INT8_BLOCK;
        const uint8_t *w = rows + dtype_span(j->w_type, at);
        const uint8_t *coming = rows + dtype_span(j->w_type, next);
        size_t ahead = n, bytes = dtype_span(j->w_type, KERNEL_INT8_BLOCK); // rows that have a next
        if (next >= j->k) {
            coming = rows + n * row_bytes; // the next panel
            ahead = min_size(n, j->n - n0 - n);
        } else {
            bytes = dtype_span(j->w_type, min_size(KERNEL_INT8_BLOCK, j->k - next));
        }
        float *step = (float *)(void *)panel;
        for (size_t o = 0; o < n; o++, w += row_bytes, coming += row_bytes) {
            int8_t *q = stage + o * KERNEL_INT8_BLOCK;
            if (o < ahead)
                bring(coming, bytes);
            step[o] = p->levels(q, w, j->w_type, some);
            memset(q + some, 0, round_up(some, 32) - some);
        }
        p->pack_levels(panel + p->panel * sizeof *step, stage, n, some);
    }
}

void int8_many_blocked(const struct product_kernels *p, const struct product_job *j, void *scratch)
{
    uint8_t *panel = scratch;
    int8_t *stage = (int8_t *)(panel + INT8_DEPTH / KERNEL_INT8_BLOCK * int8_panel_bytes(p));
    for (size_t n0 = 0; n0 < j->n; n0 += p->panel) {
        size_t n = min_size(p->panel, j->n - n0), k0 = 0;
        struct tile_job t = {.y = j->y + n0,
                             .y_stride = j->y_stride,
                             .x_stride = product_x_stride(p, j->k),
                             .panel = panel,
                             .m = j->m,
                             .n = n,
                             .bias = j->bias ? j->bias + n0 : NULL,
                             .add = j->add};
        if (j->bias && j->add)
            add_bias(j, n0, n);
        do { // once even when k is 0: y is written
            t.k = depth_of(j->k - k0);
            t.x = (const uint8_t *)j->x + k0 * p->x_elem;
            t.steps = (const uint8_t *)j->x + int8_steps_at(p, j->k) +
                      k0 / KERNEL_INT8_BLOCK * sizeof(struct int8_step);
            pack(p, j, panel, stage, n0, n, k0, t.k);
            p->tile(&t);
            t.add = true;
            k0 += t.k;
        } while (k0 < j->k);
    }
}
