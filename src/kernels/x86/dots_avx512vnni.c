// SPDX-License-Identifier: MIT
// Dot products of few rows with weights in blocks in AVX512-VNNI, at the speed of memory.
//
//   levels of 256 weights, 4 vectors; 16 weights of a group to a lane (dots_levels.h)    once for up to 8 rows of x
//   t[lane]    = sum of weight levels times x levels, an integer                         vpdpbusd
//   sum[lane] += scale[lane] * step[lane] * t[lane] - base[lane] * (sum of x in the lane)
//
// Against Q6_K and Q8_0 x has 16 bits, two sums of bytes; against the coarser types 8. One row of x reads W from end
// to end. With several, sixteen rows of W go through a stretch of x that stays in L1, before the next stretch; their
// sums wait in between. The order of the sum is the same for one row as for eight.
//
// Easy to get wrong: a row's last step may lack blocks: they are read from a copy with zeros.
#include "kernels/x86/lanes_avx512.h"

#include "base/size.h"
#include "kernels/tiers.h"
#include "kernels/x86/dots_levels.h"
#include "kernels/x86/tiers_blocks.h"

enum {
    STRETCH = 1 << 13,     // inputs of all rows that stay in L1
    GROUP = 16,            // outputs that share a stretch
    MANY_INPUTS = 8 << 10, // of 16 bits: 20 KiB
    VECTOR = 64,           // bytes
    AHEAD = 8 << 10,       // bytes of W asked for ahead of one row of x ...
    AHEAD_LESS = 5 << 10,  // ... that takes most of L1 itself
    FAR = 16 << 10,        // a byte in each page (FAR_STEP inputs are less than one) farther ahead
    FAR_STEP = 1024,
};

// ---- x

// 256 inputs at x, the rest of them zeros.
static void prepare_block(struct dots_block *to, const float *x, size_t n)
{
    const __m512i unsign = _mm512_set1_epi32(0x7fffffff);
    __m512 v[DOTS_LANES];
#pragma GCC unroll 16
    for (size_t i = 0; i < DOTS_LANES; i++) {
        size_t at = min_size(i * LANES, n);
        v[i] = lanes_load_n(x + at, min_size(LANES, n - at));
    }
    lanes_transpose(v); // now input i of every lane
    __m512i top = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (size_t i = 0; i < DOTS_LANES; i++)
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v[i]), unsign));
    __mmask16 bad = _mm512_cmpge_epu32_mask(top, _mm512_set1_epi32(0x7f800000));
    __mmask16 none = bad | _mm512_cmplt_epu32_mask(top, _mm512_set1_epi32(17 << 23));
    const __m512 most = _mm512_set1_ps(DOTS_TOP), size = _mm512_castsi512_ps(top);
    __m512 step = _mm512_maskz_div_ps((__mmask16)~none, size, most);
    __m512 inverse = _mm512_maskz_div_ps((__mmask16)~none, most, size);
    step = _mm512_mask_mov_ps(step, bad, _mm512_set1_ps(NAN));
    __m512i all = _mm512_setzero_si512(), highs = all;
    const __m512i byte = _mm512_set1_epi32(0xff);
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; j++) {
        __m512i high = _mm512_setzero_si512(), low = high;
#pragma GCC unroll 4
        for (unsigned b = 0; b < 4; b++) {
            __m512 scaled = _mm512_maskz_mul_ps((__mmask16)~none, v[4 * j + b], inverse);
            __m512i q = _mm512_cvtps_epi32(scaled);
            __m512i h = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
            all = _mm512_add_epi32(all, q);
            highs = _mm512_add_epi32(highs, h);
            high = _mm512_or_si512(high, _mm512_slli_epi32(_mm512_and_si512(h, byte), 8 * b));
            low = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_and_si512(q, byte), 8 * b));
        }
        _mm512_store_si512(to->high + j * VECTOR, high);
        _mm512_store_si512(to->low + j * VECTOR, low);
    }
    _mm512_store_ps(to->step, step);
    __m512 wide = _mm512_mul_ps(step, _mm512_set1_ps(256));
    _mm512_store_ps(to->sum, _mm512_mul_ps(wide, _mm512_cvtepi32_ps(highs)));
    _mm512_store_si512(to->base,
                       _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), all), 7));
}

