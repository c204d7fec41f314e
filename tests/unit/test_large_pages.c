// SPDX-License-Identifier: MIT
// Copies of a mapped file's pages in large ones, and what memory there is for them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/large_pages.h"
#include "base/mem_room.h"
#include "tempdir.h"

enum { PAGES = 4 };
static const size_t BYTES = (size_t)(PAGES + 1) * LARGE_PAGE;

static struct tempdir dir;
static char path[1024]; // of the file that is looked at

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, name));
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

// A file of BYTES, mapped and, as far as this can be had, in the page cache in small pieces.
static void map_file(struct filemap *m)
{
    const size_t small = 4096;
    uint8_t bytes[4096];
    FILE *f = fopen(in_folder("weights"), "wb");
    assert_non_null(f);
    assert_int_equal(setvbuf(f, NULL, _IONBF, 0), 0);
    for (size_t at = 0; at < BYTES; at += small) {
        for (size_t i = 0; i < small; i++)
            bytes[i] = byte_at(at + i);
        assert_int_equal(fwrite(bytes, 1, small, f), small);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(filemap_open(m, path, ERR_MODEL, NULL), 0);
}

static const char *first_page(const struct filemap *m)
{
    return (const char *)m->data + (LARGE_PAGE - (uintptr_t)m->data % LARGE_PAGE) % LARGE_PAGE;
}

static void same_bytes(const struct filemap *m, size_t from, size_t end)
{
    for (size_t i = from; i < end; i++)
        if (m->data[i] != byte_at(i))
            fail_msg("byte %zu", i);
}

static void need_large_pages(void)
{
    if (large_pages_offered())
        return;
    printf("SKIP this system offers no large pages, or does not tell which there are\n");
    skip();
}

static void a_copy_has_the_same_bytes_and_outlives_the_file(void **state)
{
    struct filemap m;
    (void)state;
    need_large_pages();
    map_file(&m);
    const char *first = first_page(&m);
    size_t from = (size_t)(first - (const char *)m.data), end = from + 3 * (size_t)LARGE_PAGE;
    for (size_t at = from; at < end; at += LARGE_PAGE)
        assert_true(large_page_wanting(m.data + at));
    if (large_pages_copy(first, 1) != LARGE_PAGES_COPIED ||
        large_pages_copy(first + LARGE_PAGE, 2) != LARGE_PAGES_COPIED) {
        filemap_close(&m);
        unlink(path);
        printf("SKIP no large page is free\n");
        skip();
    }
    same_bytes(&m, 0, BYTES);
    for (size_t at = from; at < end; at += LARGE_PAGE)
        assert_false(large_page_wanting(m.data + at));
    assert_int_equal(truncate(path, 0), 0); // what is still the file's cannot be read any more
    same_bytes(&m, from, end);
    filemap_close(&m);
    unlink(path);
}

// Without memory, or room for it, nothing changes.
static void no_memory_no_copy(void **state)
{
    struct filemap m;
    struct rlimit old, tight;
    (void)state;
    need_large_pages();
    map_file(&m);
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    tight = (struct rlimit){.rlim_cur = LARGE_PAGE, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
    enum large_pages_result r = large_pages_copy(first_page(&m), 1);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(r, LARGE_PAGES_NONE);
    same_bytes(&m, 0, BYTES);
    filemap_close(&m);
    unlink(path);
}

// What is not in the page cache, like the end of a file that nobody has written or read, is left to be read in large
// pieces when it is used.
static void what_is_not_there_is_not_wanting(void **state)
{
    struct filemap m;
    (void)state;
    need_large_pages();
    map_file(&m);
    size_t at = (size_t)(first_page(&m) - (const char *)m.data), longer = 2 * BYTES;
    assert_true(large_page_wanting(m.data + at));
    filemap_close(&m);
    assert_int_equal(truncate(path, (off_t)longer), 0);
    assert_int_equal(filemap_open(&m, path, ERR_MODEL, NULL), 0);
    at = (size_t)(first_page(&m) - (const char *)m.data);
    for (size_t page = at + BYTES; page + LARGE_PAGE <= longer; page += LARGE_PAGE)
        assert_false(large_page_wanting(m.data + page));
    filemap_close(&m);
    unlink(path);
}

// The system would say of anybody's file that all of it is in memory.
static void others_files_are_not_told_of(void **state)
{
    (void)state;
    tempdir_write_text(&dir, "mine", "");
    in_folder("mine");
    assert_true(large_pages_told(path));
    assert_int_equal(chmod(path, 0444), 0);
    assert_true(large_pages_told(path));
    unlink(path);
    assert_false(large_pages_told(path));
    if (geteuid() == 0) {
        assert_int_equal(seteuid(65534), 0);
        bool told = large_pages_told("/etc/passwd");
        assert_int_equal(seteuid(0), 0);
        assert_false(told);
    } else {
        assert_false(large_pages_told("/etc/passwd"));
    }
}

// ---- mem_room

static void put(const char *name, const char *text)
{
    for (char *s = strchr(in_folder(name) + strlen(dir.path) + 1, '/'); s; s = strchr(s + 1, '/')) {
        *s = 0;
        (void)mkdir(path, 0700);
        *s = '/';
    }
    tempdir_write_text(&dir, name, text);
}

static uint64_t room(const char *groups)
{
    char meminfo[sizeof path], group[sizeof path], root[sizeof path];
    put("groups", groups);
    snprintf(meminfo, sizeof meminfo, "%s", tempdir_path(&dir, "meminfo"));
    snprintf(group, sizeof group, "%s", tempdir_path(&dir, "groups"));
    snprintf(root, sizeof root, "%s", tempdir_path(&dir, "fs"));
    return mem_room_of(meminfo, group, root);
}

static void room_is_the_least_of_system_and_groups(void **state)
{
    (void)state;
    assert_int_equal(room("0::/a/b\n"), 0); // nothing is known
    put("meminfo", "MemTotal: 9 kB\nMemAvailable:    1000 kB\nBuffers: 7 kB\n");
    assert_int_equal(room("0::/a/b\n"), 1024000);
    put("fs/a/b/memory.max", "max\n");
    assert_int_equal(room("0::/a/b\n"), 1024000);
    put("fs/a/memory.max", "500000\n"); // the parent's
    put("fs/a/memory.current", "300000\n");
    assert_int_equal(room("0::/a/b\n"), 200000);
    // files that were read do not count, what is shared memory does
    put("fs/a/memory.stat",
        "anon 90000\nfile 210000\nshmem 10000\ninactive_file 150000\nactive_file 50000\n");
    assert_int_equal(room("0::/a/b\n"), 400000);
    put("fs/a/memory.high", "350000\n");
    assert_int_equal(room("0::/a/b\n"), 250000);
    put("fs/a/memory.current", "900000\n"); // above the limit
    assert_int_equal(room("0::/a/b\n"), 0);
    put("fs/a/memory.current", "0\n");
    put("fs/a/memory.high", "0\n"); // not "max"
    assert_int_equal(room("0::/a/b\n"), 0);
    put("fs/memory/j/memory.limit_in_bytes", "9223372036854771712\n"); // version 1's "none"
    assert_int_equal(room("3:cpu:/a\n2:memory:/j\n"), 1024000);
    put("fs/memory/j/memory.limit_in_bytes", "800000\n");
    put("fs/memory/j/memory.usage_in_bytes", "700000\n");
    put("fs/memory/j/memory.stat",
        "inactive_file 1\ntotal_inactive_file 100000\ntotal_active_file 100000\n");
    assert_int_equal(room("3:cpu:/a\n2:memory:/j\n"), 300000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_has_the_same_bytes_and_outlives_the_file),
        cmocka_unit_test(no_memory_no_copy),
        cmocka_unit_test(what_is_not_there_is_not_wanting),
        cmocka_unit_test(others_files_are_not_told_of),
        cmocka_unit_test(room_is_the_least_of_system_and_groups),
    };
    return cmocka_run_group_tests_name("large_pages", tests, make_folder, remove_folder);
}
