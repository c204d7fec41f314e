// SPDX-License-Identifier: MIT
// What is copied are the language model's tensors but its table of embeddings, of which a token reads one row: the
// video transformer's products compute longer than they read.
//
// Easy to get wrong: tensors begin anywhere in a page, so stretches of neighbours are copied, with what little is
// between them; but never what is outside of the file's mapping, which is anybody's.
#include "engine/weights_copy.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/large_pages.h"
#include "base/mem.h"
#include "base/mem_room.h"
#include "base/size.h"
#include "engine/engine.h"

enum {
    RUN_PAGES = 8,    // copied by a task
    SLICE_RUNS = 32,  // between two looks at the memory that is left
    FAILED_RUNS = 16, // more that found no large pages, and there are none
    COPY_PAGES = 16,  // fewer are not worth it
    GAP = 1 << 20,    // bytes between two tensors of a stretch, at most
};
static const uint64_t SPARE = (uint64_t)2 << 30; // bytes that are left for everything else

int weights_copy_wanted(const char *weights, bool *wanted, struct err *e)
{
    *wanted = weights && !strcmp(weights, "auto");
    if (!weights || *wanted || !strcmp(weights, "mapped"))
        return 0;
    return err_set(e, ERR_USAGE, "weights \"%s\": expected auto or mapped", weights);
}

struct file {
    const char *map;
    size_t bytes;
};

struct stretch {
    const char *from, *end;
};

struct run {
    const char *p;
    size_t n_page;
};

// Everything there is to copy, found file by file.
struct copying {
    iv_engine *engine;
    struct stretch *stretch; // [n_order], of one file
    struct run *run;         // [n_run]
    size_t n_run, cap;
    const struct run *slice;
    _Atomic unsigned failed; // runs
    _Atomic size_t n_page;
    atomic_bool lost;
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct stretch *)a)->from,
              y = (uintptr_t)((const struct stretch *)b)->from;
    return (x > y) - (x < y);
}

// The language model's tensors in that file, as far as a step reads them, neighbours as one; returns how many.
static size_t stretches_of(const struct model *m, const struct file *f, struct stretch *s)
{
    const char *table = m->llm.embed.data == m->llm.head.w.data ? NULL : m->llm.embed.data;
    uintptr_t first = (uintptr_t)f->map, end = first + f->bytes;
    size_t n = 0, last = 0;
    for (size_t i = m->n_order_vision; i < m->n_order; i++) {
        const char *data = m->order[i]->data;
        if (data != table && (uintptr_t)data >= first && (uintptr_t)data < end)
            s[n++] = (struct stretch){data, data + m->order[i]->bytes};
    }
    qsort(s, n, sizeof *s, by_address);
    for (size_t i = 1; i < n; i++)
        if ((uintptr_t)s[i].from <= (uintptr_t)s[last].end + GAP)
            s[last].end = s[i].end > s[last].end ? s[i].end : s[last].end;
        else
            s[++last] = s[i];
    return n > 0 ? last + 1 : 0;
}

// The whole pages of s: *first and how many.
static size_t pages_of(const struct stretch *s, const char **first)
{
    size_t before = (LARGE_PAGE - (uintptr_t)s->from % LARGE_PAGE) % LARGE_PAGE;
    size_t bytes = (size_t)(s->end - s->from);
    *first = s->from + before;
    return bytes > before ? (bytes - before) / LARGE_PAGE : 0;
}

static bool add_page(struct copying *c, const char *p)
{
    struct run *last = c->n_run > 0 ? &c->run[c->n_run - 1] : NULL;
    if (last && last->p + last->n_page * LARGE_PAGE == p && last->n_page < RUN_PAGES) {
        last->n_page++;
        return true;
    }
    if (c->n_run == c->cap) {
        size_t cap = max_size(64, 2 * c->cap);
        struct run *r = mem_realloc(c->run, cap, sizeof *r);
        if (!r)
            return false;
        c->run = r;
        c->cap = cap;
    }
    c->run[c->n_run++] = (struct run){p, 1};
    return true;
}

