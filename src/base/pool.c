// SPDX-License-Identifier: MIT
// Thread pool. One batch at a time; its tasks are handed out by a counter.
//
// `state` holds the batch's number (upper half, odd = open) and how many workers are inside (lower
// half). A worker joins an open batch by one compare-and-swap and leaves by one subtraction; the caller
// works too, closes the batch when the counter has run out, and waits for those inside. A worker that
// gets no processor in time finds the batch closed and misses nothing, so nobody ever waits for a
// thread that has not begun. A second caller does not wait either: it does its tasks alone until the
// workers are free, so that it notices an abort.
//
// Easy to get wrong: the fields of a batch may change only while it is closed and empty; a sleeper
// counts itself before it looks at `state`, and the caller changes `state` before it looks at the
// sleepers (both sequentially consistent), or a wake-up is lost.
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_count.h"
#include "base/mem.h"
#include "base/thread.h"

static const uint64_t BATCH = (uint64_t)1 << 32;
static const uint64_t INSIDE = ((uint64_t)1 << 32) - 1;
enum { SPINS = 2000 }; // some 20 to 100 microseconds, about what a sleep and a wake-up cost

struct worker {
    struct pool *pool;
    pthread_t thread;
    unsigned index;
};

struct pool {
    unsigned n_threads; // with the caller
    unsigned n_workers; // started
    unsigned spins;     // 0 when there are more threads than processors
    struct worker *worker;

    pthread_mutex_t turn;     // whose batch the workers do
    _Atomic unsigned waiting; // callers without it
    pthread_mutex_t lock;     // for the two conditions and `quit`
    pthread_cond_t work, done;
    bool quit;
    _Atomic unsigned sleepers;

    pool_fn *fn;
    void *ctx;
    size_t n_task;
    _Alignas(64) _Atomic size_t next;
    _Alignas(64) _Atomic uint64_t state;
};

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void run_tasks(struct pool *p, unsigned thread)
{
    for (;;) {
        size_t task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (task >= p->n_task)
            return;
        p->fn(p->ctx, task, thread);
    }
}

// An open batch other than the one numbered `seen`.
static bool is_new(uint64_t state, uint64_t seen)
{
    return (state & BATCH) != 0 && state / BATCH != seen;
}

