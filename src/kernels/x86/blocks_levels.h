// SPDX-License-Identifier: MIT
// Weights in blocks as vectors of bf16 levels for vdpbf16ps, in an order in which one group of equal scale keeps to its
// own lanes, so that one multiplication by a vector of scales serves a whole step:
//
//   super-blocks  a step is one block, 8 vectors; Q4_K, Q5_K: group g in 64-bit lane g; Q6_K: group g in 32-bit lane g
//   small blocks  a step is four, 4 vectors; block b in 128-bit lane b
//
// Levels come out of the bytes by shifts and a table in registers: an index may hold anything above the bits that the
// instruction looks at, and a table of 16 levels is there twice, so bit 4 does not matter either.
//
// Easy to get wrong: a block may lie at any address and at the end of the file, so only its own bytes are read; the
// order of the inputs (order_of) is that in which levels fall out.
#ifndef IV_KERNELS_X86_BLOCKS_LEVELS_H
#define IV_KERNELS_X86_BLOCKS_LEVELS_H

#include <immintrin.h>
#include <string.h>

#include "tensor/blocks.h"
#include "tensor/dtype.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// Words of each vector of 32 inputs in the order in which they are dealt out to the vectors of a step.
#define FOUR_APART(i)  (i), (i) + 2, (i) + 4, (i) + 6
#define EIGHT_APART(i) FOUR_APART(i), FOUR_APART((i) + 8)
#define TWO_GROUPS(i)  (i), (i) + 2, (i) + 16, (i) + 18
static const short order_q45_k[32] = {FOUR_APART(0),  FOUR_APART(1),  FOUR_APART(8),
                                      FOUR_APART(9),  FOUR_APART(16), FOUR_APART(17),
                                      FOUR_APART(24), FOUR_APART(25)};
static const short order_q6_k[32] = {TWO_GROUPS(0), TWO_GROUPS(1), TWO_GROUPS(4),  TWO_GROUPS(5),
                                     TWO_GROUPS(8), TWO_GROUPS(9), TWO_GROUPS(12), TWO_GROUPS(13)};
static const short order_q4_0[32] = {EIGHT_APART(0), EIGHT_APART(1), EIGHT_APART(16),
                                     EIGHT_APART(17)};
static const short order_q8_0[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                     11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

// bf16 of -32 .. 31.
#define B(v) ((short)((v) < 0 ? 0x8000 : 0) | BITS((v) < 0 ? -(v) : (v)))
#define BITS(v)                                                                                    \
    (short)((v) == 0    ? 0                                                                        \
            : (v) == 32 ? 0x4200                                                                   \
            : (v) >= 16 ? 0x4180 + ((v)-16) * 8                                                    \
            : (v) >= 8  ? 0x4100 + ((v)-8) * 16                                                    \
            : (v) >= 4  ? 0x4080 + ((v)-4) * 32                                                    \
            : (v) >= 2  ? 0x4000 + ((v)-2) * 64                                                    \
                        : 0x3f80)
#define EIGHT(v)                                                                                   \
    B(v), B((v) + 1), B((v) + 2), B((v) + 3), B((v) + 4), B((v) + 5), B((v) + 6), B((v) + 7)
static const short level_bf16[64] = {EIGHT(-32), EIGHT(-24), EIGHT(-16), EIGHT(-8),
                                     EIGHT(0),   EIGHT(8),   EIGHT(16),  EIGHT(24)};

// What decoding a type needs in registers.
struct tables {
    __m512i levels, low; // low: of -32..-1, Q6_K
};

// One step: levels, and what is multiplied with sums of levels times x and with sums of x, lane by lane.
struct levels {
    __m512i v0, v1, v2, v3, v4, v5, v6, v7;
    __m512 scale, base;
};

ALWAYS_INLINE bool is_super(enum dtype t)
{
    return t == DT_Q4_K || t == DT_Q5_K || t == DT_Q6_K;
}

ALWAYS_INLINE bool has_base(enum dtype t)
{
    return t == DT_Q4_1 || t == DT_Q4_K || t == DT_Q5_K;
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

static inline __m512i order_of(enum dtype t)
{
    return _mm512_loadu_si512(t == DT_Q6_K   ? order_q6_k
                              : is_super(t)  ? order_q45_k
                              : t == DT_Q8_0 ? order_q8_0
                                             : order_q4_0);
}

static inline struct tables tables_for(enum dtype t)
{
    struct tables s = {.levels = _mm512_loadu_si512(level_bf16 + (t == DT_Q5_0 ? 16 : 32)),
                       .low = _mm512_loadu_si512(level_bf16)};
    if (t == DT_Q4_0 || t == DT_Q4_1 || t == DT_Q4_K) {
        const short *from = level_bf16 + (t == DT_Q4_0 ? 24 : 32);
        s.levels = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)from));
    }
    return s;
}

