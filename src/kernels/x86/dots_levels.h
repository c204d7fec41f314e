// SPDX-License-Identifier: MIT
// Weights in blocks as unsigned bytes for vpdpbusd, in the order of the inputs of dots_parts.h. A lane's weights share a
// scale, so scales are one vector for all.
//
//   w = scale * level - base              types of 4 and 5 bits: 512, a part; of each lane the lower or the upper 16
//   w = scale * (level - 128)             Q6_K, Q8_0: 256, a half; 16 in each lane
//
// So levels come in four vectors.
//
// Q4_K leaves the nibble of a byte's high half where it is: it counts 16 times as much, which its lane's scale takes back.
//
// Lane 4 q + i, q and i of two bits (dots_lane, dots_lane_half): of 512 weights those from 32 (8 i0 + 2 q + i1) on; of
// 256 those from 16 (8 i0 + 4 i1 + q) on. On Zen 5 fixed moves inside the quarters q are four a cycle, those
// between them and byte shuffles two, of which products take one away.
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

// Four vectors, dword j of each lane's sixteen bytes in the j-th.
struct dwords {
    __m512i v0, v1, v2, v3;
};

// Scales and bases of the lanes.
struct scales {
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

// Weights that share a vector of scales, and their bytes.
ALWAYS_INLINE size_t step_inputs(enum dtype t)
{
    return dots_by_parts(t) ? DOTS_PART : DOTS_HALF;
}

ALWAYS_INLINE size_t step_bytes(enum dtype t)
{
    return block_bytes(t) * (step_inputs(t) / (is_super(t) ? BLOCK_SUPER : BLOCK_SMALL));
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

// a where the bits of mask are, b elsewhere.
ALWAYS_INLINE __m512i select_bits(__m512i mask, __m512i a, __m512i b)
{
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

// The quarters of 128 bits, twice or four times.
ALWAYS_INLINE __m512i twice256(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(load256(p));
}

ALWAYS_INLINE __m512i four128(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(load128(p));
}

// A number for each i.
ALWAYS_INLINE __m512i by_lane(int i0, int i1, int i2, int i3)
{
    return _mm512_broadcast_i32x4(_mm_setr_epi32(i0, i1, i2, i3));
}

// Lane 4 q + i of vector j from dword j of quarter q of the i-th argument.
ALWAYS_INLINE struct dwords transposed(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i p = _mm512_unpacklo_epi32(a, b), q = _mm512_unpacklo_epi32(c, d);
    __m512i r = _mm512_unpackhi_epi32(a, b), s = _mm512_unpackhi_epi32(c, d);
    return (struct dwords){_mm512_unpacklo_epi64(p, q), _mm512_unpackhi_epi64(p, q),
                           _mm512_unpacklo_epi64(r, s), _mm512_unpackhi_epi64(r, s)};
}

// transposed(a, b, a, b)
ALWAYS_INLINE struct dwords paired(__m512i a, __m512i b)
{
    __m512i p = _mm512_unpacklo_epi32(a, b), q = _mm512_unpackhi_epi32(a, b);
    return (struct dwords){
        _mm512_shuffle_epi32(p, (_MM_PERM_ENUM)0x44), _mm512_shuffle_epi32(p, (_MM_PERM_ENUM)0xee),
        _mm512_shuffle_epi32(q, (_MM_PERM_ENUM)0x44), _mm512_shuffle_epi32(q, (_MM_PERM_ENUM)0xee)};
}

// ---- Q4_K, Q5_K: two blocks, i0; nibble i1 of the 32 bytes of quarter q

// v, of which gcc no longer knows where it came from: it would rather read and move it once more at each use.
ALWAYS_INLINE __m512i once(__m512i v)
{
    __asm__("" : "+v"(v));
    return v;
}

// The nibbles' bytes of each block, those of the lower and those of the upper 16 weights of each group.
struct k_bytes {
    __m512i lower[2], upper[2];
};

ALWAYS_INLINE struct k_bytes k_bytes_at(const uint8_t *b, size_t bytes)
{
    const __m512i a0 = _mm512_loadu_si512(b), a1 = _mm512_loadu_si512(b + 64);
    const __m512i c0 = _mm512_loadu_si512(b + bytes), c1 = _mm512_loadu_si512(b + bytes + 64);
    return (struct k_bytes){
        {_mm512_shuffle_i64x2(a0, a1, 0x88), _mm512_shuffle_i64x2(c0, c1, 0x88)},
        {once(_mm512_shuffle_i64x2(a0, a1, 0xdd)), once(_mm512_shuffle_i64x2(c0, c1, 0xdd))}};
}

// Of other types nothing: their levels are made from memory.
ALWAYS_INLINE struct k_bytes k_bytes_of(enum dtype t, const uint8_t *b)
{
    return t == DT_Q4_K   ? k_bytes_at(b + 16, sizeof(struct block_q4_k))
           : t == DT_Q5_K ? k_bytes_at(b + 48, sizeof(struct block_q5_k))
                          : (struct k_bytes){0};
}

ALWAYS_INLINE struct dwords k_dwords(const struct k_bytes *k, bool upper)
{
    const __m512i *v = upper ? k->upper : k->lower;
    return paired(v[0], v[1]);
}

// Scales and minima of the 16 groups, from the first 16 bytes of each block. part: what a level counts in each lane of
// a quarter.
ALWAYS_INLINE struct scales group_scales(const uint8_t *b, size_t bytes, __m128 part)
{
    // d dmin, then 12 bytes of scales
    const __m256i head =
        _mm256_inserti128_si256(_mm256_castsi128_si256(load128(b)), load128(b + bytes), 1);
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 4, 0, 0, 0, 4);
    const __m256i upper = _mm256_set1_epi64x(0x3030303000000000);
    // bytes: scales of groups 0 .. 7, minima of groups 0 .. 7
    __m256i six = _mm256_srlv_epi32(_mm256_shuffle_epi32(head, 0xed), shift);
    __m256i two = _mm256_srli_epi32(_mm256_shuffle_epi32(head, 0xa5), 2);
    six = _mm256_ternarylogic_epi32(upper, two, six, 0xca);
    six = _mm256_and_si256(six, _mm256_set1_epi8(0x3f));
    // scales of both blocks, then minima of both, those of the same group side by side
    six = _mm256_permute4x64_epi64(six, 0xd8);
    const __m256i turns = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    six = _mm256_shuffle_epi8(six, turns);
    __m512 scales = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(six)));
    __m512 minima = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(six, 1)));
    // both d, both dmin
    int32_t first, second;
    memcpy(&first, b, sizeof first);
    memcpy(&second, b + bytes, sizeof second);
    __m128 d =
        _mm_cvtph_ps(_mm_unpacklo_epi16(_mm_cvtsi32_si128(first), _mm_cvtsi32_si128(second)));
    __m512 scale = _mm512_broadcast_f32x4(_mm_mul_ps(part, _mm_movelh_ps(d, d)));
    __m512 minimum = _mm512_broadcast_f32x4(_mm_movehl_ps(d, d));
    return (struct scales){_mm512_mul_ps(scales, scale), _mm512_mul_ps(minima, minimum)};
}

