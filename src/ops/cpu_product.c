// SPDX-License-Identifier: MIT
// Linear layers and the patch convolution on the CPU.
//
//   xp = prepare(x)                      once, rows shared out
//   t  = lora_scale * (xp A^T)           LoRA only (SPEC 2.4): [n, r]
//   y  = xp W^T + b, then y += tp B^T    one task = the same rectangle of y for both products
//
// Up to OPS_FEW_ROWS rows read the weights in place (`few`), as do more rows that are steps of as many
// sequences, by eights while a piece of the weights is in the cache; more go through packed panels (`many`).
// The two round differently, so the choice hangs on the whole op, never on the rows of a task.
//
// How tasks are cut: columns first, since a column's weights are then read (and packed) once; rows only
// where packing is still paid for, or costs nothing. Tasks are kept small enough that an abort between
// two of them comes soon. None of this shows in the result.
//
// Easy to get wrong: the scale goes onto t before it is rounded for the second product, which is exact
// for powers of two (the releases: 2); bias is f32 and belongs to the first product only.
#include "ops/cpu_backend.h"

#include <string.h>

#include "base/size.h"

enum {
    TASKS_PER_THREAD = 8,
    INLINE_MACS = 1 << 16,     // less is not worth waking a thread
    FEW_WEIGHTS_MIN = 1 << 15, // weights of a `few` task
    FEW_WEIGHTS_MAX = 1 << 20,
    FEW_COLS = 16,           // columns of tasks are a multiple
    FEW_PIECE = 1 << 18,     // bytes of weights that stay in the cache while rows go by
    MANY_ROWS_MIN = 128,     // rows below which packing would show
    MANY_MACS_MAX = 1 << 29, // of a task: some 10 ms of a vector unit
    PLAIN_MACS_MAX =
        1 << 21, // without packing: the plain kernels are slow, and rows may be cut freely
    PLAIN_COLS = 64,
};

// ---- one product, possibly with a second on top, cut into tasks

struct product_run {
    const struct product_kernels *p;
    struct product_job first;
    struct product_job second; // m == 0: none. Same y
    bool few;
    size_t rows, cols, n_row_block; // of a task
    struct thread_scratch scratch;
};

static size_t clamp(size_t v, size_t low, size_t high)
{
    return min_size(max_size(v, low), high);
}

static void cut_few(struct product_run *r, size_t threads)
{
    size_t n = r->first.n, k = max_size(r->first.k, 1), m = r->first.m;
    size_t weights = clamp(n * k / (TASKS_PER_THREAD * threads), FEW_WEIGHTS_MIN, FEW_WEIGHTS_MAX);
    if (r->p->scratch_bytes == 0)
        weights = min_size(weights, PLAIN_MACS_MAX / m);
    r->rows = m;
    r->cols = round_up(max_size(weights / k, 1), FEW_COLS);
}

static void cut_many(struct product_run *r, size_t threads)
{
    const struct product_kernels *p = r->p;
    size_t n = r->first.n, k = max_size(r->first.k, 1), m = r->first.m;
    bool plain = p->scratch_bytes == 0;
    size_t want = threads == 1 ? 1 : TASKS_PER_THREAD * threads;
    size_t rows_min = plain ? 1 : MANY_ROWS_MIN, macs_max = plain ? PLAIN_MACS_MAX : MANY_MACS_MAX;

    r->cols = plain ? PLAIN_COLS : p->block;
    if (div_up(n, r->cols) < want) // fewer columns at a time, but whole panels
        r->cols = clamp(div_up(div_up(n, want), p->panel) * p->panel, p->panel, r->cols);
    r->rows = m;
    size_t n_col_block = div_up(n, r->cols);
    if (n_col_block < want)
        r->rows = max_size(div_up(m, div_up(want, n_col_block)), rows_min);
    r->rows = min_size(r->rows, max_size(macs_max / (r->cols * k), rows_min));
    r->rows = min_size(r->rows, m);
}

