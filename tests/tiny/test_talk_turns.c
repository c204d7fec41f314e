// SPDX-License-Identifier: MIT
// The history of a conversation: reading it, asking again, another media, prefilling ahead. None of it
// changes an answer.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fixture.h"

static iv_engine *engine;

static int setup(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    engine = engine_fixture_open(&o);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    iv_engine_close(engine);
    return 0;
}

static void turns_can_be_read(void **state)
{
    (void)state;
    iv_session *s = session_fixture(engine, NULL, NULL);
    struct iv_turn t, one = {.prompt = "One?", .answer = "Yes."};
    struct iv_error e;
    struct reply r;
    assert_int_equal(iv_session_n_turn(s), 0);
    assert_int_equal(iv_session_turn(s, 0, &t), IV_ERR_USAGE);
    assert_true(!t.prompt && !t.answer && t.answer_len == 0);
    assert_int_equal(iv_session_drop_turn(s, &e), IV_ERR_USAGE);
    assert_int_equal(iv_session_add_turn(s, &one, &e), IV_OK);
    ask_fixture(s, "Two?", NULL, &r);
    assert_int_equal(iv_session_n_turn(s), 2);
    assert_int_equal(iv_session_turn(s, 0, &t), IV_OK);
    assert_string_equal(t.prompt, "One?");
    assert_string_equal(t.answer, "Yes.");
    assert_true(t.answer_len == 4 && !t.answer_special);
    assert_int_equal(iv_session_turn(s, 1, &t), IV_OK);
    assert_string_equal(t.prompt, "Two?");
    assert_string_equal(t.answer, r.text);
    assert_int_equal(t.answer_len, strlen(r.text));
    iv_session_close(s);
}

// What was read and is put back is the same turn: the bytes behind a zero byte, and strings of control tokens that
// the model generated as such.
static void turns_can_be_put_back(void **state)
{
    (void)state;
    static const char zero[] = "a\0b</s>";
    for (int special = 0; special < 2; special++) {
        iv_session *s = session_fixture(engine, NULL, NULL);
        struct iv_turn old = {"One?", zero, sizeof zero - 1, special}, t;
        struct iv_error e;
        int32_t *before, *after;
        size_t n_before, n_after, n_end = 0;
        assert_int_equal(iv_session_add_turn(s, &old, &e), IV_OK);
        assert_int_equal(iv_session_prompt_ids(s, "Two?", NULL, &before, &n_before, &e), IV_OK);
        assert_int_equal(iv_session_turn(s, 0, &t), IV_OK);
        assert_true(t.answer_len == sizeof zero - 1 && t.answer_special == (special != 0));
        assert_memory_equal(t.answer, zero, sizeof zero);
        t.prompt = "One?"; // the session's own copies go
        t.answer = zero;
        assert_int_equal(iv_session_drop_turn(s, &e), IV_OK);
        assert_int_equal(iv_session_add_turn(s, &t, &e), IV_OK);
        assert_int_equal(iv_session_prompt_ids(s, "Two?", NULL, &after, &n_after, &e), IV_OK);
        assert_int_equal(n_before, n_after);
        assert_memory_equal(before, after, n_after * sizeof *after);
        for (size_t i = 0; i < n_after; i++)
            n_end += after[i] == 2; // </s>: one closes every answer
        assert_int_equal(n_end, special ? 2 : 1);
        iv_free(before);
        iv_free(after);
        iv_session_close(s);
    }
}

// A question asked again after dropping its turn is answered as the first time.
static void asked_again(void **state)
{
    (void)state;
    iv_media *m = media_fixture_noise(engine, 1);
    iv_session *s = session_fixture(engine, m, NULL);
    struct reply first, again;
    struct iv_error e;
    ask_fixture(s, "One?", NULL, &first);
    ask_fixture(s, "Two?", NULL, &first);
    assert_int_equal(iv_session_drop_turn(s, &e), IV_OK);
    assert_int_equal(iv_session_n_turn(s), 1);
    ask_fixture(s, "Two?", NULL, &again);
    assert_same_reply(&first, &again);
    // all but the last rows of the prompt, which its logits need
    assert_true(again.cached >= again.prompt - 9);
    iv_session_close(s);
    iv_media_close(m);
}

static void another_media(void **state)
{
    (void)state;
    iv_media *m1 = media_fixture_noise(engine, 1), *m2 = media_fixture_noise(engine, 2);
    iv_session *s = session_fixture(engine, m1, NULL), *fresh;
    struct reply one, two, want;
    struct iv_error e;
    ask_fixture(s, "What?", NULL, &one);
    assert_int_equal(iv_session_set_media(s, m2, &e), IV_OK);
    assert_int_equal(iv_session_n_turn(s), 0);
    iv_media_close(m1);
    ask_fixture(s, "What?", NULL, &two);
    assert_int_equal(two.cached, 0);
    fresh = session_fixture(engine, m2, NULL);
    ask_fixture(fresh, "What?", NULL, &want);
    assert_same_reply(&want, &two);
    assert_true(one.hash != two.hash);
    iv_session_close(fresh);
    assert_int_equal(iv_session_set_media(s, NULL, &e), IV_OK);
    fresh = session_fixture(engine, NULL, NULL);
    ask_fixture(s, "What?", NULL, &two);
    ask_fixture(fresh, "What?", NULL, &want);
    assert_same_reply(&want, &two);
    iv_session_close(fresh);
    iv_session_close(s);
    iv_media_close(m2);
}

