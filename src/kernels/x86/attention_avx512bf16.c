// SPDX-License-Identifier: MIT
// Attention of many rows without a mask in AVX512-BF16, keys and values in f32. All is transposed: a vector's lanes
// are queries, rows of a tile are keys or channels, so the softmax runs down the keys without a sum across lanes, its
// probabilities become the next product's panel where the scores were, and 88 channels are 8 tiles of 11 rows
// without padding.
//
//   S^T [keys, queries] = K, broadcast, times the queries' panel      11 rows x 2 vectors of sums
//   P^T                 = 2^((S^T - maximum so far) log2 e), two keys a cell
//   O^T [d, queries]    = O^T 2^((old - new maximum) log2 e) + V^T, broadcast, times P^T
//
// Everything else is attention_blocked's.
//
// Easy to get wrong: gcc 12 leaves arrays of vectors in memory, hence named variables (look at the loop in a
// disassembly after every change); keys behind the last one of a tile are that one again, which leaves the
// maximum as it is, and are no part of the sums.
#include "kernels/x86/cells_avx512bf16.h"
#include "kernels/x86/tiers_blocks.h"

#include "kernels/cells_lanes.h"
#include "kernels/exp_lanes.h"
#include "kernels/scratch_part.h"
#include "kernels/x86/attention_lanes.h"

#include <math.h>

enum {
    TURN_ROWS = 11,             // of a tile: keys, or channels
    TURN_KEYS = 16 * TURN_ROWS, // of a block; their scores stay in L1
    CELL = 4,                   // bytes: two of bf16
    TURN_AHEAD = 16,            // rows of V asked for early: they lie pages apart
};

struct turn_parts {
    uint8_t *k;   // [k_rows / 11, cells, 11] cells of two channels
    uint8_t *v;   // [blocks, v_rows / 11, TURN_KEYS / 2, 11] cells of two keys
    uint8_t *q;   // [cells, TILE_QUERIES] the queries' panel
    float *s;     // [TURN_KEYS, TILE_QUERIES] scores, then cells of probabilities from its start on
    float *acc;   // [v_rows, TILE_QUERIES]
    size_t cells; // of a row of keys or queries
    size_t v_rows;
    size_t bytes;
};

// base NULL: only counts.
static struct turn_parts parts_of(const struct attention_job *j, uint8_t *base)
{
    struct turn_parts u = {.cells = div_up(j->d, 2)};
    size_t tiles = div_up(j->n_k, TURN_ROWS), blocks = div_up(j->n_k, TURN_KEYS);
    u.v_rows = div_up(j->d, TURN_ROWS) * TURN_ROWS;
    u.k = scratch_part(base, &u.bytes, tiles, TURN_ROWS * u.cells * CELL);
    u.v = scratch_part(base, &u.bytes, blocks, u.v_rows * TURN_KEYS / 2 * CELL);
    u.q = scratch_part(base, &u.bytes, u.cells, TILE_QUERIES * CELL);
    u.s = scratch_part(base, &u.bytes, TURN_KEYS, TILE_QUERIES * sizeof(float));
    u.acc = scratch_part(base, &u.bytes, u.v_rows, TILE_QUERIES * sizeof(float));
    return u;
}

// ---- keys, values and queries as cells

// 2 * LANES values from c on of a row of n, or what there is of them and zeros, times `by`.
ALWAYS_INLINE lanes row_cells(const float *row, size_t c, size_t n, lanes by)
{
    if (c + 2 * LANES <= n)
        return cells_pair(lanes_mul(lanes_load(row + c), by),
                          lanes_mul(lanes_load(row + c + LANES), by));
    size_t low = min_size(LANES, n - c), high = min_size(LANES, n - c - low);
    return cells_pair(lanes_mul(lanes_load_n(row + c, low), by),
                      lanes_mul(lanes_load_n(row + c + low, high), by));
}

