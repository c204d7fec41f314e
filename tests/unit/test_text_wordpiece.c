// SPDX-License-Identifier: MIT
// WordPiece on the built-in vocabulary and on small ones: the sequences of SPEC 5.3, Unicode corners,
// special tokens, truncation, the way back, damaged files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tempdir.h"
#include "text/wordpiece.h"

enum { UNK = 100, CLS = 101, SEP = 102, MASK = 103, DEC = 30522 };

static struct wordpiece *bert; // the built-in one, read-only

static void must(int rc, const struct err *e)
{
    if (rc != 0)
        fail_msg("%d: %s", rc, e->msg);
}

static int open_built_in(void **state)
{
    (void)state;
    struct err e;
    must(wordpiece_open(NULL, &bert, &e), &e);
    return 0;
}

static int close_built_in(void **state)
{
    (void)state;
    wordpiece_close(bert);
    wordpiece_close(NULL);
    return 0;
}

static void encodes_span(const struct wordpiece *w, const char *text, size_t n, bool special,
                         const int32_t *want, size_t n_want)
{
    struct err e;
    struct ids out = {0};
    must(wordpiece_encode(w, &(struct text_span){text, n, special}, 1, &out, &e), &e);
    if (out.n != n_want || memcmp(out.v, want, n_want * sizeof *want) != 0) {
        printf("\"%s\"\n expected:", text);
        for (size_t i = 0; i < n_want; i++)
            printf(" %d", (int)want[i]);
        printf("\n got:");
        for (size_t i = 0; i < out.n; i++)
            printf(" %d", (int)out.v[i]);
        printf("\n");
        fail();
    }
    ids_free(&out);
}

#define ENCODES(text, special, ...)                                                                \
    encodes_span(bert, text, sizeof(text) - 1, special, (const int32_t[]){CLS, __VA_ARGS__, SEP},  \
                 sizeof((const int32_t[]){CLS, __VA_ARGS__, SEP}) / sizeof(int32_t))

// The text gives the same ids as the plain form of it.
static void same(const char *text, size_t n, const char *plain)
{
    struct err e;
    struct ids out = {0};
    must(wordpiece_encode(bert, &(struct text_span){plain, strlen(plain), false}, 1, &out, &e), &e);
    encodes_span(bert, text, n, true, out.v, out.n);
    ids_free(&out);
}
#define SAME(text, plain) same(text, sizeof(text) - 1, plain)

static void published(void **state)
{
    (void)state;
    ENCODES("Watch the video and answer the question.", true, 3422, 1996, 2678, 1998, 3437, 1996,
            3160, 1012);
    ENCODES(
        "Carefully watch the video and pay attention to the cause and sequence of events, the "
        "detail "
        "and movement of objects, and the action and pose of persons. Based on your observations, "
        "select the best option that accurately addresses the question.\n",
        true, 5362, 3422, 1996, 2678, 1998, 3477, 3086, 2000, 1996, 3426, 1998, 5537, 1997, 2824,
        1010, 1996, 6987, 1998, 2929, 1997, 5200, 1010, 1998, 1996, 2895, 1998, 13382, 1997, 5381,
        1012, 2241, 2006, 2115, 9420, 1010, 7276, 1996, 2190, 5724, 2008, 14125, 11596, 1996, 3160,
        1012);
    encodes_span(bert, "", 0, true, (const int32_t[]){CLS, SEP}, 2);
    assert_int_equal(wordpiece_size(bert), 30523);
    assert_int_equal(wordpiece_pad(bert), 0);
}

