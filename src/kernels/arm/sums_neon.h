// SPDX-License-Identifier: MIT
// What int8_lanes.h asks of vectors of integers, in Advanced SIMD; a tier adds its own sums_start, sums_add and
// cells_of.
#ifndef IV_KERNELS_ARM_SUMS_NEON_H
#define IV_KERNELS_ARM_SUMS_NEON_H

#include "kernels/arm/lanes_neon.h"

typedef int32x4_t sums;

static inline sums sums_none(void)
{
    return vdupq_n_s32(0);
}

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

#endif
