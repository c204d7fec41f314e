// SPDX-License-Identifier: MIT
// int8 products with the dot products of Armv8.2: a cell is four levels and sdot adds the four products, both factors
// signed, to a cell's sum.
#include "kernels/arm/sums_neon.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  4
#define INT8_VECTORS 4
#define int8_blocks  int8_levels_unpacked

#define sums_start(step) sums_none()

static inline sums sums_add(sums s, sums x, sums w)
{
    return vdotq_s32(s, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

static inline lanes cells_of(const int8_t *q)
{
    return vreinterpretq_f32_s8(vld1q_s8(q));
}

static float int8_levels_unpacked(int8_t *q, const void *w, enum dtype t, size_t n);

#include "kernels/int8_lanes.h"

#include "kernels/int8_blocks_lanes.h"

void kernels_set_neondotprod(struct kernels *k)
{
    k->tier = CPU_NEONDOTPROD;
    int8_set_lanes(&k->int8);
}
