// SPDX-License-Identifier: MIT
// Products of a few rows in the vector vocabulary of a lanes_*.h: dot products that read the weight rows
// where they are, at the speed of memory.
//
// A dot product has one accumulator of LANES sums over the inputs (lane l takes cells l, l + LANES,
// ...) and one tree at its end, so that a row's result is the same beside seven others as alone. Four
// weight rows are read at once; behind the last row the last one is read again and its sums dropped.
//
// Memory is mostly read faster in order than four rows at once. One row of x takes W row by row where the tier's sums
// keep up (a line of pairs of bf16 in the time of one addition) and W's rows lie one behind the other. Where they do
// not, as keys of one head among those of all, no hardware sees what comes next, and what is asked for early goes into
// L1 if that has room.
//
// Where L1 is small (ask_l2; measured on Zen 4) one row asks only for the first lines of a page to come, and the
// hardware reads the rest of it: faster than asking for every line where memory is slow, no slower by the median where
// it is fast. Beside an x of more than DOTS_SMALL_X it does not, and four rows at once are faster, asked for four rows
// ahead into L2 and a little ahead into L1.
#ifndef IV_KERNELS_FEW_LANES_H
#define IV_KERNELS_FEW_LANES_H

#include "kernels/cells_lanes.h"

enum {
    DOTS_INPUTS = LANES * CELL_INPUTS,
    DOTS_LINE = 64,        // bytes of a cache line
    DOTS_AHEAD = 6 << 10,  // bytes asked for ahead of one row of x, which stays in L1 with them
    DOTS_ROWS_AHEAD = 4,   // rows of W asked for ahead of several ...
    DOTS_APART_AHEAD = 16, // ... and where they lie apart
    // where L1 is small
    DOTS_PAGE = 4096,                // bytes; hardware reads no farther by itself
    DOTS_PAGE_AHEAD = 3 * DOTS_PAGE, // bytes: of the page there ...
    DOTS_PAGE_LINES = 2,             // ... so many first lines are asked for
    DOTS_SMALL_X = 8 << 10, // most bytes of x beside which W is read in order (12 KiB: too many)
    DOTS_NEAR = 512,        // bytes asked for ahead of each of four rows into L1, too
    DOTS_IN_ORDER = CELL_INPUTS > 1 && LANES * 4 >= DOTS_LINE,
};

struct dots {
    const uint8_t *x; // prepared rows
    size_t x_stride;  // bytes
    const uint8_t *w[4];
    size_t k;
    size_t ahead; // bytes from a weight row to one that is asked for; 0 = none
    bool into_l1; // it goes there, not into L2
    bool near;    // what is DOTS_NEAR ahead is asked for into L1, too
};

// Bytes `ahead` of w, into L2: the hardware's prefetchers start anew at every page, and a row is a page or two.
ALWAYS_INLINE void dots_prefetch(const uint8_t *w, size_t ahead, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += DOTS_LINE)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 2);
}

ALWAYS_INLINE void dots_prefetch_l1(const uint8_t *w, size_t ahead, size_t bytes)
{
    for (size_t line = 0; line < bytes; line += DOTS_LINE)
        __builtin_prefetch((const void *)((uintptr_t)w + ahead + line), 0, 3);
}

