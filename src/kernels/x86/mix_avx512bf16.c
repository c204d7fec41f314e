// SPDX-License-Identifier: MIT
// Weighted sums of value rows in AVX512-BF16: two rows of V, their columns alternating, meet pairs of probabilities in
// vdpbf16ps, which adds both products to a column's sum. A step of 64 columns are two lines of each row of V, which
// four rows of x share.
//
// Columns alternate inside 128 bits, where that takes one instruction, so sums lie in that order until the end:
// `even` has columns 0-3, 8-11, 16-19, 24-27 of 32, `odd` the others.
//
// Easy to get wrong: the last row of V may have no partner, and behind it no byte may be read.
#include "kernels/x86/cells_avx512bf16.h"
#include "kernels/x86/tiers_blocks.h"

#include "base/size.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    HALF = 32,  // columns of a vector of V
    AHEAD = 32, // rows of V asked for where they lie apart, as MIX_AHEAD of soft_lanes.h
};

struct sums {
    lanes even, odd;
};

// Columns [0, n) of 32.
ALWAYS_INLINE struct sums sums_load(const float *y, size_t n)
{
    size_t low = min_size(n, LANES);
    lanes a = lanes_load_n(y, low), b = lanes_load_n(y + low, n - low);
    return (struct sums){_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 1, 3, 1))};
}

ALWAYS_INLINE void sums_store(float *y, struct sums s, size_t n)
{
    size_t low = min_size(n, LANES);
    lanes a = _mm512_shuffle_f32x4(s.even, s.odd, _MM_SHUFFLE(1, 0, 1, 0));
    lanes b = _mm512_shuffle_f32x4(s.even, s.odd, _MM_SHUFFLE(3, 2, 3, 2));
    lanes_store_n(y, _mm512_shuffle_f32x4(a, a, _MM_SHUFFLE(3, 1, 2, 0)), low);
    lanes_store_n(y + low, _mm512_shuffle_f32x4(b, b, _MM_SHUFFLE(3, 1, 2, 0)), n - low);
}

// Two rows, their columns alternating: both halves of each 128 bits.
ALWAYS_INLINE struct sums pairs_of(__m512i a, __m512i b)
{
    return (struct sums){_mm512_castsi512_ps(_mm512_unpacklo_epi16(a, b)),
                         _mm512_castsi512_ps(_mm512_unpackhi_epi16(a, b))};
}

ALWAYS_INLINE struct sums sums_add(struct sums s, lanes x, struct sums v)
{
    return (struct sums){cells_fma(s.even, x, v.even), cells_fma(s.odd, x, v.odd)};
}

struct walk {
    const uint8_t *v; // from the first column on
    size_t row;       // bytes from a row of V to the next
    size_t n;         // rows
    const uint8_t *x; // of the first row
    size_t x_stride;  // bytes
    float *y;
    size_t y_stride, last; // columns of the last vector
    // What is asked for from each row of V: `ahead` bytes on, behind the first `turn` rows `back`.
    size_t turn;
    size_t ahead, back; // modulo the size of an address
    bool asking, ask_l2;
    struct ask next;
};

ALWAYS_INLINE void ask(const struct walk *w, uintptr_t v, size_t i, int C)
{
    uintptr_t at = v + (i < w->turn ? w->ahead : w->back);
    if (!w->asking)
        return;
    for (uintptr_t line = 0; line < (uintptr_t)C * 64; line += 64)
        if (w->ask_l2)
            __builtin_prefetch((const void *)(at + line), 0, 2);
        else
            __builtin_prefetch((const void *)(at + line), 0, 3);
}

// Rows i and i + 1 of what is read next.
ALWAYS_INLINE void ask_next(const struct walk *w, size_t i)
{
    uintptr_t row = (uintptr_t)w->next.at + i * w->next.row;
    for (size_t n = i; n < min_size(i + 2, w->next.n); n++, row += w->next.row)
        for (uintptr_t at = 0; at < w->next.bytes; at += 64)
            __builtin_prefetch((const void *)(row + at), 0, 2);
}

// Two probabilities of row r in every lane; the second is zero behind the last.
ALWAYS_INLINE lanes pair_at(const struct walk *w, int r, size_t i)
{
    return lanes_splat(w->x + (size_t)r * w->x_stride + 2 * i);
}

