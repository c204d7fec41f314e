// SPDX-License-Identifier: MIT
// Attention on the CPU: heads and blocks of query rows are shared out among the threads; a kernel runs
// one key/value head against the query heads that read it, so grouped heads share what they read.
//
// Up to OPS_FEW_ROWS query rows read keys and values in place; the choice hangs on the rows of the
// whole op. Blocks of causal rows are handed out from the last, which sees most keys, to the first.
//
// Easy to get wrong: a block's first_pos moves with its first row.
#include "ops/cpu_backend.h"

#include "base/size.h"

enum {
    TASKS_PER_THREAD = 8,
    EQUAL_TASKS_PER_THREAD = 2, // without a mask; K and V are packed once a task
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

struct thread_scratch cpu_attention_scratch(struct ops *o, const struct attention *a)
{
    const struct product_kernels *p = kernels_of(o, a->q.rows, a);
    struct attention_cut cut = cpu_attention_cut(o, a->q.rows, a);
    struct attention_job largest = {.n_q = cut.rows,
                                    .n_k = a->k.rows,
                                    .group = cut.group,
                                    .d = a->d_head,
                                    .k_type = a->k.dtype,
                                    .v_type = a->v.dtype,
                                    .causal = a->causal,
                                    .first_pos = a->first_pos,
                                    .few = cut.few};
    return cpu_thread_scratch(o, p->attention_scratch(p, &largest));
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
