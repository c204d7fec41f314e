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
    float *q;    // few: [rows, d] scale * q; many: [d]
    uint8_t *qx; // q prepared
    float *s;    // [rows, s_stride]
    uint8_t *px; // prepared probabilities
    float *max, *sum;
    float *acc;                  // [rows, acc_stride]: sums over the values
    uint8_t *kp, *vp;            // many: packed K and V
    size_t s_stride, acc_stride; // elements
    size_t qx_stride, px_stride; // bytes
    size_t k_step, v_step;       // bytes from panel to panel
    size_t bytes;                // of all
};

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

void attention_few(const struct product_kernels *p, const struct attention_job *j,
                   const struct attention_parts *u);
void attention_many(const struct product_kernels *p, const struct attention_job *j,
                    const struct attention_parts *u);

#endif
