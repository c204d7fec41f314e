// SPDX-License-Identifier: MIT
// Damaged and hostile tokenizer files: each is refused with a message that names the cause. No file here
// comes from outside; all are made from the small ones of text_fixture.h.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/tokenizer.h"
#include "tempdir.h"
#include "text_fixture.h"

static void says(int rc, int code, const struct err *e, const char *message)
{
    if (rc != code || !strstr(e->msg, message))
        fail_msg("%d \"%s\", expected %d \"%s\"", rc, rc ? e->msg : "", code, message);
}

// ---- tokenizer.json: one place of the good text is replaced

static void json_says(const char *text, size_t n, const char *message)
{
    struct err e;
    struct tokenizer *t;
    int rc = tokenizer_open_json(text, n, "dir/tokenizer.json", &t, &e);
    assert_null(rc ? t : NULL);
    says(rc, ERR_MODEL, &e, message);
    assert_non_null(strstr(e.msg, "dir/tokenizer.json"));
}

static void json_with(const char *from, const char *to, const char *message)
{
    struct buf good = {0}, bad = {0};
    fixture_json(&good);
    const char *at = strstr(good.data, from);
    assert_non_null(at);
    buf_add(&bad, good.data, (size_t)(at - good.data));
    buf_add_str(&bad, to);
    buf_add_str(&bad, at + strlen(from));
    json_says(bad.data, bad.len, message);
    buf_free(&good);
    buf_free(&bad);
}

static void json_pieces(void **state)
{
    (void)state;
    json_with("\"<0x41>\"", "\"<0x-1>\"", "byte piece 70 is \"<0x-1>\"");
    json_with("\"<0x41>\"", "\"<0xZZ>\"", "byte piece 70 is \"<0xZZ>\"");
    json_with("\"<0xAB>\"", "\"<0xab>\"", "byte piece 176 is \"<0xab>\"");
    json_with("\"<0x41>\"", "\"<0x041>\"", "byte piece 70 is \"<0x041>\"");
    json_with("\"<0x41>\"", "\"<0x>\"", "byte piece 70 is \"<0x>\"");
    json_with("\"<0x41>\"", "\"gone\"", "byte piece <0x41> is missing");
    json_with("\"abc\":", "\"\":", "piece 271 is empty");
    json_with("\"abc\":", "\"ab\":", "duplicate object key");
    json_with("\"abc\":271", "\"abc\":270", "both have id 270");
    json_with("\"abc\":271", "\"abc\":274", "\"abc\": the id is not a number below 274");
    json_with("\"abc\":271", "\"abc\":-1", "\"abc\": the id is not a number below 274");
    json_with("\"abc\":271", "\"abc\":271.5", "\"abc\": the id is not a number below 274");
    json_with("\"abc\":271", "\"abc\":18446744073709551616", "invalid JSON");
    json_with(",\"abc\":271", "",
              "id is not a number below 273"); // a wrong count: some id is left over
    json_with("\"</s>\":2", "\"</z>\":2",
              "id 2 is \"</s>\" in added_tokens, \"</z>\" in model.vocab");
}

static void json_long_piece(void **state)
{
    (void)state;
    struct buf good = {0}, bad = {0};
    fixture_json(&good);
    const char *at = strstr(good.data, "\"abc\":");
    assert_non_null(at);
    buf_add(&bad, good.data, (size_t)(at - good.data) + 1);
    for (size_t i = 0; i < (size_t)10 << 20; i += 16)
        buf_add_str(&bad, "0123456789abcdef");
    buf_add_str(&bad, at + 4);
    json_says(bad.data, bad.len, "piece 271 has 10485760 bytes, at most 1024 are accepted");
    buf_free(&good);
    buf_free(&bad);
}

