// SPDX-License-Identifier: MIT
// The vector vocabulary of rows_lanes.h and product_lanes.h in AVX-512 (f, bw, dq, vl): 16 lanes of f32.
// Every lanes_*.h defines the same names. Partial loads give zero in the missing lanes and, like partial
// stores, touch only the first n elements, 0 <= n <= LANES. min and max return the second operand when
// one is a NaN.
#ifndef IV_KERNELS_X86_LANES_AVX512_H
#define IV_KERNELS_X86_LANES_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

enum {
    LANES = 16,
    FEW_X = 4, // rows of x against four of w in 32 registers
};

#define PANEL_VECTORS 4

typedef __m512 lanes;

static inline __mmask16 lanes_first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline lanes lanes_zero(void)
{
    return _mm512_setzero_ps();
}

static inline lanes lanes_set(float v)
{
    return _mm512_set1_ps(v);
}

// The 32 bits at p in every lane.
static inline lanes lanes_splat(const void *p)
{
    return _mm512_castsi512_ps(_mm512_set1_epi32(*(const int32_t *)p));
}

static inline lanes lanes_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

static inline lanes lanes_load_n(const void *p, size_t n)
{
    return _mm512_maskz_loadu_ps(lanes_first(n), p);
}

static inline void lanes_store(void *p, lanes v)
{
    _mm512_storeu_ps(p, v);
}

static inline void lanes_store_n(void *p, lanes v, size_t n)
{
    _mm512_mask_storeu_ps(p, lanes_first(n), v);
}

static inline lanes lanes_add(lanes a, lanes b)
{
    return _mm512_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    return _mm512_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    return _mm512_mul_ps(a, b);
}

static inline lanes lanes_div(lanes a, lanes b)
{
    return _mm512_div_ps(a, b);
}

// a * b + c
static inline lanes lanes_fma(lanes a, lanes b, lanes c)
{
    return _mm512_fmadd_ps(a, b, c);
}

// c - a * b
static inline lanes lanes_fnma(lanes a, lanes b, lanes c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

static inline lanes lanes_min(lanes a, lanes b)
{
    return _mm512_min_ps(a, b);
}

static inline lanes lanes_max(lanes a, lanes b)
{
    return _mm512_max_ps(a, b);
}

static inline lanes lanes_abs(lanes a)
{
    return _mm512_abs_ps(a);
}

// Nearest integer, ties to even.
static inline lanes lanes_round(lanes a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// a * 2^n, n integers in [-160, 160].
static inline lanes lanes_scale2(lanes a, lanes n)
{
    return _mm512_scalef_ps(a, n);
}

// Where x < 0 a, else (NaN too) b.
static inline lanes lanes_if_negative(lanes x, lanes a, lanes b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}

static inline float lanes_first_of(lanes a)
{
    return _mm512_cvtss_f32(a);
}

static inline __m128 lanes_fold(lanes a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

// Writes the n <= 4 first of the sums of a, b, c, d: each the same fixed tree.
static inline void lanes_sum4(float *out, lanes a, lanes b, lanes c, lanes d, size_t n)
{
    __m128 r0 = lanes_fold(a), r1 = lanes_fold(b), r2 = lanes_fold(c), r3 = lanes_fold(d);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    __m128 sum = _mm_add_ps(_mm_add_ps(r0, r1), _mm_add_ps(r2, r3));
    _mm_mask_storeu_ps(out, (__mmask8)lanes_first(n), sum);
}

// The halves of a and b side by side, each added to its own other half.
static inline lanes lanes_fold2(lanes a, lanes b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 1, 0)),
                         _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
}

// The same of quarters, of what lanes_fold2 gave.
static inline lanes lanes_fold4(lanes a, lanes b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
}

// The sums of a's four, b's, c's and d's: as four times lanes_sum4, to the bit.
#define LANES_SUM16
static inline lanes lanes_sums16(const lanes a[4], const lanes b[4], const lanes c[4],
                                 const lanes d[4])
{
    // 128 bits of each are one vector's, folded; a[0] b[0] c[0] d[0], then a[1] b[1] ...
    lanes r0 = lanes_fold4(lanes_fold2(a[0], b[0]), lanes_fold2(c[0], d[0]));
    lanes r1 = lanes_fold4(lanes_fold2(a[1], b[1]), lanes_fold2(c[1], d[1]));
    lanes r2 = lanes_fold4(lanes_fold2(a[2], b[2]), lanes_fold2(c[2], d[2]));
    lanes r3 = lanes_fold4(lanes_fold2(a[3], b[3]), lanes_fold2(c[3], d[3]));
    lanes t0 = _mm512_unpacklo_ps(r0, r1), t1 = _mm512_unpacklo_ps(r2, r3);
    lanes t2 = _mm512_unpackhi_ps(r0, r1), t3 = _mm512_unpackhi_ps(r2, r3);
    lanes s0 = _mm512_shuffle_ps(t0, t1, _MM_SHUFFLE(1, 0, 1, 0));
    lanes s1 = _mm512_shuffle_ps(t0, t1, _MM_SHUFFLE(3, 2, 3, 2));
    lanes s2 = _mm512_shuffle_ps(t2, t3, _MM_SHUFFLE(1, 0, 1, 0));
    lanes s3 = _mm512_shuffle_ps(t2, t3, _MM_SHUFFLE(3, 2, 3, 2));
    return _mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3));
}

