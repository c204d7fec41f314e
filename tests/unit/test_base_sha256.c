// SPDX-License-Identifier: MIT
// The vectors of FIPS 180-2, streaming in pieces, files.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "tempdir.h"

static const char ABC[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char EMPTY[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char MILLION_A[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void hash_pieces(const uint8_t *p, size_t n, size_t piece, char text[SHA256_TEXT])
{
    struct sha256 s = {0};
    uint8_t digest[SHA256_BYTES];
    assert_int_equal(sha256_begin(&s, NULL), 0);
    for (size_t at = 0; at < n; at += piece)
        assert_int_equal(sha256_add(&s, p + at, n - at < piece ? n - at : piece, NULL), 0);
    assert_int_equal(sha256_end(&s, digest, NULL), 0);
    assert_null(s.ctx);
    sha256_text(digest, text);
}

static void test_vectors(void **state)
{
    static uint8_t a[1000000];
    char text[SHA256_TEXT];
    (void)state;
    hash_pieces((const uint8_t *)"abc", 3, 3, text);
    assert_string_equal(text, ABC);
    hash_pieces((const uint8_t *)"abc", 3, 1, text);
    assert_string_equal(text, ABC);
    hash_pieces(a, 0, 1, text);
    assert_string_equal(text, EMPTY);
    memset(a, 'a', sizeof a);
    hash_pieces(a, sizeof a, 65537, text);
    assert_string_equal(text, MILLION_A);
}

static void test_dropped(void **state)
{
    struct sha256 s = {0};
    (void)state;
    sha256_drop(&s);
    assert_int_equal(sha256_begin(&s, NULL), 0);
    assert_int_equal(sha256_add(&s, NULL, 0, NULL), 0);
    sha256_drop(&s);
    assert_null(s.ctx);
}

static bool yes(void *user)
{
    (void)user;
    return true;
}

static void test_file(void **state)
{
    static uint8_t a[1000000];
    struct tempdir d;
    struct err e = {0};
    char text[SHA256_TEXT];
    const struct hooks stop = {.abort = yes};
    (void)state;
    tempdir_make(&d);
    memset(a, 'a', sizeof a);
    tempdir_write(&d, "million", a, sizeof a);
    assert_int_equal(sha256_file(tempdir_path(&d, "million"), ERR_MODEL, NULL, text, &e), 0);
    assert_string_equal(text, MILLION_A);
    tempdir_write(&d, "empty", "", 0);
    assert_int_equal(sha256_file(tempdir_path(&d, "empty"), ERR_MODEL, NULL, text, &e), 0);
    assert_string_equal(text, EMPTY);
    assert_int_equal(sha256_file(tempdir_path(&d, "million"), ERR_MODEL, &stop, text, &e),
                     ERR_ABORT);
    assert_string_equal(text, "");
    assert_int_equal(sha256_file(tempdir_path(&d, "missing"), ERR_MODEL, NULL, text, &e),
                     ERR_MODEL);
    assert_non_null(strstr(e.msg, "missing: No such file"));
    assert_int_equal(sha256_file(d.path, ERR_MEDIA, NULL, text, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "not a regular file"));
    mem_fail_after(1);
    assert_int_equal(sha256_file(tempdir_path(&d, "million"), ERR_MODEL, NULL, text, &e),
                     ERR_LIMIT);
    mem_fail_after(0);
    assert_string_equal(text, "");
    tempdir_remove(&d);
}

static void test_git(void **state)
{
    struct sha256 s = {0};
    char text[SHA1_TEXT];
    (void)state;
    assert_int_equal(sha1_begin(&s, NULL), 0);
    assert_int_equal(sha256_add(&s, "blob 6\0hello\n", 13, NULL),
                     0); // two strings to C, 13 bytes to git
    assert_int_equal(sha1_end(&s, text, NULL), 0);
    assert_string_equal(
        text, "ce013625030ba8dba906f756967f9e9ca394464a"); // echo hello | git hash-object --stdin
    assert_null(s.ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_git),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
