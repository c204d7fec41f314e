// SPDX-License-Identifier: MIT
// What is copied are the language model's tensors but its table of embeddings, of which a token reads one row: the
// video transformer's products compute longer than they read.
//
// Easy to get wrong: tensors begin anywhere in a page, so stretches of neighbours are copied, with what little is
// between them.
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

struct stretch {
    const char *from, *end;
};

struct run {
    const char *p;
    size_t n_page;
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct stretch *)a)->from,
              y = (uintptr_t)((const struct stretch *)b)->from;
    return (x > y) - (x < y);
}

// The language model's tensors in s, as far as a step reads them, neighbours as one; returns how many.
static size_t stretches_of(const struct model *m, struct stretch *s)
{
    const char *table = m->llm.embed.data == m->llm.head.w.data ? NULL : m->llm.embed.data;
    size_t n = 0, last = 0;
    for (size_t i = m->n_order_vision; i < m->n_order; i++) {
        const char *data = m->order[i]->data;
        if (data != table)
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

// Runs of the pages of s that would gain, to r; returns how many.
static size_t runs_of(const struct stretch *s, struct run *r, bool *wanting)
{
    const char *first;
    size_t n = pages_of(s, &first), n_run = 0;
    large_pages_wanting(first, n, wanting);
    for (size_t i = 0; i < n; i++) {
        struct run *last = n_run > 0 ? &r[n_run - 1] : NULL;
        const char *p = first + i * LARGE_PAGE;
        if (!wanting[i])
            continue;
        if (last && last->p + last->n_page * LARGE_PAGE == p && last->n_page < RUN_PAGES)
            last->n_page++;
        else
            r[n_run++] = (struct run){p, 1};
    }
    return n_run;
}

static uint64_t file_bytes(const struct weights *w)
{
    uint64_t all = 0;
    for (size_t i = 0; i < weights_file_count(w); i++) {
        size_t bytes;
        weights_file_at(w, i, &bytes);
        all += bytes;
    }
    return all;
}

struct copying {
    const struct run *run;
    _Atomic unsigned failed; // runs
    atomic_bool lost;
    _Atomic size_t n_page;
};

static void copy_run(void *ctx, size_t i, unsigned thread)
{
    struct copying *c = ctx;
    const struct run *r = &c->run[i];
    (void)thread;
    if (atomic_load_explicit(&c->failed, memory_order_relaxed) > FAILED_RUNS)
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

static uint64_t pages_in(const struct run *r, size_t n)
{
    uint64_t pages = 0;
    for (size_t i = 0; i < n; i++)
        pages += r[i].n_page;
    return pages;
}

static int copy_runs(iv_engine *g, const struct run *r, size_t n, struct err *e)
{
    uint64_t files = file_bytes(g->model.weights), wanting = pages_in(r, n) * LARGE_PAGE;
    double start = clock_ms();
    struct copying c = {0};
    if (wanting < (uint64_t)COPY_PAGES * LARGE_PAGE)
        return 0;
    for (size_t i = 0; i < n && atomic_load(&c.failed) <= FAILED_RUNS; i += SLICE_RUNS) {
        uint64_t left = pages_in(r + i, n - i) * LARGE_PAGE;
        if (hooks_abort(&g->hooks))
            return err_set(e, ERR_ABORT, "stopped while weights were copied");
        if (mem_room() < left + files + SPARE)
            break;
        c.run = r + i;
        pool_run(g->pool, copy_run, &c, min_size(SLICE_RUNS, n - i));
        if (atomic_load(&c.lost))
            return err_set(e, ERR_LIMIT, "weights: out of memory while they were copied");
    }
    log_line(&g->hooks, LOG_INFO,
             "weights: %zu of %llu MiB of the language model copied to large pages in %.0f ms",
             atomic_load(&c.n_page) * (LARGE_PAGE >> 20), (unsigned long long)(wanting >> 20),
             clock_ms() - start);
    return 0;
}

static int copy_model(iv_engine *g, struct err *e)
{
    const struct model *m = &g->model;
    struct stretch *s = mem_calloc(m->n_order, sizeof *s);
    size_t n_stretch = s ? stretches_of(m, s) : 0, n_page = 0, most = 0, n_run = 0;
    for (size_t i = 0; i < n_stretch; i++) {
        const char *first;
        size_t n = pages_of(&s[i], &first);
        most = max_size(most, n);
        n_page += n;
    }
    bool *wanting = mem_calloc(most, sizeof *wanting);
    struct run *r = mem_calloc(n_page, sizeof *r);
    int rc = 0;
    if (!s || !wanting || !r)
        rc = err_set(e, ERR_LIMIT, "weights: out of memory for %zu pages", n_page);
    for (size_t i = 0; i < n_stretch && rc == 0; i++)
        n_run += runs_of(&s[i], r + n_run, wanting);
    if (rc == 0)
        rc = copy_runs(g, r, n_run, e);
    mem_free(r);
    mem_free(wanting);
    mem_free(s);
    return rc;
}

int weights_copy(iv_engine *g, const char *weights, struct err *e)
{
    if (!weights || !strcmp(weights, "mapped"))
        return 0;
    if (strcmp(weights, "auto") != 0)
        return err_set(e, ERR_USAGE, "weights \"%s\": expected mapped or auto", weights);
    if (g->tokenizer_only || g->plan_only || g->gpu || !large_pages_offered())
        return 0;
    return copy_model(g, e);
}
