// SPDX-License-Identifier: MIT
// Engines, media and questions through ivchat.h. Functions fail the running test on any error.
#ifndef IV_TESTS_ENGINE_FIXTURE_H
#define IV_TESTS_ENGINE_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivchat.h"

// The model that comes with the tests.
extern const char engine_fixture_model[];
// The golden HD model, or NULL (after saying SKIP) when it is not there.
const char *engine_fixture_golden(void);

// That model on two threads, everything else as by default; edit and open.
struct iv_engine_options engine_fixture_options(void);
iv_engine *engine_fixture_open(const struct iv_engine_options *o);

enum { FIXTURE_CLIPS = 2, FIXTURE_FRAMES = 2 };
// Pixels that differ from seed to seed.
iv_media *media_fixture_noise(const iv_engine *g, unsigned seed);

iv_session *session_fixture(const iv_engine *g, iv_media *m, const struct iv_session_options *o);

enum { FIXTURE_NEW = 12 };
struct reply {
    char text[512];
    int32_t ids[FIXTURE_NEW];
    size_t n, prompt, cached;
    bool media_cached;
    uint64_t hash;
};
// o NULL = greedy.
void ask_fixture(iv_session *s, const char *question, const struct iv_ask_options *o,
                 struct reply *r);
// Text, ids and last logits.
void assert_same_reply(const struct reply *a, const struct reply *b);

#endif
