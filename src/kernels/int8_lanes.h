// SPDX-License-Identifier: MIT
// int8 products in a tier's vector vocabulary: rows and weights to levels, panels, and the tile kernel, y [m, n]
// (+)= x panel, 6 rows x INT8_VECTORS vectors of integer sums in registers, x broadcast cell by cell. After each
// block of inputs the sums become f32, meet both steps and join y. The including file has named lanes_*.h and
// defines
//   CELL_LEVELS, INT8_VECTORS     levels of a cell of 32 bits; vectors of outputs of a panel
//   sums                          LANES integers
//   sums_none(), sums_splat(p), sums_load(p)    zeros; a cell in every lane; LANES cells
//   sums_start(step)              what a row's sums begin with, from its struct int8_step
//   sums_add(s, x, w)             s + x w, cell by cell
//   sums_f32(s), sums_round(v)    to f32; the nearest integers, ties to even
//   sums_plus(a, b), sums_total(s)
//   sums_size(v), sums_larger(a, b), sums_largest(s)    bits of |v|; the larger as unsigned, and of all lanes
//   levels_store(q, s)            LANES bytes, saturated
//   cells_of(q)                   LANES cells of a panel from CELL_LEVELS levels each; as lanes
//   int8_blocks(q, w, t, n)       levels of weights in blocks, as `levels` of struct product_kernels
//
// Easy to get wrong: gcc 12 leaves arrays of vectors in memory and copies accumulators, hence named variables
// and constant conditions (look at the loop in a disassembly after every change).
#ifndef IV_KERNELS_INT8_LANES_H
#define IV_KERNELS_INT8_LANES_H

#include "kernels/cells_lanes.h"
#include "kernels/int8_parts.h"

enum { INT8_PANEL = INT8_VECTORS * LANES };

// ---- levels

ALWAYS_INLINE lanes int8_values(const uint8_t *w, size_t i, enum dtype t, size_t n)
{
    w += i * (t == DT_F32 ? 4 : 2);
    return n == LANES ? weight_lanes(w, t, false) : weight_lanes_n(w, t, false, n);
}

// Levels of n <= KERNEL_INT8_BLOCK values; q has room for a multiple of LANES. *sum = that of the levels.
ALWAYS_INLINE float int8_plain(int8_t *q, const uint8_t *w, enum dtype t, size_t n, int32_t *sum)
{
    const size_t full = n / LANES * LANES;
    sums top = sums_none(), all = top;
    for (size_t i = 0; i < full; i += LANES)
        top = sums_larger(top, sums_size(int8_values(w, i, t, LANES)));
    if (full < n)
        top = sums_larger(top, sums_size(int8_values(w, full, t, n - full)));
    struct int8_scale s = int8_scale_of(sums_largest(top));
    if (s.inverse == 0) {
        memset(q, 0, n);
        *sum = 0;
        return s.step;
    }
    const lanes inverse = lanes_set(s.inverse);
    for (size_t i = 0; i < full; i += LANES) {
        sums v = sums_round(lanes_mul(int8_values(w, i, t, LANES), inverse));
        levels_store(q + i, v);
        all = sums_plus(all, v);
    }
    if (full < n) {
        sums v = sums_round(lanes_mul(int8_values(w, full, t, n - full), inverse));
        levels_store(q + full, v);
        all = sums_plus(all, v);
    }
    *sum = sums_total(all);
    return s.step;
}

static float int8_levels(int8_t *q, const void *w, enum dtype t, size_t n)
{
    int32_t sum;
    if (t == DT_F32)
        return int8_plain(q, w, DT_F32, n, &sum);
    if (t == DT_F16)
        return int8_plain(q, w, DT_F16, n, &sum);
    if (t == DT_BF16)
        return int8_plain(q, w, DT_BF16, n, &sum);
    return int8_blocks(q, w, t, n);
}

static void int8_prepare(const struct product_kernels *p, void *dst, const float *x,
                         size_t x_stride, size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k), at = int8_steps_at(p, k);
    const size_t elem = 4 / CELL_LEVELS;
    uint8_t *to = dst;
    for (size_t r = 0; r < m; r++, to += bytes, x += x_stride) {
        uint8_t *out = to + at;
        for (size_t i = 0; i < k; i += KERNEL_INT8_BLOCK) {
            size_t n = min_size(KERNEL_INT8_BLOCK, k - i);
            int8_t q[KERNEL_INT8_BLOCK];
            int32_t sum;
            struct int8_step s;
            s.step = int8_plain(q, (const uint8_t *)(x + i), DT_F32, n, &sum);
            s.base = -128 * sum;
            memcpy(out, &s, sizeof s);
            out += sizeof s;
            if (elem == 1) {
                memcpy(to + i, q, n);
                continue;
            }
            int16_t *wide = (int16_t *)(void *)to + i;
            for (size_t o = 0; o < n; o++)
                wide[o] = q[o];
        }
        memset(to + k * elem, 0, at - k * elem);
        memset(out, 0, bytes - (size_t)(out - to));
    }
}

