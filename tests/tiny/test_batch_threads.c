// SPDX-License-Identifier: MIT
// Conversations that decode together: each must answer, to the last bit of every step's logits, as it does alone, whoever
// else comes, goes, is stopped or dawdles.
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

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine_fixture.h"
#include "gpu/gpu.h"

enum { MANY = 70, MOST_NEW = 48 }; // MANY: more than one pass takes

// BATCH_DEVICE=cuda:0: on a GPU, or where one is emulated; fewer talks then, of fewer words.
static const char *device(void)
{
    const char *d = getenv("BATCH_DEVICE");
    return d && *d ? d : "cpu";
}

static bool on_cpu(void)
{
    return strcmp(device(), "cpu") == 0;
}

static struct iv_engine_options device_options(void)
{
    struct iv_engine_options o = engine_fixture_options();
    o.device = device();
    return o;
}

// Of tiny models too.
static iv_engine *open_joining(const struct iv_engine_options *o)
{
    iv_engine *g = engine_fixture_open(o);
    batch_join_always(g->batch);
    return g;
}

struct talk {
    iv_engine *engine;
    iv_media *media;
    unsigned number;
    int n_new, delay_ms;
    double temperature;
    int num_beams, dawdle_ms; // dawdle: between two tokens
    int stop_after;           // tokens; 0 = never
    bool fresh;               // without the caches
    atomic_bool stop;
    atomic_int *running, *done; // talks that have begun to answer, and ended; may be NULL
    int wait_for;               // with the second token until so many are done
    int begin_with;             // with the first token until so many are running
    // out
    int rc;
    size_t n_token;
    uint64_t every; // all logits of all steps
    struct reply reply;
    double stop_ms;
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void sleep_ms(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void await_count(const atomic_int *count, int n)
{
    for (int i = 0; i < 60000 && atomic_load(count) < n; i++)
        sleep_ms(1);
}

static void note(void *user, int32_t id, const float *logits, size_t n)
{
    struct talk *t = user;
    uint64_t h = t->every ^ (uint64_t)(uint32_t)id;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        h = (h ^ bits) * 1099511628211u;
    }
    t->every = h;
    t->n_token++;
    if (t->running && t->n_token == 1)
        atomic_fetch_add(t->running, 1);
    if (t->dawdle_ms > 0)
        sleep_ms(t->dawdle_ms);
    if (t->n_token == 1 && t->begin_with > 0)
        await_count(t->running, t->begin_with);
    if (t->n_token == 2 && t->wait_for > 0)
        await_count(t->done, t->wait_for);
    if (t->stop_after > 0 && t->n_token == (size_t)t->stop_after) {
        t->stop_ms = now_ms();
        atomic_store(&t->stop, true);
    }
}

static bool stopped(void *user)
{
    struct talk *t = user;
    return atomic_load(&t->stop);
}

static struct iv_ask_options options_of(struct talk *t)
{
    struct iv_ask_options o = iv_ask_options_default();
    o.max_new_tokens = t->n_new;
    o.ignore_eos = true;
    o.temperature = t->temperature;
    o.seed = 77 + t->number;
    o.num_beams = t->num_beams ? t->num_beams : 1;
    o.user = t;
    o.token = t->num_beams > 1 ? NULL : note;
    return o;
}

static void *talk_run(void *user)
{
    struct talk *t = user;
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options o = options_of(t);
    struct iv_answer a;
    iv_session *s;
    char question[200];
    // of different lengths, so that no two are at the same position
    snprintf(question, sizeof question, "Question %u: %.*s?", t->number, (int)(t->number * 3 % 100),
             "what is she doing with her hands and what colour is the thing on the table beside "
             "the window of "
             "the room");
    so.callbacks.user = t;
    so.callbacks.abort = stopped;
    so.keep_cache = !t->fresh;
    sleep_ms(t->delay_ms);
    t->every = 14695981039346656037u;
    t->n_token = 0;
    t->rc = iv_session_open(t->engine, t->media, &so, &s, NULL);
    if (t->rc != IV_OK)
        return NULL;
    t->rc = iv_session_ask(s, question, &o, &a, NULL);
    if (t->stop_after > 0)
        t->stop_ms = now_ms() - t->stop_ms;
    if (t->rc == IV_OK) {
        t->reply.n = a.n_token;
        t->reply.hash = a.logits_hash;
        t->reply.cached = a.cached_tokens;
        snprintf(t->reply.text, sizeof t->reply.text, "%s", a.text);
        iv_answer_free(&a);
    }
    iv_session_close(s);
    if (t->done)
        atomic_fetch_add(t->done, 1);
    return NULL;
}

static void run_together(struct talk *t, size_t n)
{
    pthread_t thread[MANY];
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, talk_run, &t[i]), 0);
    for (size_t i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
}

