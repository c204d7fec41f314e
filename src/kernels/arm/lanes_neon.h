// SPDX-License-Identifier: MIT
// The vector vocabulary of x86/lanes_avx512.h in Advanced SIMD (arm64 baseline): 4 lanes of f32.
#ifndef IV_KERNELS_ARM_LANES_NEON_H
#define IV_KERNELS_ARM_LANES_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

enum {
    LANES = 4,
    FEW_X = 4, // rows of x against four of w in 32 registers
};

#define PANEL_VECTORS 4

typedef float32x4_t lanes;

static inline lanes lanes_zero(void)
{
    return vdupq_n_f32(0);
}

static inline lanes lanes_set(float v)
{
    return vdupq_n_f32(v);
}

static inline lanes lanes_splat(const void *p)
{
    return vld1q_dup_f32(p);
}

// Byte loads, since weights may lie at any address.
static inline lanes lanes_load(const void *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}

static inline lanes lanes_load_n(const void *p, size_t n)
{
    float v[LANES] = {0};
    memcpy(v, p, n * sizeof *v);
    return vld1q_f32(v);
}

static inline void lanes_store(void *p, lanes v)
{
    vst1q_u8(p, vreinterpretq_u8_f32(v));
}

static inline void lanes_store_n(void *p, lanes v, size_t n)
{
    if (n == LANES) {
        lanes_store(p, v);
        return;
    }
    float out[LANES];
    vst1q_f32(out, v);
    memcpy(p, out, n * sizeof *out);
}

static inline lanes lanes_add(lanes a, lanes b)
{
    return vaddq_f32(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    return vsubq_f32(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    return vmulq_f32(a, b);
}

static inline lanes lanes_div(lanes a, lanes b)
{
    return vdivq_f32(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return vfmaq_f32(c, a, b);
}

static inline lanes lanes_fnma(lanes a, lanes b, lanes c)
{
    return vfmsq_f32(c, a, b);
}

// By comparison: the instructions give NaN where the vocabulary wants the second operand.
static inline lanes lanes_min(lanes a, lanes b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}

static inline lanes lanes_max(lanes a, lanes b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline lanes lanes_abs(lanes a)
{
    return vabsq_f32(a);
}

static inline lanes lanes_round(lanes a)
{
    return vrndnq_f32(a);
}

// In two factors, each a normal number, since 2^n may be neither normal nor finite.
static inline lanes lanes_scale2(lanes a, lanes n)
{
    int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1), one = vdupq_n_s32(127);
    int32x4_t f = vshlq_n_s32(vaddq_s32(half, one), 23);
    int32x4_t g = vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), one), 23);
    return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(f)), vreinterpretq_f32_s32(g));
}

static inline lanes lanes_if_negative(lanes x, lanes a, lanes b)
{
    return vbslq_f32(vcltzq_f32(x), a, b);
}

static inline float lanes_first_of(lanes a)
{
    return vgetq_lane_f32(a, 0);
}

static inline void lanes_sum4(float *out, lanes a, lanes b, lanes c, lanes d, size_t n)
{
    lanes_store_n(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)), n);
}

static inline float lanes_sum(lanes a)
{
    return vaddvq_f32(a);
}

static inline float lanes_max_of(lanes a)
{
    return vmaxvq_f32(a);
}

static inline uint32x4_t lanes_bf16_bits(lanes a)
{
    uint32x4_t u = vreinterpretq_u32_f32(a);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t up = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd);
    return vbslq_u32(vceqq_f32(a, a), up, vorrq_u32(u, vdupq_n_u32(0x400000)));
}

static inline lanes lanes_round_bf16(lanes a)
{
    return vreinterpretq_f32_u32(vandq_u32(lanes_bf16_bits(a), vdupq_n_u32(0xffff0000u)));
}

static inline uint16x4_t lanes_half(const void *p)
{
    return vreinterpret_u16_u8(vld1_u8(p));
}

static inline uint16x4_t lanes_half_n(const void *p, size_t n)
{
    uint16_t h[LANES] = {0};
    memcpy(h, p, n * sizeof *h);
    return vld1_u16(h);
}

static inline void lanes_store_half_n(void *p, uint16x4_t v, size_t n)
{
    if (n == LANES) {
        vst1_u8(p, vreinterpret_u8_u16(v));
        return;
    }
    uint16_t h[LANES];
    vst1_u16(h, v);
    memcpy(p, h, n * sizeof *h);
}

static inline lanes lanes_from_bf16(uint16x4_t h)
{
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

static inline lanes lanes_load_bf16(const void *p)
{
    return lanes_from_bf16(lanes_half(p));
}

static inline lanes lanes_load_bf16_n(const void *p, size_t n)
{
    return lanes_from_bf16(lanes_half_n(p, n));
}

static inline void lanes_store_bf16_n(void *p, lanes v, size_t n)
{
    lanes_store_half_n(p, vshrn_n_u32(lanes_bf16_bits(v), 16), n);
}

static inline lanes lanes_load_f16(const void *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(lanes_half(p)));
}

static inline lanes lanes_load_f16_n(const void *p, size_t n)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(lanes_half_n(p, n)));
}

static inline void lanes_store_f16_n(void *p, lanes v, size_t n)
{
    lanes_store_half_n(p, vreinterpret_u16_f16(vcvt_f16_f32(v)), n);
}

// 4 x 4 cells are transposed.
static inline void lanes_transpose(lanes r[LANES])
{
    float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
    float64x2_t ab1 = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    float64x2_t cd0 = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
    float64x2_t cd1 = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1));
}

#endif
