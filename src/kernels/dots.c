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
    EACH = 16,   // inputs that lie together
    VECTOR = 64, // bytes
};

// Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even.
static int32_t level(float v, struct dots_scale s)
{
    const float magic = 12582912.0f;
    return s.inverse != 0 ? (int32_t)(v * s.inverse + magic - magic) : 0;
}

// Inputs [i, i + EACH) of x [k], zeros behind its end; returns the bits of the largest of them.
static uint32_t inputs_at(float v[EACH], const float *x, size_t k, size_t i)
{
    uint32_t top = 0;
    for (size_t q = 0; q < EACH; q++) {
        uint32_t u;
        v[q] = i + q < k ? x[i + q] : 0;
        memcpy(&u, &v[q], sizeof u);
        u &= 0x7fffffff;
        top = u > top ? u : top;
    }
    return top;
}

// Levels of EACH inputs from x[from] on, four together and those fours `apart` bytes apart; returns their sum.
static int32_t levels_at(int8_t *to, size_t apart, float *step, const float *x, size_t k,
                         size_t from)
{
    float v[EACH];
    struct dots_scale s = dots_scale_of(inputs_at(v, x, k, from));
    int32_t all = 0;
    for (size_t i = 0; i < EACH; i++) {
        int32_t q = level(v[i], s);
        to[i / 4 * apart + i % 4] = (int8_t)q;
        all += q;
    }
    *step = s.step;
    return all;
}

static void prepare_part(struct dots_part *to, const float *x, size_t k, size_t from)
{
    for (size_t g = 0; g < DOTS_LANES; g++, from += 2 * EACH) {
        size_t l = dots_lane(g);
        float sum[2];
        for (size_t h = 0; h < 2; h++) {
            int8_t *level = to->level + 4 * h * VECTOR + 4 * l;
            float *step = &to->step[h][l];
            int32_t all = levels_at(level, VECTOR, step, x, k, from + EACH * h);
            sum[h] = *step * (float)all;
        }
        to->sum[l] = sum[0] + sum[1];
    }
}

static void prepare_half(struct dots_half *to, const float *x, size_t k, size_t from)
{
    for (size_t i = 0; i < DOTS_LANES; i++, from += EACH) {
        size_t l = dots_lane_half(i);
        to->base[l] = -128 * levels_at(to->level + 4 * l, VECTOR, &to->step[l], x, k, from);
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
        for (size_t i = 0; i < k; i += DOTS_PART) {
            prepare_part(part++, x, k, i);
            prepare_half(half++, x, k, i);
            prepare_half(half++, x, k, i + DOTS_HALF);
        }
    }
}

// Input i of a prepared row of k.
static double value_at(const void *row, size_t k, size_t i, bool parts)
{
    size_t j = i % EACH / 4, byte = i % 4;
    if (parts) {
        const struct dots_part *x = (const struct dots_part *)row + i / DOTS_PART;
        size_t l = dots_lane(i % DOTS_PART / 32), h = i % 32 / EACH;
        return (double)x->step[h][l] * x->level[(4 * h + j) * VECTOR + 4 * l + byte];
    }
    const void *halves = (const uint8_t *)row + dots_halves_at(k);
    const struct dots_half *x = (const struct dots_half *)halves + i / DOTS_HALF;
    size_t l = dots_lane_half(i % DOTS_HALF / EACH);
    return (double)x->step[l] * x->level[j * VECTOR + 4 * l + byte];
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
