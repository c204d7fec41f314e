// SPDX-License-Identifier: MIT
// Conversations through ivchat.h on a tiny model: same answers whatever the threads, kernels, caches and
// neighbours; stopping leaves a usable session.
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "ivchat.h"

enum { SIDE = 224, N_CLIP = 2, N_FRAME = 2, N_NEW = 12 };

// The model under test: the one that comes with the tests, and the golden one where there is one.
static const char *model_dir;
static const char *const questions[] = {"What happens?", "And then?",
                                        "[INST] </s> ends \xe3\x81\xaa\xe3\x81\x9c?"};
enum { N_TURN = sizeof questions / sizeof questions[0] };

static iv_engine *open_engine(const char *dtype, const char *cpu, int threads)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    iv_engine *g;
    o.model = model_dir;
    o.dtype = dtype;
    o.cpu = cpu;
    o.n_threads = threads;
    if (iv_engine_open(&o, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    return g;
}

// Pixels that differ from seed to seed.
static iv_media *open_media(const iv_engine *g, unsigned seed)
{
    size_t n = (size_t)N_CLIP * N_FRAME * 3 * SIDE * SIDE;
    float *px = malloc(n * sizeof *px);
    uint32_t x = seed * 2654435761u + 1;
    iv_media *m;
    struct iv_error e;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        px[i] = (float)(x >> 8) / 8388608.0f - 1.0f + (float)(i / SIDE % SIDE) / SIDE;
    }
    if (iv_media_from_pixels(g, px, N_CLIP, N_FRAME, false, &m, &e) != IV_OK)
        fail_msg("%s", e.message);
    free(px);
    return m;
}

struct talk {
    char *text[N_TURN];
    int32_t ids[N_TURN][N_NEW];
    size_t n[N_TURN], cached[N_TURN];
    uint64_t hash[N_TURN];
};

static void talk_free(struct talk *t)
{
    for (size_t i = 0; i < N_TURN; i++)
        free(t->text[i]);
}

static void assert_same(const struct talk *a, const struct talk *b, bool hashes)
{
    for (size_t i = 0; i < N_TURN; i++) {
        assert_int_equal(a->n[i], b->n[i]);
        assert_memory_equal(a->ids[i], b->ids[i], a->n[i] * sizeof a->ids[i][0]);
        assert_string_equal(a->text[i], b->text[i]);
        if (hashes)
            assert_true(a->hash[i] == b->hash[i]);
    }
}

static iv_session *open_session(const iv_engine *g, iv_media *m, bool keep_cache)
{
    struct iv_session_options o = iv_session_options_default();
    struct iv_error e;
    iv_session *s;
    o.keep_cache = keep_cache;
    o.instruction = "Look closely.";
    if (iv_session_open(g, m, &o, &s, &e) != IV_OK)
        fail_msg("%s", e.message);
    return s;
}

static void ask(iv_session *s, size_t turn, struct talk *t)
{
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    o.max_new_tokens = N_NEW;
    if (iv_session_ask(s, questions[turn], &o, &a, &e) != IV_OK)
        fail_msg("%s", e.message);
    t->text[turn] = strdup(a.text);
    t->n[turn] = a.n_token;
    t->cached[turn] = a.cached_tokens;
    t->hash[turn] = a.logits_hash;
    memcpy(t->ids[turn], a.token_ids, a.n_token * sizeof a.token_ids[0]);
    iv_answer_free(&a);
}

static void talk(const iv_engine *g, iv_media *m, bool keep_cache, struct talk *t)
{
    iv_session *s = open_session(g, m, keep_cache);
    for (size_t i = 0; i < N_TURN; i++)
        ask(s, i, t);
    iv_session_close(s);
}

static void talk_with(const char *dtype, const char *cpu, int threads, bool keep_cache,
                      struct talk *t)
{
    iv_engine *g = open_engine(dtype, cpu, threads);
    iv_media *m = open_media(g, 7);
    talk(g, m, keep_cache, t);
    iv_media_close(m);
    iv_engine_close(g);
}

