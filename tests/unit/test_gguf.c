// SPDX-License-Identifier: MIT
// The GGUF reader: what a good file gives, every way of being wrong with its message, every truncation; and
// the writer, whose files the reader takes.
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

#include "base/buf.h"
#include "base/mem.h"
#include "tempdir.h"
#include "weights/gguf.h"
#include "weights/gguf_write.h"

static struct tempdir dir;

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

// ---- files by hand

static struct buf b;

static void u8(unsigned v)
{
    buf_add(&b, &(uint8_t){(uint8_t)v}, 1);
}

static void u32(uint32_t v)
{
    buf_add(&b, &v, sizeof v);
}

static void u64(uint64_t v)
{
    buf_add(&b, &v, sizeof v);
}

static void text(const char *s)
{
    u64(strlen(s));
    buf_add_str(&b, s);
}

static void header(uint64_t tensors, uint64_t values)
{
    buf_reset(&b);
    buf_add(&b, "GGUF", 4);
    u32(3);
    u64(tensors);
    u64(values);
}

static void key(const char *name, enum gguf_type t)
{
    text(name);
    u32(t);
}

static void tensor(const char *name, uint32_t rank, const uint64_t *dim, uint32_t type,
                   uint64_t offset)
{
    text(name);
    u32(rank);
    for (uint32_t i = 0; i < rank; i++)
        u64(dim[i]);
    u32(type);
    u64(offset);
}

static void pad(size_t align)
{
    while (b.len % align)
        u8(0);
}

static void data(size_t n)
{
    for (size_t i = 0; i < n; i++)
        u8((unsigned)i);
}

static const char *written(void)
{
    return tempdir_write(&dir, "x.gguf", b.data, b.len);
}

static void expect_refused(const char *message)
{
    struct gguf_file f;
    struct err e = {0};
    const char *path = written();
    memset(&f, 0xaa, sizeof f);
    int rc = gguf_open(&f, path, &e);
    if (rc != ERR_MODEL || !strstr(e.msg, message))
        fail_msg("got %d \"%s\", expected \"%s\"", rc, e.msg, message);
    assert_non_null(strstr(e.msg, path));
    assert_null(f.map.data);
    assert_null(f.tensor);
    assert_null(f.value);
}

// Two values of each kind that matters and two tensors.
static void good(void)
{
    header(2, 7);
    key("general.architecture", GGUF_STRING);
    text("llama");
    key("llama.block_count", GGUF_U32);
    u32(3);
    key("a.float", GGUF_F32);
    u32(0x3fc00000); // 1.5
    key("a.bool", GGUF_BOOL);
    u8(1);
    key("a.list", GGUF_ARRAY);
    u32(GGUF_STRING);
    u64(2);
    text("");
    text("xyz");
    key("a.ints", GGUF_ARRAY);
    u32(GGUF_I32);
    u64(2);
    u32(7);
    u32((uint32_t)-8);
    key("a.minus", GGUF_I64);
    u64((uint64_t)-1);
    tensor("late", 2, (uint64_t[]){32, 2}, 8, 32);
    tensor("early", 1, (uint64_t[]){5}, 0, 0);
    pad(32);
    data(20);
    pad(32);
    data(68);
}