// sums[row of x][row of w] of M <= 4 rows of x and 4 of w.
ALWAYS_INLINE void dots_body(const struct dots *a, float *y, size_t y_stride, size_t n, int M,
                             enum dtype t, bool round)
{
    lanes a00 = lanes_zero(), a01 = a00, a02 = a00, a03 = a00;
    lanes a10 = a00, a11 = a00, a12 = a00, a13 = a00;
    lanes a20 = a00, a21 = a00, a22 = a00, a23 = a00;
    lanes a30 = a00, a31 = a00, a32 = a00, a33 = a00;
    const uint8_t *w0 = a->w[0], *w1 = a->w[1], *w2 = a->w[2], *w3 = a->w[3];
    const uint8_t *x = a->x;
    size_t xs = a->x_stride, step = DOTS_INPUTS * (t == DT_F32 ? 4 : 2);
    size_t tail = a->k % DOTS_INPUTS, full = a->k - tail;
#define DOTS_STEP(b0, b1, b2, b3)                                                                  \
    do {                                                                                           \
        lanes v0 = (b0), v1 = (b1), v2 = (b2), v3 = (b3);                                          \
        DOTS_ROW(0);                                                                               \
        DOTS_ROW(1);                                                                               \
        DOTS_ROW(2);                                                                               \
        DOTS_ROW(3);                                                                               \
    } while (0)
#define DOTS_ROW(r)                                                                                \
    do {                                                                                           \
        if (M > r) {                                                                               \
            lanes u = lanes_load(x + r * xs);                                                      \
            a##r##0 = cells_fma(a##r##0, u, v0);                                                   \
            a##r##1 = cells_fma(a##r##1, u, v1);                                                   \
            a##r##2 = cells_fma(a##r##2, u, v2);                                                   \
            a##r##3 = cells_fma(a##r##3, u, v3);                                                   \
        }                                                                                          \
    } while (0)
    for (size_t i = 0; i < full; i += DOTS_INPUTS) {
        DOTS_STEP(cells_weights(w0, t, round), cells_weights(w1, t, round),
                  cells_weights(w2, t, round), cells_weights(w3, t, round));
        if (a->ahead != 0 && a->into_l1) {
            dots_prefetch_l1(w0, a->ahead, step);
            dots_prefetch_l1(w1, a->ahead, step);
            dots_prefetch_l1(w2, a->ahead, step);
            dots_prefetch_l1(w3, a->ahead, step);
        } else if (a->ahead != 0) {
            dots_prefetch(w0, a->ahead, step);
            dots_prefetch(w1, a->ahead, step);
            dots_prefetch(w2, a->ahead, step);
            dots_prefetch(w3, a->ahead, step);
        }
        if (a->near) {
            dots_prefetch_l1(w0, DOTS_NEAR, step);
            dots_prefetch_l1(w1, DOTS_NEAR, step);
            dots_prefetch_l1(w2, DOTS_NEAR, step);
            dots_prefetch_l1(w3, DOTS_NEAR, step);
        }
        w0 += step;
        w1 += step;
        w2 += step;
        w3 += step;
        x += LANES * sizeof(float);
    }
    if (tail != 0)
        DOTS_STEP(cells_weights_n(w0, t, round, tail), cells_weights_n(w1, t, round, tail),
                  cells_weights_n(w2, t, round, tail), cells_weights_n(w3, t, round, tail));
#undef DOTS_ROW
#undef DOTS_STEP
#ifdef LANES_SUM16
    if (M == 4) {
        lanes_sum16(y, y_stride, (const lanes[]){a00, a01, a02, a03},
                    (const lanes[]){a10, a11, a12, a13}, (const lanes[]){a20, a21, a22, a23},
                    (const lanes[]){a30, a31, a32, a33}, n);
        return;
    }
#endif
    lanes_sum4(y, a00, a01, a02, a03, n);
    if (M > 1)
        lanes_sum4(y + y_stride, a10, a11, a12, a13, n);
    if (M > 2)
        lanes_sum4(y + 2 * y_stride, a20, a21, a22, a23, n);
    if (M > 3)
        lanes_sum4(y + 3 * y_stride, a30, a31, a32, a33, n);
}

// The first lines of the page that is DOTS_PAGE_AHEAD behind w's, into L2.
ALWAYS_INLINE void ask_page(const uint8_t *w)
{
    size_t into_page = (uintptr_t)w % DOTS_PAGE;
    dots_prefetch(w, DOTS_PAGE_AHEAD - into_page, DOTS_PAGE_LINES * DOTS_LINE);
}

// sums[i] of one row of x and row i of W, i < n <= 4, one after the other.
ALWAYS_INLINE void dots_in_order(const struct dots *a, float *y, size_t n, enum dtype t, bool round,
                                 bool ask_l2)
{
    lanes sum[4] = {lanes_zero(), lanes_zero(), lanes_zero(), lanes_zero()};
    size_t step = DOTS_INPUTS * (t == DT_F32 ? 4 : 2);
    size_t tail = a->k % DOTS_INPUTS, full = a->k - tail;
    size_t piece = ask_l2 ? DOTS_PAGE / step * DOTS_INPUTS : full; // inputs
    for (size_t r = 0; r < n; r++) {
        const uint8_t *w = a->w[r], *x = a->x;
        lanes s = lanes_zero();
        for (size_t i = 0; i < full;) {
            size_t end = min_size(i + piece, full);
            if (ask_l2)
                ask_page(w);
            for (; i < end; i += DOTS_INPUTS, w += step, x += LANES * sizeof(float)) {
                s = cells_fma(s, lanes_load(x), cells_weights(w, t, round));
                if (!ask_l2)
                    dots_prefetch_l1(w, DOTS_AHEAD, step);
            }
        }
        if (tail != 0)
            s = cells_fma(s, lanes_load(x), cells_weights_n(w, t, round, tail));
        sum[r] = s;
    }
    lanes_sum4(y, sum[0], sum[1], sum[2], sum[3], n);
}

// Rows [from, from + 4) of what is read next.
ALWAYS_INLINE void ask_rows(const struct ask *a, size_t from)
{
    for (size_t i = from; i < min_size(from + 4, a->n); i++)
        dots_prefetch((const uint8_t *)a->at + i * a->row, 0, a->bytes);
}

// y of one group of up to four outputs, from the sums.
static inline void few_finish(const struct product_job *j, const float (*sums)[4], size_t o,
                              size_t n)
{
    for (size_t r = 0; r < j->m; r++) {
        float *y = j->y + r * j->y_stride + o;
        for (size_t i = 0; i < n; i++) {
            float v = j->bias ? sums[r][i] + j->bias[o + i] : sums[r][i];
            y[i] = j->add ? y[i] + v : v;
        }
    }
}

