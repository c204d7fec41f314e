// SPDX-License-Identifier: MIT
// Panels in the vector vocabulary of a lanes_*.h, which the including file has named first. A panel holds
// up to PANEL outputs as steps over the inputs, each step C vectors of LANES cells, C as the outputs
// need. Packing is the transposition of LANES x LANES cells.
//
// A tier with two inputs a cell has defined cells_column too.
#ifndef IV_KERNELS_PANEL_LANES_H
#define IV_KERNELS_PANEL_LANES_H

#include "kernels/cells_lanes.h"

enum {
    PANEL = PANEL_VECTORS * LANES, // outputs
    PANEL_BLOCK = 64,              // outputs packed at a time
    PANEL_AHEAD = 16,              // rows of a transposed matrix asked for early
    PANEL_DEPTH = 2048, // inputs: in bf16 these are 256 KiB of L2, and as much for the next
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
            for (size_t q = 0; q < CELL_INPUTS;
                 q++) // rows lie far apart: no stream for the hardware
                __builtin_prefetch(from + (PANEL_AHEAD + q) * row_bytes);
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

#endif
