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

static void internlm2(void **state)
{
    (void)state;
    struct tokenizer *t = open_internlm2();
    assert_int_equal(each_row(ROWS "internlm2_encode.rows.jsonl", t, encode_row), 332);
    assert_int_equal(each_row(ROWS "internlm2_decode.rows.jsonl", t, decode_row), 228);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(mistral_json),
        cmocka_unit_test(mistral_model),
        cmocka_unit_test(internlm2),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