// C vectors of columns (of the last one w->last) for M rows of x.
ALWAYS_INLINE void mix_columns(const struct walk *w, int M, int C)
{
    const __mmask32 last = (__mmask32)(((uint64_t)1 << w->last) - 1);
    const __mmask32 first = C > 1 ? (__mmask32)-1 : last;
#define WIDTH(c) (c + 1 < C ? HALF : w->last)
#define LOAD(r, c)                                                                                 \
    (M > r && C > c ? sums_load(w->y + (size_t)r * w->y_stride + (size_t)c * HALF, WIDTH(c))       \
                    : (struct sums){lanes_zero(), lanes_zero()})
#define STORE(r, c, s)                                                                             \
    do {                                                                                           \
        if (M > r && C > c)                                                                        \
            sums_store(w->y + (size_t)r * w->y_stride + (size_t)c * HALF, s, WIDTH(c));            \
    } while (0)
#define ROW(r)                                                                                     \
    do {                                                                                           \
        if (M > r) {                                                                               \
            lanes x = pair_at(w, r, i);                                                            \
            s##r##a = sums_add(s##r##a, x, v0);                                                    \
            if (C > 1)                                                                             \
                s##r##b = sums_add(s##r##b, x, v1);                                                \
        }                                                                                          \
    } while (0)
    struct sums s0a = LOAD(0, 0), s0b = LOAD(0, 1), s1a = LOAD(1, 0), s1b = LOAD(1, 1);
    struct sums s2a = LOAD(2, 0), s2b = LOAD(2, 1), s3a = LOAD(3, 0), s3b = LOAD(3, 1);
    for (size_t i = 0; i < w->n; i += 2) {
        const uint8_t *v = w->v + i * w->row;
        const __mmask32 partner = i + 1 < w->n ? (__mmask32)-1 : 0;
        const uint8_t *u = i + 1 < w->n ? v + w->row : v;
        __m512i a0 = _mm512_maskz_loadu_epi16(first, v);
        __m512i b0 = _mm512_maskz_loadu_epi16(first & partner, u);
        __m512i a1 = C > 1 ? _mm512_maskz_loadu_epi16(last, v + 64) : _mm512_setzero_si512();
        __m512i b1 = C > 1 ? _mm512_maskz_loadu_epi16(last & partner, u + 64) : a1;
        struct sums v0 = pairs_of(a0, b0), v1 = pairs_of(a1, b1);
        ask(w, (uintptr_t)v, i, C);
        ask(w, (uintptr_t)v + w->row, i + 1, C);
        if (w->next.bytes > 0)
            ask_next(w, i);
        ROW(0);
        ROW(1);
        ROW(2);
        ROW(3);
    }
    STORE(0, 0, s0a);
    STORE(0, 1, s0b);
    STORE(1, 0, s1a);
    STORE(1, 1, s1b);
    STORE(2, 0, s2a);
    STORE(2, 1, s2b);
    STORE(3, 0, s3a);
    STORE(3, 1, s3b);
#undef ROW
#undef STORE
#undef LOAD
#undef WIDTH
}

void mix_pairs_avx512bf16(const struct mix_job *j)
{
    struct walk w = {
        .row = j->v_stride * 2, .n = j->n, .x_stride = j->x_stride, .y_stride = j->y_stride};
    w.ask_l2 = j->ask_l2;
    w.turn = j->n - min_size(j->n, AHEAD);
    for (size_t r = 0, rows; r < j->m; r += rows) {
        rows = j->m - r >= 4 ? 4 : 1;
        w.x = (const uint8_t *)j->x + r * j->x_stride;
        w.asking = r == 0 && j->v_stride != j->d; // later rows of x find V in L2
        for (size_t c = 0; c < j->d; c += 2 * HALF) {
            size_t n = min_size(j->d - c, 2 * HALF);
            w.next = r == 0 && c == 0 ? j->ask : (struct ask){0};
            w.v = (const uint8_t *)j->v + 2 * c;
            w.y = j->y + r * j->y_stride + c;
            w.last = n > HALF ? n - HALF : n;
            w.ahead = AHEAD * w.row;
            // the first rows of the next columns, or what is there already
            w.back = c + 2 * HALF < j->d ? 4 * HALF - w.turn * w.row : 0;
            if (rows == 4 && n > HALF)
                mix_columns(&w, 4, 2);
            else if (rows == 4)
                mix_columns(&w, 4, 1);
            else if (n > HALF)
                mix_columns(&w, 1, 2);
            else
                mix_columns(&w, 1, 1);
        }
    }
}
