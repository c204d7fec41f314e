// SPDX-License-Identifier: MIT
#include "attention_task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/size.h"

static struct guarded matrix(struct rng *r, size_t rows, size_t stride, size_t cols, enum dtype t,
                             enum data d)
{
    size_t n = rows ? (rows - 1) * stride + cols : 0;
    size_t align = dtype_is_block(t) ? 2 : dtype_bytes(t);
    struct guarded g = guarded_new(dtype_span(t, n), align);
    float *x = malloc(n * sizeof *x + 1);
    if (!x)
        abort();
    data_fill(r, d, x, n);
    weights_store(g.data, t, x, n);
    free(x);
    return g;
}

struct attention_task attention_task_new(struct rng *r, struct attention_job j, enum data data)
{
    struct attention_task t = {.j = j};
    size_t heads = max_size(j.n_kv, 1), keys = heads * j.d, width = keys * j.group;
    t.j.q_stride = width + rng_next(r) % 4;
    t.j.y_stride = width + rng_next(r) % 4;
    t.j.k_stride = keys + rng_next(r) % 4 * dtype_block(j.k_type);
    t.j.v_stride = keys + rng_next(r) % 4 * dtype_block(j.v_type);
    t.q = matrix(r, j.n_q, t.j.q_stride, width, DT_F32, data);
    t.k = matrix(r, j.n_k, t.j.k_stride, keys, j.k_type, data == DATA_HUGE ? DATA_RANDOM : data);
    t.v = matrix(r, j.n_k, t.j.v_stride, keys, j.v_type, data);
    t.j.q = t.q.data;
    t.j.k = t.k.data;
    t.j.v = t.v.data;
    t.y_elems = j.n_q ? (j.n_q - 1) * t.j.y_stride + width : 0;
    if (data == DATA_HUGE) // scores of a size that the exponential can tell apart
        t.j.scale *= 1e-14f;
    return t;
}

void attention_task_free(struct attention_task *t)
{
    assert_true(guarded_intact(&t->q) && guarded_intact(&t->k) && guarded_intact(&t->v));
    guarded_free(&t->q);
    guarded_free(&t->k);
    guarded_free(&t->v);
}

struct guarded attention_task_run(const struct product_kernels *p, const struct attention_job *job,
                                  size_t y_elems)
{
    struct attention_job j = *job;
    struct guarded y = guarded_new(y_elems * sizeof(float), sizeof(float));
    struct guarded scratch = guarded_new(p->attention_scratch(p, &j), KERNEL_SCRATCH_ALIGN);
    j.y = y.data;
    p->attention(p, &j, scratch.data);
    assert_true(guarded_intact(&scratch));
    assert_true(guarded_intact(&y));
    guarded_free(&scratch);
    return y;
}