#ifdef LANES_SUM16
// Rows of W of one step at most, as LoRA's B has, one behind the other: sixteen outputs at once, whose sums end together.
// Returns how many are done; the rest is few_type's.
ALWAYS_INLINE size_t few_short(const struct product_kernels *p, const struct product_job *j,
                               enum dtype t, bool round)
{
    const size_t row_bytes = j->w_stride * (t == DT_F32 ? 4 : 2);
    const size_t x_stride = product_x_stride(p, j->k);
    size_t o = 0;
    for (; o + LANES <= j->n; o += LANES) {
        const uint8_t *w = (const uint8_t *)j->w + o * row_bytes;
        lanes v[LANES], s[LANES];
#pragma GCC unroll 16
        for (size_t i = 0; i < LANES; i++)
            v[i] = j->k == DOTS_INPUTS ? cells_weights(w + i * row_bytes, t, round)
                                       : cells_weights_n(w + i * row_bytes, t, round, j->k);
        dots_prefetch_l1(w, DOTS_AHEAD, LANES * row_bytes);
        for (size_t r = 0; r < j->m; r++) {
            const lanes u = lanes_load((const uint8_t *)j->x + r * x_stride);
            float *y = j->y + r * j->y_stride + o;
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++)
                s[i] = cells_fma(lanes_zero(), u, v[i]);
            lanes all = lanes_sums16(s, s + 4, s + 8, s + 12);
            if (j->bias)
                all = lanes_add(all, lanes_load(j->bias + o));
            lanes_store(y, j->add ? lanes_add(lanes_load(y), all) : all);
        }
    }
    return o;
}
#endif

ALWAYS_INLINE void few_type(const struct product_kernels *p, const struct product_job *j,
                            enum dtype t, bool round)
{
    size_t row_bytes = j->w_stride * (t == DT_F32 ? 4 : 2);
    struct dots a = {.x = j->x, .x_stride = product_x_stride(p, j->k), .k = j->k};
    bool apart = j->w_stride != j->k; // rows do not lie one behind the other
    bool small_x = j->k * p->x_elem <= DOTS_SMALL_X;
    bool in_order = DOTS_IN_ORDER && j->m == 1 && !apart && (small_x || !p->ask_l2);
    bool as_is = !j->bias && !j->add;
    size_t y_stride = as_is ? j->y_stride : 4;
    a.into_l1 = apart && !p->ask_l2;
    a.near = DOTS_IN_ORDER && p->ask_l2 && !apart; // other tiers have not been measured
    size_t ahead = (apart ? DOTS_APART_AHEAD : DOTS_ROWS_AHEAD) * row_bytes;
    // rows apart: what is asked for stays inside W (of a group's four the last is three behind the first); else it runs
    // on into what is read next
    size_t asking = apart ? j->n - min_size(j->n, DOTS_APART_AHEAD + 3) : j->n;
    size_t o = 0;
#ifdef LANES_SUM16
    if (j->k <= DOTS_INPUTS && !apart)
        o = few_short(p, j, t, round);
#endif
    for (; o < j->n; o += 4) {
        size_t n = min_size(4, j->n - o);
        for (size_t i = 0; i < 4; i++)
            a.w[i] = (const uint8_t *)j->w + (o + min_size(i, n - 1)) * row_bytes;
        float sums[KERNEL_FEW_ROWS][4];
        float *y = as_is ? j->y + o : sums[0];
        if (in_order && p->ask_l2)
            dots_in_order(&a, y, n, t, round, true);
        else if (in_order)
            dots_in_order(&a, y, n, t, round, false);
        for (size_t r = in_order ? 1 : 0; r < j->m;) {
            size_t left = j->m - r;
            a.x = (const uint8_t *)j->x + r * a.x_stride;
            a.ahead = r == 0 && o < asking ? ahead : 0;
            if (FEW_X >= 4 && left >= 4) {
                dots_body(&a, y + r * y_stride, y_stride, n, 4, t, round);
                r += 4;
            } else if (left >= 2) {
                dots_body(&a, y + r * y_stride, y_stride, n, 2, t, round);
                r += 2;
            } else {
                dots_body(&a, y + r * y_stride, y_stride, n, 1, t, round);
                r += 1;
            }
        }
        if (j->ask.bytes > 0)
            ask_rows(&j->ask, o);
        if (!as_is)
            few_finish(j, (const float(*)[4])sums, o, n);
    }
}

ALWAYS_INLINE void few_lanes(const struct product_kernels *p, const struct product_job *j,
                             bool round)
{
    switch (j->w_type) {
    case DT_Q4_0:
    case DT_Q4_1:
    case DT_Q5_0:
    case DT_Q8_0:
    case DT_Q4_K:
    case DT_Q5_K:
    case DT_Q6_K:
        product_few_blocks(p, j);
        break;
    case DT_F32:
        few_type(p, j, DT_F32, round);
        break;
    case DT_F16:
        few_type(p, j, DT_F16, round);
        break;
    default:
        few_type(p, j, DT_BF16, round);
    }
}

#endif