// ---- panels

static void int8_pack(void *panel, const int8_t *q, size_t n, size_t k)
{
    const size_t most = LANES * CELL_LEVELS, vector = LANES * 4, step = div_up(n, LANES) * vector;
    uint8_t *to = panel;
    for (size_t o = 0; o < n; o += LANES, q += LANES * KERNEL_INT8_BLOCK, to += vector) {
        for (size_t i = 0; i < k; i += most) {
            size_t cells = div_up(min_size(most, k - i), CELL_LEVELS);
            lanes r[LANES];
#pragma GCC unroll 16
            for (size_t s = 0; s < LANES; s++)
                r[s] = cells_of(q + s * KERNEL_INT8_BLOCK + i);
            lanes_transpose(r);
#pragma GCC unroll 16
            for (size_t s = 0; s < LANES; s++)
                if (s < cells)
                    lanes_store(to + (i / CELL_LEVELS + s) * step, r[s]);
        }
    }
}

// ---- tile

struct int8_at {
    float *y;
    size_t y_stride;
    const uint8_t *x;
    const uint8_t *steps;
    size_t x_stride;
    const uint8_t *panel;
    size_t k;
    size_t last; // columns of the last vector
    const float *bias;
    bool add;
};

ALWAYS_INLINE void int8_join(float *y, lanes sum, lanes step, lanes bias, size_t n, bool add)
{
    if (n == LANES)
        lanes_store(y, lanes_fma(sum, step, add ? lanes_load(y) : bias));
    else
        lanes_store_n(y, lanes_fma(sum, step, add ? lanes_load_n(y, n) : bias), n);
}