static void unicode(void **state)
{
    (void)state;
    SAME("\xC3\x89t\xC3\xA9", "ete");    // accents go
    SAME("e\xCC\x81t\xC3\xA9", "ete");   // also when written apart
    SAME("\xC4\xB0stanbul", "istanbul"); // U+0130 becomes two characters
    SAME("\xE2\x84\xAB", "a");           // Angstrom sign
    SAME("a\xE2\x80\x8B"
         "b",
         "ab"); // U+200B is a format character
    SAME("a\xEE\x80\x80"
         "b",
         "ab"); // private use
    SAME("a\xC2\xA0"
         "b",
         "a b"); // no-break space
    SAME("a\xE3\x80\x80"
         "b",
         "a b"); // ideographic space
    SAME("a\xE2\x80\xA8"
         "b",
         "a b"); // line separator
    SAME("a\x1C"
         "b\x85",
         "ab"); // control character; an invalid byte is dropped
    SAME("a\xFF\xC3"
         "b\xEF\xBF\xBD",
         "ab"); // U+FFFD as well
    SAME("a\0b", "ab");
    SAME("\t\n\r ", "");
    SAME("1\xE2\x89\xA0"
         "2",
         "1 = 2");              // U+2260 is "=" and a mark, and "=" parts words
    SAME("x$y^z", "x $ y ^ z"); // ASCII symbols count as punctuation
    SAME("a\xE2\x80\x94"
         "b",
         "a \xE2\x80\x94 b"); // a dash too
    SAME("\xE4\xB8\xAD\xE5\x9B\xBD"
         "a",
         "\xE4\xB8\xAD \xE5\x9B\xBD a");
    SAME("\xCE\x91\xCE\xA3", "\xCE\xB1\xCF\x83");                 // no final sigma
    SAME("\xED\x95\x9C", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"); // hangul falls apart
}

static void specials(void **state)
{
    (void)state;
    ENCODES("[CLS][SEP] [MASK][DEC]a[PAD][UNK]", true, CLS, SEP, MASK, DEC, 1037, 0, UNK);
    ENCODES("[cls]", true, 1031, 18856, 2015, 1033);
    ENCODES("[CLS]", false, 1031, 18856, 2015, 1033);
    ENCODES("[DEC]", false, 1031, 11703, 1033);
    struct err e;
    struct ids out = {0};
    struct text_span half[] = {{"[C", 2, true}, {"LS]", 3, false}};
    must(wordpiece_encode(bert, half, 2, &out, &e), &e);
    assert_int_equal(out.n, 6);
    half[1].special = true;
    out.n = 0;
    must(wordpiece_encode(bert, half, 2, &out, &e), &e);
    assert_int_equal(out.n, 3);
    assert_int_equal(out.v[1], CLS);
    ids_free(&out);
}

static void long_words_and_texts(void **state)
{
    (void)state;
    struct err e;
    enum { N = 200 };
    char text[N + 1];
    struct ids out = {0};
    memset(text, 'z', N);
    must(wordpiece_encode(bert, &(struct text_span){text, 100, true}, 1, &out, &e), &e);
    assert_true(out.n > 3 && out.v[1] != UNK);
    encodes_span(bert, text, 101, true, (const int32_t[]){CLS, UNK, SEP}, 3);
    ENCODES("\xE2\x96\x81", true, UNK);
    // a letter with a nonspacing mark is one character of the hundred
    struct buf b = {0};
    for (int i = 0; i < 100; i++)
        buf_add_str(&b, "z\xCC\x81");
    encodes_span(bert, b.data, b.len, true, out.v, out.n);
    // truncation keeps the end
    buf_reset(&b);
    for (int i = 0; i < 20000; i++)
        buf_add_str(&b, i < 20000 - 510 ? "a " : "b ");
    buf_add_str(&b, "c");
    out.n = 0;
    must(wordpiece_encode(bert, &(struct text_span){b.data, b.len, true}, 1, &out, &e), &e);
    assert_int_equal(out.n, WORDPIECE_IDS_MAX);
    assert_int_equal(out.v[0], CLS);
    assert_int_equal(out.v[511], SEP);
    for (int i = 1; i < 510; i++)
        assert_int_equal(out.v[i], 1038);
    assert_int_equal(out.v[510], 1039);
    assert_in_range(out.cap, WORDPIECE_IDS_MAX, 10000); // and does not need room for all
    // 510 tokens fit exactly; output is appended
    must(wordpiece_encode(bert,
                          &(struct text_span){b.data + b.len - 1 - 2 * 509, 2 * 509 + 1, true}, 1,
                          &out, &e),
         &e);
    assert_int_equal(out.n, 2 * WORDPIECE_IDS_MAX);
    assert_memory_equal(out.v, out.v + 512, 512 * sizeof *out.v);
    must(wordpiece_encode(bert,
                          &(struct text_span){b.data + b.len - 1 - 2 * 510, 2 * 510 + 1, true}, 1,
                          &out, &e),
         &e);
    assert_int_equal(out.n, 3 * WORDPIECE_IDS_MAX); // 511 do not
    out.n = 2 * WORDPIECE_IDS_MAX;
    out.max = 1026;
    assert_int_equal(wordpiece_encode(bert, &(struct text_span){"a", 1, true}, 1, &out, &e),
                     ERR_LIMIT);
    assert_int_equal(out.n, 1024);
    ids_free(&out);
    buf_free(&b);
}

static void decodes(const char *text, const char *want)
{
    struct err e;
    struct ids ids = {0};
    struct buf out = {0};
    must(wordpiece_encode(bert, &(struct text_span){text, strlen(text), true}, 1, &ids, &e), &e);
    must(wordpiece_decode(bert, ids.v, ids.n, &out, &e), &e);
    buf_add(&out, "", 0);
    assert_string_equal(out.data, want);
    ids_free(&ids);
    buf_free(&out);
}

static void decode(void **state)
{
    (void)state;
    decodes("Watch the video, unbelievably SLOWLY!", "watch the video, unbelievably slowly!");
    decodes("[DEC] a [MASK] b", "a b");
    decodes("", "");
    decodes("it's", "it's"); // it ' s: only " ' " loses both its spaces
    struct err e;
    struct buf out = {0};
    static const int32_t joined[] = {2015, 2015}; // "##s" twice: the first has nothing to join
    must(wordpiece_decode(bert, joined, 2, &out, &e), &e);
    assert_string_equal(out.data, "##ss");
    static const int32_t bad[] = {30523, -1};
    for (int i = 0; i < 2; i++)
        assert_int_equal(wordpiece_decode(bert, &bad[i], 1, &out, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "outside the vocabulary of 30523"));
    buf_free(&out);
}

static void own_vocabulary(void **state)
{
    (void)state;
    struct err e;
    struct wordpiece *w;
    static const char text[] = "[SEP]\n[CLS]\r\n[UNK]\n[PAD]\na\n##b\nab\nlongest";
    must(wordpiece_open_text(text, sizeof text - 1, "vocab.txt", &w, &e), &e);
    assert_int_equal(wordpiece_size(w), 9); // no newline at the end, no [MASK], [DEC] added
    assert_int_equal(wordpiece_find(w, "[DEC]", 5), 8);
    assert_int_equal(wordpiece_pad(w), 3);
    size_t n;
    assert_memory_equal(wordpiece_piece(w, 1, &n), "[CLS]", 5);
    assert_int_equal(n, 5);
    assert_null(wordpiece_piece(w, 9, &n));
    // longest first: "abb" = ab ##b; the longest piece of all has to be reached
    encodes_span(w, "abb longest longestb abd b [MASK]", 33, true,
                 (const int32_t[]){1, 6, 5, 7, 7, 5, 2, 2, 2, 2, 2, 0}, 12);
    encodes_span(w, "[DEC]a", 6, true, (const int32_t[]){1, 8, 4, 0}, 4);
    wordpiece_close(w);
    // a file that has [DEC] keeps its place
    static const char with_dec[] = "[DEC]\n[SEP]\n[CLS]\n[UNK]\n[PAD]\n";
    must(wordpiece_open_text(with_dec, sizeof with_dec - 1, "vocab.txt", &w, &e), &e);
    assert_int_equal(wordpiece_size(w), 5);
    assert_int_equal(wordpiece_find(w, "[DEC]", 5), 0);
    wordpiece_close(w);
}

static void refuses(const char *text, size_t n, const char *message)
{
    struct err e;
    struct wordpiece *w;
    assert_int_equal(wordpiece_open_text(text, n, "vocab.txt", &w, &e), ERR_MODEL);
    assert_null(w);
    if (!strstr(e.msg, message) || !strstr(e.msg, "vocab.txt"))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, message);
}
#define REFUSES(text, message) refuses(text, sizeof(text) - 1, message)

