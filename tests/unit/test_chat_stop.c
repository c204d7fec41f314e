// SPDX-License-Identifier: MIT
// Stop texts: found wherever the stream is cut, nothing let through too early or too late.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "chat/stop.h"

static void stop_in_one(const char *text, const char *const *stop, size_t n_stop, const char *want,
                        bool hit)
{
    // Every way to cut the text in up to three pushes; where the whole is cut must not depend on it
    // for stops of which none contains another's beginning.
    size_t n = strlen(text);
    for (size_t a = 0; a <= n; a++) {
        for (size_t b = a; b <= n; b++) {
            struct stop_match m;
            struct buf out = {0};
            assert_int_equal(stop_init(&m, stop, n_stop, NULL), 0);
            assert_int_equal(stop_push(&m, text, a, &out, NULL), 0);
            assert_int_equal(stop_push(&m, text + a, b - a, &out, NULL), 0);
            assert_int_equal(stop_push(&m, text + b, n - b, &out, NULL), 0);
            size_t early = out.len;
            assert_int_equal(stop_finish(&m, &out, NULL), 0);
            if (strcmp(out.data ? out.data : "", want) != 0)
                fail_msg("\"%s\" cut at %zu, %zu: \"%s\", expected \"%s\"", text, a, b, out.data,
                         want);
            assert_int_equal(m.hit, hit);
            if (hit)
                assert_int_equal(out.len, early);
            buf_free(&out);
            stop_free(&m);
        }
    }
}

static void stops_in_every_cut(void **state)
{
    (void)state;
    static const char *const one[] = {"\n\nUser:"}, *const two[] = {"END", "###"};
    static const char *const repeat[] = {"aab"}, *const accent[] = {"\xC3\xA9!"};
    stop_in_one("Hello\n\nUser: more", one, 1, "Hello", true);
    stop_in_one("Hello\n\nUse", one, 1, "Hello\n\nUse", false);
    stop_in_one("Hello\n\n\nUser:", one, 1, "Hello\n", true);
    stop_in_one("a ## # EN # ### END", two, 2, "a ## # EN # ", true);
    stop_in_one("EENDEND", two, 2, "E", true);
    stop_in_one("ENENEN", two, 2, "ENENEN", false);
    stop_in_one("aaaaab", repeat, 1, "aaa", true);
    stop_in_one("END", two, 2, "", true);
    stop_in_one("", two, 2, "", false);
    stop_in_one("x", NULL, 0, "x", false);
    // Not cut inside a character: its bytes come together.
    struct stop_match m;
    struct buf out = {0};
    assert_int_equal(stop_init(&m, accent, 1, NULL), 0);
    assert_int_equal(stop_push(&m, "caf\xC3\xA9", 5, &out, NULL), 0);
    assert_string_equal(out.data, "caf");
    assert_int_equal(stop_push(&m, "?", 1, &out, NULL), 0);
    assert_string_equal(out.data, "caf\xC3\xA9?");
    stop_free(&m);
    buf_free(&out);
}

// A whole stop ends the answer at once, though an earlier longer one might still come.
static void whole_stop_beats_a_beginning(void **state)
{
    (void)state;
    static const char *const stop[] = {"abcd", "bc"};
    struct stop_match m;
    struct buf out = {0};
    assert_int_equal(stop_init(&m, stop, 2, NULL), 0);
    assert_int_equal(stop_push(&m, "xab", 3, &out, NULL), 0);
    assert_string_equal(out.data, "x");
    assert_int_equal(stop_push(&m, "c", 1, &out, NULL), 0);
    assert_true(m.hit);
    assert_string_equal(out.data, "xa");
    assert_int_equal(stop_push(&m, "more", 4, &out, NULL), 0);
    assert_int_equal(stop_finish(&m, &out, NULL), 0);
    assert_string_equal(out.data, "xa");
    stop_free(&m);
    buf_free(&out);
}

static void stops_are_checked(void **state)
{
    (void)state;
    static char long_stop[STOP_BYTES_MAX + 2];
    memset(long_stop, 'a', sizeof long_stop - 1);
    const char *bad[] = {"", NULL, long_stop, "\xC3", "\xA9", "a\xFF"};
    for (size_t i = 0; i < 6; i++) {
        const char *stop[] = {"fine", bad[i]};
        struct stop_match m;
        struct err e = {0};
        assert_int_equal(stop_init(&m, stop, 2, &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, "stop: text 2"));
        assert_int_equal(m.n_stop, 0);
    }
    const char *many[STOP_MAX + 1];
    for (size_t i = 0; i <= STOP_MAX; i++)
        many[i] = "x";
    struct stop_match m;
    struct err e = {0};
    assert_int_equal(stop_init(&m, many, STOP_MAX, &e), 0);
    assert_int_equal(stop_init(&m, many, STOP_MAX + 1, &e), ERR_USAGE);
    assert_int_equal(stop_init(&m, many, 100000, &e), ERR_USAGE);
}

static void allocation_failures(void **state)
{
    (void)state;
    static const char *const stop[] = {"stop"};
    int n_failed = 0;
    for (uint64_t k = 1;; k++, n_failed++) {
        struct stop_match m;
        struct buf out = {0};
        assert_int_equal(stop_init(&m, stop, 1, NULL), 0);
        mem_fail_after(k);
        int rc = stop_push(&m, "some text, st", 13, &out, NULL);
        if (rc == 0)
            rc = stop_finish(&m, &out, NULL);
        mem_fail_after(0);
        if (rc == 0)
            assert_string_equal(out.data, "some text, st");
        stop_free(&m);
        buf_free(&out);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
    }
    assert_true(n_failed >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stops_in_every_cut),
        cmocka_unit_test(whole_stop_beats_a_beginning),
        cmocka_unit_test(stops_are_checked),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
