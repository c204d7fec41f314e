// SPDX-License-Identifier: MIT
// The panels of both AVX-512 tiers: up to 64 outputs as steps over the inputs, each step C vectors of 16
// cells (C = 1..4, as the outputs need), a cell being one f32 or two bf16 that are neighbours in k.
// Packing is the transposition of 16 x 16 cells. The including file says what a cell is: it defines
// cells_column declared below, and CELL_INPUTS and its functions unless a cell is one f32.
//
// The tile kernel keeps 6 rows x 4 vectors of sums in registers: named variables and constant
// conditions, because gcc 12 leaves arrays of vectors in memory.
#ifndef IV_KERNELS_X86_PANEL_AVX512_H
#define IV_KERNELS_X86_PANEL_AVX512_H

#include <immintrin.h>

#include "kernels/product_lanes.h"

enum {
    PANEL = 64,        // outputs
    PANEL_BLOCK = 256, // outputs packed at a time
    PANEL_DEPTH = 512, // inputs
    TILE_ROWS = 6,
};

// 16 cells from n <= 16 columns of one row of a transposed matrix, or of two when a cell has two inputs:
// the second is at `next`, NULL = zeros.
ALWAYS_INLINE lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n);

ALWAYS_INLINE lanes unpack_lo(lanes a, lanes b)
{
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

ALWAYS_INLINE lanes unpack_hi(lanes a, lanes b)
{
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

// Four rows of 16 cells: in each 128-bit lane the 4 x 4 cells are transposed.
ALWAYS_INLINE void transpose_cells(lanes *a, lanes *b, lanes *c, lanes *d)
{
    lanes ab0 = _mm512_unpacklo_ps(*a, *b), ab1 = _mm512_unpackhi_ps(*a, *b);
    lanes cd0 = _mm512_unpacklo_ps(*c, *d), cd1 = _mm512_unpackhi_ps(*c, *d);
    *a = unpack_lo(ab0, cd0);
    *b = unpack_hi(ab0, cd0);
    *c = unpack_lo(ab1, cd1);
    *d = unpack_hi(ab1, cd1);
}

// The 4 x 4 lanes of four vectors are transposed.
ALWAYS_INLINE void transpose_lanes(lanes *a, lanes *b, lanes *c, lanes *d)
{
    lanes ab0 = _mm512_shuffle_f32x4(*a, *b, 0x44), ab1 = _mm512_shuffle_f32x4(*a, *b, 0xee);
    lanes cd0 = _mm512_shuffle_f32x4(*c, *d, 0x44), cd1 = _mm512_shuffle_f32x4(*c, *d, 0xee);
    *a = _mm512_shuffle_f32x4(ab0, cd0, 0x88);
    *b = _mm512_shuffle_f32x4(ab0, cd0, 0xdd);
    *c = _mm512_shuffle_f32x4(ab1, cd1, 0x88);
    *d = _mm512_shuffle_f32x4(ab1, cd1, 0xdd);
}

// Writes the 16 x 16 cells of rows r transposed: step s, for s < n, to `to` + s * step bytes.
ALWAYS_INLINE void transpose_store(lanes r[16], uint8_t *to, size_t step, size_t n)
{
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
        transpose_cells(&r[i], &r[i + 1], &r[i + 2], &r[i + 3]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        transpose_lanes(&r[i], &r[i + 4], &r[i + 8], &r[i + 12]);
        // r[i + 4 l] now holds step 4 l + i
#pragma GCC unroll 16
    for (size_t s = 0; s < 16; s++)
        if (s < n)
            lanes_store(to + s * step, r[s]);
}

ALWAYS_INLINE void pack_type(uint8_t *panel, const uint8_t *w, size_t row_bytes, enum dtype t,
                             bool round, size_t n, size_t k)
{
    const size_t most = 16 * CELL_INPUTS, elem = t == DT_F32 ? 4 : 2;
    size_t step = div_up(n, 16) * 64;
    for (size_t o = 0; o < n; o += 16, panel += 64, w += 16 * row_bytes) {
        size_t rows = min_size(16, n - o);
        for (size_t i = 0; i < k; i += most) {
            size_t some = min_size(most, k - i);
            const uint8_t *from = w + i * elem;
            lanes r[16];
            if (some == most && rows == 16) {
#pragma GCC unroll 16
                for (size_t q = 0; q < 16; q++)
                    r[q] = cells_weights(from + q * row_bytes, t, round);
            } else {
#pragma GCC unroll 16
                for (size_t q = 0; q < 16; q++)
                    r[q] = q < rows ? cells_weights_n(from + q * row_bytes, t, round, some)
                                    : lanes_zero();
            }
            transpose_store(r, panel + i / CELL_INPUTS * step, step, div_up(some, CELL_INPUTS));
        }
    }
}

ALWAYS_INLINE void pack_t_type(uint8_t *panel, const uint8_t *w, size_t row_bytes, enum dtype t,
                               bool round, size_t n, size_t k)
{
    const size_t elem = t == DT_F32 ? 4 : 2;
    for (size_t i = 0; i < k; i += CELL_INPUTS, w += CELL_INPUTS * row_bytes) {
        bool pair = CELL_INPUTS == 2 && i + 1 < k;
        for (size_t o = 0; o < n; o += 16, panel += 64) {
            const uint8_t *from = w + o * elem;
            lanes v =
                cells_column(from, pair ? from + row_bytes : NULL, t, round, min_size(16, n - o));
            lanes_store(panel, v);
        }
    }
}

// ---- y [R, 16 C] (+)= x panel

struct tile_at {
    float *y;
    size_t y_stride;
    const uint8_t *x;
    size_t x_stride;
    const uint8_t *panel;
    size_t cells;   // of k
    __mmask16 last; // columns of the last vector
    bool add;
};

ALWAYS_INLINE void tile_body(const struct tile_at *a, const int R, const int C)
{
#define TILE_ALL(F)                                                                                \
    F(0, 0)                                                                                        \
    F(0, 1) F(0, 2) F(0, 3) F(1, 0) F(1, 1) F(1, 2) F(1, 3) F(2, 0) F(2, 1) F(2, 2) F(2, 3)        \
        F(3, 0) F(3, 1) F(3, 2) F(3, 3) F(4, 0) F(4, 1) F(4, 2) F(4, 3) F(5, 0) F(5, 1) F(5, 2)    \
            F(5, 3)
#define TILE_MASK(c)    (c == C - 1 ? a->last : (__mmask16)0xffff)
#define TILE_ZERO(r, c) lanes s##r##c = lanes_zero();
#define TILE_LOAD(r, c)                                                                            \
    if (r < R && c < C)                                                                            \
        s##r##c = _mm512_maskz_loadu_ps(TILE_MASK(c), y + r * a->y_stride + 16 * c);
#define TILE_STORE(r, c)                                                                           \
    if (r < R && c < C)                                                                            \
        _mm512_mask_storeu_ps(y + r * a->y_stride + 16 * c, TILE_MASK(c), s##r##c);
#define TILE_FMA(r, c)                                                                             \
    if (r < R && c < C)                                                                            \
        s##r##c = cells_fma(s##r##c, x, w##c);
#define TILE_ROW(r, at)                                                                            \
    if (r < R) {                                                                                   \
        lanes x = _mm512_set1_ps(*(const float *)(const void *)(at));                              \
        TILE_FMA(r, 0) TILE_FMA(r, 1) TILE_FMA(r, 2) TILE_FMA(r, 3)                                \
    }
    float *y = a->y;
    TILE_ALL(TILE_ZERO)
    if (a->add) {
        TILE_ALL(TILE_LOAD)
    }
    const uint8_t *panel = a->panel, *x0 = a->x, *x3 = x0 + 3 * a->x_stride;
    const size_t xs = a->x_stride;
    const lanes none = lanes_zero();
    for (size_t i = a->cells; i != 0; i--) {
        lanes w0 = lanes_load(panel);
        lanes w1 = C > 1 ? lanes_load(panel + 64) : none;
        lanes w2 = C > 2 ? lanes_load(panel + 128) : none;
        lanes w3 = C > 3 ? lanes_load(panel + 192) : none;
        TILE_ROW(0, x0)
        TILE_ROW(1, x0 + xs)
        TILE_ROW(2, x0 + 2 * xs)
        TILE_ROW(3, x3)
        TILE_ROW(4, x3 + xs)
        TILE_ROW(5, x3 + 2 * xs)
        panel += 64 * C;
        x0 += 4;
        x3 += 4;
    }
    TILE_ALL(TILE_STORE)
#undef TILE_ROW
#undef TILE_FMA
#undef TILE_STORE
#undef TILE_LOAD
#undef TILE_ZERO
#undef TILE_MASK
#undef TILE_ALL
}

ALWAYS_INLINE void tile_width(const struct tile_job *j, const int C)
{
    struct tile_at a = {
        .y_stride = j->y_stride,
        .x_stride = j->x_stride,
        .panel = j->panel,
        .cells = div_up(j->k, CELL_INPUTS),
        .last = lanes_first(j->n - 16 * (size_t)(C - 1)),
        .add = j->add,
    };
    for (size_t r = 0; r < j->m;) {
        size_t left = j->m - r;
        a.y = j->y + r * j->y_stride;
        a.x = (const uint8_t *)j->x + r * j->x_stride;
        if (left >= 6) {
            tile_body(&a, 6, C);
            r += 6;
        } else if (left >= 3) {
            tile_body(&a, 3, C);
            r += 3;
        } else {
            tile_body(&a, 1, C);
            r += 1;
        }
    }
}

static void tile_avx512(const struct tile_job *j)
{
    switch (div_up(j->n, 16)) {
    case 0:
        break;
    case 1:
        tile_width(j, 1);
        break;
    case 2:
        tile_width(j, 2);
        break;
    case 3:
        tile_width(j, 3);
        break;
    default:
        tile_width(j, 4);
    }
}

#endif
