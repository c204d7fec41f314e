// SPDX-License-Identifier: MIT
// Stopping at 100 random moments between opening a video and having loaded the saved conversation: every call
// returns within 200 ms, and the session answers afterwards as if never stopped.
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "tempdir.h"

// N_LONG: moments with operators that take long; what is slow under a sanitizer is not the library.
#if defined(__SANITIZE_THREAD__)
enum { N_MOMENT = 20, N_LONG = 0 };
#elif defined(__SANITIZE_ADDRESS__)
enum { N_MOMENT = 100, N_LONG = 0 };
#else
enum { N_MOMENT = 100, N_LONG = 10 };
#endif
enum { LIMIT_MS = 200 };

static struct tempdir dir;
static char path[512];

static double now_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

// The moment, and the processor time that the process had used by then: on a machine busy with
// other work the wall clock says little.
struct alarm {
    double delay_ms, wall_ms, cpu_ms;
    atomic_bool rung;
};

static bool rung(void *user)
{
    struct alarm *a = user;
    return atomic_load(&a->rung);
}

static void *ring(void *user)
{
    struct alarm *a = user;
    struct timespec t = {.tv_sec = (time_t)(a->delay_ms / 1e3)};
    t.tv_nsec = (long)((a->delay_ms - (double)t.tv_sec * 1e3) * 1e6);
    nanosleep(&t, NULL);
    a->wall_ms = now_ms(CLOCK_MONOTONIC);
    a->cpu_ms = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    atomic_store(&a->rung, true);
    return NULL;
}

struct chain {
    iv_engine *engine;
    struct iv_callbacks callbacks;
    iv_media *media;
    iv_session *session;
    const char *at; // the call that is running
    int n_frame;
};

static void report(void *user, const char *line)
{
    (void)user, (void)line;
}

static int open_media(struct chain *c)
{
    struct iv_media_options o = iv_media_options_default();
    o.n_frame = c->n_frame;
    o.callbacks = c->callbacks;
    c->at = "media";
    return iv_media_open_video(c->engine, TEST_ROOT "/fixtures/media/hevc.mp4", &o, &c->media,
                               NULL);
}

static int open_session(struct chain *c)
{
    struct iv_session_options o = iv_session_options_default();
    o.callbacks = c->callbacks;
    c->at = "session";
    return iv_session_open(c->engine, c->media, &o, &c->session, NULL);
}

static int ask_once(struct chain *c)
{
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    o.max_new_tokens = 24;
    o.ignore_eos = true;
    c->at = "ask";
    int rc = iv_session_ask(c->session, "What is this?", &o, &a, NULL);
    iv_answer_free(&a);
    return rc;
}

static int load_again(struct chain *c)
{
    struct iv_session_options o = iv_session_options_default();
    iv_media *m;
    iv_session *s;
    o.callbacks = c->callbacks;
    c->at = "load";
    int rc = iv_session_load(c->engine, path, &o, &m, &s, NULL);
    iv_session_close(s);
    iv_media_close(m);
    return rc;
}

// Everything, in order; whatever it returns, *c holds what was opened.
static int run(struct chain *c)
{
    int rc = open_media(c);
    if (rc == IV_OK)
        rc = open_session(c);
    c->at = "warm";
    if (rc == IV_OK)
        rc = iv_session_warm(c->session, NULL);
    if (rc == IV_OK)
        rc = ask_once(c);
    c->at = "save";
    if (rc == IV_OK)
        rc = iv_session_save(c->session, path, NULL);
    if (rc == IV_OK)
        rc = load_again(c);
    c->at = "verify";
    if (rc == IV_OK)
        rc = iv_engine_verify(c->engine, report, NULL, NULL);
    return rc;
}

static void chain_close(struct chain *c)
{
    iv_session_close(c->session);
    iv_media_close(c->media);
    c->session = NULL;
    c->media = NULL;
}

static void expect_answer(struct chain *c, const struct reply *want)
{
    struct reply r;
    iv_session_reset(c->session);
    ask_fixture(c->session, "Still there?", NULL, &r);
    assert_same_reply(want, &r);
}

// Stops one run after `delay`; false = it had ended before. want NULL = the session is not asked again.
static bool stop_after(struct chain *c, struct alarm *a, double delay, const struct reply *want,
                       double *late)
{
    pthread_t thread;
    a->delay_ms = delay;
    assert_int_equal(pthread_create(&thread, NULL, ring, a), 0);
    int rc = run(c);
    double wall = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    pthread_join(thread, NULL);
    assert_true(rc == IV_OK || rc == IV_ERR_ABORT);
    if (rc == IV_ERR_ABORT) {
        double after = wall - a->wall_ms, used = cpu - a->cpu_ms;
        *late = after < used ? after : used;
        if (*late > LIMIT_MS)
            fail_msg("%s went on for %.0f ms (%.0f ms of processor time)", c->at, after, used);
    }
    atomic_store(&a->rung, false);
    if (c->session && want)
        expect_answer(c, want);
    return rc == IV_ERR_ABORT;
}

static void stops_within_200_ms(const char *model)
{
    static struct alarm a; // outlives a failing test's thread
    struct iv_engine_options eo = engine_fixture_options();
    struct chain c = {.callbacks = {.user = &a, .abort = rung}};
    struct reply want[2];
    uint32_t x = 12345;
    int stopped = 0;
    double latest = 0;
    eo.model = model;
    eo.cache_mib = 64;
    eo.callbacks = c.callbacks;
    double whole[2] = {0};
    for (int i = 0; i < (N_LONG > 0 ? 2 : 1); i++) {
        c.n_frame = i == 0 ? 2 : 20;
        c.engine = engine_fixture_open(&eo);
        double begun = now_ms(CLOCK_MONOTONIC);
        assert_int_equal(run(&c), IV_OK);
        whole[i] = now_ms(CLOCK_MONOTONIC) - begun;
        iv_session_reset(c.session);
        ask_fixture(c.session, "Still there?", NULL, &want[i]);
        chain_close(&c);
        iv_engine_close(c.engine);
    }
    for (int i = 0; i < N_MOMENT; i++) {
        double late = 0;
        int l = i < N_LONG;
        c.n_frame = l ? 20 : 2;
        c.engine = engine_fixture_open(&eo); // an empty cache
        x = x * 1664525u + 1013904223u;
        double begun = now_ms(CLOCK_MONOTONIC);
        if (stop_after(&c, &a, whole[l] * (x >> 8) / (1 << 24), l ? NULL : &want[0], &late))
            stopped++;
        else // quicker than the run before: the next moments must lie within it
            whole[l] = fmin(whole[l], now_ms(CLOCK_MONOTONIC) - begun);
        latest = late > latest ? late : latest;
        chain_close(&c);
        iv_engine_close(c.engine);
    }
    print_message("# %d of %d stopped, the latest after %.1f ms\n", stopped, N_MOMENT, latest);
    assert_true(stopped > N_MOMENT / 2);
}

static void own_model(void **state)
{
    (void)state;
    stops_within_200_ms(engine_fixture_model);
}

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "talk"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(own_model)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
