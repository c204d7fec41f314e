// SPDX-License-Identifier: MIT
// The strictness that loaders rely on, and getters that accept the wrong kind and NULL.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/json.h"

static void refused_n(const char *text, size_t n, const char *why)
{
    struct js_doc d = {NULL};
    struct err e = {0};
    int rc = js_parse(&d, text, n, "f.json", ERR_MODEL, &e);
    if (rc == 0)
        js_free(&d);
    assert_int_equal(rc, ERR_MODEL);
    assert_null(d.root);
    assert_memory_equal(e.msg, "f.json: invalid JSON at line ", 29);
    if (!strstr(e.msg, why))
        fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void refused(const char *text, const char *why)
{
    refused_n(text, strlen(text), why);
}

static void accepted(const char *text, struct js_doc *d)
{
    struct err e = {0};
    if (js_parse(d, text, strlen(text), "f.json", ERR_MODEL, &e) != 0)
        fail_msg("%s: %s", text, e.msg);
}

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    refused("", "");
    refused("{", "");
    refused("{\"a\":1,}", "");
    refused("[1 2]", "");
    refused("{'a':1}", "");
    refused("[01]", "");
    refused("[NaN]", "");
    refused("[Infinity]", "");
    refused("[+1]", "");
    refused("[1.]", "");
    refused("[0x10]", "");
    refused("{a:1}", "");
    refused("[\"tab\there\"]", "control character");
    refused("/* c */ {}", "");
    refused("\xef\xbb\xbf{}", "");
}

static void refuses_bare_values_and_remains(void **state)
{
    (void)state;
    refused("3", "");
    refused("\"x\"", "");
    refused("null", "");
    refused("{} {}", "end of file expected");
    refused("{}x", "end of file expected");
    refused_n("{}\0", 3, "end of file expected");
}

static void refuses_duplicates(void **state)
{
    (void)state;
    refused("{\"a\":1,\"a\":1}", "duplicate");
    refused("{\"x\":{\"a\":1,\"b\":2,\"\\u0061\":3}}",
            "duplicate"); // the same key, spelt otherwise
}

static void refuses_numbers_out_of_range(void **state)
{
    (void)state;
    refused("[1e999]", "overflow");
    refused("[-1e999]", "overflow");
    refused("[9223372036854775808]", "too big");
    refused("[-9223372036854775809]", "too big"); // jansson says so for both signs
}

static void refuses_bad_text(void **state)
{
    (void)state;
    refused("[\"\xff\"]", "unable to decode byte");
    refused("[\"\xc0\xaf\"]", "unable to decode byte");
    refused("[\"\xed\xa0\x80\"]", "unable to decode byte");
    refused("[\"\\ud800\"]", "");
    refused("[\"\\udc00x\"]", "");
    refused("[\"\\ud800\\u0041\"]", "");
    refused("[\"\\x41\"]", "");
    refused("{\"a\\u0000b\":1}", "NUL"); // keys are C strings to us
}

static void depth_has_a_limit(void **state)
{
    struct js_doc d;
    (void)state;
    for (int depth = 2000; depth <= 200000; depth *= 100) {
        struct buf b = {0};
        for (int i = 0; i < depth; i++)
            buf_add_str(&b, i % 2 ? "[" : "[{\"a\":");
        if (depth == 2000) { // 1000 pairs of "[{" and "[" make 3000 levels
            refused(b.data, "depth");
            buf_reset(&b);
            for (int i = 0; i < depth; i++)
                buf_add_str(&b, "[");
            for (int i = 0; i < depth; i++)
                buf_add_str(&b, "]");
            accepted(b.data, &d);
            js_free(&d);
        } else {
            refused(b.data, "depth");
        }
        buf_free(&b);
    }
}

static void number_of_values_has_a_limit(void **state)
{
    struct js_doc d;
    struct err e = {0};
    struct buf b = {0};
    (void)state;
    buf_add_str(&b, "[\"a,b:c[{\\\"\""); // separators within strings do not count
    for (int i = 1; i < JS_VALUE_MAX - 1; i++)
        buf_add(&b, ",0", 2);
    size_t n = b.len;
    buf_add(&b, "]", 1);
    assert_int_equal(js_parse(&d, b.data, b.len, "f.json", ERR_MODEL, &e), 0);
    assert_int_equal(js_size(d.root), JS_VALUE_MAX - 1);
    js_free(&d);
    b.len = n;
    buf_add_str(&b, ",0]");
    assert_int_equal(js_parse(&d, b.data, b.len, "f.json", ERR_MODEL, &e), ERR_MODEL);
    assert_string_equal(e.msg, "f.json: 1048577 JSON values, at most 1048576 are accepted");
    assert_null(d.root);
    buf_free(&b);
}

static void reals_may_be_huge_integers(void **state)
{
    static const char text[] = "[1000000000000000019884624838656,3]";
    struct js_doc d;
    uint64_t u = 0;
    double x = 0;
    (void)state;
    refused(text, "too big");
    assert_int_equal(js_parse_reals(&d, text, strlen(text), "f.json", ERR_MODEL, NULL), 0);
    assert_true(js_num(js_at(d.root, 0), &x) && x > 0.9e30 && x < 1.1e30);
    assert_false(js_u64(js_at(d.root, 1), &u));
    js_free(&d);
}

static void message_cannot_drive_a_terminal(void **state)
{
    struct js_doc d;
    struct err e = {0};
    (void)state;
    assert_int_equal(js_parse(&d, "\x1b[31m", 5, "a\nb", ERR_USAGE, &e), ERR_USAGE);
    assert_null(strchr(e.msg, '\x1b'));
    assert_null(strchr(e.msg, '\n'));
    assert_memory_equal(e.msg, "a\\x0ab: ", 8);
}

