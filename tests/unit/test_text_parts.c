// SPDX-License-Identifier: MIT
// What the tokenizers are made of: UTF-8, character classes, the literal matcher, the vocabulary table, the
// clean-up stream.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/cleanup.h"
#include "text/ids.h"
#include "text/trie.h"
#include "text/unicode.h"
#include "text/vocab.h"

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static void every_character(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        if (cp >= 0xD800 && cp < 0xE000)
            continue;
        char s[UTF8_MAX + 1] = {0};
        uint32_t back = 0;
        size_t n = utf8_encode(cp, s);
        assert_int_equal(utf8_decode(s, n, &back), n);
        assert_int_equal(back, cp);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(utf8_decode(s, k, &back), 0); // the beginning of a character
    }
}

// All sequences of up to three bytes that matter, against the definition: valid if and only if some
// character encodes to exactly these bytes, a beginning if and only if some encoding begins with them.
static void every_sequence(void **state)
{
    (void)state;
    enum { N = 1 << 24 };
    uint8_t *kind =
        mem_calloc(N, 1); // by the bytes b0 b1 b2: 1 = beginning of a four-byte one, 2 = valid
    uint8_t *pair = mem_calloc(1 << 16, 1), *one = mem_calloc(256, 1);
    assert_true(kind && pair && one);
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        if (cp >= 0xD800 && cp < 0xE000)
            continue;
        char s[UTF8_MAX];
        const uint8_t *u = (const uint8_t *)s;
        size_t n = utf8_encode(cp, s);
        one[u[0]] = n == 1 ? 2 : 1;
        if (n >= 2)
            pair[u[0] << 8 | u[1]] = n == 2 ? 2 : 1;
        if (n >= 3)
            kind[u[0] << 16 | u[1] << 8 | u[2]] = n == 3 ? 2 : 1;
    }
    size_t wrong = 0;
    for (uint32_t v = 0; v < N; v += v < 0xC00000 ? 251 : 1) {
        char s[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        uint32_t cp;
        uint8_t a = one[v >> 16], b = pair[v >> 8], c = kind[v];
        int want = a == 2 ? 1 : b == 2 ? 2 : c == 2 ? 3 : a && b && c ? 0 : -1;
        wrong += utf8_decode(s, 3, &cp) != want;
    }
    assert_int_equal(wrong, 0);
    mem_free(kind);
    mem_free(pair);
    mem_free(one);
}