static void prepare(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                    size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++, x += x_stride) {
        uint8_t *row = (uint8_t *)dst + r * bytes;
        struct dots_block *to = (struct dots_block *)(void *)row;
        for (size_t i = 0; i < k; i += DOTS_BLOCK, to++)
            prepare_block(to, x + i, min_size(DOTS_BLOCK, k - i));
        memset(to, 0, bytes - (size_t)((uint8_t *)to - row));
    }
}

// ---- products

// In assembly, since gcc 12 copies the accumulator of the intrinsic.
ALWAYS_INLINE __m512i dot_add(__m512i sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

ALWAYS_INLINE __m512i dot_first(__m512i w, __m512i x)
{
    __m512i sum;
    __asm__("vpxord %0, %0, %0\n\tvpdpbusd %2, %1, %0" : "=&v"(sum) : "v"(w), "v"(x));
    return sum;
}

ALWAYS_INLINE __m512 step_add(enum dtype t, const struct levels *l, const struct dots_block *x,
                              __m512i dot, __m512 step, __m512 sum)
{
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), step);
    if (!dots_in_bytes(t))
        return _mm512_fmadd_ps(l->scale, v, sum);
    __m512 base = _mm512_mul_ps(l->base, _mm512_load_ps(x->sum));
    return _mm512_add_ps(sum, _mm512_fmsub_ps(l->scale, v, base));
}

// Adds 256 weights of R rows of W times those of x to a and b.
ALWAYS_INLINE void step_dots(enum dtype t, int R, const struct levels *l, const struct levels *k,
                             const struct dots_block *x, __m512 *a, __m512 *b)
{
#define ADD(to, v, part, first) to = first ? dot_first(v, part) : dot_add(to, v, part)
#define BOTH(i, plane, first)                                                                      \
    do {                                                                                           \
        __m512i part = _mm512_load_si512(x->plane + (i)*VECTOR);                                   \
        ADD(d, l->v##i, part, first);                                                              \
        if (R > 1)                                                                                 \
            ADD(e, k->v##i, part, first);                                                          \
    } while (0)
    __m512i d = _mm512_setzero_si512(), e = d;
    BOTH(0, high, true);
    BOTH(1, high, false);
    BOTH(2, high, false);
    BOTH(3, high, false);
    if (!dots_in_bytes(t)) {
        const __m512i base = _mm512_load_si512(x->base);
        d = _mm512_add_epi32(_mm512_slli_epi32(d, 8), base);
        if (R > 1)
            e = _mm512_add_epi32(_mm512_slli_epi32(e, 8), base);
        BOTH(0, low, false);
        BOTH(1, low, false);
        BOTH(2, low, false);
        BOTH(3, low, false);
    }
#undef BOTH
#undef ADD
    const __m512 step = _mm512_load_ps(x->step);
    *a = step_add(t, l, x, d, step, *a);
    if (R > 1)
        *b = step_add(t, k, x, e, step, *b);
}

// Asks for what lies `ahead` bytes behind w. The hardware's prefetchers start anew at every page, and hardly at all in
// a stretch of a row. No branches here: gcc 12 jumps over what only prefetches (look for it in a disassembly).
ALWAYS_INLINE void bring_l1(const uint8_t *w, size_t ahead, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 3);
}

ALWAYS_INLINE void bring_l2(const uint8_t *w, size_t ahead, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 2);
}

// The last n < 256 weights of a row, zeros behind them.
ALWAYS_INLINE void rest_of(uint8_t *to, enum dtype t, const uint8_t *w, size_t n)
{
    memset(to, 0, step_bytes(t));
    memcpy(to, w, n / BLOCK_SMALL * block_bytes(t));
}