static void damaged(void **state)
{
    (void)state;
    REFUSES("", "there is no [PAD]");
    REFUSES("[PAD]\n[UNK]\n[CLS]\n", "there is no [SEP]");
    REFUSES("[PAD]\n\n[UNK]\n", "piece 1 is empty");
    REFUSES("[PAD]\n[UNK]\n[PAD]\n", "piece 2 repeats piece 0 \"[PAD]\"");
    REFUSES("[PAD]\n\xFF\n", "line 2 is not valid UTF-8");
    struct buf b = {0};
    for (int i = 0; i < 10 << 20; i += 8)
        buf_add_str(&b, "aaaaaaaa");
    refuses(b.data, b.len, "piece 0 has 10485760 bytes, at most 1024");
    buf_reset(&b);
    for (int i = 0; i < 1 << 20; i++)
        buf_add_str(&b, "\n");
    refuses(b.data, b.len, "1048577 pieces, 1 to 1048576 are accepted");
    buf_free(&b);
}

static bool third_time(void *user)
{
    int *n = user;
    return ++*n >= 3;
}

static void stopped(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    static char text[N];
    struct err e;
    int asked = 0;
    const struct hooks hooks = {.user = &asked, .abort = third_time};
    struct ids out = {.hooks = &hooks};
    memset(text, 'z', N);
    assert_int_equal(wordpiece_encode(bert, &(struct text_span){text, N, false}, 1, &out, &e),
                     ERR_ABORT);
    assert_true(asked == 3 && out.n == 0);
    ids_free(&out);
}

