// SPDX-License-Identifier: MIT
// Products on the CPU, cut into tasks: y = x W^T + b, perhaps with a thin second product on top, perhaps
// added onto a matrix instead of stored.
//
//   one task = one rectangle of results
//     first product into the rectangle, second product on top
//     into += scale * rectangle                  while it is in the cache
//
// Up to OPS_FEW_ROWS rows read the weights in place (`few`), as do more rows that are steps of as many
// sequences, by eights while a piece of the weights is in the cache; more go through packed panels (`many`).
// The two round differently, so the choice hangs on the whole op, never on the rows of a task.
//
// Memory likes to be read in order: of a batch that reads weights in place each thread has a stretch of the tasks, one
// behind the other, and takes from the ends of others' when its own is done.
//
// How tasks are cut: columns first, since a column's weights are then read (and packed) once; rows only
// where packing is still paid for, or costs nothing. Tasks are kept small enough that an abort between
// two of them comes soon. None of this shows in the result.
//
// Easy to get wrong: bias is f32 and belongs to the first product only; a rectangle that is not stored has
// a stride of its own.
#include "ops/cpu_backend.h"

#include <assert.h>

#include "base/size.h"

enum {
    TASKS_PER_THREAD = 8,
    INLINE_MACS = 1 << 16,        // less is not worth waking a thread
    FEW_WEIGHTS_MIN = 1 << 15,    // weights of a `few` task
    FEW_WEIGHTS_MAX = 1 << 19,    // one row; twice that in blocks
    SOME_WEIGHTS_MAX = 1 << 20,   // several; twice that in blocks
    GROUPS_WEIGHTS_MAX = 3 << 18, // several, in groups
    FEW_COLS = 16,                // columns of tasks are a multiple ...
    LEAST_COLS = 8, // ... of so many where there are no more than FEW_COLS, as LoRA's A has
    STRETCHES_MAX = 64,
    FEW_PIECE = 1 << 18, // bytes of weights that stay in the cache while rows go by
    SQUARES_PER_THREAD = 4,
    MANY_ROWS_MIN = 128,     // rows below which packing would show
    MANY_MACS_MAX = 1 << 29, // of a task: some 10 ms of a vector unit
    PAIR_FACTOR = 4,         // as much again where an instruction multiplies pairs
    PLAIN_MACS_MAX =
        1 << 21, // without packing: the plain kernels are slow, and rows may be cut freely
    PLAIN_COLS = 64,
};

static size_t clamp(size_t v, size_t low, size_t high)
{
    return min_size(max_size(v, low), high);
}

// Outputs that `few` would rather have several rows of, if there is that for every thread.
static size_t group_of(struct product_size z, size_t threads)
{
    bool grouped = z.m > 2 && !z.p->ask_l2 && z.n / threads >= z.p->few_group;
    return grouped ? z.p->few_group : 0;
}

static void cut_few(struct product_cut *c, struct product_size z, size_t threads)
{
    size_t k = max_size(z.k, 1);
    size_t group = group_of(z, threads);
    size_t some = z.m == 1 ? FEW_WEIGHTS_MAX : SOME_WEIGHTS_MAX;
    size_t most = group > 0 ? GROUPS_WEIGHTS_MAX : z.p->for_blocks ? 2 * some : some;
    size_t weights = clamp(z.n * k / (TASKS_PER_THREAD * threads), FEW_WEIGHTS_MIN, most);
    if (z.p->scratch_bytes == 0 && !z.p->for_blocks)
        weights = min_size(weights, PLAIN_MACS_MAX / z.m);
    c->rows = z.m;
    size_t cols = group > 0 ? group : z.n <= FEW_COLS ? LEAST_COLS : FEW_COLS;
    c->cols = round_up(max_size(weights / k, 1), cols);
}

// Where x is laid out at each call as the weights are, a task's share of both is least in a square.
static void cut_square(struct product_cut *c, struct product_size z, size_t threads)
{
    size_t k = max_size(z.k, 1), side = z.p->block;
    size_t area = min_size((size_t)MANY_MACS_MAX * PAIR_FACTOR / k,
                           z.m * z.n / (SQUARES_PER_THREAD * threads));
    while (side > z.p->panel && div_up(z.n, side) * div_up(z.m, MANY_ROWS_MIN) < threads)
        side -= z.p->panel;
    while ((side + z.p->panel) * (side + z.p->panel) <= area)
        side += z.p->panel;
    c->cols = min_size(side, round_up(z.n, z.p->panel));
    c->rows = clamp(area / c->cols, MANY_ROWS_MIN, z.m);
    c->rows = div_up(z.m, div_up(z.m, c->rows));
}

