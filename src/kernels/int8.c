// SPDX-License-Identifier: MIT
// Products in int8, plain C: the witness, and the definition of the levels that every tier must give to the
// bit.
//
//   x = sx * qx, w = sw * qw                     per block of 256 inputs
//   y = sum over blocks  (sx sw) * sum qx qw     the inner sum is an integer below 2^23
//
// Easy to get wrong: a level is rounded from value * (127 / max), not from value / step, which differ in the
// last bit of f32; the maximum of weights in blocks is what the block's scales allow, since finding the real one
// would cost a pass over the weights for each panel.
#include "kernels/int8_parts.h"
#include "kernels/tiers.h"

#include "tensor/blocks.h"

// ---- levels

static uint32_t top_of(const float *v, size_t n)
{
    uint32_t top = 0;
    for (size_t i = 0; i < n; i++)
        top = int8_size_bits(v[i]) > top ? int8_size_bits(v[i]) : top;
    return top;
}

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return f16_to_f32(h);
}

static uint32_t larger(float a, float b)
{
    uint32_t x = int8_size_bits(a), y = int8_size_bits(b);
    return x > y ? x : y;
}

// Weights of group g are step * q - from, q in [0, most].
static uint32_t top_of_q45_k(const uint8_t *b, float most)
{
    const uint8_t *s = b + 4;
    float d = half_at(b), dmin = half_at(b + 2);
    uint32_t top = 0;
    for (unsigned g = 0; g < 8; g++) {
        unsigned sc = g < 4 ? s[g] & 63u : (s[g + 4] & 15u) | (unsigned)(s[g - 4] >> 6) << 4;
        unsigned mn =
            g < 4 ? s[g + 4] & 63u : (unsigned)(s[g + 4] >> 4) | (unsigned)(s[g] >> 6) << 4;
        float step = d * (float)sc, from = dmin * (float)mn;
        uint32_t here = larger(step * most - from, step * 0.0f - from);
        top = here > top ? here : top;
    }
    return top;
}

static uint32_t top_of_q6_k(const uint8_t *b)
{
    float d = half_at(b + 208);
    int most = 0;
    for (size_t i = 0; i < 16; i++) {
        int s = (int8_t)b[192 + i];
        most = s > most ? s : -s > most ? -s : most;
    }
    return int8_size_bits(d * (float)most * 32.0f);
}

static uint32_t top_of_block(const uint8_t *b, enum dtype t)
{
    switch (t) {
    case DT_Q4_0:
        return int8_size_bits(half_at(b) * 8.0f);
    case DT_Q4_1:
        return larger(15.0f * half_at(b) + half_at(b + 2), 0.0f * half_at(b) + half_at(b + 2));
    case DT_Q5_0:
        return int8_size_bits(half_at(b) * 16.0f);
    case DT_Q8_0:
        return int8_size_bits(half_at(b) * 127.0f); // a level of -128 becomes one
    case DT_Q4_K:
        return top_of_q45_k(b, 15.0f);
    case DT_Q5_K:
        return top_of_q45_k(b, 31.0f);
    default:
        return top_of_q6_k(b);
    }
}

uint32_t int8_top_of_blocks(const void *w, enum dtype t, size_t n)
{
    const uint8_t *b = w;
    uint32_t top = 0;
    for (size_t i = 0; i < n; i += dtype_block(t), b += dtype_block_bytes(t)) {
        uint32_t here = top_of_block(b, t);
        top = here > top ? here : top;
    }
    return top;
}

// Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even.
static int8_t level(float v, float inverse)
{
    const float magic = 12582912.0f;
    float q = v * inverse + magic - magic;
    return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : (int)q);
}

static void levels_of(int8_t *q, const float *v, size_t n, float inverse)
{
    for (size_t i = 0; i < n; i++)
        q[i] = inverse != 0 ? level(v[i], inverse) : 0;
}

float int8_levels_of(int8_t *q, const float *v, size_t n)
{
    struct int8_scale s = int8_scale_of(top_of(v, n));
    levels_of(q, v, n, s.inverse);
    return s.step;
}

float int8_levels_plain(int8_t *q, const void *w, enum dtype t, size_t n)
{
    float v[KERNEL_INT8_BLOCK];
    dtype_to_f32(v, w, t, n);
    struct int8_scale s =
        int8_scale_of(dtype_is_block(t) ? int8_top_of_blocks(w, t, n) : top_of(v, n));
    levels_of(q, v, n, s.inverse);
    return s.step;
}

static void prepare_ref(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                        size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++) {
        uint8_t *to = (uint8_t *)dst + r * bytes;
        memset(to, 0, bytes);
        for (size_t i = 0; i < k; i += KERNEL_INT8_BLOCK) {
            size_t n = min_size(KERNEL_INT8_BLOCK, k - i);
            const float *v = x + r * x_stride + i;
            int8_t q[KERNEL_INT8_BLOCK];
            struct int8_scale s = int8_scale_of(top_of(v, n));
            struct int8_step step = {.step = s.step};
            levels_of(q, v, n, s.inverse);
            for (size_t o = 0; o < n; o++)
                step.base -= 128 * q[o];
            memcpy(to + i, q, n);
            memcpy(to + int8_steps_at(p, k) + i / KERNEL_INT8_BLOCK * sizeof step, &step,
                   sizeof step);
        }
    }
}

// ---- the product

static double block_product(const struct product_kernels *p, const uint8_t *x, size_t k,
                            const int8_t *q, float w_step, size_t at, size_t n)
{
    struct int8_step s;
    int32_t sum = 0;
    memcpy(&s, x + int8_steps_at(p, k) + at / KERNEL_INT8_BLOCK * sizeof s, sizeof s);
    for (size_t i = 0; i < n; i++)
        sum += q[i] * (int8_t)x[at + i];
    return (double)s.step * (double)w_step * (double)sum;
}

// Each output's weights become levels once for all rows: y carries the double sum of one output only.
static void many_ref(const struct product_kernels *p, const struct product_job *j, void *scratch)
{
    size_t bytes = product_x_stride(p, j->k), n_block = div_up(j->k, KERNEL_INT8_BLOCK);
    (void)scratch;
    for (size_t o = 0; o < j->n; o++) {
        for (size_t r = 0; r < j->m; r++) {
            double sum = 0;
            for (size_t b = 0; b < n_block; b++) {
                size_t at = b * KERNEL_INT8_BLOCK, n = min_size(KERNEL_INT8_BLOCK, j->k - at);
                int8_t q[KERNEL_INT8_BLOCK];
                const uint8_t *w = (const uint8_t *)j->w + o * dtype_span(j->w_type, j->w_stride) +
                                   dtype_span(j->w_type, at);
                float step = int8_levels_plain(q, w, j->w_type, n);
                sum += block_product(p, (const uint8_t *)j->x + r * bytes, j->k, q, step, at, n);
            }
            if (j->bias)
                sum += (double)j->bias[o];
            float *y = &j->y[r * j->y_stride + o];
            *y = (float)(j->add ? (double)*y + sum : sum);
        }
    }
}

void int8_set_ref(struct product_kernels *p)
{
    p->x_elem = 1;
    p->panel = 1;
    p->steps = true;
    p->prepare = prepare_ref;
    p->many = many_ref;
    p->attention = attention_int8_ref;
    p->attention_scratch = attention_int8_scratch;
    p->levels = int8_levels_plain;
    p->unpack = dtype_to_f32;
}
