// SPDX-License-Identifier: MIT
// Dot products with weights in blocks in AVX512-BF16, at the speed of memory: levels become bf16, which holds
// every level exactly, and meet the prepared bf16 row in vdpbf16ps; scales are applied in f32 to the sums of
// a group. Nothing is rounded but x, as for unquantised weights, and no activation becomes an integer.
//
//   levels of a step, 4 or 8 vectors; a group keeps to its lanes (blocks_levels.h)     once for up to 8 rows of x
//   t[lane]    = sum of levels times x, x in the same order
//   sum[lane] += scale[lane] * t[lane] + base[lane] * (sum of x in the lane)           base: Q4_1, Q4_K, Q5_K
//
// x is put into that order in pieces that fit on the stack, with the sums of x behind each step, all rows of a step
// side by side. With several rows, sixteen rows of W go through a stretch of x that stays in L1, before the next
// stretch; their sums wait in between. The order of the sum is the same for one row as for eight.
//
// Easy to get wrong: a row's last step may lack blocks: they are read from a copy with zeros.
#include "kernels/x86/blocks_levels.h"

#include "base/size.h"
#include "kernels/tiers.h"
#include "kernels/x86/tiers_blocks.h"

enum {
    PIECE = 1 << 15,   // inputs of all rows that are put in order at once
    STRETCH = 1 << 13, // of those that stay in L1
    CHUNK = 64,        // outputs whose sums are kept
    GROUP = 16,        // outputs that share a stretch
    VECTOR = 64,       // bytes
};

struct piece {
    _Alignas(64) uint8_t x[PIECE * 2 * 5 / 4 + 2 * 8 * 5 * VECTOR];
    _Alignas(64) float sum[CHUNK][KERNEL_FEW_ROWS][16];
};

ALWAYS_INLINE size_t step_inputs(enum dtype t)
{
    return is_super(t) ? BLOCK_SUPER : 4 * BLOCK_SMALL;
}

// Bytes of one row's step in order.
ALWAYS_INLINE size_t step_bytes(enum dtype t)
{
    return step_inputs(t) * 2 + (has_base(t) ? VECTOR : 0);
}

// In assembly, since gcc 12 neither takes x from memory in the instruction nor clears a register where it could.
ALWAYS_INLINE __m512 dot_add(__m512 sum, const uint8_t *x, __m512i w)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const __m512i *)(const void *)x));
    return sum;
}

ALWAYS_INLINE __m512 dot_first(const uint8_t *x, __m512i w)
{
    __m512 sum;
    __asm__("vpxord %0, %0, %0\n\tvdpbf16ps %2, %1, %0"
            : "=&v"(sum)
            : "v"(w), "m"(*(const __m512i *)(const void *)x));
    return sum;
}

// ---- x

// Transposes the 128-bit lanes of v[0], v[step], v[2 step], v[3 step].
ALWAYS_INLINE void lanes_transpose(__m512i *v, size_t step)
{
    __m512i *a = v, *b = v + step, *c = v + 2 * step, *d = v + 3 * step;
    __m512i ab0 = _mm512_shuffle_i64x2(*a, *b, 0x44), ab1 = _mm512_shuffle_i64x2(*a, *b, 0xee);
    __m512i cd0 = _mm512_shuffle_i64x2(*c, *d, 0x44), cd1 = _mm512_shuffle_i64x2(*c, *d, 0xee);
    *a = _mm512_shuffle_i64x2(ab0, cd0, 0x88);
    *b = _mm512_shuffle_i64x2(ab0, cd0, 0xdd);
    *c = _mm512_shuffle_i64x2(ab1, cd1, 0x88);
    *d = _mm512_shuffle_i64x2(ab1, cd1, 0xdd);
}

