// SPDX-License-Identifier: MIT
// The thread pool: every task once, threads told apart, several callers, sleep and wake-up, clean end;
// and how many processors there are, from made-up cgroup trees.
#define _GNU_SOURCE // pthread_getattr_np
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu_count.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/thread.h"

enum { N_TASK = 1000 };

struct batch {
    _Atomic int runs[N_TASK];
    _Atomic int busy[POOL_MAX_THREADS];
    _Atomic int clashes, bad_thread;
    unsigned n_threads;
    int plain[N_TASK]; // without atomics: what a task writes is seen after the batch
};

static void count_task(void *ctx, size_t task, unsigned thread)
{
    struct batch *b = ctx;
    if (thread >= b->n_threads) {
        atomic_fetch_add(&b->bad_thread, 1);
        return;
    }
    if (atomic_fetch_add(&b->busy[thread], 1) != 0)
        atomic_fetch_add(&b->clashes, 1);
    atomic_fetch_add(&b->runs[task], 1);
    b->plain[task]++;
    if (task % 64 == 0)
        sched_yield();
    atomic_fetch_sub(&b->busy[thread], 1);
}

static void check_batch(const struct batch *b, size_t n_task, int times)
{
    assert_int_equal(b->clashes, 0);
    assert_int_equal(b->bad_thread, 0);
    for (size_t i = 0; i < N_TASK; i++) {
        assert_int_equal(b->runs[i], i < n_task ? times : 0);
        assert_int_equal(b->plain[i], i < n_task ? times : 0);
    }
}

static void every_task_once(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 7, N_TASK};
    for (unsigned n = 1; n <= 6; n++) {
        struct pool *p;
        struct err e;
        assert_int_equal(pool_open(n, &p, &e), 0);
        assert_int_equal(pool_threads(p), n);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct batch *b = mem_calloc(1, sizeof *b);
            b->n_threads = n;
            for (int i = 0; i < 20; i++)
                pool_run(p, count_task, b, sizes[s]);
            check_batch(b, sizes[s], 20);
            mem_free(b);
        }
        pool_close(p);
    }
}

static void null_is_the_caller(void **state)
{
    (void)state;
    struct batch *b = mem_calloc(1, sizeof *b);
    b->n_threads = 1;
    assert_int_equal(pool_threads(NULL), 1);
    pool_run(NULL, count_task, b, 10);
    check_batch(b, 10, 1);
    mem_free(b);
    pool_close(NULL);
}

// Two tasks that wait for each other: they end only if two threads run them.
static void meet(void *ctx, size_t task, unsigned thread)
{
    (void)task;
    (void)thread;
    _Atomic int *here = ctx;
    atomic_fetch_add(here, 1);
    while (atomic_load(here) % 2 != 0)
        sched_yield();
}

static void sleepers_wake(void **state)
{
    (void)state;
    struct pool *p;
    assert_int_equal(pool_open(2, &p, NULL), 0);
    for (int i = 0; i < 50; i++) {
        _Atomic int here = 0;
        if (i % 10 == 0) // long enough for the worker to fall asleep
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        pool_run(p, meet, &here, 2);
        assert_int_equal(here, 2);
    }
    pool_close(p);
}

struct caller {
    struct pool *pool;
    struct batch *batch;
    pthread_t thread;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 100; i++)
        pool_run(c->pool, count_task, c->batch, 37);
    return NULL;
}

