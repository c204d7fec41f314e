// SPDX-License-Identifier: MIT
// int8 products in AVX512-VNNI: a cell is four levels and vpdpbusd adds the four products to a cell's sum. Its
// first factor is unsigned, so panels hold level + 128 and a row's sums begin with -128 times the sum of its own
// levels, which `prepare` has noted.
//
// Easy to get wrong: which factor is unsigned. |sum| < 2^24 after a block, so it becomes f32 without a rounding.
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tiers_blocks.h"

#define CELL_LEVELS  4
#define INT8_VECTORS 4
#define int8_blocks  block_levels_avx512vnni

typedef __m512i sums;

static inline sums sums_none(void)
{
    return _mm512_setzero_si512();
}

static inline sums sums_splat(const void *p)
{
    return _mm512_set1_epi32(*(const int32_t *)p);
}

#define sums_start(step) sums_splat(&(step)->base)

static inline sums sums_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

// Not _mm512_dpbusd_epi32: gcc 12 copies the accumulator before and after it and runs out of registers.
static inline sums sums_add(sums s, sums x, sums w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(w), "v"(x));
    return s;
}

static inline lanes sums_f32(sums s)
{
    return _mm512_cvtepi32_ps(s);
}

static inline sums sums_round(lanes v)
{
    return _mm512_cvtps_epi32(v);
}

static inline sums sums_plus(sums a, sums b)
{
    return _mm512_add_epi32(a, b);
}

static inline int32_t sums_total(sums s)
{
    return _mm512_reduce_add_epi32(s);
}

static inline sums sums_size(lanes v)
{
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

static inline sums sums_larger(sums a, sums b)
{
    return _mm512_max_epu32(a, b);
}

static inline uint32_t sums_largest(sums s)
{
    return _mm512_reduce_max_epu32(s);
}

static inline void levels_store(int8_t *q, sums s)
{
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtsepi32_epi8(s));
}

static inline lanes cells_of(const int8_t *q)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_loadu_si512(q), _mm512_set1_epi8(-128)));
}

#include "kernels/int8_lanes.h"

void kernels_set_avx512vnni(struct kernels *k)
{
    k->tier = CPU_AVX512VNNI;
    int8_set_lanes(&k->int8);
    k->int8.for_blocks = true;
    k->int8.attention = attention_avx512vnni;
    dots_set_avx512vnni(&k->dots);
}