ALWAYS_INLINE struct dwords q4_k_levels(const struct k_bytes *k, bool upper)
{
    const __m512i half = by_lane(0x0f0f0f0f, 0x0f0f0f0f, (int)0xf0f0f0f0, (int)0xf0f0f0f0);
    struct dwords d = k_dwords(k, upper);
    return (struct dwords){_mm512_and_si512(d.v0, half), _mm512_and_si512(d.v1, half),
                           _mm512_and_si512(d.v2, half), _mm512_and_si512(d.v3, half)};
}

ALWAYS_INLINE struct scales q4_k_scales(const uint8_t *b)
{
    return group_scales(b, sizeof(struct block_q4_k), _mm_setr_ps(1, 1, 0.0625f, 0.0625f));
}

// fifths: the bits of these weights' bytes, that of group g in bit g.
ALWAYS_INLINE __m512i q5_k_vector(__m512i v, __m512i fifths)
{
    // bit 2 q + i1 of a byte to bit 4, whatever comes along from other bytes
    const __m512i turn = _mm512_setr_epi32(4, 4, 3, 3, 2, 2, 1, 1, 0, 0, 31, 31, 30, 30, 29, 29);
    __m512i q = _mm512_srlv_epi32(v, by_lane(0, 0, 4, 4)), bit = _mm512_rolv_epi32(fifths, turn);
    q = select_bits(_mm512_set1_epi8(0x0f), q, bit);
    return _mm512_and_si512(q, _mm512_set1_epi8(0x1f));
}