// Media that cannot be talked about changes nothing.
static void unfit_media_is_refused(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    struct iv_session_options o = iv_session_options_default();
    iv_engine *other = engine_fixture_open(&eo);
    iv_media *foreign = media_fixture_noise(other, 1), *no_times = media_fixture_noise(engine, 1);
    struct iv_error e;
    struct reply r;
    o.time_text = true;
    iv_session *s = session_fixture(engine, NULL, &o);
    ask_fixture(s, "Hi", NULL, &r);
    assert_int_equal(iv_session_set_media(s, foreign, &e), IV_ERR_USAGE);
    assert_int_equal(iv_session_set_media(s, no_times, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "frame rate"));
    assert_int_equal(iv_session_n_turn(s), 1);
    iv_session_close(s);
    iv_media_close(foreign);
    iv_media_close(no_times);
    iv_engine_close(other);
}

// The times are those of a video: a session that tells them talks about images too.
static void images_have_no_times(void **state)
{
    (void)state;
    enum { SIDE = 224, VALUES = 3 * SIDE * SIDE };
    static float pixels[VALUES];
    struct iv_session_options o = iv_session_options_default();
    struct iv_error e;
    struct reply want, r;
    iv_media *image;
    for (size_t i = 0; i < VALUES; i++)
        pixels[i] = (float)(i % 97) / 97.0f - 0.5f;
    assert_int_equal(iv_media_from_pixels(engine, pixels, 1, 1, true, &image, &e), IV_OK);
    o.msg = "A still.";
    iv_session *plain = session_fixture(engine, image, &o);
    ask_fixture(plain, "What?", NULL, &want);
    iv_session_close(plain);
    o.time_text = true;
    iv_session *s = session_fixture(engine, NULL, &o);
    assert_int_equal(iv_session_set_media(s, image, &e), IV_OK);
    ask_fixture(s, "What?", NULL, &r);
    assert_same_reply(&want, &r);
    iv_session_close(s);
    iv_media_close(image);
}

// Three turns, warmed before each or not, with media or text only.
static void talk(iv_media *m, bool warm, struct reply r[3])
{
    static const char *const q[3] = {"What is it?", "[INST] and \xe3\x81\xaa\xe3\x81\x9c?", "x"};
    iv_session *s = session_fixture(engine, m, NULL);
    struct iv_error e;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; warm && k < 2; k++)
            if (iv_session_warm(s, &e) != IV_OK)
                fail_msg("%s", e.message);
        ask_fixture(s, q[i], NULL, &r[i]);
    }
    iv_session_close(s);
}

static void warming_changes_no_answer(void **state)
{
    (void)state;
    struct reply cold[3], warm[3];
    iv_media *m = media_fixture_noise(engine, 3);
    for (int media = 0; media < 2; media++) {
        talk(media ? m : NULL, false, cold);
        talk(media ? m : NULL, true, warm);
        for (int i = 0; i < 3; i++) {
            assert_same_reply(&cold[i], &warm[i]);
            assert_true(warm[i].cached >= cold[i].cached);
            // what is left is the question and what follows it, or a short conversation
            assert_true(warm[i].prompt - warm[i].cached < 60 || warm[i].cached == 0);
        }
        assert_true(!media || (warm[0].cached > FIXTURE_CLIPS * 96 && cold[0].cached == 0));
    }
    iv_media_close(m);
}

struct stopper {
    atomic_int polls;
    int at;
};

static bool stop_at(void *user)
{
    struct stopper *s = user;
    return atomic_fetch_add(&s->polls, 1) + 1 >= s->at && s->at > 0;
}

// A history longer than one chunk, stopped at many places: what is done is kept and right.
static void stopped_warming_keeps_what_is_done(void **state)
{
    (void)state;
    static char word[6000];
    struct stopper stop = {.at = 0};
    struct iv_session_options o = iv_session_options_default();
    struct reply want, got;
    struct iv_error e;
    size_t most = 0;
    o.callbacks.user = &stop;
    o.callbacks.abort = stop_at;
    for (size_t i = 0; i + 1 < sizeof word; i++)
        word[i] = "abcde fg"[i % 8];
    iv_session *s = session_fixture(engine, NULL, &o);
    const struct iv_turn said = {.prompt = word, .answer = "Yes."};
    assert_int_equal(iv_session_add_turn(s, &said, &e), IV_OK);
    ask_fixture(s, "Why?", NULL, &want);
    assert_true(want.prompt > 1100);
    int polls = atomic_load(&stop.polls);
    iv_session_close(s);
    for (int i = 1; i < 8; i++) {
        s = session_fixture(engine, NULL, &o);
        assert_int_equal(iv_session_add_turn(s, &said, &e), IV_OK);
        atomic_store(&stop.polls, 0);
        stop.at = polls / 9 * i;
        int rc = iv_session_warm(s, &e);
        assert_true(rc == IV_ERR_ABORT || rc == IV_OK);
        stop.at = 0;
        ask_fixture(s, "Why?", NULL, &got);
        assert_same_reply(&want, &got);
        if (rc == IV_ERR_ABORT)
            most = got.cached > most ? got.cached : most;
        iv_session_close(s);
    }
    assert_true(most >= 512); // a chunk
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_can_be_read),
        cmocka_unit_test(turns_can_be_put_back),
        cmocka_unit_test(asked_again),
        cmocka_unit_test(another_media),
        cmocka_unit_test(unfit_media_is_refused),
        cmocka_unit_test(images_have_no_times),
        cmocka_unit_test(warming_changes_no_answer),
        cmocka_unit_test(stopped_warming_keeps_what_is_done),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
