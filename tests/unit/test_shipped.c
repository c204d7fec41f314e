// SPDX-License-Identifier: MIT
// "No model named" as an embedder meets it: the variable decides, whatever it holds, and what cannot be used is an
// error of one line. Where the model lies in a tree and after installation: tests/apps/test_app_shipped.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/shipped.h"
#include "ivchat.h"
#include "tempdir.h"

static const char VARIABLE[] = "IVCHAT_MODELS_DIR";
static const char FIXTURE[] = TEST_ROOT "/fixtures/tiny-model";

static void refused(const char *folder, const char *text)
{
    char out[SHIPPED_PATH];
    struct err e = {0};
    assert_int_equal(setenv(VARIABLE, folder, 1), 0);
    assert_int_equal(shipped_find(out, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, text));
    assert_null(strchr(e.msg, '\n'));
    unsetenv(VARIABLE);
}

static void the_variable_decides(void **state)
{
    struct tempdir d;
    char out[SHIPPED_PATH];
    struct err e = {0};
    (void)state;
    tempdir_make(&d);
    refused(d.path, d.path);
    refused("/dev/null", "/dev/null");
    refused("a\nb\x1b[31m", "a\\x0ab\\x1b[31m");
    assert_int_equal(symlink(FIXTURE, tempdir_path(&d, "ivchat-small")), 0);
    assert_int_equal(setenv(VARIABLE, d.path, 1), 0);
    assert_int_equal(shipped_find(out, &e), 0);
    assert_string_equal(out, tempdir_path(&d, "ivchat-small"));
    unsetenv(VARIABLE);
    tempdir_delete(&d, "ivchat-small");
    tempdir_remove(&d);
}

// As long as a path may be, and a little more or less; far longer too.
static void long_names_are_refused(void **state)
{
    (void)state;
    for (size_t n = SHIPPED_PATH - 40; n < 3 * SHIPPED_PATH; n += n < SHIPPED_PATH + 8 ? 1 : 997) {
        char *folder = malloc(n + 1);
        assert_non_null(folder);
        memset(folder, '/', n);
        folder[n] = 0;
        refused(folder, VARIABLE);
        free(folder);
    }
}

static void engines_open_it(void **state)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    struct tempdir d;
    iv_engine *g;
    (void)state;
    tempdir_make(&d);
    assert_null(o.model);
    assert_int_equal(setenv(VARIABLE, d.path, 1), 0);
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_MODEL);
    assert_null(g);
    assert_non_null(strstr(e.message, d.path));
    assert_int_equal(symlink(FIXTURE, tempdir_path(&d, "ivchat-small")), 0);
    if (iv_engine_open(&o, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_string_equal(iv_engine_info(g)->name, "ivchat-small");
    iv_engine_close(g);
    o.model = ""; // is no "none named"
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_USAGE);
    assert_null(g);
    unsetenv(VARIABLE);
    tempdir_delete(&d, "ivchat-small");
    tempdir_remove(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_variable_decides),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(engines_open_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
