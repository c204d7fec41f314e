// SPDX-License-Identifier: MIT
// The language-model tokenizers on the small vocabulary of text_fixture.h: ids reckoned by hand, both files
// against a plain quadratic BPE, spans, streaming against a plain decoder, sizes, failing allocations.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/size.h"
#include "text/detok.h"
#include "text/tokenizer.h"
#include "text_fixture.h"

#define MARK "\xE2\x96\x81"

static struct tokenizer *json, *model, *internlm2; // the same for all tests, read-only

static void must(int rc, const struct err *e)
{
    if (rc != 0)
        fail_msg("%d: %s", rc, e->msg);
}

static int open_all(void **state)
{
    (void)state;
    struct err e;
    struct buf j = {0}, m = {0}, i = {0};
    fixture_json(&j);
    fixture_model(&m, false);
    fixture_model(&i, true);
    must(tokenizer_open_json(j.data, j.len, "small.json", &json, &e), &e);
    must(tokenizer_open_model(m.data, m.len, NULL, 0, "small.model", TOKENIZER_MISTRAL, &model, &e),
         &e);
    must(tokenizer_open_model(i.data, i.len, NULL, 0, "small.model", TOKENIZER_INTERNLM2,
                              &internlm2, &e),
         &e);
    buf_free(&j);
    buf_free(&m);
    buf_free(&i);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    tokenizer_close(json);
    tokenizer_close(model);
    tokenizer_close(internlm2);
    tokenizer_close(NULL);
    return 0;
}

static void check_ids(const struct ids *got, const int32_t *want, size_t n, const char *text)
{
    if (got->n == n && (n == 0 || memcmp(got->v, want, n * sizeof *want) == 0))
        return;
    printf("\"%s\"\n expected:", text);
    for (size_t i = 0; i < n; i++)
        printf(" %d", (int)want[i]);
    printf("\n got:");
    for (size_t i = 0; i < got->n; i++)
        printf(" %d", (int)got->v[i]);
    printf("\n");
    fail();
}

#define ENCODES(t, text, ...)                                                                      \
    encodes(t, text, sizeof(text) - 1, (const int32_t[]){FX_BOS, __VA_ARGS__},                     \
            sizeof((const int32_t[]){FX_BOS, __VA_ARGS__}) / sizeof(int32_t))

static void encodes(const struct tokenizer *t, const char *text, size_t n, const int32_t *want,
                    size_t n_want)
{
    struct err e;
    struct ids out = {0};
    must(tokenizer_encode(t, &(struct text_span){text, n, true}, 1, &out, &e), &e);
    check_ids(&out, want, n_want, text);
    ids_free(&out);
}

enum { NL = FX_BYTE + '\n', X = FX_BYTE + 'x' };

static void by_hand(void **state)
{
    (void)state;
    const struct tokenizer *both[] = {json, model};
    for (int i = 0; i < 2; i++) {
        const struct tokenizer *t = both[i];
        encodes(t, "", 0, (const int32_t[]){FX_BOS}, 1);
        ENCODES(t, "abc", FX_SPACE_AB, FX_C); // the prefix is merged before "bc"
        ENCODES(t, " abc", FX_SPACE, FX_SPACE_AB, FX_C);
        ENCODES(t, "dabc", FX_SPACE, FX_D, FX_ABC); // "ab" first, then "abc"
        ENCODES(t, "dbc", FX_SPACE, FX_D, FX_BC);
        ENCODES(t, "  ", FX_SPACES, FX_SPACE); // leftmost on ties
        ENCODES(t, "x\n", FX_SPACE, X, NL);
        ENCODES(t, "\xC3\xA9\xC3\xA8", FX_SPACE, FX_E_ACUTE, FX_BYTE + 0xC3, FX_BYTE + 0xA8);
        ENCODES(t, "a" MARK "a", FX_SPACE_A, FX_SPACE_A); // U+2581 counts as a space
        ENCODES(t, "a\0b", FX_SPACE_A, FX_BYTE, FX_B);
        // added tokens: nothing is put in front of what follows them
        ENCODES(t, "[INST]", FX_SPACE, FX_INST);
        ENCODES(t, "[INST] a[/INST]a", FX_SPACE, FX_INST, FX_SPACE_A, FX_END, FX_A);
        ENCODES(t, "a</s>b", FX_SPACE_A, FX_EOS, FX_B);
        ENCODES(t, "</s>", FX_EOS); // the lone prefix goes before <s> </s> <unk>, and only there
        ENCODES(t, "<unk>a", FX_UNK, FX_A);
        ENCODES(t, "<s>", FX_BOS);
        ENCODES(t, " </s>", FX_SPACES, FX_EOS);
    }
    ENCODES(internlm2, "abc", FX_ABC); // no prefix
    ENCODES(internlm2, " a", FX_SPACE_A);
    ENCODES(internlm2, "</s>a", FX_EOS, FX_A);
    ENCODES(internlm2, "-----", FX_DASHES, FX_BYTE + '-'); // longest first
    ENCODES(internlm2, "a---", FX_A, FX_DASH, FX_BYTE + '-');
    ENCODES(internlm2, "<|im_start|>a<|im_end|>", FX_IM_START, FX_A, FX_IM_END);
    ENCODES(internlm2, "[UNUSED_TOKEN_1][UNUSED_TOKEN_145]", FX_UNUSED, FX_IM_END);
}

