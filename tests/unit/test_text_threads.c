// SPDX-License-Identifier: MIT
// Opened tokenizers are shared by threads: all get the same ids and texts (under TSan: without a race).
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text/tokenizer.h"
#include "text/wordpiece.h"
#include "text_fixture.h"

enum { N_THREAD = 4, N_ROUND = 200 };

static struct tokenizer *lm;
static struct wordpiece *bert;

static const char sample[] = "abc [INST] abd  \xC3\xA9\n</s> Watch the video, it's \xE4\xB8\xAD!";

// Both tokenizers there and back; the texts end up in out.
static int there_and_back(struct buf *out)
{
    struct err e;
    struct ids ids = {0};
    struct text_span span = {sample, sizeof sample - 1, true};
    int rc;
    TRY(tokenizer_encode(lm, &span, 1, &ids, &e));
    TRY(tokenizer_decode(lm, ids.v, ids.n, out, &e));
    ids_reset(&ids);
    TRY(wordpiece_encode(bert, &span, 1, &ids, &e));
    TRY(wordpiece_decode(bert, ids.v, ids.n, out, &e));
fail:
    ids_free(&ids);
    return rc;
}

// arg = the text to expect. Returns it when every round gave it.
static void *worker(void *arg)
{
    const struct buf *want = arg;
    for (int i = 0; i < N_ROUND; i++) {
        struct buf out = {0};
        int rc = there_and_back(&out);
        int same = rc == 0 && out.len == want->len && memcmp(out.data, want->data, out.len) == 0;
        buf_free(&out);
        if (!same)
            return NULL;
    }
    return arg;
}

static void shared(void **state)
{
    (void)state;
    struct err e;
    struct buf json = {0}, want = {0};
    pthread_t thread[N_THREAD];
    fixture_json(&json);
    assert_int_equal(tokenizer_open_json(json.data, json.len, "small.json", &lm, &e), 0);
    assert_int_equal(wordpiece_open(NULL, &bert, &e), 0);
    assert_int_equal(there_and_back(&want), 0);
    assert_true(want.len > sizeof sample);
    for (int i = 0; i < N_THREAD; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, worker, &want), 0);
    for (int i = 0; i < N_THREAD; i++) {
        void *answer;
        assert_int_equal(pthread_join(thread[i], &answer), 0);
        assert_ptr_equal(answer, &want);
    }
    tokenizer_close(lm);
    wordpiece_close(bert);
    buf_free(&json);
    buf_free(&want);
}

int main(void)
{
    const struct CMUnitTest test[] = {cmocka_unit_test(shared)};
    return cmocka_run_group_tests(test, NULL, NULL);
}
