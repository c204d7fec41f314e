// SPDX-License-Identifier: MIT
// Attention in int8 in AVX512-VNNI. All is transposed: a vector's lanes are queries, rows of a tile are keys or
// channels, so the softmax runs down the keys without a sum across lanes, its levels become the next product's
// panel where they are, and 88 channels are 8 tiles of 11 rows without padding.
//
//   S^T [keys, queries] = K levels, broadcast, times the queries' panel      11 rows x 2 vectors of sums
//   P^T                 = levels of 2^(S^T - its maximum), four keys a cell
//   O^T [d, queries]   += V^T levels, broadcast, times P^T
//
// vpdpbusd's first factor is unsigned: the queries' panel holds level + 128 and a key's sums begin with -128 times the
// sum of its levels; probabilities are unsigned as they are.
//
// Easy to get wrong: gcc 12 leaves arrays of vectors in memory and copies accumulators, hence named variables (look at
// the loop in a disassembly after every change).
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tiers_blocks.h"

#include <assert.h>

#include "kernels/attention_int8.h"
#include "kernels/exp_lanes.h"
#include "kernels/x86/attention_lanes.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static_assert((size_t)LEVEL_QUERIES == (size_t)TILE_QUERIES, "one tile of queries");

enum {
    MEAN_VECTORS = 6, // of channels whose mean is in registers
    AHEAD = 16,       // rows asked for early: they lie pages apart
};

// ---- levels

ALWAYS_INLINE __m512i size_bits(lanes v)
{
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}

// x [n] - from, or x * by when from is NULL.
ALWAYS_INLINE lanes row_value(const float *x, const float *from, lanes by, size_t c, size_t n)
{
    lanes v = n == LANES ? lanes_load(x + c) : lanes_load_n(x + c, n);
    if (!from)
        return lanes_mul(v, by);
    return lanes_sub(v, n == LANES ? lanes_load(from + c) : lanes_load_n(from + c, n));
}

// LANES levels, zeros without `any`, and their sum.
ALWAYS_INLINE __m512i row_part(int8_t *q, lanes v, lanes inverse, __mmask16 any, __m512i sum)
{
    __m512i l = _mm512_maskz_cvtps_epi32(any, lanes_mul(v, inverse));
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtsepi32_epi8(l));
    return _mm512_add_epi32(sum, l);
}

// q = levels of a row of n values and zeros up to a multiple of LANES; *sum = that of the levels. Returns the step.
// Where that is a NaN the levels are zeros.
ALWAYS_INLINE float row_levels(int8_t *q, const float *x, const float *from, float by, size_t n,
                               int32_t *sum)
{
    __m512i top = _mm512_setzero_si512(), all = top;
    const lanes factor = lanes_set(by);
    const size_t full = n / LANES * LANES, rest = n - full;
    for (size_t c = 0; c < full; c += LANES)
        top = _mm512_max_epu32(top, size_bits(row_value(x, from, factor, c, LANES)));
    if (rest > 0)
        top = _mm512_max_epu32(top, size_bits(row_value(x, from, factor, full, rest)));
    struct int8_scale s = int8_scale_of(_mm512_reduce_max_epu32(top));
    const lanes inverse = lanes_set(s.inverse);
    const __mmask16 any = s.inverse != 0 ? 0xffff : 0;
    for (size_t c = 0; c < full; c += LANES)
        all = row_part(q + c, row_value(x, from, factor, c, LANES), inverse, any, all);
    if (rest > 0)
        all = row_part(q + full, row_value(x, from, factor, full, rest), inverse, any, all);
    *sum = _mm512_reduce_add_epi32(all);
    return s.step;
}

