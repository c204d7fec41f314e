// SPDX-License-Identifier: MIT
// int8 products in Advanced SIMD: levels are kept in 16 bits, a cell is two of them. The baseline has no dot
// products of bytes, so this is for the same answers at the speed of f32, not for more.
#include "kernels/arm/lanes_neon.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  2
#define INT8_VECTORS 4
#define int8_blocks  int8_levels_plain

typedef int32x4_t sums;

static inline sums sums_none(void)
{
    return vdupq_n_s32(0);
}

#define sums_start(step) sums_none()

static inline sums sums_splat(const void *p)
{
    return vreinterpretq_s32_f32(lanes_splat(p));
}

static inline sums sums_load(const void *p)
{
    return vreinterpretq_s32_f32(lanes_load(p));
}

static inline sums sums_plus(sums a, sums b)
{
    return vaddq_s32(a, b);
}

static inline sums sums_add(sums s, sums x, sums w)
{
    int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(w);
    int32x4_t low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    return vaddq_s32(s, vpaddq_s32(low, vmull_high_s16(a, b)));
}

static inline lanes sums_f32(sums s)
{
    return vcvtq_f32_s32(s);
}

static inline sums sums_round(lanes v)
{
    return vcvtnq_s32_f32(v);
}

static inline int32_t sums_total(sums s)
{
    return vaddvq_s32(s);
}

static inline sums sums_size(lanes v)
{
    return vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7fffffff));
}

// Sizes have no sign.
static inline sums sums_larger(sums a, sums b)
{
    return vmaxq_s32(a, b);
}

static inline uint32_t sums_largest(sums s)
{
    return (uint32_t)vmaxvq_s32(s);
}

static inline void levels_store(int8_t *q, sums s)
{
    int16x4_t h = vqmovn_s32(s);
    vst1_lane_s32((int32_t *)(void *)q, vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(h, h))), 0);
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
