// SPDX-License-Identifier: MIT
// The safetensors reader: what a good file gives, and every way of being wrong with its message.
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
#include "base/json.h"
#include "base/mem.h"
#include "st_writer.h"
#include "weights/safetensors.h"

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

static void expect_refused(const char *path, const char *message)
{
    struct st_file f;
    struct err e = {0};
    memset(&f, 0xaa, sizeof f);
    int rc = st_open(&f, path, &e);
    if (rc == 0 || !strstr(e.msg, message))
        print_error("got %d \"%s\"\nexpected \"%s\"\n", rc, e.msg, message);
    assert_int_equal(rc, ERR_MODEL);
    assert_int_equal(e.code, ERR_MODEL);
    assert_non_null(strstr(e.msg, path));
    assert_non_null(strstr(e.msg, message));
    assert_null(f.map.data);
    assert_null(f.tensor);
    assert_int_equal(f.n_tensor, 0);
}

static void test_good(void **state)
{
    (void)state;
    // out of order in the header, spaces behind it, an empty tensor between two others, a scalar
    const char *header =
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},"
        "\"__metadata__\":{\"format\":\"pt\",\"note\":\"\"},"
        "\"none\":{\"dtype\":\"F32\",\"shape\":[4,0],\"data_offsets\":[16,16]},"
        "\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[22,24]},"
        "\"a\":{\"data_offsets\":[0,16],\"shape\":[2,2],\"dtype\":\"F32\"}}            ";
    struct st_file f;
    struct err e = {0};
    assert_int_equal(strlen(header) % 8, 0);
    assert_int_equal(st_open(&f, st_write(&dir, "good", header, 24), &e), 0);
    static const struct {
        const char *name;
        enum dtype dtype;
        unsigned rank;
        size_t dim0, bytes;
        uint8_t first; // byte
    } want[] = {{"a", DT_F32, 2, 2, 16, 0},
                {"none", DT_F32, 2, 4, 0, 16},
                {"b", DT_BF16, 1, 3, 6, 16},
                {"s", DT_F16, 0, 0, 2, 22}};
    assert_int_equal(f.n_tensor, 4);
    assert_int_equal(f.data_bytes, 24);
    assert_null(f.copy);
    for (size_t i = 0; i < 4; i++) {
        const struct tensor *t = &f.tensor[i];
        assert_string_equal(t->name, want[i].name);
        assert_int_equal(t->dtype, want[i].dtype);
        assert_int_equal(t->rank, want[i].rank);
        assert_int_equal(t->dim[0], want[i].dim0);
        assert_int_equal(t->bytes, want[i].bytes);
        assert_true(tensor_present(t));
        assert_int_equal(*(const uint8_t *)t->data, want[i].first);
    }
    st_close(&f);
    assert_null(f.tensor);
}