ALWAYS_INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

// low where the bits of a nibble are, high elsewhere.
ALWAYS_INLINE __m512i join(__m512i low, __m512i high)
{
    return _mm512_ternarylogic_epi32(_mm512_set1_epi16(15), low, high, 0xca);
}

// ---- small blocks

// f16 numbers at p, p + bytes, ... of four blocks, each in its 128-bit lane.
ALWAYS_INLINE __m512 four_halves(const uint8_t *p, size_t bytes)
{
    uint16_t h[4];
    for (size_t i = 0; i < 4; i++)
        memcpy(&h[i], p + i * bytes, sizeof h[i]);
    __m128i v = _mm_cvtsi32_si128(h[0]);
    v = _mm_insert_epi16(v, h[1], 1);
    v = _mm_insert_epi16(v, h[2], 2);
    v = _mm_insert_epi16(v, h[3], 3);
    const __m512i at = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(at, _mm512_castps128_ps512(_mm_cvtph_ps(v)));
}

ALWAYS_INLINE __m128i load128(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

// 16 bytes of each of four blocks.
ALWAYS_INLINE __m512i four_nibbles(const uint8_t *p, size_t bytes)
{
    __m512i v = _mm512_castsi128_si512(load128(p));
    v = _mm512_inserti32x4(v, load128(p + bytes), 1);
    v = _mm512_inserti32x4(v, load128(p + 2 * bytes), 2);
    return _mm512_inserti32x4(v, load128(p + 3 * bytes), 3);
}

ALWAYS_INLINE void q4_levels(struct levels *l, const struct tables *s, __m512i v)
{
    l->v0 = _mm512_permutexvar_epi16(v, s->levels);
    l->v1 = _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 8), s->levels);
    l->v2 = _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 4), s->levels);
    l->v3 = _mm512_permutexvar_epi16(_mm512_srli_epi16(v, 12), s->levels);
}

// Nibbles v and the fifth bits: in `high` each 128-bit lane has the 16 of its half block in each word.
ALWAYS_INLINE __m512i q5_0_half(const struct tables *s, __m512i v, __m512i high, int odd)
{
    const __m512i first =
        _mm512_broadcast_i32x4(_mm_setr_epi16(1, 4, 16, 64, 256, 1024, 4096, 16384));
    const __m512i bit = odd ? _mm512_add_epi16(first, first) : first;
    __m512i q = _mm512_and_si512(v, _mm512_set1_epi16(15));
    q = _mm512_mask_add_epi16(q, _mm512_test_epi16_mask(high, bit), q, _mm512_set1_epi16(16));
    return _mm512_permutexvar_epi16(q, s->levels);
}

ALWAYS_INLINE void q5_0_levels(struct levels *l, const struct tables *s, const uint8_t *b,
                               size_t bytes)
{
    uint32_t h[4];
    for (size_t i = 0; i < 4; i++)
        memcpy(&h[i], b + i * bytes + 2, sizeof h[i]);
    __m512i bits =
        _mm512_castsi128_si512(_mm_setr_epi32((int)h[0], (int)h[1], (int)h[2], (int)h[3]));
    const __m512i at =
        _mm512_setr_epi32(0, 0, 0, 0, 0x20002, 0x20002, 0x20002, 0x20002, 0x40004, 0x40004, 0x40004,
                          0x40004, 0x60006, 0x60006, 0x60006, 0x60006);
    __m512i low = _mm512_permutexvar_epi16(at, bits);
    __m512i high = _mm512_permutexvar_epi16(_mm512_add_epi16(at, _mm512_set1_epi16(1)), bits);
    __m512i v = four_nibbles(b + 6, bytes);
    l->v0 = q5_0_half(s, v, low, 0);
    l->v1 = q5_0_half(s, _mm512_srli_epi16(v, 8), low, 1);
    l->v2 = q5_0_half(s, _mm512_srli_epi16(v, 4), high, 0);
    l->v3 = q5_0_half(s, _mm512_srli_epi16(v, 12), high, 1);
}

ALWAYS_INLINE __m512i bytes_bf16(__m256i v)
{
    __m512i lo = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(v));
    __m512i hi = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(v, 1));
    __m512bh h = _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(hi), _mm512_cvtepi32_ps(lo));
    __m512i bits;
    memcpy(&bits, &h, sizeof bits);
    return bits;
}

