// SPDX-License-Identifier: MIT
// Weights in blocks as unsigned bytes for vpdpbusd, 256 at a time in four vectors, in the order of the inputs of
// dots_parts.h: lane l has weights 16 l .. 16 l + 15, so scales are one vector for all. A nibble from the high half
// of a byte stays where it is and counts 16 times as much, which its lane's scale takes back.
//
//   w = scale * level - base              types that meet inputs of 8 bits; scale and base here times 256 and 1
//   w = scale * (level - 128)             Q6_K, Q8_0
//
// Easy to get wrong: a block may lie at any address and at the end of the file, so only its own bytes are read.
#ifndef IV_KERNELS_X86_DOTS_LEVELS_H
#define IV_KERNELS_X86_DOTS_LEVELS_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/dots_parts.h"
#include "tensor/blocks.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

struct levels {
    __m512i v0, v1, v2, v3;
    __m512 scale, base;
};

ALWAYS_INLINE bool is_super(enum dtype t)
{
    return t == DT_Q4_K || t == DT_Q5_K || t == DT_Q6_K;
}

ALWAYS_INLINE size_t block_bytes(enum dtype t)
{
    return t == DT_Q4_0   ? sizeof(struct block_q4_0)
           : t == DT_Q4_1 ? sizeof(struct block_q4_1)
           : t == DT_Q5_0 ? sizeof(struct block_q5_0)
           : t == DT_Q8_0 ? sizeof(struct block_q8_0)
           : t == DT_Q4_K ? sizeof(struct block_q4_k)
           : t == DT_Q5_K ? sizeof(struct block_q5_k)
                          : sizeof(struct block_q6_k);
}

// Bytes of 256 weights.
ALWAYS_INLINE size_t step_bytes(enum dtype t)
{
    return block_bytes(t) * (is_super(t) ? 1 : DOTS_BLOCK / BLOCK_SMALL);
}

ALWAYS_INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

ALWAYS_INLINE __m128i load128(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

ALWAYS_INLINE __m256i load256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ALWAYS_INLINE __m512i plus(__m512i at, int n)
{
    return _mm512_add_epi32(at, _mm512_set1_epi32(n));
}

// a where the bits of mask are, b elsewhere.
ALWAYS_INLINE __m512i select_bits(__m512i mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

// The f16 numbers in the first half of v, one for each group of 32: f32 in its two lanes.
ALWAYS_INLINE __m512 eight_halves(__m128i v)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_cvtph_ps(v)));
}

// Dwords 8 q + 4 h + j of v0 and v1 for lanes 4 q + h and 4 q + 2 + h: in K types the bytes that lane's nibbles are in.
ALWAYS_INLINE __m512i nibbles_of(__m512i v0, __m512i v1, int j)
{
    const __m512i at = _mm512_setr_epi32(0, 4, 0, 4, 8, 12, 8, 12, 16, 20, 16, 20, 24, 28, 24, 28);
    return _mm512_permutex2var_epi32(v0, plus(at, j), v1);
}

// ---- Q4_K, Q5_K

// Scales and minima of the 8 groups, from the first 16 bytes. part: what a level counts in each lane.
ALWAYS_INLINE void group_scales(struct levels *l, const uint8_t *b, __m512 part)
{
    const __m512i head = _mm512_broadcast_i32x4(load128(b)); // d dmin, then 12 bytes of scales
    const __m512i shift = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 0, 4));
    const __m512i upper = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x30303030, 0, 0x30303030));
    // bytes: scales of groups 0 .. 7, minima of groups 0 .. 7
    __m512i six = _mm512_srlv_epi32(_mm512_shuffle_epi32(head, (_MM_PERM_ENUM)0xed), shift);
    __m512i two = _mm512_srli_epi32(_mm512_shuffle_epi32(head, (_MM_PERM_ENUM)0xa5), 2);
    six = _mm512_and_si512(select_bits(upper, two, six), _mm512_set1_epi8(0x3f));
    // a byte to the dword of each lane of its group
    const __m512i lane = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i scales = _mm512_or_si512(lane, _mm512_set1_epi32((int)0x80808000));
    int32_t both;
    memcpy(&both, b, sizeof both);
    __m512 d = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128(both)));
    l->scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_shuffle_epi8(six, scales)),
                             _mm512_mul_ps(part, _mm512_permutexvar_ps(_mm512_setzero_si512(), d)));
    l->base = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_shuffle_epi8(six, plus(scales, 8))),
                            _mm512_permutexvar_ps(_mm512_set1_epi32(1), d));
}