static void json_merges(void **state)
{
    (void)state;
    json_with("\"a bc\"", "\"b bc\"",
              "merge 6, \"b\" and \"bc\": a half or the whole is no ordinary piece");
    json_with("\"a bc\"", "\"a zz\"", "merge 6, \"a\" and \"zz\"");
    json_with("\"a bc\"", "\"abc\"", "merge 6 is not a pair of pieces");
    json_with("\"a bc\"", "\" abc\"", "merge 6, \"\" and \"abc\"");
    json_with("\"a bc\"", "\"abc \"", "merge 6, \"abc\" and \"\"");
    json_with("\"a bc\"", "[\"a\"]", "merge 6 is not a pair of pieces");
    json_with("\"a bc\"", "[\"a\",7]", "merge 6 is not a pair of pieces");
    json_with("\"a bc\"", "7", "merge 6 is not a pair of pieces");
    json_with("\"a bc\"", "\"ab c\"", "merge 6 repeats merge 5");
    json_with("\"added_tokens\":[", "\"added_tokens\":[{\"id\":271,\"content\":\"abc\"},",
              "merge 5, \"ab\" and \"c\": a half or the whole is no ordinary piece");
    json_with("\"a bc\"", "\"<s> a\"", "merge 6, \"<s>\" and \"a\"");
    json_with("\"merges\":[", "\"m\":[", "model.merges is no list");
    struct err e;
    struct tokenizer *t;
    struct buf good = {0}, pairs = {0};
    fixture_json(&good);
    char *at = strstr(good.data, "\"a bc\"");
    buf_add(&pairs, good.data, (size_t)(at - good.data));
    buf_add_str(&pairs, "[\"a\",\"bc\"]"); // the other form of a merge
    buf_add_str(&pairs, at + 6);
    says(tokenizer_open_json(pairs.data, pairs.len, "j", &t, &e), 0, &e, "");
    tokenizer_close(t);
    buf_free(&good);
    buf_free(&pairs);
}

static void json_rest(void **state)
{
    (void)state;
    json_with("\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type is Unigram, only BPE");
    json_with("\"type\":\"BPE\",", "", "model.type is missing");
    json_with("\"byte_fallback\":true", "\"byte_fallback\":false",
              "model.byte_fallback is not true");
    json_with("\"vocab\":{", "\"vocab\":{},\"v\":{", "model.vocab has 0 pieces");
    json_with("\"model\":{", "\"m\":{", "model.type is missing");
    json_with("\"added_tokens\":[", "\"added_tokens\":{},\"a\":[",
              "added_tokens is missing or empty");
    json_with("{\"id\":4,\"content\":\"[/INST]\"", "{\"id\":4", "added token 4 has no content");
    json_with("\"content\":\"[/INST]\"", "\"content\":\"\"", "added token 4 has no content");
    json_with("{\"id\":4,\"content\":\"[/INST]\"", "{\"id\":3,\"content\":\"[INST]\"",
              "two added tokens have id 3");
    json_with("{\"id\":4,", "{\"id\":900,", "added token id 900, but ids end at 274");
    json_with("{\"id\":4,", "{\"id\":-4,", "added_tokens[4]: id is missing or no number");
    json_with("\"content\":\"[/INST]\",\"lstrip\":false", "\"content\":\"[/INST]\",\"lstrip\":true",
              "added token 4: lstrip is not supported");
    json_with("\"content\":\"[/INST]\"", "\"content\":\"abc\"",
              "id 4 is \"abc\" in added_tokens, \"[/INST]\" in model.vocab");
    json_with("\"content\":\"[/INST]\"", "\"content\":\"[/INST\"",
              "id 4 is \"[/INST\" in added_tokens, \"[/INST]\" in model.vocab");
    json_says("", 0, "invalid JSON");
    json_says("[]", 2, "model.type is missing");
    json_says("{\"model\":\xFF}", 10, "invalid JSON");
    struct buf deep = {0}, good = {0};
    for (int i = 0; i < 100000; i++)
        buf_add_str(&deep, "[");
    json_says(deep.data, deep.len, "invalid JSON");
    fixture_json(&good);
    for (size_t n = 1; n < good.len; n += 97)
        json_says(good.data, n, "invalid JSON");
    buf_free(&deep);
    buf_free(&good);
}