static void invalid_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xFF", "\xC3", "\xC0", "\xED",
                                      "\xF4", "\xF5", "\x80", "\xE2"};
    enum { R0 = FX_BYTE + 0xEF, R1 = FX_BYTE + 0xBF, R2 = FX_BYTE + 0xBD };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        encodes(json, bad[i], 1, (const int32_t[]){FX_BOS, FX_SPACE, R0, R1, R2}, 5);
    // a cut character: each of its bytes counts, the letter after it stays
    ENCODES(json,
            "\xE2\x96"
            "b",
            FX_SPACE, R0, R1, R2, R0, R1, R2, FX_B);
    ENCODES(json, "\xEF\xBF\xBD", FX_SPACE, R0, R1, R2);
}

static void encode_spans(const struct tokenizer *t, const struct text_span *s, size_t n,
                         struct ids *out)
{
    struct err e;
    ids_reset(out);
    must(tokenizer_encode(t, s, n, out, &e), &e);
}

static void spans(void **state)
{
    (void)state;
    struct ids out = {0};
    static const int32_t inst[] = {FX_BOS, FX_SPACE, FX_INST, FX_A};
    static const int32_t bytes[] = {FX_BOS,        FX_SPACE,      FX_BYTE + '[',
                                    FX_BYTE + 'I', FX_BYTE + 'N', FX_BYTE + 'S',
                                    FX_BYTE + 'T', FX_BYTE + ']', FX_A};
    struct text_span two[] = {{"[IN", 3, true}, {"ST]a", 4, true}};
    encode_spans(json, two, 2, &out);
    check_ids(&out, inst, 4, "special + special");
    for (int mask = 0; mask < 3; mask++) {
        two[0].special = mask & 1;
        two[1].special = mask & 2;
        encode_spans(json, two, 2, &out);
        check_ids(&out, bytes, 9, "one half plain");
    }
    struct text_span empty[] = {{"[IN", 3, true}, {NULL, 0, false}, {"ST]a", 4, true}};
    encode_spans(json, empty, 3, &out);
    check_ids(&out, inst, 4, "an empty span does not part");
    // a plain token inside special text: the special one after it still matches
    struct text_span mixed[] = {{"a", 1, true}, {"[INST]", 6, false}, {"[INST]a", 7, true}};
    encode_spans(json, mixed, 3, &out);
    assert_int_equal(out.n, 1 + 1 + 6 + 2);
    assert_int_equal(out.v[8], FX_INST);
    // spans do not part ordinary text, not even inside a character
    static const int32_t whole[] = {FX_BOS, FX_SPACE_AB, FX_E_ACUTE};
    struct text_span cut[] = {{"a", 1, false}, {"b\xC3", 2, true}, {"\xA9", 1, false}};
    encode_spans(model, cut, 3, &out);
    check_ids(&out, whole, 3, "cut character");
    // the control token's other name, and the harmless user-defined pieces beside it
    struct text_span other[] = {{"--[UNUSED_TOKEN_145]", 20, false}};
    encode_spans(internlm2, other, 1, &out);
    assert_int_equal(out.v[1], FX_DASH);
    for (size_t i = 1; i < out.n; i++)
        assert_false(tokenizer_is_added(internlm2, out.v[i]));
    other[0] = (struct text_span){"[UNUSED_TOKEN_1]", 16, false};
    encode_spans(internlm2, other, 1, &out);
    check_ids(&out, (const int32_t[]){FX_BOS, FX_UNUSED}, 2, "unused token");
    // output is appended
    out.n = 1;
    struct err e;
    must(tokenizer_encode(json, two, 0, &out, &e), &e);
    check_ids(&out, (const int32_t[]){FX_BOS, FX_BOS}, 2, "no spans");
    ids_free(&out);
}