// Runs of the file's pages that would gain. Without memory for the list there are fewer.
static int find_runs(struct copying *c, const struct file *f, struct err *e)
{
    size_t n = stretches_of(&c->engine->model, f, c->stretch);
    for (const struct stretch *s = c->stretch; s < c->stretch + n; s++) {
        const char *p;
        for (size_t left = pages_of(s, &p); left > 0; left--, p += LARGE_PAGE) {
            if (hooks_abort(&c->engine->hooks))
                return err_set(e, ERR_ABORT, "stopped while weights were looked through");
            if (large_page_wanting(p) && !add_page(c, p))
                return 0;
        }
    }
    return 0;
}

static void copy_run(void *ctx, size_t i, unsigned thread)
{
    struct copying *c = ctx;
    const struct run *r = &c->slice[i];
    (void)thread;
    if (atomic_load_explicit(&c->failed, memory_order_relaxed) > FAILED_RUNS ||
        hooks_abort(&c->engine->hooks))
        return;
    switch (large_pages_copy(r->p, r->n_page)) {
    case LARGE_PAGES_COPIED:
        atomic_fetch_add_explicit(&c->n_page, r->n_page, memory_order_relaxed);
        break;
    case LARGE_PAGES_NONE:
        atomic_fetch_add_explicit(&c->failed, 1, memory_order_relaxed);
        break;
    case LARGE_PAGES_LOST:
        atomic_store_explicit(&c->lost, true, memory_order_relaxed);
    }
}

// Bytes of the runs from the i-th on.
static uint64_t bytes_from(const struct copying *c, size_t i)
{
    uint64_t pages = 0;
    for (; i < c->n_run; i++)
        pages += c->run[i].n_page;
    return pages * LARGE_PAGE;
}

static int copy_runs(struct copying *c, struct err *e)
{
    const struct hooks *hooks = &c->engine->hooks;
    uint64_t files = weights_file_bytes(c->engine->model.weights), wanting = bytes_from(c, 0);
    double start = clock_ms();
    if (wanting < (uint64_t)COPY_PAGES * LARGE_PAGE)
        return 0;
    for (size_t i = 0; i < c->n_run && atomic_load(&c->failed) <= FAILED_RUNS; i += SLICE_RUNS) {
        if (mem_room() < bytes_from(c, i) + files + SPARE)
            break;
        c->slice = c->run + i;
        pool_run(c->engine->pool, copy_run, c, min_size(SLICE_RUNS, c->n_run - i));
        if (atomic_load(&c->lost))
            return err_set(e, ERR_LIMIT, "weights: out of memory while they were copied");
        if (hooks_abort(hooks))
            return err_set(e, ERR_ABORT, "stopped while weights were copied");
    }
    log_line(hooks, LOG_INFO,
             "weights: %zu of %llu MiB of the language model copied to large pages in %.0f ms",
             atomic_load(&c->n_page) * (LARGE_PAGE >> 20), (unsigned long long)(wanting >> 20),
             clock_ms() - start);
    return 0;
}

static int find_in_file(struct copying *c, size_t i, struct err *e)
{
    struct file f = {.map = weights_map_at(c->engine->model.weights, i)};
    const char *path = weights_file_at(c->engine->model.weights, i, &f.bytes);
    return large_pages_told(path) ? find_runs(c, &f, e) : 0;
}

int weights_copy(iv_engine *g, struct err *e)
{
    struct copying c = {.engine = g};
    int rc = 0;
    if (g->tokenizer_only || g->plan_only || g->gpu)
        return 0;
    if (!large_pages_offered()) {
        log_line(&g->hooks, LOG_INFO, "weights: no large pages are to be had, or are not told of");
        return 0;
    }
    c.stretch = mem_calloc(g->model.n_order, sizeof *c.stretch);
    for (size_t i = 0; c.stretch && i < weights_file_count(g->model.weights) && rc == 0; i++)
        rc = find_in_file(&c, i, e);
    if (rc == 0)
        rc = copy_runs(&c, e);
    mem_free(c.run);
    mem_free(c.stretch);
    return rc;
}