// One step of a row at `to` from n inputs at x: 64-bit lane (128-bit lane) i of vector c is piece c of vector i.
ALWAYS_INLINE void order_step(uint8_t *to, enum dtype t, __m512i order, const uint8_t *x, size_t n)
{
    const int n_vector = is_super(t) ? 8 : 4;
    __m512i v[8], out[8];
#pragma GCC unroll 8
    for (int i = 0; i < n_vector; i++)
        v[i] = (size_t)i * 32 < n
                   ? _mm512_permutexvar_epi16(order, _mm512_loadu_si512(x + i * VECTOR))
                   : _mm512_setzero_si512();
    if (is_super(t)) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            out[2 * i] = _mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]);
            out[2 * i + 1] = _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]);
        }
        lanes_transpose(out, 2);
        lanes_transpose(out + 1, 2);
    } else {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            out[i] = v[i];
        lanes_transpose(out, 1);
    }
    const __m512i ones = _mm512_set1_epi16(0x3f80);
    __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int c = 0; c < n_vector; c++) {
        _mm512_storeu_si512(to + c * VECTOR, out[c]);
        if (has_base(t))
            sum = dot_add(sum, to + c * VECTOR, ones);
    }
    if (has_base(t))
        _mm512_storeu_ps(to + n_vector * VECTOR, sum);
}

// Inputs [from, from + n) of M rows; rows behind the job's last are that one again.
ALWAYS_INLINE void order_rows(uint8_t *to, enum dtype t, int M, const struct product_job *j,
                              size_t x_stride, size_t row, size_t from, size_t n)
{
    const __m512i order = order_of(t);
    for (size_t i = 0; i < n; i += step_inputs(t))
        for (size_t r = 0; r < (size_t)M; r++, to += step_bytes(t)) {
            const uint8_t *x =
                (const uint8_t *)j->x + min_size(row + r, j->m - 1) * x_stride + 2 * (from + i);
            order_step(to, t, order, x, min_size(step_inputs(t), n - i));
        }
}

// ---- products

// The hardware's prefetchers start anew at every page, and hardly at all in a stretch of a row: into L2 what comes
// `ahead` bytes later, into L1 what comes `next` bytes later (0 = nothing).
ALWAYS_INLINE void bring(const uint8_t *w, size_t ahead, size_t next, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 2);
    for (size_t line = 0; next > 0 && line < bytes; line += VECTOR)
        __builtin_prefetch((const void *)((uintptr_t)w + next + line), 0, 3);
}

// sum + one step of a row; a super-block in two halves, since the instruction's latency is long.
ALWAYS_INLINE __m512 step_dot(enum dtype t, const struct levels *l, const uint8_t *x, __m512 sum)
{
    __m512 d = dot_add(dot_first(x, l->v0), x + VECTOR, l->v1);
    d = dot_add(dot_add(d, x + 2 * VECTOR, l->v2), x + 3 * VECTOR, l->v3);
    if (is_super(t)) {
        __m512 e = dot_add(dot_first(x + 4 * VECTOR, l->v4), x + 5 * VECTOR, l->v5);
        e = dot_add(dot_add(e, x + 6 * VECTOR, l->v6), x + 7 * VECTOR, l->v7);
        d = _mm512_add_ps(d, e);
    }
    sum = _mm512_fmadd_ps(l->scale, d, sum);
    if (has_base(t))
        sum = _mm512_fmadd_ps(l->base, _mm512_load_ps(x + step_bytes(t) - VECTOR), sum);
    return sum;
}