ALWAYS_INLINE void q4_k_levels(struct levels *l, const uint8_t *b)
{
    const __m512i v0 = _mm512_loadu_si512(b + 16), v1 = _mm512_loadu_si512(b + 80);
    const __m512i half = _mm512_broadcast_i32x4(
        _mm_setr_epi32(0x0f0f0f0f, 0x0f0f0f0f, (int)0xf0f0f0f0, (int)0xf0f0f0f0));
    group_scales(l, b, _mm512_broadcast_f32x4(_mm_setr_ps(256, 256, 16, 16)));
    l->v0 = _mm512_and_si512(nibbles_of(v0, v1, 0), half);
    l->v1 = _mm512_and_si512(nibbles_of(v0, v1, 1), half);
    l->v2 = _mm512_and_si512(nibbles_of(v0, v1, 2), half);
    l->v3 = _mm512_and_si512(nibbles_of(v0, v1, 3), half);
}

ALWAYS_INLINE __m512i q5_k_vector(__m512i v0, __m512i v1, __m512i fifths, int j)
{
    const __m512i half = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 4, 4));
    const __m512i at = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 4, 0, 4));
    // bit g of a byte to bit 4, whatever comes along from other bytes
    const __m512i turn = _mm512_setr_epi32(4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 31, 31, 30, 30, 29, 29);
    __m512i q = _mm512_srlv_epi32(nibbles_of(v0, v1, j), half);
    __m512i bit = _mm512_rolv_epi32(_mm512_permutexvar_epi32(plus(at, j), fifths), turn);
    q = select_bits(_mm512_set1_epi8(0x0f), q, bit);
    return _mm512_and_si512(q, _mm512_set1_epi8(0x1f));
}

ALWAYS_INLINE void q5_k_levels(struct levels *l, const uint8_t *b)
{
    const __m512i v0 = _mm512_loadu_si512(b + 48), v1 = _mm512_loadu_si512(b + 112);
    const __m512i fifths = _mm512_castsi256_si512(load256(b + 16));
    group_scales(l, b, _mm512_set1_ps(256));
    l->v0 = q5_k_vector(v0, v1, fifths, 0);
    l->v1 = q5_k_vector(v0, v1, fifths, 1);
    l->v2 = q5_k_vector(v0, v1, fifths, 2);
    l->v3 = q5_k_vector(v0, v1, fifths, 3);
}

// ---- Q6_K

ALWAYS_INLINE __m512i q6_k_vector(__m512i v0, __m512i v1, __m512i high, int j)
{
    const __m512i half = _mm512_broadcast_i64x4(_mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    const __m512i at = _mm512_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4, 8, 12, 8, 12, 8, 12, 8, 12);
    // quarter c: bits 2c of a byte to bits 4 and 5
    const __m512i turn = _mm512_broadcast_i64x4(_mm256_setr_epi32(4, 4, 2, 2, 0, 0, 30, 30));
    // quarters 0 and 2 have bytes 0 .. 31 of their half, 1 and 3 the others
    const __m512i from =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 16, 20, 24, 28, 16, 20, 24, 28);
    __m512i q = _mm512_srlv_epi32(_mm512_permutex2var_epi32(v0, plus(from, j), v1), half);
    __m512i two = _mm512_rolv_epi32(_mm512_permutexvar_epi32(plus(at, j), high), turn);
    q = select_bits(_mm512_set1_epi8(0x0f), q, two);
    q = _mm512_and_si512(q, _mm512_set1_epi8(0x3f));
    return _mm512_add_epi8(q, _mm512_set1_epi8(128 - 32));
}

ALWAYS_INLINE void q6_k_levels(struct levels *l, const uint8_t *b)
{
    const __m512i v0 = _mm512_loadu_si512(b), v1 = _mm512_loadu_si512(b + 64);
    const __m512i high = _mm512_loadu_si512(b + 128);
    l->scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load128(b + 192))),
                             _mm512_set1_ps(half_at(b + 208)));
    l->v0 = q6_k_vector(v0, v1, high, 0);
    l->v1 = q6_k_vector(v0, v1, high, 1);
    l->v2 = q6_k_vector(v0, v1, high, 2);
    l->v3 = q6_k_vector(v0, v1, high, 3);
}