static void several_callers(void **state)
{
    (void)state;
    struct caller c[4];
    struct pool *p;
    assert_int_equal(pool_open(3, &p, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        c[i].pool = p;
        c[i].batch = mem_calloc(1, sizeof *c[i].batch);
        c[i].batch->n_threads = 3;
        assert_int_equal(pthread_create(&c[i].thread, NULL, call_often, &c[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(c[i].thread, NULL);
        check_batch(c[i].batch, 37, 100);
        mem_free(c[i].batch);
    }
    pool_close(p);
}

// A batch that ends only when another caller's batch has ended.
struct pair {
    struct pool *pool;
    struct batch *batch;
    _Atomic int begun, ended;
};

static void await_other(void *ctx, size_t task, unsigned thread)
{
    struct pair *p = ctx;
    (void)task;
    (void)thread;
    atomic_fetch_add(&p->begun, 1);
    while (!atomic_load(&p->ended))
        sched_yield();
}

static void *run_second(void *arg)
{
    struct pair *p = arg;
    while (atomic_load(&p->begun) < 2) // every thread of the pool is taken
        sched_yield();
    pool_run(p->pool, count_task, p->batch, 100);
    atomic_store(&p->ended, 1);
    return NULL;
}

static void a_busy_pool_keeps_nobody(void **state)
{
    (void)state;
    struct pair p = {.batch = mem_calloc(1, sizeof *p.batch)};
    pthread_t second;
    p.batch->n_threads = 1; // the second caller is alone
    assert_int_equal(pool_open(2, &p.pool, NULL), 0);
    assert_int_equal(pthread_create(&second, NULL, run_second, &p), 0);
    pool_run(p.pool, await_other, &p, 2);
    pthread_join(second, NULL);
    check_batch(p.batch, 100, 1);
    mem_free(p.batch);
    pool_close(p.pool);
}

struct mask_seen {
    _Atomic int here;
    int blocked[2];
};

static void look_at_mask(void *ctx, size_t task, unsigned thread)
{
    struct mask_seen *m = ctx;
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    m->blocked[thread] = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGTERM) == 1;
    meet(&m->here, task, thread);
}

static void workers_block_signals(void **state)
{
    (void)state;
    struct pool *p;
    struct mask_seen m = {0};
    assert_int_equal(pool_open(2, &p, NULL), 0);
    pool_run(p, look_at_mask, &m, 2);
    assert_int_equal(m.blocked[0], 0);
    assert_int_equal(m.blocked[1], 1);
    pool_close(p);
}

struct room_seen {
    _Atomic int here;
    size_t stack[2];
};

static void look_at_room(void *ctx, size_t task, unsigned thread)
{
    struct room_seen *r = ctx;
    pthread_attr_t a;
    if (pthread_getattr_np(pthread_self(), &a) == 0) {
        (void)pthread_attr_getstacksize(&a, &r->stack[thread]);
        (void)pthread_attr_destroy(&a);
    }
    meet(&r->here, task, thread);
}

// Where the system's threads have less, as musl's.
static void workers_have_room(void **state)
{
    (void)state;
    struct pool *p;
    struct room_seen r = {0};
#ifdef __GLIBC__
    pthread_attr_t old, small;
    assert_int_equal(pthread_getattr_default_np(&old), 0);
    assert_int_equal(pthread_getattr_default_np(&small), 0);
    assert_int_equal(pthread_attr_setstacksize(&small, THREAD_STACK / 4), 0);
    assert_int_equal(pthread_setattr_default_np(&small), 0);
#endif
    int rc = pool_open(2, &p, NULL);
#ifdef __GLIBC__
    (void)pthread_setattr_default_np(&old);
    (void)pthread_attr_destroy(&small);
    (void)pthread_attr_destroy(&old);
#endif
    assert_int_equal(rc, 0);
    pool_run(p, look_at_room, &r, 2);
    assert_true(r.stack[1] >= THREAD_STACK);
    pool_close(p);
}

static void refuses(void **state)
{
    (void)state;
    struct err e;
    struct pool *p = (struct pool *)&e;
    assert_int_equal(pool_open(POOL_MAX_THREADS + 1, &p, &e), ERR_USAGE);
    assert_null(p);
    assert_non_null(strstr(e.msg, "1025"));
    // two blocks are allocated once the processors are counted, which takes one or more
    int failures = 0;
    for (uint64_t k = 1; k <= 10; k++) {
        mem_fail_after(k);
        int rc = pool_open(2, &p, &e);
        mem_fail_after(0);
        if (rc == 0) {
            assert_int_equal(pool_threads(p), 2);
            pool_close(p);
        } else {
            assert_int_equal(rc, ERR_LIMIT);
            assert_null(p);
            failures++;
        }
    }
    assert_int_equal(failures, 2);
}

static void count_is_within_affinity(void **state)
{
    (void)state;
    struct pool *p;
    unsigned n = cpu_count();
    long online = sysconf(_SC_NPROCESSORS_CONF);
    assert_true(n >= 1 && n <= (unsigned)online);
    assert_int_equal(pool_open(0, &p, NULL), 0);
    assert_int_equal(pool_threads(p), n);
    pool_close(p);
}

// ---- cgroup trees in a scratch directory

static char scratch[256];

static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    for (char *s = path + strlen(scratch) + 1; (s = strchr(s, '/')) != NULL; s++) {
        *s = 0;
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *s = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

static double quota(const char *proc_text)
{
    char proc[512], root[512];
    put("proc", proc_text);
    snprintf(proc, sizeof proc, "%s/proc", scratch);
    snprintf(root, sizeof root, "%s/fs", scratch);
    return cpu_quota(proc, root);
}

static int make_scratch(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/test_pool.XXXXXX", tmp ? tmp : P_tmpdir);
    return mkdtemp(scratch) ? 0 : -1;
}

static int drop_scratch(void **state)
{
    (void)state;
    static const char *const names[] = {"fs/a/b/cpu.max",
                                        "fs/a/cpu.max",
                                        "fs/cpu.max",
                                        "fs/bad/cpu.max",
                                        "fs/cpu/j/cpu.cfs_quota_us",
                                        "fs/cpu/j/cpu.cfs_period_us",
                                        "fs/cpu/cpu.cfs_quota_us",
                                        "fs/cpu/cpu.cfs_period_us",
                                        "proc",
                                        "fs/a/b",
                                        "fs/a",
                                        "fs/bad",
                                        "fs/cpu/j",
                                        "fs/cpu",
                                        "fs",
                                        ""};
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch, names[i]);
        (void)remove(path);
    }
    return 0;
}

static void near(double got, double want)
{
    assert_true(got > want - 1e-9 && got < want + 1e-9);
}

static void quota_of_version_2(void **state)
{
    (void)state;
    near(quota("0::/a/b\n"), 0); // no tree at all
    put("fs/a/b/cpu.max", "max 100000\n");
    near(quota("0::/a/b\n"), 0);
    put("fs/a/cpu.max", "150000 100000\n"); // the parent's
    near(quota("0::/a/b\n"), 1.5);
    put("fs/a/b/cpu.max", "400000 100000\n"); // looser than the parent's
    near(quota("0::/a/b\n"), 1.5);
    near(quota("0::/a/b/missing\n"), 1.5);
    put("fs/cpu.max", "50000 100000\n"); // the root, as in a container
    near(quota("0::/\n"), 0.5);
    near(quota("0::/nowhere\n"), 0.5);
    put("fs/cpu.max", "max 100000\n");
    put("fs/bad/cpu.max", "rubbish\n");
    near(quota("0::/bad\n"), 0);
    put("fs/bad/cpu.max", "100000 0\n");
    near(quota("0::/bad\n"), 0);
    near(quota("no colons\n\n::\n"), 0);
}

static void quota_of_version_1(void **state)
{
    (void)state;
    put("fs/cpu/j/cpu.cfs_quota_us", "-1\n");
    put("fs/cpu/j/cpu.cfs_period_us", "100000\n");
    near(quota("3:cpuset:/\n2:cpu,cpuacct:/j\n0::/\n"), 0);
    put("fs/cpu/j/cpu.cfs_quota_us", "250000\n");
    near(quota("3:cpuset:/\n2:cpu,cpuacct:/j\n0::/\n"), 2.5);
    near(quota("2:cpuacct,cpu:/j\n"), 2.5);
    near(quota("2:cpuacct:/j\n"), 0);
    put("fs/cpu/cpu.cfs_quota_us", "100000\n");
    put("fs/cpu/cpu.cfs_period_us", "100000\n");
    near(quota("2:cpu:/j\n"), 1);
    char missing[512];
    snprintf(missing, sizeof missing, "%s/none", scratch);
    near(cpu_quota(missing, scratch), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_once),
        cmocka_unit_test(null_is_the_caller),
        cmocka_unit_test(sleepers_wake),
        cmocka_unit_test(several_callers),
        cmocka_unit_test(a_busy_pool_keeps_nobody),
        cmocka_unit_test(workers_block_signals),
        cmocka_unit_test(workers_have_room),
        cmocka_unit_test(refuses),
        cmocka_unit_test(count_is_within_affinity),
        cmocka_unit_test_setup_teardown(quota_of_version_2, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(quota_of_version_1, make_scratch, drop_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
