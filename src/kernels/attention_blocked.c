// SPDX-License-Identifier: MIT
// Attention with a running softmax, on a tier's small kernels; the scores are never held as a whole.
// (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", eq. 4-6; blocks as in Dao
// et al. 2022, "FlashAttention", algorithm 1, with rows outside and keys inside.) This file lays out the
// scratch; attention_few.c and attention_many.c are the two paths.
//
// Easy to get wrong: blocks of keys begin at fixed multiples from key 0, or a row's result would depend
// on its neighbours.
#include "kernels/attention_parts.h"
#include "kernels/scratch_part.h"

static float *take_f32(uint8_t *base, struct attention_parts *u, size_t n)
{
    return scratch_part(base, &u->bytes, n, sizeof(float));
}

// The one place that knows the layout of scratch: with base NULL it only counts.
static struct attention_parts parts_of(const struct product_kernels *p,
                                       const struct attention_job *j, uint8_t *base)
{
    bool k_blocks = dtype_is_block(j->k_type), v_blocks = dtype_is_block(j->v_type);
    size_t some = j->few ? KERNEL_FEW_ROWS : ATTENTION_ROWS, rows = some; // at a time, kept
    size_t keys = j->few ? ATTENTION_KEYS : ATTENTION_KEYS + ATTENTION_TAIL;
    struct attention_parts u = {.qx_stride = product_x_stride(p, j->d),
                                .px_stride = product_x_stride(p, keys),
                                .s_stride = keys,
                                .acc_stride = round_up(j->d, 16)};
    if (j->few && !mul_size(some, attention_units(j), &rows))
        rows = SIZE_MAX;
    u.q = take_f32(base, &u, j->few ? some * j->d : j->d);
    u.qx = scratch_part(base, &u.bytes, rows, u.qx_stride);
    u.s = take_f32(base, &u, some * keys);
    u.px = scratch_part(base, &u.bytes, rows, u.px_stride);
    u.acc = scratch_part(base, &u.bytes, rows, u.acc_stride * sizeof(float));
    if (v_blocks || (k_blocks && !j->few))
        u.stage = take_f32(base, &u, keys * j->d);
    if (j->few) {
        u.max = take_f32(base, &u, rows);
        u.sum = take_f32(base, &u, rows);
        return u;
    }
    size_t pairs; // (row, head)
    if (!mul_size(j->n_q, j->group, &pairs))
        pairs = SIZE_MAX;
    u.max = take_f32(base, &u, pairs);
    u.sum = take_f32(base, &u, pairs);
    u.k_step = p->panel * round_up(j->d, 2) * p->x_elem;
    u.v_step = p->panel * keys * p->x_elem;
    size_t blocks = min_size(div_up(max_size(j->n_k, 1), ATTENTION_KEYS), ATTENTION_PACKED);
    size_t last = div_up(keys, p->panel) - ATTENTION_KEYS / p->panel; // panels of the tail
    u.kp = scratch_part(base, &u.bytes, blocks * (ATTENTION_KEYS / p->panel) + last, u.k_step);
    u.vp = scratch_part(base, &u.bytes, blocks * div_up(j->d, p->panel), u.v_step);
    return u;
}

size_t attention_blocked_scratch(const struct product_kernels *p, const struct attention_job *j)
{
    return parts_of(p, j, NULL).bytes;
}

void attention_blocked(const struct product_kernels *p, const struct attention_job *j,
                       void *scratch)
{
    if (j->n_q == 0)
        return;
    struct attention_parts u = parts_of(p, j, scratch);
    if (j->few)
        attention_few(p, j, &u);
    else
        attention_many(p, j, &u);
}