// A deterministic stream of numbers.
static uint32_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static size_t random_text(uint64_t *seed, char *p, size_t max)
{
    static const char *const part[] = {"a",       "b",    "c",  "d",          "ab",     "bc",
                                       " ",       "  ",   "x",  "\xC3\xA9",   "[INST]", "</s>",
                                       "[/INST]", "\xE2", "--", "<|im_end|>", "."};
    size_t n = 0;
    for (uint32_t k = next(seed) % 24; k; k--) {
        const char *s = part[next(seed) % (sizeof part / sizeof *part)];
        if (n + strlen(s) > max)
            break;
        memcpy(p + n, s, strlen(s));
        n += strlen(s);
    }
    return n;
}

// The definition of BPE: as long as there is a pair to join, join the best, leftmost one.
static size_t plain_bpe(const char *text, size_t n, int32_t *out)
{
    struct {
        const char *p;
        size_t n;
    } sym[600];
    size_t count = 0, k = 0;
    for (size_t i = 0; i < n; i += sym[count++].n) {
        uint32_t cp;
        sym[count].p = text + i;
        sym[count].n = (size_t)utf8_decode(text + i, n - i, &cp);
    }
    for (;;) {
        int32_t best = INT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int32_t id = tokenizer_find(json, sym[i].p, sym[i].n + sym[i + 1].n);
            if (id >= FX_SPACE_A && id < best) {
                best = id;
                at = i;
            }
        }
        if (best == INT32_MAX)
            break;
        sym[at].n += sym[at + 1].n;
        memmove(sym + at + 1, sym + at + 2, (count - at - 2) * sizeof *sym);
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        int32_t id = tokenizer_find(json, sym[i].p, sym[i].n);
        if (id >= 0)
            out[k++] = id;
        else
            for (size_t b = 0; b < sym[i].n; b++)
                out[k++] = FX_BYTE + (unsigned char)sym[i].p[b];
    }
    return k;
}

static void against_plain_bpe(void **state)
{
    (void)state;
    static const char *const part[] = {"a", "b", "c", "d", "ab", "bc", MARK, "x", "\xC3\xA9"};
    uint64_t seed = 1;
    struct ids out = {0};
    for (int round = 0; round < 3000; round++) {
        char text[256] = MARK; // as the tokenizer prepares it
        size_t n = 3;
        for (uint32_t k = 1 + next(&seed) % 40; k; k--) {
            const char *s = part[next(&seed) % (sizeof part / sizeof *part)];
            memcpy(text + n, s, strlen(s));
            n += strlen(s);
        }
        int32_t want[300] = {FX_BOS};
        size_t n_want = 1 + plain_bpe(text, n, want + 1);
        struct text_span span = {text + 3, n - 3, true};
        encode_spans(json, &span, 1, &out);
        check_ids(&out, want, n_want, text);
        encode_spans(model, &span, 1, &out);
        check_ids(&out, want, n_want, text);
    }
    ids_free(&out);
}

static void plain_text_has_no_control_ids(void **state)
{
    (void)state;
    const struct tokenizer *all[] = {json, model, internlm2};
    uint64_t seed = 2;
    struct ids out = {0};
    for (int round = 0; round < 3000; round++) {
        char text[256];
        size_t n = random_text(&seed, text, sizeof text);
        struct text_span span[] = {{text, n / 2, false}, {text + n / 2, n - n / 2, false}};
        for (int k = 0; k < 3; k++) {
            encode_spans(all[k], span, 2, &out);
            for (size_t i = 1; i < out.n; i++)
                assert_false(tokenizer_is_added(all[k], out.v[i]));
        }
    }
    ids_free(&out);
}