// Cell i of the n <= LANES rows at x, times `by`, beside each other at `to` + i * step; zeros behind them where LANES
// are stored.
ALWAYS_INLINE void store_cells(uint8_t *to, size_t step, const float *x, size_t stride, size_t n,
                               size_t d, lanes by, size_t stored)
{
    for (size_t c = 0; c < d; c += 2 * LANES, to += LANES * step) {
        lanes r[LANES];
#pragma GCC unroll 16
        for (size_t q = 0; q < LANES; q++)
            r[q] = q < n ? row_cells(x + q * stride, c, d, by) : lanes_zero();
        lanes_transpose(r);
        size_t some = div_up(d - c, 2);
#pragma GCC unroll 16
        for (size_t s = 0; s < LANES; s++)
            if (s < some)
                lanes_store_n(to + s * step, r[s], stored);
    }
}

static void pack_keys(const struct attention_job *j, const struct turn_parts *u)
{
    const lanes one = lanes_set(1.0f);
    const float *k = j->k;
    uint8_t *to = u->k;
    for (size_t i = 0; i < j->n_k; i += TURN_ROWS, k += TURN_ROWS * j->k_stride) {
        size_t n = min_size(TURN_ROWS, j->n_k - i), left = j->n_k - i - n;
        ask_rows(k + n * j->k_stride, j->k_stride, min_size(left, TURN_ROWS), j->d);
        for (size_t r = n; r < TURN_ROWS; r++) // the last one again
            store_cells(to + r * CELL, TURN_ROWS * CELL, k + (n - 1) * j->k_stride, 0, 1, j->d, one,
                        1);
        if (n == TURN_ROWS)
            store_cells(to, TURN_ROWS * CELL, k, j->k_stride, TURN_ROWS, j->d, one, TURN_ROWS);
        else
            store_cells(to, TURN_ROWS * CELL, k, j->k_stride, n, j->d, one, n);
        to += TURN_ROWS * u->cells * CELL;
    }
}

// Two rows of values to cells, channels [0, d) in tiles.
ALWAYS_INLINE void pair_values(uint8_t *to, const float *a, const float *b, size_t d)
{
    for (size_t c = 0; c < d; c += TURN_ROWS, to += TURN_ROWS * TURN_KEYS / 2 * CELL) {
        size_t n = min_size(TURN_ROWS, d - c);
        lanes high = b ? lanes_load_n(b + c, n) : lanes_zero();
        lanes_store_n(to, cells_alternate(cells_pair(lanes_load_n(a + c, n), high)), TURN_ROWS);
    }
}

static void pack_values(const struct attention_job *j, const struct turn_parts *u)
{
    size_t block = u->v_rows * TURN_KEYS / 2 * CELL;
    for (size_t i = 0; i < j->n_k; i += 2) {
        const float *v = (const float *)j->v + i * j->v_stride;
        size_t at = i % TURN_KEYS / 2 * TURN_ROWS * CELL, left = j->n_k - i;
        if (left > 2)
            ask_rows(v + min_size(left - 2, TURN_AHEAD) * j->v_stride, j->v_stride, 2, j->d);
        pair_values(u->v + i / TURN_KEYS * block + at, v, left > 1 ? v + j->v_stride : NULL, j->d);
    }
}

// ---- a tile of queries

#define EACH_ROW(F)   F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10)
#define TURN_AT(r, c) (y + (r)*LANES * C + (c)*LANES)
#define TURN_ZERO(r)  lanes s##r##_0 = lanes_zero(), s##r##_1 = s##r##_0;
#define TURN_OLD(r)                                                                                \
    lanes s##r##_0 = lanes_mul(lanes_load(TURN_AT(r, 0)), old0), s##r##_1 = s##r##_0;              \
    if (C > 1)                                                                                     \
        s##r##_1 = lanes_mul(lanes_load(TURN_AT(r, 1)), old1);
