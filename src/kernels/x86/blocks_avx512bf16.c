// SPDX-License-Identifier: MIT
// Dot products with weights in blocks in AVX512-BF16, at the speed of memory: levels become bf16, which holds
// every level exactly, and meet the prepared bf16 row in vdpbf16ps; scales are applied in f32 to the sums of
// a group. Nothing is rounded but x, as for unquantised weights, and no activation becomes an integer.
//
//   32 levels q in 16-bit lanes -> bf16 by a table in registers (vpermw, vpermt2w) or conversion
//   sum[i][lane] += scale * (pairs of x q)           four times 16 lanes, lest one sum's latency be the speed
//   base[lane]   += minimum * (sum of x in a group)  Q4_1, Q4_K, Q5_K; the sums of x are made once a row of x
//
// The result is one fixed tree over sums and lanes, so it depends neither on the other rows nor on the threads.
// Easy to get wrong: a block may lie at any address and at the end of the file, so only its own bytes are
// read; the groups of Q6_K are 16 weights, half a vector: their scale differs between the halves.
#include <immintrin.h>
#include <string.h>

#include "base/size.h"
#include "kernels/tiers.h"
#include "kernels/x86/tiers_blocks.h"
#include "tensor/blocks.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// bf16 of -32 .. 31 and of 0 .. 31.
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

enum { INPUTS_MAX = 1 << 18 }; // more go the plain way

struct tables {
    __m512i levels, low; // of this type's levels; of -32..-1 for Q6_K
};

struct sums {
    __m512 s0, s1, s2, s3;
    __m256 base;
};

ALWAYS_INLINE __m512bh as_bf16(__m512i v)
{
    __m512bh h;
    memcpy(&h, &v, sizeof h);
    return h;
}

ALWAYS_INLINE __m512 pairs(const uint8_t *x, __m512bh w)
{
    return _mm512_dpbf16_ps(_mm512_setzero_ps(), as_bf16(_mm512_loadu_si512(x)), w);
}

static struct tables tables_for(enum dtype t)
{
    size_t first = t == DT_Q4_0 ? 24 : t == DT_Q5_0 ? 16 : 32; // of level 0 in level_bf16
    struct tables s = {.levels = _mm512_loadu_si512(level_bf16 + first),
                       .low = _mm512_loadu_si512(level_bf16)};
    return s;
}

ALWAYS_INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

// 16 bytes: low halves, then high halves.
ALWAYS_INLINE __m512i nibbles(const uint8_t *qs)
{
    __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)qs));
    __m256i low = _mm256_and_si256(v, _mm256_set1_epi16(15));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm256_srli_epi16(v, 4), 1);
}

// sum + one block of 32 weights times x, the minimum left out.
ALWAYS_INLINE __m512 small_add(__m512 sum, enum dtype t, const struct tables *s, const uint8_t *b,
                               const uint8_t *x)
{
    __m512bh w;
    __m512 d = _mm512_set1_ps(half_at(b));
    if (t == DT_Q8_0) {
        __m512i lo = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(b + 2)));
        __m512i hi = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(b + 18)));
        w = _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(hi), _mm512_cvtepi32_ps(lo));
        return _mm512_fmadd_ps(d, pairs(x, w), sum);
    }
    size_t at = t == DT_Q4_0 ? 2 : t == DT_Q4_1 ? 4 : 6;
    __m512i q = nibbles(b + at);
    if (t == DT_Q5_0) {
        uint32_t high;
        memcpy(&high, b + 2, sizeof high);
        q = _mm512_or_si512(q, _mm512_maskz_set1_epi16((__mmask32)high, 16));
    }
    w = as_bf16(_mm512_permutexvar_epi16(q, s->levels));
    return _mm512_fmadd_ps(d, pairs(x, w), sum);
}

// n <= 4 blocks, each with a sum of its own.
ALWAYS_INLINE void small_blocks(struct sums *a, enum dtype t, const struct tables *s,
                                const uint8_t *b, size_t bytes, const uint8_t *x, const float *xs,
                                size_t n)
{
    a->s0 = small_add(a->s0, t, s, b, x);
    if (n > 1)
        a->s1 = small_add(a->s1, t, s, b + bytes, x + 64);
    if (n > 2)
        a->s2 = small_add(a->s2, t, s, b + 2 * bytes, x + 128);
    if (n > 3)
        a->s3 = small_add(a->s3, t, s, b + 3 * bytes, x + 192);
    if (t == DT_Q4_1) {
        float m[8] = {0};
        for (size_t i = 0; i < n; i++)
            m[i] = half_at(b + i * bytes + 2);
        a->base = _mm256_fmadd_ps(_mm256_loadu_ps(m), _mm256_loadu_ps(xs), a->base);
    }
}

