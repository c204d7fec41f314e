// SPDX-License-Identifier: MIT
// Attention of a few query rows: up to KERNEL_FEW_ROWS (row, head) pairs at a time go over the keys, with
// dot products on K's rows and weighted sums of V's rows, both where they are.
//
// Masked keys inside a block take part with probability zero. Every row sees key 0, so its maximum is
// set in the first block, and a later block of which it sees nothing leaves it as it is.
#include "kernels/attention_parts.h"

#include <math.h>

static void few_rows(const struct product_kernels *p, const struct attention_job *j,
                     const struct attention_parts *u, size_t first, size_t m)
{
    size_t kv_bytes = dtype_bytes(j->kv_type);
    for (size_t r = 0; r < m; r++) {
        attention_query(p, j, u->q + r * j->d, (first + r) / j->group, (first + r) % j->group);
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
    p->prepare(p, u->qx, u->q, j->d, m, j->d);
    memset(u->acc, 0, m * u->acc_stride * sizeof *u->acc);
    for (size_t k0 = 0; k0 < j->n_k; k0 += ATTENTION_KEYS) {
        // the last row of the chunk sees most
        size_t n = attention_seen(j, (first + m - 1) / j->group, k0,
                                  min_size(ATTENTION_KEYS, j->n_k - k0));
        if (n == 0)
            break;
        struct product_job dots = {
            .y = u->s,
            .y_stride = u->s_stride,
            .x = u->qx,
            .w = (const uint8_t *)j->k + k0 * j->k_stride * kv_bytes,
            .w_stride = j->k_stride,
            .w_type = j->kv_type,
            .m = m,
            .n = n,
            .k = j->d,
        };
        p->few(p, &dots);
        for (size_t r = 0; r < m; r++) {
            size_t seen = attention_seen(j, (first + r) / j->group, k0, n);
            float f = p->soft_step(u->px + r * u->px_stride, u->s + r * u->s_stride, seen,
                                   round_up(n, 32), &u->max[r], &u->sum[r]);
            if (f != 1.0f)
                p->scale(u->acc + r * u->acc_stride, f, j->d);
        }
        struct mix_job mix = {
            .y = u->acc,
            .y_stride = u->acc_stride,
            .x = u->px,
            .x_stride = u->px_stride,
            .v = (const uint8_t *)j->v + k0 * j->v_stride * kv_bytes,
            .v_stride = j->v_stride,
            .v_type = j->kv_type,
            .m = m,
            .n = n,
            .d = j->d,
        };
        p->mix(&mix);
    }
    for (size_t r = 0; r < m; r++) {
        float *y = attention_out(j, (first + r) / j->group, (first + r) % j->group);
        memcpy(y, u->acc + r * u->acc_stride, j->d * sizeof *y);
        p->scale(y, 1.0f / u->sum[r], j->d);
    }
}

void attention_few(const struct product_kernels *p, const struct attention_job *j,
                   const struct attention_parts *u)
{
    size_t rows = j->n_q * j->group;
    for (size_t r = 0; r < rows; r += KERNEL_FEW_ROWS)
        few_rows(p, j, u, r, min_size(KERNEL_FEW_ROWS, rows - r));
}
