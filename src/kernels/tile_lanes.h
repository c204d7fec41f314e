// SPDX-License-Identifier: MIT
// The tile kernel in the vector vocabulary of a lanes_*.h: y [m, n] (+)= x panel, 6 rows x PANEL_VECTORS
// vectors of sums in registers, x broadcast cell by cell.
//
// Easy to get wrong: gcc 12 leaves arrays of vectors in memory, hence named variables and constant
// conditions (look at the loop in a disassembly after every change); a panel's layout depends on its
// number of outputs, so n must be the one it was packed with.
//
// Rows of x lie pages apart, where the hardware asks for nothing by itself: every TILE_STEPS cells a tile asks for
// the same cells of the rows that come after its own, and for lines of the weights that are packed next.
#ifndef IV_KERNELS_TILE_LANES_H
#define IV_KERNELS_TILE_LANES_H

#include "kernels/panel_lanes.h"

struct tile_at {
    float *y;
    size_t y_stride;
    const uint8_t *x;
    size_t x_stride;
    const uint8_t *panel;
    size_t cells; // of k
    size_t last;  // columns of the last vector
    const float *bias;
    bool add;
    size_t rows_next;    // rows of x behind these
    struct ahead *ahead; // never NULL
};

ALWAYS_INLINE void tile_ask(const struct tile_at *a, const uint8_t *x)
{
    struct ahead *w = a->ahead;
    for (size_t r = 0; r < a->rows_next; r++)
        __builtin_prefetch(x + r * a->x_stride, 0, 2);
    for (size_t i = 0; i < w->lines && w->at < w->end; i++) {
        __builtin_prefetch(w->at, 0, 2);
        w->at += TILE_LINE;
        if (w->at >= w->end && w->rows > 0) {
            w->rows--;
            w->at = w->end + w->gap;
            w->end = w->at + w->row_bytes;
        }
    }
}

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
#define TILE_BIAS(r, c)                                                                            \
    if (r < R && c < C)                                                                            \
        s##r##c = b##c;
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
    } else if (a->bias) {
        const lanes b0 = tile_load(a->bias, TILE_N(0));
        const lanes b1 = C > 1 ? tile_load(a->bias + LANES, TILE_N(1)) : b0;
        const lanes b2 = C > 2 ? tile_load(a->bias + 2 * LANES, TILE_N(2)) : b0;
        const lanes b3 = C > 3 ? tile_load(a->bias + 3 * LANES, TILE_N(3)) : b0;
        TILE_ALL(TILE_BIAS)
    }
    const uint8_t *panel = a->panel, *x0 = a->x, *x3 = R > 3 ? x0 + 3 * a->x_stride : x0;
    const size_t xs = a->x_stride;
    const lanes none = lanes_zero();
    for (size_t left = a->cells, some; left != 0; left -= some) {
        some = min_size(left, TILE_STEPS);
        tile_ask(a, x0 + (size_t)R * xs);
        for (size_t i = some; i != 0; i--) {
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
    }
    TILE_ALL(TILE_STORE)
#undef TILE_ROW
#undef TILE_FMA
#undef TILE_STORE
#undef TILE_BIAS
#undef TILE_LOAD
#undef TILE_ZERO
#undef TILE_N
#undef TILE_AT
#undef TILE_ALL
#undef TILE_VECTORS
}

// Rows taken next of those left: two shares at the end, since few sums wait for each other.
static inline size_t tile_rows(size_t left)
{
    return left <= TILE_ROWS || left >= 2 * TILE_ROWS ? min_size(left, TILE_ROWS) : div_up(left, 2);
}

ALWAYS_INLINE void tile_width(const struct tile_job *j, const int C)
{
    struct ahead none = {0};
    struct tile_at a = {
        .y_stride = j->y_stride,
        .x_stride = j->x_stride,
        .panel = j->panel,
        .cells = div_up(j->k, CELL_INPUTS),
        .last = j->n - LANES * (size_t)(C - 1),
        .bias = j->bias,
        .add = j->add,
        .ahead = j->ahead ? j->ahead : &none,
    };
    for (size_t r = 0; r < j->m;) {
        size_t left = j->m - r, rows = tile_rows(left);
        a.rows_next = min_size(left + j->x_more - rows, TILE_ROWS);
        a.y = j->y + r * j->y_stride;
        a.x = (const uint8_t *)j->x + r * j->x_stride;
#ifdef IV_SANITIZED // one function of the same lines: many take longer to instrument than to run
        tile_body(&a, (int)rows, C);
#else
        switch (rows) {
        case 6:
            tile_body(&a, 6, C);
            break;
        case 5:
            tile_body(&a, 5, C);
            break;
        case 4:
            tile_body(&a, 4, C);
            break;
        case 3:
            tile_body(&a, 3, C);
            break;
        case 2:
            tile_body(&a, 2, C);
            break;
        default:
            tile_body(&a, 1, C);
        }
#endif
        r += rows;
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
    // panels, and behind them room to unpack the blocks of one
    p->scratch_bytes = PANEL_BLOCK * PANEL_DEPTH * p->x_elem + PANEL * PANEL_DEPTH * sizeof(float);
    p->tile = tile_lanes;
}

#endif