static void test_good(void **state)
{
    (void)state;
    struct gguf_file f;
    struct err e = {0};
    size_t n = 99;
    double x = 0;
    bool flag = false;
    struct gguf_text t = {0};
    const struct gguf_value *v;
    good();
    if (gguf_open(&f, written(), &e) != 0)
        fail_msg("%s", e.msg);
    assert_true(gguf_is(tempdir_path(&dir, "x.gguf")));
    assert_int_equal(f.n_tensor, 2);
    assert_string_equal(f.tensor[0].name, "early");
    assert_int_equal(f.tensor[0].bytes, 20);
    assert_int_equal(((const uint8_t *)f.tensor[0].data)[19], 19);
    assert_string_equal(f.tensor[1].name, "late");
    assert_int_equal(f.tensor[1].dtype, DT_Q8_0);
    assert_int_equal(f.tensor[1].dim[0], 2);
    assert_int_equal(f.tensor[1].dim[1], 32);
    assert_int_equal(f.tensor[1].bytes, 68);
    assert_int_equal(((const uint8_t *)f.tensor[1].data)[67], 67);

    assert_int_equal(gguf_get_size(&f, "llama.block_count", true, 1, 5, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_int_equal(gguf_get_real(&f, "llama.block_count", true, 1, 5, &x, &e), 0);
    assert_true(x == 3);
    assert_int_equal(gguf_get_real(&f, "a.float", true, 1, 5, &x, &e), 0);
    assert_true(x == 1.5);
    assert_int_equal(gguf_get_bool(&f, "a.bool", true, &flag, &e), 0);
    assert_true(flag);
    assert_int_equal(gguf_get_text(&f, "general.architecture", true, &t, &e), 0);
    assert_true(gguf_text_is(t, "llama") && !gguf_text_is(t, "llam"));
    assert_int_equal(gguf_get_array(&f, "a.list", true, GGUF_STRING, &v, &e), 0);
    assert_int_equal(v->n, 2);
    const uint8_t *at = v->data;
    assert_int_equal(gguf_next_text(&at).n, 0);
    assert_true(gguf_text_is(gguf_next_text(&at), "xyz"));

    n = 42; // absent and not needed: left alone
    assert_int_equal(gguf_get_size(&f, "absent", false, 1, 5, &n, &e), 0);
    assert_int_equal(n, 42);
    static const struct {
        const char *key, *message;
    } wrong[] = {{"absent", "absent is missing, expected an integer from 1 to 2"},
                 {"llama.block_count", "is 3, expected an integer from 1 to 2"},
                 {"a.float", "is 1.5, expected"},
                 {"a.minus", "is -1, expected"},
                 {"a.bool", "is a bool, expected"},
                 {"general.architecture", "is a string, expected"},
                 {"a.ints", "is an array of 2 i32, expected"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(gguf_get_size(&f, wrong[i].key, true, 1, 2, &n, &e), ERR_MODEL);
        if (!strstr(e.msg, wrong[i].message))
            fail_msg("\"%s\", expected \"%s\"", e.msg, wrong[i].message);
    }
    assert_int_equal(n, 42);
    assert_int_equal(gguf_get_array(&f, "a.ints", true, GGUF_F32, &v, &e), ERR_MODEL);
    assert_int_equal(gguf_get_bool(&f, "a.float", true, &flag, &e), ERR_MODEL);
    assert_int_equal(gguf_get_text(&f, "a.bool", true, &t, &e), ERR_MODEL);
    assert_int_equal(gguf_get_real(&f, "a.bool", true, 0, 1, &x, &e), ERR_MODEL);
    gguf_close(&f);
}

static void test_every_truncation(void **state)
{
    (void)state;
    good();
    size_t whole = b.len;
    for (size_t n = 0; n < whole; n++) {
        struct gguf_file f;
        struct err e = {0};
        const char *path = tempdir_write(&dir, "x.gguf", b.data, n);
        if (gguf_open(&f, path, &e) != ERR_MODEL)
            fail_msg("%zu of %zu bytes were taken", n, whole);
        assert_true(e.msg[0] != 0);
    }
}

// One value before the tensors.
static void one_value(const char *name, enum gguf_type t)
{
    header(0, 1);
    key(name, t);
}

static void test_bad_header(void **state)
{
    (void)state;
    buf_reset(&b);
    expect_refused("no GGUF file (0 bytes)");
    buf_add(&b, "GGML\3\0\0\0", 8);
    expect_refused("no GGUF file");
    header(0, 0);
    b.data[4] = 2;
    expect_refused("GGUF version 2, only 3");
    b.data[4] = 0;
    b.data[7] = 3;
    expect_refused("big-endian");
    header(UINT64_C(1) << 63, 0);
    expect_refused("9223372036854775808 tensors, at most");
    header(0, UINT64_C(1) << 63);
    expect_refused("9223372036854775808 values, at most");
    header(0, 5);
    expect_refused("truncated");
}

static void test_bad_values(void **state)
{
    (void)state;
    header(0, 1);
    u64(UINT64_MAX);
    expect_refused("a key of 18446744073709551615 bytes, the file has 0 left");
    one_value("", GGUF_U8);
    u8(0);
    expect_refused("a key of 0 bytes");
    one_value("schl\xc3\xbcssel", GGUF_U8);
    u8(0);
    expect_refused("holds the byte 0xc3");
    one_value("a b", GGUF_U8);
    u8(0);
    expect_refused("holds the byte 0x20");
    header(0, 1);
    u64(300);
    for (int i = 0; i < 300; i++)
        u8('k');
    u32(GGUF_U8);
    u8(0);
    expect_refused("a key of 300 bytes");
    one_value("k", GGUF_N);
    expect_refused("k: unknown type of value 13");
    one_value("k", GGUF_STRING);
    u64(1000);
    expect_refused("a string of 1000 bytes, the file has 0 left");
    one_value("k", GGUF_ARRAY);
    u32(GGUF_ARRAY);
    u64(1);
    expect_refused("arrays of arrays");
    one_value("k", GGUF_ARRAY);
    u32(99);
    u64(1);
    expect_refused("unknown type of value 99");
    one_value("k", GGUF_ARRAY);
    u32(GGUF_U64);
    u64(UINT64_C(1) << 61);
    expect_refused("2305843009213693952 items of type u64, the file has 0");
    one_value("k", GGUF_ARRAY);
    u32(GGUF_STRING);
    u64(UINT64_MAX);
    text("a");
    expect_refused("truncated");
    one_value("k", GGUF_BOOL);
    u8(2);
    expect_refused("k: 2 is no bool");
    header(0, 2);
    key("k", GGUF_U8);
    u8(0);
    key("k", GGUF_U16);
    u8(0);
    u8(0);
    expect_refused("key k is there twice");
    static const uint32_t align[] = {0, 3, 4, 48, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof align / sizeof align[0]; i++) {
        one_value("general.alignment", GGUF_U32);
        u32(align[i]);
        expect_refused("general.alignment is ");
    }
}

static void one_tensor(uint32_t rank, const uint64_t *dim, uint32_t type, uint64_t offset)
{
    header(1, 0);
    tensor("t", rank, dim, type, offset);
    pad(32);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    const uint64_t small[5] = {32, 1, 1, 1, 1};
    one_tensor(5, small, 0, 0);
    expect_refused("t: 5 dimensions");
    one_tensor(0, small, 0, 0);
    expect_refused("t: 0 dimensions");
    header(1, 0);
    text("t");
    u32(UINT32_MAX);
    expect_refused("t: 4294967295 dimensions");
    one_tensor(2, (uint64_t[]){32, 0}, 0, 0);
    expect_refused("t [0,32]: a dimension is 0");
    one_tensor(1, (uint64_t[]){(uint64_t)-32}, 0, 0);
    expect_refused("the number of elements overflows");
    one_tensor(4, (uint64_t[]){1u << 31, 1u << 31, 1u << 31, 1u << 31}, 0, 0);
    expect_refused("the number of elements overflows");
    one_tensor(2, (uint64_t[]){UINT64_C(1) << 31, UINT64_C(1) << 31}, 0, 0);
    expect_refused("the size overflows");
    one_tensor(1, small, 4, 0);
    expect_refused("t: unknown tensor type 4");
    one_tensor(1, small, UINT32_MAX, 0);
    expect_refused("t: unknown tensor type 4294967295");
    one_tensor(1, small, 7, 0);
    expect_refused("t: type Q5_1 is not supported");
    one_tensor(1, (uint64_t[]){33}, 8, 0);
    expect_refused("t [33]: rows of 33 are no multiple of a Q8_0 block's 32");
    one_tensor(2, (uint64_t[]){32, 256}, 12, 0); // 256 x 32 weights, but rows of 32
    expect_refused("t [256,32]: rows of 32 are no multiple of a Q4_K block's 256");
    one_tensor(1, small, 0, 8);
    data(200);
    expect_refused("t: offset 8 is no multiple of 32");
    one_tensor(1, small, 0, 0);
    data(127);
    expect_refused("128 bytes at offset 0 pass the end: the file has 127 bytes");
    one_tensor(1, small, 0, (uint64_t)-32);
    data(128);
    expect_refused("pass the end");
    one_tensor(1, small, 0, 64);
    data(192);
    expect_refused("64 bytes before t belong to no tensor");
    one_tensor(1, small, 0, 0);
    data(160);
    expect_refused("32 bytes after the last tensor");
    header(2, 0);
    tensor("one", 1, small, 0, 0);
    tensor("two", 1, small, 0, 96);
    pad(32);
    data(224);
    expect_refused("two starts at byte 96 and overlaps one");
    header(2, 0);
    tensor("same", 1, small, 0, 0);
    tensor("same", 1, small, 0, 128);
    pad(32);
    data(256);
    expect_refused("tensor same is there twice");
    header(1, 0);
    tensor("", 1, small, 0, 0);
    expect_refused("a tensor's name of 0 bytes");
    header(1, 0);
    tensor("0123456789012345678901234567890123456789012345678901234567890123", 1, small, 0, 0);
    expect_refused("a tensor's name of 64 bytes");
    header(1, 0);
    tensor("a\nb", 1, small, 0, 0);
    expect_refused("holds the byte 0x0a");
}

static void test_no_file(void **state)
{
    (void)state;
    struct gguf_file f;
    struct err e = {0};
    assert_int_equal(gguf_open(&f, tempdir_path(&dir, "absent"), &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "No such file"));
    assert_int_equal(gguf_open(&f, dir.path, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "is a directory"));
    assert_false(gguf_is(dir.path));
    assert_false(gguf_is(tempdir_path(&dir, "absent")));
}

// Every allocation that fails is told as such.
static void test_no_memory(void **state)
{
    (void)state;
    good();
    const char *path = written();
    for (uint64_t k = 1;; k++) {
        struct gguf_file f;
        struct err e = {0};
        mem_fail_after(k);
        int rc = gguf_open(&f, path, &e);
        mem_fail_after(0);
        if (rc == 0) {
            assert_true(k > 5);
            gguf_close(&f);
            break;
        }
        assert_int_equal(rc, ERR_LIMIT);
    }
}

// ---- the writer

static void describe(struct gguf_writer *w)
{
    struct err e = {0};
    memset(w, 0, sizeof *w);
    gguf_put_text(w, "general.architecture", "ivchat");
    gguf_put_u32(w, "n", 7);
    gguf_put_f32(w, "x", -2.5f);
    gguf_put_f64(w, "y", 1e6);
    gguf_put_bool(w, "yes", true);
    gguf_put_array(w, "ids", GGUF_I32, (int32_t[]){1, -2}, 2);
    gguf_put_texts(w, "words", 2);
    gguf_add_text(w, "a", 1);
    gguf_add_text(w, "\0b", 2);
    assert_int_equal(gguf_put_tensor(w, "m", DT_F32, (size_t[]){3, 5}, 2, &e), 0);
    assert_int_equal(gguf_put_tensor(w, "q", DT_Q4_0, (size_t[]){2, 32}, 2, &e), 0);
}

static void test_write(void **state)
{
    (void)state;
    struct gguf_writer w;
    struct gguf_file f;
    struct err e = {0};
    char path[300], bytes[100];
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "made.gguf"));
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)i;
    describe(&w);
    assert_int_equal(gguf_write_begin(&w, path, NULL, &e), 0);
    assert_int_equal(gguf_write_data(&w, bytes, 30, &e), 0);
    assert_int_equal(gguf_write_data(&w, bytes + 30, 30, &e), 0);
    assert_int_equal(gguf_write_pad(&w, &e), 0);
    assert_int_equal(gguf_write_data(&w, bytes, 36, &e), 0);
    assert_int_equal(gguf_write_pad(&w, &e), 0);
    assert_int_not_equal(access(path, F_OK), 0); // not before it is whole
    assert_int_equal(gguf_write_commit(&w, &e), 0);
    gguf_write_abandon(&w); // nothing left to do

    if (gguf_open(&f, path, &e) != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(f.n_value, 7);
    assert_int_equal(f.n_tensor, 2);
    assert_int_equal(f.tensor[0].dim[0], 3);
    assert_int_equal(f.tensor[0].dim[1], 5);
    assert_memory_equal(f.tensor[0].data, bytes, 60);
    assert_int_equal(f.tensor[1].dtype, DT_Q4_0);
    assert_memory_equal(f.tensor[1].data, bytes, 36);
    const struct gguf_value *v;
    assert_int_equal(gguf_get_array(&f, "words", true, GGUF_STRING, &v, &e), 0);
    const uint8_t *at = v->data;
    assert_true(gguf_text_is(gguf_next_text(&at), "a"));
    assert_int_equal(gguf_next_text(&at).n, 2);
    gguf_close(&f);

    // what is missing or cannot be is noticed, and the old file stays
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    describe(&w);
    assert_int_equal(gguf_write_begin(&w, path, NULL, &e), 0);
    assert_int_equal(gguf_write_data(&w, bytes, 60, &e), 0);
    assert_int_equal(gguf_write_pad(&w, &e), 0);
    struct gguf_writer second;
    describe(&second);
    assert_int_equal(gguf_write_begin(&second, path, NULL, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "another process is writing it"));
    gguf_write_abandon(&second);
    assert_int_equal(gguf_write_commit(&w, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "64 bytes of tensors were written, 128 announced"));
    gguf_write_abandon(&w);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_not_equal(access(tempdir_path(&dir, "made.gguf.part"), F_OK), 0);

    // what a killed process left behind is written over
    tempdir_write(&dir, "made.gguf.part", bytes, sizeof bytes);
    memset(&w, 0, sizeof w);
    gguf_put_u32(&w, "n", 1);
    assert_int_equal(gguf_write_begin(&w, path, NULL, &e), 0);
    assert_int_equal(gguf_write_commit(&w, &e), 0);
    assert_int_equal(gguf_open(&f, path, &e), 0);
    assert_int_equal(f.n_tensor, 0);
    gguf_close(&f);

    memset(&w, 0, sizeof w);
    assert_int_equal(gguf_put_tensor(&w, "q", DT_Q4_0, (size_t[]){33}, 1, &e), ERR_FAIL);
    assert_int_equal(gguf_put_tensor(&w, "q", DT_U8, (size_t[]){32}, 1, &e), ERR_FAIL);
    assert_int_equal(
        gguf_put_tensor(&w, "0123456789012345678901234567890123456789012345678901234567890123",
                        DT_F32, (size_t[]){32}, 1, &e),
        ERR_FAIL);
    gguf_write_abandon(&w);
    assert_int_equal(gguf_write_begin(&w, "/nonexistent/x.gguf", NULL, &e), ERR_FAIL);
    gguf_write_abandon(&w);
}

static int free_bytes(void **state)
{
    teardown(state);
    buf_free(&b);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_bad_header),  cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_bad_tensors), cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, setup, free_bytes);
}
