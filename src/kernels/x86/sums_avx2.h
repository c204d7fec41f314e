// SPDX-License-Identifier: MIT
// What int8_lanes.h asks of vectors of integers, in AVX2; a tier adds its own sums_start, sums_add and cells_of.
#ifndef IV_KERNELS_X86_SUMS_AVX2_H
#define IV_KERNELS_X86_SUMS_AVX2_H

#include "kernels/x86/lanes_avx2.h"

typedef __m256i sums;

static inline sums sums_none(void)
{
    return _mm256_setzero_si256();
}

static inline sums sums_splat(const void *p)
{
    return _mm256_castps_si256(_mm256_broadcast_ss(p));
}

static inline sums sums_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline sums sums_plus(sums a, sums b)
{
    return _mm256_add_epi32(a, b);
}

static inline lanes sums_f32(sums s)
{
    return _mm256_cvtepi32_ps(s);
}

static inline sums sums_round(lanes v)
{
    return _mm256_cvtps_epi32(v);
}

static inline int32_t sums_total(sums s)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

static inline sums sums_size(lanes v)
{
    return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}

static inline sums sums_larger(sums a, sums b)
{
    return _mm256_max_epu32(a, b);
}

static inline uint32_t sums_largest(sums s)
{
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(h, _mm_shuffle_epi32(h, 0xb1)));
}

static inline void levels_store(int8_t *q, sums s)
{
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    _mm_storel_epi64((__m128i *)(void *)q, _mm_packs_epi16(h, h));
}

#endif
