// SPDX-License-Identifier: MIT
// The products' kernels that need no more than the vector vocabulary of a lanes_*.h (named first by the
// including file): prepared rows, dot products for a few rows, the step of the running softmax and
// weighted sums of value rows. Panels and tiles are each tier's own.
//
// A dot product has one accumulator of LANES sums over the inputs (lane l takes cells l, l + LANES,
// ...) and one tree at its end, so that a row's result is the same beside seven others as alone. Four
// weight rows are read at once; behind the last row the last one is read again and its sums dropped.
//
// The 32-bit cells that products run on are f32, or pairs of bf16 in a tier that multiplies those: it
// defines CELL_INPUTS as 2, the cells_* functions and cells_store (n lanes as bf16) before including
// this.
//
// Easy to get wrong: in bf16 both factors must be rounded, F32 and F16 weights too.
#ifndef IV_KERNELS_PRODUCT_LANES_H
#define IV_KERNELS_PRODUCT_LANES_H

#include <string.h>

#include "base/size.h"
#include "kernels/exp_lanes.h"
#include "kernels/tiers.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// How the elements of a prepared row are kept.
enum form { FORM_F32, FORM_ROUNDED, FORM_BF16 };

ALWAYS_INLINE lanes weight_lanes(const uint8_t *w, enum dtype t, bool round)
{
    lanes v = t == DT_F32 ? lanes_load(w) : t == DT_BF16 ? lanes_load_bf16(w) : lanes_load_f16(w);
    return round && t != DT_BF16 ? lanes_round_bf16(v) : v;
}

ALWAYS_INLINE lanes weight_lanes_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    lanes v = t == DT_F32    ? lanes_load_n(w, n)
              : t == DT_BF16 ? lanes_load_bf16_n(w, n)
                             : lanes_load_f16_n(w, n);
    return round && t != DT_BF16 ? lanes_round_bf16(v) : v;
}

#ifndef CELL_INPUTS
#define CELL_INPUTS 1

// LANES cells from LANES * CELL_INPUTS weights of a row, or from the first n with zeros behind.
ALWAYS_INLINE lanes cells_weights(const uint8_t *w, enum dtype t, bool round)
{
    return weight_lanes(w, t, round);
}

ALWAYS_INLINE lanes cells_weights_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    return weight_lanes_n(w, t, round, n);
}

// sum + x w, cell by cell
ALWAYS_INLINE lanes cells_fma(lanes sum, lanes x, lanes w)
{
    return lanes_fma(x, w, sum);
}
#endif

// Stores n lanes of v as elements [i, i + n) of a prepared row.
ALWAYS_INLINE void form_store(uint8_t *row, size_t i, lanes v, enum form form, size_t n)
{
#if CELL_INPUTS == 2
    if (form == FORM_BF16) {
        cells_store(row + 2 * i, v, n);
        return;
    }
#endif
    lanes_store_n(row + 4 * i, form == FORM_ROUNDED ? lanes_round_bf16(v) : v, n);
}

// Element i of a prepared row in every lane.
ALWAYS_INLINE lanes form_splat(const uint8_t *row, size_t i, enum form form)
{
    if (form == FORM_BF16) {
        uint16_t h;
        memcpy(&h, row + 2 * i, sizeof h);
        return lanes_set(bf16_to_f32(h));
    }
    float f;
    memcpy(&f, row + 4 * i, sizeof f);
    return lanes_set(f);
}

ALWAYS_INLINE void prepare_form(const struct product_kernels *p, uint8_t *dst, const float *x,
                                size_t x_stride, size_t m, size_t k, enum form form)
{
    size_t bytes = product_x_stride(p, k);
    size_t used = k * (form == FORM_BF16 ? 2 : 4);
    for (size_t r = 0; r < m; r++, dst += bytes, x += x_stride) {
        size_t i = 0;
        for (; i + LANES <= k; i += LANES)
            form_store(dst, i, lanes_load(x + i), form, LANES);
        form_store(dst, i, lanes_load_n(x + i, k - i), form, k - i);
        memset(dst + used, 0, bytes - used);
    }
}

// ---- few rows

enum { DOTS_INPUTS = LANES * CELL_INPUTS };

struct dots {
    const uint8_t *x; // prepared rows
    size_t x_stride;  // bytes
    const uint8_t *w[4];
    size_t k;
    size_t
        ahead; // bytes from a weight row to the one that takes its place in the next group; 0 = quiet
};

