// SPDX-License-Identifier: MIT
// Attention on the CPU: heads and blocks of query rows are shared out among the threads; a kernel runs
// one key/value head against the query heads that read it, so grouped heads share what they read.
//
// Up to OPS_FEW_ROWS query rows read keys and values in place; the choice hangs on the rows of the
// whole op. Blocks of causal rows are handed out from the last, which sees most keys, to the first.
//
// A step (few rows of each of several cached sequences) is one batch of tasks: key heads, each rotated and stored by
// the task that then attends to it. It rotates copies, since what another thread has written is dear to write to. Only
// where there are few key heads for so many threads is that a batch of its own in front, in place.
//
// Easy to get wrong: a block's first_pos moves with its first row.
#include "ops/cpu_backend.h"

#include <string.h>

#include "base/size.h"

enum {
    TASKS_PER_THREAD = 8,
    EQUAL_TASKS_PER_THREAD = 2, // without a mask; K and V are packed once a task
    STEP_TASKS_PER_THREAD = 2,
    SIDE_BY_SIDE = 2, // key heads of a step's task: cached rows are read in longer pieces ...
    WIDE_TASKS_PER_THREAD = 4, // ... of more, where that many tasks are left
    BLOCK_ROWS =
        128, // query rows times heads of a task, at least: packing K and V is then paid for
    MACS_MAX =
        1 << 29, // of a task, for abort: some milliseconds; twice that in bf16 pairs and int8
    PLAIN_MACS_MAX = 1 << 21, // of the plain kernels
};

struct attention_run {
    const struct product_kernels *p;
    struct attention a;
    struct mat y;
    struct attention_cut cut;
    struct thread_scratch scratch;
};

// The kernels of an attention of n_q rows.
static const struct product_kernels *kernels_of(const struct ops *o, size_t n_q,
                                                const struct attention *a)
{
    const struct product_kernels *p = &o->kernels->int8;
    bool plain = a->k.dtype == DT_F32 && a->v.dtype == DT_F32;
    if (a->levels && plain && o->compute == COMPUTE_INT8 && n_q > OPS_FEW_ROWS && p->attention)
        return p;
    return cpu_products(o);
}

struct attention_cut cpu_attention_cut(const struct ops *o, size_t n_q, const struct attention *a)
{
    size_t group = a->n_head / a->n_kv, threads = pool_threads(o->pool);
    size_t row_macs = 2 * a->k.rows * a->d_head * group; // of one query row and group
    struct attention_cut c = {.rows = n_q, .group = group, .few = n_q <= OPS_FEW_ROWS};
    if (!c.few) {
        const struct product_kernels *p = kernels_of(o, n_q, a);
        size_t macs_max =
            p->scratch_bytes == 0 ? PLAIN_MACS_MAX : MACS_MAX * (p->x_elem < sizeof(float) ? 2 : 1);
        size_t tasks = (a->causal ? TASKS_PER_THREAD : EQUAL_TASKS_PER_THREAD) * threads;
        size_t blocks = div_up(tasks, a->n_kv);
        c.rows = max_size(div_up(n_q, blocks), div_up(BLOCK_ROWS, group));
        size_t rows_max = max_size(macs_max / row_macs, 1);
        if (c.rows > rows_max)
            c.rows = div_up(n_q, div_up(n_q, rows_max));
    } else if (a->n_kv < 2 * threads) {
        c.group = 1; // keys are read once for each head, but by more threads
    }
    c.rows = min_size(c.rows, n_q);
    c.n_row_block = div_up(n_q, c.rows);
    c.n_group = a->n_head / c.group;
    return c;
}

