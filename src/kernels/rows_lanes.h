// SPDX-License-Identifier: MIT
// The row and element kernels in the vector vocabulary of a lanes_*.h, which the including file has
// named first. Each tier's rows_*.c includes this once and calls rows_set_lanes.
//
//   gelu x  = x P, P = erfc(t)/2 for x < 0, else 1 - erfc(t)/2, t = |x| / sqrt 2
//   erfc t  = exp(-t^2) u p(1 - u), u = 1 / (1 + 0.6 t), p a minimax fit of exp(t^2) erfc(t) / u over
//             t in [0, 10] with p(0) = 1 (relative error 4e-8)
//
// Easy to get wrong: a row's sum must not depend on where other rows are, so the lanes are fixed by the
// column; the tail is a partial load, never a scalar loop with another order. The rounding of t^2 costs
// erfc relative accuracy far out, where gelu is next to nothing: its error stays below 2e-7 |x|.
#ifndef IV_KERNELS_ROWS_LANES_H
#define IV_KERNELS_ROWS_LANES_H

#include <math.h>

#include "base/size.h"
#include "kernels/exp_lanes.h"
#include "kernels/tiers.h"

// erfc(t) / 2 for t >= 0
static inline lanes lanes_half_erfc(lanes t)
{
    lanes u = lanes_div(lanes_set(1.0f), lanes_fma(t, lanes_set(0.6f), lanes_set(1.0f)));
    lanes z = lanes_sub(lanes_set(1.0f), u);
    lanes p = lanes_set(-0.0634020492f);
    p = lanes_fma(p, z, lanes_set(0.264059126f));
    p = lanes_fma(p, z, lanes_set(-0.368120164f));
    p = lanes_fma(p, z, lanes_set(0.202172667f));
    p = lanes_fma(p, z, lanes_set(-0.134491563f));
    p = lanes_fma(p, z, lanes_set(0.0969119295f));
    p = lanes_fma(p, z, lanes_set(0.20529145f));
    p = lanes_fma(p, z, lanes_set(0.0167498328f));
    p = lanes_fma(p, z, lanes_set(-0.880637467f));
    p = lanes_fma(p, z, lanes_set(1.0f));
    lanes e = lanes_exp(lanes_sub(lanes_zero(), lanes_mul(t, t)));
    return lanes_mul(lanes_mul(e, lanes_set(0.5f)), lanes_mul(u, p));
}

static inline lanes lanes_gelu(lanes x)
{
    lanes tail = lanes_half_erfc(lanes_mul(lanes_abs(x), lanes_set(0.707106781f)));
    return lanes_mul(x, lanes_if_negative(x, tail, lanes_sub(lanes_set(1.0f), tail)));
}

static inline lanes lanes_silu(lanes x)
{
    return lanes_div(x, lanes_add(lanes_set(1.0f), lanes_exp(lanes_sub(lanes_zero(), x))));
}

static void to_f32_lanes(float *dst, const void *src, enum dtype t, size_t n)
{
    const uint8_t *from = src;
    size_t i = 0;
    switch (t) {
    case DT_F32:
        memcpy(dst, src, n * sizeof *dst);
        break;
    case DT_F16:
        for (; i + LANES <= n; i += LANES)
            lanes_store(dst + i, lanes_load_f16(from + 2 * i));
        lanes_store_n(dst + i, lanes_load_f16_n(from + 2 * i, n - i), n - i);
        break;
    default:
        for (; i + LANES <= n; i += LANES)
            lanes_store(dst + i, lanes_load_bf16(from + 2 * i));
        lanes_store_n(dst + i, lanes_load_bf16_n(from + 2 * i, n - i), n - i);
    }
}

static void from_f32_lanes(void *dst, enum dtype t, const float *src, size_t n)
{
    uint8_t *to = dst;
    if (t == DT_F32) {
        memcpy(dst, src, n * sizeof *src);
        return;
    }
    for (size_t i = 0; i < n; i += LANES) {
        size_t some = min_size(LANES, n - i);
        lanes v = lanes_load_n(src + i, some);
        if (t == DT_F16)
            lanes_store_f16_n(to + 2 * i, v, some);
        else
            lanes_store_bf16_n(to + 2 * i, v, some);
    }
}

static void add_lanes(float *x, const float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(x + i, lanes_add(lanes_load(x + i), lanes_load(y + i)));
    lanes_store_n(x + i, lanes_add(lanes_load_n(x + i, n - i), lanes_load_n(y + i, n - i)), n - i);
}

static void add_scaled_lanes(float *x, const float *y, const float *s, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(x + i, lanes_fma(lanes_load(y + i), lanes_load(s + i), lanes_load(x + i)));
    lanes v = lanes_fma(lanes_load_n(y + i, n - i), lanes_load_n(s + i, n - i),
                        lanes_load_n(x + i, n - i));
    lanes_store_n(x + i, v, n - i);
}

