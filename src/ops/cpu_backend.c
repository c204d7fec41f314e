// SPDX-License-Identifier: MIT
// The CPU backend's body: its arena, long-lived memory, the way to the pool, host copies and the tap.
//
// Work is cut over outputs only, never over sums, and kernels compute each output the same way however
// it is cut, so results do not depend on the number of threads.
//
// Easy to get wrong: abort is polled on pool threads, which may only raise `stop`; the status is
// written by the thread that owns the stream, after the batch.
#include "ops/cpu_backend.h"

#include <assert.h>
#include <string.h>

#include "base/size.h"

enum { ROW_TASK = 16384 }; // elements of a task of row work: some ten microseconds

const struct product_kernels *cpu_products(const struct ops *o)
{
    return o->compute == COMPUTE_F32 ? &o->kernels->f32 : &o->kernels->bf16;
}

const struct product_kernels *cpu_layer_products(const struct ops *o, const struct linear *w,
                                                 bool few)
{
    const struct product_kernels *p = few ? &o->kernels->dots : &o->kernels->int8;
    if (w->fine || w->w.rank != 2 || o->compute == COMPUTE_F32)
        return cpu_products(o);
    if (few)
        return p->for_blocks && dtype_is_block(w->w.dtype) ? p : cpu_products(o);
    if (o->compute == COMPUTE_INT8 || (p->for_blocks && dtype_is_block(w->w.dtype)))
        return p;
    return cpu_products(o);
}

// ---- tasks

struct guarded {
    struct cpu *cpu;
    pool_fn *fn;
    void *ctx;
};

static void run_guarded(void *ctx, size_t task, unsigned thread)
{
    struct guarded *g = ctx;
    if (atomic_load_explicit(&g->cpu->stop, memory_order_relaxed))
        return;
    if (hooks_abort(&g->cpu->ops.hooks)) {
        atomic_store_explicit(&g->cpu->stop, true, memory_order_relaxed);
        return;
    }
    g->fn(g->ctx, task, thread);
}

bool cpu_run(struct ops *o, pool_fn *fn, void *ctx, size_t n_task)
{
    struct cpu *c = (struct cpu *)o;
    if (o->status.code != 0)
        return false;
    pool_run(o->pool, run_guarded, &(struct guarded){c, fn, ctx}, n_task);
    if (atomic_load_explicit(&c->stop, memory_order_relaxed))
        ops_fail(o, ERR_ABORT, "stopped on request");
    return o->status.code == 0;
}

struct row_cut {
    cpu_rows_fn *fn;
    const void *ctx;
    size_t rows, chunk;
};

static void run_rows(void *ctx, size_t task, unsigned thread)
{
    const struct row_cut *c = ctx;
    size_t from = task * c->chunk;
    (void)thread;
    c->fn(c->ctx, from, min_size(c->chunk, c->rows - from));
}

bool cpu_rows(struct ops *o, cpu_rows_fn *fn, const void *ctx, size_t rows, size_t cols)
{
    struct row_cut c = {fn, ctx, rows, max_size(1, ROW_TASK / cols)};
    return cpu_run(o, run_rows, &c, div_up(rows, c.chunk));
}

// ---- scratch

struct thread_scratch cpu_thread_scratch(struct ops *o, size_t bytes)
{
    // separate pushes, so that each block has its own redzone; they lie one behind the other
    struct thread_scratch s = {.step = arena_cost(bytes)};
    for (unsigned i = 0; i < pool_threads(o->pool); i++) {
        char *p = ops_push(o, bytes);
        if (i == 0)
            s.base = p;
    }
    if (o->status.code != 0)
        s.base = NULL;
    return s;
}

float *cpu_vector_scratch(struct ops *o, size_t n)
{
    return ops_push_n(o, n, sizeof(float));
}

const float *cpu_vector(const struct ops *o, const struct tensor *t, float *scratch)
{
    if (t->dtype == DT_F32 && (uintptr_t)t->data % _Alignof(float) == 0)
        return t->data;
    o->kernels->to_f32(scratch, t->data, t->dtype, tensor_count(t));
    return scratch;
}

float *cpu_tap_scratch(struct ops *o, struct mat m)
{
    if (m.dtype == DT_F32 && m.stride == m.cols)
        return NULL;
    return ops_push_n(o, m.rows * m.cols, sizeof(float));
}