// The job of query heads [head, head + group) of rows [from, from + cut.rows).
static struct attention_job job_of(const struct attention_run *r, size_t head, size_t from)
{
    const struct attention *a = &r->a;
    size_t kv = head / (a->n_head / a->n_kv) * a->d_head;
    return (struct attention_job){
        .y = row_at(r->y, from) + head * a->d_head,
        .y_stride = r->y.stride,
        .q = row_at(a->q, from) + head * a->d_head,
        .q_stride = a->q.stride,
        .k = (const char *)a->k.data + dtype_span(a->k.dtype, kv),
        .v = (const char *)a->v.data + dtype_span(a->v.dtype, kv),
        .k_stride = a->k.stride,
        .v_stride = a->v.stride,
        .k_type = a->k.dtype,
        .v_type = a->v.dtype,
        .n_q = min_size(r->cut.rows, r->y.rows - from),
        .n_k = a->k.rows,
        .group = r->cut.group,
        .n_kv = r->cut.n_kv,
        .d = a->d_head,
        .scale = a->scale,
        .causal = a->causal,
        .first_pos = a->first_pos + from,
        .few = r->cut.few,
    };
}

static void attention_task(void *ctx, size_t task, unsigned thread)
{
    const struct attention_run *r = ctx;
    size_t block = r->cut.n_row_block - 1 - task / r->cut.n_group;
    struct attention_job j = job_of(r, task % r->cut.n_group * r->cut.group, block * r->cut.rows);
    r->p->attention(r->p, &j, scratch_of(&r->scratch, thread));
}

// Bytes for a thread that does a task of that cut.
static size_t scratch_bytes(const struct product_kernels *p, const struct attention *a,
                            struct attention_cut cut)
{
    struct attention_job largest = {.n_q = cut.rows,
                                    .n_k = a->k.rows,
                                    .group = cut.group,
                                    .n_kv = cut.n_kv,
                                    .d = a->d_head,
                                    .k_type = a->k.dtype,
                                    .v_type = a->v.dtype,
                                    .causal = a->causal,
                                    .first_pos = a->first_pos,
                                    .few = cut.few};
    return p->attention_scratch(p, &largest);
}

struct thread_scratch cpu_attention_scratch(struct ops *o, const struct attention *a)
{
    return cpu_thread_scratch(
        o, scratch_bytes(kernels_of(o, a->q.rows, a), a, cpu_attention_cut(o, a->q.rows, a)));
}

static void attend_sequence(struct ops *o, struct mat y, const struct attention *a)
{
    size_t mark = ops_mark(o);
    struct attention_run r = {.p = kernels_of(o, y.rows, a), .a = *a, .y = y};
    r.cut = cpu_attention_cut(o, y.rows, a);
    r.scratch = cpu_attention_scratch(o, a);
    cpu_run(o, attention_task, &r, r.cut.n_row_block * r.cut.n_group);
    ops_pop(o, mark);
}

// Sequence i of n.
static struct mat sequence(struct mat m, size_t i, size_t n)
{
    return mat_rows(m, i * (m.rows / n), m.rows / n);
}

void cpu_attention(struct ops *o, struct mat y, const struct attention *a)
{
    for (size_t i = 0; i < a->n_seq; i++) {
        struct attention one = *a;
        one.q = sequence(a->q, i, a->n_seq);
        one.k = sequence(a->k, i, a->n_seq);
        one.v = sequence(a->v, i, a->n_seq);
        attend_sequence(o, sequence(y, i, a->n_seq), &one);
    }
}

// ---- a step: few rows of each of several sequences, keys and values cached

struct step_run {
    const struct ops *o;
    const struct cache_attention *a;
    struct mat y;
    size_t n_kv, group;  // key heads of a task, and query heads of each
    size_t n_part;       // tasks of a sequence
    size_t turned_bytes; // rotated queries and a key, in front in a thread's scratch
    struct thread_scratch scratch;
};

static struct attention span_attention(const struct cache_attention *a, const struct cache_span *s)
{
    return (struct attention){.q = mat_rows(a->q, s->first_row, s->n_row),
                              .k = mat_rows(s->k, 0, s->pos + s->n_row),
                              .v = mat_rows(s->v, 0, s->pos + s->n_row),
                              .n_seq = 1,
                              .n_head = a->n_head,
                              .n_kv = a->n_kv,
                              .d_head = a->d_head,
                              .scale = a->scale,
                              .causal = true,
                              .first_pos = s->pos};
}

