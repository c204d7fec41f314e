// SPDX-License-Identifier: MIT
// Stopping at random moments (N_MOMENT) between opening a video and having loaded the saved conversation, of whole videos,
// of segments and with beams, with a cache folder: every call returns within 200 ms (in memory, where there is
// room: what a disk takes to save comes on top), and the session answers afterwards as if never stopped.
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "tempdir.h"

// N_LONG: moments with operators that take long; what is slow under a sanitizer is not the library.
#if defined(__SANITIZE_THREAD__)
enum { N_MOMENT = 20, N_LONG = 0 };
#elif defined(__SANITIZE_ADDRESS__)
enum { N_MOMENT = 40, N_LONG = 0 };
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

// How long the threads of this process have stood in line for a processor, all together; 0 = the system does not tell.
static double queued_ms(void)
{
    double sum = 0;
    struct dirent *x;
    DIR *d = opendir("/proc/self/task");
    while (d && (x = readdir(d))) {
        char name[300];
        unsigned long long run = 0, wait = 0;
        snprintf(name, sizeof name, "/proc/self/task/%s/schedstat", x->d_name);
        FILE *f = fopen(name, "r");
        if (f && fscanf(f, "%llu %llu", &run, &wait) == 2)
            sum += (double)wait * 1e-6;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return sum;
}

// The moment, and what the process had got of the processors by then: on a machine busy with other work the wall
// clock says little.
struct alarm {
    double delay_ms, wall_ms, cpu_ms, queue_ms;
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
    a->queue_ms = queued_ms();
    atomic_store(&a->rung, true);
    return NULL;
}

struct chain {
    iv_engine *engine;
    struct iv_callbacks callbacks;
    iv_media *media;
    iv_session *session;
    const char *at; // the call that is running
    int n_frame, num_beams;
    double segment_s;
};

static void report(void *user, const char *line)
{
    (void)user, (void)line;
}

static int open_media(struct chain *c)
{
    struct iv_media_options o = iv_media_options_default();
    o.n_frame = c->n_frame;
    o.segment_s = c->segment_s;
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
    o.num_beams = c->num_beams;
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
    if (rc == IV_OK) {
        c->at = "warm";
        rc = iv_session_warm(c->session, NULL);
    }
    if (rc == IV_OK)
        rc = ask_once(c);
    if (rc == IV_OK) {
        c->at = "save";
        rc = iv_session_save(c->session, path, NULL);
    }
    if (rc == IV_OK)
        rc = load_again(c);
    if (rc == IV_OK) {
        c->at = "verify";
        rc = iv_engine_verify(c->engine, report, NULL, NULL);
    }
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

// Late by the wall clock, without the time in which others had the processors: what is computed counts, and what is
// waited for.
static double lateness(double wall, double used, double queued)
{
    double own = wall - queued;
    return queued_ms() > 0 ? (own > 0 ? own : 0) : wall < used ? wall : used;
}

// Stops one run after `delay`; false = it had ended before.
static bool stop_after(struct chain *c, struct alarm *a, double delay, const struct reply *want,
                       double *late)
{
    pthread_t thread;
    a->delay_ms = delay;
    assert_int_equal(pthread_create(&thread, NULL, ring, a), 0);
    int rc = run(c);
    double wall = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    double queue = queued_ms();
    pthread_join(thread, NULL);
    assert_true(rc == IV_OK || rc == IV_ERR_ABORT);
    if (rc == IV_ERR_ABORT) {
        double after = wall - a->wall_ms, used = cpu - a->cpu_ms, queued = queue - a->queue_ms;
        *late = lateness(after, used, queued);
        if (*late > LIMIT_MS)
            fail_msg("%s went on for %.0f ms (%.0f ms of processor time, %.0f ms in line for it)",
                     c->at, after, used, queued);
    }
    atomic_store(&a->rung, false);
    if (c->session)
        expect_answer(c, want);
    return rc == IV_ERR_ABORT;
}

enum { N_KIND = 4 }; // the first is the long one

static void set_kind(struct chain *c, int kind)
{
    c->n_frame = kind == 0 ? 20 : 2;
    c->segment_s = kind == 2 ? 0.5 : 0;
    c->num_beams = kind == 3 ? 3 : 1;
}

static void stops_within_200_ms(const char *model)
{
    static struct alarm a; // outlives a failing test's thread
    struct iv_engine_options eo = engine_fixture_options();
    struct chain c = {.callbacks = {.user = &a, .abort = rung}};
    struct reply want[N_KIND];
    uint32_t x = 12345;
    int stopped = 0;
    double latest = 0, whole[N_KIND] = {0};
    char folder[600];
    eo.model = model;
    eo.cache_mib = 64;
    eo.callbacks = c.callbacks;
    for (int k = N_LONG > 0 ? 0 : 1; k < N_KIND; k++) {
        set_kind(&c, k);
        c.engine = engine_fixture_open(&eo);
        double begun = now_ms(CLOCK_MONOTONIC);
        assert_int_equal(run(&c), IV_OK);
        whole[k] = now_ms(CLOCK_MONOTONIC) - begun;
        iv_session_reset(c.session);
        ask_fixture(c.session, "Still there?", NULL, &want[k]);
        chain_close(&c);
        iv_engine_close(c.engine);
    }
    for (int i = 0; i < N_MOMENT; i++) {
        double late = 0;
        int k = i < N_LONG ? 0 : 1 + i % (N_KIND - 1);
        set_kind(&c, k);
        snprintf(folder, sizeof folder, "%s/rows%d", dir.path, i); // an empty cache, on disk too
        eo.cache_dir = i % 2 ? folder : NULL;
        c.engine = engine_fixture_open(&eo);
        x = x * 1664525u + 1013904223u;
        double begun = now_ms(CLOCK_MONOTONIC);
        if (stop_after(&c, &a, whole[k] * (x >> 8) / (1 << 24), &want[k], &late))
            stopped++;
        else // quicker than the run before: the next moments must lie within it
            whole[k] = fmin(whole[k], now_ms(CLOCK_MONOTONIC) - begun);
        latest = late > latest ? late : latest;
        chain_close(&c);
        iv_engine_close(c.engine);
    }
    print_message("# %d of %d stopped, the latest after %.1f ms\n", stopped, N_MOMENT, latest);
    assert_true(stopped > N_MOMENT / 2);
}

// A question of megabytes is turned into tokens for seconds.
static void a_long_text_is_stopped(void **state)
{
    enum { LONG = 8 << 20 };
    (void)state;
    static struct alarm a;
    struct iv_engine_options eo = engine_fixture_options();
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer answer;
    struct iv_error e;
    struct reply r;
    pthread_t thread;
    iv_engine *engine = engine_fixture_open(&eo);
    char *text = malloc(LONG + 1);
    assert_non_null(text);
    for (size_t i = 0; i < LONG; i++)
        text[i] = "the quick brown fox "[i % 20];
    text[LONG] = 0;
    o.callbacks = (struct iv_callbacks){.user = &a, .abort = rung};
    iv_session *s = session_fixture(engine, NULL, &o);
    a.delay_ms = 60;
    assert_int_equal(pthread_create(&thread, NULL, ring, &a), 0);
    int rc = iv_session_ask(s, text, &ask, &answer, &e);
    double wall = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    double queue = queued_ms();
    pthread_join(thread, NULL);
    assert_int_equal(rc, IV_ERR_ABORT);
    assert_true(lateness(wall - a.wall_ms, cpu - a.cpu_ms, queue - a.queue_ms) < LIMIT_MS);
    atomic_store(&a.rung, false);
    ask_fixture(s, "Still there?", NULL, &r);
    iv_session_close(s);
    iv_engine_close(engine);
    free(text);
}

// Waiting without using the processor counts too.
static void waiting_is_late(void **state)
{
    (void)state;
    if (queued_ms() <= 0) {
        print_message("SKIP the system does not tell how long threads stood in line\n");
        skip();
    }
    double wall = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID),
           queue = queued_ms();
    nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    double late = lateness(now_ms(CLOCK_MONOTONIC) - wall, now_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu,
                           queued_ms() - queue);
    assert_true(late > LIMIT_MS);
}

static void own_model(void **state)
{
    (void)state;
    stops_within_200_ms(engine_fixture_model);
}

static int setup(void **state)
{
    (void)state;
    tempdir_make_in_memory(&dir);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(waiting_is_late),
                                       cmocka_unit_test(a_long_text_is_stopped),
                                       cmocka_unit_test(own_model)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