static void cut_many(struct product_cut *c, struct product_size z, size_t threads)
{
    const struct product_kernels *p = z.p;
    size_t k = max_size(z.k, 1);
    bool plain = p->scratch_bytes == 0;
    size_t want = threads == 1 ? 1 : TASKS_PER_THREAD * threads;
    size_t rows_min = plain ? 1 : MANY_ROWS_MIN, macs_max = plain ? PLAIN_MACS_MAX : MANY_MACS_MAX;
    if (!plain && p->x_elem < sizeof(float))
        macs_max *= PAIR_FACTOR;

    c->cols = plain ? PLAIN_COLS : p->block;
    if (div_up(z.n, c->cols) < want) // fewer columns at a time, but whole panels
        c->cols = clamp(div_up(div_up(z.n, want), p->panel) * p->panel, p->panel, c->cols);
    c->rows = z.m;
    size_t n_col_block = div_up(z.n, c->cols);
    if (n_col_block < want)
        c->rows = max_size(div_up(z.m, div_up(want, n_col_block)), rows_min);
    size_t rows_max = max_size(macs_max / (c->cols * k), rows_min);
    c->rows = min_size(c->rows, div_up(z.m, div_up(z.m, rows_max)));
}

static struct product_cut cut_of(const struct ops *o, struct product_size z)
{
    struct product_cut c = {.rows = z.m, .cols = z.n};
    size_t threads = pool_threads(o->pool);
    if (z.m * z.n * z.k > INLINE_MACS) {
        if (z.few)
            cut_few(&c, z, threads);
        else if (z.p->repacks)
            cut_square(&c, z, threads);
        else
            cut_many(&c, z, threads);
    }
    c.cols = min_size(c.cols, max_size(z.n, 1));
    c.n_row_block = div_up(z.m, c.rows);
    c.n_task = c.n_row_block * div_up(z.n, c.cols);
    return c;
}

// Of a thread's scratch the kernel's part comes first, then the rectangle.
static size_t kernel_bytes(const struct ops *o, const struct product_kernels *p, bool few)
{
    size_t bytes = max_size(p->scratch_bytes, cpu_products(o)->scratch_bytes);
    return few ? 0 : round_up(bytes, KERNEL_SCRATCH_ALIGN);
}

size_t cpu_product_scratch(const struct ops *o, struct product_size z, bool added)
{
    size_t bytes = kernel_bytes(o, z.p, z.few);
    if (!added || z.m == 0 || z.n == 0)
        return bytes;
    struct product_cut c = cut_of(o, z);
    return bytes + c.rows * c.cols * sizeof(float); // below that of an [m, n] in memory
}

// The rectangle of j that starts at row `row`, column `col` of it, m rows and n columns at most.
static struct product_job part(const struct product_kernels *p, const struct product_job *j,
                               size_t row, size_t col, size_t m, size_t n)
{
    struct product_job t = *j;
    t.y = j->y ? j->y + row * j->y_stride + col : NULL;
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
            struct product_job piece = part(p, j, row, col, OPS_FEW_ROWS, cols);
            p->few(p, &piece);
        }
}

static void add_onto(const struct ops *o, const struct product_run *r,
                     const struct product_job *done, size_t row, size_t col)
{
    const struct kernels *k = o->kernels;
    for (size_t i = 0; i < done->m; i++) {
        float *x = row_at(r->into, row + i) + col;
        const float *y = done->y + i * done->y_stride;
        if (r->scale)
            k->add_scaled(x, y, r->scale + col, done->n);
        else
            k->add(x, y, done->n);
    }
}

static size_t first_col(const struct product_cut *c, size_t task)
{
    return task / c->n_row_block * c->cols;
}

// The weights of a later task: with every thread at the same work it is this one's next. Not where it reads the
// same ones, or others than `now` does.
static void look_ahead(const struct product_run *later, size_t task, struct product_job *now)
{
    const struct product_job *j = &later->first;
    size_t col = first_col(&later->cut, task);
    const void *w = (const char *)j->w + col * dtype_span(j->w_type, j->w_stride);
    if (w == now->w || j->w_type != now->w_type || j->w_stride != now->w_stride || j->k != now->k)
        return;
    now->next = w;
    now->n_next = min_size(later->cut.cols, j->n - col);
}

// `later` is the run of a later task, or NULL.
static void run_rectangle(const struct ops *o, const struct product_run *r, size_t task,
                          const struct product_run *later, size_t later_task, char *scratch)
{
    const struct product_kernels *p[2] = {r->p, cpu_products(o)};
    size_t row = task % r->cut.n_row_block * r->cut.rows;
    size_t col = first_col(&r->cut, task);
    const struct product_cut *c = &r->cut;
    struct product_job job[2] = {part(p[0], &r->first, row, col, c->rows, c->cols)};
    size_t n_job = 1;
    if (r->second.m)
        job[n_job++] = part(p[1], &r->second, row, col, c->rows, c->cols);
    if (later && later->p == r->p)
        look_ahead(later, later_task, &job[0]);
    for (size_t i = 0; i < n_job; i++) {
        if (r->into.data) {
            job[i].y = (float *)(void *)(scratch + kernel_bytes(o, r->p, r->few));
            job[i].y_stride = job[i].n;
        }
        if (r->few)
            run_few(p[i], &job[i]);
        else
            p[i]->many(p[i], &job[i], scratch);
    }
    if (r->into.data)
        add_onto(o, r, &job[0], row, col);
}

