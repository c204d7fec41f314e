// SPDX-License-Identifier: MIT
// Attention of many query rows: keys and values are packed once, some blocks at a time; every block of
// query rows of every head then goes over them with the products' tile kernel, its sums at hand.
//
//   S = (scale q) K^T;  P, max, sum = step(S);  acc = acc * exp(old max - max) + P V
//   y = acc / sum                  y holds acc where there are more keys than are packed at a time
//
// A block of keys is ATTENTION_KEYS; without a mask a short rest belongs to the last one, since each block
// costs every row a step of its own.
//
// Easy to get wrong: blocks begin at fixed multiples from key 0, or a causal row's result would depend on
// how many keys come after those it sees. Causal rows that see nothing of a block are the first ones,
// since later rows see more: they are left out. Keys that even a block's last row does not see are left
// out too, but the panel of K keeps the width it was packed with.
#include "kernels/attention_parts.h"

#include <math.h>

enum { LINE = 16 }; // floats of a cache line

// A block of keys, and where it is packed.
struct keys {
    size_t from, n; // n as it was packed
    const uint8_t *kp, *vp;
};

static size_t n_blocks(const struct attention_job *j)
{
    size_t tail = j->causal ? 0 : ATTENTION_TAIL;
    return max_size(div_up(j->n_k - min_size(tail, j->n_k), ATTENTION_KEYS), 1);
}

// Block b, the one at `at` among those packed; of causal rows only keys that the last one sees.
static struct keys block_of(const struct product_kernels *p, const struct attention_job *j,
                            const struct attention_parts *u, size_t b, size_t at)
{
    struct keys k = {.from = b * ATTENTION_KEYS, .n = ATTENTION_KEYS};
    if (b + 1 == n_blocks(j))
        k.n = j->n_k - k.from;
    k.n = attention_seen(j, j->n_q - 1, k.from, k.n);
    k.kp = u->kp + at * (ATTENTION_KEYS / p->panel) * u->k_step;
    k.vp = u->vp + at * div_up(j->d, p->panel) * u->v_step;
    return k;
}

static void pack_keys(const struct product_kernels *p, const struct attention_job *j,
                      const struct attention_parts *u, const struct keys *b)
{
    size_t kv_bytes = dtype_bytes(j->kv_type);
    uint8_t *kp = u->kp + (b->kp - u->kp), *vp = u->vp + (b->vp - u->vp);
    for (size_t o = 0; o < b->n; o += p->panel, kp += u->k_step) {
        const uint8_t *k = (const uint8_t *)j->k + (b->from + o) * j->k_stride * kv_bytes;
        p->pack(kp, k, j->k_stride, j->kv_type, min_size(p->panel, b->n - o), j->d);
    }
    for (size_t c = 0; c < j->d; c += p->panel, vp += u->v_step) {
        const uint8_t *v = (const uint8_t *)j->v + (b->from * j->v_stride + c) * kv_bytes;
        p->pack_t(vp, v, j->v_stride, j->kv_type, min_size(p->panel, j->d - c), b->n);
    }
}

// Rows [i, i + m) of head h, of which qx and acc hold those from row i0 on.
struct rows {
    size_t h, i0, i, m;
};