static void threads_do_not_matter(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16", "int8"};
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct talk one, more;
        talk_with(dtypes[d], NULL, 1, true, &one);
        for (int n = 2; n <= 5; n += 3) {
            talk_with(dtypes[d], NULL, n, true, &more);
            assert_same(&one, &more, true);
            talk_free(&more);
        }
        talk_free(&one);
    }
}

static void caches_do_not_matter(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16", "int8"};
    (void)state;
    for (size_t d = 0; d < 3; d++) {
        struct talk with, without;
        talk_with(dtypes[d], NULL, 2, true, &with);
        talk_with(dtypes[d], NULL, 2, false, &without);
        assert_same(&with, &without, true);
        assert_int_equal(with.cached[0], 0);
        for (size_t i = 1; i < N_TURN; i++) {
            assert_true(with.cached[i] > N_CLIP * 96);
            assert_int_equal(without.cached[i], 0);
        }
        talk_free(&with);
        talk_free(&without);
    }
}

// Greedy tokens of every tier agree in f32, where the margins of this model are far above rounding.
static void tiers_agree(void **state)
{
    (void)state;
    unsigned tiers = cpu_detect();
    struct talk best, other;
    talk_with("f32", NULL, 2, true, &best);
    for (int t = 1; t < CPU_TIER_N; t++) { // the plain tier has its own, shorter test
        if (!(tiers & (1u << t)))
            continue;
        talk_with("f32", cpu_tier_name((enum cpu_tier)t), 2, true, &other);
        assert_same(&best, &other, false);
        talk_free(&other);
    }
    talk_free(&best);
}

static void plain_tier_agrees(void **state)
{
    (void)state;
    float *data[2];
    size_t dim[6];
    unsigned rank;
    struct iv_error e;
    for (int i = 0; i < 2; i++) {
        iv_engine *g = open_engine("f32", i == 0 ? "ref" : NULL, 2);
        float *px = calloc((size_t)3 * SIDE * SIDE, sizeof *px);
        for (size_t k = 0; k < (size_t)3 * SIDE * SIDE; k++)
            px[k] = (float)(k % 97) / 48.5f - 1.0f;
        iv_media *m;
        assert_int_equal(iv_media_from_pixels(g, px, 1, 1, true, &m, &e), IV_OK);
        assert_int_equal(iv_media_stage(m, IV_STAGE_PROJECTED, NULL, &data[i], dim, &rank, &e),
                         IV_OK);
        iv_media_close(m);
        iv_engine_close(g);
        free(px);
    }
    // ten times the distance measured between the tiers (1.9e-6); golden's own tolerance is 2e-4
    for (size_t k = 0; k < dim[0] * dim[1]; k++)
        assert_true(fabs((double)data[0][k] - (double)data[1][k]) <= 2e-5); // NaN fails
    iv_free(data[0]);
    iv_free(data[1]);
}

struct worker {
    const iv_engine *engine;
    iv_media *media;
    struct talk talk;
};

static void *work(void *p)
{
    struct worker *w = p;
    talk(w->engine, w->media, true, &w->talk);
    return NULL;
}

