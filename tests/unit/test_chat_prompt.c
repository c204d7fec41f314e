// SPDX-License-Identifier: MIT
// Prompts with a small vocabulary made here: layout, trust, white space, limits, long histories,
// allocation failures.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "chat/prompt.h"
#include "chat_fixture.h"

static void expect_refusal(const struct tokenizer *t, const struct prompt_request *r,
                           const char *word)
{
    struct prompt p;
    struct buf b = {0};
    struct err e = {0};
    assert_int_equal(prompt_build(&p, t, r, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, word));
    assert_true(p.ids.v == NULL && p.ids.n == 0 && p.n_visual == 0);
    assert_int_equal(prompt_conversation(r, &b, &e), ERR_USAGE);
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void no_media_is_the_user_turn_alone(void **state)
{
    (void)state;
    struct prompt_turn turn = {.question = prompt_text_of("q"), .answer = prompt_text_of("a")};
    const struct {
        enum variant v;
        const char *one, *system, *history;
    } row[] = {
        {VARIANT_HD, "[INST] Hi [/INST]", "Be brief.[INST] Hi [/INST]",
         "[INST] q [/INST]a</s> [INST] Hi [/INST]"},
        {VARIANT_INTERNLM, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
         "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
         "<|im_start|>assistant\n",
         "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n</s>"
         "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct prompt_request r = prompt_request_of(row[i].v, PROMPT_NO_MEDIA, 0, "Hi");
        r.msg = prompt_text_of(" \n");
        expect_conversation(&r, row[i].one);
        r.instruction = prompt_text_of("Be brief.");
        expect_conversation(&r, row[i].system);
        r.instruction = prompt_text_of("");
        r.turn = &turn;
        r.n_turn = 1;
        expect_conversation(&r, row[i].history);
    }
}

static void variants_share_their_template(void **state)
{
    (void)state;
    assert_ptr_equal(template_of(VARIANT_HD), template_of(VARIANT_F16));
    assert_true(template_of(VARIANT_8B)->one_marker && !template_of(VARIANT_HD)->one_marker);
    struct prompt_request r = prompt_request_of(VARIANT_F16, PROMPT_IMAGE, 2, "");
    r.answer_prefix = prompt_text_of("A");
    expect_conversation(&r, "[INST] <Image>[<IMG_PLH>]</Image><Image>[<IMG_PLH>]</Image>[/INST]"
                            " [INST]  [/INST]A");
    r = prompt_request_of(VARIANT_8B, PROMPT_VIDEO, 1, "Hi");
    expect_conversation(&r, "[INST] <Video>[<VID_PLH>]</Video>[/INST] [INST] Hi [/INST]");
}

static void msg_loses_python_white_space(void **state)
{
    (void)state;
    static const char *const space[] = {"\t",
                                        "\n",
                                        "\v",
                                        "\f",
                                        "\r",
                                        "\x1c",
                                        "\x1f",
                                        " ",
                                        "\xc2\x85",
                                        "\xc2\xa0",
                                        "\xe1\x9a\x80",
                                        "\xe2\x80\x80",
                                        "\xe2\x80\x8a",
                                        "\xe2\x80\xa8",
                                        "\xe2\x80\xa9",
                                        "\xe2\x80\xaf",
                                        "\xe2\x81\x9f",
                                        "\xe3\x80\x80",
                                        " \n\xe3\x80\x80\x1d"};
    static const char *const text[] = {
        "\xe2\x80\x8b" /* zero width */, "\x1b", "\xe1\xa0\x8e",
        "\x80" /* no character */,       "\xa0", "\x80\x80\x80\x80\x80"};
    char msg[64], want[128];
    for (size_t i = 0; i < sizeof space / sizeof *space; i++) {
        snprintf(msg, sizeof msg, " x%sy%s", space[i], space[i]);
        snprintf(want, sizeof want, "[INST] <Video>[<VID_PLH>]</Video> x%sy[/INST] [INST]  [/INST]",
                 space[i]);
        struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 1, "");
        r.msg = prompt_text_of(msg);
        expect_conversation(&r, want);
    }
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        snprintf(want, sizeof want, "[INST] <Video>[<VID_PLH>]</Video>%s[/INST] [INST]  [/INST]",
                 text[i]);
        struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 1, "");
        r.msg = prompt_text_of(text[i]);
        expect_conversation(&r, want);
    }
}

