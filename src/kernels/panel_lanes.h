// SPDX-License-Identifier: MIT
// Panels and the tile kernel in the vector vocabulary of a lanes_*.h, which the including file has named
// first. A panel holds up to PANEL outputs as steps over the inputs, each step C vectors of LANES cells,
// C as the outputs need. Packing is the transposition of LANES x LANES cells. A cell is one f32, or
// two bf16 that are neighbours in k: then the including file has defined CELL_INPUTS and its functions,
// cells_column among them.
//
// The tile kernel keeps 6 rows x PANEL_VECTORS vectors of sums in registers: named variables and
// constant conditions, because gcc 12 leaves arrays of vectors in memory.
#ifndef IV_KERNELS_PANEL_LANES_H
#define IV_KERNELS_PANEL_LANES_H

#include "kernels/product_lanes.h"

enum {
    PANEL = PANEL_VECTORS * LANES, // outputs
    PANEL_BLOCK = 256,             // outputs packed at a time
    PANEL_DEPTH = 512,             // inputs
};

#if CELL_INPUTS == 1
// LANES cells from n <= LANES columns of one row of a transposed matrix, or of two when a cell has two
// inputs: the second is at `next`, NULL = zeros.
ALWAYS_INLINE lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n)
{
    (void)next;
    return n == LANES ? weight_lanes(w, t, round) : weight_lanes_n(w, t, round, n);
}
#endif

// Writes LANES rows of cells transposed: step s, for s < n, to `to` + s * step bytes.
ALWAYS_INLINE void transpose_store(lanes r[LANES], uint8_t *to, size_t step, size_t n)
{
    lanes_transpose(r);
#pragma GCC unroll 16
    for (size_t s = 0; s < LANES; s++)
        if (s < n)
            lanes_store(to + s * step, r[s]);
}