// Returns when there is something to join, or false to end the thread.
static bool await_work(struct pool *p, uint64_t seen)
{
    for (unsigned i = 0; i < p->spins; i++) {
        if (is_new(atomic_load_explicit(&p->state, memory_order_relaxed), seen))
            return true;
        pause_briefly();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (!p->quit && !is_new(atomic_load(&p->state), seen))
        pthread_cond_wait(&p->work, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    bool go = !p->quit;
    pthread_mutex_unlock(&p->lock);
    return go;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint64_t seen = 0;
    while (await_work(p, seen)) {
        uint64_t s = atomic_load_explicit(&p->state, memory_order_relaxed);
        while (is_new(s, seen)) {
            if (!atomic_compare_exchange_weak_explicit(&p->state, &s, s + 1, memory_order_acquire,
                                                       memory_order_relaxed))
                continue;
            seen = s / BATCH;
            run_tasks(p, w->index);
            s = atomic_fetch_sub_explicit(&p->state, 1, memory_order_acq_rel) - 1;
            if ((s & INSIDE) == 0 && (s & BATCH) == 0) { // the caller may be asleep
                pthread_mutex_lock(&p->lock);
                pthread_cond_signal(&p->done);
                pthread_mutex_unlock(&p->lock);
            }
        }
    }
    return NULL;
}

// Returns 0 or the errno value of the first thread that cannot be had.
static int start_workers(struct pool *p)
{
    int rc = 0;
    for (unsigned i = 0; i + 1 < p->n_threads && rc == 0; i++) {
        p->worker[i] = (struct worker){.pool = p, .index = i + 1};
        rc = thread_start(&p->worker[i].thread, worker_main, &p->worker[i]);
        if (rc == 0)
            p->n_workers++;
    }
    return rc;
}

int pool_open(unsigned n_threads, struct pool **out, struct err *e)
{
    *out = NULL;
    if (n_threads > POOL_MAX_THREADS)
        return err_set(e, ERR_USAGE, "%u threads asked for, at most %d", n_threads,
                       POOL_MAX_THREADS);
    unsigned usable = cpu_count();
    if (n_threads == 0)
        n_threads = usable < POOL_MAX_THREADS ? usable : POOL_MAX_THREADS;
    struct pool *p = mem_alloc_big(sizeof *p); // a page: the counters need their own cache lines
    if (!p)
        return err_set(e, ERR_LIMIT, "thread pool: out of memory");
    p->n_threads = n_threads;
    p->spins = n_threads > usable ? 0 : SPINS;
    pthread_mutex_init(&p->turn, NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->worker = mem_calloc(n_threads, sizeof *p->worker);
    if (!p->worker) {
        pool_close(p);
        return err_set(e, ERR_LIMIT, "thread pool: out of memory for %u threads", n_threads);
    }
    int rc = start_workers(p);
    if (rc != 0) {
        unsigned got = p->n_workers + 1;
        pool_close(p);
        return err_set(e, ERR_LIMIT,
                       "thread pool: only %u of %u threads could be started (error %d)", got,
                       n_threads, rc);
    }
    *out = p;
    return 0;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_workers; i++)
        pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->turn);
    mem_free(p->worker);
    mem_free_big(p, sizeof *p);
}

unsigned pool_threads(const struct pool *p)
{
    return p ? p->n_threads : 1;
}

static void wake_sleepers(struct pool *p, size_t n_task)
{
    if (atomic_load(&p->sleepers) == 0)
        return;
    pthread_mutex_lock(&p->lock);
    if (n_task > p->n_workers)
        pthread_cond_broadcast(&p->work);
    else
        for (size_t i = 1; i < n_task; i++) // one task is the caller's own
            pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

static void await_leavers(struct pool *p)
{
    for (unsigned i = 0; i < p->spins; i++) {
        if ((atomic_load_explicit(&p->state, memory_order_acquire) & INSIDE) == 0)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&p->lock);
    while ((atomic_load_explicit(&p->state, memory_order_acquire) & INSIDE) != 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

// Waits for the workers by doing tasks alone, *done of them; false when that was all but one. Whoever
// comes while others wait does one task first, which gives them their chance.
static bool take_turn(struct pool *p, pool_fn *fn, void *ctx, size_t n_task, size_t *done)
{
    bool taken = false;
    if (atomic_load_explicit(&p->waiting, memory_order_relaxed) > 0)
        fn(ctx, (*done)++, 0);
    else if (pthread_mutex_trylock(&p->turn) == 0)
        return true;
    atomic_fetch_add_explicit(&p->waiting, 1, memory_order_relaxed);
    while (!taken && *done + 1 < n_task) {
        taken = pthread_mutex_trylock(&p->turn) == 0;
        if (!taken)
            fn(ctx, (*done)++, 0);
    }
    atomic_fetch_sub_explicit(&p->waiting, 1, memory_order_relaxed);
    return taken;
}

void pool_run(struct pool *p, pool_fn *fn, void *ctx, size_t n_task)
{
    size_t done = 0;
    if (pool_threads(p) > 1 && n_task > 1 && take_turn(p, fn, ctx, n_task, &done)) {
        p->fn = fn;
        p->ctx = ctx;
        p->n_task = n_task;
        atomic_store_explicit(&p->next, done, memory_order_relaxed);
        atomic_fetch_add(&p->state, BATCH); // opens it and publishes the fields
        wake_sleepers(p, n_task - done);
        run_tasks(p, 0);
        atomic_fetch_add(&p->state, BATCH);
        await_leavers(p);
        pthread_mutex_unlock(&p->turn);
        return;
    }
    while (done < n_task)
        fn(ctx, done++, 0);
}
