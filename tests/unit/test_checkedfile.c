// SPDX-License-Identifier: MIT
// Checked files and their fields: what was written comes back, nothing else is accepted.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checkedfile.h"
#include "base/fields.h"
#include "base/sync.h"
#include "tempdir.h"

static const struct checked_kind kind = {"IVTEST00", 3, "a test file"};
static struct tempdir dir;
static char path[512];

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "file"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

// Sections "one" (70 bytes), "none" (0 bytes) and, if wanted, "two" (3 bytes).
static void write_file(bool two)
{
    struct checked_writer w;
    struct err e = {0};
    char bytes[70];
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(checked_create(&w, path, &kind, NULL, &e), 0);
    assert_int_equal(checked_begin(&w, "one", &e), 0);
    assert_int_equal(checked_add(&w, bytes, 40, &e), 0);
    assert_int_equal(checked_add(&w, bytes + 40, 30, &e), 0);
    assert_int_equal(checked_begin(&w, "none", &e), 0);
    if (two) {
        assert_int_equal(checked_begin(&w, "two", &e), 0);
        assert_int_equal(checked_add(&w, "abc", 3, &e), 0);
    }
    assert_int_equal(checked_commit(&w, true, &e), 0);
    checked_abandon(&w); // nothing left to do
}

static void comes_back(void **state)
{
    struct checked_reader r;
    struct err e = {0};
    uint64_t size;
    char bytes[70];
    (void)state;
    for (int two = 0; two < 2; two++) {
        write_file(two != 0);
        assert_int_equal(checked_open(&r, path, &kind, NULL, &e), 0);
        assert_int_equal(checked_size(&r, "one", &size, &e), 0);
        assert_int_equal(size, 70);
        assert_int_equal(checked_read(&r, "one", bytes, 70, &e), 0);
        assert_true(bytes[0] == 'x' && bytes[69] == 'x');
        assert_int_equal(checked_read(&r, "one", bytes, 69, &e), ERR_FAIL); // too few asked for
        assert_int_equal(checked_read(&r, "none", bytes, 0, &e), 0);
        assert_int_equal(checked_size(&r, "two", &size, &e), two ? 0 : ERR_FAIL);
        checked_close(&r);
    }
    assert_int_equal(access(path, F_OK), 0);
}

static void expect(const char *why)
{
    struct checked_reader r;
    struct err e = {0};
    if (checked_open(&r, path, &kind, NULL, &e) != ERR_FAIL || !strstr(e.msg, why))
        fail_msg("\"%s\" is not \"%s\"", e.msg, why);
    checked_close(&r);
}

static void others_are_refused(void **state)
{
    struct checked_reader r;
    struct err e = {0};
    struct checked_kind other = kind;
    (void)state;
    write_file(true);
    other.version = 4;
    assert_int_equal(checked_open(&r, path, &other, NULL, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "version 3"));
    other.version = 3;
    other.magic = "IVTEST01";
    assert_int_equal(checked_open(&r, path, &other, NULL, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "is not a test file"));
    assert_int_equal(truncate(path, 1087), 0);
    expect("too few");
    write_file(true);
    assert_int_equal(truncate(path, 1216), 0);
    expect("1216 bytes of 1219");
}

// A header of a stranger who knows how to make checksums.
static void forge(size_t at, uint64_t v, unsigned n)
{
    uint8_t head[1088];
    FILE *f = fopen(path, "r+b");
    struct sha256 s = {0};
    struct err e;
    assert_non_null(f);
    assert_int_equal(fread(head, 1, sizeof head, f), sizeof head);
    for (unsigned i = 0; i < n; i++)
        head[at + i] = (uint8_t)(v >> (8 * i));
    assert_int_equal(sha256_begin(&s, &e), 0);
    assert_int_equal(sha256_add(&s, head, 1056, &e), 0);
    assert_int_equal(sha256_end(&s, head + 1056, &e), 0);
    rewind(f);
    assert_int_equal(fwrite(head, 1, sizeof head, f), sizeof head);
    assert_int_equal(fclose(f), 0);
}

