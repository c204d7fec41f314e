// SPDX-License-Identifier: MIT
// int8 products in Advanced SIMD: levels are kept in 16 bits, a cell is two of them. The baseline has no dot
// products of bytes, so this is for the same answers at the speed of f32, not for more.
#include "kernels/arm/sums_neon.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  2
#define INT8_VECTORS 4
#define int8_blocks  int8_levels_plain

#define sums_start(step) sums_none()

static inline sums sums_add(sums s, sums x, sums w)
{
    int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(w);
    int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    return vaddq_s32(s, vpaddq_s32(low, vmull_high_s16(a, b)));
}

static inline lanes cells_of(const int8_t *q)
{
    return vreinterpretq_f32_s16(vmovl_s8(vld1_s8(q)));
}

#include "kernels/int8_lanes.h"

void int8_set_neon(struct product_kernels *p)
{
    int8_set_lanes(p);
}
