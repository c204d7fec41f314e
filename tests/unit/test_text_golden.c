// SPDX-License-Identifier: MIT
// Every golden row of the tokenizers, from each file that can give the tokenizer; and streaming against
// decoding in one go on the same rows. Needs the shared data.
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
#include "text/detok.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

#define UPSTREAM TEST_SHARED "/data/upstream/"
#define INTERNLM TEST_SHARED "/data/internlm2/"
#define ROWS     TEST_SHARED "/golden/cases/tokenizer/"

static void need(const char *path)
{
    if (access(path, R_OK) == 0)
        return;
    printf("SKIP %s is not there\n", path);
    skip();
}

static void must(int rc, const struct err *e)
{
    if (rc != 0)
        fail_msg("%d: %s", rc, e->msg);
}

static char *slurp(const char *path, size_t *n)
{
    struct err e;
    char *p;
    must(file_read(path, 64 << 20, ERR_MODEL, &p, n, &e), &e);
    return p;
}

static struct tokenizer *open_json(void)
{
    struct err e;
    struct tokenizer *t;
    size_t n;
    need(UPSTREAM "tokenizer.json");
    char *p = slurp(UPSTREAM "tokenizer.json", &n);
    must(tokenizer_open_json(p, n, "tokenizer.json", &t, &e), &e);
    mem_free(p);
    return t;
}

static struct tokenizer *open_model(void)
{
    struct err e;
    struct tokenizer *t;
    size_t n, n_config;
    need(UPSTREAM "tokenizer.model");
    char *p = slurp(UPSTREAM "tokenizer.model", &n);
    char *c = slurp(UPSTREAM "tokenizer_config.json", &n_config);
    must(tokenizer_open_model(p, n, c, n_config, "tokenizer.model", TOKENIZER_MISTRAL, &t, &e), &e);
    mem_free(p);
    mem_free(c);
    return t;
}

static struct tokenizer *open_internlm2(void)
{
    struct err e;
    struct tokenizer *t;
    need(INTERNLM "tokenizer.model");
    must(tokenizer_open(TEST_SHARED "/data/internlm2", TOKENIZER_INTERNLM2, &t, &e), &e);
    return t;
}

// Calls each with the members "text" and "ids" of every row; returns the number of rows.
typedef void row_fn(const void *t, const char *text, size_t n, const int32_t *id, size_t n_id);

