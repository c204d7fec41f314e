// SPDX-License-Identifier: MIT
// Attention's own kernels in the vector vocabulary of a lanes_*.h: the step of the running softmax, and
// weighted sums of value rows for a few query rows.
#ifndef IV_KERNELS_SOFT_LANES_H
#define IV_KERNELS_SOFT_LANES_H

#include "kernels/cells_lanes.h"
#include "kernels/exp_lanes.h"

// Largest of s [n] and low; a NaN stays out of it. Four chains, lest one's latency be the speed.
ALWAYS_INLINE float soft_max(const float *s, size_t n, float low)
{
    lanes a = lanes_set(low), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        a = lanes_max(lanes_load(s + i), a);
        b = lanes_max(lanes_load(s + i + LANES), b);
        c = lanes_max(lanes_load(s + i + 2 * LANES), c);
        d = lanes_max(lanes_load(s + i + 3 * LANES), d);
    }
    for (; i + LANES <= n; i += LANES)
        a = lanes_max(lanes_load(s + i), a);
    float top = lanes_max_of(lanes_max(lanes_max(a, b), lanes_max(c, d)));
    for (; i < n; i++)
        top = s[i] > top ? s[i] : top;
    return top;
}

// What is rounded next need not be better than that.
ALWAYS_INLINE lanes soft_exp2(lanes x, enum form form)
{
    return form == FORM_F32 ? lanes_exp2(x) : lanes_exp2_short(x);
}

// exp(s - max) is 2^(s log2 e - max log2 e), one fused step from the score; the rounding of the second
// term is the same for a whole step and part of the returned factor, so it cancels.
ALWAYS_INLINE float soft_step_form(uint8_t *p, const float *s, size_t n, size_t n_pad, float *max,
                                   float *sum, enum form form)
{
    const float log2e = 1.44269504f;
    float now = soft_max(s, n, *max);
    lanes scale = lanes_set(log2e), shift = lanes_set(-now * log2e);
    lanes total = lanes_zero(), more = lanes_zero();
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        lanes e = soft_exp2(lanes_fma(lanes_load(s + i), scale, shift), form);
        lanes f = soft_exp2(lanes_fma(lanes_load(s + i + LANES), scale, shift), form);
        total = lanes_add(total, e);
        more = lanes_add(more, f);
        form_store2(p, i, e, f, form);
    }
    for (; i < n; i += LANES) {
        float part[LANES]; // the lanes behind the end become zero
        size_t some = min_size(LANES, n - i);
        lanes_store(part, soft_exp2(lanes_fma(lanes_load_n(s + i, some), scale, shift), form));
        lanes e = lanes_load_n(part, some);
        total = lanes_add(total, e);
        form_store(p, i, e, form, LANES);
    }
    size_t elem = form == FORM_BF16 ? 2 : 4;
    if (i < n_pad)
        memset(p + i * elem, 0, (n_pad - i) * elem);
    float factor = lanes_first_of(lanes_exp2(lanes_set(*max * log2e - now * log2e)));
    *max = now;
    *sum = *sum * factor + lanes_sum(lanes_add(total, more));
    return factor;
}

// Rows of V asked for ahead where they lie apart, one head among all, which no hardware prefetcher follows.
enum { MIX_AHEAD = 32 };

// C vectors of columns (the last of them n wide when C is 1) for M rows.
ALWAYS_INLINE void mix_body(const struct mix_job *j, size_t r0, size_t c0, size_t n, int M, int C,
                            enum dtype t, bool round, enum form form)
{
    size_t elem = t == DT_F32 ? 4 : 2;
    const uint8_t *v = (const uint8_t *)j->v + c0 * elem;
    const uint8_t *x = (const uint8_t *)j->x + r0 * j->x_stride;
    float *y = j->y + r0 * j->y_stride + c0;
    // asked for behind the last row: the first ones of the next columns, or nothing new, as by later rows of x, which find
    // V in L2
    bool asking = r0 == 0 && j->v_stride != j->d;
    size_t row = asking ? j->v_stride * elem : 0, turn = j->n - min_size(j->n, MIX_AHEAD);
    size_t wide = (size_t)C * LANES, ahead = MIX_AHEAD * row;
    size_t back = asking && c0 + wide < j->d ? wide * elem - turn * row : 0;
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
        if (j->ask_l2)
            __builtin_prefetch((const void *)((uintptr_t)v + (i < turn ? ahead : back)), 0, 2);
        else
            __builtin_prefetch((const void *)((uintptr_t)v + (i < turn ? ahead : back)), 0, 3);
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
    else if (j->v_type == DT_F16)
        mix_type(j, DT_F16, round, form);
    else
        mix_type(j, DT_BF16, round, form);
}

#endif
