// SPDX-License-Identifier: MIT
// Prompts with the releases' tokenizers: every golden row, the prompt of every golden case, the sequences
// of SPEC 6.6 and 6.7, and hostile text.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/json.h"
#include "base/mem.h"
#include "chat/prompt.h"
#include "chat_fixture.h"

static struct tokenizer *release_tokenizer(const char *dir, enum tokenizer_kind kind)
{
    struct tokenizer *t = NULL;
    struct err e = {0};
    if (access(TEST_SHARED "/golden/manifest.json", R_OK) != 0) {
        printf("SKIP no golden data\n");
        skip();
    }
    if (tokenizer_open(dir, kind, &t, &e) != 0)
        fail_msg("%s", e.msg);
    return t;
}

static struct tokenizer *mistral(void)
{
    return release_tokenizer(TEST_SHARED "/golden/tiny-hd", TOKENIZER_MISTRAL);
}

static struct tokenizer *internlm2(void)
{
    return release_tokenizer(TEST_SHARED "/golden/tiny-internlm", TOKENIZER_INTERNLM2);
}

// want: ids, -N standing for N visual positions.
static void expect_ids(const struct prompt *p, const int32_t *want, size_t n, const char *name)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t n_same = want[i] < 0 ? (size_t)-want[i] : 1;
        int32_t id = want[i] < 0 ? PROMPT_VISUAL : want[i];
        for (size_t k = 0; k < n_same; k++, at++)
            if (at >= p->ids.n || p->ids.v[at] != id)
                fail_msg("%s: position %zu: %d, expected %d", name, at,
                         at < p->ids.n ? (int)p->ids.v[at] : -2, (int)id);
    }
    assert_int_equal(at, p->ids.n);
}

static struct prompt_text text_member(const js_value *o, const char *key)
{
    struct prompt_text t = {0};
    t.p = js_str(js_get(o, key), &t.n);
    return t.p ? t : (struct prompt_text){0};
}

enum { MAX_TURN = 4, MAX_IDS = 512 };

// What a golden row or case asks for; turn has room for MAX_TURN.
static struct prompt_request golden_request(enum variant v, const js_value *in, size_t n_clip,
                                            struct prompt_turn *turn)
{
    const char *media = js_str(js_get(in, "media_type"), NULL);
    bool image = media && !strcmp(media, "image");
    struct prompt_request r =
        prompt_request_of(v, image ? PROMPT_IMAGE : PROMPT_VIDEO, n_clip, NULL);
    r.question = text_member(in, "prompt");
    r.instruction = text_member(in, "instruction");
    r.msg = text_member(in, "msg");
    r.answer_prefix = text_member(in, "answer_prompt");
    const js_value *history = js_get(in, "history");
    assert_in_range(js_size(history), 0, MAX_TURN);
    for (r.n_turn = 0; r.n_turn < js_size(history); r.n_turn++) {
        const js_value *pair = js_at(history, r.n_turn);
        turn[r.n_turn] = (struct prompt_turn){.answer_special = true};
        turn[r.n_turn].question.p = js_str(js_at(pair, 0), &turn[r.n_turn].question.n);
        turn[r.n_turn].answer.p = js_str(js_at(pair, 1), &turn[r.n_turn].answer.n);
    }
    r.turn = turn;
    return r;
}

static size_t read_ids(const js_value *list, int32_t out[MAX_IDS])
{
    size_t n = js_size(list);
    assert_in_range(n, 1, MAX_IDS);
    for (size_t i = 0; i < n; i++) {
        double id = 0;
        assert_true(js_num(js_at(list, i), &id));
        out[i] = (int32_t)id;
    }
    return n;
}

static void expect_golden(const struct tokenizer *t, const struct prompt_request *r,
                          const js_value *conversation, const int32_t *ids, size_t n,
                          const js_value *total, const char *name)
{
    expect_conversation(r, js_str(conversation, NULL));
    struct prompt p;
    uint64_t n_total = 0;
    assert_int_equal(prompt_build(&p, t, r, NULL), 0);
    expect_ids(&p, ids, n, name);
    assert_true(js_u64(total, &n_total));
    assert_int_equal(p.ids.n, n_total);
    assert_int_equal(p.n_visual, r->n_clip * N_QUERY);
    prompt_free(&p);
}

static void check_row(const struct tokenizer *t, enum variant v, const js_value *row,
                      const char *name)
{
    struct prompt_turn turn[MAX_TURN];
    int32_t ids[MAX_IDS];
    uint64_t n_clip = 0;
    assert_true(js_u64(js_get(row, "clips"), &n_clip));
    struct prompt_request r = golden_request(v, row, (size_t)n_clip, turn);
    r.allow_special = true;
    size_t n = read_ids(js_get(row, "ids"), ids);
    expect_golden(t, &r, js_get(row, "conversation"), ids, n, js_get(row, "total"), name);
}

// A case that was run through the model: an answer in its history is special, other texts are not.
static void check_case(const struct tokenizer *t, enum variant v, const js_value *c,
                       const char *name)
{
    struct prompt_turn turn[MAX_TURN];
    int32_t ids[MAX_IDS];
    const js_value *values = js_get(c, "values");
    size_t n = read_ids(js_get(values, "prompt_ids"), ids), n_clip = 0;
    for (size_t i = 0; i < n; i++)
        n_clip += ids[i] == -N_QUERY;
    struct prompt_request r = golden_request(v, js_get(c, "inputs"), n_clip, turn);
    expect_golden(t, &r, js_get(values, "conversation"), ids, n, js_get(values, "prompt_length"),
                  name);
}

