// SPDX-License-Identifier: MIT
// Dot products with Q8_0 in AVX512-BF16, for cached keys and for layers whose inputs stay in bf16: levels become bf16,
// which holds every level exactly, and meet the prepared bf16 row in vdpbf16ps; scales are applied in f32 to the sums
// of a block. Nothing is rounded but x, as for unquantised weights, and no activation becomes an integer.
//
//   levels of a step: 4 blocks in 4 vectors, block b in 128-bit lane b       once for up to 8 rows of x
//   t[lane]    = sum of levels times x, x in the same order
//   sum[lane] += scale[lane] * t[lane]
//
// x is put into that order in pieces that fit on the stack, all rows of a step side by side. With several rows, sixteen
// rows of W go through a stretch of x that stays in L1, before the next stretch; their sums wait in between. The order
// of the sum is the same for one row as for eight.
//
// Easy to get wrong: a block may lie at any address and at the end of the file, so only its own bytes are read; a row's
// last step may lack blocks: they are read from a copy with zeros.
#include <immintrin.h>
#include <string.h>

#include "base/size.h"
#include "kernels/tiers.h"
#include "kernels/x86/tiers_blocks.h"
#include "tensor/blocks.h"
#include "tensor/dtype.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    PIECE = 1 << 15,        // inputs of all rows that are put in order at once
    STRETCH = 1 << 13,      // of those that stay in L1
    CHUNK = 64,             // outputs whose sums are kept
    GROUP = 16,             // outputs that share a stretch
    VECTOR = 64,            // bytes
    STEP = 4 * BLOCK_SMALL, // inputs
    STEP_BYTES = 2 * STEP,  // of a row of x
    BLOCK_BYTES = sizeof(struct block_q8_0),
};

struct piece {
    _Alignas(64) uint8_t x[PIECE * 2 + 8 * STEP_BYTES];
    _Alignas(64) float sum[CHUNK][KERNEL_FEW_ROWS][16];
};

// One step: levels, and what is multiplied with sums of levels times x, lane by lane.
struct levels {
    __m512i v0, v1, v2, v3;
    __m512 scale;
};

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

// ---- W

// The scales of four blocks, each in its 128-bit lane.
ALWAYS_INLINE __m512 four_scales(const uint8_t *p)
{
    uint16_t h[4];
    for (size_t i = 0; i < 4; i++)
        memcpy(&h[i], p + i * BLOCK_BYTES, sizeof h[i]);
    __m128i v = _mm_cvtsi32_si128(h[0]);
    v = _mm_insert_epi16(v, h[1], 1);
    v = _mm_insert_epi16(v, h[2], 2);
    v = _mm_insert_epi16(v, h[3], 3);
    const __m512i at = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(at, _mm512_castps128_ps512(_mm_cvtph_ps(v)));
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

ALWAYS_INLINE void levels_of(struct levels *l, const uint8_t *b)
{
    const uint8_t *q = b + 2;
    l->scale = four_scales(b);
    __m512i v01 =
        _mm512_inserti64x4(_mm512_castsi256_si512(load256(q)), load256(q + BLOCK_BYTES), 1);
    __m512i v23 = _mm512_inserti64x4(_mm512_castsi256_si512(load256(q + 2 * BLOCK_BYTES)),
                                     load256(q + 3 * BLOCK_BYTES), 1);
    const __m512i at = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13);
    __m512i a = _mm512_permutex2var_epi64(v01, at, v23);
    __m512i c = _mm512_permutex2var_epi64(v01, _mm512_add_epi64(at, _mm512_set1_epi64(2)), v23);
    l->v0 = bytes_bf16(_mm512_castsi512_si256(a));
    l->v1 = bytes_bf16(_mm512_extracti64x4_epi64(a, 1));
    l->v2 = bytes_bf16(_mm512_castsi512_si256(c));
    l->v3 = bytes_bf16(_mm512_extracti64x4_epi64(c, 1));
}

// ---- x

// One step of a row at `to` from n inputs at x: 128-bit lane i of vector c is piece c of vector i.
ALWAYS_INLINE void order_step(uint8_t *to, const uint8_t *x, size_t n)
{
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = (size_t)i * BLOCK_SMALL < n ? _mm512_loadu_si512(x + i * VECTOR)
                                           : _mm512_setzero_si512();
    __m512i ab0 = _mm512_shuffle_i64x2(v[0], v[1], 0x44);
    __m512i ab1 = _mm512_shuffle_i64x2(v[0], v[1], 0xee);
    __m512i cd0 = _mm512_shuffle_i64x2(v[2], v[3], 0x44);
    __m512i cd1 = _mm512_shuffle_i64x2(v[2], v[3], 0xee);
    _mm512_storeu_si512(to, _mm512_shuffle_i64x2(ab0, cd0, 0x88));
    _mm512_storeu_si512(to + VECTOR, _mm512_shuffle_i64x2(ab0, cd0, 0xdd));
    _mm512_storeu_si512(to + 2 * VECTOR, _mm512_shuffle_i64x2(ab1, cd1, 0x88));
    _mm512_storeu_si512(to + 3 * VECTOR, _mm512_shuffle_i64x2(ab1, cd1, 0xdd));
}

