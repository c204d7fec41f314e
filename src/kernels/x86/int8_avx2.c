// SPDX-License-Identifier: MIT
// int8 products in AVX2: levels are kept in 16 bits, a cell is two of them and vpmaddwd adds both products. (On 8
// bits vpmaddubsw would saturate.)
#include "kernels/x86/lanes_avx2.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  2
#define INT8_VECTORS 2
#define int8_blocks  int8_levels_plain

typedef __m256i sums;

static inline sums sums_none(void)
{
    return _mm256_setzero_si256();
}

#define sums_start(step) sums_none()

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

static inline sums sums_add(sums s, sums x, sums w)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(x, w));
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

static inline lanes cells_of(const int8_t *q)
{
    return _mm256_castsi256_ps(
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)q)));
}

#include "kernels/int8_lanes.h"

void int8_set_avx2(struct product_kernels *p)
{
    int8_set_lanes(p);
}