// ---- memory

static int reserve(struct ops *o, size_t bytes, struct err *e)
{
    struct cpu *c = (struct cpu *)o;
    if (bytes > 0 && bytes <= c->arena.cap)
        return 0;
    arena_free(&c->arena); // first, so that both never exist at once
    return bytes == 0 ? 0 : arena_init(&c->arena, bytes, "scratch", e);
}

static size_t reserved(const struct ops *o)
{
    return ((const struct cpu *)o)->arena.cap;
}

static void *push(struct ops *o, size_t bytes)
{
    struct cpu *c = (struct cpu *)o;
    void *p = arena_push(&c->arena, bytes);
    if (arena_failed(&c->arena))
        ops_fail(o, ERR_LIMIT, "scratch: %zu bytes asked for, %zu of %zu are in use", bytes,
                 c->arena.used, c->arena.cap);
    return p;
}

static size_t mark(const struct ops *o)
{
    return arena_mark(&((const struct cpu *)o)->arena);
}

static void pop(struct ops *o, size_t to)
{
    arena_pop(&((struct cpu *)o)->arena, to);
}

static size_t peak(const struct ops *o)
{
    return ((const struct cpu *)o)->arena.peak;
}

static void peak_reset(struct ops *o)
{
    struct cpu *c = (struct cpu *)o;
    c->arena.peak = c->arena.used;
}

static void clear(struct ops *o)
{
    atomic_store_explicit(&((struct cpu *)o)->stop, false, memory_order_relaxed);
}

static void *hold(struct ops *o, size_t bytes)
{
    (void)o;
    return mem_alloc_big(bytes);
}

static void release(struct ops *o, void *data, size_t bytes)
{
    (void)o;
    mem_free_big(data, bytes);
}

static void close_cpu(struct ops *o)
{
    struct cpu *c = (struct cpu *)o;
    arena_free(&c->arena);
    mem_free(c);
}

// ---- host

static void upload(struct ops *o, struct mat dst, const float *src)
{
    char *to = dst.data;
    size_t step = dtype_span(dst.dtype, dst.stride);
    for (size_t r = 0; r < dst.rows; r++)
        cpu_narrow(o->kernels, to + r * step, dst.dtype, src + r * dst.cols, dst.cols);
}

static void download(struct ops *o, float *dst, struct mat src)
{
    const char *from = src.data;
    size_t step = dtype_span(src.dtype, src.stride);
    for (size_t r = 0; r < src.rows; r++)
        cpu_widen(o->kernels, dst + r * src.cols, from + r * step, src.dtype, src.cols);
}

static void tap(struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank)
{
    size_t at = mark(o);
    float *copy = cpu_tap_scratch(o, m);
    if (o->status.code == 0) {
        if (copy)
            download(o, copy, m);
        o->tap.fn(o->tap.user, name, copy ? copy : m.data, dim, rank);
    }
    pop(o, at);
}

static const struct backend cpu_backend = {
    .close = close_cpu,
    .reserve = reserve,
    .reserved = reserved,
    .push = push,
    .mark = mark,
    .pop = pop,
    .peak = peak,
    .peak_reset = peak_reset,
    .clear = clear,
    .hold = hold,
    .release = release,
    .upload = upload,
    .download = download,
    .tap = tap,
    .copy = cpu_copy,
    .add = cpu_add,
    .add_scaled = cpu_add_scaled,
    .add_table = cpu_add_table,
    .linear = cpu_linear,
    .rms_norm = cpu_rms_norm,
    .layer_norm = cpu_layer_norm,
    .gelu = cpu_gelu,
    .silu_mul = cpu_silu_mul,
    .rope_table = cpu_rope_table,
    .rope = cpu_rope,
    .rope_pairs = cpu_rope_pairs,
    .embed = cpu_embed,
    .patch_embed = cpu_patch_embed,
    .split_wqkv = cpu_split_wqkv,
    .attention = cpu_attention,
    .linears = cpu_linears,
    .linear_add = cpu_linear_add,
    .cache_attention = cpu_cache_attention,
};

int ops_open_cpu(const struct ops_options *opt, struct ops **out, struct err *e)
{
    *out = NULL;
    struct cpu *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_LIMIT, "ops: out of memory");
    ops_init(&c->ops, &cpu_backend, opt);
    *out = &c->ops;
    return 0;
}