static void assert_same_talk(const struct talk *alone, const struct talk *beside)
{
    assert_int_equal(alone->rc, IV_OK);
    assert_int_equal(beside->rc, IV_OK);
    assert_int_equal(alone->n_token, beside->n_token);
    assert_true(alone->every == beside->every);
    assert_true(alone->reply.hash == beside->reply.hash);
    assert_string_equal(alone->reply.text, beside->reply.text);
}

// Talk i of a crowd, with nothing but what its answer hangs on.
static struct talk talk_of(iv_engine *g, iv_media *m, unsigned i)
{
    return (struct talk){.engine = g,
                         .media = i % 3 == 2 ? NULL : m,
                         .number = i,
                         .n_new = on_cpu() ? 8 + (int)(i * 7 % (MOST_NEW - 8)) : 5 + (int)(i % 3),
                         .temperature = i % 2 ? 0.8 : 0};
}

static void alone(struct talk *t, iv_engine *g, iv_media *m, size_t n)
{
    for (unsigned i = 0; i < n; i++) {
        t[i] = talk_of(g, m, i);
        talk_run(&t[i]);
    }
}

static void crowd(const char *dtype, const char *cpu, bool see, size_t n, int rounds)
{
    static struct talk ref[MANY], t[MANY];
    struct iv_engine_options o = device_options();
    o.dtype = dtype;
    o.cpu = cpu;
    iv_engine *g = open_joining(&o);
    iv_media *m = see ? media_fixture_noise(g, 5) : NULL;
    uint32_t x = 9;
    alone(ref, g, m, n);
    assert_int_equal(batch_counts(g->batch).n_pass, 0); // whoever is alone needs nobody
    for (int round = 0; round < rounds; round++) {
        atomic_int running = 0;
        for (unsigned i = 0; i < n; i++) {
            t[i] = talk_of(g, m, i);
            t[i].running = &running;
            t[i].begin_with = round == 0 ? (int)n : 0;
            x = x * 1664525u + 1013904223u;
            t[i].delay_ms = round == 0 ? 0 : (int)(x >> 24) % 40;
            t[i].dawdle_ms = round > 0 && i % 7 == 3 ? 2 : 0;
        }
        run_together(t, n);
        for (size_t i = 0; i < n; i++)
            assert_same_talk(&ref[i], &t[i]);
    }
    struct batch_counts c = batch_counts(g->batch);
    print_message("%zu conversations: %llu passes for %llu rows, at most %zu at once\n", n,
                  (unsigned long long)c.n_pass, (unsigned long long)c.n_row, c.most);
    assert_true(c.n_row > c.n_pass); // how many meet hangs on the machine's mood
    assert_true(c.most > n / 2);
    iv_media_close(m);
    iv_engine_close(g);
}

static void test_five(void **state)
{
    (void)state;
    crowd("bf16", NULL, true, 5, 1);
    crowd("f32", NULL, on_cpu(), 5, 1); // to see in f32 takes an emulated one half a minute
}

static void test_eight(void **state)
{
    (void)state;
    crowd("bf16", NULL, true, 8, 3);
}

static void test_eight_f32(void **state)
{
    (void)state;
    crowd("f32", NULL, true, 8, 2);
}

// More rows than the kernels for few rows take at once.
static void test_nineteen(void **state)
{
    (void)state;
    crowd("bf16", NULL, true, 19, 2);
    crowd("f32", NULL, true, 19, 1);
}

static void test_more_than_a_pass_takes(void **state)
{
    (void)state;
    crowd("bf16", NULL, true, MANY, 1);
}