// sum[row] += n inputs of a row of W, w_row bytes from the next, times M rows of x in order.
ALWAYS_INLINE void dots(float sum[][16], enum dtype t, int M, const struct tables *s,
                        const uint8_t *w, const uint8_t *x, size_t n, size_t w_row)
{
    const size_t bytes = block_bytes(t) * (is_super(t) ? 1 : 4), row = step_bytes(t);
    uint8_t last[4 * sizeof(struct block_q8_0)];
    struct levels l;
    __m512 a0, a1, a2, a3, a4, a5, a6, a7;
#define ROWS(what)                                                                                 \
    do {                                                                                           \
        what(0);                                                                                   \
        what(1);                                                                                   \
        what(2);                                                                                   \
        what(3);                                                                                   \
        what(4);                                                                                   \
        what(5);                                                                                   \
        what(6);                                                                                   \
        what(7);                                                                                   \
    } while (0)
#define LOAD(r)  a##r = M > r ? _mm512_load_ps(sum[r]) : _mm512_setzero_ps()
#define STORE(r) M > r ? _mm512_store_ps(sum[r], a##r) : (void)0
#define DOT(r)   a##r = M > r ? step_dot(t, &l, x + r * row, a##r) : a##r
#define STEP(w)                                                                                    \
    do {                                                                                           \
        levels_of(&l, t, s, w);                                                                    \
        ROWS(DOT);                                                                                 \
    } while (0)
    ROWS(LOAD);
    for (; n >= step_inputs(t); n -= step_inputs(t), w += bytes, x += (size_t)M * row) {
        bring(w, (M > 1 ? GROUP : 2) * w_row, M > 1 ? w_row : 0, bytes);
        STEP(w);
    }
    if (!is_super(t) && n > 0) {
        memset(last, 0, sizeof last);
        memcpy(last, w, n / BLOCK_SMALL * block_bytes(t));
        STEP(last);
    }
    ROWS(STORE);
#undef STEP
#undef DOT
#undef STORE
#undef LOAD
#undef ROWS
}

// Outputs [o, o + n) of M rows from `row` on.
ALWAYS_INLINE void chunk(struct piece *p, enum dtype t, int M, const struct product_job *j,
                         size_t x_stride, size_t row, size_t o, size_t n, bool ordered)
{
    const size_t row_bytes = dtype_span(t, j->w_stride);
    const size_t piece = PIECE / (size_t)M, stretch = M > 1 ? STRETCH / (size_t)M : piece;
    const size_t group = M > 1 ? GROUP : 1;
    const struct tables s = tables_for(t);
    memset(p->sum, 0, n * sizeof p->sum[0]);
    for (size_t from = 0; from < j->k; from += piece) {
        size_t inputs = min_size(piece, j->k - from);
        if (!ordered)
            order_rows(p->x, t, M, j, x_stride, row, from, inputs);
        for (size_t g = 0; g < n; g += group)
            for (size_t i = 0; i < inputs; i += stretch) {
                const uint8_t *w =
                    (const uint8_t *)j->w + (o + g) * row_bytes + dtype_span(t, from + i);
                const uint8_t *x = p->x + i / step_inputs(t) * (size_t)M * step_bytes(t);
                for (size_t c = g; c < min_size(g + group, n); c++, w += row_bytes)
                    dots(p->sum[c], t, M, &s, w, x, min_size(stretch, inputs - i), row_bytes);
            }
    }
    for (size_t r = 0; r < min_size((size_t)M, j->m - row); r++)
        for (size_t c = 0; c < n; c++) {
            float v = _mm512_reduce_add_ps(_mm512_load_ps(p->sum[c][r]));
            v += j->bias ? j->bias[o + c] : 0.0f;
            float *y = &j->y[(row + r) * j->y_stride + o + c];
            *y = j->add ? *y + v : v;
        }
}

ALWAYS_INLINE void few_rows(struct piece *piece, enum dtype t, int M, const struct product_job *j,
                            size_t x_stride, size_t row)
{
    for (size_t o = 0; o < j->n; o += CHUNK)
        chunk(piece, t, M, j, x_stride, row, o, min_size(CHUNK, j->n - o),
              o > 0 && j->k <= PIECE / (size_t)M);
}

ALWAYS_INLINE void few_type(const struct product_kernels *p, const struct product_job *j,
                            enum dtype t)
{
    struct piece piece;
    size_t x_stride = product_x_stride(p, j->k);
    for (size_t row = 0; row < j->m;) {
        size_t left = j->m - row;
        if (left > 4) {
            few_rows(&piece, t, 8, j, x_stride, row);
            row += 8;
        } else if (left > 2) {
            few_rows(&piece, t, 4, j, x_stride, row);
            row += 4;
        } else if (left == 2) {
            few_rows(&piece, t, 2, j, x_stride, row);
            row += 2;
        } else {
            few_rows(&piece, t, 1, j, x_stride, row);
            row += 1;
        }
    }
}

void few_blocks_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
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