// Writes the n <= 4 first of a's sums to out, of b's to out + stride and so on.
static inline void lanes_sum16(float *out, size_t stride, const lanes a[4], const lanes b[4],
                               const lanes c[4], const lanes d[4], size_t n)
{
    const lanes sum = lanes_sums16(a, b, c, d);
    if (n == 4) {
        _mm_storeu_ps(out, _mm512_castps512_ps128(sum));
        _mm_storeu_ps(out + stride, _mm512_extractf32x4_ps(sum, 1));
        _mm_storeu_ps(out + 2 * stride, _mm512_extractf32x4_ps(sum, 2));
        _mm_storeu_ps(out + 3 * stride, _mm512_extractf32x4_ps(sum, 3));
        return;
    }
    // not by masked stores: gcc 12 makes a masked vextractf32x4 of them, which may fault for what is masked
    float all[LANES];
    _mm512_storeu_ps(all, sum);
    for (size_t r = 0; r < 4; r++)
        memcpy(out + r * stride, all + 4 * r, n * sizeof *out);
}

static inline float lanes_sum(lanes a)
{
    __m128 f = lanes_fold(a);
    f = _mm_add_ps(f, _mm_movehdup_ps(f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehl_ps(f, f)));
}

static inline float lanes_max_of(lanes a)
{
    return _mm512_reduce_max_ps(a);
}

// The value of a as bf16: nearest even, NaN stays.
static inline __m512i lanes_bf16_bits(lanes a)
{
    __m512i u = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(up, nan, u, _mm512_set1_epi32(0x400000));
}

static inline lanes lanes_round_bf16(lanes a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(lanes_bf16_bits(a), _mm512_set1_epi32(-0x10000)));
}

static inline lanes lanes_from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline lanes lanes_load_bf16(const void *p)
{
    return lanes_from_bf16(_mm256_loadu_si256(p));
}

static inline lanes lanes_load_bf16_n(const void *p, size_t n)
{
    return lanes_from_bf16(_mm256_maskz_loadu_epi16(lanes_first(n), p));
}

static inline void lanes_store_bf16_n(void *p, lanes v, size_t n)
{
    __m256i h = _mm512_cvtepi32_epi16(_mm512_srli_epi32(lanes_bf16_bits(v), 16));
    _mm256_mask_storeu_epi16(p, lanes_first(n), h);
}

static inline lanes lanes_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline lanes lanes_load_f16_n(const void *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_first(n), p));
}

static inline void lanes_store_f16_n(void *p, lanes v, size_t n)
{
    __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, lanes_first(n), h);
}

// Four rows of 16 cells: in each 128-bit part the 4 x 4 cells are transposed.
static inline void transpose_cells(lanes *a, lanes *b, lanes *c, lanes *d)
{
    __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(*a, *b));
    __m512d ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(*a, *b));
    __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(*c, *d));
    __m512d cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(*c, *d));
    *a = _mm512_castpd_ps(_mm512_unpacklo_pd(ab0, cd0));
    *b = _mm512_castpd_ps(_mm512_unpackhi_pd(ab0, cd0));
    *c = _mm512_castpd_ps(_mm512_unpacklo_pd(ab1, cd1));
    *d = _mm512_castpd_ps(_mm512_unpackhi_pd(ab1, cd1));
}

// The 4 x 4 parts of four vectors are transposed.
static inline void transpose_parts(lanes *a, lanes *b, lanes *c, lanes *d)
{
    lanes ab0 = _mm512_shuffle_f32x4(*a, *b, 0x44), ab1 = _mm512_shuffle_f32x4(*a, *b, 0xee);
    lanes cd0 = _mm512_shuffle_f32x4(*c, *d, 0x44), cd1 = _mm512_shuffle_f32x4(*c, *d, 0xee);
    *a = _mm512_shuffle_f32x4(ab0, cd0, 0x88);
    *b = _mm512_shuffle_f32x4(ab0, cd0, 0xdd);
    *c = _mm512_shuffle_f32x4(ab1, cd1, 0x88);
    *d = _mm512_shuffle_f32x4(ab1, cd1, 0xdd);
}

// 16 x 16 cells are transposed.
static inline void lanes_transpose(lanes r[LANES])
{
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
        transpose_cells(&r[i], &r[i + 1], &r[i + 2], &r[i + 3]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        transpose_parts(&r[i], &r[i + 4], &r[i + 8], &r[i + 12]);
}

#endif
