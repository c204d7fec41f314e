// SPDX-License-Identifier: MIT
#include "engine_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

const char engine_fixture_model[] = TEST_ROOT "/fixtures/tiny-model";

const char *engine_fixture_golden(void)
{
    static const char golden[] = TEST_SHARED "/golden/tiny-hd";
    if (access(golden, R_OK) == 0)
        return golden;
    print_message("SKIP no golden data beside the project\n");
    return NULL;
}

struct iv_engine_options engine_fixture_options(void)
{
    struct iv_engine_options o = iv_engine_options_default();
    o.model = engine_fixture_model;
    o.n_threads = 2;
    return o;
}

iv_engine *engine_fixture_open(const struct iv_engine_options *o)
{
    iv_engine *g;
    struct iv_error e;
    if (iv_engine_open(o, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    return g;
}

iv_media *media_fixture_noise(const iv_engine *g, unsigned seed)
{
    enum { SIDE = 224 };
    size_t n = (size_t)FIXTURE_CLIPS * FIXTURE_FRAMES * 3 * SIDE * SIDE;
    float *px = malloc(n * sizeof *px);
    uint32_t x = seed * 2654435761u + 1;
    iv_media *m;
    struct iv_error e;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        px[i] = (float)(x >> 8) / 8388608.0f - 1.0f + (float)(i / SIDE % SIDE) / SIDE;
    }
    if (iv_media_from_pixels(g, px, FIXTURE_CLIPS, FIXTURE_FRAMES, false, &m, &e) != IV_OK)
        fail_msg("%s", e.message);
    free(px);
    return m;
}

iv_session *session_fixture(const iv_engine *g, iv_media *m, const struct iv_session_options *o)
{
    struct iv_session_options none = iv_session_options_default();
    iv_session *s;
    struct iv_error e;
    if (iv_session_open(g, m, o ? o : &none, &s, &e) != IV_OK)
        fail_msg("%s", e.message);
    return s;
}

void ask_fixture(iv_session *s, const char *question, const struct iv_ask_options *o,
                 struct reply *r)
{
    struct iv_ask_options ask = o ? *o : iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    ask.max_new_tokens = FIXTURE_NEW;
    if (iv_session_ask(s, question, &ask, &a, &e) != IV_OK)
        fail_msg("%s", e.message);
    memset(r, 0, sizeof *r);
    snprintf(r->text, sizeof r->text, "%s", a.text);
    memcpy(r->ids, a.token_ids, a.n_token * sizeof a.token_ids[0]);
    r->n = a.n_token;
    r->prompt = a.prompt_tokens;
    r->cached = a.cached_tokens;
    r->media_cached = a.media_cached;
    r->hash = a.logits_hash;
    iv_answer_free(&a);
}

void assert_same_reply(const struct reply *a, const struct reply *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof a->ids[0]);
    assert_string_equal(a->text, b->text);
    assert_true(a->hash == b->hash);
}