static void each_piece_has_its_bos(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 3, "Hi");
    struct prompt p;
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(p.n_visual, 3 * N_QUERY);
    size_t n_bos = 0, n_visual = 0, n_run = 0;
    for (size_t i = 0; i < p.ids.n; i++) {
        n_bos += p.ids.v[i] == 1;
        n_visual += p.ids.v[i] == PROMPT_VISUAL;
        if (i > 0 && p.ids.v[i] == PROMPT_VISUAL && p.ids.v[i - 1] != PROMPT_VISUAL)
            n_run++;
        if (i > 0 && p.ids.v[i] != PROMPT_VISUAL && p.ids.v[i - 1] == PROMPT_VISUAL)
            assert_int_equal(p.ids.v[i], 1);
    }
    assert_true(n_bos == 4 && n_visual == 3 * N_QUERY && n_run == 3);
    prompt_free(&p);
    tokenizer_close(t);
}

static void hostile_text_stays_text(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    expect_hostile_stays_text(t, VARIANT_HD, PROMPT_VIDEO);
    expect_hostile_stays_text(t, VARIANT_8B, PROMPT_IMAGE);
    expect_hostile_stays_text(t, VARIANT_HD, PROMPT_NO_MEDIA);
    tokenizer_close(t);
}

static void allow_special_makes_control_ids(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct prompt_request r =
        prompt_request_of(VARIANT_HD, PROMPT_NO_MEDIA, 0, "a[control_9]b</s>");
    struct prompt p;
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(prompt_count_added(t, &p), 3);
    prompt_free(&p);
    r.allow_special = true;
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(prompt_count_added(t, &p), 5);
    prompt_free(&p);

    // An answer in which the model made control tokens is read back as it was; the question is not.
    struct prompt_turn turn = {.question = prompt_text_of("[control_9]"),
                               .answer = prompt_text_of("[control_9] x"),
                               .answer_special = false};
    r = prompt_request_of(VARIANT_HD, PROMPT_NO_MEDIA, 0, "q");
    r.turn = &turn;
    r.n_turn = 1;
    for (size_t special = 0; special < 2; special++) {
        turn.answer_special = special;
        assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
        assert_int_equal(prompt_count_added(t, &p), 6 + special); // BOS, 2 x [INST] [/INST], </s>
        prompt_free(&p);
    }
    tokenizer_close(t);
}

static void requests_are_checked(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 0, "Hi");
    expect_refusal(t, &r, "0 clips");
    r.n_clip = PROMPT_CLIP_MAX + 1;
    expect_refusal(t, &r, "65537 clips");
    r.n_clip = SIZE_MAX;
    expect_refusal(t, &r, "clips");
    r.n_clip = 1;
    r.n_query = 0;
    expect_refusal(t, &r, "visual rows");
    r.n_query = SIZE_MAX;
    expect_refusal(t, &r, "visual rows");
    r = prompt_request_of(VARIANT_8B, PROMPT_VIDEO, 3, "Hi");
    expect_refusal(t, &r, "3 clips");
    r = prompt_request_of(VARIANT_HD, PROMPT_NO_MEDIA, 0, "Hi");
    r.msg = prompt_text_of("note");
    expect_refusal(t, &r, "msg");
    tokenizer_close(t);
}

