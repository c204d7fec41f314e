// SPDX-License-Identifier: MIT
// The server's queue under many threads: every job runs at most once, ends once and is dropped once; cancelled,
// refused, late and abandoned ones included. Meant for ThreadSanitizer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "heap.h"
#include "jobs.h"

enum { MAKERS = 8, JOBS = 150 };

static atomic_int n_run, n_drop, n_busy;

struct count {
    struct job job;
    unsigned kind;
};

static void run(struct job *j)
{
    struct count *c = (struct count *)(void *)j;
    (void)atomic_fetch_add(&n_run, 1);
    job_progress(j, "work", 1, 2);
    job_settle(j);
    for (int i = 0; i < 20 && !job_stopped(j); i++)
        job_write(j, "0123456789", 10);
    if (c->kind == 3) { // until nobody wants it
        while (!job_stopped(j))
            job_progress(j, "wait", 0, 0);
    }
}

static void drop(struct job *j)
{
    (void)atomic_fetch_add(&n_drop, 1);
    heap_free(j);
}

static void follow(struct job *j, unsigned kind)
{
    struct job_view view = {0};
    char to[64];
    size_t got = 0;
    int rounds = 0;
    do {
        got += job_read(j, to, sizeof to, 2000, true, &view);
        if (kind == 2 || (kind == 3 && ++rounds > 2))
            job_cancel(j);
    } while (view.state != JOB_DONE);
    if (kind == 0)
        assert_int_equal(got, 200);
}

static void *maker(void *arg)
{
    struct queue *q = arg;
    for (unsigned i = 0; i < JOBS; i++) {
        struct count *c = heap_calloc(1, sizeof *c);
        c->kind = i % 5;
        if (job_init(&c->job, run, drop) != 0)
            return "init";
        if (c->kind == 4)
            c->job.deadline_ns = clock_now_ns();
        if (queue_submit(q, &c->job) != 0)
            (void)atomic_fetch_add(&n_busy, 1);
        else if (c->kind != 1) // 1: the maker leaves at once
            follow(&c->job, c->kind);
        else
            job_cancel(&c->job);
        job_release(&c->job);
    }
    return NULL;
}

static void test_crowd(void **state)
{
    pthread_t thread[MAKERS];
    struct queue *q = queue_open(3, 4);
    (void)state;
    assert_non_null(q);
    for (size_t i = 0; i < MAKERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, maker, q), 0);
    for (size_t i = 0; i < MAKERS; i++) {
        void *failed;
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        assert_null(failed);
    }
    queue_drain(q, 5000);
    assert_int_equal(queue_load_of(q).running + queue_load_of(q).waiting, 0);
    struct count *late = heap_calloc(1, sizeof *late);
    assert_int_equal(job_init(&late->job, run, drop), 0);
    assert_int_equal(queue_submit(q, &late->job), QUEUE_CLOSING);
    job_release(&late->job);
    queue_stop(q);
    queue_free(q);
    assert_int_equal(atomic_load(&n_drop), MAKERS * JOBS + 1);
    assert_true(atomic_load(&n_run) + atomic_load(&n_busy) <= MAKERS * JOBS);
    assert_true(atomic_load(&n_run) > 100);
}

// What runs and what waits ends when the queue stops.
static void test_stop(void **state)
{
    struct count *c[5];
    struct queue *q = queue_open(2, 10);
    int before = atomic_load(&n_drop);
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        c[i] = heap_calloc(1, sizeof *c[i]);
        c[i]->kind = 3;
        assert_int_equal(job_init(&c[i]->job, run, drop), 0);
        assert_int_equal(queue_submit(q, &c[i]->job), 0);
    }
    queue_stop(q);
    for (size_t i = 0; i < 5; i++) {
        struct job_view view;
        (void)job_read(&c[i]->job, NULL, 0, 0, true, &view);
        assert_int_equal(view.state, JOB_DONE);
        job_release(&c[i]->job);
    }
    queue_free(q);
    assert_int_equal(atomic_load(&n_drop) - before, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