// Scales (times d) and minima (times -dmin) of the 8 groups of a Q4_K or Q5_K block.
ALWAYS_INLINE __m256 group_scales(const uint8_t *b, float scale[8])
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
    _mm256_storeu_ps(scale, _mm256_mul_ps(s, _mm256_set1_ps(half_at(b))));
    return _mm256_mul_ps(m, _mm256_set1_ps(-half_at(b + 2)));
}

ALWAYS_INLINE __m512i bytes_at(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

ALWAYS_INLINE __m512 group_add(__m512 sum, __m512i q, float scale, const struct tables *s,
                               const uint8_t *x)
{
    __m512bh w = as_bf16(_mm512_permutexvar_epi16(q, s->levels));
    return _mm512_fmadd_ps(_mm512_set1_ps(scale), pairs(x, w), sum);
}

// Groups g and g + 1: the halves of 32 bytes.
ALWAYS_INLINE void two_groups(__m512 *sum0, __m512 *sum1, __m512i v, __m512i high, int g,
                              const float scale[8], const struct tables *s, const uint8_t *x)
{
    const __m512i low = _mm512_set1_epi16(15), bit = _mm512_set1_epi16(16);
    // bit g of high to bit 4; without fifth bits it is zero
    __m512i q0 =
        _mm512_or_si512(_mm512_and_si512(v, low),
                        _mm512_and_si512(_mm512_srl_epi16(high, _mm_cvtsi32_si128(g)), bit));
    __m512i q1 =
        _mm512_or_si512(_mm512_srli_epi16(v, 4),
                        _mm512_and_si512(_mm512_srl_epi16(high, _mm_cvtsi32_si128(g + 1)), bit));
    *sum0 = group_add(*sum0, q0, scale[g], s, x);
    *sum1 = group_add(*sum1, q1, scale[g + 1], s, x + 64);
}

ALWAYS_INLINE void q45_k_add(struct sums *a, bool five, const struct tables *s, const uint8_t *b,
                             const uint8_t *x, const float *xs)
{
    float scale[8];
    const uint8_t *qs = b + (five ? 48 : 16);
    __m512i high = five ? _mm512_slli_epi16(bytes_at(b + 16), 4) : _mm512_setzero_si512();
    a->base = _mm256_fmadd_ps(group_scales(b, scale), _mm256_loadu_ps(xs), a->base);
    two_groups(&a->s0, &a->s1, bytes_at(qs), high, 0, scale, s, x);
    two_groups(&a->s2, &a->s3, bytes_at(qs + 32), high, 2, scale, s, x + 128);
    two_groups(&a->s0, &a->s1, bytes_at(qs + 64), high, 4, scale, s, x + 256);
    two_groups(&a->s2, &a->s3, bytes_at(qs + 96), high, 6, scale, s, x + 384);
}

// Quarter c of a half: 32 weights, two scales.
ALWAYS_INLINE __m512 q6_quarter(__m512 sum, __m512i low, __m512i high, __m512 scales, int pair,
                                const struct tables *s, const uint8_t *x)
{
    __m512i q = _mm512_or_si512(low, _mm512_and_si512(high, _mm512_set1_epi16(0x30)));
    __m512bh w = as_bf16(_mm512_permutex2var_epi16(s->low, q, s->levels));
    __m512i at = _mm512_mask_blend_epi32(0xff00, _mm512_set1_epi32(2 * pair),
                                         _mm512_set1_epi32(2 * pair + 1));
    return _mm512_fmadd_ps(_mm512_permutexvar_ps(at, scales), pairs(x, w), sum);
}

ALWAYS_INLINE void q6_k_add(struct sums *a, const struct tables *s, const uint8_t *b,
                            const uint8_t *x)
{
    const __m512i four = _mm512_set1_epi16(15);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(b + 192));
    __m512 scales = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)),
                                  _mm512_set1_ps(half_at(b + 208)));
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++, x += 256) {
        __m512i l0 = bytes_at(b + 64 * h), l1 = bytes_at(b + 64 * h + 32);
        __m512i up = bytes_at(b + 128 + 32 * h);
        a->s0 = q6_quarter(a->s0, _mm512_and_si512(l0, four), _mm512_slli_epi16(up, 4), scales,
                           4 * h, s, x);
        a->s1 = q6_quarter(a->s1, _mm512_and_si512(l1, four), _mm512_slli_epi16(up, 2), scales,
                           4 * h + 1, s, x + 64);
        a->s2 = q6_quarter(a->s2, _mm512_srli_epi16(l0, 4), up, scales, 4 * h + 2, s, x + 128);
        a->s3 = q6_quarter(a->s3, _mm512_srli_epi16(l1, 4), _mm512_srli_epi16(up, 2), scales,
                           4 * h + 3, s, x + 192);
    }
}