ALWAYS_INLINE __m256i load256(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ALWAYS_INLINE void q8_0_levels(struct levels *l, const uint8_t *b, size_t bytes)
{
    const uint8_t *q = b + 2;
    __m512i v01 = _mm512_inserti64x4(_mm512_castsi256_si512(load256(q)), load256(q + bytes), 1);
    __m512i v23 = _mm512_inserti64x4(_mm512_castsi256_si512(load256(q + 2 * bytes)),
                                     load256(q + 3 * bytes), 1);
    const __m512i at = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13);
    __m512i a = _mm512_permutex2var_epi64(v01, at, v23);
    __m512i c = _mm512_permutex2var_epi64(v01, _mm512_add_epi64(at, _mm512_set1_epi64(2)), v23);
    l->v0 = bytes_bf16(_mm512_castsi512_si256(a));
    l->v1 = bytes_bf16(_mm512_extracti64x4_epi64(a, 1));
    l->v2 = bytes_bf16(_mm512_castsi512_si256(c));
    l->v3 = bytes_bf16(_mm512_extracti64x4_epi64(c, 1));
}

ALWAYS_INLINE void small_levels(struct levels *l, enum dtype t, const struct tables *s,
                                const uint8_t *b)
{
    const size_t bytes = block_bytes(t);
    l->scale = four_halves(b, bytes);
    if (t == DT_Q4_1)
        l->base = four_halves(b + 2, bytes);
    if (t == DT_Q8_0)
        q8_0_levels(l, b, bytes);
    else if (t == DT_Q5_0)
        q5_0_levels(l, s, b, bytes);
    else
        q4_levels(l, s, four_nibbles(b + (t == DT_Q4_0 ? 2 : 4), bytes));
}

// ---- super-blocks

// Scales (times d) and minima (times -dmin) of the 8 groups of a Q4_K or Q5_K block.
ALWAYS_INLINE void group_scales(struct levels *l, const uint8_t *b)
{
    uint32_t u0, u1, u2;
    memcpy(&u0, b + 4, 4);
    memcpy(&u1, b + 8, 4);
    memcpy(&u2, b + 12, 4);
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    uint64_t sc = (u0 & six) | (uint64_t)((u2 & four) | (u0 >> 6 & two) << 4) << 32;
    uint64_t mn = (u1 & six) | (uint64_t)((u2 >> 4 & four) | (u1 >> 6 & two) << 4) << 32;
    __m512 f =
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x((long long)mn, (long long)sc)));
    const __m512i first = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    l->scale = _mm512_mul_ps(_mm512_permutexvar_ps(first, f), _mm512_set1_ps(half_at(b)));
    l->base = _mm512_mul_ps(_mm512_permutexvar_ps(second, f), _mm512_set1_ps(-half_at(b + 2)));
}

// Eight bytes of each group: two vectors of levels, of the even and of the odd bytes. v: in 64-bit lane g the bytes
// that hold group g in their low half (g even) or high half.
ALWAYS_INLINE void q45_k_pair(__m512i *even, __m512i *odd, bool five, const struct tables *s,
                              __m512i v, const uint8_t *qh)
{
    const __m512i low = _mm512_setr_epi64(0, 0x0004000400040004, 0, 0x0004000400040004, 0,
                                          0x0004000400040004, 0, 0x0004000400040004);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(8));
    __m512i e = _mm512_srlv_epi16(v, low), o = _mm512_srlv_epi16(v, high);
    if (five) {
        const __m512i g = _mm512_setr_epi64(
            0, 0x0001000100010001, 0x0002000200020002, 0x0003000300030003, 0x0004000400040004,
            0x0005000500050005, 0x0006000600060006, 0x0007000700070007);
        long long eight;
        memcpy(&eight, qh, sizeof eight);
        __m512i h = _mm512_set1_epi64(eight); // bit g of byte i is the fifth of weight i of group g
        e = join(e, _mm512_srlv_epi16(_mm512_slli_epi16(h, 4), g));
        o = join(o, _mm512_srlv_epi16(h, _mm512_add_epi16(g, _mm512_set1_epi16(4))));
    }
    *even = _mm512_permutexvar_epi16(e, s->levels);
    *odd = _mm512_permutexvar_epi16(o, s->levels);
}