// ---- tokenizer.model

static void model_says(const void *p, size_t n, enum tokenizer_kind kind, const char *message)
{
    struct err e;
    struct tokenizer *t;
    int rc = tokenizer_open_model(p, n, NULL, 0, "dir/tokenizer.model", kind, &t, &e);
    assert_null(rc ? t : NULL);
    says(rc, ERR_MODEL, &e, message);
}

// A copy of exactly n bytes, so that a sanitizer sees the first byte read beyond them.
static void model_cut(const char *p, size_t n, const char *message)
{
    char *copy = mem_calloc(n, 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    model_says(copy, n, TOKENIZER_MISTRAL, message);
    mem_free(copy);
}

static void model_truncated(void **state)
{
    (void)state;
    struct buf m = {0};
    fixture_model(&m, false);
    for (size_t n = 0; n < m.len; n++)
        model_cut(m.data, n, "dir/tokenizer.model");
    model_cut(m.data, m.len - 1, "a field is longer than what is left");
    model_cut(m.data, 1, "byte 1: the file ends inside a number");
    model_cut(m.data, 0, "model type 1, only BPE (2) is supported");
    buf_free(&m);
}

static void model_flipped(void **state)
{
    (void)state;
    struct buf m = {0};
    struct err e;
    struct tokenizer *t;
    fixture_model(&m, true);
    // no expectation but an answer: every byte, several values
    for (size_t i = 0; i < m.len; i++) {
        static const unsigned char flip[] = {0x01, 0x80, 0xFF, 0x05};
        unsigned char old = (unsigned char)m.data[i];
        unsigned char change = flip[i % 4];
        m.data[i] = (char)(old ^ change);
        int rc = tokenizer_open_model(m.data, m.len, NULL, 0, "m", TOKENIZER_INTERNLM2, &t, &e);
        assert_true(rc == 0 || rc == ERR_MODEL);
        tokenizer_close(t);
        m.data[i] = (char)old;
    }
    buf_free(&m);
}

static void model_with(const char *p, size_t n, float score, unsigned type, const char *message)
{
    struct buf m = {0};
    fixture_model(&m, false);
    fixture_piece(&m, p, n, score, type);
    model_says(m.data, m.len, TOKENIZER_MISTRAL, message);
    buf_free(&m);
}

static void model_pieces(void **state)
{
    (void)state;
    uint32_t nan_bits = 0x7FC00000, inf_bits = 0xFF800000;
    float not_a_number, infinite;
    memcpy(&not_a_number, &nan_bits, 4);
    memcpy(&infinite, &inf_bits, 4);
    model_with("<0x-1>", 6, 0, 6, "byte piece 274 is \"<0x-1>\", not <0x00> to <0xFF>");
    model_with("<0xZZ>", 6, 0, 6, "byte piece 274 is \"<0xZZ>\"");
    model_with("<0x\0\0>", 6, 0, 6, "byte piece 274 is \"<0x");
    model_with("<0x41>>", 7, 0, 6, "byte piece 274 is \"<0x41>>\"");
    model_with("<0x410>", 7, 0, 6, "byte piece 274 is \"<0x410>\"");
    model_with("<0x41>", 6, 0, 6, "piece 274 repeats piece 70 \"<0x41>\"");
    model_with("", 0, 0, 0, "piece 274 is empty");
    model_with("", 0, 0, 4, "piece 274 is empty");
    model_with("abc", 3, 0, 0, "piece 274 repeats piece 271 \"abc\"");
    model_with("\xE2\x96", 2, 0, 0, "piece 274 is not valid UTF-8");
    model_with("x", 1, not_a_number, 0, "the score of piece 274 is not a finite number");
    model_with("x", 1, infinite, 0, "the score of piece 274 is not a finite number");
    model_with("x", 1, 0, 5, "piece 274 has type 5, not supported");
    model_with("x", 1, 0, 7, "piece 274 has type 7, not supported");
    struct buf huge = {0};
    for (size_t i = 0; i < (size_t)10 << 20; i += 16)
        buf_add_str(&huge, "0123456789abcdef");
    model_with(huge.data, huge.len, 0, 0,
               "piece 274 has 10485760 bytes, at most 1024 are accepted");
    buf_free(&huge);
}

static void model_fields(void **state)
{
    (void)state;
    static const struct {
        const char *p;
        size_t n;
        const char *message;
    } tail[] = {
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11, "a field is longer than what is left"},
        {"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 11, "a number has more than 64 bits"},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "a number has more than 64 bits"},
        {"\x02", 1, "a field number out of range"},
        {"\x80\x80\x80\x80\x10\x00", 6, "a field number out of range"},
        {"\x7B", 1, "a field of unknown wire type"},
        {"\x7E", 1, "a field of unknown wire type"},
        {"\x79\0\0\0\0\0\0\0", 8, "the file ends inside a number"},
        {"\x08\x01", 2, "a field has the wrong wire type"},         // pieces as a number
        {"\x12\x02\x1A\x00", 4, "a field has the wrong wire type"}, // model_type as bytes
        {"\x0A\x02\x08\x01", 4, "a field has the wrong wire type"}, // a piece's string as a number
        {"\x12\x02\x18\x01", 4, "model type 1, only BPE (2)"},      // the last one counts
        {"\x12\x03\x98\x02\x00", 5, "byte_fallback is off"},
        {"\x12\x03\xC0\x01\x01", 5, "the normaliser is not the identity"}, // whitespace as suffix
        {"\x1A\x02\x20\x01", 4, "the normaliser is not the identity"},  // remove_extra_whitespaces
        {"\x1A\x02\x28\x00", 4, "the normaliser is not the identity"},  // no escape
        {"\x1A\x03\x12\x01x", 5, "the normaliser is not the identity"}, // a character map
    };
    for (size_t i = 0; i < sizeof tail / sizeof *tail; i++) {
        struct buf m = {0};
        fixture_model(&m, false);
        buf_add(&m, tail[i].p, tail[i].n);
        model_says(m.data, m.len, TOKENIZER_MISTRAL, tail[i].message);
        buf_free(&m);
    }
    struct buf m = {0};
    struct err e;
    struct tokenizer *t;
    fixture_model(&m, false);
    buf_add(&m, "\x7A\x01x\x78\x05\x7D\1\2\3\4\x79\1\2\3\4\5\6\7\10",
            19); // unknown fields are skipped
    says(tokenizer_open_model(m.data, m.len, NULL, 0, "m", TOKENIZER_MISTRAL, &t, &e), 0, &e, "");
    tokenizer_close(t);
    model_says(m.data, m.len, TOKENIZER_INTERNLM2, "add_dummy_prefix is on");
    buf_reset(&m);
    fixture_model(&m, true);
    buf_add(&m, "\x1A\x02\x18\x01", 4);
    model_says(m.data, m.len, TOKENIZER_INTERNLM2, "add_dummy_prefix is on");
    buf_free(&m);
}

static void config_says(const char *config, const char *message)
{
    struct buf m = {0};
    struct err e;
    struct tokenizer *t;
    fixture_model(&m, false);
    int rc =
        tokenizer_open_model(m.data, m.len, config, strlen(config), "m", TOKENIZER_MISTRAL, &t, &e);
    assert_null(rc ? t : NULL);
    says(rc, ERR_MODEL, &e, message);
    buf_free(&m);
}

static void configs(void **state)
{
    (void)state;
    config_says("", "tokenizer_config.json: invalid JSON");
    config_says("{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}", "\"x\" is no id");
    config_says("{\"added_tokens_decoder\":{\"-1\":{\"content\":\"y\"}}}", "\"-1\" is no id");
    config_says("{\"added_tokens_decoder\":{\"\":{\"content\":\"y\"}}}", "\"\" is no id");
    config_says("{\"added_tokens_decoder\":{\"4294967296\":{\"content\":\"y\"}}}", "is no id");
    config_says("{\"added_tokens_decoder\":{\"3\":{\"content\":7}}}",
                "added token 3 has no content");
    config_says("{\"added_tokens_decoder\":{\"3\":{\"content\":\"y\",\"rstrip\":1}}}",
                "added token 3: rstrip is not supported");
    config_says("{\"added_tokens_decoder\":{\"300\":{\"content\":\"y\"}}}",
                "id 300, but ids end at 274");
    config_says("{\"added_tokens_decoder\":{\"2\":{\"content\":\"</z>\"}}}", "there is no </s>");
    config_says("{\"added_tokens_decoder\":{\"4\":{\"content\":\"abc\"}}}",
                "piece 271 repeats piece 4");
    struct buf m = {0};
    struct err e;
    struct tokenizer *t;
    // a number beyond 64 bits, a new token after the last piece, and a renamed one
    static const char good[] = "{\"model_max_length\":1000000000000000019884624838656,"
                               "\"added_tokens_decoder\":{\"274\":{\"content\":\"[NEW]\"},"
                               "\"3\":{\"content\":\"[OLD]\"}}}";
    fixture_model(&m, false);
    says(tokenizer_open_model(m.data, m.len, good, sizeof good - 1, "m", TOKENIZER_MISTRAL, &t, &e),
         0, &e, "");
    assert_int_equal(tokenizer_size(t), 275);
    assert_int_equal(tokenizer_find(t, "[NEW]", 5), 274);
    assert_int_equal(tokenizer_find(t, "[OLD]", 5), FX_INST);
    assert_int_equal(tokenizer_find(t, "[INST]", 6), -1);
    assert_true(tokenizer_is_added(t, 274) && tokenizer_is_added(t, FX_EOS));
    struct ids out = {0};
    says(tokenizer_encode(t, &(struct text_span){"[NEW][OLD]", 10, true}, 1, &out, &e), 0, &e, "");
    assert_int_equal(out.n, 4);
    assert_int_equal(out.v[2], 274);
    assert_int_equal(out.v[3], FX_INST);
    ids_free(&out);
    tokenizer_close(t);
    buf_free(&m);
}

// Opens a model with `extra` pieces at its end and a configuration, or says why not.
static struct tokenizer *renamed(const struct buf *extra, const char *config, const char *message)
{
    struct buf m = {0};
    struct err e;
    struct tokenizer *t;
    fixture_model(&m, true);
    buf_add(&m, extra->data, extra->len);
    int rc = tokenizer_open_model(m.data, m.len, config, strlen(config), "m", TOKENIZER_INTERNLM2,
                                  &t, &e);
    says(rc, message ? ERR_MODEL : 0, &e, message ? message : "");
    buf_free(&m);
    return t;
}

static void encodes(const struct tokenizer *t, const struct text_span *span, size_t n_span,
                    const int32_t *want, size_t n)
{
    struct err e;
    struct ids out = {0};
    says(tokenizer_encode(t, span, n_span, &out, &e), 0, &e, "");
    assert_int_equal(out.n, n + 1); // and BOS
    assert_memory_equal(out.v + 1, want, n * sizeof *want);
    ids_free(&out);
}

static void renamed_pieces(void **state)
{
    (void)state;
    struct buf none = {0}, empty = {0};
    buf_add(&none, "", 0);
    fixture_piece(&empty, "", 0, 0, 4);
    // 275 = FX_DASHES, 277 = FX_IM_END, 279 = the piece after the last
    assert_null(renamed(&empty,
                        "{\"added_tokens_decoder\":{\"277\":{\"content\":\"<|im_end|>\"},"
                        "\"279\":{\"content\":\"x\"}}}",
                        "m: user-defined piece 279: 0 bytes"));
    struct tokenizer *t = renamed(&none,
                                  "{\"added_tokens_decoder\":{\"277\":{\"content\":\"<|im_end|>\"},"
                                  "\"274\":{\"content\":\"[\xC3\xA9\"},"
                                  "\"271\":{\"content\":\"abc\"}}}",
                                  NULL);
    // an ordinary piece that is an added token is one only where that is allowed, not by merging either
    encodes(t, &(struct text_span){"abc", 3, true}, 1, (const int32_t[]){FX_ABC}, 1);
    encodes(t, &(struct text_span){"abc", 3, false}, 1, (const int32_t[]){FX_AB, FX_C}, 2);
    // a token of which one byte is plain is plain, also when that byte is within a character
    struct text_span half[] = {{"[\xC3", 2, true}, {"\xA9", 1, true}};
    encodes(t, half, 2, (const int32_t[]){FX_DASH}, 1);
    half[1].special = false;
    encodes(t, half, 2, (const int32_t[]){FX_BYTE + '[', FX_E_ACUTE}, 2);
    // "--" has become an added token; where it may match, the longer "----" still goes first
    encodes(t, &(struct text_span){"------", 6, true}, 1, (const int32_t[]){FX_DASHES, FX_DASH}, 2);
    encodes(t, &(struct text_span){"------", 6, false}, 1,
            (const int32_t[]){FX_DASHES, FX_BYTE + '-', FX_BYTE + '-'}, 3);
    tokenizer_close(t);
    buf_free(&none);
    buf_free(&empty);
}

// ---- arrays, as from GGUF

static void pieces(void **state)
{
    (void)state;
    struct tokenizer_piece p[FX_COUNT];
    struct err e;
    struct tokenizer *t, *u;
    struct buf m = {0};
    fixture_model(&m, false);
    says(tokenizer_open_model(m.data, m.len, NULL, 0, "m", TOKENIZER_MISTRAL, &t, &e), 0, &e, "");
    for (int32_t i = 0; i < FX_COUNT; i++) {
        p[i].p = tokenizer_piece(t, i, &p[i].n);
        p[i].score = (float)-i;
        p[i].type = i == FX_UNK    ? PIECE_UNKNOWN
                    : i < FX_BYTE  ? PIECE_CONTROL
                    : i < FX_SPACE ? PIECE_BYTE
                                   : PIECE_NORMAL;
    }
    says(tokenizer_open_pieces(p, FX_COUNT, "x.gguf", TOKENIZER_MISTRAL, &u, &e), 0, &e, "");
    struct ids a = {0}, b = {0};
    struct text_span span = {"[INST] abc  abd\n", 16, true};
    assert_int_equal(tokenizer_encode(t, &span, 1, &a, &e), 0);
    assert_int_equal(tokenizer_encode(u, &span, 1, &b, &e), 0);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.v, b.v, a.n * sizeof *a.v);
    ids_free(&a);
    ids_free(&b);
    tokenizer_close(u);
    says(tokenizer_open_pieces(p, FX_COUNT, "x.gguf", TOKENIZER_INTERNLM2, &u, &e), ERR_MODEL, &e,
         "x.gguf: there is no <|im_end|>");
    // equal scores: the leftmost goes first, whichever piece has the lower id
    p[FX_AB].score = p[FX_BC].score = 1;
    p[FX_ABC].p = "zzz";
    for (int swap = 0; swap < 2; swap++) {
        struct tokenizer_piece other = p[FX_AB];
        says(tokenizer_open_pieces(p, FX_COUNT, "x.gguf", TOKENIZER_MISTRAL, &u, &e), 0, &e, "");
        encodes(u, &(struct text_span){"dabcd", 5, true}, 1,
                (const int32_t[]){FX_SPACE, FX_D, swap ? FX_BC : FX_AB, FX_C, FX_D}, 5);
        tokenizer_close(u);
        p[FX_AB] = p[FX_BC];
        p[FX_BC] = other;
    }
    p[FX_A].type = (enum piece_type)7;
    says(tokenizer_open_pieces(p, FX_COUNT, "x.gguf", TOKENIZER_MISTRAL, &u, &e), ERR_MODEL, &e,
         "x.gguf: piece 262 has type 7, not supported");
    assert_null(u);
    says(tokenizer_open_pieces(p, 0, "x.gguf", TOKENIZER_MISTRAL, &u, &e), ERR_MODEL, &e,
         "0 pieces");
    tokenizer_close(t);
    buf_free(&m);
}

