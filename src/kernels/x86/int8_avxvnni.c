// SPDX-License-Identifier: MIT
// int8 products in AVX-VNNI, on processors without AVX-512: a cell is four levels and vpdpbusd adds the four products
// to a cell's sum, as in int8_avx512vnni.c with half its lanes; all else of the tier is AVX2.
//
// Easy to get wrong: the first factor is unsigned, so panels hold level + 128; without {vex} the assembler may choose
// the encoding of AVX-512.
#include "kernels/x86/sums_avx2.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  4
#define INT8_VECTORS 2
#define int8_blocks  int8_levels_unpacked

#define sums_start(step) sums_splat(&(step)->base)

// In assembly for the reason given in int8_avx512vnni.c.
static inline sums sums_add(sums s, sums x, sums w)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(s) : "x"(w), "x"(x));
    return s;
}

static inline lanes cells_of(const int8_t *q)
{
    __m256i levels = _mm256_loadu_si256((const __m256i *)(const void *)q);
    return _mm256_castsi256_ps(_mm256_xor_si256(levels, _mm256_set1_epi8(-128)));
}

static float int8_levels_unpacked(int8_t *q, const void *w, enum dtype t, size_t n);

#include "kernels/int8_lanes.h"

#include "kernels/int8_blocks_lanes.h"

void kernels_set_avxvnni(struct kernels *k)
{
    k->tier = CPU_AVXVNNI;
    int8_set_lanes(&k->int8);
    k->int8.for_blocks = true;
}