// Into L2: the hardware's prefetchers start anew at every page, and a row is a page or two.
ALWAYS_INLINE void dots_prefetch(const uint8_t *w, size_t ahead)
{
    __builtin_prefetch((const void *)((uintptr_t)w + ahead), 0, 2);
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
        if (a->ahead != 0) {
            dots_prefetch(w0, a->ahead);
            dots_prefetch(w1, a->ahead);
            dots_prefetch(w2, a->ahead);
            dots_prefetch(w3, a->ahead);
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
    lanes_sum4(y, a00, a01, a02, a03, n);
    if (M > 1)
        lanes_sum4(y + y_stride, a10, a11, a12, a13, n);
    if (M > 2)
        lanes_sum4(y + 2 * y_stride, a20, a21, a22, a23, n);
    if (M > 3)
        lanes_sum4(y + 3 * y_stride, a30, a31, a32, a33, n);
}

// y of one group of up to four outputs, from the sums.
static inline void few_finish(const struct product_job *j, const float (*sums)[4], size_t o,
                              size_t n)
{
    for (size_t r = 0; r < j->m; r++) {
        float *y = j->y + r * j->y_stride + o;
        for (size_t i = 0; i < n; i++) {
            float v = sums[r][i] + (j->bias ? j->bias[o + i] : 0.0f);
            y[i] = j->add ? y[i] + v : v;
        }
    }
}

ALWAYS_INLINE void few_type(const struct product_kernels *p, const struct product_job *j,
                            enum dtype t, bool round)
{
    size_t row_bytes = j->w_stride * (t == DT_F32 ? 4 : 2);
    struct dots a = {.x_stride = product_x_stride(p, j->k), .k = j->k};
    for (size_t o = 0; o < j->n; o += 4) {
        size_t n = min_size(4, j->n - o);
        for (size_t i = 0; i < 4; i++)
            a.w[i] = (const uint8_t *)j->w + (o + min_size(i, n - 1)) * row_bytes;
        float sums[KERNEL_FEW_ROWS][4];
        for (size_t r = 0; r < j->m;) {
            size_t left = j->m - r;
            a.x = (const uint8_t *)j->x + r * a.x_stride;
            a.ahead = r == 0 ? 4 * row_bytes : 0;
            if (FEW_X >= 4 && left >= 4) {
                dots_body(&a, sums[r], 4, 4, 4, t, round);
                r += 4;
            } else if (left >= 2) {
                dots_body(&a, sums[r], 4, 4, 2, t, round);
                r += 2;
            } else {
                dots_body(&a, sums[r], 4, 4, 1, t, round);
                r += 1;
            }
        }
        few_finish(j, (const float(*)[4])sums, o, n);
    }
}

ALWAYS_INLINE void few_lanes(const struct product_kernels *p, const struct product_job *j,
                             bool round)
{
    switch (j->w_type) {
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

// ---- attention's pieces

// exp(s - max) is 2^(s log2 e - max log2 e), one fused step from the score; the rounding of the second
// term is the same for a whole step and part of the returned factor, so it cancels.
ALWAYS_INLINE float soft_step_form(uint8_t *p, const float *s, size_t n, size_t n_pad, float *max,
                                   float *sum, enum form form)
{
    const float log2e = 1.44269504f;
    size_t full = n - n % LANES, tail = n % LANES;
    lanes top = lanes_set(*max);
    for (size_t i = 0; i < full; i += LANES)
        top = lanes_max(lanes_load(s + i), top); // a NaN stays out of the maximum
    float now = lanes_max_of(top);
    for (size_t i = full; i < n; i++)
        now = s[i] > now ? s[i] : now;
    lanes scale = lanes_set(log2e), shift = lanes_set(-now * log2e), total = lanes_zero();
    for (size_t i = 0; i < full; i += LANES) {
        lanes e = lanes_exp2(lanes_fma(lanes_load(s + i), scale, shift));
        total = lanes_add(total, e);
        form_store(p, i, e, form, LANES);
    }
    size_t at = full;
    if (tail != 0) {
        float part[LANES];
        lanes_store(part, lanes_exp2(lanes_fma(lanes_load_n(s + full, tail), scale, shift)));
        lanes e = lanes_load_n(part, tail);
        total = lanes_add(total, e);
        form_store(p, full, e, form, LANES);
        at += LANES;
    }
    size_t elem = form == FORM_BF16 ? 2 : 4;
    if (at < n_pad)
        memset(p + at * elem, 0, (n_pad - at) * elem);
    float factor = lanes_first_of(lanes_exp2(lanes_set(*max * log2e - now * log2e)));
    *max = now;
    *sum = *sum * factor + lanes_sum(total);
    return factor;
}

// C vectors of columns (the last of them n wide when C is 1) for M rows.
ALWAYS_INLINE void mix_body(const struct mix_job *j, size_t r0, size_t c0, size_t n, int M, int C,
                            enum dtype t, bool round, enum form form)
{
    size_t elem = t == DT_F32 ? 4 : 2;
    const uint8_t *v = (const uint8_t *)j->v + c0 * elem;
    const uint8_t *x = (const uint8_t *)j->x + r0 * j->x_stride;
    float *y = j->y + r0 * j->y_stride + c0;
#define MIX_AT(r, c) (y + (size_t)r * j->y_stride + c * LANES)
#define MIX_LOAD(r, c)                                                                             \
    (M > r && C > c ? (C == 1 ? lanes_load_n(MIX_AT(r, c), n) : lanes_load(MIX_AT(r, c)))          \
                    : lanes_zero())
#define MIX_STORE(r, c)                                                                            \
    do {                                                                                           \
        if (M > r && C > c)                                                                        \
            lanes_store_n(MIX_AT(r, c), a##r##c, C == 1 ? n : LANES);                              \
    } while (0)
#define MIX_ROW(r)                                                                                 \
    do {                                                                                           \
        if (M > r) {                                                                               \
            lanes u = form_splat(x + r * j->x_stride, i, form);                                    \
            a##r##0 = lanes_fma(u, v0, a##r##0);                                                   \
            if (C > 1)                                                                             \
                a##r##1 = lanes_fma(u, v1, a##r##1);                                               \
        }                                                                                          \
    } while (0)
    lanes a00 = MIX_LOAD(0, 0), a01 = MIX_LOAD(0, 1), a10 = MIX_LOAD(1, 0), a11 = MIX_LOAD(1, 1);
    lanes a20 = MIX_LOAD(2, 0), a21 = MIX_LOAD(2, 1), a30 = MIX_LOAD(3, 0), a31 = MIX_LOAD(3, 1);
    for (size_t i = 0; i < j->n; i++, v += j->v_stride * elem) {
        lanes v0 = C == 1 ? weight_lanes_n(v, t, round, n) : weight_lanes(v, t, round);
        lanes v1 = C > 1 ? weight_lanes(v + LANES * elem, t, round) : lanes_zero();
        MIX_ROW(0);
        MIX_ROW(1);
        MIX_ROW(2);
        MIX_ROW(3);
    }
    MIX_STORE(0, 0);
    MIX_STORE(0, 1);
    MIX_STORE(1, 0);
    MIX_STORE(1, 1);
    MIX_STORE(2, 0);
    MIX_STORE(2, 1);
    MIX_STORE(3, 0);
    MIX_STORE(3, 1);
#undef MIX_ROW
#undef MIX_STORE
#undef MIX_LOAD
#undef MIX_AT
}

ALWAYS_INLINE void mix_type(const struct mix_job *j, enum dtype t, bool round, enum form form)
{
    size_t wide = j->d - j->d % (2 * LANES);
    for (size_t r = 0; r < j->m;) {
        size_t rows = j->m - r >= 4 ? 4 : 1;
        for (size_t c = 0; c < wide; c += 2 * LANES) {
            if (rows == 4)
                mix_body(j, r, c, LANES, 4, 2, t, round, form);
            else
                mix_body(j, r, c, LANES, 1, 2, t, round, form);
        }
        for (size_t c = wide; c < j->d; c += LANES) {
            size_t n = min_size(LANES, j->d - c);
            if (rows == 4)
                mix_body(j, r, c, n, 4, 1, t, round, form);
            else
                mix_body(j, r, c, n, 1, 1, t, round, form);
        }
        r += rows;
    }
}

ALWAYS_INLINE void mix_form(const struct mix_job *j, bool round, enum form form)
{
    if (j->v_type == DT_F32)
        mix_type(j, DT_F32, round, form);
    else
        mix_type(j, DT_BF16, round, form);
}

#if CELL_INPUTS == 1
// ---- the two precisions of a tier whose products are f32 fused multiply-adds

static inline void prepare_f32(const struct product_kernels *p, void *dst, const float *x,
                               size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_F32);
}

static inline void prepare_rounded(const struct product_kernels *p, void *dst, const float *x,
                                   size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_ROUNDED);
}

static inline void few_f32(const struct product_kernels *p, const struct product_job *j)
{
    few_lanes(p, j, false);
}

static inline void few_rounded(const struct product_kernels *p, const struct product_job *j)
{
    few_lanes(p, j, true);
}

static inline float soft_step_f32(void *p, const float *s, size_t n, size_t n_pad, float *max,
                                  float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_F32);
}

static inline float soft_step_rounded(void *p, const float *s, size_t n, size_t n_pad, float *max,
                                      float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_ROUNDED);
}

static inline void mix_f32(const struct mix_job *j)
{
    mix_form(j, false, FORM_F32);
}

static inline void mix_rounded(const struct mix_job *j)
{
    mix_form(j, true, FORM_ROUNDED);
}

// All but the panels.
static inline void product_set_lanes(struct product_kernels *f32, struct product_kernels *bf16)
{
    f32->prepare = prepare_f32;
    bf16->prepare = prepare_rounded;
    f32->few = few_f32;
    bf16->few = few_rounded;
    f32->many = bf16->many = product_many_blocked;
    f32->attention = bf16->attention = attention_blocked;
    f32->soft_step = soft_step_f32;
    bf16->soft_step = soft_step_rounded;
    f32->mix = mix_f32;
    bf16->mix = mix_rounded;
}

#endif

#endif