#define DECODES(t, text, ...)                                                                      \
    decodes(t, text, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

static void decodes(const struct tokenizer *t, const char *want, const int32_t *id, size_t n)
{
    struct err e;
    struct buf out = {0};
    must(tokenizer_decode(t, id, n, &out, &e), &e);
    buf_add(&out, "", 0);
    assert_string_equal(out.data, want);
    buf_free(&out);
}

static void decode_by_hand(void **state)
{
    (void)state;
    const struct tokenizer *both[] = {json, model};
    for (int i = 0; i < 2; i++) {
        const struct tokenizer *t = both[i];
        DECODES(t, "", FX_BOS);
        DECODES(t, "ab a", FX_BOS, FX_SPACE_AB, FX_SPACE_A);
        DECODES(t, " a", FX_SPACE, FX_SPACE_A); // one mark goes, not one space of the text
        DECODES(t, " ", FX_SPACES);
        DECODES(t, "ab", FX_SPACE_A, FX_EOS, FX_B); // dropped, and does not begin a run
        DECODES(t, "[INST] a", FX_SPACE, FX_INST, FX_SPACE_A);
        DECODES(t, "a [INST] [/INST] b", FX_A, FX_INST, FX_SPACE, FX_END, FX_B);
        DECODES(t, "a [INST]", FX_A, FX_INST);
        DECODES(t, "a [INST] ", FX_A, FX_INST, FX_SPACE); // an empty last run keeps its space
        DECODES(t, "a [INST]  ", FX_A, FX_INST, FX_SPACES);
        DECODES(t, "[INST] [INST]", FX_INST, FX_INST);
        DECODES(t, "\xC3\xA9", FX_BYTE + 0xC3, FX_BYTE + 0xA9);
        DECODES(t, "\xC3\xA9", FX_BYTE + 0xC3, FX_EOS, FX_BYTE + 0xA9);
        DECODES(t,
                "\xEF\xBF\xBD"
                "a",
                FX_BYTE + 0xC3, FX_A);
        DECODES(t,
                "\xEF\xBF\xBD\xEF\xBF\xBD"
                "x",
                FX_BYTE + 0xE2, FX_BYTE + 0x96, FX_BYTE + 'x');
        DECODES(t, "\xEF\xBF\xBD [INST]", FX_BYTE + 0xC3, FX_INST);
        DECODES(t, "x a", X, FX_SPACE_A);          // only a mark in the first piece goes
        DECODES(t, "a .", FX_A, FX_SPACE, FX_DOT); // no clean-up
    }
    DECODES(internlm2, " ab a", FX_BOS, FX_SPACE_AB, FX_SPACE_A, FX_IM_END);
    DECODES(internlm2, "a.", FX_A, FX_SPACE, FX_DOT);
    DECODES(internlm2, "a .", FX_A, FX_SPACES, FX_DOT);
    DECODES(internlm2, "a ", FX_A, FX_SPACE);
    DECODES(internlm2, "ab", FX_A, FX_IM_START, FX_B);
    DECODES(internlm2, "[UNUSED_TOKEN_1]--", FX_UNUSED, FX_DASH);
    DECODES(internlm2, "a'b", FX_A, FX_SPACE, FX_BYTE + '\'', FX_SPACE, FX_B);
}

// SPEC 7.5 read as sentences, on whole strings.
static void plain_decode_mistral(const int32_t *id, size_t n, struct buf *out)
{
    struct buf run = {0}; // bytes of the current run, marks and all
    size_t in_run = 0, parts = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && id[i] <= FX_EOS)
            continue;
        if (i < n && id[i] > FX_END) {
            size_t len;
            const char *p = tokenizer_piece(json, id[i], &len);
            if (in_run++ == 0 && len >= 3 && memcmp(p, MARK, 3) == 0) {
                p += 3;
                len -= 3;
            }
            if (id[i] < FX_SPACE)
                buf_printf(&run, "%c", 0x80 | (id[i] == FX_BYTE + 'x')); // see random_ids
            else
                buf_add(&run, p, len);
            continue;
        }
        if (run.len || (i == n && in_run)) {
            if (parts++)
                buf_add(out, " ", 1);
            for (size_t k = 0; k < run.len;) {
                if ((unsigned char)run.data[k] == 0x81) {
                    buf_add(out, "x", 1);
                    k++;
                } else if ((unsigned char)run.data[k] == 0x80) {
                    buf_add(out, "\xEF\xBF\xBD", 3);
                    k++;
                } else if (memcmp(run.data + k, MARK, min_size(3, run.len - k)) == 0) {
                    buf_add(out, " ", 1);
                    k += 3;
                } else {
                    size_t len = (unsigned char)run.data[k] == 0xC3 ? 2 : 1;
                    buf_add(out, run.data + k, len);
                    k += len;
                }
            }
        }
        buf_reset(&run);
        in_run = 0;
        if (i < n) {
            size_t len;
            const char *p = tokenizer_piece(json, id[i], &len);
            if (parts++)
                buf_add(out, " ", 1);
            buf_add(out, p, len);
        }
    }
    buf_free(&run);
}