#define ONE(name, dtype, shape, offsets)                                                           \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_malformed_header(void **state)
{
    static const struct {
        const char *header;
        size_t n_data;
        const char *message;
    } bad[] = {
        {"", 0, "the header is no JSON object"},
        {" {}", 0, "the header is no JSON object"},
        {"[]", 0, "the header is no JSON object"},
        {"{", 0, "invalid JSON"},
        {"{}", 0, "no tensors"},
        {"{} x", 0, "invalid JSON"},
        {"{\"__metadata__\":{\"a\":\"b\"}}", 0, "no tensors"},
        {"{\"__metadata__\":[]," ONE("a", "F32", "[1]", "[0,4]") "}", 4,
         "__metadata__ is no object"},
        {"{\"__metadata__\":{\"k\":1}," ONE("a", "F32", "[1]", "[0,4]") "}", 4,
         "__metadata__.k is no string"},
        {"{" ONE("a", "F32", "[1]", "[0,4]") "," ONE("a", "F32", "[1]", "[4,8]") "}", 8,
         "invalid JSON at line 1 column 57 (byte 57): duplicate object key"},
        {"{" ONE("a", "F32", "[1]", "[0,4]") ",\"a\\u0000\":1}", 4, "invalid JSON"},
        {"{" ONE("\xff", "F32", "[1]", "[0,4]") "}", 4, "invalid JSON"},
        {"{" ONE("", "F32", "[1]", "[0,4]") "}", 4, "a tensor has an empty name"},
        {"{" ONE("a\\u001bc", "F32", "[1]", "[0,4]") "}", 4,
         "tensor name a\\x1bc holds a control character"},
        {"{\"a\":1}", 4, "a: no object"},
        {"{\"a\":{}}", 4, "a: dtype is missing"},
        {"{\"a\":{\"dtype\":7}}", 4, "a: dtype is missing or no string"},
        {"{" ONE("a", "F64", "[1]", "[0,8]") "}", 8, "a: dtype F64 is not supported (F32"},
        {"{" ONE("a", "F32\\u0000", "[1]", "[0,4]") "}", 4, "a: dtype F32 is not supported"},
        {"{\"a\":{\"dtype\":\"F32\"}}", 4, "a: shape is missing or no array"},
        {"{" ONE("a", "F32", "{}", "[0,4]") "}", 4, "a: shape is missing or no array"},
        {"{" ONE("a", "F32", "[1,-1]", "[0,4]") "}", 4,
         "a: dimension 1 of shape is no integer from 0"},
        {"{" ONE("a", "F32", "[1.0]", "[0,4]") "}", 4, "a: dimension 0 of shape is no integer"},
        {"{" ONE("a", "F32", "[\"1\"]", "[0,4]") "}", 4, "a: dimension 0 of shape is no integer"},
        {"{" ONE("a", "F32", "[[1]]", "[0,4]") "}", 4, "a: dimension 0 of shape is no integer"},
        {"{" ONE("a", "F32", "[1e999]", "[0,4]") "}", 4, "invalid JSON"},
        {"{" ONE("a", "F32", "[18446744073709551615]", "[0,4]") "}", 4, "invalid JSON"},
        {"{" ONE("a", "F32", "[1,1,1,1,1,1]", "[0,4]") "}", 4,
         "a: 6 dimensions, at most 5 are supported"},
        {"{" ONE("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
         "a: the size of shape [4294967296,4294967296] overflows"},
        {"{" ONE("a", "F32", "[4611686018427387904]", "[0,0]") "}", 0,
         "a: the size of shape [4611686018427387904] overflows"},
        {"{" ONE("a", "F32", "[4294967296,4294967296,0]", "[0,0]") "}", 0, "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "a: data_offsets are no two integers"},
        {"{" ONE("a", "F32", "[1]", "[0]") "}", 4, "a: data_offsets are no two integers"},
        {"{" ONE("a", "F32", "[1]", "[0,4,8]") "}", 4, "a: data_offsets are no two integers"},
        {"{" ONE("a", "F32", "[1]", "[-4,0]") "}", 4, "a: data_offsets are no two integers"},
        {"{" ONE("a", "F32", "[1]", "[4,0]") "}", 4, "a: data_offsets [4,0] run backwards"},
        {"{" ONE("a", "F32", "[2]", "[0,8]") "}", 4,
         "a: data_offsets [0,8] pass the end: the file has 4 bytes of data"},
        {"{" ONE("a", "F32", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4,
         "a: data_offsets [9223372036854775803,9223372036854775807] pass the end"},
        {"{" ONE("a", "F32", "[1]", "[0,8]") "}", 8,
         "a: F32 [1] takes 4 bytes, data_offsets give 8"},
        {"{" ONE("a", "BF16", "[3]", "[0,4]") "}", 4,
         "a: BF16 [3] takes 6 bytes, data_offsets give 4"},
        {"{" ONE("a", "F32", "[0]", "[0,4]") "}", 4, "a: F32 [0] takes 0 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}}", 4,
         "a: keys other than dtype, shape and data_offsets"},
        {"{" ONE("a", "F32", "[1]", "[4,8]") "}", 8, "4 bytes before a belong to no tensor"},
        {"{" ONE("a", "F32", "[1]", "[0,4]") "," ONE("b", "F32", "[1]", "[8,12]") "}", 12,
         "4 bytes before b belong to no tensor"},
        {"{" ONE("a", "F32", "[2]", "[0,8]") "," ONE("b", "F32", "[1]", "[4,8]") "}", 8,
         "b starts at byte 4 and overlaps a, which ends at 8"},
        {"{" ONE("a", "F32", "[1]", "[0,4]") "," ONE("b", "F32", "[1]", "[0,4]") "}", 4,
         "b starts at byte 0 and overlaps a"},
        {"{" ONE("a", "F32", "[2]", "[0,8]") "," ONE("e", "F32", "[0]", "[4,4]") "}", 8,
         "e starts at byte 4 and overlaps a"},
        {"{" ONE("a", "F32", "[1]", "[0,4]") "}", 7, "3 bytes after the last tensor"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(st_write(&dir, "bad", bad[i].header, bad[i].n_data), bad[i].message);
}

static void test_malformed_length(void **state)
{
    static const struct {
        uint64_t len;
        size_t n_file; // bytes, the first 8 of which hold len
        const char *message;
    } bad[] = {
        {0, 0, ": 0 bytes are no safetensors file"},
        {0, 7, ": 7 bytes are no safetensors file"},
        {0, 8, "the header is no JSON object"},
        {1, 8, "truncated: header of 1 bytes in a file of 8 bytes"},
        {100, 50, "truncated: header of 100 bytes in a file of 50 bytes"},
        {100000000, 50, "truncated: header of 100000000 bytes"},
        {100000001, 50, "header of 100000001 bytes, at most 100000000 are accepted"},
        {UINT64_C(1) << 63, 50, "header of 9223372036854775808 bytes, at most"},
        {UINT64_MAX, 50, "header of 18446744073709551615 bytes, at most"},
        {UINT64_MAX - 7, 50, "header of 18446744073709551608 bytes, at most"},
    };
    char raw[64];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(raw, '{', sizeof raw);
        memcpy(raw, &bad[i].len, 8);
        expect_refused(tempdir_write(&dir, "bad", raw, bad[i].n_file), bad[i].message);
    }
}

// A good file cut at every length must be refused at every one.
static void test_truncated(void **state)
{
    const char *header = "{" ONE("a", "F32", "[1]", "[0,4]") "," ONE("b", "U8", "[3]", "[4,7]") "}";
    char raw[256];
    size_t n = 8 + strlen(header) + 7;
    FILE *in = fopen(st_write(&dir, "whole", header, 7), "rb");
    (void)state;
    assert_non_null(in);
    assert_int_equal(fread(raw, 1, sizeof raw, in), n);
    fclose(in);
    for (size_t k = 0; k < n; k++)
        expect_refused(tempdir_write(&dir, "cut", raw, k), "");
    raw[n] = 0;
    expect_refused(tempdir_write(&dir, "long", raw, n + 1), "1 bytes after the last tensor");
}

static void test_no_regular_file(void **state)
{
    char path[300], loop[300];
    (void)state;
    expect_refused(tempdir_path(&dir, "absent"), "No such file");
    expect_refused(dir.path, "is a directory");
    snprintf(path, sizeof path, "%s/fifo", dir.path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(path, "not a regular file");
    snprintf(loop, sizeof loop, "%s/loop", dir.path);
    assert_int_equal(symlink("loop", loop), 0);
    expect_refused(loop, "symbolic links");
    expect_refused("/dev/zero", "not a regular file");
}

static void test_limits(void **state)
{
    struct buf b = {0};
    struct st_file f;
    struct err e = {0};
    (void)state;
    // 512 bytes of name are fine, 513 are not
    for (size_t n = ST_NAME_MAX; n <= ST_NAME_MAX + 1; n++) {
        buf_reset(&b);
        buf_add_str(&b, "{\"");
        for (size_t i = 0; i < n; i++)
            buf_add_str(&b, "n");
        buf_add_str(&b, "\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        const char *path = st_write(&dir, "name", b.data, 4);
        if (n <= ST_NAME_MAX) {
            assert_int_equal(st_open(&f, path, &e), 0);
            assert_int_equal(strlen(f.tensor[0].name), n);
            st_close(&f);
        } else {
            expect_refused(path, "tensor name of 513 bytes (nnnnnn");
        }
    }
    // nesting, and values that would take far more memory than text
    buf_reset(&b);
    buf_add_str(&b, "{\"a\":");
    for (size_t i = 0; i < 100000; i++)
        buf_add_str(&b, "[");
    expect_refused(st_write(&dir, "deep", b.data, 0), "maximum parsing depth");
    buf_reset(&b);
    buf_add_str(&b, "{\"a\":[");
    for (size_t i = 0; i < JS_VALUE_MAX; i++)
        buf_add_str(&b, "0,");
    buf_add_str(&b, "0]}");
    expect_refused(st_write(&dir, "many", b.data, 0), "JSON values, at most 1048576 are accepted");
    buf_free(&b);
}

// A header of 8k + 1 bytes puts every tensor off its alignment; it is read all the same.
static void test_misaligned(void **state)
{
    char header[256];
    (void)state;
    for (size_t pad = 0; pad < 8; pad++) {
        struct st_file f;
        struct err e = {0};
        int n = snprintf(header, sizeof header, "{%s,%s,%s}%*s", ONE("a", "F32", "[2]", "[1,9]"),
                         ONE("b", "I64", "[1]", "[9,17]"), ONE("u", "U8", "[1]", "[0,1]"), (int)pad,
                         "");
        assert_int_equal(st_open(&f, st_write(&dir, "odd", header, 17), &e), 0);
        size_t start = (8 + (size_t)n) % 8;
        assert_int_equal(f.copy != NULL, (start + 1) % 8 != 0 || (start + 9) % 8 != 0);
        static const char *const name[] = {"u", "a", "b"};
        for (size_t i = 0; i < 3; i++) {
            const struct tensor *t = &f.tensor[i];
            assert_string_equal(t->name, name[i]);
            assert_int_equal((uintptr_t)t->data % dtype_bytes(t->dtype), 0);
            for (size_t k = 0; k < t->bytes; k++)
                assert_int_equal(((const uint8_t *)t->data)[k], (i == 0 ? 0 : i == 1 ? 1 : 9) + k);
        }
        st_close(&f);
    }
}

static void test_allocation_failure(void **state)
{
    char header[256];
    struct st_file f;
    struct err e;
    uint64_t k;
    (void)state;
    snprintf(header, sizeof header, "{%s}  ", ONE("a", "F32", "[2]", "[0,8]"));
    while (strlen(header) % 8 == 0)
        memcpy(header + strlen(header), " ", 2); // misaligned: all allocations happen
    const char *path = st_write(&dir, "memory", header, 8);
    for (k = 1;; k++) {
        mem_fail_after(k);
        int rc = st_open(&f, path, &e);
        mem_fail_after(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
        assert_non_null(strstr(e.msg, "out of memory"));
    }
    assert_int_equal(k, 5); // entries, tensors, names, copy
    st_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_malformed_header),
        cmocka_unit_test(test_malformed_length),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_no_regular_file),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_misaligned),
        cmocka_unit_test(test_allocation_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
