// SPDX-License-Identifier: MIT
// Few rows times weights in blocks, plain C: the witness, and the definition of the levels that every tier must
// give to the bit (dots_parts.h). Weights count as they are stored; all that is rounded is x.
//
// Easy to get wrong: a level is rounded from value * (most / max), not from value / step, which differ in the last
// bit of f32.
#include "kernels/dots_parts.h"
#include "kernels/tiers.h"

#include "base/size.h"
#include "tensor/blocks.h"

enum {
    SHARE = 32,  // inputs that share a step
    EACH = 16,   // of those in a lane of a half
    VECTOR = 64, // bytes
};

// Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even.
static int32_t level(float v, struct dots_scale s)
{
    const float magic = 12582912.0f;
    return s.inverse != 0 ? (int32_t)(v * s.inverse + magic - magic) : 0;
}

// Inputs [i, i + SHARE) of x [k], zeros behind its end; returns the bits of the largest of them.
static uint32_t inputs_at(float v[SHARE], const float *x, size_t k, size_t i)
{
    uint32_t top = 0;
    for (size_t q = 0; q < SHARE; q++) {
        uint32_t u;
        v[q] = i + q < k ? x[i + q] : 0;
        memcpy(&u, &v[q], sizeof u);
        u &= 0x7fffffff;
        top = u > top ? u : top;
    }
    return top;
}

// Levels of the SHARE inputs from x[from] on, side by side; returns their step.
static float levels_at(int8_t q[SHARE], const float *x, size_t k, size_t from)
{
    float v[SHARE];
    struct dots_scale s = dots_scale_of(inputs_at(v, x, k, from));
    for (size_t i = 0; i < SHARE; i++)
        q[i] = (int8_t)level(v[i], s);
    return s.step;
}

// Puts n levels in their places, four together and those fours VECTOR bytes apart; returns their sum.
static int32_t put_levels(int8_t *to, const int8_t *q, size_t n)
{
    int32_t all = 0;
    for (size_t i = 0; i < n; i++) {
        to[i / 4 * VECTOR + i % 4] = q[i];
        all += q[i];
    }
    return all;
}

// A part and its two halves.
static void prepare_part(struct dots_part *to, struct dots_half half[2], const float *x, size_t k,
                         size_t from)
{
    for (size_t g = 0; g < DOTS_LANES; g++) {
        int8_t q[SHARE];
        size_t l = dots_lane(g);
        float step = levels_at(q, x, k, from + SHARE * g);
        to->step[l] = step;
        to->sum[l] = step * (float)put_levels(to->level + 4 * l, q, SHARE);
        for (size_t i = 2 * g; i < 2 * g + 2; i++) {
            struct dots_half *h = &half[i / DOTS_LANES];
            l = dots_lane_half(i % DOTS_LANES);
            h->step[l] = step;
            h->base[l] = -128 * put_levels(h->level + 4 * l, q + i % 2 * EACH, EACH);
        }
    }
}

static void prepare_ref(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                        size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++, x += x_stride) {
        uint8_t *row = (uint8_t *)dst + r * bytes;
        struct dots_part *part = (struct dots_part *)(void *)row;
        struct dots_half *half = (struct dots_half *)(void *)(row + dots_halves_at(k));
        memset(row, 0, bytes);
        for (size_t i = 0; i < k; i += DOTS_PART, half += 2)
            prepare_part(part++, half, x, k, i);
    }
}

// Input i of a prepared row of k.
static double value_at(const void *row, size_t k, size_t i, bool parts)
{
    size_t byte = i % 4;
    if (parts) {
        const struct dots_part *x = (const struct dots_part *)row + i / DOTS_PART;
        size_t l = dots_lane(i % DOTS_PART / 32);
        return (double)x->step[l] * x->level[i % 32 / 4 * VECTOR + 4 * l + byte];
    }
    const void *halves = (const uint8_t *)row + dots_halves_at(k);
    const struct dots_half *x = (const struct dots_half *)halves + i / DOTS_HALF;
    size_t l = dots_lane_half(i % DOTS_HALF / EACH);
    return (double)x->step[l] * x->level[i % EACH / 4 * VECTOR + 4 * l + byte];
}

static void few_ref(const struct product_kernels *p, const struct product_job *j)
{
    size_t bytes = product_x_stride(p, j->k), block = dtype_block(j->w_type);
    size_t block_bytes = dtype_block_bytes(j->w_type),
           row_bytes = dtype_span(j->w_type, j->w_stride);
    for (size_t r = 0; r < j->m; r++) {
        const void *x = (const uint8_t *)j->x + r * bytes;
        for (size_t o = 0; o < j->n; o++) {
            const uint8_t *row = (const uint8_t *)j->w + o * row_bytes;
            double sum = j->bias ? (double)j->bias[o] : 0;
            float w[BLOCK_SUPER];
            for (size_t i = 0; i < j->k; i += block, row += block_bytes) {
                dtype_to_f32(w, row, j->w_type, block);
                for (size_t q = 0; q < block; q++)
                    sum += (double)w[q] * value_at(x, j->k, i + q, dots_by_parts(j->w_type));
            }
            float *y = &j->y[r * j->y_stride + o];
            *y = (float)(j->add ? (double)*y + sum : sum);
        }
    }
}

void dots_set_ref(struct product_kernels *p)
{
    p->x_elem = DOTS_PART_BYTES;
    p->x_block = DOTS_PART;
    p->panel = 1;
    p->prepare = prepare_ref;
    p->few = few_ref;
}
