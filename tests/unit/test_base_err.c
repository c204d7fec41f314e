// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void writes_code_and_message(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(err_set(&e, ERR_MODEL, "%s: %d of %zu", "vit", -3, (size_t)7), ERR_MODEL);
    assert_int_equal(e.code, ERR_MODEL);
    assert_string_equal(e.msg, "vit: -3 of 7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_code_and_message)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