ALWAYS_INLINE void pack_type(uint8_t *panel, const uint8_t *w, size_t row_bytes, enum dtype t,
                             bool round, size_t n, size_t k)
{
    const size_t most = LANES * CELL_INPUTS, elem = t == DT_F32 ? 4 : 2, vector = LANES * 4;
    size_t step = div_up(n, LANES) * vector;
    for (size_t o = 0; o < n; o += LANES, panel += vector, w += LANES * row_bytes) {
        size_t rows = min_size(LANES, n - o);
        for (size_t i = 0; i < k; i += most) {
            size_t some = min_size(most, k - i);
            const uint8_t *from = w + i * elem;
            lanes r[LANES];
            if (some == most && rows == LANES) {
#pragma GCC unroll 16
                for (size_t q = 0; q < LANES; q++)
                    r[q] = cells_weights(from + q * row_bytes, t, round);
            } else {
#pragma GCC unroll 16
                for (size_t q = 0; q < LANES; q++)
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
        for (size_t o = 0; o < n; o += LANES, panel += LANES * 4) {
            const uint8_t *from = w + o * elem;
            const uint8_t *next = pair ? from + row_bytes : NULL;
            lanes_store(panel, cells_column(from, next, t, round, min_size(LANES, n - o)));
        }
    }
}

ALWAYS_INLINE void pack_any(void *panel, const void *w, size_t w_stride, enum dtype t, bool round,
                            size_t n, size_t k)
{
    if (t == DT_F32)
        pack_type(panel, w, w_stride * 4, DT_F32, round, n, k);
    else if (t == DT_BF16)
        pack_type(panel, w, w_stride * 2, DT_BF16, round, n, k);
    else
        pack_type(panel, w, w_stride * 2, DT_F16, round, n, k);
}

ALWAYS_INLINE void pack_t_any(void *panel, const void *w, size_t w_stride, enum dtype t, bool round,
                              size_t n, size_t k)
{
    if (t == DT_F32)
        pack_t_type(panel, w, w_stride * 4, DT_F32, round, n, k);
    else if (t == DT_BF16)
        pack_t_type(panel, w, w_stride * 2, DT_BF16, round, n, k);
    else
        pack_t_type(panel, w, w_stride * 2, DT_F16, round, n, k);
}

static inline void pack_rounded(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                                size_t k)
{
    pack_any(panel, w, w_stride, t, true, n, k);
}

static inline void pack_t_rounded(void *panel, const void *w, size_t w_stride, enum dtype t,
                                  size_t n, size_t k)
{
    pack_t_any(panel, w, w_stride, t, true, n, k);
}

// ---- y [R, C LANES] (+)= x panel

struct tile_at {
    float *y;
    size_t y_stride;
    const uint8_t *x;
    size_t x_stride;
    const uint8_t *panel;
    size_t cells; // of k
    size_t last;  // columns of the last vector
    bool add;
};

ALWAYS_INLINE lanes tile_load(const float *y, size_t n)
{
    return n == LANES ? lanes_load(y) : lanes_load_n(y, n);
}

ALWAYS_INLINE void tile_store(float *y, lanes v, size_t n)
{
    if (n == LANES)
        lanes_store(y, v);
    else
        lanes_store_n(y, v, n);
}

ALWAYS_INLINE void tile_body(const struct tile_at *a, const int R, const int C)
{
#define TILE_VECTORS(F, r) F(r, 0) F(r, 1) F(r, 2) F(r, 3)
#define TILE_ALL(F)                                                                                \
    TILE_VECTORS(F, 0)                                                                             \
    TILE_VECTORS(F, 1)                                                                             \
    TILE_VECTORS(F, 2)                                                                             \
    TILE_VECTORS(F, 3)                                                                             \
    TILE_VECTORS(F, 4)                                                                             \
    TILE_VECTORS(F, 5)
#define TILE_AT(r, c)   (y + r * a->y_stride + c * LANES)
#define TILE_N(c)       (c == C - 1 ? a->last : LANES)
#define TILE_ZERO(r, c) lanes s##r##c = lanes_zero();
#define TILE_LOAD(r, c)                                                                            \
    if (r < R && c < C)                                                                            \
        s##r##c = tile_load(TILE_AT(r, c), TILE_N(c));
#define TILE_STORE(r, c)                                                                           \
    if (r < R && c < C)                                                                            \
        tile_store(TILE_AT(r, c), s##r##c, TILE_N(c));
#define TILE_FMA(r, c)                                                                             \
    if (r < R && c < C)                                                                            \
        s##r##c = cells_fma(s##r##c, x, w##c);
#define TILE_ROW(r, at)                                                                            \
    if (r < R) {                                                                                   \
        lanes x = lanes_splat(at);                                                                 \
        TILE_FMA(r, 0) TILE_FMA(r, 1) TILE_FMA(r, 2) TILE_FMA(r, 3)                                \
    }
    float *y = a->y;
    TILE_ALL(TILE_ZERO)
    if (a->add) {
        TILE_ALL(TILE_LOAD)
    }
    const uint8_t *panel = a->panel, *x0 = a->x, *x3 = R > 3 ? x0 + 3 * a->x_stride : x0;
    const size_t xs = a->x_stride;
    const lanes none = lanes_zero();
    for (size_t i = a->cells; i != 0; i--) {
        lanes w0 = lanes_load(panel);
        lanes w1 = C > 1 ? lanes_load(panel + LANES * 4) : none;
        lanes w2 = C > 2 ? lanes_load(panel + LANES * 8) : none;
        lanes w3 = C > 3 ? lanes_load(panel + LANES * 12) : none;
        TILE_ROW(0, x0)
        TILE_ROW(1, x0 + xs)
        TILE_ROW(2, x0 + 2 * xs)
        TILE_ROW(3, x3)
        TILE_ROW(4, x3 + xs)
        TILE_ROW(5, x3 + 2 * xs)
        panel += LANES * 4 * C;
        x0 += 4;
        x3 += 4;
    }
    TILE_ALL(TILE_STORE)
#undef TILE_ROW
#undef TILE_FMA
#undef TILE_STORE
#undef TILE_LOAD
#undef TILE_ZERO
#undef TILE_N
#undef TILE_AT
#undef TILE_ALL
#undef TILE_VECTORS
}

ALWAYS_INLINE void tile_width(const struct tile_job *j, const int C)
{
    struct tile_at a = {
        .y_stride = j->y_stride,
        .x_stride = j->x_stride,
        .panel = j->panel,
        .cells = div_up(j->k, CELL_INPUTS),
        .last = j->n - LANES * (size_t)(C - 1),
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

static void tile_lanes(const struct tile_job *j)
{
    size_t vectors = div_up(j->n, LANES);
    if (vectors == 1)
        tile_width(j, 1);
    else if (vectors == 2)
        tile_width(j, 2);
    else if (PANEL_VECTORS > 2 && vectors == 3)
        tile_width(j, 3);
    else if (PANEL_VECTORS > 2 && vectors == 4)
        tile_width(j, 4);
}

static void panel_set_lanes(struct product_kernels *p)
{
    p->x_elem = sizeof(float) / CELL_INPUTS;
    p->panel = PANEL;
    p->block = PANEL_BLOCK;
    p->depth = PANEL_DEPTH;
    p->scratch_bytes = PANEL_BLOCK * PANEL_DEPTH * p->x_elem;
    p->tile = tile_lanes;
}

// ---- both precisions of a tier whose cells are f32

#if CELL_INPUTS == 1
static void pack_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n, size_t k)
{
    pack_any(panel, w, w_stride, t, false, n, k);
}

static void pack_t_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                       size_t k)
{
    pack_t_any(panel, w, w_stride, t, false, n, k);
}

static void products_set_lanes(struct product_kernels *f32, struct product_kernels *bf16)
{
    product_set_lanes(f32, bf16);
    panel_set_lanes(f32);
    panel_set_lanes(bf16);
    f32->pack = pack_f32;
    f32->pack_t = pack_t_f32;
    bf16->pack = pack_rounded;
    bf16->pack_t = pack_t_rounded;
}
#endif

#endif