// The rectangle of j that starts at row `row`, column `col` of it, m rows and n columns at most.
static struct product_job sub_job(const struct product_kernels *p, const struct product_job *j,
                                  size_t row, size_t col, size_t m, size_t n)
{
    struct product_job t = *j;
    t.y += row * j->y_stride + col;
    t.x = (const char *)j->x + row * product_x_stride(p, j->k);
    t.w = (const char *)j->w + col * dtype_span(j->w_type, j->w_stride);
    t.bias = j->bias ? j->bias + col : NULL;
    t.m = min_size(m, j->m - row);
    t.n = min_size(n, j->n - col);
    return t;
}

// Any number of rows by the kernel for few, the weights read from memory once.
static void run_few(const struct product_kernels *p, const struct product_job *j)
{
    size_t cols = j->n;
    if (j->m > OPS_FEW_ROWS)
        cols = max_size(FEW_PIECE / max_size(dtype_span(j->w_type, j->w_stride), 1), FEW_COLS);
    for (size_t col = 0; col < j->n; col += cols)
        for (size_t row = 0; row < j->m; row += OPS_FEW_ROWS) {
            struct product_job piece = sub_job(p, j, row, col, OPS_FEW_ROWS, cols);
            p->few(p, &piece);
        }
}

static void product_task(void *ctx, size_t task, unsigned thread)
{
    const struct product_run *r = ctx;
    size_t row = task % r->n_row_block * r->rows, col = task / r->n_row_block * r->cols;
    const struct product_job *jobs[] = {&r->first, &r->second};
    for (size_t i = 0; i < (r->second.m ? 2 : 1); i++) {
        struct product_job j = sub_job(r->p, jobs[i], row, col, r->rows, r->cols);
        if (r->few)
            run_few(r->p, &j);
        else
            r->p->many(r->p, &j, scratch_of(&r->scratch, thread));
    }
}

static bool run_product(struct ops *o, struct product_run *r)
{
    size_t m = r->first.m, n = r->first.n;
    r->rows = m;
    r->cols = n;
    if (m * n * r->first.k > INLINE_MACS) {
        if (r->few)
            cut_few(r, pool_threads(o->pool));
        else
            cut_many(r, pool_threads(o->pool));
    }
    r->n_row_block = div_up(m, r->rows);
    return cpu_run(o, product_task, r, r->n_row_block * div_up(n, r->cols));
}

// ---- preparing inputs

struct prepare_job {
    const struct ops *o;
    void *dst;
    struct mat x;
    float scale; // of x, in place, before it is prepared
};

static void prepare_rows(const void *ctx, size_t from, size_t n)
{
    const struct prepare_job *j = ctx;
    const struct product_kernels *p = cpu_products(j->o);
    for (size_t r = from; j->scale != 1.0f && r < from + n; r++)
        j->o->kernels->scale(row_at(j->x, r), j->scale, j->x.cols);
    p->prepare(p, (char *)j->dst + from * product_x_stride(p, j->x.cols), row_at(j->x, from),
               j->x.stride, n, j->x.cols);
}

static bool prepare(struct ops *o, void *dst, struct mat x, float scale)
{
    struct prepare_job j = {o, dst, x, scale};
    return cpu_rows(o, prepare_rows, &j, x.rows, x.cols);
}

// ---- linear

static void *prepared_scratch(struct ops *o, size_t rows, size_t cols)
{
    return ops_push_n(o, rows, product_x_stride(cpu_products(o), cols));
}

static struct thread_scratch many_scratch(struct ops *o, size_t n)
{
    size_t bytes = cpu_products(o)->scratch_bytes;
    return n <= OPS_FEW_ROWS || bytes == 0 ? (struct thread_scratch){0}
                                           : cpu_thread_scratch(o, bytes);
}

void cpu_linear_scratch(struct ops *o, const struct linear *w, size_t n, struct product_scratch *s)
{
    *s = (struct product_scratch){0};
    s->x = prepared_scratch(o, n, linear_inputs(w));
    if (tensor_present(&w->b))
        s->bias = cpu_vector_scratch(o, linear_outputs(w));
    if (tensor_present(&w->lora_a)) {
        size_t r = w->lora_a.dim[0];
        s->t = ops_push_n(o, n * r, sizeof(float));
        s->t_x = prepared_scratch(o, n, r);
    }
    s->thread = many_scratch(o, n);
}

