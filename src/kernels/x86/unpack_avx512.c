// SPDX-License-Identifier: MIT
// Blocks to f32 in AVX-512, in front of a panel's packing: 16 levels at a time become f32 and meet scale and
// minimum in the very order of roundings of the plain reader, so the bits are the same.
//
// Easy to get wrong: no fused multiply-add, which would round once where the format rounds twice; a block
// may be the last bytes of a file.
#include <immintrin.h>
#include <string.h>

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

ALWAYS_INLINE __m512 levels(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

ALWAYS_INLINE __m128i low_half(__m128i v)
{
    return _mm_and_si128(v, _mm_set1_epi8(15));
}

ALWAYS_INLINE __m128i high_half(__m128i v)
{
    return _mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi8(15));
}

// (q - zero) d, or q d + m
ALWAYS_INLINE void put_small(float *y, __m128i q, float d, float zero, float m, bool affine)
{
    __m512 v = levels(q);
    if (affine)
        v = _mm512_add_ps(_mm512_mul_ps(v, _mm512_set1_ps(d)), _mm512_set1_ps(m));
    else
        v = _mm512_mul_ps(_mm512_sub_ps(v, _mm512_set1_ps(zero)), _mm512_set1_ps(d));
    _mm512_storeu_ps(y, v);
}

ALWAYS_INLINE void small_block(float *y, const uint8_t *b, enum dtype t)
{
    float d = half_at(b);
    if (t == DT_Q8_0) {
        for (int i = 0; i < 2; i++) {
            __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(b + 2 + 16 * i)));
            _mm512_storeu_ps(y + 16 * i, _mm512_mul_ps(v, _mm512_set1_ps(d)));
        }
        return;
    }
    __m128i v = load16(b + (t == DT_Q4_0 ? 2 : t == DT_Q4_1 ? 4 : 6));
    __m128i lo = low_half(v), hi = high_half(v);
    if (t == DT_Q5_0) {
        uint32_t bits;
        memcpy(&bits, b + 2, sizeof bits);
        const __m128i sixteen = _mm_set1_epi8(16);
        lo = _mm_or_si128(lo, _mm_maskz_mov_epi8((__mmask16)bits, sixteen));
        hi = _mm_or_si128(hi, _mm_maskz_mov_epi8((__mmask16)(bits >> 16), sixteen));
    }
    float zero = t == DT_Q4_0 ? 8.0f : 16.0f, m = t == DT_Q4_1 ? half_at(b + 2) : 0;
    put_small(y, lo, d, zero, m, t == DT_Q4_1);
    put_small(y + 16, hi, d, zero, m, t == DT_Q4_1);
}

ALWAYS_INLINE void put_affine(float *y, __m128i q, float step, float from)
{
    __m512 v = _mm512_mul_ps(_mm512_set1_ps(step), levels(q));
    _mm512_storeu_ps(y, _mm512_sub_ps(v, _mm512_set1_ps(from)));
}

ALWAYS_INLINE void affine_block(float *y, const uint8_t *b, bool five)
{
    const uint8_t *s = b + 4, *qs = b + (five ? 48 : 16);
    float d = half_at(b), dmin = half_at(b + 2);
    for (unsigned g = 0; g < 8; g++, y += 32) {
        unsigned sc = g < 4 ? s[g] & 63u : (s[g + 4] & 15u) | (unsigned)(s[g - 4] >> 6) << 4;
        unsigned mn =
            g < 4 ? s[g + 4] & 63u : (unsigned)(s[g + 4] >> 4) | (unsigned)(s[g] >> 6) << 4;
        float step = d * (float)sc, from = dmin * (float)mn;
        for (unsigned i = 0; i < 32; i += 16) {
            __m128i v = load16(qs + g / 2 * 32 + i), q = g & 1 ? high_half(v) : low_half(v);
            if (five) {
                __mmask16 bit =
                    _mm_test_epi8_mask(load16(b + 16 + i), _mm_set1_epi8((char)(1 << g)));
                q = _mm_or_si128(q, _mm_maskz_mov_epi8(bit, _mm_set1_epi8(16)));
            }
            put_affine(y + i, q, step, from);
        }
    }
}

ALWAYS_INLINE void q6_block(float *y, const uint8_t *b)
{
    float d = half_at(b + 208);
    for (unsigned h = 0; h < 2; h++)
        for (unsigned c = 0; c < 4; c++)
            for (unsigned i = 0; i < 2; i++, y += 16) {
                __m128i l = load16(b + 64 * h + 32 * (c & 1) + 16 * i);
                __m128i u = load16(b + 128 + 32 * h + 16 * i);
                __m128i two = _mm_and_si128(_mm_srl_epi16(u, _mm_cvtsi32_si128((int)(2 * c))),
                                            _mm_set1_epi8(3));
                __m128i q =
                    _mm_or_si128(c < 2 ? low_half(l) : high_half(l), _mm_slli_epi16(two, 4));
                float step = d * (float)(int8_t)b[192 + 8 * h + 2 * c + i];
                __m512 v = _mm512_sub_ps(levels(q), _mm512_set1_ps(32.0f));
                _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_set1_ps(step), v));
            }
}

void unpack_avx512(float *dst, const void *w, enum dtype t, size_t n)
{
    const uint8_t *b = w;
    const size_t block = dtype_block(t), bytes = dtype_block_bytes(t);
    switch (t) {
    case DT_Q4_K:
        for (; n > 0; n -= block, dst += block, b += bytes)
            affine_block(dst, b, false);
        break;
    case DT_Q5_K:
        for (; n > 0; n -= block, dst += block, b += bytes)
            affine_block(dst, b, true);
        break;
    case DT_Q6_K:
        for (; n > 0; n -= block, dst += block, b += bytes)
            q6_block(dst, b);
        break;
    case DT_Q8_0:
        for (; n > 0; n -= block, dst += block, b += bytes)
            small_block(dst, b, DT_Q8_0);
        break;
    case DT_Q4_0:
        for (; n > 0; n -= block, dst += block, b += bytes)
            small_block(dst, b, DT_Q4_0);
        break;
    default:
        for (; n > 0; n -= block, dst += block, b += bytes)
            small_block(dst, b, t);
    }
}