// ---- directories

static void directories(void **state)
{
    (void)state;
    struct tempdir d;
    struct err e;
    struct tokenizer *t;
    struct buf j = {0}, m = {0};
    fixture_json(&j);
    fixture_model(&m, true);
    tempdir_make(&d);
    says(tokenizer_open(d.path, TOKENIZER_MISTRAL, &t, &e), ERR_MODEL, &e,
         "no tokenizer.json and no tokenizer.model");
    says(tokenizer_open(d.path, TOKENIZER_INTERNLM2, &t, &e), ERR_MODEL, &e, "no tokenizer.model");
    assert_null(t);
    tempdir_write(&d, "tokenizer.model", m.data, m.len);
    says(tokenizer_open(d.path, TOKENIZER_INTERNLM2, &t, &e), 0, &e, "");
    assert_int_equal(tokenizer_size(t), FX_COUNT_INTERNLM2);
    tokenizer_close(t);
    tempdir_write_text(&d, "tokenizer_config.json",
                       "{"); // there and damaged: an error, not ignored
    says(tokenizer_open(d.path, TOKENIZER_INTERNLM2, &t, &e), ERR_MODEL, &e,
         "tokenizer_config.json");
    tempdir_write(&d, "tokenizer.json", j.data, j.len); // preferred
    says(tokenizer_open(d.path, TOKENIZER_MISTRAL, &t, &e), 0, &e, "");
    assert_int_equal(tokenizer_size(t), FX_COUNT);
    tokenizer_close(t);
    tempdir_write_text(&d, "tokenizer_config.json", "{}");
    says(tokenizer_open(d.path, TOKENIZER_INTERNLM2, &t, &e), 0, &e, ""); // not of this kind
    assert_int_equal(tokenizer_size(t), FX_COUNT_INTERNLM2);
    tokenizer_close(t);
    tempdir_write_text(&d, "tokenizer.json", "");
    says(tokenizer_open(d.path, TOKENIZER_MISTRAL, &t, &e), ERR_MODEL, &e,
         "tokenizer.json: invalid JSON");
    tempdir_delete(&d, "tokenizer.json");
    assert_int_equal(mkdir(tempdir_path(&d, "tokenizer.json"), 0700), 0);
    says(tokenizer_open(d.path, TOKENIZER_MISTRAL, &t, &e), ERR_MODEL, &e, "/tokenizer.json: ");
    assert_int_equal(rmdir(tempdir_path(&d, "tokenizer.json")), 0);
    tempdir_remove(&d);
    buf_free(&j);
    buf_free(&m);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(json_pieces),     cmocka_unit_test(json_long_piece),
        cmocka_unit_test(json_merges),     cmocka_unit_test(json_rest),
        cmocka_unit_test(model_truncated), cmocka_unit_test(model_flipped),
        cmocka_unit_test(model_pieces),    cmocka_unit_test(model_fields),
        cmocka_unit_test(configs),         cmocka_unit_test(renamed_pieces),
        cmocka_unit_test(pieces),          cmocka_unit_test(directories),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