// y = x W^T as a job; x [y.rows, k] is prepared.
static struct product_job job_of(struct mat y, const void *x, const struct tensor *w, size_t k)
{
    return (struct product_job){.y = y.data,
                                .y_stride = y.stride,
                                .x = x,
                                .w = w->data,
                                .w_stride = k,
                                .w_type = w->dtype,
                                .m = y.rows,
                                .n = y.cols,
                                .k = k};
}

// y of n rows, of which the op may have more.
static void run_linear(struct ops *o, struct mat y, const struct linear *w,
                       const struct product_scratch *s, bool few)
{
    size_t d_in = linear_inputs(w);
    struct product_run r = {.p = cpu_products(o), .few = few, .scratch = s->thread};
    if (tensor_present(&w->lora_a)) {
        size_t rank = w->lora_a.dim[0];
        struct mat t = {s->t, DT_F32, y.rows, rank, rank};
        r.first = job_of(t, s->x, &w->lora_a, d_in);
        if (!run_product(o, &r) || !prepare(o, s->t_x, t, w->lora_scale))
            return;
        r.second = job_of(y, s->t_x, &w->lora_b, rank);
        r.second.add = true;
    }
    r.first = job_of(y, s->x, &w->w, d_in);
    if (tensor_present(&w->b))
        r.first.bias = cpu_vector(o, &w->b, s->bias);
    run_product(o, &r);
}

void cpu_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w)
{
    size_t mark = ops_mark(o);
    struct product_scratch s;
    cpu_linear_scratch(o, w, y.rows, &s);
    if (o->status.code == 0 && prepare(o, s.x, x, 1.0f))
        run_linear(o, y, w, &s, y.rows <= OPS_FEW_ROWS || ((const struct cpu *)o)->step);
    ops_pop(o, mark);
}

// ---- patches

struct gather_job {
    const struct product_kernels *p;
    const float *pixels;          // [n_frame, 3, size, size]
    size_t size, patch, first, n; // patches [first, first + n) of all
    void *dst;
    const struct patch_scratch *scratch;
};

// Patch i as a row [3, patch, patch].
static void gather_patch(const struct gather_job *j, size_t i, float *row)
{
    size_t side = j->size / j->patch, frame = i / (side * side);
    size_t y0 = i / side % side * j->patch, x0 = i % side * j->patch;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < j->patch; y++, row += j->patch) {
            size_t line = (frame * 3 + c) * j->size + y0 + y;
            memcpy(row, j->pixels + line * j->size + x0, j->patch * sizeof *row);
        }
}

static void gather_task(void *ctx, size_t task, unsigned thread)
{
    const struct gather_job *j = ctx;
    float *rows = scratch_of(&j->scratch->gather, thread);
    size_t k = 3 * j->patch * j->patch, from = task * PATCH_GATHER;
    size_t n = min_size(PATCH_GATHER, j->n - from);
    for (size_t i = 0; i < n; i++)
        gather_patch(j, j->first + from + i, rows + i * k);
    j->p->prepare(j->p, (char *)j->dst + from * product_x_stride(j->p, k), rows, k, n, k);
}

void cpu_patch_scratch(struct ops *o, const struct linear *w, size_t n, struct patch_scratch *s)
{
    size_t d_in = linear_inputs(w);
    *s = (struct patch_scratch){0};
    s->product.x = prepared_scratch(o, min_size(n, PATCH_ROWS), d_in);
    if (tensor_present(&w->b))
        s->product.bias = cpu_vector_scratch(o, linear_outputs(w));
    s->product.thread = many_scratch(o, n);
    s->gather = cpu_thread_scratch(o, PATCH_GATHER * d_in * sizeof(float));
}

void cpu_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                     size_t patch, const struct linear *w)
{
    size_t mark = ops_mark(o), n = y.rows;
    struct patch_scratch s;
    (void)n_frame; // in y.rows
    cpu_patch_scratch(o, w, n, &s);
    for (size_t from = 0; from < n && o->status.code == 0; from += PATCH_ROWS) {
        size_t rows = min_size(PATCH_ROWS, n - from);
        struct gather_job j = {cpu_products(o), pixels, size, patch, from, rows, s.product.x, &s};
        if (cpu_run(o, gather_task, &j, div_up(rows, PATCH_GATHER)))
            run_linear(o, mat_rows(y, from, rows), w, &s.product, n <= OPS_FEW_ROWS);
    }
    ops_pop(o, mark);
}