// ---- blocks of 32

// Words i, i + stride, i + 2 stride, i + 3 stride of a, and the same of b from its word j on.
ALWAYS_INLINE __m128i words_of(__m512i a, __m512i b, int i, int stride, int j)
{
#define WORD(n) (short)(i + (n)*stride)
#define NEXT(n) (short)(32 + j + (n)*stride)
    const __m128i at =
        _mm_setr_epi16(WORD(0), WORD(1), WORD(2), WORD(3), NEXT(0), NEXT(1), NEXT(2), NEXT(3));
#undef NEXT
#undef WORD
    return _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, _mm512_castsi128_si512(at), b));
}

// 16 bytes of each of four blocks.
ALWAYS_INLINE __m512i four_lanes(const uint8_t *p, size_t bytes)
{
    __m512i v = _mm512_castsi128_si512(load128(p));
    v = _mm512_inserti32x4(v, load128(p + bytes), 1);
    v = _mm512_inserti32x4(v, load128(p + 2 * bytes), 2);
    return _mm512_inserti32x4(v, load128(p + 3 * bytes), 3);
}

// Dword j of each block's 16 bytes, for the low halves in one lane and the high ones in the next.
ALWAYS_INLINE __m512i small_nibbles(__m512i v0, __m512i v1, int j)
{
    const __m512i at = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const __m512i half = _mm512_set1_epi64((long long)0xf0f0f0f00f0f0f0f);
    return _mm512_and_si512(_mm512_permutex2var_epi32(v0, plus(at, j), v1), half);
}

ALWAYS_INLINE void q4_levels(struct levels *l, enum dtype t, const uint8_t *b)
{
    const size_t bytes = block_bytes(t);
    const __m512 part = _mm512_castsi512_ps(_mm512_set1_epi64(0x4180000043800000)); // 256, 16
    const __m512i v0 = four_lanes(b + bytes - 16, bytes);
    const __m512i v1 = four_lanes(b + 5 * bytes - 16, bytes);
    const __m512i h0 = _mm512_loadu_si512(b), h1 = _mm512_loadu_si512(b + 4 * bytes);
    __m512 d = eight_halves(words_of(h0, h1, 0, (int)bytes / 2, 0));
    l->scale = _mm512_mul_ps(d, part);
    if (t == DT_Q4_1)
        l->base =
            _mm512_mul_ps(eight_halves(words_of(h0, h1, 1, (int)bytes / 2, 1)), _mm512_set1_ps(-1));
    else
        l->base = _mm512_mul_ps(d, _mm512_set1_ps(8));
    l->v0 = small_nibbles(v0, v1, 0);
    l->v1 = small_nibbles(v0, v1, 1);
    l->v2 = small_nibbles(v0, v1, 2);
    l->v3 = small_nibbles(v0, v1, 3);
}

// fifths: in each 64-bit lane the 32 of a block.
ALWAYS_INLINE __m512i q5_0_vector(__m512i v0, __m512i v1, __m512i fifths, int j)
{
    const __m512i low = _mm512_set1_epi8(0x0f);
    const __m512i half = _mm512_set1_epi64(0x0000000400000000);
    // byte 2 h + j / 2 of the 32 bits in lane h
    const __m512i byte = _mm512_add_epi8(
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x02020202, 0x08080808, 0x0a0a0a0a)),
        _mm512_set1_epi8((char)(j / 2)));
    const __m512i bit = _mm512_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);
    const __m512i at = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    __m512i q = _mm512_srlv_epi32(_mm512_permutex2var_epi32(v0, plus(at, j), v1), half);
    q = _mm512_and_si512(q, low);
    __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(fifths, byte), bit);
    return _mm512_mask_add_epi8(q, set, q, _mm512_set1_epi8(16));
}