static void classes(void **state)
{
    (void)state;
    assert_true(uni_is_control(0) && uni_is_control(0x7F) && uni_is_control(0x200B) &&
                uni_is_control(0xE000) && uni_is_control(0x0378) && uni_is_control(0x10FFFF));
    assert_false(uni_is_control('\n') || uni_is_control('a') || uni_is_control(0x2028));
    assert_true(uni_is_space(' ') && uni_is_space('\t') && uni_is_space(0xA0) &&
                uni_is_space(0x3000) && uni_is_space(0x2028) && uni_is_space(0x2029));
    assert_false(uni_is_space('\v') || uni_is_space(0x85) || uni_is_space(0x200B));
    static const char ascii[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    size_t n = 0;
    for (uint32_t cp = 0; cp < 0x80; cp++)
        n += uni_is_punct(cp);
    assert_int_equal(n, sizeof ascii - 1);
    for (size_t i = 0; i + 1 < sizeof ascii; i++)
        assert_true(uni_is_punct((uint32_t)ascii[i]));
    assert_true(uni_is_punct(0x2014) && uni_is_punct(0x3002) && uni_is_punct(0xBF));
    assert_false(uni_is_punct(0x20AC) || uni_is_punct(0xD7)); // Sc, Sm
    assert_true(uni_is_nonspacing(0x301));
    assert_false(uni_is_nonspacing(0x903)); // Mc
    assert_true(uni_is_cjk(0x4E00) && uni_is_cjk(0x9FFF) && uni_is_cjk(0x2FA1F));
    assert_false(uni_is_cjk(0x3042) || uni_is_cjk(0xAC00) || uni_is_cjk(0xA000));
    uint32_t d[UNI_DECOMPOSE_MAX];
    assert_int_equal(uni_lower('A', d), 1);
    assert_int_equal(d[0], 'a');
    assert_int_equal(uni_lower(0x1E9E, d), 1);
    assert_int_equal(d[0], 0xDF);
    assert_int_equal(uni_lower(0x130, d), 2);
    assert_int_equal(d[1], 0x307);
    assert_int_equal(uni_decompose(0x1E69, d), 3); // s with dot below and dot above
    assert_int_equal(d[0], 's');
    assert_int_equal(uni_decompose(0xAC01, d), 3);
    assert_int_equal(d[2], 0x11A8);
    assert_int_equal(uni_decompose(0xFB01, d),
                     1); // a ligature has only a compatibility decomposition
}

static void matcher(void **state)
{
    (void)state;
    struct trie t = {0};
    struct err e;
    int32_t id;
    assert_int_equal(trie_match(&t, "a", 1, &id), 0);
    assert_int_equal(trie_add(&t, "ab", 2, 1, &e), 0);
    assert_int_equal(trie_add(&t, "abcd", 4, 2, &e), 0);
    assert_int_equal(trie_add(&t, "b", 1, 3, &e), 0);
    assert_int_equal(trie_add(&t, "\0\xFF", 2, 4, &e), 0);
    assert_int_equal(trie_match(&t, "abce", 4, &id), 2); // falls back to the shorter one
    assert_int_equal(id, 1);
    assert_int_equal(trie_match(&t, "abcd", 4, &id), 4);
    assert_int_equal(id, 2);
    assert_int_equal(trie_match(&t, "abcd", 3, &id), 2); // not beyond the end
    assert_int_equal(trie_match(&t, "a", 1, &id), 0);
    assert_int_equal(id, -1);
    assert_int_equal(trie_match(&t, "bab", 3, &id), 1);
    assert_int_equal(trie_match(&t, "\0\xFF", 2, &id), 2);
    assert_int_equal(id, 4);
    assert_int_equal(trie_match(&t, "", 0, &id), 0);
    trie_free(&t);
}

static void table(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct vocab v;
    struct err e;
    char name[32];
    assert_int_equal(vocab_init(&v, N, N * sizeof name, "v", &e), 0);
    for (int i = 0; i < N; i++) {
        int n = snprintf(name, sizeof name, "piece %d", i * 7);
        assert_int_equal(vocab_add(&v, name, (size_t)n, "v", &e), 0);
    }
    for (int i = 0; i < 7 * N; i++) {
        int n = snprintf(name, sizeof name, "piece %d", i);
        assert_int_equal(vocab_find(&v, name, (size_t)n), i % 7 ? -1 : i / 7);
    }
    size_t len;
    assert_memory_equal(vocab_piece(&v, 3, &len), "piece 21", 8);
    assert_int_equal(len, 8);
    assert_int_equal(v.longest, 12);
    assert_int_equal(vocab_add(&v, "one more", 8, "v", &e), ERR_FAIL);
    vocab_free(&v);
    assert_int_equal(vocab_init(&v, 0, 0, "v", &e), ERR_MODEL);
    assert_int_equal(vocab_init(&v, VOCAB_COUNT_MAX + 1, 0, "v", &e), ERR_MODEL);
    vocab_free(&v);
    // what messages show ends with a whole character
    char text[64];
    memset(text, 'a', 58);
    memcpy(text + 58, "\xE2\x96\x81", 3);
    assert_int_equal(piece_shown(text, 61), 58);
    assert_int_equal(piece_shown(text, 5), 5);
    assert_int_equal(piece_shown("\x80\x80", 2), 2);
}

// A file made to collide is refused instead of walked through quadratically.
static void colliding_pieces(void **state)
{
    (void)state;
    enum { CAP = 2000, N_SLOT = 4096, WINDOW = 64 };
    struct vocab one, all;
    struct err e = {0};
    char name[32];
    int rc = vocab_init(&all, CAP, CAP * sizeof name, "v", &e);
    assert_int_equal(rc, 0);
    for (int i = 0; rc == 0; i++) {
        int n = snprintf(name, sizeof name, "%d", i);
        assert_int_equal(vocab_init(&one, CAP, sizeof name, "v", &e), 0);
        assert_int_equal(one.n_slot, N_SLOT);
        assert_int_equal(vocab_add(&one, name, (size_t)n, "v", &e), 0);
        bool near = false;
        for (size_t k = 0; k < WINDOW; k++)
            near = near || one.slot[k];
        vocab_free(&one);
        if (near)
            rc = vocab_add(&all, name, (size_t)n, "v", &e);
    }
    assert_int_equal(rc, ERR_MODEL);
    assert_non_null(strstr(e.msg, "v: more than 1024 pieces collide at piece 1"));
    assert_true(all.n > 1024 && all.n < 1024 + WINDOW + 64);
    vocab_free(&all);
}

static void id_array(void **state)
{
    (void)state;
    struct ids a = {.max = 100};
    struct err e;
    for (int32_t i = 0; i < 100; i++)
        assert_int_equal(ids_add(&a, i, &e), 0);
    assert_int_equal(ids_add(&a, 7, &e), ERR_LIMIT);
    assert_string_equal(e.msg, "token ids: 100 and 1 more, at most 100");
    assert_int_equal(a.n, 100);
    for (int32_t i = 0; i < 100; i++)
        assert_int_equal(a.v[i], i);
    assert_int_equal(ids_append(&a, a.v, SIZE_MAX, &e), ERR_LIMIT);
    ids_reset(&a);
    assert_int_equal(a.n, 0);
    ids_free(&a);
    assert_null(a.v);
    assert_int_equal(a.max, 100);
}

// One replacement of the whole text, as Python's str.replace.
static size_t replace(const char *s, size_t n, const char *from, const char *to, char *out)
{
    size_t k = 0, len = strlen(from);
    for (size_t i = 0; i < n;) {
        if (n - i >= len && memcmp(s + i, from, len) == 0) {
            memcpy(out + k, to, strlen(to));
            k += strlen(to);
            i += len;
        } else {
            out[k++] = s[i++];
        }
    }
    return k;
}

static void clean_up(void **state)
{
    (void)state;
    static const char *const rule[][2] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    static const char letter[] = "   ..?!,'''ntmsvere a";
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char a[64], b[64], text[64];
        size_t n = next(&seed) % sizeof a;
        for (size_t i = 0; i < n; i++)
            a[i] = letter[next(&seed) % (sizeof letter - 1)];
        memcpy(text, a, sizeof a);
        struct buf got = {0};
        struct cleanup c = {{0}};
        size_t cut = n ? next(&seed) % n : 0;
        cleanup_push(&c, a, cut, &got);
        cleanup_push(&c, a + cut, n - cut, &got);
        cleanup_finish(&c, &got);
        for (size_t k = 0; k < sizeof rule / sizeof *rule; k++) {
            n = replace(a, n, rule[k][0], rule[k][1], b);
            memcpy(a, b, sizeof a);
        }
        if (got.len != n || (n && memcmp(got.data, a, n) != 0))
            fail_msg("expected \"%.*s\", got \"%s\"", (int)n, a, got.data);
        buf_free(&got);
    }
}

int main(void)
{
    const struct CMUnitTest test[] = {
        cmocka_unit_test(every_character), cmocka_unit_test(every_sequence),
        cmocka_unit_test(classes),         cmocka_unit_test(matcher),
        cmocka_unit_test(table),           cmocka_unit_test(colliding_pieces),
        cmocka_unit_test(id_array),        cmocka_unit_test(clean_up),
    };
    return cmocka_run_group_tests(test, NULL, NULL);
}
