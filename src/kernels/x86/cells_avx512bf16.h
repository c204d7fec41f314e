// SPDX-License-Identifier: MIT
// The cells of AVX512-BF16, in the vocabulary of cells_lanes.h: pairs of bf16, of which vdpbf16ps adds both products
// to a cell's f32 sum.
//
// Easy to get wrong: the instruction takes subnormal factors as zero and flushes subnormal sums; and
// vcvtne2ps2bf16 puts its second operand into the lower half.
#ifndef IV_KERNELS_X86_CELLS_AVX512BF16_H
#define IV_KERNELS_X86_CELLS_AVX512BF16_H

#include "kernels/x86/lanes_avx512.h"

#define CELL_INPUTS 2

static inline lanes cells_pair(lanes low, lanes high)
{
    __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    lanes bits;
    memcpy(&bits, &both, sizeof bits);
    return bits;
}

static inline lanes cells_weights(const uint8_t *w, enum dtype t, bool round)
{
    (void)round;
    if (t == DT_BF16)
        return lanes_load(w);
    if (t == DT_F16)
        return cells_pair(lanes_load_f16(w), lanes_load_f16(w + 32));
    return cells_pair(lanes_load(w), lanes_load(w + 64));
}

static inline lanes cells_weights_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    (void)round;
    size_t low = n < 16 ? n : 16, high = n - low;
    if (t == DT_BF16)
        return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), w));
    if (t == DT_F16)
        return cells_pair(lanes_load_f16_n(w, low), lanes_load_f16_n(w + 2 * low, high));
    return cells_pair(lanes_load_n(w, low), lanes_load_n(w + 4 * low, high));
}

// The lower half of a vector of bf16 and the upper one, alternating.
static inline lanes cells_alternate(lanes halves)
{
    static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_castsi512_ps(
        _mm512_permutexvar_epi16(_mm512_loadu_si512(order), _mm512_castps_si512(halves)));
}

static inline lanes cells_fma(lanes sum, lanes x, lanes w)
{
    __m512bh xb, wb;
    memcpy(&xb, &x, sizeof xb);
    memcpy(&wb, &w, sizeof wb);
    return _mm512_dpbf16_ps(sum, xb, wb);
}

static inline void cells_store(void *p, lanes v, size_t n)
{
    __m256bh h = _mm512_cvtneps_pbh(v);
    __m256i bits;
    memcpy(&bits, &h, sizeof bits);
    if (n == LANES)
        _mm256_storeu_si256(p, bits);
    else
        _mm256_mask_storeu_epi16(p, lanes_first(n), bits);
}

// The 16-bit elements of two rows, alternating.
static inline lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n)
{
    (void)round;
    const __mmask16 first = lanes_first(n), second = next ? first : 0;
    const uint8_t *other = next ? next : w;
    if (t == DT_BF16) {
        __m256i a = _mm256_maskz_loadu_epi16(first, w), b = _mm256_maskz_loadu_epi16(second, other);
        __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16);
        return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(a), high));
    }
    lanes a, b;
    if (t == DT_F32) {
        a = _mm512_maskz_loadu_ps(first, w);
        b = _mm512_maskz_loadu_ps(second, other);
    } else {
        a = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first, w));
        b = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(second, other));
    }
    return cells_alternate(cells_pair(a, b));
}

#endif