static void check_rows(const struct tokenizer *t, enum variant v, const char *file, size_t n_want)
{
    char path[1024], *text = NULL;
    size_t n = 0, n_row = 0;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/golden/cases/prompt/%s.rows.jsonl", TEST_SHARED, file);
    assert_int_equal(file_read(path, 1 << 24, ERR_FAIL, &text, &n, &e), 0);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n_row++) {
        char name[64];
        struct js_doc d;
        snprintf(name, sizeof name, "%s row %zu", file, n_row);
        assert_int_equal(js_parse(&d, line, (size_t)(end - line), name, ERR_FAIL, &e), 0);
        check_row(t, v, d.root, name);
        js_free(&d);
    }
    assert_int_equal(n_row, n_want);
    mem_free(text);
}

static void golden_mistral(void **state)
{
    (void)state;
    struct tokenizer *t = mistral();
    check_rows(t, VARIANT_HD, "hd", 44);
    check_rows(t, VARIANT_8B, "8b", 22);
    expect_hostile_stays_text(t, VARIANT_HD, PROMPT_VIDEO);
    expect_hostile_stays_text(t, VARIANT_HD, PROMPT_NO_MEDIA);
    tokenizer_close(t);
}

static void golden_internlm2(void **state)
{
    (void)state;
    struct tokenizer *t = internlm2();
    check_rows(t, VARIANT_INTERNLM, "internlm", 44);
    expect_hostile_stays_text(t, VARIANT_INTERNLM, PROMPT_VIDEO);
    expect_hostile_stays_text(t, VARIANT_INTERNLM, PROMPT_NO_MEDIA);
    tokenizer_close(t);
}

// The prompts of all cases that went through a model.
static void golden_cases(void **state)
{
    (void)state;
    struct tokenizer *hd = mistral(), *im = internlm2();
    struct js_doc d;
    struct err e = {0};
    size_t n_case = 0;
    assert_int_equal(js_load(&d, TEST_SHARED "/golden/manifest.json", 64 << 20, ERR_FAIL, &e), 0);
    const js_value *cases = js_get(d.root, "cases");
    for (size_t i = 0; i < js_size(cases); i++) {
        const js_value *c = js_at(cases, i);
        const char *name = js_str(js_get(c, "id"), NULL);
        if (!js_get(js_get(c, "values"), "prompt_ids"))
            continue;
        bool internlm = !strncmp(name, "internlm/", 9), one = !strncmp(name, "8b/", 3);
        check_case(internlm ? im : hd,
                   internlm ? VARIANT_INTERNLM
                   : one    ? VARIANT_8B
                            : VARIANT_HD,
                   c, name);
        n_case++;
    }
    assert_int_equal(n_case, 36);
    js_free(&d);
    tokenizer_close(hd);
    tokenizer_close(im);
}

#define VISUAL   -N_QUERY
#define COUNT(a) (sizeof(a) / sizeof *(a))

// SPEC 6.6 and 6.7.
static void spec_sequences(void **state)
{
    (void)state;
    struct tokenizer *t = mistral();
    struct prompt p;
    static const int32_t first[] = {1,     29473, 3,     1291,  12529,  29535,  VISUAL, 1,
                                    2635,  12529, 4177,  12529, 29535,  VISUAL, 1,      2635,
                                    12529, 4177,  12529, 29535, VISUAL, 1,      2635,   12529,
                                    29535, 4,     29473, 3,     28752,  1040,   3760,   4475,
                                    1254,  4475,  29491, 29473, 4};
    struct prompt_request r =
        prompt_request_of(VARIANT_HD, PROMPT_VIDEO, 3, "Describe the action step by step.");
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(p.ids.n, 322);
    expect_ids(&p, first, COUNT(first), "first turn");
    size_t n_first = p.ids.n;
    prompt_free(&p);

    static const int32_t second[] = {1782,  4566, 5138, 1032, 3739, 14569, 22383, 29491, 2,
                                     29473, 3,    2592, 1117, 1398, 8960,  29572, 29473, 4};
    struct prompt_turn turn = {.question = r.question,
                               .answer =
                                   prompt_text_of("The video shows a woman performing yoga.")};
    r.question = prompt_text_of("What is she wearing?");
    r.turn = &turn;
    r.n_turn = 1;
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(p.ids.n, 340);
    assert_memory_equal(p.ids.v + n_first, second, sizeof second);
    prompt_free(&p);

    // Text alone: as the first user turn, without the gap.
    static const int32_t alone[] = {1, 29473, 3, 16127, 29473, 4};
    r = prompt_request_of(VARIANT_HD, PROMPT_NO_MEDIA, 0, "Hi");
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    expect_ids(&p, alone, COUNT(alone), "text alone");
    prompt_free(&p);
    tokenizer_close(t);

    static const int32_t internlm[] = {1,    92543, 1008, 364,    333,  1447,   330,  VISUAL, 1,
                                       654,  1447,  1936, 1447,   330,  VISUAL, 1,    654,    1447,
                                       1936, 1447,  330,  VISUAL, 1,    654,    1447, 330,    92542,
                                       364,  92543, 1008, 364,    5054, 3280,   410,  2068,   3185,
                                       684,  3185,  281,  92542,  364,  92543,  525,  11353,  364};
    t = internlm2();
    r = prompt_request_of(VARIANT_INTERNLM, PROMPT_VIDEO, 3, "Describe the action step by step.");
    assert_int_equal(prompt_build(&p, t, &r, NULL), 0);
    assert_int_equal(p.ids.n, 330);
    expect_ids(&p, internlm, COUNT(internlm), "internlm");
    prompt_free(&p);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_mistral),
        cmocka_unit_test(golden_internlm2),
        cmocka_unit_test(golden_cases),
        cmocka_unit_test(spec_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
