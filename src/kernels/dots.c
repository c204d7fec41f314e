// SPDX-License-Identifier: MIT
// Few rows times weights in blocks, plain C: the witness, and the definition of the levels that every tier must
// give to the bit (dots_parts.h). Weights count as they are stored; all that is rounded is x.
//
// Easy to get wrong: a level is rounded from value * (most / max), not from value / step, which differ in the last
// bit of f32; `high` is rounded down, whatever the sign, so `low` is in [0, 15].
#include "kernels/dots_parts.h"
#include "kernels/tiers.h"

#include "base/size.h"
#include "tensor/blocks.h"

enum { EACH = 16 }; // inputs that lie together

// Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even.
static int32_t level(float v, struct dots_scale s)
{
    const float magic = 12582912.0f;
    return s.inverse != 0 ? (int32_t)(v * s.inverse + magic - magic) : 0;
}

// Inputs [i, i + EACH) of x [k], zeros behind its end; returns the bits of the largest of them and `top`.
static uint32_t inputs_at(float v[EACH], const float *x, size_t k, size_t i, uint32_t top)
{
    for (size_t q = 0; q < EACH; q++) {
        uint32_t u;
        v[q] = i + q < k ? x[i + q] : 0;
        memcpy(&u, &v[q], sizeof u);
        u &= 0x7fffffff;
        top = u > top ? u : top;
    }
    return top;
}

static void prepare_bytes(struct dots_bytes *to, const float *x, size_t k, size_t from)
{
    for (size_t g = 0; g < DOTS_LANES; g++) {
        size_t l = dots_lane(g);
        float sum[2];
        for (size_t h = 0; h < 2; h++) {
            float v[EACH];
            uint32_t top = inputs_at(v, x, k, from + 2 * EACH * g + EACH * h, 0);
            struct dots_scale s = dots_scale_of(top, DOTS_TOP);
            int32_t all = 0;
            for (size_t i = 0; i < EACH; i++) {
                int32_t q = level(v[i], s);
                to->level[(4 * h + i / 4) * 64 + 4 * l + i % 4] = (int8_t)q;
                all += q;
            }
            to->step[h][l] = s.step;
            sum[h] = s.step * (float)all;
        }
        to->sum[l] = sum[0] + sum[1];
    }
}

// A run of them and its steps.
static void prepare_wide(struct dots_wide *to, float *step, const float *x, size_t k, size_t from)
{
    enum { N = DOTS_RUN / DOTS_WIDE };
    for (size_t lane = 0; lane < DOTS_LANES; lane++) {
        size_t l = dots_lane_wide(lane);
        float v[N][EACH];
        uint32_t top = 0;
        for (size_t b = 0; b < N; b++)
            top = inputs_at(v[b], x, k, from + DOTS_WIDE * b + EACH * lane, top);
        struct dots_scale s = dots_scale_of(top, DOTS_TOP_WIDE);
        step[l] = s.step;
        for (size_t b = 0; b < N; b++) {
            int32_t all = 0;
            for (size_t i = 0; i < EACH; i++) {
                int32_t q = level(v[b][i], s);
                int32_t high = (q + 2048) / 16 - 128; // rounded down
                to[b].high[i / 4 * 64 + 4 * l + i % 4] = (int8_t)high;
                uint8_t *pair = &to[b].low[i / 8 * 64 + 4 * l + i % 4];
                unsigned low = (unsigned)(q - 16 * high);
                *pair = (uint8_t)(i % 8 < 4 ? low : *pair | low << 4);
                all += q;
            }
            to[b].base[l] = -128 * all;
        }
    }
}

static void prepare_ref(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                        size_t m, size_t k)
{
    size_t bytes = product_x_stride(p, k);
    for (size_t r = 0; r < m; r++, x += x_stride) {
        uint8_t *row = (uint8_t *)dst + r * bytes;
        struct dots_bytes *narrow = (struct dots_bytes *)(void *)row;
        struct dots_wide *wide = (struct dots_wide *)(void *)(row + dots_wide_at(k));
        float *step = (float *)(void *)(row + dots_steps_at(k));
        memset(row, 0, bytes);
        for (size_t i = 0; i < round_up(k, DOTS_RUN); i += DOTS_BYTES)
            prepare_bytes(narrow++, x, k, i);
        for (size_t i = 0; i < k; i += DOTS_RUN, wide += DOTS_RUN / DOTS_WIDE, step += DOTS_LANES)
            prepare_wide(wide, step, x, k, i);
    }
}

// Input i of a prepared row of k.
static double value_at(const void *row, size_t k, size_t i, bool bytes)
{
    if (bytes) {
        const struct dots_bytes *x = (const struct dots_bytes *)row + i / DOTS_BYTES;
        size_t l = dots_lane(i % DOTS_BYTES / 32), h = i % 32 / EACH;
        size_t at = (4 * h + i % EACH / 4) * 64 + 4 * l + i % 4;
        return (double)x->step[h][l] * x->level[at];
    }
    const uint8_t *at_wide = (const uint8_t *)row + dots_wide_at(k);
    const uint8_t *at_steps = (const uint8_t *)row + dots_steps_at(k);
    const struct dots_wide *x = (const struct dots_wide *)(const void *)at_wide + i / DOTS_WIDE;
    const float *step = (const float *)(const void *)at_steps + i / DOTS_RUN * DOTS_LANES;
    size_t l = dots_lane_wide(i % DOTS_WIDE / EACH), at = i % EACH / 4 * 64 + 4 * l + i % 4;
    int low = x->low[i % EACH / 8 * 64 + 4 * l + i % 4] >> (i % 8 < 4 ? 0 : 4) & 0x0f;
    return (double)step[l] * (16 * x->high[at] + low);
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
                    sum += (double)w[q] * value_at(x, j->k, i + q, dots_in_bytes(j->w_type));
            }
            float *y = &j->y[r * j->y_stride + o];
            *y = (float)(j->add ? (double)*y + sum : sum);
        }
    }
}

void dots_set_ref(struct product_kernels *p)
{
    p->x_elem = DOTS_RUN_BYTES;
    p->x_block = DOTS_RUN;
    p->panel = 1;
    p->prepare = prepare_ref;
    p->few = few_ref;
}
