// SPDX-License-Identifier: MIT
// The plain row and element kernels: conversions, sums, norms, activations, rotary positions. Double
// inside, libm's exp and erf; the witness against which every other tier is checked.
#include "kernels/tiers.h"

#include <math.h>
#include <string.h>

static void to_f32_ref(float *dst, const void *src, enum dtype t, size_t n)
{
    dtype_to_f32(dst, src, t, n);
}

static void from_f32_ref(void *dst, enum dtype t, const float *src, size_t n)
{
    uint8_t *to = dst;
    for (size_t i = 0; i < n; i++) {
        if (t == DT_F32) {
            memcpy(to + i * sizeof src[i], &src[i], sizeof src[i]);
        } else {
            uint16_t h = t == DT_BF16 ? f32_to_bf16(src[i]) : f32_to_f16(src[i]);
            memcpy(to + i * sizeof h, &h, sizeof h);
        }
    }
}

static void add_ref(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void add_scaled_ref(float *x, const float *y, const float *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] + (double)y[i] * (double)s[i]);
}

static void scale_ref(float *x, float s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= s;
}

static void gelu_ref(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        x[i] = (float)(0.5 * v * erfc(-v * 0.70710678118654752440)); // 1 / sqrt 2
    }
}

static void silu_mul_ref(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double g = (double)gate[i];
        gate[i] = (float)(g / (1.0 + exp(-g)) * (double)up[i]);
    }
}

static void rms_norm_ref(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                         size_t n, const float *w, float eps)
{
    for (size_t r = 0; r < rows; r++, y += y_stride, x += x_stride) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double f = 1.0 / sqrt(sum / (double)n + (double)eps);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)((double)x[i] * f * (double)w[i]);
    }
}

static void layer_norm_ref(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                           size_t n, const float *w, const float *b, float eps)
{
    for (size_t r = 0; r < rows; r++, y += y_stride, x += x_stride) {
        double sum = 0, square = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)x[i];
        double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
        double f = 1.0 / sqrt(square / (double)n + (double)eps);
        for (size_t i = 0; i < n; i++)
            y[i] = (float)(((double)x[i] - mean) * f * (double)w[i] + (double)b[i]);
    }
}

static void rope_ref(float *x, size_t n_head, size_t d, const float *table)
{
    const float *cs = table, *sn = table + d / 2;
    for (size_t h = 0; h < n_head; h++) {
        float *a = x + h * d, *b = a + d / 2;
        for (size_t i = 0; i < d / 2; i++) {
            double va = (double)a[i], vb = (double)b[i], c = (double)cs[i], s = (double)sn[i];
            a[i] = (float)(va * c - vb * s);
            b[i] = (float)(vb * c + va * s);
        }
    }
}

static void rope_pairs_ref(float *x, size_t n_head, size_t d, const float *table)
{
    const float *cs = table, *sn = table + d / 2;
    for (size_t h = 0; h < n_head; h++, x += d)
        for (size_t i = 0; i < d / 2; i++) {
            double va = (double)x[2 * i], vb = (double)x[2 * i + 1];
            double c = (double)cs[i], s = (double)sn[i];
            x[2 * i] = (float)(va * c - vb * s);
            x[2 * i + 1] = (float)(vb * c + va * s);
        }
}

void rows_set_ref(struct kernels *k)
{
    k->to_f32 = to_f32_ref;
    k->from_f32 = from_f32_ref;
    k->add = add_ref;
    k->add_scaled = add_scaled_ref;
    k->scale = scale_ref;
    k->gelu = gelu_ref;
    k->silu_mul = silu_mul_ref;
    k->rms_norm = rms_norm_ref;
    k->layer_norm = layer_norm_ref;
    k->rope = rope_ref;
    k->rope_pairs = rope_pairs_ref;
}