static void getters_find_and_check(void **state)
{
    struct js_doc d;
    uint64_t u = 7;
    double x = 7;
    bool b = false;
    size_t n = 0;
    (void)state;
    accepted("{\"u\":18,\"neg\":-1,\"big\":9223372036854775807,\"r\":2.5,\"t\":true,\"f\":false,"
             "\"z\":null,\"s\":\"a\\u0000b\",\"l\":[1,\"x\",{}],\"o\":{\"k\":1}}",
             &d);
    assert_true(js_u64(js_get(d.root, "u"), &u) && u == 18);
    assert_true(js_u64(js_get(d.root, "big"), &u) && u == INT64_MAX);
    assert_false(js_u64(js_get(d.root, "neg"), &u));
    assert_false(js_u64(js_get(d.root, "r"), &u));
    assert_false(js_u64(js_get(d.root, "t"), &u));
    assert_true(u == INT64_MAX); // untouched by failures
    assert_true(js_num(js_get(d.root, "r"), &x) && x > 2.4 && x < 2.6);
    assert_true(js_num(js_get(d.root, "neg"), &x) && x < -0.9);
    assert_false(js_num(js_get(d.root, "s"), &x));
    assert_true(js_bool(js_get(d.root, "t"), &b) && b);
    assert_true(js_bool(js_get(d.root, "f"), &b) && !b);
    assert_false(js_bool(js_get(d.root, "u"), &b));
    assert_true(js_is_null(js_get(d.root, "z")));
    assert_true(js_is_null(js_get(d.root, "absent")));
    assert_false(js_is_null(js_get(d.root, "u")));
    const char *s = js_str(js_get(d.root, "s"), &n);
    assert_int_equal(n, 3);
    assert_memory_equal(s, "a\0b", 4);
    assert_null(js_str(js_get(d.root, "u"), &n));
    assert_int_equal(js_size(js_get(d.root, "l")), 3);
    assert_int_equal(js_size(js_get(d.root, "o")), 1);
    assert_int_equal(js_size(js_get(d.root, "s")), 0);
    assert_string_equal(js_str(js_at(js_get(d.root, "l"), 1), NULL), "x");
    assert_null(js_at(js_get(d.root, "l"), 3));
    assert_null(js_at(js_get(d.root, "o"), 0));
    assert_null(js_get(js_get(d.root, "l"), "k"));
    assert_true(js_is_object(js_get(d.root, "o")) && !js_is_object(js_get(d.root, "l")));
    assert_true(js_is_array(js_get(d.root, "l")) && !js_is_array(js_get(d.root, "o")));
    assert_true(js_is_string(js_get(d.root, "s")) && !js_is_string(js_get(d.root, "z")));
    js_free(&d);
    assert_null(d.root);
    js_free(&d);
}

static void getters_accept_null(void **state)
{
    uint64_t u;
    double x;
    bool b;
    size_t n;
    (void)state;
    assert_null(js_get(NULL, "a"));
    assert_null(js_at(NULL, 0));
    assert_null(js_str(NULL, &n));
    assert_null(js_iter(NULL));
    assert_int_equal(js_size(NULL), 0);
    assert_false(js_u64(NULL, &u) || js_num(NULL, &x) || js_bool(NULL, &b));
    assert_false(js_is_object(NULL) || js_is_array(NULL) || js_is_string(NULL));
    assert_true(js_is_null(NULL));
}

static void members_come_in_file_order(void **state)
{
    struct js_doc d;
    char order[64] = "";
    size_t n, at = 0;
    (void)state;
    accepted("{\"z\":0,\"a\":1,\"mm\":2,\"b\":3,\"y\":4}", &d);
    for (void *it = js_iter(d.root); it; it = js_next(d.root, it)) {
        uint64_t v = 99;
        const char *key = js_iter_key(it, &n);
        assert_int_equal(n, strlen(key));
        assert_true(js_u64(js_iter_value(it), &v));
        at += (size_t)snprintf(order + at, sizeof order - at, "%s%d", key, (int)v);
    }
    assert_string_equal(order, "z0a1mm2b3y4");
    assert_null(js_iter(js_at(d.root, 0)));
    js_free(&d);
}

static void loads_files_of_bounded_size(void **state)
{
    char path[] = "/tmp/ivchat-json-XXXXXX";
    struct js_doc d;
    struct err e = {0};
    uint64_t u = 0;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "{\"a\":5}", 7), 7);
    close(fd);
    assert_int_equal(js_load(&d, path, 7, ERR_MODEL, &e), 0);
    assert_true(js_u64(js_get(d.root, "a"), &u) && u == 5);
    js_free(&d);
    assert_int_equal(js_load(&d, path, 6, ERR_MODEL, &e), ERR_MODEL);
    assert_null(d.root);
    assert_non_null(strstr(e.msg, path));
    unlink(path);
    assert_int_equal(js_load(&d, path, 7, ERR_MODEL, &e), ERR_MODEL);
    assert_null(d.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_bare_values_and_remains),
        cmocka_unit_test(refuses_duplicates),
        cmocka_unit_test(refuses_numbers_out_of_range),
        cmocka_unit_test(refuses_bad_text),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(number_of_values_has_a_limit),
        cmocka_unit_test(reals_may_be_huge_integers),
        cmocka_unit_test(message_cannot_drive_a_terminal),
        cmocka_unit_test(getters_find_and_check),
        cmocka_unit_test(getters_accept_null),
        cmocka_unit_test(members_come_in_file_order),
        cmocka_unit_test(loads_files_of_bounded_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
