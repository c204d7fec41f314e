// SPDX-License-Identifier: MIT
// Growable buffer: contents, the hard maximum, sticky failure, hand-over.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static void grows_and_stays_terminated(void **state)
{
    struct buf b = {0};
    (void)state;
    for (int i = 0; i < 3000; i++) {
        assert_true(buf_printf(&b, "%d,", i % 10));
        assert_int_equal(b.data[b.len], 0);
        assert_true(b.len < b.cap);
    }
    assert_int_equal(b.len, 6000);
    for (size_t i = 0; i < 6000; i += 2) {
        assert_int_equal(b.data[i], '0' + (int)(i / 2 % 10));
        assert_int_equal(b.data[i + 1], ',');
    }
    buf_free(&b);
    assert_null(b.data);
}

static void holds_any_bytes(void **state)
{
    struct buf b = {0};
    (void)state;
    assert_true(buf_add(&b, "a\0b", 3));
    assert_true(buf_add(&b, NULL, 0));
    assert_true(buf_add_str(&b, "cd"));
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.data, "a\0bcd", 6);
    buf_free(&b);
}

static void maximum_is_exact(void **state)
{
    (void)state;
    for (size_t max = 1; max < 200; max++) {
        struct buf b = {.max = max};
        for (size_t i = 0; i < max; i++)
            assert_true(buf_add(&b, "x", 1));
        assert_false(b.failed);
        assert_false(buf_add(&b, "y", 1));
        assert_true(b.failed);
        assert_int_equal(b.len, max);
        assert_int_equal(b.data[max], 0);
        buf_free(&b);
    }
}

static void failure_is_sticky(void **state)
{
    struct buf b = {.max = 4};
    (void)state;
    assert_true(buf_add_str(&b, "ab"));
    assert_false(buf_printf(&b, "%s", "cde"));
    assert_false(buf_add_str(&b, "c")); // would fit: a text with a hole must not look whole
    assert_string_equal(b.data, "ab");
    assert_null(buf_take(&b));
    assert_null(b.data);
    assert_false(b.failed); // empty again
    assert_int_equal(b.max, 4);
    assert_true(buf_add_str(&b, "wxyz"));
    buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_free(&b);
}

static void sizes_do_not_wrap(void **state)
{
    struct buf b = {.max = SIZE_MAX};
    (void)state;
    assert_true(buf_add_str(&b, "abc"));
    assert_false(buf_add(&b, "", SIZE_MAX - 2)); // 3 + that wraps
    buf_reset(&b);
    assert_false(buf_add(&b, "", SIZE_MAX - 1)); // half again of that wraps
    buf_free(&b);
}

static void memory_failure_is_reported(void **state)
{
    struct buf b = {0};
    (void)state;
    mem_fail_after(1);
    assert_false(buf_add_str(&b, "x"));
    mem_fail_after(0);
    assert_true(b.failed);
    assert_null(buf_take(&b));
    assert_true(buf_add_str(&b, "first"));
    mem_fail_after(1);
    assert_false(buf_printf(&b, "%0300d", 1));
    mem_fail_after(0);
    assert_string_equal(b.data, "first"); // what was there is still there
    buf_free(&b);
}

static void take_hands_over(void **state)
{
    struct buf b = {0};
    (void)state;
    char *p = buf_take(&b); // nothing added: an empty string, not NULL
    assert_string_equal(p, "");
    mem_free(p);
    buf_add_str(&b, "text");
    p = buf_take(&b);
    assert_string_equal(p, "text");
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, 0);
    mem_free(p);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_stays_terminated),
        cmocka_unit_test(holds_any_bytes),
        cmocka_unit_test(maximum_is_exact),
        cmocka_unit_test(failure_is_sticky),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(memory_failure_is_reported),
        cmocka_unit_test(take_hands_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
