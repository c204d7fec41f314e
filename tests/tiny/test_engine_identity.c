// SPDX-License-Identifier: MIT
// The identity of a model: what it sees, that it stops when asked to, and that nobody waits for another's.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "engine/identity.h"
#include "engine_fixture.h"

static const struct hooks none;

static void anew(iv_engine *g, uint8_t digest[SHA256_BYTES])
{
    struct err e = {0};
    identity_close(g->identity);
    if (identity_open(&g->identity, &e) != 0 || engine_identity(g, &none, digest, &e) != 0)
        fail_msg("%s", e.msg);
}

// Whether another bit at this place of t makes another identity. The mapping is private: no file changes.
static bool seen(iv_engine *g, const struct tensor *t, size_t at)
{
    uint8_t before[SHA256_BYTES], after[SHA256_BYTES];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    char *byte = (char *)(uintptr_t)t->data + at;
    void *start = (void *)((uintptr_t)byte / page * page);
    anew(g, before);
    assert_int_equal(mprotect(start, page, PROT_READ | PROT_WRITE), 0);
    *byte ^= 1;
    anew(g, after);
    *byte ^= 1;
    return memcmp(before, after, sizeof before) != 0;
}

static const struct tensor *largest(const iv_engine *g)
{
    const struct tensor *best = weights_at(g->model.weights, 0);
    for (size_t i = 1; i < weights_count(g->model.weights); i++)
        if (weights_at(g->model.weights, i)->bytes > best->bytes)
            best = weights_at(g->model.weights, i);
    return best;
}

static void samples(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&o);
    const struct tensor *t = largest(g), *small = weights_at(g->model.weights, 0);
    for (size_t i = 0; i < weights_count(g->model.weights); i++)
        if (weights_at(g->model.weights, i)->bytes < small->bytes)
            small = weights_at(g->model.weights, i);
    assert_true(t->bytes > 5 * 4096 && small->bytes <= 3 * 4096);
    assert_true(seen(g, t, 0) && seen(g, t, t->bytes - 1) && seen(g, t, t->bytes / 2));
    assert_true(seen(g, small, 0) && seen(g, small, small->bytes - 1));
    assert_false(seen(g, t, 4096)); // behind the first sample
    iv_engine_close(g);
}

static void every_mebibyte(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    o.model = engine_fixture_golden();
    if (!o.model)
        skip();
    iv_engine *g = engine_fixture_open(&o);
    const struct tensor *t = largest(g);
    assert_true(t->bytes > 3 << 20);
    for (size_t at = 1 << 19; at < t->bytes / (1 << 20) << 20; at += 1 << 20)
        assert_true(seen(g, t, at));
    iv_engine_close(g);
}

static bool count_down(void *user)
{
    return (*(int *)user)-- <= 0;
}

static void stops(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&o);
    int left = 100;
    struct hooks hooks = {.user = &left, .abort = count_down};
    uint8_t digest[SHA256_BYTES], whole[SHA256_BYTES];
    struct err e = {0};
    assert_int_equal(engine_identity(g, &hooks, digest, &e), ERR_ABORT);
    assert_int_equal(left, -1); // asked often enough, and not again
    assert_int_equal(engine_identity(g, &none, digest, &e), 0);
    anew(g, whole);
    assert_memory_equal(digest, whole, sizeof whole);
    left = 0; // known now: nothing to stop
    assert_int_equal(engine_identity(g, &hooks, digest, &e), 0);
    iv_engine_close(g);
}

// ---- one that stands still

struct reader {
    const iv_engine *engine;
    atomic_bool inside, go;
    int rc;
};

static bool wait_inside(void *user)
{
    struct reader *r = user;
    atomic_store(&r->inside, true);
    for (int ms = 0; ms < 20000 && !atomic_load(&r->go); ms++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return !atomic_load(&r->go); // nobody came by
}

static void *read_slowly(void *arg)
{
    struct reader *r = arg;
    uint8_t digest[SHA256_BYTES];
    struct hooks hooks = {.user = r, .abort = wait_inside};
    r->rc = engine_identity(r->engine, &hooks, digest, NULL);
    return NULL;
}

static void nobody_waits(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&o);
    struct reader r = {.engine = g};
    uint8_t digest[SHA256_BYTES];
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &r), 0);
    while (!atomic_load(&r.inside))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(engine_identity(g, &none, digest, NULL), 0);
    atomic_store(&r.go, true);
    pthread_join(thread, NULL);
    assert_int_equal(r.rc, 0);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples),
        cmocka_unit_test(every_mebibyte),
        cmocka_unit_test(stops),
        cmocka_unit_test(nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