ALWAYS_INLINE struct dwords q5_k_levels(const uint8_t *b, const struct k_bytes *k, bool upper)
{
    const size_t bytes = sizeof(struct block_q5_k);
    const uint8_t *fifths = b + 16 + (upper ? 16 : 0);
    struct dwords d = k_dwords(k, upper);
    struct dwords bits = paired(four128(fifths), four128(fifths + bytes));
    return (struct dwords){q5_k_vector(d.v0, bits.v0), q5_k_vector(d.v1, bits.v1),
                           q5_k_vector(d.v2, bits.v2), q5_k_vector(d.v3, bits.v3)};
}

ALWAYS_INLINE struct scales q5_k_scales(const uint8_t *b)
{
    return group_scales(b, sizeof(struct block_q5_k), _mm_set1_ps(1));
}

// ---- Q6_K: a half of the block, i0; its quarter 2 i1 + q1 of 32 weights

// high: the bytes of these weights' upper bits, quarter c of a half in bits 2c.
ALWAYS_INLINE __m512i q6_k_vector(__m512i v, __m512i high)
{
    // quarter c: bits 2c of a byte to bits 4 and 5
    const __m512i turn = _mm512_setr_epi32(4, 4, 0, 0, 4, 4, 0, 0, 2, 2, 30, 30, 2, 2, 30, 30);
    __m512i q = _mm512_srlv_epi32(v, by_lane(0, 0, 4, 4)), two = _mm512_rolv_epi32(high, turn);
    q = select_bits(_mm512_set1_epi8(0x0f), q, two);
    q = _mm512_and_si512(q, _mm512_set1_epi8(0x3f));
    return _mm512_add_epi8(q, _mm512_set1_epi8(128 - 32));
}

ALWAYS_INLINE struct dwords q6_k_levels(const uint8_t *b)
{
    struct dwords high = paired(twice256(b + 128), twice256(b + 160));
    struct dwords low = paired(_mm512_loadu_si512(b), _mm512_loadu_si512(b + 64));
    return (struct dwords){q6_k_vector(low.v0, high.v0), q6_k_vector(low.v1, high.v1),
                           q6_k_vector(low.v2, high.v2), q6_k_vector(low.v3, high.v3)};
}

ALWAYS_INLINE struct scales q6_k_scales(const uint8_t *b)
{
    const __m128i lane = _mm_setr_epi8(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
    __m512 scale =
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_shuffle_epi8(load128(b + 192), lane)));
    return (struct scales){_mm512_mul_ps(scale, _mm512_set1_ps(half_at(b + 208))),
                           _mm512_setzero_ps()};
}

// ---- blocks of 32: of 512 weights block 8 i0 + 2 q + i1

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

// f16 numbers of blocks 0 .. 7 and 8 .. 15.
ALWAYS_INLINE __m512 sixteen_halves(__m128i a, __m128i b)
{
    __m256i v = _mm256_castsi128_si256(_mm_unpacklo_epi16(a, b));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(v, _mm_unpackhi_epi16(a, b), 1));
}

// 16 bytes of every second of eight blocks.
ALWAYS_INLINE __m512i four_lanes(const uint8_t *p, size_t bytes)
{
    __m512i v = _mm512_castsi128_si512(load128(p));
    v = _mm512_inserti32x4(v, load128(p + 2 * bytes), 1);
    v = _mm512_inserti32x4(v, load128(p + 4 * bytes), 2);
    return _mm512_inserti32x4(v, load128(p + 6 * bytes), 3);
}