static size_t each_row(const char *path, const void *t, row_fn *each)
{
    struct err e;
    size_t size, count = 0;
    need(path);
    char *all = slurp(path, &size), *end = all + size;
    for (char *p = all, *nl; p < end && (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
        struct js_doc d;
        must(js_parse(&d, p, (size_t)(nl - p), path, ERR_FAIL, &e), &e);
        size_t n = 0;
        const char *text = js_str(js_get(d.root, "text"), &n);
        const js_value *list = js_get(d.root, "ids");
        int32_t *id = mem_calloc(js_size(list), sizeof *id);
        assert_non_null(text);
        assert_non_null(id);
        for (size_t i = 0; i < js_size(list); i++) {
            uint64_t v = 0;
            assert_true(js_u64(js_at(list, i), &v));
            id[i] = (int32_t)v;
        }
        each(t, text, n, id, js_size(list));
        mem_free(id);
        js_free(&d);
        count++;
    }
    mem_free(all);
    return count;
}

static void equal_ids(const struct ids *got, const int32_t *id, size_t n, const char *text)
{
    bool same = got->n == n && memcmp(got->v, id, n * sizeof *id) == 0;
    if (same)
        return;
    printf("\"%s\"\n expected:", text);
    for (size_t i = 0; i < n; i++)
        printf(" %d", (int)id[i]);
    printf("\n got:");
    for (size_t i = 0; i < got->n; i++)
        printf(" %d", (int)got->v[i]);
    printf("\n");
    fail();
}

static void encode_row(const void *t, const char *text, size_t n, const int32_t *id, size_t n_id)
{
    struct err e;
    struct ids out = {0};
    struct text_span whole = {text, n, true};
    must(tokenizer_encode(t, &whole, 1, &out, &e), &e);
    equal_ids(&out, id, n_id, text);
    // cut anywhere, all special: the same
    for (size_t cut = 0; cut <= n; cut += 1 + n / 7) {
        struct text_span part[] = {
            {text, cut, true}, {NULL, 0, false}, {text + cut, n - cut, true}};
        ids_reset(&out);
        must(tokenizer_encode(t, part, 3, &out, &e), &e);
        equal_ids(&out, id, n_id, text);
    }
    ids_free(&out);
}

static void decode_row(const void *t, const char *text, size_t n, const int32_t *id, size_t n_id)
{
    struct err e;
    struct buf out = {0}, stream = {0};
    struct detok d;
    must(tokenizer_decode(t, id, n_id, &out, &e), &e);
    if (out.len != n || (n && memcmp(out.data, text, n) != 0))
        fail_msg("expected \"%s\", got \"%s\"", text, out.data ? out.data : "");
    detok_init(&d, t);
    for (size_t i = 0; i < n_id; i++) {
        must(detok_push(&d, id[i], &stream, &e), &e);
        assert_true(utf8_valid(stream.data, stream.len));
        assert_true(stream.len <= n && (!stream.len || memcmp(stream.data, text, stream.len) == 0));
    }
    must(detok_finish(&d, &stream, &e), &e);
    assert_int_equal(stream.len, n);
    assert_true(n == 0 || memcmp(stream.data, text, n) == 0);
    buf_free(&out);
    buf_free(&stream);
}

static void mistral_json(void **state)
{
    (void)state;
    struct tokenizer *t = open_json();
    assert_int_equal(each_row(ROWS "mistral_encode.rows.jsonl", t, encode_row), 332);
    assert_int_equal(each_row(ROWS "mistral_decode.rows.jsonl", t, decode_row), 230);
    tokenizer_close(t);
}

static void mistral_model(void **state)
{
    (void)state;
    struct tokenizer *t = open_model();
    assert_int_equal(each_row(ROWS "mistral_encode.rows.jsonl", t, encode_row), 332);
    assert_int_equal(each_row(ROWS "mistral_decode.rows.jsonl", t, decode_row), 230);
    tokenizer_close(t);
}

// Without a configuration the control pieces keep the names of the model file, which differ where the model
// never uses them.
static void encode_row_but_unused(const void *t, const char *text, size_t n, const int32_t *id,
                                  size_t n_id)
{
    if (!strstr(text, "[control_"))
        encode_row(t, text, n, id, n_id);
}

static void mistral_model_alone(void **state)
{
    (void)state;
    struct err e;
    struct tokenizer *t;
    size_t n;
    need(UPSTREAM "tokenizer.model");
    char *p = slurp(UPSTREAM "tokenizer.model", &n);
    must(tokenizer_open_model(p, n, NULL, 0, "tokenizer.model", TOKENIZER_MISTRAL, &t, &e), &e);
    mem_free(p);
    assert_int_equal(each_row(ROWS "mistral_encode.rows.jsonl", t, encode_row_but_unused), 332);
    for (int32_t id = 0; id < 1000; id++)
        assert_int_equal(tokenizer_is_added(t, id), id <= 770);
    tokenizer_close(t);
}

static void internlm2(void **state)
{
    (void)state;
    struct tokenizer *t = open_internlm2();
    assert_int_equal(each_row(ROWS "internlm2_encode.rows.jsonl", t, encode_row), 332);
    assert_int_equal(each_row(ROWS "internlm2_decode.rows.jsonl", t, decode_row), 228);
    tokenizer_close(t);
}

static void bert_row(const void *w, const char *text, size_t n, const int32_t *id, size_t n_id)
{
    struct err e;
    struct ids out = {0};
    for (size_t cut = 0; cut <= n; cut += 1 + n / 3) {
        struct text_span part[] = {{text, cut, true}, {text + cut, n - cut, true}};
        ids_reset(&out);
        must(wordpiece_encode(w, part, 2, &out, &e), &e);
        equal_ids(&out, id, n_id, text);
    }
    ids_free(&out);
}

static void bert(void **state)
{
    (void)state;
    struct err e;
    struct wordpiece *w;
    must(wordpiece_open(NULL, &w, &e), &e);
    assert_int_equal(each_row(ROWS "bert_encode.rows.jsonl", w, bert_row), 332);
    wordpiece_close(w);
}

// The sequences of SPEC 6.5 to 6.7: pieces of prompts; the template's text is special.
static void sequence(const struct tokenizer *t, const char *text, const int32_t *id, size_t n)
{
    struct err e;
    struct ids out = {0};
    must(tokenizer_encode(t, &(struct text_span){text, strlen(text), true}, 1, &out, &e), &e);
    equal_ids(&out, id, n, text);
    ids_free(&out);
}
#define SEQUENCE(t, text, ...)                                                                     \
    sequence(t, text, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static void mistral_sequences(void **state)
{
    (void)state;
    struct tokenizer *t = open_json();
    SEQUENCE(t, "[INST] <Video>", 1, 29473, 3, 1291, 12529, 29535);
    SEQUENCE(t, "</Video><Video>", 1, 2635, 12529, 4177, 12529, 29535);
    SEQUENCE(t, "</Video>[/INST] [INST] Describe the action step by step. [/INST]", 1, 2635, 12529,
             29535, 4, 29473, 3, 28752, 1040, 3760, 4475, 1254, 4475, 29491, 29473, 4);
    SEQUENCE(
        t,
        "</Video>[/INST] [INST] Describe the action step by step. [/INST]The video shows a woman "
        "performing yoga.</s> [INST] What is she wearing? [/INST]",
        1, 2635, 12529, 29535, 4, 29473, 3, 28752, 1040, 3760, 4475, 1254, 4475, 29491, 29473, 4,
        1782, 4566, 5138, 1032, 3739, 14569, 22383, 29491, 2, 29473, 3, 2592, 1117, 1398, 8960,
        29572, 29473, 4);
    SEQUENCE(t, "</Video>[/INST] [INST] Hi [/INST]Best option:(", 1, 2635, 12529, 29535, 4, 29473,
             3, 16127, 29473, 4, 19880, 4319, 29515, 29500);
    SEQUENCE(t, "Carefully watch the video.\n[INST] <Video>", 1, 8768, 3839, 3822, 1040, 4566,
             29491, 781, 3, 1291, 12529, 29535);
    SEQUENCE(t, "[INST] <Image>", 1, 29473, 3, 1291, 4944, 29535);
    SEQUENCE(t, "</Image><Image>", 1, 2635, 4944, 4177, 4944, 29535);
    SEQUENCE(
        t,
        "</Video>The video contains 8 frames sampled at 0.6, 1.8, 3.1, 4.3, 5.6, 6.8, 8.1, 9.3 "
        "seconds.[/INST] [INST] Hi [/INST]",
        1, 2635, 12529, 29535, 1782, 4566, 6644, 29473, 29551, 16574, 5313, 10435, 1206, 29473,
        29502, 29491, 29552, 29493, 29473, 29508, 29491, 29551, 29493, 29473, 29538, 29491, 29508,
        29493, 29473, 29549, 29491, 29538, 29493, 29473, 29550, 29491, 29552, 29493, 29473, 29552,
        29491, 29551, 29493, 29473, 29551, 29491, 29508, 29493, 29473, 29542, 29491, 29538, 7999,
        29491, 4, 29473, 3, 16127, 29473, 4);
    SEQUENCE(t, "", 1);
    SEQUENCE(t, " ", 1, 1027);
    SEQUENCE(t, "a</s>b", 1, 1032, 2, 29494);
    SEQUENCE(t, "x [INST] y", 1, 2086, 29473, 3, 1105);
    SEQUENCE(t, "</s>", 1, 2);
    SEQUENCE(t, " hi", 1, 29473, 12782);
    assert_int_equal(tokenizer_size(t), 32768);
    for (int32_t id = 0; id < 32768; id++)
        assert_int_equal(tokenizer_is_added(t, id), id <= 770);
    tokenizer_close(t);
}

static void internlm2_sequences(void **state)
{
    (void)state;
    struct tokenizer *t = open_internlm2();
    SEQUENCE(t, "The quick brown fox jumps over the lazy dog.", 1, 918, 4131, 14018, 38648, 34256,
             1053, 410, 15810, 5718, 281);
    SEQUENCE(t, "<|im_start|>user\n<vid>", 1, 92543, 1008, 364, 333, 1447, 330);
    SEQUENCE(t, "</vid><vid>", 1, 654, 1447, 1936, 1447, 330);
    SEQUENCE(t,
             "</vid><|im_end|>\n<|im_start|>user\nDescribe the action step by step.<|im_end|>\n"
             "<|im_start|>assistant\n",
             1, 654, 1447, 330, 92542, 364, 92543, 1008, 364, 5054, 3280, 410, 2068, 3185, 684,
             3185, 281, 92542, 364, 92543, 525, 11353, 364);
    assert_int_equal(tokenizer_size(t), 92544);
    size_t n;
    assert_int_equal(tokenizer_eos(t, &n)[1], 92542);
    assert_int_equal(tokenizer_find(t, "<|action_start|>", 16), 92541);
    tokenizer_close(t);
}

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

// Random ids, half of them byte pieces: pieces of the stream are whole characters and add up.
static void random_streams(void **state)
{
    (void)state;
    struct tokenizer *all[] = {open_json(), open_model(), open_internlm2()};
    uint64_t seed = 1;
    struct err e;
    for (int round = 0; round < 20000; round++) {
        const struct tokenizer *t = all[round % 3];
        int32_t id[32], byte = tokenizer_find(t, "<0x00>", 6);
        size_t n = next(&seed) % 32;
        struct buf whole = {0}, stream = {0};
        struct detok d;
        for (size_t i = 0; i < n; i++) {
            uint32_t kind = next(&seed) % 8;
            id[i] = (int32_t)(kind == 0  ? next(&seed) % 800
                              : kind < 5 ? (uint32_t)byte + next(&seed) % 256
                                         : next(&seed) % (uint32_t)tokenizer_size(t));
        }
        must(tokenizer_decode(t, id, n, &whole, &e), &e);
        detok_init(&d, t);
        for (size_t i = 0; i < n; i++) {
            must(detok_push(&d, id[i], &stream, &e), &e);
            assert_true(utf8_valid(stream.data, stream.len));
        }
        must(detok_finish(&d, &stream, &e), &e);
        assert_int_equal(stream.len, whole.len);
        assert_true(whole.len == 0 || memcmp(stream.data, whole.data, whole.len) == 0);
        buf_free(&whole);
        buf_free(&stream);
    }
    for (int i = 0; i < 3; i++)
        tokenizer_close(all[i]);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(mistral_json),
        cmocka_unit_test(mistral_model),
        cmocka_unit_test(mistral_model_alone),
        cmocka_unit_test(internlm2),
        cmocka_unit_test(bert),
        cmocka_unit_test(mistral_sequences),
        cmocka_unit_test(internlm2_sequences),
        cmocka_unit_test(random_streams),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