static struct attention_cut span_cut(const struct step_run *r, const struct cache_span *s)
{
    return (struct attention_cut){.rows = s->n_row,
                                  .n_row_block = 1,
                                  .group = r->group,
                                  .n_group = r->n_part,
                                  .n_kv = r->n_kv,
                                  .few = true};
}

// Head kv of cache row pos.
static void store_head(const struct kernels *k, struct mat cache, size_t pos, size_t kv,
                       const float *x, size_t d)
{
    size_t at = dtype_span(cache.dtype, pos * cache.stride + kv * d);
    cpu_narrow(k, (char *)cache.data + at, cache.dtype, x, d);
}

// Where to rotate the query heads of a key head: a row's, [group, d], then the next's.
struct turned {
    float *q;
    size_t q_stride; // floats
    float *key;      // [d]; NULL = where it is
};

static float *moved(float *to, const float *from, size_t n)
{
    if (to != from)
        memcpy(to, from, n * sizeof *to);
    return to;
}

// Rotates a key head and the query heads that read it, and stores its key and value.
static void turn_head(const struct step_run *r, const struct cache_span *s, size_t kv,
                      const struct turned *t)
{
    const struct cache_attention *a = r->a;
    const struct kernels *k = r->o->kernels;
    void (*rope)(float *, size_t, size_t, const float *) = a->pairs ? k->rope_pairs : k->rope;
    size_t d = a->d_head, group = a->n_head / a->n_kv;
    for (size_t i = 0; i < s->n_row; i++) {
        size_t row = s->first_row + i;
        float *own_q = row_at(a->q, row) + kv * group * d, *own_key = row_at(a->k, row) + kv * d;
        float *q = moved(t->q + i * t->q_stride, own_q, group * d);
        float *key = moved(t->key ? t->key : own_key, own_key, d);
        rope(q, group, d, row_at(a->rope, row));
        rope(key, 1, d, row_at(a->rope, row));
        store_head(k, s->k, s->pos + i, kv, key, d);
        store_head(k, s->v, s->pos + i, kv, row_at(a->v, row) + kv * d, d);
    }
}

static void turn_task(void *ctx, size_t task, unsigned thread)
{
    const struct step_run *r = ctx;
    const struct cache_attention *a = r->a;
    const struct cache_span *s = &a->span[task / a->n_kv];
    size_t kv = task % a->n_kv, group = a->n_head / a->n_kv;
    (void)thread;
    turn_head(r, s, kv,
              &(struct turned){.q = row_at(a->q, s->first_row) + kv * group * a->d_head,
                               .q_stride = a->q.stride});
}

// Whether a task has all query heads of its key heads, which it can then rotate and store by itself.
static bool whole_groups(const struct step_run *r)
{
    return r->group == r->a->n_head / r->a->n_kv;
}

static void step_task(void *ctx, size_t task, unsigned thread)
{
    const struct step_run *r = ctx;
    const struct cache_span *s = &r->a->span[task / r->n_part];
    size_t part = task % r->n_part, heads = r->n_kv * r->group, d = r->a->d_head;
    char *scratch = scratch_of(&r->scratch, thread);
    struct attention_run one = {.a = span_attention(r->a, s),
                                .y = mat_rows(r->y, s->first_row, s->n_row),
                                .cut = span_cut(r, s)};
    struct attention_job j = job_of(&one, part * heads, 0);
    if (whole_groups(r)) {
        float *q = (float *)(void *)scratch;
        struct turned t = {.q_stride = heads * d, .key = q + s->n_row * heads * d};
        for (size_t i = 0; i < r->n_kv; i++) {
            t.q = q + i * r->group * d;
            turn_head(r, s, part * r->n_kv + i, &t);
        }
        j.q = q;
        j.q_stride = t.q_stride;
    }
    const struct product_kernels *p = cpu_products(r->o);
    p->attention(p, &j, scratch + r->turned_bytes);
}