// The last 16 bytes of each block: their low or high nibbles.
ALWAYS_INLINE struct dwords small_nibbles(const uint8_t *b, size_t bytes, bool upper)
{
    const __m512i low = _mm512_set1_epi8(0x0f);
    const unsigned shift = upper ? 4 : 0;
    b += bytes - 16;
    struct dwords d = transposed(four_lanes(b, bytes), four_lanes(b + 8 * bytes, bytes),
                                 four_lanes(b + bytes, bytes), four_lanes(b + 9 * bytes, bytes));
    return (struct dwords){_mm512_and_si512(_mm512_srli_epi32(d.v0, shift), low),
                           _mm512_and_si512(_mm512_srli_epi32(d.v1, shift), low),
                           _mm512_and_si512(_mm512_srli_epi32(d.v2, shift), low),
                           _mm512_and_si512(_mm512_srli_epi32(d.v3, shift), low)};
}

ALWAYS_INLINE struct scales q4_scales(enum dtype t, const uint8_t *b)
{
    const size_t bytes = block_bytes(t);
    const int words = (int)bytes / 2;
    const __m512i h0 = _mm512_loadu_si512(b), h1 = _mm512_loadu_si512(b + 4 * bytes);
    const __m512i h2 = _mm512_loadu_si512(b + 8 * bytes), h3 = _mm512_loadu_si512(b + 12 * bytes);
    __m512 scale = sixteen_halves(words_of(h0, h1, 0, words, 0), words_of(h2, h3, 0, words, 0));
    if (t == DT_Q4_0)
        return (struct scales){scale, _mm512_mul_ps(scale, _mm512_set1_ps(8))};
    __m512 base = sixteen_halves(words_of(h0, h1, 1, words, 1), words_of(h2, h3, 1, words, 1));
    return (struct scales){scale, _mm512_mul_ps(base, _mm512_set1_ps(-1))};
}

// Of eight blocks words 1, 2 and 0 in words 0, 1 and 2 of a 64-bit lane each.
ALWAYS_INLINE __m512i q5_0_heads(const uint8_t *b)
{
    const size_t bytes = sizeof(struct block_q5_0);
    // blocks 0 .. 2 are whole in h0, 3 .. 5 in h1
#define HEAD(w) (w) + 1, (w) + 2, (w), (w)
    static const int16_t six[32] = {HEAD(0),  HEAD(11), HEAD(22), HEAD(32),
                                    HEAD(43), HEAD(54), HEAD(0),  HEAD(0)};
    static const int16_t two[32] = {[24] = HEAD(10), HEAD(21)};
#undef HEAD
    const __m512i h0 = _mm512_loadu_si512(b), h1 = _mm512_loadu_si512(b + 3 * bytes);
    const __m512i h2 = _mm512_loadu_si512(b + 8 * bytes - 64);
    __m512i v = _mm512_permutex2var_epi16(h0, _mm512_loadu_si512(six), h1);
    return _mm512_mask_permutexvar_epi16(v, 0xff000000, _mm512_loadu_si512(two), h2);
}

// Bits 4 j .. 4 j + 3 of fifths, of each lane's 32, as bit 4 of the bytes of v.
ALWAYS_INLINE __m512i q5_0_vector(__m512i v, __m512i fifths, int j)
{
    const __m512i byte = _mm512_add_epi8(by_lane(0, 0x04040404, 0x08080808, 0x0c0c0c0c),
                                         _mm512_set1_epi8((char)(j / 2)));
    const __m512i bit = _mm512_set1_epi32(j % 2 ? (int)0x80402010 : 0x08040201);
    __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(fifths, byte), bit);
    return _mm512_mask_add_epi8(v, set, v, _mm512_set1_epi8(16));
}