// Into L2: the hardware's prefetchers start anew at every page.
ALWAYS_INLINE void bring(const uint8_t *w, size_t ahead, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += 64)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 2);
}

ALWAYS_INLINE float dot(enum dtype t, const struct tables *s, const uint8_t *w, const uint8_t *x,
                        const float *xs, size_t k, size_t ahead)
{
    const bool super = t == DT_Q4_K || t == DT_Q5_K || t == DT_Q6_K;
    const size_t bytes = t == DT_Q4_0   ? sizeof(struct block_q4_0)
                         : t == DT_Q4_1 ? sizeof(struct block_q4_1)
                         : t == DT_Q5_0 ? sizeof(struct block_q5_0)
                         : t == DT_Q8_0 ? sizeof(struct block_q8_0)
                         : t == DT_Q4_K ? sizeof(struct block_q4_k)
                         : t == DT_Q5_K ? sizeof(struct block_q5_k)
                                        : sizeof(struct block_q6_k);
    struct sums a;
    a.s0 = a.s1 = a.s2 = a.s3 = _mm512_setzero_ps();
    a.base = _mm256_setzero_ps();
    size_t step = super ? BLOCK_SUPER : 4 * BLOCK_SMALL, i = 0;
    for (; i + step <= k; i += step, x += 2 * step) {
        if (t == DT_Q6_K)
            q6_k_add(&a, s, w, x);
        else if (super)
            q45_k_add(&a, t == DT_Q5_K, s, w, x, xs + i / 32);
        else
            small_blocks(&a, t, s, w, bytes, x, xs + i / 32, 4);
        bring(w, ahead, super ? bytes : 4 * bytes);
        w += super ? bytes : 4 * bytes;
    }
    size_t left = (k - i) / BLOCK_SMALL;
    if (!super && left == 1)
        small_blocks(&a, t, s, w, bytes, x, xs + i / 32, 1);
    else if (!super && left == 2)
        small_blocks(&a, t, s, w, bytes, x, xs + i / 32, 2);
    else if (!super && left == 3)
        small_blocks(&a, t, s, w, bytes, x, xs + i / 32, 3);
    __m512 sum = _mm512_add_ps(_mm512_add_ps(a.s0, a.s1), _mm512_add_ps(a.s2, a.s3));
    sum = _mm512_add_ps(sum, _mm512_insertf32x8(_mm512_setzero_ps(), a.base, 0));
    return _mm512_reduce_add_ps(sum);
}

// Sum of each 32 elements of a prepared row, and zeros behind them for a last block's reader.
static void group_sums(float *xs, const uint8_t *x, size_t k)
{
    const __m512bh ones = as_bf16(_mm512_set1_epi16(0x3f80));
    size_t n = k / 32;
    for (size_t i = 0; i < n; i++)
        xs[i] = _mm512_reduce_add_ps(pairs(x + 64 * i, ones));
    memset(xs + n, 0, 8 * sizeof *xs);
}

ALWAYS_INLINE void few_type(const struct product_kernels *p, const struct product_job *j,
                            enum dtype t)
{
    size_t x_stride = product_x_stride(p, j->k), row_bytes = dtype_span(t, j->w_stride);
    const struct tables s = tables_for(t);
    float xs[INPUTS_MAX / 32 + 8];
    for (size_t r = 0; r < j->m; r++) { // a task's rows of W stay in L2
        const uint8_t *x = (const uint8_t *)j->x + r * x_stride, *w = j->w;
        if (t == DT_Q4_1 || t == DT_Q4_K || t == DT_Q5_K)
            group_sums(xs, x, j->k);
        for (size_t o = 0; o < j->n; o++, w += row_bytes) {
            float v = dot(t, &s, w, x, xs, j->k, 2 * row_bytes);
            v += j->bias ? j->bias[o] : 0.0f;
            float *y = &j->y[r * j->y_stride + o];
            *y = j->add ? *y + v : v;
        }
    }
}

void few_blocks_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
    if (j->k > INPUTS_MAX) {
        product_few_blocks(p, j);
        return;
    }
    switch (j->w_type) {
    case DT_Q4_0:
        few_type(p, j, DT_Q4_0);
        break;
    case DT_Q4_1:
        few_type(p, j, DT_Q4_1);
        break;
    case DT_Q5_0:
        few_type(p, j, DT_Q5_0);
        break;
    case DT_Q8_0:
        few_type(p, j, DT_Q8_0);
        break;
    case DT_Q4_K:
        few_type(p, j, DT_Q4_K);
        break;
    case DT_Q5_K:
        few_type(p, j, DT_Q5_K);
        break;
    default:
        few_type(p, j, DT_Q6_K);
    }
}
