// SPDX-License-Identifier: MIT
// iv_peaks_measure, iv_read_probe: the peak loops (kernels/peak.h) on every thread at once.
//
//   rate = what all threads did / (last end - first begin), the median of a few runs
//
// Easy to get wrong: threads that begin one after the other would measure a machine with fewer, so each waits
// for the others; memory that was never written is one page of zeros, read from the cache.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "kernels/peak.h"

enum { RUNS = 7, PASSES = 3 };
static const double RUN_MS = 8, START_MS = 20;
// Far beyond any cache, far below what a machine with a model has.
static const size_t READ_MOST = (size_t)512 << 20, READ_LEAST = (size_t)64 << 20;

struct peak_run {
    double (*work)(size_t n); // NULL = read
    uint64_t (*read)(const void *p, size_t bytes);
    size_t n, threads;
    const char *data; // [threads * bytes]
    size_t bytes;
    atomic_size_t here;
    _Atomic uint64_t sink;
    double begun[POOL_MAX_THREADS], ended[POOL_MAX_THREADS], done[POOL_MAX_THREADS];
};

static void peak_task(void *ctx, size_t task, unsigned thread)
{
    struct peak_run *r = ctx;
    double since = clock_ms();
    (void)thread;
    atomic_fetch_add(&r->here, 1);
    while (atomic_load(&r->here) < r->threads && clock_ms() - since < START_MS)
        ;
    r->begun[task] = clock_ms();
    if (r->work) {
        r->done[task] = r->work(r->n);
    } else {
        atomic_fetch_or(&r->sink, r->read(r->data + task * r->bytes, r->bytes));
        r->done[task] = (double)r->bytes;
    }
    r->ended[task] = clock_ms();
}

// Operations or bytes a second of one run.
static double run_once(struct pool *pool, struct peak_run *r)
{
    double first = 0, last = 0, all = 0;
    atomic_store(&r->here, 0);
    pool_run(pool, peak_task, r, r->threads);
    for (size_t i = 0; i < r->threads; i++) {
        first = i == 0 || r->begun[i] < first ? r->begun[i] : first;
        last = r->ended[i] > last ? r->ended[i] : last;
        all += r->done[i];
    }
    return all / (last > first ? last - first : 1e-6) * 1e3;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// Of n runs, at most RUNS.
static double median_rate(struct pool *pool, struct peak_run *r, size_t n)
{
    double rate[RUNS];
    for (size_t i = 0; i < n; i++)
        rate[i] = run_once(pool, r);
    qsort(rate, n, sizeof *rate, compare);
    return rate[n / 2];
}

// 0 = no such instruction
static double work_rate(struct pool *pool, struct peak_run *r, double (*work)(size_t n))
{
    if (!work)
        return 0;
    r->work = work;
    for (r->n = 1 << 10; r->n < (size_t)1 << 40; r->n *= 4) { // as many rounds as take a while
        (void)run_once(pool, r);
        double ms = r->ended[0] - r->begun[0];
        if (ms > RUN_MS / 8) {
            r->n = (size_t)((double)r->n * RUN_MS / ms) + 1;
            break;
        }
    }
    return median_rate(pool, r, RUNS);
}

static void touch_task(void *ctx, size_t task, unsigned thread)
{
    struct peak_run *r = ctx;
    (void)thread;
    memset((char *)(uintptr_t)r->data + task * r->bytes, (int)task + 1, r->bytes);
}

static size_t read_bytes(size_t threads)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    size_t all = pages > 0 && size > 0 ? (size_t)pages / 32 * (size_t)size : READ_LEAST;
    all = max_size(min_size(all, READ_MOST), READ_LEAST);
    return max_size(all / threads / PEAK_READ_STEP, 1) * PEAK_READ_STEP;
}

// Memory to read, until release.
static int hold(struct pool *pool, struct peak_run *r, struct err *e)
{
    size_t bytes;
    r->work = NULL;
    r->bytes = read_bytes(r->threads);
    if (!mul_size(r->bytes, r->threads, &bytes))
        return err_set(e, ERR_LIMIT, "peaks: %zu threads", r->threads);
    char *data = mem_alloc_big(bytes);
    if (!data)
        return err_set(e, ERR_LIMIT, "peaks: out of memory for %zu bytes to read", bytes);
    r->data = data;
    pool_run(pool, touch_task, r, r->threads);
    return 0;
}

static void release(struct peak_run *r)
{
    if (r->data)
        mem_free_big((char *)(uintptr_t)r->data, r->threads * r->bytes);
    r->data = NULL;
}

struct iv_read_probe {
    struct pool *pool;
    struct peak_kernels kernels;
    struct peak_run run;
    enum cpu_tier tier;
};

static int probe_open(const char *cpu, int n_threads, struct iv_read_probe **out, struct err *e)
{
    unsigned tiers;
    int rc;
    struct iv_read_probe *r = mem_calloc(1, sizeof *r);
    *out = r;
    if (!r)
        return err_set(e, ERR_LIMIT, "peaks: out of memory");
    TRY(engine_choose_tiers(cpu, &tiers, e));
    if (n_threads < 0)
        TRY(err_set(e, ERR_USAGE, "threads: %d", n_threads));
    peak_init(&r->kernels, tiers);
    r->tier = cpu_best(tiers);
    TRY(pool_open((unsigned)n_threads, &r->pool, e));
    r->run.threads = pool_threads(r->pool);
    r->run.read = r->kernels.read;
    TRY(hold(r->pool, &r->run, e));
    return 0;
fail:
    iv_read_probe_close(r);
    *out = NULL;
    return rc;
}

int iv_read_probe_open(const char *cpu, int n_threads, iv_read_probe **out, struct iv_error *error)
{
    struct err e = {0};
    int rc = probe_open(cpu, n_threads, out, &e);
    return status_out(rc, &e, error);
}

double iv_read_probe_rate(iv_read_probe *r)
{
    return median_rate(r->pool, &r->run, PASSES);
}

void iv_read_probe_close(iv_read_probe *r)
{
    if (!r)
        return;
    release(&r->run);
    pool_close(r->pool);
    mem_free(r);
}

int iv_peaks_measure(const char *cpu, int n_threads, struct iv_peaks *out, struct iv_error *error)
{
    struct err e = {0};
    struct iv_read_probe *r;
    memset(out, 0, sizeof *out);
    int rc = probe_open(cpu, n_threads, &r, &e);
    if (rc == 0) {
        out->cpu = cpu_tier_name(r->tier);
        out->n_threads = (int)r->run.threads;
        out->read_bytes = median_rate(r->pool, &r->run, RUNS);
        release(&r->run);
        out->f32_ops = work_rate(r->pool, &r->run, r->kernels.f32);
        out->bf16_ops = work_rate(r->pool, &r->run, r->kernels.bf16);
        out->int8_ops = work_rate(r->pool, &r->run, r->kernels.int8);
        iv_read_probe_close(r);
    }
    return status_out(rc, &e, error);
}