static void placeholders_are_refused_with_allow_special(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const char *const text[] = {"[<VID_PLH>]", "x[<IMG_PLH>]y", "[[<VID_PLH>]",
                                       "[<VID_PLH[<IMG_PLH>]"};
    static const char *const field[] = {
        "instruction",          "msg", "question", "answer_prefix", "question of the history",
        "answer of the history"};
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 6; k++) {
            struct prompt_turn turn = {.answer_special = true};
            struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 1, "");
            struct prompt_text *place[] = {&r.instruction,   &r.msg,         &r.question,
                                           &r.answer_prefix, &turn.question, &turn.answer};
            *place[k] = prompt_text_of(text[i]);
            r.turn = &turn;
            r.n_turn = 1;
            struct prompt p;
            assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
            assert_int_equal(p.n_visual, N_QUERY);
            prompt_free(&p);
            r.allow_special = true;
            expect_refusal(t, &r, field[k]);
        }
    }
    struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 1, "[<VID_PLH>");
    r.allow_special = true;
    struct prompt p;
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    prompt_free(&p);
    tokenizer_close(t);
}

static void next_turn_begins_with_this_one(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    enum { N_TURN = 200 };
    static struct prompt_turn turn[N_TURN];
    static char text[N_TURN][2][32];
    struct prompt last = {0};
    for (size_t n = 0; n < N_TURN; n++) {
        snprintf(text[n][0], sizeof text[n][0], "question %zu", n);
        snprintf(text[n][1], sizeof text[n][1], "answer %zu\n", n);
        turn[n] = (struct prompt_turn){.question = prompt_text_of(text[n][0]),
                                       .answer = prompt_text_of(text[n][1])};
        struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 2, text[n][0]);
        r.turn = turn;
        r.n_turn = n;
        struct prompt p;
        assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
        assert_int_equal(prompt_common_prefix(last.ids.v, last.ids.n, p.ids.v, p.ids.n),
                         last.ids.n);
        assert_true(p.ids.n > last.ids.n);
        prompt_free(&last);
        last = p;
    }
    prompt_free(&last);
    tokenizer_close(t);
    const int32_t a[] = {1, -1, -1, 5}, b[] = {1, -1, -1, 6, 7};
    assert_int_equal(prompt_common_prefix(a, 4, b, 5), 3);
    assert_int_equal(prompt_common_prefix(a, 2, b, 5), 2);
    assert_int_equal(prompt_common_prefix(a, 4, b, 0), 0);
}

static void allocation_failures(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct prompt_turn turn[2];
    struct prompt_request r = prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 20, "");
    prompt_request_fill(&r, turn, "some text of a caller</s>");
    int n_failed = 0;
    for (uint64_t k = 1;; k++) {
        struct prompt p;
        struct err e = {0};
        mem_fail_after(k);
        int rc = prompt_build(&p, t, &r, &e);
        mem_fail_after(0);
        if (rc == 0) {
            prompt_free(&p);
            break;
        }
        assert_int_equal(rc, ERR_LIMIT);
        assert_true(p.ids.v == NULL && e.msg[0]);
        n_failed++;
    }
    assert_true(n_failed >= 3);
    n_failed = 0;
    for (uint64_t k = 1;; k++, n_failed++) {
        struct buf b = {0};
        mem_fail_after(k);
        int rc = prompt_conversation(&r, &b, NULL);
        mem_fail_after(0);
        buf_free(&b);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
    }
    assert_true(n_failed >= 2);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_media_is_the_user_turn_alone),
        cmocka_unit_test(variants_share_their_template),
        cmocka_unit_test(msg_loses_python_white_space),
        cmocka_unit_test(each_piece_has_its_bos),
        cmocka_unit_test(hostile_text_stays_text),
        cmocka_unit_test(allow_special_makes_control_ids),
        cmocka_unit_test(requests_are_checked),
        cmocka_unit_test(placeholders_are_refused_with_allow_special),
        cmocka_unit_test(next_turn_begins_with_this_one),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
