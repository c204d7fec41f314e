// SPDX-License-Identifier: MIT
// Attention of many query rows: each block of keys and values is packed once, then every head and block of
// query rows goes over it with the products' tile kernel.
//
//   S = (scale q) K^T;  P, max, sum = step(S);  y = y * exp(old max - max) + P V
//
// y holds the unnormalised sums until the last block is done.
//
// Easy to get wrong: causal rows that see nothing of a block are the first ones, since later rows see
// more: they are left out. Keys that even a block's last row does not see are left out too, but the panel
// of K keeps the width it was packed with.
#include "kernels/attention_parts.h"

#include <math.h>

struct rows {
    const uint8_t *at;
    size_t stride;
    enum dtype type; // plain
};

// Rows [k0, k0 + n) of m where they lie, or unpacked in the stage.
static struct rows rows_of(const struct product_kernels *p, const struct attention_job *j,
                           const struct attention_parts *u, const void *m, size_t stride,
                           enum dtype t, size_t k0, size_t n)
{
    const uint8_t *at = (const uint8_t *)m + dtype_span(t, k0 * stride);
    if (!dtype_is_block(t))
        return (struct rows){at, stride, t};
    const float *stage = attention_unpack(p, j, u, at, stride, t, n);
    return (struct rows){(const uint8_t *)stage, j->d, DT_F32};
}

// Packs keys [k0, k0 + n) and their values.
static void pack_keys(const struct product_kernels *p, const struct attention_job *j,
                      const struct attention_parts *u, size_t k0, size_t n)
{
    struct rows k = rows_of(p, j, u, j->k, j->k_stride, j->k_type, k0, n);
    for (size_t o = 0; o < n; o += p->panel)
        p->pack(u->kp + o / p->panel * u->k_step, k.at + o * k.stride * dtype_bytes(k.type),
                k.stride, k.type, min_size(p->panel, n - o), j->d);
    struct rows v = rows_of(p, j, u, j->v, j->v_stride, j->v_type, k0, n);
    for (size_t c = 0; c < j->d; c += p->panel)
        p->pack_t(u->vp + c / p->panel * u->v_step, v.at + c * dtype_bytes(v.type), v.stride,
                  v.type, min_size(p->panel, j->d - c), n);
}

// Rows [i, i + m) of head h against the packed keys [k0, k0 + n); every row sees one at least, and the
// keys that even the last one does not see are left out.
static void attend_block(const struct product_kernels *p, const struct attention_job *j,
                         const struct attention_parts *u, size_t h, size_t i, size_t m, size_t k0,
                         size_t n)
{
    const size_t packed = n;
    n = attention_seen(j, i + m - 1, k0, n);
    for (size_t r = 0; r < m; r++)
        attention_query(p, j, u->q + r * j->d, i + r, h);
    p->prepare(p, u->qx, u->q, j->d, m, j->d);
    struct tile_job t = {
        .x = u->qx, .x_stride = u->qx_stride, .y_stride = ATTENTION_KEYS, .m = m, .k = j->d};
    for (size_t o = 0; o < n; o += p->panel) {
        t.y = u->s + o;
        t.panel = u->kp + o / p->panel * u->k_step;
        t.n = min_size(p->panel, packed - o); // as it was packed
        p->tile(&t);
    }
    float *y = attention_out(j, i, h);
    for (size_t r = 0; r < m; r++) {
        size_t row = (i + r) * j->group + h;
        float f = p->soft_step(u->px + r * u->px_stride, u->s + r * ATTENTION_KEYS,
                               attention_seen(j, i + r, k0, n), round_up(n, 32), &u->max[row],
                               &u->sum[row]);
        if (k0 != 0 && f != 1.0f)
            p->scale(y + r * j->y_stride, f, j->d);
    }
    t = (struct tile_job){.x = u->px,
                          .x_stride = u->px_stride,
                          .y_stride = j->y_stride,
                          .m = m,
                          .k = n,
                          .add = k0 != 0};
    for (size_t c = 0; c < j->d; c += p->panel) {
        t.y = y + c;
        t.panel = u->vp + c / p->panel * u->v_step;
        t.n = min_size(p->panel, j->d - c);
        p->tile(&t);
    }
}

void attention_many(const struct product_kernels *p, const struct attention_job *j,
                    const struct attention_parts *u)
{
    for (size_t r = 0; r < j->n_q * j->group; r++) {
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
    for (size_t k0 = 0; k0 < j->n_k; k0 += ATTENTION_KEYS) {
        size_t n = attention_seen(j, j->n_q - 1, k0, min_size(ATTENTION_KEYS, j->n_k - k0));
        if (n == 0)
            break;
        pack_keys(p, j, u, k0, n);
        size_t i0 = 0; // first row that sees any of these keys: those before it are no work
        while (attention_seen(j, i0, k0, n) == 0)
            i0++;
        for (size_t h = 0; h < j->group; h++)
            for (size_t i = i0; i < j->n_q; i += ATTENTION_ROWS)
                attend_block(p, j, u, h, i, min_size(ATTENTION_ROWS, j->n_q - i), k0, n);
    }
    for (size_t i = 0; i < j->n_q; i++)
        for (size_t h = 0; h < j->group; h++)
            p->scale(attention_out(j, i, h), 1.0f / u->sum[i * j->group + h], j->d);
}
