// SPDX-License-Identifier: MIT
// int8 products in AVX2: levels are kept in 16 bits, a cell is two of them and vpmaddwd adds both products. (On 8
// bits vpmaddubsw would saturate.)
#include "kernels/x86/sums_avx2.h"

#include "kernels/int8_parts.h"

#define CELL_LEVELS  2
#define INT8_VECTORS 2
#define int8_blocks  int8_levels_plain

#define sums_start(step) sums_none()

static inline sums sums_add(sums s, sums x, sums w)
{
    return _mm256_add_epi32(s, _mm256_madd_epi16(x, w));
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
