// SPDX-License-Identifier: MIT
// Attention of a few query rows: up to KERNEL_FEW_ROWS (row, head) pairs of a key head at a time go over the keys, with
// dot products on K's rows and weighted sums of V's rows, both where they are; but V in blocks is unpacked, 256 rows at a time.
//
// One head's keys are a few lines of each row of K, and memory likes to be read in order. So of a block of keys all
// heads of a job are done, one after the other, before the next block. Scores ask for V's rows while they are computed
// (in the first block those of the first head for the rest of K's), sums over V for the next block of K.
//
// Masked keys inside a block take part with probability zero. Every row sees key 0, so its maximum is
// set in the first block, and a later block of which it sees nothing leaves it as it is.
#include "kernels/attention_parts.h"

#include <math.h>

// Pairs of one key head, with their part of the scratch.
struct unit {
    size_t head, first, m;
    uint8_t *qx, *px;
    float *max, *sum, *acc;
};

static struct unit unit_at(const struct attention_job *j, const struct attention_parts *u, size_t i)
{
    size_t pairs = j->n_q * j->group, each = div_up(pairs, KERNEL_FEW_ROWS);
    size_t first = i % each * KERNEL_FEW_ROWS, at = i * KERNEL_FEW_ROWS;
    return (struct unit){.head = i / each,
                         .first = first,
                         .m = min_size(KERNEL_FEW_ROWS, pairs - first),
                         .qx = u->qx + at * u->qx_stride,
                         .px = u->px + at * u->px_stride,
                         .max = u->max + at,
                         .sum = u->sum + at,
                         .acc = u->acc + at * u->acc_stride};
}

// Row and query head of pair r.
static size_t row_of(const struct attention_job *j, const struct unit *t, size_t r)
{
    return (t->first + r) / j->group;
}

static size_t head_of(const struct attention_job *j, const struct unit *t, size_t r)
{
    return t->head * j->group + (t->first + r) % j->group;
}

static void begin(const struct product_kernels *p, const struct attention_job *j,
                  const struct attention_parts *u, const struct unit *t)
{
    for (size_t r = 0; r < t->m; r++) {
        attention_query(p, j, u->q + r * j->d, row_of(j, t, r), head_of(j, t, r));
        t->max[r] = -INFINITY;
        t->sum[r] = 0;
    }
    p->prepare(p, t->qx, u->q, j->d, t->m, j->d);
    memset(t->acc, 0, t->m * u->acc_stride * sizeof *t->acc);
}

// Keys or values [first, first + n) of all heads of the job.
struct block {
    const uint8_t *at;
    size_t row, head; // bytes from one to the next
    size_t stride;    // elements
    enum dtype type;
    size_t n;
};

static struct block block_of(const struct attention_job *j, const void *m, size_t stride,
                             enum dtype t, size_t first)
{
    return (struct block){.at = (const uint8_t *)m + dtype_span(t, first * stride),
                          .row = dtype_span(t, stride),
                          .head = dtype_span(t, j->d),
                          .stride = stride,
                          .type = t,
                          .n = min_size(ATTENTION_KEYS, j->n_k - first)};
}

// Bytes [from, end) of the heads of every row.
static struct ask ask_for(const struct block *b, size_t from, size_t end)
{
    return (struct ask){.at = b->at + from, .row = b->row, .bytes = end - from, .n = b->n};
}

// Share i of n.
static struct ask ask_share(const struct attention_job *j, const struct block *b, size_t i,
                            size_t n)
{
    size_t all = attention_heads(j) * b->head, each = round_up(div_up(all, n), 64);
    return ask_for(b, min_size(i * each, all), min_size((i + 1) * each, all));
}

// What unit i asks for beside its scores; alone, nothing: sums over V ask for their own rows.
static struct ask ask_early(const struct attention_job *j, const struct block *k,
                            const struct block *v, bool first, size_t i)
{
    size_t n = attention_units(j);
    if (n == 1)
        return (struct ask){0};
    if (!first)
        return ask_share(j, v, i, n);
    return i > 0 ? ask_share(j, v, i - 1, n - 1)
                 : ask_for(k, k->head, attention_heads(j) * k->head);
}

