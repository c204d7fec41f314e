// SPDX-License-Identifier: MIT
// What the attentions in int8 share: the size of a block of keys and the layout of their scratch.
#ifndef IV_KERNELS_ATTENTION_INT8_H
#define IV_KERNELS_ATTENTION_INT8_H

#include "base/size.h"
#include "kernels/int8_parts.h"
#include "kernels/tiers.h"

enum {
    LEVEL_ROWS = 11,              // rows of the tile kernel: 88 channels are 8 times as many
    LEVEL_KEYS = 24 * LEVEL_ROWS, // keys of a block; 255 * 127 * 264 < 2^24, exact in f32
    LEVEL_QUERIES = 32,           // of a tile
    LEVEL_TOP = 255,              // level of a block's largest probability
};

// Plain C keeps levels row by row; the tiers, tile by tile in their order, with zeros behind d and the last key again
// behind n_k.
struct level_parts {
    float *mean; // [d] of the keys
    int8_t *k;   // [k_rows, k_stride] levels of k - mean
    float *k_step;
    int32_t *k_base; // [k_rows] -128 times the sum of a row's levels
    int8_t *v;       // [blocks, v_rows, LEVEL_KEYS] levels, transposed
    float *v_step;   // [blocks, v_rows]
    float *s;        // [LEVEL_KEYS, LEVEL_QUERIES] scores over the query's step
    uint8_t *p;      // [LEVEL_KEYS / 4, LEVEL_QUERIES, 4] levels of the probabilities
    uint8_t *q;      // [k_stride / 4, LEVEL_QUERIES, 4] levels of the queries + 128
    float *acc;      // [v_rows, LEVEL_QUERIES]
    size_t k_rows, k_stride, v_rows, bytes;
};

static inline size_t level_rows(size_t n)
{
    return div_up(n, LEVEL_ROWS) * LEVEL_ROWS;
}

// base NULL: only counts.
struct level_parts level_parts_of(const struct attention_job *j, void *base);

#endif