// mean [c, c + n) of the keys, n up to MEAN_VECTORS vectors.
static void mean_part(const struct attention_job *j, float *mean, size_t c, size_t n)
{
#define MEAN_EACH(F) F(0) F(1) F(2) F(3) F(4) F(5)
#define MEAN_ZERO(i)                                                                               \
    const size_t n##i = n > i * LANES ? min_size(LANES, n - i * LANES) : 0;                        \
    lanes m##i = lanes_zero();
#define MEAN_ADD(i)   m##i = lanes_add(m##i, lanes_load_n(k + i * LANES, n##i));
#define MEAN_STORE(i) lanes_store_n(mean + c + i * LANES, lanes_div(m##i, all), n##i);
    const lanes all = lanes_set((float)j->n_k);
    const float *k = (const float *)j->k + c;
    MEAN_EACH(MEAN_ZERO)
    for (size_t i = 0; i < j->n_k; i++, k += j->k_stride) {
        size_t ahead = min_size(AHEAD, j->n_k - 1 - i) * j->k_stride;
        for (size_t line = 0; line < n; line += LANES)
            __builtin_prefetch(k + ahead + line, 0, 2);
        MEAN_EACH(MEAN_ADD)
    }
    MEAN_EACH(MEAN_STORE)
#undef MEAN_STORE
#undef MEAN_ADD
#undef MEAN_ZERO
#undef MEAN_EACH
}

// 16 rows of levels, KERNEL_HEAD_MAX apart, to cells: cell i of the first n rows, flipped by `flip`, to `to` + i * step.
ALWAYS_INLINE void store_cells(uint8_t *to, size_t step, const int8_t *rows, size_t cells, size_t n,
                               __m512i flip)
{
    for (size_t at = 0; at < cells; at += LANES) {
        size_t some = min_size(LANES, cells - at);
        lanes r[LANES];
#pragma GCC unroll 16
        for (size_t q = 0; q < LANES; q++) {
            __m512i l =
                _mm512_castps_si512(lanes_load_n(rows + q * KERNEL_HEAD_MAX + 4 * at, some));
            r[q] = _mm512_castsi512_ps(_mm512_xor_si512(l, flip));
        }
        lanes_transpose(r);
#pragma GCC unroll 16
        for (size_t s = 0; s < LANES; s++)
            if (s < some)
                lanes_store_n(to + (at + s) * step, r[s], n);
    }
}

// The keys as tiles of 11: cell by cell, a row's four levels beside the next row's.
static void key_levels(const struct attention_job *j, const struct level_parts *u)
{
    int8_t rows[LANES * KERNEL_HEAD_MAX] = {0};
    for (size_t c = 0; c < j->d; c += MEAN_VECTORS * LANES)
        mean_part(j, u->mean, c, min_size(MEAN_VECTORS * LANES, j->d - c));
    for (size_t i = 0; i < u->k_rows; i += LEVEL_ROWS) {
        for (size_t r = 0; r < LEVEL_ROWS; r++) {
            const float *k = (const float *)j->k + min_size(i + r, j->n_k - 1) * j->k_stride;
            int32_t sum;
            u->k_step[i + r] = row_levels(rows + r * KERNEL_HEAD_MAX, k, u->mean, 1.0f, j->d, &sum);
            u->k_base[i + r] = -128 * sum;
        }
        store_cells((uint8_t *)u->k + i * u->k_stride, LEVEL_ROWS * 4, rows, u->k_stride / 4,
                    LEVEL_ROWS, _mm512_setzero_si512());
    }
}

// 16 cells, one a channel, of four keys' levels.
ALWAYS_INLINE lanes cells_of_keys(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_castsi512_ps(_mm512_shuffle_epi8(bytes, order));
}

// Levels of some <= 11 channels of n keys as a tile: cell by cell, a channel's four keys beside the next channel's.
static void value_tile(int8_t *to, float *step, const float *v, size_t stride, size_t n,
                       size_t some)
{
    __m512i top = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i++)
        top = _mm512_max_epu32(top, size_bits(lanes_load_n(v + i * stride, some)));
    uint32_t tops[LANES];
    float inverses[LANES] = {0};
    _mm512_storeu_si512(tops, top);
    for (size_t c = 0; c < LEVEL_ROWS;
         c++) { // channels that are not there have level and step zero
        struct int8_scale s = int8_scale_of(tops[c]);
        inverses[c] = s.inverse;
        step[c] = s.step;
    }
    const lanes inverse = lanes_load(inverses);
