// SPDX-License-Identifier: MIT
// Attention of a few query rows: up to KERNEL_FEW_ROWS (row, head) pairs at a time go over the keys, with
// dot products on K's rows and weighted sums of V's rows, both where they are; but V in blocks is unpacked, 256 rows at a time.
//
// Masked keys inside a block take part with probability zero. Every row sees key 0, so its maximum is
// set in the first block, and a later block of which it sees nothing leaves it as it is.
#include "kernels/attention_parts.h"

#include <math.h>

static void few_rows(const struct product_kernels *p, const struct attention_job *j,
                     const struct attention_parts *u, size_t first, size_t m)
{
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
            .w = (const uint8_t *)j->k + dtype_span(j->k_type, k0 * j->k_stride),
            .w_stride = j->k_stride,
            .w_type = j->k_type,
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
            .v = (const uint8_t *)j->v + dtype_span(j->v_type, k0 * j->v_stride),
            .v_stride = j->v_stride,
            .v_type = j->v_type,
            .m = m,
            .n = n,
            .d = j->d,
            .ask_l2 = p->ask_l2,
        };
        if (dtype_is_block(mix.v_type)) {
            mix.v = attention_unpack(p, j, u, mix.v, j->v_stride, j->v_type, n);
            mix.v_stride = j->d;
            mix.v_type = DT_F32;
        }
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