ALWAYS_INLINE void int8_body(const struct int8_at *a, const int R, const int C)
{
#define INT8_EACH(F, r) F(r, 0) F(r, 1) F(r, 2) F(r, 3)
#define INT8_ROWS(F)    F(0) F(1) F(2) F(3) F(4) F(5)
#define INT8_STEP(r)    ((const struct int8_step *)(const void *)(steps + r * xs))
#define INT8_START_1(r, c)                                                                         \
    if (c < C)                                                                                     \
        s##r##c = start;
#define INT8_START(r)                                                                              \
    sums s##r##0 = none, s##r##1 = none, s##r##2 = none, s##r##3 = none;                           \
    if (r < R) {                                                                                   \
        sums start = sums_start(INT8_STEP(r));                                                     \
        INT8_EACH(INT8_START_1, r)                                                                 \
    }
#define INT8_ADD_1(r, c)                                                                           \
    if (c < C)                                                                                     \
        s##r##c = sums_add(s##r##c, cell, w##c);
#define INT8_ADD(r, at)                                                                            \
    if (r < R) {                                                                                   \
        sums cell = sums_splat(at);                                                                \
        INT8_EACH(INT8_ADD_1, r)                                                                   \
    }
#define INT8_JOIN_1(r, c)                                                                          \
    if (c < C)                                                                                     \
        int8_join(y + r * a->y_stride + c * LANES, sums_f32(s##r##c), lanes_mul(step, p##c), b##c, \
                  INT8_N(c), add);
#define INT8_N(c) (c == C - 1 ? a->last : LANES)
#define INT8_BIAS(c)                                                                               \
    (C > c && a->bias ? lanes_load_n(a->bias + c * LANES, INT8_N(c)) : lanes_zero())
#define INT8_JOIN(r)                                                                               \
    if (r < R) {                                                                                   \
        lanes step = lanes_splat(&INT8_STEP(r)->step);                                             \
        INT8_EACH(INT8_JOIN_1, r)                                                                  \
    }
    float *y = a->y;
    const uint8_t *panel = a->panel, *steps = a->steps;
    const uint8_t *x0 = a->x, *x3 = R > 3 ? x0 + 3 * a->x_stride : x0;
    const size_t xs = a->x_stride;
    const sums none = sums_none();
    bool add = a->add;
    for (size_t left = a->k; left != 0;) {
        size_t some = left < KERNEL_INT8_BLOCK ? left : KERNEL_INT8_BLOCK;
        const uint8_t *cells = panel + INT8_PANEL * sizeof(float);
        INT8_ROWS(INT8_START)
        for (size_t i = div_up(some, CELL_LEVELS); i != 0; i--) {
            sums w0 = sums_load(cells);
            sums w1 = C > 1 ? sums_load(cells + LANES * 4) : none;
            sums w2 = C > 2 ? sums_load(cells + LANES * 8) : none;
            sums w3 = C > 3 ? sums_load(cells + LANES * 12) : none;
            INT8_ADD(0, x0)
            INT8_ADD(1, x0 + xs)
            INT8_ADD(2, x0 + 2 * xs)
            INT8_ADD(3, x3)
            INT8_ADD(4, x3 + xs)
            INT8_ADD(5, x3 + 2 * xs)
            cells += LANES * 4 * C;
            x0 += 4;
            x3 += 4;
        }
        const lanes b0 = INT8_BIAS(0), b1 = INT8_BIAS(1), b2 = INT8_BIAS(2), b3 = INT8_BIAS(3);
        lanes p0 = lanes_load(panel), p1 = p0, p2 = p0, p3 = p0;
        if (C > 1)
            p1 = lanes_load(panel + LANES * 4);
        if (C > 2)
            p2 = lanes_load(panel + LANES * 8);
        if (C > 3)
            p3 = lanes_load(panel + LANES * 12);
        INT8_ROWS(INT8_JOIN)
        add = true;
        steps += sizeof(struct int8_step);
        panel += INT8_PANEL * (sizeof(float) + KERNEL_INT8_BLOCK / CELL_LEVELS * 4);
        left -= some;
    }
#undef INT8_JOIN
#undef INT8_BIAS
#undef INT8_N
#undef INT8_JOIN_1
#undef INT8_ADD
#undef INT8_ADD_1
#undef INT8_START
#undef INT8_START_1
#undef INT8_STEP
#undef INT8_ROWS
#undef INT8_EACH
}

// The next rows' levels, which are pages apart, and their place in y.
ALWAYS_INLINE void int8_bring(const struct int8_at *a, const size_t R, const size_t C)
{
    for (size_t r = R; r < 2 * R; r++) {
        const uint8_t *x = a->x + r * a->x_stride;
        for (size_t line = 0; line < a->k * 4 / CELL_LEVELS; line += 64)
            __builtin_prefetch(x + line, 0, 2);
        for (size_t c = 0; c < C; c++)
            __builtin_prefetch(a->y + r * a->y_stride + c * LANES, 1, 3);
    }
}

ALWAYS_INLINE void int8_width(const struct tile_job *j, const int C)
{
    struct int8_at a = {
        .y_stride = j->y_stride,
        .x_stride = j->x_stride,
        .panel = j->panel,
        .k = j->k,
        .last = j->n - LANES * (size_t)(C - 1),
        .bias = j->bias,
        .add = j->add,
    };
    for (size_t r = 0; r < j->m;) {
        size_t left = j->m - r;
        a.y = j->y + r * j->y_stride;
        a.x = (const uint8_t *)j->x + r * j->x_stride;
        a.steps = (const uint8_t *)j->steps + r * j->x_stride;
        if (left >= 12)
            int8_bring(&a, 6, (size_t)C);
        if (left >= 6) {
            int8_body(&a, 6, C);
            r += 6;
        } else if (left >= 3) {
            int8_body(&a, 3, C);
            r += 3;
        } else {
            int8_body(&a, 1, C);
            r += 1;
        }
    }
}

static void int8_tile(const struct tile_job *j)
{
    size_t vectors = div_up(j->n, LANES);
    if (j->k == 0) {
        for (size_t r = 0; r < j->m && !j->add; r++)
            for (size_t o = 0; o < j->n; o++)
                j->y[r * j->y_stride + o] = j->bias ? j->bias[o] : 0;
    } else if (vectors == 1) {
        int8_width(j, 1);
    } else if (vectors == 2) {
        int8_width(j, 2);
    } else if (INT8_VECTORS > 2 && vectors == 3) {
        int8_width(j, 3);
    } else if (INT8_VECTORS > 2) {
        int8_width(j, 4);
    }
}

static inline void int8_set_lanes(struct product_kernels *p)
{
    p->x_elem = 4 / CELL_LEVELS;
    p->panel = p->block = INT8_PANEL;
    p->depth = INT8_DEPTH;
    // a panel, and behind it the levels of one block of its rows
    p->scratch_bytes =
        INT8_DEPTH / KERNEL_INT8_BLOCK * int8_panel_bytes(p) + INT8_PANEL * KERNEL_INT8_BLOCK;
    p->prepare = int8_prepare;
    p->levels = int8_levels;
    p->pack_levels = int8_pack;
    p->tile = int8_tile;
    p->many = int8_many_blocked;
    p->attention = NULL; // the plain one would be slower than bf16
}

#endif
