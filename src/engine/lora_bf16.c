// SPDX-License-Identifier: MIT
// The copies lie in the order of use: A and B of one linear layer after the other.
//
// The weights' tables still name the files' tensors: those are touched in the order of use and copied to large pages with
// their neighbours, between which they lie.
#include "engine/lora_bf16.h"

#include "base/clock.h"
#include "base/filemap.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

enum {
    PART = 64,       // bytes: each copy begins at a multiple
    PIECE = 1 << 10, // elements that are f32 at a time
    SLICE = 64,      // linear layers between two looks at whether to stop
};

// Where the linear layers of a layer are, in the order of use.
static const size_t linear_at[] = {
    offsetof(struct llm_layer, q),  offsetof(struct llm_layer, k),
    offsetof(struct llm_layer, v),  offsetof(struct llm_layer, wqkv),
    offsetof(struct llm_layer, o),  offsetof(struct llm_layer, gate),
    offsetof(struct llm_layer, up), offsetof(struct llm_layer, down),
};
enum { LINEARS = sizeof linear_at / sizeof *linear_at };

static size_t n_linear(const struct llm *m)
{
    return m->layer ? m->c.n_layer * LINEARS : 0;
}

// i < n_linear(m)
static struct linear *linear_of(const struct llm *m, size_t i)
{
    return (struct linear *)(void *)((char *)&m->layer[i / LINEARS] + linear_at[i % LINEARS]);
}

static bool to_copy(const struct tensor *t)
{
    return tensor_present(t) && t->dtype != DT_BF16 && !dtype_is_block(t->dtype);
}

static size_t copy_bytes(const struct tensor *t)
{
    return to_copy(t) ? round_up(dtype_span(DT_BF16, t->dim[0] * t->dim[1]), PART) : 0;
}

static size_t pair_bytes(const struct linear *l)
{
    return copy_bytes(&l->lora_a) + copy_bytes(&l->lora_b);
}

size_t lora_bf16_bytes(const struct llm *m)
{
    size_t bytes = pair_bytes(&m->head);
    for (size_t i = 0; i < n_linear(m); i++)
        bytes += pair_bytes(linear_of(m, i));
    return bytes;
}

struct lora_copying {
    struct llm *m;
    const struct kernels *kernels;
    char **to;    // of each linear layer, and of the head
    size_t slice; // the first of those that are copied now
};

// Returns what is behind the copy.
static char *copy(const struct kernels *k, struct tensor *t, char *to)
{
    float piece[PIECE];
    size_t n = t->dim[0] * t->dim[1], bytes = copy_bytes(t);
    if (bytes == 0)
        return to;
    filemap_touch(t->data, t->bytes); // in one go, should it lie on a disk
    for (size_t i = 0; i < n; i += PIECE) {
        size_t some = min_size(PIECE, n - i);
        k->to_f32(piece, (const char *)t->data + dtype_span(t->dtype, i), t->dtype, some);
        k->from_f32(to + dtype_span(DT_BF16, i), DT_BF16, piece, some);
    }
    t->data = to;
    t->dtype = DT_BF16;
    t->bytes = dtype_span(DT_BF16, n);
    return to + bytes;
}

static void copy_task(void *ctx, size_t task, unsigned thread)
{
    const struct lora_copying *c = ctx;
    size_t i = c->slice + task;
    struct linear *l = i < n_linear(c->m) ? linear_of(c->m, i) : &c->m->head;
    (void)thread;
    copy(c->kernels, &l->lora_b, copy(c->kernels, &l->lora_a, c->to[i]));
}

static int copy_all(struct lora_copying *job, struct pool *pool, const struct hooks *hooks,
                    struct err *e)
{
    size_t n = n_linear(job->m) + 1;
    for (; job->slice < n; job->slice += SLICE) {
        if (hooks_abort(hooks))
            return err_set(e, ERR_ABORT, "stopped while LoRA was copied");
        pool_run(pool, copy_task, job, min_size(SLICE, n - job->slice));
    }
    return 0;
}

int lora_bf16_open(struct llm *m, const struct kernels *k, struct pool *pool,
                   const struct hooks *hooks, struct lora_bf16 *c, struct err *e)
{
    size_t n = n_linear(m), bytes = lora_bf16_bytes(m);
    double start = clock_ms();
    int rc = 0;
    *c = (struct lora_bf16){0};
    if (bytes == 0)
        return 0;
    struct lora_copying job = {m, k, mem_calloc(n + 1, sizeof *job.to), 0};
    char *to = job.to ? mem_alloc_big(bytes) : NULL;
    if (to) {
        *c = (struct lora_bf16){to, bytes};
        for (size_t i = 0; i < n; to += pair_bytes(linear_of(m, i)), i++)
            job.to[i] = to;
        job.to[n] = to;
        rc = copy_all(&job, pool, hooks, e);
    }
    if (to && rc == 0)
        log_line(hooks, LOG_INFO, "LoRA: %zu KiB as bf16 in %.0f ms", bytes >> 10,
                 clock_ms() - start);
    if (!to)
        log_line(hooks, LOG_INFO, "LoRA: no memory for %zu KiB of it in bf16", bytes >> 10);
    mem_free(job.to);
    return rc;
}

void lora_bf16_close(struct lora_bf16 *c)
{
    mem_free_big(c->data, c->bytes);
    *c = (struct lora_bf16){0};
}