// Inputs [from, from + n) of M rows; rows behind the job's last are that one again.
ALWAYS_INLINE void order_rows(uint8_t *to, int M, const struct product_job *j, size_t x_stride,
                              size_t row, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i += STEP)
        for (size_t r = 0; r < (size_t)M; r++, to += STEP_BYTES) {
            const uint8_t *x =
                (const uint8_t *)j->x + min_size(row + r, j->m - 1) * x_stride + 2 * (from + i);
            order_step(to, x, min_size(STEP, n - i));
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

// sum + one step of a row.
ALWAYS_INLINE __m512 step_dot(const struct levels *l, const uint8_t *x, __m512 sum)
{
    __m512 d = dot_add(dot_first(x, l->v0), x + VECTOR, l->v1);
    d = dot_add(dot_add(d, x + 2 * VECTOR, l->v2), x + 3 * VECTOR, l->v3);
    return _mm512_fmadd_ps(l->scale, d, sum);
}

// sum[row] += n inputs of a row of W, w_row bytes from the next, times M rows of x in order.
ALWAYS_INLINE void dots(float sum[][16], int M, const uint8_t *w, const uint8_t *x, size_t n,
                        size_t w_row)
{
    uint8_t last[4 * BLOCK_BYTES];
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
#define DOT(r)   a##r = M > r ? step_dot(&l, x + r * STEP_BYTES, a##r) : a##r
#define ADD_STEP(w)                                                                                \
    do {                                                                                           \
        levels_of(&l, w);                                                                          \
        ROWS(DOT);                                                                                 \
    } while (0)
    ROWS(LOAD);
    for (; n >= STEP; n -= STEP, w += sizeof last, x += (size_t)M * STEP_BYTES) {
        bring(w, (M > 1 ? GROUP : 2) * w_row, M > 1 ? w_row : 0, sizeof last);
        ADD_STEP(w);
    }
    if (n > 0) {
        memset(last, 0, sizeof last);
        memcpy(last, w, n / BLOCK_SMALL * BLOCK_BYTES);
        ADD_STEP(last);
    }
    ROWS(STORE);
#undef ADD_STEP
#undef DOT
#undef STORE
#undef LOAD
#undef ROWS
}

// Outputs [o, o + n) of M rows from `row` on.
ALWAYS_INLINE void chunk(struct piece *p, int M, const struct product_job *j, size_t x_stride,
                         size_t row, size_t o, size_t n, bool ordered)
{
    const size_t row_bytes = dtype_span(DT_Q8_0, j->w_stride);
    const size_t piece = PIECE / (size_t)M, stretch = M > 1 ? STRETCH / (size_t)M : piece;
    const size_t group = M > 1 ? GROUP : 1;
    memset(p->sum, 0, n * sizeof p->sum[0]);
    for (size_t from = 0; from < j->k; from += piece) {
        size_t inputs = min_size(piece, j->k - from);
        if (!ordered)
            order_rows(p->x, M, j, x_stride, row, from, inputs);
        for (size_t g = 0; g < n; g += group)
            for (size_t i = 0; i < inputs; i += stretch) {
                const uint8_t *w =
                    (const uint8_t *)j->w + (o + g) * row_bytes + dtype_span(DT_Q8_0, from + i);
                const uint8_t *x = p->x + i / STEP * (size_t)M * STEP_BYTES;
                for (size_t c = g; c < min_size(g + group, n); c++, w += row_bytes)
                    dots(p->sum[c], M, w, x, min_size(stretch, inputs - i), row_bytes);
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

ALWAYS_INLINE void few_rows(struct piece *piece, int M, const struct product_job *j,
                            size_t x_stride, size_t row)
{
    for (size_t o = 0; o < j->n; o += CHUNK)
        chunk(piece, M, j, x_stride, row, o, min_size(CHUNK, j->n - o),
              o > 0 && j->k <= PIECE / (size_t)M);
}

void few_q8_0_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
    struct piece piece;
    size_t x_stride = product_x_stride(p, j->k);
    for (size_t row = 0; row < j->m;) {
        size_t left = j->m - row;
        if (left > 4) {
            few_rows(&piece, 8, j, x_stride, row);
            row += 8;
        } else if (left > 2) {
            few_rows(&piece, 4, j, x_stride, row);
            row += 4;
        } else if (left == 2) {
            few_rows(&piece, 2, j, x_stride, row);
            row += 2;
        } else {
            few_rows(&piece, 1, j, x_stride, row);
            row += 1;
        }
    }
}