// Every third is stopped; the others notice nothing, and beams among them decode for themselves.
static void test_stopped_neighbours(void **state)
{
    static struct talk ref[12], t[12];
    struct iv_engine_options o = device_options();
    iv_engine *g = open_joining(&o);
    iv_media *m = media_fixture_noise(g, 6);
    double worst = 0;
    unsigned n = on_cpu() ? 12 : 6;
    (void)state;
    for (unsigned i = 0; i < n; i++) {
        ref[i] = talk_of(g, m, i);
        ref[i].num_beams = i % 6 == 5 ? 3 : 1;
        talk_run(&ref[i]);
    }
    for (int round = 0; round < (on_cpu() ? 6 : 2); round++) {
        for (unsigned i = 0; i < n; i++) {
            t[i] = talk_of(g, m, i);
            t[i].num_beams = ref[i].num_beams;
            t[i].stop_after = i % 3 == 0 ? 1 + (round + (int)i) % (on_cpu() ? 7 : 4) : 0;
        }
        run_together(t, n);
        for (unsigned i = 0; i < n; i++) {
            if (t[i].stop_after == 0) {
                assert_same_talk(&ref[i], &t[i]);
                continue;
            }
            assert_int_equal(t[i].rc, IV_ERR_ABORT);
            worst = t[i].stop_ms > worst ? t[i].stop_ms : worst;
        }
    }
    print_message("stopped within %.1f ms\n", worst);
    if (on_cpu())                  // an emulated one is slow
        assert_true(worst < 2000); // of the wall clock, on a machine with other work
    iv_media_close(m);
    iv_engine_close(g);
}

// One holds its answer up until all others have ended.
static void test_nobody_waits_for_a_sleeper(void **state)
{
    static struct talk ref[6], t[6];
    struct iv_engine_options o = device_options();
    iv_engine *g = open_joining(&o);
    iv_media *m = media_fixture_noise(g, 7);
    atomic_int done = 0, running = 0;
    (void)state;
    alone(ref, g, m, 6);
    for (unsigned i = 0; i < 6; i++) {
        t[i] = talk_of(g, m, i);
        t[i].done = &done;
        t[i].running = &running;
        t[i].wait_for = i == 0 ? 5 : 0;
    }
    double start = now_ms();
    run_together(t, 6);
    assert_true(now_ms() - start < 50000); // else it was woken by its own patience
    for (size_t i = 0; i < 6; i++)
        assert_same_talk(&ref[i], &t[i]);
    iv_media_close(m);
    iv_engine_close(g);
}

// Five ask about one video at the same time: one computes its positions, the others take them over; three of other
// media and without a cache do not.
static void test_one_video_is_computed_once(void **state)
{
    static struct talk ref[8], t[8];
    struct iv_engine_options o = device_options();
    iv_engine *g = open_joining(&o);
    iv_media *m = media_fixture_noise(g, 8), *other = media_fixture_noise(g, 9);
    (void)state;
    for (int round = 0; round < 3; round++) {
        atomic_int running = 0;
        for (unsigned i = 0; i < 8; i++) {
            t[i] = talk_of(g, i < 5 ? m : other, i);
            t[i].media = i == 7 ? NULL : i < 5 ? m : other;
            t[i].fresh = i == 6;
            t[i].stop_after = round == 1 && i % 2 == 0 ? 1 : 0;
            if (round == 0) {
                talk_run(&t[i]);
                ref[i] = t[i];
                assert_int_equal(ref[i].reply.cached, 0);
                continue;
            }
            t[i].running = &running;
            t[i].begin_with = 8;
        }
        if (round == 0)
            continue;
        run_together(t, 8);
        size_t cached = 0;
        for (size_t i = 0; i < 8; i++) {
            if (t[i].stop_after == 0)
                assert_same_talk(&ref[i], &t[i]);
            cached += t[i].reply.cached > 0;
        }
        assert_int_equal(t[6].reply.cached + t[7].reply.cached, 0);
        if (round == 2)
            assert_int_equal(cached, 4);
    }
    iv_media_close(m);
    iv_media_close(other);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest few[] = {
        cmocka_unit_test(test_five),
        cmocka_unit_test(test_stopped_neighbours),
        cmocka_unit_test(test_one_video_is_computed_once),
    };
    struct err e;
    if (!on_cpu() && gpu_probe(0, &e) != 0) {
        printf("1..0 # SKIP %s\n", e.msg);
        return 77;
    }
    if (!on_cpu())
        return cmocka_run_group_tests(few, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eight),
        cmocka_unit_test(test_eight_f32),
        cmocka_unit_test(test_nineteen),
        cmocka_unit_test(test_more_than_a_pass_takes),
        cmocka_unit_test(test_stopped_neighbours),
        cmocka_unit_test(test_nobody_waits_for_a_sleeper),
        cmocka_unit_test(test_one_video_is_computed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