ALWAYS_INLINE void q5_0_levels(struct levels *l, const uint8_t *b)
{
    const size_t bytes = sizeof(struct block_q5_0);
    const __m512i v0 = four_lanes(b + 6, bytes), v1 = four_lanes(b + 4 * bytes + 6, bytes);
    // words 1, 2 and 0 of each block to words 0, 1 and 2 of its 64-bit lane; blocks 0 .. 2 are whole in h0, 3 .. 5 in h1
#define HEAD(w) (w) + 1, (w) + 2, (w), (w)
    static const int16_t six[32] = {HEAD(0),  HEAD(11), HEAD(22), HEAD(32),
                                    HEAD(43), HEAD(54), HEAD(0),  HEAD(0)};
    static const int16_t two[32] = {0,
                                    1,
                                    2,
                                    3,
                                    4,
                                    5,
                                    6,
                                    7,
                                    8,
                                    9,
                                    10,
                                    11,
                                    12,
                                    13,
                                    14,
                                    15,
                                    16,
                                    17,
                                    18,
                                    19,
                                    20,
                                    21,
                                    22,
                                    23,
                                    HEAD(32 + 10),
                                    HEAD(32 + 21)};
#undef HEAD
    const __m512i h0 = _mm512_loadu_si512(b), h1 = _mm512_loadu_si512(b + 3 * bytes);
    const __m512i h2 = _mm512_loadu_si512(b + 8 * bytes - 64);
    __m512i fifths = _mm512_permutex2var_epi16(h0, _mm512_loadu_si512(six), h1);
    fifths = _mm512_permutex2var_epi16(fifths, _mm512_loadu_si512(two), h2);
    __m512 d = eight_halves(words_of(fifths, fifths, 2, 4, 18));
    l->scale = _mm512_mul_ps(d, _mm512_set1_ps(256));
    l->base = _mm512_mul_ps(d, _mm512_set1_ps(16));
    l->v0 = q5_0_vector(v0, v1, fifths, 0);
    l->v1 = q5_0_vector(v0, v1, fifths, 1);
    l->v2 = q5_0_vector(v0, v1, fifths, 2);
    l->v3 = q5_0_vector(v0, v1, fifths, 3);
}

ALWAYS_INLINE __m512i two_blocks(const uint8_t *b)
{
    __m512i v = _mm512_castsi256_si512(load256(b + 2));
    v = _mm512_inserti64x4(v, load256(b + sizeof(struct block_q8_0) + 2), 1);
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}

ALWAYS_INLINE void q8_0_levels(struct levels *l, const uint8_t *b)
{
    const size_t bytes = sizeof(struct block_q8_0);
    const __m512i z0 = two_blocks(b), z1 = two_blocks(b + 2 * bytes);
    const __m512i z2 = two_blocks(b + 4 * bytes), z3 = two_blocks(b + 6 * bytes);
    // dwords j of the four half blocks of each, then dwords j + 1
    const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    __m512i a = _mm512_permutex2var_epi32(z0, at, z1), c = _mm512_permutex2var_epi32(z2, at, z3);
    l->v0 = _mm512_shuffle_i64x2(a, c, 0x44);
    l->v1 = _mm512_shuffle_i64x2(a, c, 0xee);
    a = _mm512_permutex2var_epi32(z0, plus(at, 2), z1);
    c = _mm512_permutex2var_epi32(z2, plus(at, 2), z3);
    l->v2 = _mm512_shuffle_i64x2(a, c, 0x44);
    l->v3 = _mm512_shuffle_i64x2(a, c, 0xee);
    // words 0 and 17 of four times two blocks
    const __m128i front = _mm_setr_epi16(0, 17, 32, 49, 0, 0, 0, 0);
    const __m512i word = _mm512_castsi128_si512(front);
    a = _mm512_permutex2var_epi16(_mm512_loadu_si512(b), word, _mm512_loadu_si512(b + 2 * bytes));
    c = _mm512_permutex2var_epi16(_mm512_loadu_si512(b + 4 * bytes), word,
                                  _mm512_loadu_si512(b + 6 * bytes));
    l->scale = eight_halves(_mm512_castsi512_si128(_mm512_unpacklo_epi64(a, c)));
}

ALWAYS_INLINE void levels_of(struct levels *l, enum dtype t, const uint8_t *b)
{
    if (t == DT_Q4_K)
        q4_k_levels(l, b);
    else if (t == DT_Q5_K)
        q5_k_levels(l, b);
    else if (t == DT_Q6_K)
        q6_k_levels(l, b);
    else if (t == DT_Q8_0)
        q8_0_levels(l, b);
    else if (t == DT_Q5_0)
        q5_0_levels(l, b);
    else
        q4_levels(l, t, b);
}

#endif