#define VALUE(i)    _mm512_cvtps_epi32(lanes_mul(lanes_load_n(v + (i)*stride, some), inverse))
#define VALUE_IF(i) ((i) < n ? VALUE(i) : _mm512_setzero_si512())
    size_t k = 0;
    for (; k + 4 <= n; k += 4, to += LEVEL_ROWS * 4)
        lanes_store_n(to, cells_of_keys(VALUE(k), VALUE(k + 1), VALUE(k + 2), VALUE(k + 3)),
                      LEVEL_ROWS);
    if (k < n)
        lanes_store_n(to,
                      cells_of_keys(VALUE(k), VALUE_IF(k + 1), VALUE_IF(k + 2), VALUE_IF(k + 3)),
                      LEVEL_ROWS);
#undef VALUE_IF
#undef VALUE
}

static void value_levels(const struct attention_job *j, const struct level_parts *u)
{
    int8_t *to = u->v;
    float *step = u->v_step;
    for (size_t k = 0; k < j->n_k; k += LEVEL_KEYS) {
        const float *v = (const float *)j->v + k * j->v_stride;
        size_t n = min_size(LEVEL_KEYS, j->n_k - k);
        for (size_t i = 0; i < n; i++)
            for (size_t c = 0; c < j->d; c += LANES)
                __builtin_prefetch(v + i * j->v_stride + c, 0, 2);
        for (size_t c = 0; c < u->v_rows; c += LEVEL_ROWS, to += LEVEL_ROWS * LEVEL_KEYS)
            value_tile(to, step + c, v + c, j->v_stride, n, min_size(LEVEL_ROWS, j->d - c));
        step += u->v_rows;
    }
}

// ---- a tile of queries

struct queries {
    lanes a0, a1;         // the step of a query times log2 e
    lanes max0, max1;     // over the keys so far, of scores over a
    lanes total0, total1; // 255 times the sum of the exponentials, relative to max
};

// Levels of queries [i, i + n) of head h as a panel of C vectors, and their steps in step [16 C].
ALWAYS_INLINE void query_panel(const struct attention_job *j, const struct level_parts *u, size_t i,
                               size_t h, size_t n, float *step, const size_t C)
{
    int8_t rows[LEVEL_QUERIES * KERNEL_HEAD_MAX];
    int32_t sum;
    for (size_t q = 0; q < LANES * C; q++) {
        int8_t *row = rows + q * KERNEL_HEAD_MAX;
        step[q] = 0;
        if (q < n)
            step[q] = row_levels(row, j->q + (i + q) * j->q_stride + h * j->d, NULL, j->scale, j->d,
                                 &sum);
        else
            memset(row, 0, u->k_stride);
    }
    for (size_t c = 0; c < C; c++)
        store_cells(u->q + c * LANES * 4, C * LANES * 4, rows + c * LANES * KERNEL_HEAD_MAX,
                    u->k_stride / 4, LANES, _mm512_set1_epi8(-128));
}

#define EACH_ROW(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10)

// Not _mm512_dpbusd_epi32: gcc 12 copies the accumulator before and after it and runs out of registers.
#define DOT(sum, unsigned_, signed_)                                                               \
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_), "v"(signed_))

// The sums s0_0 .. s10_1 of a tile of 11 rows times a panel of C vectors, from base on.
#define TILE_START(r)                                                                              \
    __m512i s##r##_0 = base ? _mm512_set1_epi32(base[r]) : _mm512_setzero_si512();                 \
    __m512i s##r##_1 = s##r##_0;