ALWAYS_INLINE void q45_k_levels(struct levels *l, bool five, const struct tables *s,
                                const uint8_t *b)
{
    const uint8_t *qs = b + (five ? 48 : 16), *qh = b + 16;
    __m512i v0 = _mm512_loadu_si512(qs), v1 = _mm512_loadu_si512(qs + 64);
    const __m512i at = _mm512_setr_epi64(0, 0, 4, 4, 8, 8, 12, 12), one = _mm512_set1_epi64(1);
    const __m512i at1 = _mm512_add_epi64(at, one), at2 = _mm512_add_epi64(at1, one);
    const __m512i at3 = _mm512_add_epi64(at2, one);
    group_scales(l, b);
    q45_k_pair(&l->v0, &l->v1, five, s, _mm512_permutex2var_epi64(v0, at, v1), qh);
    q45_k_pair(&l->v2, &l->v3, five, s, _mm512_permutex2var_epi64(v0, at1, v1), qh + 8);
    q45_k_pair(&l->v4, &l->v5, five, s, _mm512_permutex2var_epi64(v0, at2, v1), qh + 16);
    q45_k_pair(&l->v6, &l->v7, five, s, _mm512_permutex2var_epi64(v0, at3, v1), qh + 24);
}

// Four bytes of each group. v, high: in 32-bit lane g the bytes with its low four bits and its upper two.
ALWAYS_INLINE void q6_k_pair(__m512i *even, __m512i *odd, const struct tables *s, __m512i v,
                             __m512i high)
{
    const __m512i half = _mm512_broadcast_i64x4(_mm256_setr_epi32(
        0, 0, 0, 0, 0x40004, 0x40004, 0x40004, 0x40004)); // quarters 2 and 3: the high half
    const __m512i two = _mm512_broadcast_i64x4(
        _mm256_setr_epi32(0, 0, 0x20002, 0x20002, 0x40004, 0x40004, 0x60006, 0x60006)); // bits 2c
    __m512i e =
        join(_mm512_srlv_epi16(v, half), _mm512_srlv_epi16(_mm512_slli_epi16(high, 4), two));
    __m512i o = join(_mm512_srlv_epi16(v, _mm512_add_epi16(half, _mm512_set1_epi16(8))),
                     _mm512_srlv_epi16(high, _mm512_add_epi16(two, _mm512_set1_epi16(4))));
    *even = _mm512_permutex2var_epi16(s->low, e, s->levels);
    *odd = _mm512_permutex2var_epi16(s->low, o, s->levels);
}

ALWAYS_INLINE void q6_k_levels(struct levels *l, const struct tables *s, const uint8_t *b)
{
    __m512i v0 = _mm512_loadu_si512(b), v1 = _mm512_loadu_si512(b + 64);
    __m512i h = _mm512_loadu_si512(b + 128);
    // 32-bit words of group 8 h + 2 c + i / 16
    const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 16, 20, 24, 28, 16, 20, 24, 28);
    const __m512i up = _mm512_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4, 8, 12, 8, 12, 8, 12, 8, 12);
    const __m512i one = _mm512_set1_epi32(1), two = _mm512_set1_epi32(2),
                  three = _mm512_set1_epi32(3);
    __m512 sc = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load128(b + 192)));
    l->scale = _mm512_mul_ps(sc, _mm512_set1_ps(half_at(b + 208)));
    q6_k_pair(&l->v0, &l->v1, s, _mm512_permutex2var_epi32(v0, at, v1),
              _mm512_permutexvar_epi32(up, h));
    q6_k_pair(&l->v2, &l->v3, s, _mm512_permutex2var_epi32(v0, _mm512_add_epi32(at, one), v1),
              _mm512_permutexvar_epi32(_mm512_add_epi32(up, one), h));
    q6_k_pair(&l->v4, &l->v5, s, _mm512_permutex2var_epi32(v0, _mm512_add_epi32(at, two), v1),
              _mm512_permutexvar_epi32(_mm512_add_epi32(up, two), h));
    q6_k_pair(&l->v6, &l->v7, s, _mm512_permutex2var_epi32(v0, _mm512_add_epi32(at, three), v1),
              _mm512_permutexvar_epi32(_mm512_add_epi32(up, three), h));
}

ALWAYS_INLINE void levels_of(struct levels *l, enum dtype t, const struct tables *s,
                             const uint8_t *b)
{
    if (t == DT_Q6_K)
        q6_k_levels(l, s, b);
    else if (is_super(t))
        q45_k_levels(l, t == DT_Q5_K, s, b);
    else
        small_levels(l, t, s, b);
}

#endif