static void scale_lanes(float *x, float s, size_t n)
{
    lanes f = lanes_set(s);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(x + i, lanes_mul(lanes_load(x + i), f));
    lanes_store_n(x + i, lanes_mul(lanes_load_n(x + i, n - i), f), n - i);
}

static void gelu_lanes(float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(x + i, lanes_gelu(lanes_load(x + i)));
    lanes_store_n(x + i, lanes_gelu(lanes_load_n(x + i, n - i)), n - i);
}

static void silu_mul_lanes(float *gate, const float *up, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(gate + i, lanes_mul(lanes_silu(lanes_load(gate + i)), lanes_load(up + i)));
    lanes v = lanes_mul(lanes_silu(lanes_load_n(gate + i, n - i)), lanes_load_n(up + i, n - i));
    lanes_store_n(gate + i, v, n - i);
}

static void rms_norm_lanes(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                           size_t n, const float *w, float eps)
{
    size_t full = n - n % LANES, tail = n % LANES;
    for (size_t r = 0; r < rows; r++, y += y_stride, x += x_stride) {
        lanes sum = lanes_zero();
        for (size_t i = 0; i < full; i += LANES) {
            lanes v = lanes_load(x + i);
            sum = lanes_fma(v, v, sum);
        }
        lanes last = lanes_load_n(x + full, tail);
        sum = lanes_fma(last, last, sum);
        lanes f = lanes_set(1.0f / sqrtf(lanes_sum(sum) / (float)n + eps));
        for (size_t i = 0; i < full; i += LANES)
            lanes_store(y + i, lanes_mul(lanes_mul(lanes_load(x + i), f), lanes_load(w + i)));
        lanes_store_n(y + full, lanes_mul(lanes_mul(last, f), lanes_load_n(w + full, tail)), tail);
    }
}

static inline lanes normed(lanes x, lanes mean, lanes f, lanes w, lanes b)
{
    return lanes_fma(lanes_mul(lanes_sub(x, mean), f), w, b);
}

static void layer_norm_lanes(float *y, size_t y_stride, const float *x, size_t x_stride,
                             size_t rows, size_t n, const float *w, const float *b, float eps)
{
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    size_t full = n - n % LANES, tail = n % LANES;
    lanes in_tail = lanes_load_n(ones, tail);
    for (size_t r = 0; r < rows; r++, y += y_stride, x += x_stride) {
        lanes sum = lanes_load_n(x + full, tail), square = lanes_zero();
        for (size_t i = 0; i < full; i += LANES)
            sum = lanes_add(sum, lanes_load(x + i));
        lanes mean = lanes_set(lanes_sum(sum) / (float)n);
        for (size_t i = 0; i < full; i += LANES) {
            lanes v = lanes_sub(lanes_load(x + i), mean);
            square = lanes_fma(v, v, square);
        }
        lanes last = lanes_load_n(x + full, tail);
        lanes v = lanes_fnma(mean, in_tail, last); // zero in the lanes behind the row's end
        square = lanes_fma(v, v, square);
        lanes f = lanes_set(1.0f / sqrtf(lanes_sum(square) / (float)n + eps));
        for (size_t i = 0; i < full; i += LANES)
            lanes_store(y + i,
                        normed(lanes_load(x + i), mean, f, lanes_load(w + i), lanes_load(b + i)));
        last = normed(last, mean, f, lanes_load_n(w + full, tail), lanes_load_n(b + full, tail));
        lanes_store_n(y + full, last, tail);
    }
}

static void rope_lanes(float *x, size_t n_head, size_t d, const float *table)
{
    size_t half = d / 2;
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d, *b = a + half;
        for (size_t i = 0; i < half; i += LANES) {
            size_t n = min_size(LANES, half - i);
            lanes cs = lanes_load_n(table + i, n), sn = lanes_load_n(table + half + i, n);
            lanes va = lanes_load_n(a + i, n), vb = lanes_load_n(b + i, n);
            lanes_store_n(a + i, lanes_fnma(vb, sn, lanes_mul(va, cs)), n);
            lanes_store_n(b + i, lanes_fma(va, sn, lanes_mul(vb, cs)), n);
        }
    }
}

static void rows_set_lanes(struct kernels *k)
{
    k->to_f32 = to_f32_lanes;
    k->from_f32 = from_f32_lanes;
    k->add = add_lanes;
    k->add_scaled = add_scaled_lanes;
    k->scale = scale_lanes;
    k->gelu = gelu_lanes;
    k->silu_mul = silu_mul_lanes;
    k->rms_norm = rms_norm_lanes;
    k->layer_norm = layer_norm_lanes;
    k->rope = rope_lanes;
}

#endif