#define TURN_ROW(r)                                                                                \
    {                                                                                              \
        lanes cell = lanes_splat(x + CELL * (r));                                                  \
        s##r##_0 = cells_fma(s##r##_0, cell, w0);                                                  \
        if (C > 1)                                                                                 \
            s##r##_1 = cells_fma(s##r##_1, cell, w1);                                              \
    }
#define TURN_SUMS(tile, panel, n_cell)                                                             \
    const uint8_t *x = (tile), *w = (const uint8_t *)(panel);                                      \
    for (size_t left = (n_cell); left != 0; left--) {                                              \
        lanes w0 = lanes_load(w), w1 = w0;                                                         \
        if (C > 1)                                                                                 \
            w1 = lanes_load(w + LANES * CELL);                                                     \
        EACH_ROW(TURN_ROW)                                                                         \
        x += TURN_ROWS * CELL;                                                                     \
        w += LANES * CELL * C;                                                                     \
    }

// s [n, 16 C] = scores of the n keys (in whole tiles) whose cells are at k; their maxima join max.
ALWAYS_INLINE void scores(const struct turn_parts *u, const uint8_t *k, size_t n, lanes *max0,
                          lanes *max1, const int C)
{
    lanes m0 = *max0, m1 = *max1;
    float *y = u->s;
    for (size_t i = 0; i < n; i += TURN_ROWS, y += TURN_ROWS * LANES * C) {
        EACH_ROW(TURN_ZERO)
        TURN_SUMS(k, u->q, u->cells)
        k = x;
#define SCORE(r)                                                                                   \
    m0 = lanes_max(s##r##_0, m0);                                                                  \
    lanes_store(TURN_AT(r, 0), s##r##_0);                                                          \
    if (C > 1) {                                                                                   \
        m1 = lanes_max(s##r##_1, m1);                                                              \
        lanes_store(TURN_AT(r, 1), s##r##_1);                                                      \
    }
        EACH_ROW(SCORE)
#undef SCORE
    }
    *max0 = m0;
    *max1 = m1;
}

struct soft {
    lanes max, shift; // shift = -max log2 e: rounded once, part of the factors too, so it cancels
    lanes total;
};

// The maximum moves on to `now`; returns the factor of what was summed before.
ALWAYS_INLINE lanes soft_move(struct soft *a, lanes now)
{
    const lanes log2e = lanes_set(1.44269504f);
    lanes shift = lanes_sub(lanes_zero(), lanes_mul(now, log2e));
    lanes factor = lanes_exp2(lanes_add(lanes_mul(a->max, log2e), shift));
    *a = (struct soft){now, shift, lanes_mul(a->total, factor)};
    return factor;
}

// Probabilities of n keys in place of their scores: the cells of two keys where the first half of them was.
ALWAYS_INLINE void probabilities(const struct turn_parts *u, size_t n, struct soft *a0,
                                 struct soft *a1, const int C)
{
    const lanes log2e = lanes_set(1.44269504f), none = lanes_zero();
    lanes even0 = none, odd0 = none, even1 = none, odd1 = none;
    const float *s = u->s;
    float *p = u->s;
#define SOFT(t, c, a)                                                                              \
    lanes_exp2_short(lanes_fma(lanes_load(s + ((t)*C + (c)) * LANES), log2e, (a)->shift))
    for (; n >= 2; n -= 2, s += 2 * LANES * C, p += LANES * C) {
        lanes e0 = SOFT(0, 0, a0), o0 = SOFT(1, 0, a0);
        even0 = lanes_add(even0, e0);
        odd0 = lanes_add(odd0, o0);
        if (C > 1) {
            lanes e1 = SOFT(0, 1, a1), o1 = SOFT(1, 1, a1);
            even1 = lanes_add(even1, e1);
            odd1 = lanes_add(odd1, o1);
            lanes_store(p + LANES, cells_alternate(cells_pair(e1, o1)));
        }
        lanes_store(p, cells_alternate(cells_pair(e0, o0)));
    }
    if (n > 0) {
        lanes e0 = SOFT(0, 0, a0);
        even0 = lanes_add(even0, e0);
        if (C > 1) {
            lanes e1 = SOFT(0, 1, a1);
            even1 = lanes_add(even1, e1);
            lanes_store(p + LANES, cells_alternate(cells_pair(e1, none)));
        }
        lanes_store(p, cells_alternate(cells_pair(e0, none)));
    }
#undef SOFT
    a0->total = lanes_add(a0->total, lanes_add(even0, odd0));
    a1->total = lanes_add(a1->total, lanes_add(even1, odd1));
}

// acc = acc * old + V P of the n keys whose cells are at v.
ALWAYS_INLINE void values(const struct turn_parts *u, const uint8_t *v, size_t n, lanes old0,
                          lanes old1, const int C)
{
    float *y = u->acc;
    for (size_t c = 0; c < u->v_rows; c += TURN_ROWS, y += TURN_ROWS * LANES * C) {
        EACH_ROW(TURN_OLD)
        TURN_SUMS(v + c * TURN_KEYS / 2 * CELL, u->s, div_up(n, 2))
#define VALUE(r)                                                                                   \
    lanes_store(TURN_AT(r, 0), s##r##_0);                                                          \
    if (C > 1)                                                                                     \
        lanes_store(TURN_AT(r, 1), s##r##_1);
        EACH_ROW(VALUE)
#undef VALUE
    }
}

ALWAYS_INLINE void attend(const struct attention_job *j, const struct turn_parts *u, size_t i,
                          size_t h, size_t n, const int C)
{
    const lanes by = lanes_set(j->scale);
    for (size_t c = 0; c < (size_t)C; c++) {
        const float *q = j->q + (i + c * LANES) * j->q_stride + h * j->d;
        store_cells(u->q + c * LANES * CELL, (size_t)C * LANES * CELL, q, j->q_stride,
                    min_size(LANES, n - c * LANES), j->d, by, LANES);
    }
    struct soft a0 = {.max = lanes_set(-INFINITY), .total = lanes_zero()}, a1 = a0;
    memset(u->acc, 0, u->v_rows * LANES * (size_t)C * sizeof *u->acc);
    for (size_t k = 0; k < j->n_k; k += TURN_KEYS) {
        size_t keys = min_size(TURN_KEYS, j->n_k - k);
        lanes max0 = a0.max, max1 = a1.max;
        scores(u, u->k + k * u->cells * CELL, keys, &max0, &max1, C);
        lanes old0 = soft_move(&a0, max0), old1 = C > 1 ? soft_move(&a1, max1) : old0;
        probabilities(u, keys, &a0, &a1, C);
        values(u, u->v + k / 2 * u->v_rows * CELL, keys, old0, old1, C);
    }
    tile_results(j, u->acc, i, h, n, a0.total, a1.total, C);
}

static bool turned(const struct attention_job *j)
{
    return !j->few && !j->causal && j->k_type == DT_F32 && j->v_type == DT_F32;
}

size_t attention_avx512bf16_scratch(const struct product_kernels *p, const struct attention_job *j)
{
    if (!turned(j))
        return attention_blocked_scratch(p, j);
    return parts_of(j, NULL).bytes;
}

void attention_avx512bf16(const struct product_kernels *p, const struct attention_job *j,
                          void *scratch)
{
    if (!turned(j)) {
        attention_blocked(p, j, scratch);
        return;
    }
    if (j->n_q == 0)
        return;
    struct turn_parts u = parts_of(j, scratch);
    pack_keys(j, &u);
    pack_values(j, &u);
    for (size_t h = 0; h < j->group; h++)
        for (size_t i = 0; i < j->n_q; i += TILE_QUERIES) {
            size_t n = min_size(TILE_QUERIES, j->n_q - i);
            ask_queries(j, i, h);
            if (n > LANES)
                attend(j, &u, i, h, n, 2);
            else
                attend(j, &u, i, h, n, 1);
        }
}
