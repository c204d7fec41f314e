// SPDX-License-Identifier: MIT
// The journal of a download: what it says after each kind of ending, and what is not believed. The cache's
// small files and locks.
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

#include "hub/hubcache.h"
#include "hub/journal.h"
#include "hub/listing.h"
#include "hub/walk.h"
#include "tempdir.h"

enum { SIZE = 3 * JOURNAL_CHUNK + 5, CHUNKS = 4 };

static struct tempdir top;
static char data[4200], journal[4200];

static size_t reopened(uint64_t size, uint8_t *chunk)
{
    int data_fd, journal_fd;
    size_t n;
    assert_int_equal(journal_open(data, journal, size, chunk, &n, &data_fd, &journal_fd, NULL), 0);
    close(data_fd);
    close(journal_fd);
    return n;
}

static void goes_on_where_it_was(void **state)
{
    uint8_t chunk[CHUNKS];
    int data_fd, journal_fd;
    struct stat st;
    size_t n;
    (void)state;
    unlink(data);
    unlink(journal);
    assert_int_equal(journal_open(data, journal, SIZE, chunk, &n, &data_fd, &journal_fd, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(fstat(data_fd, &st), 0);
    assert_int_equal(st.st_size, SIZE);
    assert_int_equal(journal_mark(journal_fd, 3, NULL), 0);
    assert_int_equal(journal_mark(journal_fd, 0, NULL), 0);
    close(data_fd);
    close(journal_fd);
    assert_int_equal(reopened(SIZE, chunk), 2);
    assert_true(chunk[0] == 1 && chunk[1] == 0 && chunk[2] == 0 && chunk[3] == 1);
}

static void doubts_begin_anew(void **state)
{
    uint8_t chunk[CHUNKS + 1];
    goes_on_where_it_was(state);
    assert_int_equal(reopened(SIZE + JOURNAL_CHUNK, chunk), 0); // of another size
    goes_on_where_it_was(state);
    assert_int_equal(truncate(data, SIZE - 1), 0);
    assert_int_equal(reopened(SIZE, chunk), 0);
    goes_on_where_it_was(state);
    assert_int_equal(unlink(data), 0);
    assert_int_equal(reopened(SIZE, chunk), 0);
    goes_on_where_it_was(state);
    assert_int_equal(unlink(journal), 0);
    assert_int_equal(reopened(SIZE, chunk), 0);
    goes_on_where_it_was(state);
    assert_int_equal(unlink(data), 0);
    assert_int_equal(symlink("/etc/passwd", data), 0); // never written through
    int data_fd, journal_fd;
    size_t n;
    struct err e;
    assert_int_equal(journal_open(data, journal, SIZE, chunk, &n, &data_fd, &journal_fd, &e),
                     ERR_FAIL);
    unlink(data);
}

static void parsing(void **state)
{
    uint8_t bytes[JOURNAL_HEAD + CHUNKS] = "IVPULL1\n\5\0\x30\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\1\0\1";
    uint8_t chunk[CHUNKS];
    (void)state;
    assert_true(journal_parse(bytes, sizeof bytes, SIZE, chunk));
    assert_true(chunk[0] == 0 && chunk[1] == 1 && chunk[2] == 0 && chunk[3] == 1);
    assert_false(journal_parse(bytes, sizeof bytes - 1, SIZE, chunk));
    assert_false(journal_parse(bytes, sizeof bytes, SIZE - 1, chunk));
    assert_false(journal_parse(bytes, 0, 0, chunk));
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 0x42;
        assert_false(journal_parse(bytes, sizeof bytes, SIZE, chunk));
        bytes[i] ^= 0x42;
    }
    assert_int_equal(journal_chunks(0), 0);
    assert_int_equal(journal_chunks(1), 1);
    assert_int_equal(journal_chunks(JOURNAL_CHUNK), 1);
    assert_int_equal(journal_chunks(JOURNAL_CHUNK + 1), 2);
}

static void locks_exclude(void **state)
{
    char path[4200];
    int a, b;
    (void)state;
    snprintf(path, sizeof path, "%s/locks/deep/x.lock", top.path);
    assert_int_equal(lock_try(path, &a, NULL), 0);
    assert_true(a >= 0);
    assert_int_equal(lock_try(path, &b, NULL), 0);
    assert_int_equal(b, -1);
    assert_int_equal(unlink(path), 0); // by someone who is done with it
    assert_int_equal(lock_try(path, &b, NULL), 0);
    assert_true(b >= 0); // another file now
    lock_release(b);
    lock_release(a);
    lock_release(-1);
}

static void refs_and_links(void **state)
{
    char repo[4200], commit[41], path[4300], aside[4300], text[64];
    char c[41];
    (void)state;
    memset(c, 'a', 40);
    c[40] = 0;
    snprintf(repo, sizeof repo, "%s/models--a--b", top.path);
    assert_false(cache_read_ref(repo, "main", commit));
    assert_int_equal(cache_write_ref(repo, "refs/pr/1", c, NULL), 0);
    assert_true(cache_read_ref(repo, "refs/pr/1", commit));
    assert_string_equal(commit, c);
    assert_int_equal(cache_write_ref(repo, "main", "not a commit", NULL), 0);
    assert_false(cache_read_ref(repo, "main", commit)); // damaged
    assert_true(cache_read_ref(repo, c, commit));
    snprintf(path, sizeof path, "%s/snapshots/x/y", repo);
    assert_int_equal(path_link(NULL, "one", path, NULL), 0);
    assert_int_equal(path_link(NULL, "two", path, NULL), 0);
    ssize_t n = readlink(path, text, sizeof text);
    assert_true(n == 3 && !memcmp(text, "two", 3));
    // what is made aside is made there and nowhere else: with a file in that folder's place it fails
    snprintf(aside, sizeof aside, "%s/aside", repo);
    assert_int_equal(path_link(aside, "two", path, NULL), 0);
    assert_int_equal(rmdir(aside), 0); // made, and empty again
    assert_int_equal(path_write(NULL, aside, "", NULL), 0);
    assert_int_not_equal(path_link(aside, "one", path, NULL), 0);
    assert_int_not_equal(path_write(aside, path, "one", NULL), 0);
    n = readlink(path, text, sizeof text);
    assert_true(n == 3 && !memcmp(text, "two", 3));
}

static int count(void *user, const struct walk_name *n, struct err *e)
{
    ((int *)user)[n->is_folder]++;
    return *(int *)user > 100 ? err_set(e, ERR_FAIL, "enough") : 0;
}

static void walks_do_not_follow(void **state)
{
    char folder[4200], path[4300];
    int n[2] = {0, 0};
    (void)state;
    snprintf(folder, sizeof folder, "%s/walked", top.path);
    snprintf(path, sizeof path, "%s/a/b/c", folder);
    assert_int_equal(path_write(NULL, path, "x", NULL), 0);
    snprintf(path, sizeof path, "%s/a/up", folder);
    assert_int_equal(path_link(NULL, "..", path, NULL), 0);
    assert_int_equal(walk(folder, false, count, n, NULL), 0);
    assert_true(n[0] == 2 && n[1] == 2);
    assert_int_equal(walk("/nonexistent", false, count, n, NULL), 0);
    assert_int_not_equal(walk(path, false, count, n, NULL), 0);
    assert_true(n[0] == 2 && n[1] == 2);
    assert_int_equal(walk(path, true, count, n, NULL), 0);
    assert_true(n[0] == 4 && n[1] == 4);
}

static void lists_of_a_hub(void **state)
{
    static const char page[] =
        "[{\"type\":\"directory\",\"path\":\"d\",\"oid\":\"x\",\"size\":0},"
        "{\"type\":\"file\",\"path\":\"b\",\"size\":3,\"oid\":"
        "\"0123456789012345678901234567890123456789\"},"
        "{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"0\",\"lfs\":{\"size\":9,\"oid\":"
        "\"0123456789012345678901234567890123456789012345678901234567890123\"}}]";
    struct listing l = {0};
    struct err e;
    (void)state;
    assert_int_equal(listing_add_page(&l, page, sizeof page - 1, "x/y", &e), 0);
    assert_int_equal(listing_finish(&l, "x/y", &e), 0);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.file[0].path, "a");
    assert_true(l.file[0].size == 9 && *l.file[0].sha256 && !*l.file[0].oid);
    assert_true(l.file[1].size == 3 && !*l.file[1].sha256 && *l.file[1].oid);
    assert_int_equal(l.bytes, 12);
    assert_int_equal(listing_add_page(&l, page, sizeof page - 1, "x/y", &e), 0);
    assert_int_equal(listing_finish(&l, "x/y", &e), ERR_NETWORK);
    assert_string_equal(e.msg, "x/y: the hub lists a twice");
    listing_free(&l);
}

static int set_up(void **state)
{
    (void)state;
    tempdir_make(&top);
    snprintf(data, sizeof data, "%s/x.ivchat.incomplete", top.path);
    snprintf(journal, sizeof journal, "%s/x.journal.incomplete", top.path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tempdir_remove(&top);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_where_it_was),
        cmocka_unit_test(doubts_begin_anew),
        cmocka_unit_test(parsing),
        cmocka_unit_test(locks_exclude),
        cmocka_unit_test(refs_and_links),
        cmocka_unit_test(walks_do_not_follow),
        cmocka_unit_test(lists_of_a_hub),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
