// SPDX-License-Identifier: MIT
// The vector vocabulary of lanes_avx512.h in AVX2 with FMA and F16C: 8 lanes of f32.
#ifndef IV_KERNELS_X86_LANES_AVX2_H
#define IV_KERNELS_X86_LANES_AVX2_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

enum {
    LANES = 8,
    FEW_X = 2, // rows of x against four of w in 16 registers
};

#define PANEL_VECTORS 2

typedef __m256 lanes;

// All ones in the first n lanes.
static inline __m256i lanes_first(size_t n)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}

static inline lanes lanes_zero(void)
{
    return _mm256_setzero_ps();
}

static inline lanes lanes_set(float v)
{
    return _mm256_set1_ps(v);
}

static inline lanes lanes_splat(const void *p)
{
    return _mm256_broadcast_ss(p);
}

static inline lanes lanes_load(const void *p)
{
    return _mm256_loadu_ps(p);
}

static inline lanes lanes_load_n(const void *p, size_t n)
{
    return _mm256_maskload_ps(p, lanes_first(n));
}

static inline void lanes_store(void *p, lanes v)
{
    _mm256_storeu_ps(p, v);
}

static inline void lanes_store_n(void *p, lanes v, size_t n)
{
    if (n == LANES)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, lanes_first(n), v);
}

static inline lanes lanes_add(lanes a, lanes b)
{
    return _mm256_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    return _mm256_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    return _mm256_mul_ps(a, b);
}

static inline lanes lanes_div(lanes a, lanes b)
{
    return _mm256_div_ps(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline lanes lanes_fnma(lanes a, lanes b, lanes c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

static inline lanes lanes_min(lanes a, lanes b)
{
    return _mm256_min_ps(a, b);
}

static inline lanes lanes_max(lanes a, lanes b)
{
    return _mm256_max_ps(a, b);
}

static inline lanes lanes_abs(lanes a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline lanes lanes_round(lanes a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// In two factors, each a normal number, since 2^n may be neither normal nor finite.
static inline lanes lanes_scale2(lanes a, lanes n)
{
    __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
    __m256i one = _mm256_set1_epi32(127);
    __m256i f = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    __m256i g = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(f)), _mm256_castsi256_ps(g));
}

static inline lanes lanes_if_negative(lanes x, lanes a, lanes b)
{
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}

static inline float lanes_first_of(lanes a)
{
    return _mm256_cvtss_f32(a);
}

static inline __m128 lanes_fold(lanes a)
{
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
}

static inline void lanes_sum4(float *out, lanes a, lanes b, lanes c, lanes d, size_t n)
{
    __m128 r0 = lanes_fold(a), r1 = lanes_fold(b), r2 = lanes_fold(c), r3 = lanes_fold(d);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    __m128 sum = _mm_add_ps(_mm_add_ps(r0, r1), _mm_add_ps(r2, r3));
    _mm_maskstore_ps(out, _mm256_castsi256_si128(lanes_first(n)), sum);
}

static inline float lanes_sum(lanes a)
{
    __m128 f = lanes_fold(a);
    f = _mm_add_ps(f, _mm_movehdup_ps(f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehl_ps(f, f)));
}

static inline float lanes_max_of(lanes a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline __m256i lanes_bf16_bits(lanes a)
{
    __m256i u = _mm256_castps_si256(a);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    __m256 is_nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
    return _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(nan), is_nan));
}

static inline lanes lanes_round_bf16(lanes a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(lanes_bf16_bits(a), _mm256_set1_epi32(-0x10000)));
}

static inline lanes lanes_from_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

// There are no masked loads and stores of 16-bit elements: the few of a tail go through memory.
static inline __m128i lanes_half_n(const void *p, size_t n)
{
    uint16_t h[LANES] = {0};
    memcpy(h, p, n * sizeof *h);
    return _mm_loadu_si128((const __m128i *)(const void *)h);
}

static inline void lanes_store_half_n(void *p, __m128i v, size_t n)
{
    if (n == LANES) {
        _mm_storeu_si128(p, v);
        return;
    }
    uint16_t h[LANES];
    _mm_storeu_si128((__m128i *)(void *)h, v);
    memcpy(p, h, n * sizeof *h);
}

static inline lanes lanes_load_bf16(const void *p)
{
    return lanes_from_bf16(_mm_loadu_si128(p));
}

static inline lanes lanes_load_bf16_n(const void *p, size_t n)
{
    return lanes_from_bf16(lanes_half_n(p, n));
}

static inline void lanes_store_bf16_n(void *p, lanes v, size_t n)
{
    __m256i h = _mm256_srli_epi32(lanes_bf16_bits(v), 16);
    lanes_store_half_n(
        p, _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)), n);
}

static inline lanes lanes_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

static inline lanes lanes_load_f16_n(const void *p, size_t n)
{
    return _mm256_cvtph_ps(lanes_half_n(p, n));
}

static inline void lanes_store_f16_n(void *p, lanes v, size_t n)
{
    lanes_store_half_n(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), n);
}

static inline void transpose_cells(lanes *a, lanes *b, lanes *c, lanes *d)
{
    __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(*a, *b));
    __m256d ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(*a, *b));
    __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(*c, *d));
    __m256d cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(*c, *d));
    *a = _mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0));
    *b = _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0));
    *c = _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1));
    *d = _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1));
}

// 8 x 8 cells are transposed.
static inline void lanes_transpose(lanes r[LANES])
{
    transpose_cells(&r[0], &r[1], &r[2], &r[3]);
    transpose_cells(&r[4], &r[5], &r[6], &r[7]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        lanes low = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
        r[i] = low;
    }
}

#endif
