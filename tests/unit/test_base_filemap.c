// SPDX-License-Identifier: MIT
// Maps and reads of files that are there, are not, are empty, too large or no files at all.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"

static char folder[] = "/tmp/ivchat-filemap-XXXXXX";
static char path[sizeof folder + 16];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

// Both doors refuse `name` with a message that has `text` in it, leave their outputs empty and no
// descriptor open.
static void refused(const char *name, const char *text)
{
    struct filemap m;
    struct err e = {0};
    char *p = path;
    size_t n = 5;
    int before = dup(0);
    memset(&m, 0x55, sizeof m);
    assert_int_equal(filemap_open(&m, name, ERR_MODEL, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, text));
    assert_non_null(strstr(e.msg, name));
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    filemap_close(&m);
    memset(&e, 0, sizeof e);
    assert_int_equal(file_read(name, 100, ERR_MEDIA, &p, &n, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, text));
    assert_null(p);
    assert_int_equal(n, 0);
    int after = dup(0);
    close(before);
    close(after);
    assert_int_equal(after, before + 1);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    refused(in_folder("missing"), "No such file");
    refused("", "No such file");
    refused(folder, "is a directory");
    refused("/dev/zero", "not a regular file");
}

static void does_not_wait_for_a_fifo(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    alarm(10); // a wait for a writer would never end
    refused(path, "not a regular file");
    alarm(0);
    unlink(path);
}

static void follows_no_loop(void **state)
{
    (void)state;
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    refused(path, strerror(ELOOP));
    unlink(path);
}

static void maps_the_bytes(void **state)
{
    struct filemap m;
    (void)state;
    const char *name = write_file("data", "ab\0cd", 5);
    assert_int_equal(filemap_open(&m, name, ERR_MODEL, NULL), 0);
    assert_int_equal(m.size, 5);
    assert_memory_equal(m.data, "ab\0cd", 5);
    unlink(name); // the map outlives the name
    assert_int_equal(m.data[4], 'd');
    filemap_close(&m);
    assert_null(m.data);
    filemap_close(&m); // twice is harmless
}

static long faults(void)
{
    struct rusage r;
    assert_int_equal(getrusage(RUSAGE_SELF, &r), 0);
    return r.ru_minflt + r.ru_majflt;
}

// What was touched is in memory and mapped, whatever the alignment.
static void touched_bytes_meet_no_fault(void **state)
{
    enum { PAGE_N = 960 }; // too little for large pages, of which one fault maps 2 MiB
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = PAGE_N * page;
    struct filemap m;
    uint64_t sum = 0;
    (void)state;
    char *bytes = calloc(n, 1);
    assert_non_null(bytes);
    const char *name = write_file("touched", bytes, n);
    free(bytes);
    int fd = open(name, O_RDONLY);
    assert_true(fd >= 0 && fsync(fd) == 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    assert_int_equal(filemap_open(&m, name, ERR_MODEL, NULL), 0);
    filemap_touch(m.data + 1, 0);
    filemap_touch(m.data + page / 2, n / 2 - page / 2 + 1);
    filemap_touch(m.data + n / 2 + 1, n / 2 - 1);
    long before = faults();
    for (size_t i = 0; i < n; i += page)
        sum += m.data[i];
    assert_int_equal(sum, 0);
    assert_in_range(faults() - before, 0, 8); // the loop's own code
    filemap_close(&m);
    unlink(name);
}

static void empty_file_is_a_file(void **state)
{
    struct filemap m;
    char *p = NULL;
    size_t n = 5;
    (void)state;
    const char *name = write_file("empty", "", 0);
    assert_int_equal(filemap_open(&m, name, ERR_MODEL, NULL), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    filemap_close(&m);
    assert_int_equal(file_read(name, 0, ERR_MODEL, &p, &n, NULL), 0);
    assert_non_null(p);
    assert_string_equal(p, "");
    assert_int_equal(n, 0);
    mem_free(p);
    unlink(name);
}

static void reads_up_to_the_maximum(void **state)
{
    struct err e = {0};
    char *p = NULL;
    size_t n = 0;
    (void)state;
    const char *name = write_file("five",
                                  "12\0"
                                  "45",
                                  5);
    assert_int_equal(file_read(name, 5, ERR_MODEL, &p, &n, &e), 0);
    assert_int_equal(n, 5);
    assert_memory_equal(p,
                        "12\0"
                        "45",
                        6); // and a zero behind
    mem_free(p);
    assert_int_equal(file_read(name, 4, ERR_MODEL, &p, &n, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "5 bytes, at most 4"));
    assert_null(p);
    assert_int_equal(n, 0);
    mem_fail_after(1);
    assert_int_equal(file_read(name, 5, ERR_MODEL, &p, &n, &e), ERR_LIMIT);
    mem_fail_after(0);
    assert_null(p);
    unlink(name);
}

static void sparse_giant_costs_nothing(void **state)
{
    struct filemap m;
    struct err e = {0};
    char *p = NULL;
    size_t n = 0;
    (void)state;
    const char *name = write_file("giant", "x", 1);
    if (truncate(name, (off_t)5 << 30) != 0) {
        unlink(name);
        printf("SKIP the temporary folder's file system has no files of 5 GiB\n");
        skip();
    }
    assert_int_equal(filemap_open(&m, name, ERR_MODEL, &e), 0);
    assert_true(m.size == (size_t)5 << 30);
    assert_int_equal(m.data[m.size - 1], 0);
    filemap_close(&m);
    assert_int_equal(file_read(name, 1 << 20, ERR_MODEL, &p, &n, &e), ERR_MODEL);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(does_not_wait_for_a_fifo),
        cmocka_unit_test(follows_no_loop),
        cmocka_unit_test(maps_the_bytes),
        cmocka_unit_test(touched_bytes_meet_no_fault),
        cmocka_unit_test(empty_file_is_a_file),
        cmocka_unit_test(reads_up_to_the_maximum),
        cmocka_unit_test(sparse_giant_costs_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