// Ids whose byte pieces are either "x" or never valid.
static size_t random_ids(uint64_t *seed, int32_t *id, size_t max)
{
    size_t n = next(seed) % (max + 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t k = next(seed) % 10;
        id[i] = k < 2   ? (int32_t)(next(seed) % FX_BYTE)
                : k < 3 ? FX_BYTE + 0xFF
                : k < 4 ? X
                : k < 6 ? FX_SPACE
                        : FX_SPACE + (int32_t)(next(seed) % (FX_COUNT - FX_SPACE));
    }
    return n;
}

static void decode_random(void **state)
{
    (void)state;
    uint64_t seed = 3;
    struct err e;
    for (int round = 0; round < 5000; round++) {
        int32_t id[24];
        struct buf want = {0}, got = {0};
        size_t n = random_ids(&seed, id, 24);
        plain_decode_mistral(id, n, &want);
        must(tokenizer_decode(round % 2 ? json : model, id, n, &got, &e), &e);
        if (got.len != want.len || (got.len && memcmp(got.data, want.data, got.len) != 0))
            fail_msg("round %d: expected \"%s\", got \"%s\"", round, want.data ? want.data : "",
                     got.data ? got.data : "");
        buf_free(&want);
        buf_free(&got);
    }
}

static void streaming(void **state)
{
    (void)state;
    const struct tokenizer *all[] = {json, model, internlm2};
    uint64_t seed = 4;
    struct err e;
    for (int round = 0; round < 6000; round++) {
        const struct tokenizer *t = all[round % 3];
        struct buf whole = {0}, stream = {0};
        struct detok d;
        int32_t id[40];
        size_t n = next(&seed) % 40;
        for (size_t i = 0; i < n; i++) {
            bool byte = next(&seed) % 2;
            id[i] = (int32_t)(byte ? FX_BYTE + next(&seed) % 256 : next(&seed) % tokenizer_size(t));
            if (byte &&
                next(&seed) % 2) // spaces and what they are cleaned up before; parts of characters
                id[i] =
                    FX_BYTE +
                    (unsigned char)" .,?!'ntmsvre\xE2\x96\x81\xC3\xA9\xF0\x9F\x98\x80"[next(&seed) %
                                                                                       22];
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
}

static void bad_ids(void **state)
{
    (void)state;
    struct err e;
    struct buf out = {0};
    static const int32_t bad[] = {-1, FX_COUNT, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(tokenizer_decode(json, &bad[i], 1, &out, &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, "outside the vocabulary of 274"));
        size_t n;
        assert_null(tokenizer_piece(json, bad[i], &n));
        assert_false(tokenizer_is_added(json, bad[i]));
    }
    assert_int_equal(out.len, 0);
    buf_free(&out);
}

static void accessors(void **state)
{
    (void)state;
    size_t n;
    assert_int_equal(tokenizer_size(json), FX_COUNT);
    assert_int_equal(tokenizer_size(model), FX_COUNT);
    assert_int_equal(tokenizer_size(internlm2), FX_COUNT_INTERNLM2);
    assert_int_equal(tokenizer_kind_of(json), TOKENIZER_MISTRAL);
    assert_int_equal(tokenizer_kind_of(internlm2), TOKENIZER_INTERNLM2);
    assert_int_equal(tokenizer_bos(json), FX_BOS);
    assert_int_equal(tokenizer_eos(json, &n)[0], FX_EOS);
    assert_int_equal(n, 1);
    assert_int_equal(tokenizer_eos(internlm2, &n)[1], FX_IM_END);
    assert_int_equal(n, 2);
    assert_int_equal(tokenizer_find(json, "[/INST]", 7), FX_END);
    assert_int_equal(tokenizer_find(json, "[/INST", 6), -1);
    assert_int_equal(tokenizer_find(json, "", 0), -1);
    assert_int_equal(tokenizer_find(internlm2, "<|im_end|>", 10), FX_IM_END);
    assert_memory_equal(tokenizer_piece(json, FX_ABC, &n), "abc", 3);
    assert_int_equal(n, 3);
    for (int32_t id = 0; id < FX_COUNT; id++)
        assert_int_equal(tokenizer_is_added(json, id), id <= FX_END);
}

static void limits(void **state)
{
    (void)state;
    struct err e;
    struct ids out = {.max = 4};
    must(ids_add(&out, 77, &e), &e);
    struct text_span span = {"abcd", 4, true};
    assert_int_equal(tokenizer_encode(json, &span, 1, &out, &e), ERR_LIMIT);
    assert_int_equal(out.n, 1); // as before
    out.max = 5;
    must(tokenizer_encode(json, &span, 1, &out, &e), &e); // BOS _ab c d
    assert_int_equal(out.n, 5);
    ids_free(&out);
    struct text_span huge[] = {{"a", TEXT_MAX, true}, {"a", 1, true}}; // refused before it is read
    assert_int_equal(tokenizer_encode(json, huge, 2, &out, &e), ERR_LIMIT);
    huge[0].n = SIZE_MAX;
    assert_int_equal(tokenizer_encode(json, huge, 2, &out, &e), ERR_LIMIT);
    ids_free(&out);
    struct buf text = {.max = 2};
    static const int32_t id[] = {FX_ABC, FX_ABC};
    assert_int_equal(tokenizer_decode(json, id, 2, &text, &e), ERR_LIMIT);
    buf_free(&text);
}

// A megabyte that merges all the way, and one that does not: seconds if this were quadratic, not hours.
static void long_text(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct err e;
    char *p = mem_calloc(N, 1);
    assert_non_null(p);
    for (int round = 0; round < 3; round++) {
        memset(p, round == 0 ? ' ' : round == 1 ? 'a' : 'x', N);
        struct ids out = {0};
        struct text_span span = {p, N, true};
        must(tokenizer_encode(round % 2 ? json : model, &span, 1, &out, &e), &e);
        assert_int_equal(out.n, round == 0 ? 2 + N / 2 : round == 1 ? N + 1 : N + 2);
        ids_free(&out);
    }
    mem_free(p);
}

static int work(const struct buf *j, const struct buf *m, const struct buf *config, struct err *e)
{
    struct tokenizer *t = NULL, *u = NULL;
    struct ids ids = {0};
    struct buf out = {0};
    struct text_span span[] = {{"abc --[UNUSED_TOKEN_145]", 24, true}, {"x </s>", 6, false}};
    int rc;
    TRY(tokenizer_open_json(j->data, j->len, "small.json", &t, e));
    TRY(tokenizer_open_model(m->data, m->len, config->data, config->len, "small.model",
                             TOKENIZER_INTERNLM2, &u, e));
    TRY(tokenizer_encode(t, span, 2, &ids, e));
    TRY(tokenizer_encode(u, span, 2, &ids, e));
    TRY(tokenizer_decode(t, ids.v, 4, &out, e));
fail:
    tokenizer_close(t);
    tokenizer_close(u);
    ids_free(&ids);
    buf_free(&out);
    return rc;
}

static void failing_memory(void **state)
{
    (void)state;
    struct err e;
    struct buf j = {0}, m = {0}, config = {0};
    uint64_t k = 0;
    fixture_json(&j);
    fixture_model(&m, true);
    buf_printf(&config, "{\"added_tokens_decoder\":{\"%d\":{\"content\":\"<|im_end|>\"}}}",
               FX_IM_END);
    must(work(&j, &m, &config, &e), &e);
    for (int rc = ERR_LIMIT; rc != 0;) {
        mem_fail_after(++k);
        rc = work(&j, &m, &config, &e);
        assert_true(rc == 0 || rc == ERR_LIMIT);
    }
    mem_fail_after(0);
    assert_in_range(k, 40, 1000);
    buf_free(&j);
    buf_free(&m);
    buf_free(&config);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(invalid_utf8),
        cmocka_unit_test(spans),
        cmocka_unit_test(against_plain_bpe),
        cmocka_unit_test(plain_text_has_no_control_ids),
        cmocka_unit_test(decode_by_hand),
        cmocka_unit_test(decode_random),
        cmocka_unit_test(streaming),
        cmocka_unit_test(bad_ids),
        cmocka_unit_test(accessors),
        cmocka_unit_test(limits),
        cmocka_unit_test(long_text),
        cmocka_unit_test(failing_memory),
    };
    return cmocka_run_group_tests(test, open_all, close_all);
}