ALWAYS_INLINE struct dwords q5_0_levels(const uint8_t *b, bool upper)
{
    const size_t bytes = sizeof(struct block_q5_0);
    const __m512i at = _mm512_setr_epi32(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    const __m512i fifths = _mm512_permutex2var_epi32(q5_0_heads(b), at, q5_0_heads(b + 8 * bytes));
    const int first = upper ? 4 : 0;
    struct dwords d = small_nibbles(b, bytes, upper);
    return (struct dwords){q5_0_vector(d.v0, fifths, first), q5_0_vector(d.v1, fifths, first + 1),
                           q5_0_vector(d.v2, fifths, first + 2),
                           q5_0_vector(d.v3, fifths, first + 3)};
}

ALWAYS_INLINE struct scales q5_0_scales(const uint8_t *b)
{
    const __m512i h0 = q5_0_heads(b), h1 = q5_0_heads(b + 8 * sizeof(struct block_q5_0));
    __m512 scale = sixteen_halves(words_of(h0, h0, 2, 4, 18), words_of(h1, h1, 2, 4, 18));
    return (struct scales){scale, _mm512_mul_ps(scale, _mm512_set1_ps(16))};
}

// ---- Q8_0: of 256 weights block 4 i0 + 2 i1 + q1

// Levels of a block and of the next.
ALWAYS_INLINE __m512i two_blocks(const uint8_t *b)
{
    __m512i v = _mm512_castsi256_si512(load256(b + 2));
    v = _mm512_inserti64x4(v, load256(b + sizeof(struct block_q8_0) + 2), 1);
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}

ALWAYS_INLINE struct dwords q8_0_levels(const uint8_t *b)
{
    const size_t bytes = sizeof(struct block_q8_0);
    return transposed(two_blocks(b), two_blocks(b + 4 * bytes), two_blocks(b + 2 * bytes),
                      two_blocks(b + 6 * bytes));
}

ALWAYS_INLINE struct scales q8_0_scales(const uint8_t *b)
{
    const size_t bytes = sizeof(struct block_q8_0);
    // words 0 and 17 of four times two blocks
    const __m128i front = _mm_setr_epi16(0, 17, 32, 49, 0, 0, 0, 0);
    const __m512i word = _mm512_castsi128_si512(front);
    __m512i a =
        _mm512_permutex2var_epi16(_mm512_loadu_si512(b), word, _mm512_loadu_si512(b + 2 * bytes));
    __m512i c = _mm512_permutex2var_epi16(_mm512_loadu_si512(b + 4 * bytes), word,
                                          _mm512_loadu_si512(b + 6 * bytes));
    __m512 scale = _mm512_castps256_ps512(
        _mm256_cvtph_ps(_mm512_castsi512_si128(_mm512_unpacklo_epi64(a, c))));
    const __m512i block = _mm512_setr_epi32(0, 4, 2, 6, 0, 4, 2, 6, 1, 5, 3, 7, 1, 5, 3, 7);
    return (struct scales){_mm512_permutexvar_ps(block, scale), _mm512_setzero_ps()};
}

// Of a part the lower or the upper 16 inputs of each lane, of a half all. k: k_bytes_of b.
ALWAYS_INLINE struct dwords levels_of(enum dtype t, const uint8_t *b, const struct k_bytes *k,
                                      bool upper)
{
    return t == DT_Q4_K   ? q4_k_levels(k, upper)
           : t == DT_Q5_K ? q5_k_levels(b, k, upper)
           : t == DT_Q6_K ? q6_k_levels(b)
           : t == DT_Q8_0 ? q8_0_levels(b)
           : t == DT_Q5_0 ? q5_0_levels(b, upper)
                          : small_nibbles(b, block_bytes(t), upper);
}

ALWAYS_INLINE struct scales scales_of(enum dtype t, const uint8_t *b)
{
    return t == DT_Q4_K   ? q4_k_scales(b)
           : t == DT_Q5_K ? q5_k_scales(b)
           : t == DT_Q6_K ? q6_k_scales(b)
           : t == DT_Q8_0 ? q8_0_scales(b)
           : t == DT_Q5_0 ? q5_0_scales(b)
                          : q4_scales(t, b);
}

#endif
