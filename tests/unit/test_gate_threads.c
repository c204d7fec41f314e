// SPDX-License-Identifier: MIT
// The gate of long passes: one inside at a time, slices in the order of arrival, and whoever is told to stop leaves the
// line, or its pass, without a trace.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/gate.h"

enum { MANY = 12, SLICES = 200 };

struct walker {
    struct gate *gate;
    atomic_int *inside, *most;
    atomic_bool stop;
    int stop_at; // slice; 0 = never
    int rc, done;
};

static bool stopped(void *user)
{
    return atomic_load(&((struct walker *)user)->stop);
}

static void sleep_us(long us)
{
    struct timespec t = {.tv_nsec = us * 1000};
    nanosleep(&t, NULL);
}

static void *walk(void *user)
{
    struct walker *w = user;
    struct hooks h = {.user = w, .abort = stopped};
    struct gate_pass p;
    struct err e = {0};
    w->rc = gate_enter(w->gate, &p, &h, &e);
    for (int i = 1; w->rc == 0 && i <= SLICES; i++) {
        if (stopped(w)) { // as an operator would find
            w->rc = ERR_ABORT;
            break;
        }
        int n = atomic_fetch_add(w->inside, 1) + 1;
        if (n > atomic_load(w->most))
            atomic_store(w->most, n);
        if (i % 16 == 0)
            sleep_us(50);
        atomic_fetch_sub(w->inside, 1);
        w->done = i;
        if (i == w->stop_at)
            atomic_store(&w->stop, true);
        p.hooks.progress(p.hooks.user, "x", 1, 2);
    }
    gate_leave(&p);
    gate_leave(&p);
    return NULL;
}

static void one_at_a_time(void **state)
{
    struct gate *g;
    struct err e;
    struct walker w[MANY];
    pthread_t t[MANY];
    atomic_int inside = 0, most = 0;
    (void)state;
    assert_int_equal(gate_open(&g, &e), 0);
    for (int i = 0; i < MANY; i++) {
        w[i] = (struct walker){.gate = g, .inside = &inside, .most = &most};
        w[i].stop_at = i % 4 == 1 ? 1 + 7 * i : 0;
        assert_int_equal(pthread_create(&t[i], NULL, walk, &w[i]), 0);
    }
    for (int i = 0; i < MANY; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&most), 1);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(w[i].rc, w[i].stop_at ? ERR_ABORT : 0);
        assert_int_equal(w[i].done, w[i].stop_at ? w[i].stop_at : SLICES);
    }
    gate_close(g);
}

// One holds the gate; another waits until it is told to stop; a third still gets in.
static void told_to_stop_in_line(void **state)
{
    struct gate *g;
    struct err e;
    atomic_int inside = 0, most = 0;
    struct hooks none = {0};
    struct gate_pass p;
    (void)state;
    assert_int_equal(gate_open(&g, &e), 0);
    struct walker w[2];
    pthread_t t[2];
    assert_int_equal(gate_enter(g, &p, &none, &e), 0);
    for (int i = 0; i < 2; i++) {
        w[i] = (struct walker){.gate = g, .inside = &inside, .most = &most};
        assert_int_equal(pthread_create(&t[i], NULL, walk, &w[i]), 0);
    }
    sleep_us(100000);
    atomic_store(&w[0].stop, true);
    pthread_join(t[0], NULL);
    assert_int_equal(w[0].rc, ERR_ABORT);
    assert_int_equal(w[0].done, 0);
    assert_int_equal(w[1].done, 0);
    gate_leave(&p);
    pthread_join(t[1], NULL);
    assert_int_equal(w[1].rc, 0);
    assert_int_equal(w[1].done, SLICES);
    gate_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(told_to_stop_in_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
