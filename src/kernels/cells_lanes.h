// SPDX-License-Identifier: MIT
// What the products' kernels read, in the vector vocabulary of a lanes_*.h, which the including file has
// named first: stored weights as vectors of 32-bit cells, and prepared rows.
//
// A cell is one f32, or in a tier that multiplies bf16 a pair of those: it defines CELL_INPUTS as 2,
// the cells_* functions, cells_store (n lanes as bf16) and cells_pair (two vectors as one) before including this.
//
// Easy to get wrong: in bf16 both factors must be rounded, F32 and F16 weights too; readers take whole
// vectors of a prepared row, so its end must be zeros (a NaN left there would meet a weight of zero).
#ifndef IV_KERNELS_CELLS_LANES_H
#define IV_KERNELS_CELLS_LANES_H

#include <string.h>

#include "base/size.h"
#include "kernels/tiers.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// How the elements of a prepared row are kept.
enum form { FORM_F32, FORM_ROUNDED, FORM_BF16 };

ALWAYS_INLINE lanes weight_lanes(const uint8_t *w, enum dtype t, bool round)
{
    lanes v = t == DT_F32 ? lanes_load(w) : t == DT_BF16 ? lanes_load_bf16(w) : lanes_load_f16(w);
    return round && t != DT_BF16 ? lanes_round_bf16(v) : v;
}

ALWAYS_INLINE lanes weight_lanes_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    lanes v = t == DT_F32    ? lanes_load_n(w, n)
              : t == DT_BF16 ? lanes_load_bf16_n(w, n)
                             : lanes_load_f16_n(w, n);
    return round && t != DT_BF16 ? lanes_round_bf16(v) : v;
}

#ifndef CELL_INPUTS
#define CELL_INPUTS 1

// LANES cells from LANES * CELL_INPUTS weights of a row, or from the first n with zeros behind.
ALWAYS_INLINE lanes cells_weights(const uint8_t *w, enum dtype t, bool round)
{
    return weight_lanes(w, t, round);
}

ALWAYS_INLINE lanes cells_weights_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    return weight_lanes_n(w, t, round, n);
}

// sum + x w, cell by cell
ALWAYS_INLINE lanes cells_fma(lanes sum, lanes x, lanes w)
{
    return lanes_fma(x, w, sum);
}
#endif

// Stores n lanes of v as elements [i, i + n) of a prepared row.
ALWAYS_INLINE void form_store(uint8_t *row, size_t i, lanes v, enum form form, size_t n)
{
#if CELL_INPUTS == 2
    if (form == FORM_BF16) {
        cells_store(row + 2 * i, v, n);
        return;
    }
#endif
    lanes_store_n(row + 4 * i, form == FORM_ROUNDED ? lanes_round_bf16(v) : v, n);
}

// 2 * LANES elements from i on.
ALWAYS_INLINE void form_store2(uint8_t *row, size_t i, lanes low, lanes high, enum form form)
{
#if CELL_INPUTS == 2
    if (form == FORM_BF16) {
        lanes_store(row + 2 * i, cells_pair(low, high));
        return;
    }
#endif
    form_store(row, i, low, form, LANES);
    form_store(row, i + LANES, high, form, LANES);
}

// Element i of a prepared row in every lane.
ALWAYS_INLINE lanes form_splat(const uint8_t *row, size_t i, enum form form)
{
    if (form == FORM_BF16) {
        uint16_t h;
        memcpy(&h, row + 2 * i, sizeof h);
        return lanes_set(bf16_to_f32(h));
    }
    float f;
    memcpy(&f, row + 4 * i, sizeof f);
    return lanes_set(f);
}

ALWAYS_INLINE void prepare_form(const struct product_kernels *p, uint8_t *dst, const float *x,
                                size_t x_stride, size_t m, size_t k, enum form form)
{
    size_t bytes = product_x_stride(p, k);
    size_t used = k * (form == FORM_BF16 ? 2 : 4);
    for (size_t r = 0; r < m; r++, dst += bytes, x += x_stride) {
        size_t i = 0;
        for (; i + LANES <= k; i += LANES)
            form_store(dst, i, lanes_load(x + i), form, LANES);
        form_store(dst, i, lanes_load_n(x + i, k - i), form, k - i);
        memset(dst + used, 0, bytes - used);
    }
}

#endif
