// SPDX-License-Identifier: MIT
// A product of many rows, cut into blocks for a tier's pack and tile kernels.
//
//   for each piece of outputs          (p->block of them, a panel or a few)
//     for each piece of inputs         (p->depth of them)
//       pack the weights into scratch  (stays in L2; a panel goes through L1)
//       for each block of rows         (its inputs stay in L2 while several panels pass)
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

enum {
    ROW_BLOCK = 48, // x rows swept per panel: at full depth in bf16 these are 192 KiB of L2
    ASK_MIN = 2,    // lines each time that a tile asks
    ASK_MAX = 48,
};

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

// A piece of the weights: outputs [n0, n0 + n) and inputs [k0, k0 + k).
struct piece {
    size_t n0, n, k0, k;
};

// The lines of the piece after b, or of what the job says comes after it.
static struct ahead ahead_of(const struct product_kernels *p, const struct product_job *j,
                             const struct piece *b)
{
    size_t k0 = b->k0 + b->k, n0 = b->n0, n = b->n;
    const uint8_t *w = j->w;
    if (k0 >= j->k) {
        k0 = 0;
        n0 += n;
        n = min_size(p->block, j->n - n0);
    }
    if (n == 0) {
        w = j->next;
        n0 = 0;
        n = w ? min_size(p->block, j->n_next) : 0;
    }
    if (n == 0 || j->k == 0)
        return (struct ahead){0};
    size_t row = dtype_span(j->w_type, j->w_stride);
    size_t bytes = dtype_span(j->w_type, depth_of(p, j->k - k0));
    const uint8_t *at = w + n0 * row + dtype_span(j->w_type, k0);
    return (struct ahead){at, at + bytes, bytes, row - bytes, n - 1, 0};
}

// How many of the last rows of x are enough to ask for `a`; sets its lines.
static size_t rows_asking(const struct product_kernels *p, const struct product_job *j,
                          const struct piece *b, struct ahead *a)
{
    size_t lines = (a->rows + 1) * (a->row_bytes / TILE_LINE + 1);
    size_t times = div_up(b->n, p->panel) * div_up(b->k * p->x_elem, sizeof(float) * TILE_STEPS);
    size_t tiles = max_size(j->m / TILE_ROWS, 1);
    a->lines = min_size(max_size(div_up(lines, tiles * times), ASK_MIN), ASK_MAX);
    return TILE_ROWS * div_up(lines, times * a->lines);
}

// y (+)= x times a piece that lies packed in scratch, panel i at i * step bytes.
static void run_block(const struct product_kernels *p, const struct product_job *j,
                      const struct piece *b, const void *scratch, size_t step, bool add)
{
    size_t x_stride = product_x_stride(p, j->k);
    // where a block of rows meets one panel, what comes next is new, and bf16 leaves it room in L2
    bool one_panel = p->panel == p->block;
    struct ahead ahead = one_panel && p->x_elem == 2 ? ahead_of(p, j, b) : (struct ahead){0};
    size_t asking = ahead.at ? rows_asking(p, j, b, &ahead) : 0;
    for (size_t m0 = 0; m0 < j->m; m0 += ROW_BLOCK) {
        size_t left = j->m - m0;
        struct tile_job t = {
            .x = (const uint8_t *)j->x + m0 * x_stride + b->k0 * p->x_elem,
            .x_stride = x_stride,
            .y_stride = j->y_stride,
            .m = min_size(ROW_BLOCK, left),
            .k = b->k,
            .add = add,
            .ahead = asking + ROW_BLOCK > left ? &ahead : NULL,
        };
        t.x_more = one_panel ? left - t.m : 0;
        for (size_t o = 0; o < b->n; o += p->panel) {
            t.y = j->y + m0 * j->y_stride + b->n0 + o;
            t.panel = (const uint8_t *)scratch + o / p->panel * step;
            t.n = min_size(p->panel, b->n - o);
            t.bias = j->bias ? j->bias + b->n0 + o : NULL;
            p->tile(&t);
        }
    }
}

void product_many_blocked(const struct product_kernels *p, const struct product_job *j,
                          void *scratch)
{
    size_t step = p->panel * p->depth * p->x_elem;
    struct piece b = {0};
    for (; b.n0 < j->n; b.n0 += p->block) {
        b.n = min_size(p->block, j->n - b.n0);
        if (j->bias && j->add)
            add_bias(j, b.n0, b.n);
        bool add = j->add;
        b.k0 = 0;
        do { // once even when k is 0: y is written
            b.k = depth_of(p, j->k - b.k0);
            pack_block(p, j, scratch, step, b.n0, b.n, b.k0, b.k);
            run_block(p, j, &b, scratch, step, add);
            add = true;
            b.k0 += b.k;
        } while (b.k0 < j->k);
    }
}