// Tasks [first, end) that nobody has begun, in one word: end in the upper half. Whose they are has been here, or not.
struct stretch {
    _Alignas(64) _Atomic uint64_t tasks;
    atomic_bool begun;
};

struct product_batch {
    const struct ops *o;
    const struct product_run *run;
    size_t n_run;
    struct thread_scratch scratch;
    size_t n_stretch; // 0: tasks in their order
    struct stretch stretch[STRETCHES_MAX];
};

static uint64_t stretch_of(size_t first, size_t end)
{
    return (uint64_t)end << 32 | (uint32_t)first;
}

// Takes a task from the front or from the end of a stretch; false if there is none.
static bool take(struct stretch *s, bool front, size_t *task)
{
    uint64_t old = atomic_load_explicit(&s->tasks, memory_order_relaxed);
    for (;;) {
        size_t first = (uint32_t)old, end = (size_t)(old >> 32);
        if (first == end)
            return false;
        *task = front ? first : end - 1;
        uint64_t left = front ? stretch_of(first + 1, end) : stretch_of(first, end - 1);
        if (atomic_compare_exchange_weak_explicit(&s->tasks, &old, left, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
}

// Each call finds one: there are as many tasks as calls, and what a stretch has lost it does not get back. Where a
// thread has not come, others read its stretch in order, too.
static size_t next_task(struct product_batch *b, unsigned thread)
{
    size_t task = 0, own = thread % b->n_stretch, i = 0;
    atomic_store_explicit(&b->stretch[own].begun, true, memory_order_relaxed);
    for (; i < b->n_stretch; i++) {
        struct stretch *s = &b->stretch[(own + i) % b->n_stretch];
        bool front = i == 0 || !atomic_load_explicit(&s->begun, memory_order_relaxed);
        if (take(s, front, &task))
            break;
    }
    assert(i < b->n_stretch);
    return task;
}

// Stretches of about as many weights each.
static void cut_stretches(struct product_batch *b, size_t threads)
{
    double all = 0, seen = 0;
    size_t task = 0, first = 0, n = min_size(threads, STRETCHES_MAX), i = 0;
    for (size_t s = 0; s < n; s++)
        b->stretch[s].begun = false;
    for (const struct product_run *r = b->run; r < b->run + b->n_run; r++)
        all += (double)r->first.n * (double)r->first.k;
    for (const struct product_run *r = b->run; r < b->run + b->n_run; r++) {
        double weights = (double)r->first.n * (double)r->first.k / (double)r->cut.n_task;
        for (size_t t = 0; t < r->cut.n_task; t++, task++, seen += weights)
            for (; i < n && seen + weights / 2 > all * (double)(i + 1) / (double)n; first = task)
                b->stretch[i++].tasks = stretch_of(first, task);
    }
    for (; i < n; first = task)
        b->stretch[i++].tasks = stretch_of(first, task);
    b->n_stretch = n;
}

// The run of task *task of the batch, which becomes one of that run's; NULL behind the last.
static const struct product_run *run_of_task(const struct product_batch *b, size_t *task)
{
    for (size_t i = 0; i < b->n_run; i++) {
        const struct product_run *r = &b->run[i];
        if (*task < r->cut.n_task)
            return r;
        *task -= r->cut.n_task;
    }
    return NULL;
}

static void product_task(void *ctx, size_t task, unsigned thread)
{
    struct product_batch *b = ctx;
    bool in_turns = b->n_stretch == 0; // then this thread's next task is known
    if (!in_turns)
        task = next_task(b, thread);
    size_t later_task = task + pool_threads(b->o->pool);
    const struct product_run *r = run_of_task(b, &task);
    const struct product_run *later = in_turns ? run_of_task(b, &later_task) : NULL;
    run_rectangle(b->o, r, task, later, later_task, scratch_of(&b->scratch, thread));
}

bool cpu_products_run(struct ops *o, struct product_run *run, size_t n_run,
                      struct thread_scratch scratch)
{
    struct product_batch b; // 4 KiB of stretches stay as they are unless there are any
    size_t n_task = 0;
    bool few = true;
    b.o = o;
    b.run = run;
    b.n_run = n_run;
    b.scratch = scratch;
    b.n_stretch = 0;
    for (size_t i = 0; i < n_run; i++) {
        const struct product_job *j = &run[i].first;
        run[i].cut = cut_of(o, (struct product_size){run[i].p, j->m, j->n, j->k, run[i].few});
        n_task += run[i].cut.n_task;
        few = few && run[i].few;
    }
    if (few && n_task < (size_t)UINT32_MAX)
        cut_stretches(&b, pool_threads(o->pool));
    return cpu_run(o, product_task, &b, n_task);
}