static void forged_headers_are_refused(void **state)
{
    static const struct {
        size_t at;
        uint64_t v;
        unsigned n;
        const char *why;
    } forged[] = {
        {12, 0, 4, "0 sections"},
        {12, 17, 4, "17 sections"},
        {12, UINT32_MAX, 4, "4294967295 sections"},
        {16, 1220, 8, "bytes of 1220"},
        {32 + 16, 1087, 8, "section one"},            // begins in the header
        {32 + 24, UINT64_MAX, 8, "section one"},      // beyond the end of numbers
        {32 + 24, 71, 8, "not zero|section none"},    // runs into the next
        {96 + 16, 1088, 8, "section none"},           // on top of the first
        {160 + 24, 4, 8, "section two"},              // beyond the file
        {160 + 24, 2, 8, "longer than its sections"}, // not all of it
    };
    (void)state;
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        struct checked_reader r;
        struct err e = {0};
        write_file(true);
        forge(forged[i].at, forged[i].v, forged[i].n);
        int rc = checked_open(&r, path, &kind, NULL, &e);
        const char *bar = strchr(forged[i].why, '|');
        if (rc == 0 && bar) { // the layout is possible; the section's checksum is not
            char bytes[71];
            rc = checked_read(&r, "one", bytes, 71, &e);
            assert_non_null(strstr(e.msg, "checksum"));
        } else if (!bar && !strstr(e.msg, forged[i].why)) {
            fail_msg("\"%s\" is not \"%s\"", e.msg, forged[i].why);
        }
        assert_int_equal(rc, ERR_FAIL);
        checked_close(&r);
    }
}

static void abandoned_leaves_nothing(void **state)
{
    struct checked_writer w;
    struct err e = {0};
    (void)state;
    assert_int_equal(checked_create(&w, path, &kind, NULL, &e), 0);
    assert_int_equal(checked_begin(&w, "one", &e), 0);
    checked_abandon(&w);
    assert_int_equal(rmdir(dir.path), 0);
    assert_int_equal(checked_create(&w, path, &kind, NULL, &e), ERR_FAIL); // no such folder now
    checked_abandon(&w);
    tempdir_make(&dir);
}

struct polls {
    int n, stop_at; // stop_at 0 = never
};

static bool counted(void *user)
{
    struct polls *p = user;
    return ++p->n == p->stop_at;
}

// Bringing much to the disk can be stopped in the middle, and then nothing is there.
static void syncing_can_be_stopped(void **state)
{
    enum { SIZE = 5 * SYNC_PIECE };
    struct polls p = {0};
    const struct hooks hooks = {.user = &p, .abort = counted};
    struct err e = {0};
    char *bytes = calloc(SIZE, 1);
    (void)state;
    assert_non_null(bytes);
    for (int stop = 0; stop < 2; stop++) {
        struct checked_writer w;
        p = (struct polls){0};
        assert_int_equal(checked_create(&w, path, &kind, &hooks, &e), 0);
        assert_int_equal(checked_begin(&w, "much", &e), 0);
        assert_int_equal(checked_add(&w, bytes, SIZE, &e), 0);
        p = (struct polls){.stop_at = stop ? 5 : 0};
        assert_int_equal(checked_commit(&w, true, &e), stop ? ERR_ABORT : 0);
        if (stop)
            assert_int_equal(p.n, 5);
        else
            assert_in_range(p.n, 6, 9); // the header, each piece, the rest
        checked_abandon(&w);
        assert_int_equal(access(path, F_OK), stop ? -1 : 0);
        unlink(path);
    }
    free(bytes);
}

static void fields_come_back(void **state)
{
    struct buf b = {0};
    (void)state;
    fields_put_u32(&b, 0x01020304);
    fields_put_u64(&b, UINT64_MAX - 1);
    fields_put_f64(&b, -0.125);
    fields_put_text(&b, (struct fields_text){"a\0b", 3});
    fields_put_text(&b, (struct fields_text){0});
    fields_put_text(&b, (struct fields_text){"", 0});
    fields_put_u32(&b, 1);
    struct fields f = {.p = (const uint8_t *)b.data, .left = b.len};
    assert_int_equal(f.p[0], 4); // little-endian
    assert_int_equal(fields_u32(&f), 0x01020304);
    assert_true(fields_u64(&f) == UINT64_MAX - 1);
    assert_true(fields_f64(&f) == -0.125);
    assert_int_equal(fields_text(&f, false).n, 3);
    assert_null(fields_text(&f, true).p);
    struct fields_text empty = fields_text(&f, true);
    assert_true(empty.p && empty.n == 0);
    assert_true(fields_flag(&f) && fields_end(&f));
    assert_int_equal(fields_u32(&f), 0); // beyond the end
    assert_false(fields_end(&f));
    f = (struct fields){.p = (const uint8_t *)b.data + 20, .left = 7};
    assert_null(fields_text(&f, true).p); // a NUL in what must be a C string
    assert_true(f.failed);
    f = (struct fields){.p = (const uint8_t *)"\xff\xff\xff\xff", .left = 4};
    assert_null(fields_text(&f, false).p); // longer than what is left
    assert_true(f.failed);
    f = (struct fields){.p = (const uint8_t *)"\2\0\0\0", .left = 4};
    fields_flag(&f);
    assert_true(f.failed);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(forged_headers_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(abandoned_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(syncing_can_be_stopped, setup, teardown),
        cmocka_unit_test(fields_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