#define TILE_ROW(r)                                                                                \
    {                                                                                              \
        __m512i cell = _mm512_castps_si512(lanes_splat(x + 4 * r));                                \
        DOT(s##r##_0, w0, cell);                                                                   \
        if (C > 1)                                                                                 \
            DOT(s##r##_1, w1, cell);                                                               \
    }
#define TILE_SUMS(tile, panel, n_cell)                                                             \
    const int8_t *x = (tile);                                                                      \
    const uint8_t *w = (panel);                                                                    \
    EACH_ROW(TILE_START)                                                                           \
    for (size_t left = (n_cell); left != 0; left--) {                                              \
        __m512i w0 = _mm512_load_si512(w), w1 = w0;                                                \
        if (C > 1)                                                                                 \
            w1 = _mm512_load_si512(w + LANES * 4);                                                 \
        EACH_ROW(TILE_ROW)                                                                         \
        x += LEVEL_ROWS * 4;                                                                       \
        w += LANES * 4 * C;                                                                        \
    }

// s [n, 16 C] = scores of n keys (in whole tiles) from key k on over the queries' steps; their maximum.
ALWAYS_INLINE void scores(const struct level_parts *u, size_t k, size_t n, lanes *max0, lanes *max1,
                          const int C)
{
    lanes m0 = lanes_set(-INFINITY), m1 = m0;
    float *s = u->s;
    for (size_t end = k + n; k < end; k += LEVEL_ROWS, s += LEVEL_ROWS * LANES * C) {
        const int32_t *base = u->k_base + k;
        const float *step = u->k_step + k;
        TILE_SUMS(u->k + k * u->k_stride, u->q, u->k_stride / 4)
#define SCORE(r)                                                                                   \
    {                                                                                              \
        lanes by = lanes_splat(step + r);                                                          \
        lanes v0 = lanes_mul(_mm512_cvtepi32_ps(s##r##_0), by);                                    \
        m0 = lanes_max(v0, m0);                                                                    \
        lanes_store(s + r * LANES * C, v0);                                                        \
        if (C > 1) {                                                                               \
            lanes v1 = lanes_mul(_mm512_cvtepi32_ps(s##r##_1), by);                                \
            m1 = lanes_max(v1, m1);                                                                \
            lanes_store(s + r * LANES * C + LANES, v1);                                            \
        }                                                                                          \
    }
        EACH_ROW(SCORE)
#undef SCORE
    }
    *max0 = m0;
    *max1 = m1;
}

// 255 * 2^x, x <= 0, within 1e-4 of the value: the polynomial is a minimax fit of 255 * 2^f over 0 <= f <= 1.
ALWAYS_INLINE lanes exp2_255(lanes x)
{
    lanes f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    lanes q = lanes_fma(lanes_set(19.896271f), f, lanes_set(57.647144f));
    q = lanes_fma(q, f, lanes_set(177.43752f));
    q = lanes_fma(q, f, lanes_set(254.98094f));
    return _mm512_scalef_ps(q, x); // by 2^floor(x)
}

// P of vector c from the scores of n keys: cells of four; returns the sum of what was rounded.
ALWAYS_INLINE lanes probabilities(const struct level_parts *u, size_t n, lanes a, lanes max,
                                  const int c, const int C)
{
    lanes even = lanes_zero(), odd = even;
    const float *s = u->s + c * LANES;
    uint8_t *p = u->p + c * LANES * 4;
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
#define SOFT(t) exp2_255(lanes_mul(lanes_sub(lanes_load(s + (t)*LANES * C), max), a))
#define SOFT_STORE(e0, e1, e2, e3)                                                                 \
    {                                                                                              \
        __m512i i01 = _mm512_packs_epi32(_mm512_cvtps_epi32(e0), _mm512_cvtps_epi32(e1));          \
        __m512i i23 = _mm512_packs_epi32(_mm512_cvtps_epi32(e2), _mm512_cvtps_epi32(e3));          \
        even = lanes_add(even, lanes_add(e0, e1));                                                 \
        odd = lanes_add(odd, lanes_add(e2, e3));                                                   \
        _mm512_store_si512(p, _mm512_shuffle_epi8(_mm512_packus_epi16(i01, i23), order));          \
    }
    for (; n >= 4; n -= 4, s += 4 * LANES * C, p += LANES * 4 * C) {
        lanes e0 = SOFT(0), e1 = SOFT(1), e2 = SOFT(2), e3 = SOFT(3);
        SOFT_STORE(e0, e1, e2, e3)
    }
    if (n > 0) {
        lanes none = lanes_zero();
        lanes e0 = SOFT(0), e1 = n > 1 ? SOFT(1) : none, e2 = n > 2 ? SOFT(2) : none;
        SOFT_STORE(e0, e1, e2, none)
    }
#undef SOFT_STORE
#undef SOFT
    return lanes_add(even, odd);
}

// acc = acc * old + P V * by, V of a block.
ALWAYS_INLINE void values(const struct level_parts *u, size_t block, size_t n, lanes old0,
                          lanes old1, lanes by0, lanes by1, const int C)
{
    const int32_t *base = NULL;
    const float *step = u->v_step + block * u->v_rows;
    const int8_t *v = u->v + block * u->v_rows * LEVEL_KEYS;
    float *y = u->acc;
    for (size_t c = 0; c < u->v_rows; c += LEVEL_ROWS, y += LEVEL_ROWS * LANES * C) {
        TILE_SUMS(v + c * LEVEL_KEYS, u->p, div_up(n, 4))
#define JOIN_1(r, i)                                                                               \
    {                                                                                              \
        float *to = y + r * LANES * C + i * LANES;                                                 \
        lanes sum = lanes_mul(_mm512_cvtepi32_ps(s##r##_##i), lanes_mul(one, by##i));              \
        lanes_store(to, lanes_fma(lanes_load(to), old##i, sum));                                   \
    }
#define JOIN(r)                                                                                    \
    {                                                                                              \
        lanes one = lanes_splat(step + c + r);                                                     \
        JOIN_1(r, 0)                                                                               \
        if (C > 1)                                                                                 \
            JOIN_1(r, 1)                                                                           \
    }
        EACH_ROW(JOIN)
#undef JOIN
#undef JOIN_1
    }
}

// The running maximum and total of vector c meet a block's; *old and *weight = what earlier sums and the block's
// are multiplied with.
ALWAYS_INLINE void join_block(lanes *max, lanes *total, lanes a, lanes here, lanes sum, bool first,
                              lanes *old, lanes *weight)
{
    lanes now = first ? here : lanes_max(here, *max);
    *old = first ? lanes_zero() : lanes_exp2(lanes_mul(lanes_sub(*max, now), a));
    *weight = lanes_exp2(lanes_mul(lanes_sub(here, now), a));
    *total = lanes_fma(*total, *old, lanes_mul(sum, *weight));
    *max = now;
}

ALWAYS_INLINE void attend(const struct attention_job *j, const struct level_parts *u, size_t i,
                          size_t h, size_t n, const int C)
{
    float step[LEVEL_QUERIES];
    query_panel(j, u, i, h, n, step, (size_t)C);
    const lanes log2e = lanes_set(1.44269504f);
    const lanes a0 = lanes_mul(lanes_load(step), log2e);
    const lanes a1 = C > 1 ? lanes_mul(lanes_load(step + LANES), log2e) : a0;
    lanes max0 = lanes_zero(), max1 = max0, total0 = max0, total1 = max0;
    memset(u->acc, 0, u->v_rows * LANES * (size_t)C * sizeof *u->acc);
    for (size_t k = 0, b = 0; k < j->n_k; k += LEVEL_KEYS, b++) {
        size_t keys = min_size(LEVEL_KEYS, j->n_k - k);
        lanes here0, here1, old0, old1, by0, by1;
        scores(u, k, level_rows(keys), &here0, &here1, C);
        lanes sum0 = probabilities(u, keys, a0, here0, 0, C);
        join_block(&max0, &total0, a0, here0, sum0, b == 0, &old0, &by0);
        old1 = old0;
        by1 = by0;
        if (C > 1) {
            lanes sum1 = probabilities(u, keys, a1, here1, 1, C);
            join_block(&max1, &total1, a1, here1, sum1, b == 0, &old1, &by1);
        }
        values(u, b, keys, old0, old1, by0, by1, C);
    }
    tile_results(j, u->acc, i, h, n, total0, total1, C);
}

void attention_avx512vnni(const struct product_kernels *p, const struct attention_job *j,
                          void *scratch)
{
    (void)p;
    if (j->n_q == 0)
        return;
    struct level_parts u = level_parts_of(j, scratch);
    key_levels(j, &u);
    value_levels(j, &u);
    for (size_t h = 0; h < j->group; h++)
        for (size_t i = 0; i < j->n_q; i += LEVEL_QUERIES) {
            size_t n = min_size(LEVEL_QUERIES, j->n_q - i);
            ask_queries(j, i, h);
            if (n > LANES)
                attend(j, &u, i, h, n, 2);
            else
                attend(j, &u, i, h, n, 1);
        }
}
