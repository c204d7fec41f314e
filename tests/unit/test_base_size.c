// SPDX-License-Identifier: MIT
// Checked sizes at the edges of size_t.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/size.h"

static void products(void **state)
{
    size_t n = 9;
    (void)state;
    assert_true(mul_size(6, 7, &n));
    assert_int_equal(n, 42);
    assert_true(mul_size(SIZE_MAX, 1, &n));
    assert_true(n == SIZE_MAX);
    assert_true(mul_size(SIZE_MAX, 0, &n));
    assert_int_equal(n, 0);
    n = 9;
    assert_false(mul_size(SIZE_MAX / 2 + 1, 2, &n));
    assert_int_equal(n, 0);
    n = 9;
    assert_false(mul_size((size_t)1 << 32, (size_t)1 << 32, &n)); // wraps to exactly 0
    assert_int_equal(n, 0);
}

static void sums(void **state)
{
    size_t n = 9;
    (void)state;
    assert_true(add_size(SIZE_MAX - 5, 5, &n));
    assert_true(n == SIZE_MAX);
    assert_false(add_size(SIZE_MAX - 5, 6, &n));
    assert_int_equal(n, 0);
    assert_false(add_size(1, SIZE_MAX, &n));
}

static void rounding(void **state)
{
    (void)state;
    assert_int_equal(round_up(0, 64), 0);
    assert_int_equal(round_up(1, 64), 64);
    assert_int_equal(round_up(64, 64), 64);
    assert_int_equal(round_up(65, 64), 128);
    assert_int_equal(round_up(7, 1), 7);
    assert_true(round_up(SIZE_MAX, 64) == SIZE_MAX - 63);
    assert_true(round_up(SIZE_MAX - 63, 64) == SIZE_MAX - 63);
    assert_true(round_up(SIZE_MAX, 1) == SIZE_MAX);
    assert_int_equal(div_up(0, 5), 0);
    assert_int_equal(div_up(1, 5), 1);
    assert_int_equal(div_up(5, 5), 1);
    assert_int_equal(div_up(6, 5), 2);
    assert_true(div_up(SIZE_MAX, 1) == SIZE_MAX);
    assert_true(div_up(SIZE_MAX, 2) == SIZE_MAX / 2 + 1);
    assert_int_equal(min_size(3, 5), 3);
    assert_int_equal(max_size(3, 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(sums),
        cmocka_unit_test(rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
