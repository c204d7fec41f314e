// SPDX-License-Identifier: MIT
// Weights in blocks to levels of int8 in AVX-512, one block of 256 inputs at a time. Types of 4 and 5 bits have
// few values in a group: each becomes f32 and then a level once, in a table in a register, and vpshufb looks the
// weights up. The roundings are those of the plain reader and of int8.c, in their order, so the levels are the
// same to the bit.
//
// Easy to get wrong: no fused multiply-add; only a block's own bytes are read, it may be the last of a file; the
// halves of Q5_K's 32 levels are two tables.
#include <immintrin.h>

#include "kernels/int8_parts.h"
#include "kernels/x86/tiers_blocks.h"
#include "tensor/blocks.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

ALWAYS_INLINE __m128i load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

ALWAYS_INLINE __m256i load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ALWAYS_INLINE __m128i narrow(__m512 v, __m512 inverse)
{
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, inverse)));
}

ALWAYS_INLINE __m512 first_sixteen(float from)
{
    return _mm512_add_ps(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_ps(from));
}

// ---- Q4_K, Q5_K

struct groups {
    float step[8], from[8];
};

// Steps and minima of the 8 groups, and the bits of the largest size that they allow.
ALWAYS_INLINE uint32_t q45_k_groups(const uint8_t *b, float most, struct groups *g)
{
    uint32_t u0, u1, u2;
    memcpy(&u0, b + 4, 4);
    memcpy(&u1, b + 8, 4);
    memcpy(&u2, b + 12, 4);
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    uint64_t sc = (u0 & six) | (uint64_t)((u2 & four) | (u0 >> 6 & two) << 4) << 32;
    uint64_t mn = (u1 & six) | (uint64_t)((u2 >> 4 & four) | (u1 >> 6 & two) << 4) << 32;
    __m256 s = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)sc)));
    __m256 m = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mn)));
    s = _mm256_mul_ps(_mm256_set1_ps(half_at(b)), s);
    m = _mm256_mul_ps(_mm256_set1_ps(half_at(b + 2)), m);
    _mm256_storeu_ps(g->step, s);
    _mm256_storeu_ps(g->from, m);
    __m256 high = _mm256_sub_ps(_mm256_mul_ps(s, _mm256_set1_ps(most)), m);
    __m256 low = _mm256_sub_ps(_mm256_mul_ps(s, _mm256_setzero_ps()), m);
    const __m256i unsign = _mm256_set1_epi32(0x7fffffff);
    __m256i top = _mm256_max_epu32(_mm256_and_si256(_mm256_castps_si256(high), unsign),
                                   _mm256_and_si256(_mm256_castps_si256(low), unsign));
    __m128i h = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4e));
    h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(h);
}

// Levels of the sixteen weights q = `first` .. of group g.
ALWAYS_INLINE __m128i group_table(const struct groups *g, int i, __m512 first, __m512 inverse)
{
    __m512 v = _mm512_mul_ps(_mm512_set1_ps(g->step[i]), first);
    return narrow(_mm512_sub_ps(v, _mm512_set1_ps(g->from[i])), inverse);
}

// Tables of groups i and i + 1, each for its half of a register.
ALWAYS_INLINE __m512i two_tables(const struct groups *g, int i, __m512 first, __m512 inverse)
{
    __m512i t = _mm512_castsi128_si512(group_table(g, i, first, inverse));
    t = _mm512_inserti32x4(t, group_table(g, i + 1, first, inverse), 1);
    return _mm512_shuffle_i32x4(t, t, 0x50);
}

ALWAYS_INLINE float q45_k_levels(int8_t *q, const uint8_t *b, bool five)
{
    struct groups g;
    struct int8_scale s = int8_scale_of(q45_k_groups(b, five ? 31.0f : 15.0f, &g));
    if (s.inverse == 0) {
        memset(q, 0, BLOCK_SUPER);
        return s.step;
    }
    const uint8_t *qs = b + (five ? 48 : 16);
    const __m512 inverse = _mm512_set1_ps(s.inverse);
    const __m512i four = _mm512_set1_epi8(15);
    __m256i fifth = five ? load32(b + 16) : _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        __m256i v = load32(qs + 16 * i);
        __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(v), _mm256_srli_epi16(v, 4), 1);
        both = _mm512_and_si512(both, four);
        __m512i out = _mm512_shuffle_epi8(two_tables(&g, i, first_sixteen(0), inverse), both);
        if (five) {
            uint64_t low = _mm256_test_epi8_mask(fifth, _mm256_set1_epi8((char)(1 << i)));
            uint64_t high = _mm256_test_epi8_mask(fifth, _mm256_set1_epi8((char)(2 << i)));
            out = _mm512_mask_shuffle_epi8(out, low | high << 32,
                                           two_tables(&g, i, first_sixteen(16), inverse), both);
        }
        _mm512_storeu_si512(q + 32 * i, out);
    }
    return s.step;
}

// ---- Q6_K, Q8_0: as many values as weights