// So many key heads of the longest sequence are no more than a task may be of all.
static bool is_small_task(const struct ops *o, const struct cache_attention *a, size_t heads)
{
    size_t all = 0, longest = 0; // positions
    for (const struct cache_span *s = a->span; s < a->span + a->n_span; s++) {
        all += s->pos + s->n_row;
        longest = max_size(longest, s->pos + s->n_row);
    }
    size_t tasks = heads > SIDE_BY_SIDE ? WIDE_TASKS_PER_THREAD : STEP_TASKS_PER_THREAD;
    return heads * longest * tasks * pool_threads(o->pool) <= all * a->n_kv;
}

static struct step_run step_of(struct ops *o, const struct cache_attention *a)
{
    struct step_run r = {.o = o, .a = a, .n_kv = 1, .group = a->n_head / a->n_kv};
    if (!is_small_task(o, a, 1))
        r.group = 1; // keys are read once for each head, but by more threads
    else
        while (a->n_kv % (2 * r.n_kv) == 0 && is_small_task(o, a, 2 * r.n_kv))
            r.n_kv *= 2;
    r.n_part = a->n_head / (r.n_kv * r.group);
    size_t bytes = 0, n_row = 0;
    for (const struct cache_span *s = a->span; s < a->span + a->n_span; s++) {
        struct attention one = span_attention(a, s);
        bytes = max_size(bytes, scratch_bytes(cpu_products(o), &one, span_cut(&r, s)));
        n_row = max_size(n_row, s->n_row);
    }
    if (whole_groups(&r)) // few rows of heads that exist: no overflow
        r.turned_bytes = round_up((n_row * r.n_kv * r.group + 1) * a->d_head * sizeof(float),
                                  KERNEL_SCRATCH_ALIGN);
    if (!add_size(r.turned_bytes, bytes, &bytes))
        bytes = SIZE_MAX;
    r.scratch = cpu_thread_scratch(o, bytes);
    return r;
}

// Whether every span has few rows: then all of them are one batch of tasks.
static bool is_step(const struct cache_attention *a)
{
    for (size_t i = 0; i < a->n_span; i++)
        if (a->span[i].n_row > OPS_FEW_ROWS)
            return false;
    return true;
}

void cpu_cache_attention_scratch(struct ops *o, const struct cache_attention *a)
{
    if (is_step(a)) {
        (void)step_of(o, a);
        return;
    }
    for (size_t i = 0; i < a->n_span; i++) {
        size_t mark = ops_mark(o);
        struct attention one = span_attention(a, &a->span[i]);
        cpu_attention_scratch(o, &one);
        ops_pop(o, mark);
    }
}

static void attend_span(struct ops *o, struct mat y, const struct cache_attention *a,
                        const struct cache_span *s)
{
    void (*rotate)(struct ops *, struct mat, size_t, struct mat) =
        a->pairs ? cpu_rope_pairs : cpu_rope;
    struct attention one = span_attention(a, s);
    struct mat table = mat_rows(a->rope, s->first_row, s->n_row);
    struct mat k = mat_rows(a->k, s->first_row, s->n_row);
    rotate(o, one.q, a->n_head, table);
    rotate(o, k, a->n_kv, table);
    cpu_copy(o, mat_rows(s->k, s->pos, s->n_row), k);
    cpu_copy(o, mat_rows(s->v, s->pos, s->n_row), mat_rows(a->v, s->first_row, s->n_row));
    attend_sequence(o, mat_rows(y, s->first_row, s->n_row), &one);
}

void cpu_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a)
{
    if (!is_step(a)) {
        for (size_t i = 0; i < a->n_span; i++)
            attend_span(o, y, a, &a->span[i]);
        return;
    }
    size_t mark = ops_mark(o);
    struct step_run r = step_of(o, a);
    r.y = y;
    if (whole_groups(&r) || cpu_run(o, turn_task, &r, a->n_span * a->n_kv))
        cpu_run(o, step_task, &r, a->n_span * r.n_part);
    ops_pop(o, mark);
}