// sum[row of x] += n inputs of a row of W times M rows of x, x_row bytes apart; with R == 2 also sum[8 + row] of the
// next row of W, w_row bytes behind it.
ALWAYS_INLINE void dots(float sum[][LANES], enum dtype t, int M, int R, const uint8_t *w,
                        size_t w_row, const uint8_t *x, size_t x_row, size_t n)
{
    const size_t bytes = step_bytes(t), rest = is_super(t) ? 0 : n % DOTS_BLOCK;
    uint8_t last[2][8 * sizeof(struct block_q8_0)];
    for (size_t r = 0; rest > 0 && r < (size_t)R; r++)
        rest_of(last[r], t, w + r * w_row + n / DOTS_BLOCK * bytes, rest);
    struct levels l, k;
    __m512 a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7;
    const uint8_t *x3 = M > 3 ? x + 3 * x_row : x, *x6 = M > 6 ? x + 6 * x_row : x;
#define ROWS(what)                                                                                 \
    do {                                                                                           \
        what(0, x);                                                                                \
        what(1, x + x_row);                                                                        \
        what(2, x + 2 * x_row);                                                                    \
        what(3, x3);                                                                               \
        what(4, x3 + x_row);                                                                       \
        what(5, x3 + 2 * x_row);                                                                   \
        what(6, x6);                                                                               \
        what(7, x6 + x_row);                                                                       \
    } while (0)
#define LOAD(r, x)                                                                                 \
    a##r = M > r ? _mm512_load_ps(sum[r]) : _mm512_setzero_ps();                                   \
    b##r = M > r && R > 1 ? _mm512_load_ps(sum[8 + r]) : _mm512_setzero_ps()
#define STORE(r, x)                                                                                \
    if (M > r)                                                                                     \
        _mm512_store_ps(sum[r], a##r);                                                             \
    if (M > r && R > 1)                                                                            \
    _mm512_store_ps(sum[8 + r], b##r)
#define DOT(r, x)                                                                                  \
    if (M > r)                                                                                     \
    step_dots(t, R, &l, &k, (const void *)(x), &a##r, &b##r)
    // one row reads W from end to end: straight into L1, and as far ahead as leaves x there
    const size_t ahead = dots_in_bytes(t) || n < MANY_INPUTS ? AHEAD : AHEAD_LESS;
    ROWS(LOAD);
    // a second time with the rest: the steps are most of what there is to compile
    for (bool more = true; more;) {
        for (; n >= DOTS_BLOCK; n -= DOTS_BLOCK) {
            if (M == 1) {
                bring_l1(w, ahead, bytes);
                if (n % FAR_STEP == 0) // whose page nobody has looked up yet
                    bring_l2(w, FAR, 1);
            } else {
                bring_l2(w, GROUP * w_row, bytes);
                bring_l1(w, 2 * w_row, bytes);
                bring_l2(w + w_row, GROUP * w_row, bytes);
                bring_l1(w + w_row, 2 * w_row, bytes);
            }
            levels_of(&l, t, w);
            if (R > 1)
                levels_of(&k, t, w + w_row);
            ROWS(DOT);
            w += bytes;
            x += sizeof(struct dots_block);
            x3 += sizeof(struct dots_block);
            x6 += sizeof(struct dots_block);
        }
        more = !is_super(t) && n > 0;
        n = DOTS_BLOCK;
        w = last[0];
        w_row = sizeof last[0];
    }
    ROWS(STORE);
#undef DOT
#undef STORE
#undef LOAD
#undef ROWS
}

// Outputs [o, o + n), n <= GROUP.
ALWAYS_INLINE void group(enum dtype t, int M, const struct product_job *j, size_t x_row, size_t o,
                         size_t n)
{
    _Alignas(64) float sum[GROUP][KERNEL_FEW_ROWS][LANES];
    const size_t row_bytes = dtype_span(t, j->w_stride);
    const size_t fits = (dots_in_bytes(t) ? 2 : 1) * (size_t)STRETCH / (size_t)M;
    const size_t stretch = M > 1 ? fits / DOTS_BLOCK * DOTS_BLOCK : j->k;
    const int R = M > 1 ? 2 : 1;
    memset(sum, 0, (n + n % 2) * sizeof *sum);
    for (size_t i = 0; i < j->k; i += stretch) {
        const uint8_t *w = (const uint8_t *)j->w + o * row_bytes + dtype_span(t, i);
        const uint8_t *x = (const uint8_t *)j->x + i / DOTS_BLOCK * sizeof(struct dots_block);
        size_t inputs = min_size(stretch, j->k - i), c = 0;
        for (; c < n; c += (size_t)R, w += (size_t)R * row_bytes) {
            size_t next = c + (size_t)R <= n ? row_bytes : 0; // an odd row is its own neighbour
            dots(sum[c], t, M, R, w, next, x, x_row, inputs);
        }
    }
    for (size_t r = 0; r < (size_t)M; r++)
        for (size_t c = 0; c < n; c++) {
            float v = _mm512_reduce_add_ps(_mm512_load_ps(sum[c][r]));
            v += j->bias ? j->bias[o + c] : 0.0f;
            float *y = &j->y[r * j->y_stride + o + c];
            *y = j->add ? *y + v : v;
        }
}

ALWAYS_INLINE void few_rows(const struct product_kernels *p, enum dtype t, int M,
                            const struct product_job *j)
{
    // what nobody has asked for yet
    for (size_t o = 0; M > 1 && o < min_size(GROUP, j->n); o++)
        bring_l2((const uint8_t *)j->w, o * dtype_span(t, j->w_stride), dtype_span(t, j->k));
    for (size_t o = 0; o < j->n; o += GROUP)
        group(t, M, j, product_x_stride(p, j->k), o, min_size(GROUP, j->n - o));
}

// A function for each type and number of rows: in one for all the compiler spills levels, and takes four times as long.
#define FEW(type, M)                                                                               \
    static __attribute__((noinline)) void few_##type##_##M(const struct product_kernels *p,        \
                                                           const struct product_job *j)            \
    {                                                                                              \
        few_rows(p, DT_##type, M, j);                                                              \
    }
#define TYPE(type)                                                                                 \
    FEW(type, 1)                                                                                   \
    FEW(type, 2)                                                                                   \
    FEW(type, 3)                                                                                   \
    FEW(type, 4)                                                                                   \
    FEW(type, 5)                                                                                   \
    FEW(type, 6)                                                                                   \
    FEW(type, 7)                                                                                   \
    FEW(type, 8)                                                                                   \
    static void few_##type(const struct product_kernels *p, const struct product_job *j)           \
    {                                                                                              \
        static void (*const of[KERNEL_FEW_ROWS])(const struct product_kernels *,                   \
                                                 const struct product_job *) = {                   \
            few_##type##_1, few_##type##_2, few_##type##_3, few_##type##_4,                        \
            few_##type##_5, few_##type##_6, few_##type##_7, few_##type##_8};                       \
        if (j->m > 0)                                                                              \
            of[j->m - 1](p, j);                                                                    \
    }

TYPE(Q4_0)
TYPE(Q4_1)
TYPE(Q5_0)
TYPE(Q8_0)
TYPE(Q4_K)
TYPE(Q5_K)
TYPE(Q6_K)
#undef TYPE
#undef FEW

static void few(const struct product_kernels *p, const struct product_job *j)
{
    switch (j->w_type) {
    case DT_Q4_0:
        few_Q4_0(p, j);
        break;
    case DT_Q4_1:
        few_Q4_1(p, j);
        break;
    case DT_Q5_0:
        few_Q5_0(p, j);
        break;
    case DT_Q8_0:
        few_Q8_0(p, j);
        break;
    case DT_Q4_K:
        few_Q4_K(p, j);
        break;
    case DT_Q5_K:
        few_Q5_K(p, j);
        break;
    default:
        few_Q6_K(p, j);
    }
}

void dots_set_avx512vnni(struct product_kernels *p)
{
    p->prepare = prepare;
    p->few = few;
    p->for_blocks = true;
}