// Sessions on several threads share an engine, two of them one medium.
static void sessions_do_not_meet(void **state)
{
    enum { N = 4 };
    (void)state;
    iv_engine *g = open_engine("bf16", NULL, 2);
    iv_media *media[2] = {open_media(g, 1), open_media(g, 2)};
    struct worker w[N];
    pthread_t thread[N];
    struct talk alone[2];
    for (size_t i = 0; i < N; i++) {
        w[i] = (struct worker){.engine = g, .media = media[i / 2]};
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (size_t i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    for (size_t i = 0; i < 2; i++)
        talk(g, media[i], true, &alone[i]);
    for (size_t i = 0; i < N; i++) {
        assert_same(&alone[i / 2], &w[i].talk, true);
        talk_free(&w[i].talk);
    }
    assert_true(memcmp(alone[0].ids, alone[1].ids, sizeof alone[0].ids) != 0 ||
                strcmp(alone[0].text[0], alone[1].text[0]) != 0);
    for (size_t i = 0; i < 2; i++) {
        talk_free(&alone[i]);
        iv_media_close(media[i]);
    }
    iv_engine_close(g);
}

struct stopper {
    atomic_int polls;
    int stop_at; // poll that says stop; 0 = never
};

static bool stop_later(void *user)
{
    struct stopper *s = user;
    int n = atomic_fetch_add(&s->polls, 1) + 1;
    return s->stop_at > 0 && n >= s->stop_at;
}

// Stopped anywhere between the first and the last poll, a session answers afterwards as if never stopped.
static void stopping_is_harmless(void **state)
{
    (void)state;
    iv_engine *g = open_engine("bf16", NULL, 2);
    iv_media *m = open_media(g, 3);
    struct talk calm, after;
    talk(g, m, true, &calm);
    struct stopper stop = {.stop_at = 0};
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ao = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    iv_session *s;
    o.instruction = "Look closely.";
    o.keep_cache = false; // so that every ask encodes too
    o.callbacks.user = &stop;
    o.callbacks.abort = stop_later;
    ao.max_new_tokens = N_NEW;
    assert_int_equal(iv_session_open(g, m, &o, &s, &e), IV_OK);
    assert_int_equal(iv_session_ask(s, questions[0], &ao, &a, &e), IV_OK);
    iv_answer_free(&a);
    iv_session_reset(s);
    int polls = atomic_load(&stop.polls);
    assert_true(polls > 100);
    for (int i = 0; i < 8; i++) {
        atomic_store(&stop.polls, 0);
        stop.stop_at = 1 + (int)((long)polls * i / 9);
        assert_int_equal(iv_session_ask(s, questions[0], &ao, &a, &e), IV_ERR_ABORT);
        assert_null(a.text);
    }
    stop.stop_at = 0;
    for (size_t i = 0; i < N_TURN; i++)
        ask(s, i, &after);
    assert_same(&calm, &after, true);
    talk_free(&calm);
    talk_free(&after);
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
}

static void limits_are_told(void **state)
{
    (void)state;
    iv_engine *g = open_engine("bf16", NULL, 1);
    iv_media *m = open_media(g, 4);
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ao = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    iv_session *s;
    o.n_ctx = 100; // fewer than the visual rows
    assert_int_equal(iv_session_open(g, m, &o, &s, &e), IV_OK);
    assert_int_equal(iv_session_ask(s, "Hi", &ao, &a, &e), IV_ERR_LIMIT);
    assert_non_null(strstr(e.message, "100"));
    iv_session_close(s);
    o.n_ctx = 0;
    int32_t *ids;
    size_t n_prompt;
    assert_int_equal(iv_session_open(g, m, &o, &s, &e), IV_OK);
    assert_int_equal(iv_session_prompt_ids(s, "Hi", NULL, &ids, &n_prompt, &e), IV_OK);
    iv_free(ids);
    iv_session_close(s);
    o.n_ctx = n_prompt + 7;
    assert_int_equal(iv_session_open(g, m, &o, &s, &e), IV_OK);
    ao.ignore_eos = true;
    assert_int_equal(iv_session_ask(s, "Hi", &ao, &a, &e), IV_OK);
    assert_string_equal(a.finish_reason, "length");
    assert_int_equal(a.prompt_tokens, n_prompt);
    assert_int_equal(a.n_token, 7 + 1); // the last token needs no position
    iv_answer_free(&a);
    ao.top_p = 2;
    ao.temperature = 1;
    assert_int_equal(iv_session_ask(s, "Hi", &ao, &a, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "top"));
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
}

int main(void)
{
    static const char *const models[] = {
        TEST_ROOT "/fixtures/tiny-model",
#ifndef OWN_MODEL_ONLY
        TEST_SHARED "/golden/tiny-hd",
#endif
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(caches_do_not_matter),
        cmocka_unit_test(tiers_agree),           cmocka_unit_test(plain_tier_agrees),
        cmocka_unit_test(sessions_do_not_meet),  cmocka_unit_test(stopping_is_harmless),
        cmocka_unit_test(limits_are_told),
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        model_dir = models[i];
        if (access(model_dir, R_OK) == 0)
            failed += cmocka_run_group_tests_name(i == 0 ? "own" : "golden", tests, NULL, NULL);
        else
            print_message("# SKIP %s: not there\n", model_dir);
    }
    return failed;
}
