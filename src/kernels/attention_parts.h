// SPDX-License-Identifier: MIT
// What the two blocked attentions share: their block sizes, the layout of their scratch, which keys a row
// sees.
#ifndef IV_KERNELS_ATTENTION_PARTS_H
#define IV_KERNELS_ATTENTION_PARTS_H

#include <string.h>

#include "base/size.h"
#include "kernels/tiers.h"

enum {
    ATTENTION_KEYS = 256, // keys a block; at most the products' depth
    ATTENTION_TAIL = 64,  // so many more may belong to the last block, if not causal
    ATTENTION_PACKED = 9, // blocks of keys packed at a time by the path for many: 2049 keys
    ATTENTION_ROWS = 48,  // query rows a block of that path
};

struct attention_parts {
    float *q;    // few: [KERNEL_FEW_ROWS, d] scale * q; many: [d]
    uint8_t *qx; // q prepared
    float *s;    // [rows at a time, s_stride]
    uint8_t *px; // prepared probabilities
    float *max, *sum;
    float *acc;                  // [rows, acc_stride]: sums over the values
    uint8_t *kp, *vp;            // many: packed K and V
    size_t s_stride, acc_stride; // elements
    float *stage;                // [keys of a block, d]: K or V that was in blocks, or NULL
    size_t qx_stride, px_stride; // bytes
    size_t k_step, v_step;       // bytes from panel to panel
    size_t bytes;                // of all
};

static inline size_t attention_heads(const struct attention_job *j)
{
    return j->n_kv == 0 ? 1 : j->n_kv;
}

// Units of up to KERNEL_FEW_ROWS pairs of a row and a query head, which read the same key head. Saturates.
static inline size_t attention_units(const struct attention_job *j)
{
    size_t pairs, units;
    if (!mul_size(j->n_q, j->group, &pairs) ||
        !mul_size(attention_heads(j), div_up(pairs, KERNEL_FEW_ROWS), &units))
        return SIZE_MAX;
    return units;
}

// How many keys of the n from k0 row i sees.
static inline size_t attention_seen(const struct attention_job *j, size_t i, size_t k0, size_t n)
{
    if (!j->causal)
        return n;
    size_t end = j->first_pos + i + 1;
    return end <= k0 ? 0 : min_size(end - k0, n);
}

// to [d] = scale * the query of row i, head h.
static inline void attention_query(const struct product_kernels *p, const struct attention_job *j,
                                   float *to, size_t i, size_t h)
{
    memcpy(to, j->q + i * j->q_stride + h * j->d, j->d * sizeof *to);
    p->scale(to, j->scale, j->d);
}

// y [d] of row i, head h.
static inline float *attention_out(const struct attention_job *j, size_t i, size_t h)
{
    return j->y + i * j->y_stride + h * j->d;
}

// n rows of m [., d] in blocks as f32 in the stage.
static inline const float *attention_unpack(const struct product_kernels *p,
                                            const struct attention_job *j,
                                            const struct attention_parts *u, const void *m,
                                            size_t stride, enum dtype t, size_t n)
{
    const uint8_t *row = m;
    for (size_t i = 0; i < n; i++, row += dtype_span(t, stride))
        p->unpack(u->stage + i * j->d, row, t, j->d);
    return u->stage;
}

void attention_few(const struct product_kernels *p, const struct attention_job *j,
                   const struct attention_parts *u);
void attention_many(const struct product_kernels *p, const struct attention_job *j,
                    const struct attention_parts *u);

#endif