static void directory(void **state)
{
    (void)state;
    struct tempdir d;
    struct err e;
    struct wordpiece *w;
    tempdir_make(&d);
    must(wordpiece_open(d.path, &w, &e), &e); // no vocab.txt: the built-in one
    assert_int_equal(wordpiece_size(w), 30523);
    wordpiece_close(w);
    tempdir_write_text(&d, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
    must(wordpiece_open(d.path, &w, &e), &e);
    assert_int_equal(wordpiece_size(w), 5);
    wordpiece_close(w);
    tempdir_write_text(&d, "vocab.txt", "[PAD]\n"); // there and damaged: an error, not ignored
    assert_int_equal(wordpiece_open(d.path, &w, &e), ERR_MODEL);
    assert_null(w);
    assert_non_null(strstr(e.msg, "/vocab.txt: there is no [UNK]"));
    tempdir_remove(&d);
}

static void failing_memory(void **state)
{
    (void)state;
    static const char text[] = "[SEP]\n[CLS]\n[UNK]\n[PAD]\na\n##b\n";
    uint64_t k = 0;
    struct err e;
    for (int rc = ERR_LIMIT; rc != 0;) {
        struct wordpiece *w = NULL;
        struct ids ids = {0};
        struct buf out = {0};
        mem_fail_after(++k);
        rc = wordpiece_open_text(text, sizeof text - 1, "vocab.txt", &w, &e);
        if (rc == 0)
            rc = wordpiece_encode(w, &(struct text_span){"abab b", 6, true}, 1, &ids, &e);
        if (rc == 0)
            rc = wordpiece_decode(w, ids.v, ids.n, &out, &e);
        assert_true(rc == 0 || rc == ERR_LIMIT);
        wordpiece_close(w);
        ids_free(&ids);
        buf_free(&out);
    }
    mem_fail_after(0);
    assert_in_range(k, 8, 100);
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(published),      cmocka_unit_test(unicode),
        cmocka_unit_test(specials),       cmocka_unit_test(long_words_and_texts),
        cmocka_unit_test(decode),         cmocka_unit_test(own_vocabulary),
        cmocka_unit_test(directory),      cmocka_unit_test(damaged),
        cmocka_unit_test(failing_memory), cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(test, open_built_in, close_built_in);
}