ALWAYS_INLINE float q6_k_levels(int8_t *q, const uint8_t *b)
{
    const float d = half_at(b + 208);
    __m128i sc = load16(b + 192);
    // the largest |scale| in 16 bits, where 128 has room
    __m256i wide = _mm256_abs_epi16(_mm256_cvtepi8_epi16(sc));
    __m128i h = _mm_max_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    int most = 0xffff - _mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(h, _mm_set1_epi16(-1))));
    most &= 0xffff;
    struct int8_scale s = int8_scale_of(int8_size_bits(d * (float)most * 32.0f));
    if (s.inverse == 0) {
        memset(q, 0, BLOCK_SUPER);
        return s.step;
    }
    float step[16];
    _mm512_storeu_ps(
        step, _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc))));
    const __m512 inverse = _mm512_set1_ps(s.inverse);
    const __m256i four = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m256i up = load32(b + 128 + 32 * half);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++, q += 32) {
            __m256i l = load32(b + 64 * half + 32 * (c & 1));
            __m256i u = c == 0   ? _mm256_slli_epi16(up, 4)
                        : c == 1 ? _mm256_slli_epi16(up, 2)
                        : c == 2 ? up
                                 : _mm256_srli_epi16(up, 2);
            l = _mm256_and_si256(c < 2 ? l : _mm256_srli_epi16(l, 4), four);
            l = _mm256_sub_epi8(_mm256_or_si256(l, _mm256_and_si256(u, two)), _mm256_set1_epi8(32));
            const float *at = step + 8 * half + 2 * c;
            __m512 v0 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(l)));
            __m512 v1 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(l, 1)));
            _mm_storeu_si128((__m128i *)(void *)q,
                             narrow(_mm512_mul_ps(_mm512_set1_ps(at[0]), v0), inverse));
            _mm_storeu_si128((__m128i *)(void *)(q + 16),
                             narrow(_mm512_mul_ps(_mm512_set1_ps(at[1]), v1), inverse));
        }
    }
    return s.step;
}

// ---- blocks of 32

ALWAYS_INLINE void q8_0_block(int8_t *q, const uint8_t *b, __m512 inverse)
{
    const __m512 d = _mm512_set1_ps(half_at(b));
#pragma GCC unroll 2
    for (int i = 0; i < 32; i += 16) {
        __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(b + 2 + i)));
        _mm_storeu_si128((__m128i *)(void *)(q + i), narrow(_mm512_mul_ps(v, d), inverse));
    }
}

// Table of the levels first, first + 1, ... of a block, (q - zero) d or q d + m.
ALWAYS_INLINE __m256i small_table(enum dtype t, const uint8_t *b, float first, __m512 inverse)
{
    const __m512 d = _mm512_set1_ps(half_at(b));
    __m512 v;
    if (t == DT_Q4_1)
        v = _mm512_add_ps(_mm512_mul_ps(first_sixteen(first), d), _mm512_set1_ps(half_at(b + 2)));
    else
        v = _mm512_mul_ps(first_sixteen(first - (t == DT_Q4_0 ? 8.0f : 16.0f)), d);
    return _mm256_broadcastsi128_si256(narrow(v, inverse));
}

ALWAYS_INLINE void small_block(int8_t *q, const uint8_t *b, enum dtype t, __m512 inverse)
{
    __m128i v = load16(b + (t == DT_Q4_0 ? 2 : t == DT_Q4_1 ? 4 : 6));
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1);
    both = _mm256_and_si256(both, _mm256_set1_epi8(15));
    __m256i out = _mm256_shuffle_epi8(small_table(t, b, 0, inverse), both);
    if (t == DT_Q5_0) {
        uint32_t high;
        memcpy(&high, b + 2, sizeof high);
        out = _mm256_mask_shuffle_epi8(out, high, small_table(t, b, 16, inverse), both);
    }
    _mm256_storeu_si256((__m256i *)(void *)q, out);
}

ALWAYS_INLINE uint32_t small_top(const uint8_t *b, enum dtype t)
{
    float d = half_at(b);
    if (t == DT_Q4_1) {
        float m = half_at(b + 2);
        uint32_t high = int8_size_bits(15.0f * d + m), low = int8_size_bits(0.0f * d + m);
        return high > low ? high : low;
    }
    return int8_size_bits(d * (t == DT_Q4_0 ? 8.0f : t == DT_Q5_0 ? 16.0f : 127.0f));
}

ALWAYS_INLINE float small_levels(int8_t *q, const uint8_t *b, enum dtype t, size_t bytes, size_t n)
{
    uint32_t top = 0;
    for (size_t i = 0; i < n / BLOCK_SMALL; i++) {
        uint32_t here = small_top(b + i * bytes, t);
        top = here > top ? here : top;
    }
    struct int8_scale s = int8_scale_of(top);
    if (s.inverse == 0) {
        memset(q, 0, n);
        return s.step;
    }
    const __m512 inverse = _mm512_set1_ps(s.inverse);
    for (size_t i = 0; i < n; i += BLOCK_SMALL, b += bytes) {
        if (t == DT_Q8_0)
            q8_0_block(q + i, b, inverse);
        else
            small_block(q + i, b, t, inverse);
    }
    return s.step;
}

float block_levels_avx512vnni(int8_t *q, const void *w, enum dtype t, size_t n)
{
    switch (t) {
    case DT_Q4_K:
        return q45_k_levels(q, w, false);
    case DT_Q5_K:
        return q45_k_levels(q, w, true);
    case DT_Q6_K:
        return q6_k_levels(q, w);
    case DT_Q8_0:
        return small_levels(q, w, DT_Q8_0, sizeof(struct block_q8_0), n);
    case DT_Q4_0:
        return small_levels(q, w, DT_Q4_0, sizeof(struct block_q4_0), n);
    case DT_Q4_1:
        return small_levels(q, w, DT_Q4_1, sizeof(struct block_q4_1), n);
    default:
        return small_levels(q, w, DT_Q5_0, sizeof(struct block_q5_0), n);
    }
}