// Scores and probabilities of n keys from key k0 on.
static void score(const struct product_kernels *p, const struct attention_job *j,
                  const struct attention_parts *u, const struct unit *t, const struct block *k,
                  size_t k0, size_t n, struct ask ask)
{
    struct product_job dots = {
        .y = u->s,
        .y_stride = u->s_stride,
        .x = t->qx,
        .w = k->at + t->head * k->head,
        .w_stride = k->stride,
        .w_type = k->type,
        .m = t->m,
        .n = n,
        .k = j->d,
        .ask = ask,
    };
    p->few(p, &dots);
    for (size_t r = 0; r < t->m; r++) {
        size_t seen = attention_seen(j, row_of(j, t, r), k0, n);
        float f = p->soft_step(t->px + r * u->px_stride, u->s + r * u->s_stride, seen,
                               round_up(n, 32), &t->max[r], &t->sum[r]);
        if (f != 1.0f)
            p->scale(t->acc + r * u->acc_stride, f, j->d);
    }
}

static void mix(const struct product_kernels *p, const struct attention_job *j,
                const struct attention_parts *u, const struct unit *t, const struct block *v,
                size_t n, struct ask ask)
{
    struct mix_job job = {
        .y = t->acc,
        .y_stride = u->acc_stride,
        .x = t->px,
        .x_stride = u->px_stride,
        .v = v->at + t->head * v->head,
        .v_stride = v->stride,
        .v_type = v->type,
        .m = t->m,
        .n = n,
        .d = j->d,
        .ask_l2 = p->ask_l2,
        .ask = ask,
    };
    if (dtype_is_block(v->type)) {
        job.v = attention_unpack(p, j, u, job.v, v->stride, v->type, n);
        job.v_stride = j->d;
        job.v_type = DT_F32;
    }
    p->mix(&job);
}

static void end(const struct product_kernels *p, const struct attention_job *j,
                const struct attention_parts *u, const struct unit *t)
{
    for (size_t r = 0; r < t->m; r++) {
        float *y = attention_out(j, row_of(j, t, r), head_of(j, t, r));
        memcpy(y, t->acc + r * u->acc_stride, j->d * sizeof *y);
        p->scale(y, 1.0f / t->sum[r], j->d);
    }
}

// How many keys of the n from k0 on a unit sees: its last row sees most.
static size_t seen_by(const struct attention_job *j, const struct unit *t, size_t k0, size_t n)
{
    return attention_seen(j, row_of(j, t, t->m - 1), k0, n);
}

void attention_few(const struct product_kernels *p, const struct attention_job *j,
                   const struct attention_parts *u)
{
    size_t n_unit = attention_units(j);
    for (size_t i = 0; i < n_unit; i++) {
        struct unit t = unit_at(j, u, i);
        begin(p, j, u, &t);
    }
    for (size_t k0 = 0; k0 < j->n_k; k0 += ATTENTION_KEYS) {
        struct block k = block_of(j, j->k, j->k_stride, j->k_type, k0);
        struct block v = block_of(j, j->v, j->v_stride, j->v_type, k0);
        for (size_t i = 0; i < n_unit; i++) {
            struct unit t = unit_at(j, u, i);
            size_t n = seen_by(j, &t, k0, k.n);
            if (n > 0)
                score(p, j, u, &t, &k, k0, n, ask_early(j, &k, &v, k0 == 0, i));
        }
        bool more = k0 + ATTENTION_KEYS < j->n_k;
        struct block next =
            more ? block_of(j, j->k, j->k_stride, j->k_type, k0 + ATTENTION_KEYS) : k;
        for (size_t i = 0; i < n_unit; i++) {
            struct unit t = unit_at(j, u, i);
            size_t n = seen_by(j, &t, k0, v.n);
            struct ask ask = more ? ask_share(j, &next, i, n_unit) : (struct ask){0};
            if (n > 0)
                mix(p, j, u, &t, &v, n, ask);
        }
    }
    for (size_t i = 0; i < n_unit; i++) {
        struct unit t = unit_at(j, u, i);
        end(p, j, u, &t);
    }
}