static void attend_keys(const struct product_kernels *p, const struct attention_job *j,
                        const struct attention_parts *u, const struct rows *r, const struct keys *b)
{
    // every row sees one key at least
    size_t n = attention_seen(j, r->i + r->m - 1, b->from, b->n), first = r->i - r->i0;
    struct tile_job t = {.x = u->qx + first * u->qx_stride,
                         .x_stride = u->qx_stride,
                         .y_stride = u->s_stride,
                         .m = r->m,
                         .k = j->d};
    for (size_t o = 0; o < n; o += p->panel) {
        t.y = u->s + o;
        t.panel = b->kp + o / p->panel * u->k_step;
        t.n = min_size(p->panel, b->n - o); // as it was packed
        p->tile(&t);
    }
    float *acc = u->acc + first * u->acc_stride;
    for (size_t q = 0; q < r->m; q++) {
        size_t row = (r->i + q) * j->group + r->h;
        float f = p->soft_step(u->px + q * u->px_stride, u->s + q * u->s_stride,
                               attention_seen(j, r->i + q, b->from, n), round_up(n, 32),
                               &u->max[row], &u->sum[row]);
        if (b->from != 0 && f != 1.0f)
            p->scale(acc + q * u->acc_stride, f, j->d);
    }
    t = (struct tile_job){.x = u->px,
                          .x_stride = u->px_stride,
                          .y_stride = u->acc_stride,
                          .m = r->m,
                          .k = n,
                          .add = b->from != 0};
    for (size_t c = 0; c < j->d; c += p->panel) {
        t.y = acc + c;
        t.panel = b->vp + c / p->panel * u->v_step;
        t.n = min_size(p->panel, j->d - c);
        p->tile(&t);
    }
}

// The queries that come next lie far apart, each row on a page of its own: they are asked for early.
static void prefetch_queries(const struct attention_job *j, const struct rows *r)
{
    size_t end = min_size(r->i + 2 * ATTENTION_ROWS, j->n_q);
    for (size_t i = r->i + ATTENTION_ROWS; i < end; i++)
        for (size_t c = 0; c < j->d; c += LINE)
            __builtin_prefetch(j->q + i * j->q_stride + r->h * j->d + c);
}

// Rows [i, i + m) of head h against the packed blocks [b0, b1), after which there are no more: `last`.
static void attend_rows(const struct product_kernels *p, const struct attention_job *j,
                        const struct attention_parts *u, const struct rows *all, size_t b0,
                        size_t b1, bool last)
{
    for (size_t q = 0; q < all->m; q++) {
        attention_query(p, j, u->q, all->i + q, all->h);
        p->prepare(p, u->qx + q * u->qx_stride, u->q, j->d, 1, j->d);
        if (b0 > 0)
            memcpy(u->acc + q * u->acc_stride, attention_out(j, all->i + q, all->h),
                   j->d * sizeof *u->acc);
    }
    prefetch_queries(j, all);
    for (size_t b = b0; b < b1; b++) {
        struct keys k = block_of(p, j, u, b, b - b0);
        struct rows r = *all;
        for (; r.m > 0 && attention_seen(j, r.i, k.from, k.n) == 0; r.m--)
            r.i++;
        if (r.m == 0)
            break;
        attend_keys(p, j, u, &r, &k);
    }
    for (size_t q = 0; q < all->m; q++) {
        float *acc = u->acc + q * u->acc_stride;
        if (last)
            p->scale(acc, 1.0f / u->sum[(all->i + q) * j->group + all->h], j->d);
        memcpy(attention_out(j, all->i + q, all->h), acc, j->d * sizeof *acc);
    }
}

void attention_many(const struct product_kernels *p, const struct attention_job *j,
                    const struct attention_parts *u)
{
    size_t n_block = n_blocks(j), end;
    for (size_t r = 0; r < j->n_q * j->group; r++) {
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
    for (size_t b0 = 0;; b0 = end) {
        end = b0;
        while (end < n_block && end < b0 + ATTENTION_PACKED) {
            struct keys k = block_of(p, j, u, end, end - b0);
            if (k.n == 0)
                break;
            pack_keys(p, j, u, &k);
            end++;
        }
        bool last = end == n_block || block_of(p, j, u, end, 0).n == 0;
        for (size_t h = 0; h < j->group; h++)
            for (size_t i = 0; i < j->n_q; i += ATTENTION_ROWS) {
                struct rows r = {h, i, i, min_size(ATTENTION_ROWS, j->n_q - i)};
                attend_rows(p, j, u, &r, b0, end, last);
            }
        if (last)
            break;
    }
}
