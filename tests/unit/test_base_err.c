// SPDX-License-Identifier: MIT
// Errors and log lines: codes, escapes, cuts between characters, prefixes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/log.h"
#include "base/visible.h"

static void writes_code_and_message(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(err_set(&e, ERR_MODEL, "%s: %d of %zu", "vit", -3, (size_t)7), ERR_MODEL);
    assert_int_equal(e.code, ERR_MODEL);
    assert_string_equal(e.msg, "vit: -3 of 7");
}

static void works_without_a_place_for_it(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_MEDIA, "x"), ERR_MEDIA);
    assert_int_equal(err_prefix(NULL, "x"), ERR_FAIL);
}

static void prefix_keeps_code(void **state)
{
    struct err e = {0};
    (void)state;
    err_set(&e, ERR_LIMIT, "row %d", 3);
    assert_int_equal(err_prefix(&e, "file %s", "a"), ERR_LIMIT);
    assert_string_equal(e.msg, "file a: row 3");
    assert_int_equal(err_prefix(&e, "%s", e.msg), ERR_LIMIT);
    assert_string_equal(e.msg, "file a: row 3: file a: row 3");
    memset(&e, 0, sizeof e);
    assert_int_equal(err_prefix(&e, "p"), ERR_FAIL);
    assert_string_equal(e.msg, "p: ");
}

static void message_may_quote_itself(void **state)
{
    struct err e = {0};
    (void)state;
    err_set(&e, ERR_FAIL, "inner");
    err_set(&e, ERR_FAIL, "outer (%s)", e.msg);
    assert_string_equal(e.msg, "outer (inner)");
}

static void names_cannot_leave_the_line(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"a\nb\r\tc", "a\\x0ab\\x0d\\x09c"},
        {"\x1b[2J", "\\x1b[2J"},
        {"\x7f", "\\x7f"},
        {"\xc3\xa9 \xe7\x91\x9c \xf0\x9f\xa7\x98", "\xc3\xa9 \xe7\x91\x9c \xf0\x9f\xa7\x98"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"},                                        // U+009B: ESC [ in one character
        {"\x9b", "\\x9b"},                                        // the same as a byte
        {"\xe9t\xe9", "\\xe9t\\xe9"},                             // Latin-1
        {"\xc0\xaf", "\\xc0\\xaf"},                               // overlong
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},                      // overlong
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                      // surrogate
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},             // past U+10FFFF
        {"\xf0\x9f\xa7", "\\xf0\\x9f\\xa7"},                      // ends within a character
        {"x\xe2\x80\xaey", "x\\xe2\\x80\\xaey"},                  // right-to-left override
        {"x\xe2\x80\xa8y", "x\\xe2\\x80\\xa8y"},                  // line separator
        {"x\xe2\x81\xa6y", "x\\xe2\\x81\\xa6y"},                  // isolate
        {"\xef\xbb\xbfx", "\\xef\\xbb\\xbfx"},                    // byte order mark
        {"\xe2\x80\xa6\xe2\x80\xa7", "\xe2\x80\xa6\xe2\x80\xa7"}, // neighbours of those stay
        {"", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        err_set(&e, ERR_FAIL, "%s", cases[i].in);
        assert_string_equal(e.msg, cases[i].out);
    }
}

static void long_messages_are_cut_between_characters(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        char in[2 * ERR_MSG_MAX + 8] = "";
        struct err e = {0};
        for (size_t i = 0; i < shift; i++)
            in[i] = 'x';
        for (size_t i = shift; i + 4 < sizeof in; i += 4)
            memcpy(in + i, "\xf0\x9f\xa7\x98", 5);
        err_set(&e, ERR_FAIL, "%s", in);
        size_t n = strlen(e.msg);
        assert_true(n < ERR_MSG_MAX && n + 4 >= ERR_MSG_MAX);
        assert_int_equal((n - shift) % 4, 0);
        assert_memory_equal(e.msg, in, n);
        assert_null(strchr(e.msg, '\\'));

        err_prefix(&e, "front");
        n = strlen(e.msg);
        assert_true(n < ERR_MSG_MAX && n + 4 >= ERR_MSG_MAX);
        assert_memory_equal(e.msg, "front: ", 7);
        assert_memory_equal(e.msg + 7, in, n - 7);
        assert_int_equal((n - 7 - shift) % 4, 0);
    }
}

static void copy_respects_every_capacity(void **state)
{
    static const char in[] = "a\x01\xc3\xa9z";
    (void)state;
    for (size_t cap = 1; cap < 16; cap++) {
        char out[16];
        memset(out, '#', sizeof out);
        size_t n = visible_copy(out, cap, in);
        assert_true(n < cap);
        assert_int_equal(out[n], 0);
        for (size_t i = cap; i < sizeof out; i++)
            assert_int_equal(out[i], '#');
    }
    char out[16];
    assert_int_equal(visible_copy(out, sizeof out, in), 8);
    assert_string_equal(out, "a\\x01\xc3\xa9z");
}

struct heard {
    int n;
    enum log_level level;
    char line[2048];
};

static void hear(void *user, enum log_level level, const char *line)
{
    struct heard *h = user;
    h->n++;
    h->level = level;
    snprintf(h->line, sizeof h->line, "%s", line);
}

static void log_reaches_the_callback(void **state)
{
    struct heard heard = {0};
    struct hooks hooks = {.user = &heard, .log = hear}, silent = {0};
    (void)state;
    log_line(NULL, LOG_ERROR, "x");
    log_line(&silent, LOG_ERROR, "x");
    log_line(&hooks, LOG_WARN, "%d\n%s", 5, "\x1b");
    assert_int_equal(heard.n, 1);
    assert_int_equal(heard.level, LOG_WARN);
    assert_string_equal(heard.line, "5\\x0a\\x1b");
    log_line(&hooks, LOG_INFO, "%01500d", 7);
    assert_int_equal(heard.n, 2);
    assert_int_equal(strlen(heard.line), 1023);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_code_and_message),
        cmocka_unit_test(works_without_a_place_for_it),
        cmocka_unit_test(prefix_keeps_code),
        cmocka_unit_test(message_may_quote_itself),
        cmocka_unit_test(names_cannot_leave_the_line),
        cmocka_unit_test(long_messages_are_cut_between_characters),
        cmocka_unit_test(copy_respects_every_capacity),
        cmocka_unit_test(log_reaches_the_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
