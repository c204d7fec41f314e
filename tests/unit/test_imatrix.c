// SPDX-License-Identifier: MIT
// Importance matrices: what is written is read again, the older form too, and each way of being wrong with its
// message.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "tempdir.h"
#include "weights/gguf_write.h"
#include "weights/imatrix.h"

static struct tempdir dir;
static char path[512];

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s/m", dir.path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

static void refused(const char *text)
{
    struct imatrix m;
    struct err e = {0};
    int rc = imatrix_open(&m, path, &e);
    if (rc != ERR_MODEL || !strstr(e.msg, text))
        fail_msg("code %d, \"%s\", expected \"%s\"", rc, e.msg, text);
    assert_null(m.entry);
    assert_int_equal(m.n, 0);
}

static void write_then_read(void **state)
{
    (void)state;
    const double a[3] = {8, 0, 2}, b[1] = {1e18};
    const struct imatrix_sums s[2] = {{"blk.1.ffn_up.weight", 3, a, 4},
                                      {"blk.0.attn_q.weight", 1, b, 1}};
    struct imatrix m;
    struct err e = {0};
    if (imatrix_write(path, s, 2, "words", NULL, &e) != 0 || imatrix_open(&m, path, &e) != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(m.n, 2);
    assert_string_equal(m.entry[0].name, "blk.0.attn_q.weight");
    const struct imatrix_entry *x = imatrix_find(&m, "blk.1.ffn_up.weight");
    assert_non_null(x);
    assert_int_equal(x->n, 3);
    assert_true(x->mean[0] == 2.0f && x->mean[1] == 0.0f && x->mean[2] == 0.5f);
    assert_null(imatrix_find(&m, "blk.1.ffn_up"));
    assert_null(imatrix_find(&m, "z"));
    imatrix_close(&m);
    const double bad[1] = {1e300};
    const struct imatrix_sums t = {"x", 1, bad, 1};
    assert_int_equal(imatrix_write(path, &t, 1, "words", NULL, &e), ERR_FAIL);
    assert_non_null(strstr(e.msg, "x: input 0"));
    assert_int_equal(imatrix_open(&m, path, &e), 0); // as before
    imatrix_close(&m);
    const double large[1] = {1e30}; // sums with weights could not be finite
    assert_int_equal(
        imatrix_write(path, &(struct imatrix_sums){"x", 1, large, 1}, 1, "words", NULL, &e), 0);
    assert_int_equal(imatrix_open(&m, path, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "x: value 0 is 1e+30"));
}

// ---- GGUF files by hand

struct made {
    const char *name;
    enum dtype type;
    size_t dim[2];
    float value[4];
};

static void make(const char *type, const struct made *t, size_t n)
{
    struct gguf_writer w = {0};
    struct err e = {0};
    int rc = 0;
    gguf_put_text(&w, "general.type", type);
    for (size_t i = 0; i < n; i++)
        rc |= gguf_put_tensor(&w, t[i].name, t[i].type, t[i].dim, 2, &e);
    rc |= gguf_write_begin(&w, path, NULL, &e);
    for (size_t i = 0; i < n; i++) {
        rc |=
            gguf_write_data(&w, t[i].value, dtype_bytes(t[i].type) * t[i].dim[0] * t[i].dim[1], &e);
        rc |= gguf_write_pad(&w, &e);
    }
    rc |= gguf_write_commit(&w, &e);
    if (rc != 0)
        fail_msg("%s", e.msg);
}

static void wrong_gguf(void **state)
{
    (void)state;
    const struct made sums = {"a.in_sum2", DT_F32, {1, 2}, {1, 2}},
                      counts = {"a.counts", DT_F32, {1, 1}, {3}};
    struct made t[2] = {sums, counts};
    make("model", t, 2);
    refused("general.type is \"model\", expected imatrix");
    make("imatrix", t, 0);
    refused("of nothing");
    make("imatrix", t, 1);
    refused("a.counts lacks");
    make("imatrix", t + 1, 1);
    refused("1 tensors *.counts for 0 *.in_sum2");
    t[1].value[0] = 0;
    make("imatrix", t, 2);
    refused("a.counts is 0, expected a positive number");
    t[1] = counts;
    t[0].value[1] = -1;
    make("imatrix", t, 2);
    refused("a: value 1 is -1, no sum of squares");
    t[0] = sums;
    t[0].dim[0] = 2;
    make("imatrix", t, 2);
    refused("more than one matrix");
    t[0] = sums;
    t[0].type = DT_F16;
    make("imatrix", t, 2);
    refused("a.in_sum2 is F16");
    t[0] = sums;
    t[0].name = "a.weight";
    make("imatrix", t, 2);
    refused("a.weight: neither *.in_sum2 nor *.counts");
}

// ---- the older form

static void put_file(const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

struct dat {
    int32_t entries, len;
    char name[4];
    int32_t count, n;
    float value[2];
    int32_t calls, words;
    char word[4];
};

static void older_form(void **state)
{
    (void)state;
    const struct dat good = {1, 4, "blk7", 2, 2, {4, 6}, 2, 4, "text"};
    struct imatrix m;
    struct err e = {0};
    put_file(&good, sizeof good);
    if (imatrix_open(&m, path, &e) != 0)
        fail_msg("%s", e.msg);
    const struct imatrix_entry *x = imatrix_find(&m, "blk7");
    assert_true(m.n == 1 && x && x->n == 2 && x->mean[0] == 2.0f && x->mean[1] == 3.0f);
    imatrix_close(&m);
    for (size_t n = 0; n < offsetof(struct dat, calls); n++) {
        put_file(&good, n);
        assert_int_equal(imatrix_open(&m, path, &e), ERR_MODEL);
    }
    struct dat d = good;
    d.entries = 0;
    put_file(&d, sizeof d);
    refused("the number of entries 0 is not in 1..");
    d = good;
    d.len = 1 << 20;
    put_file(&d, sizeof d);
    refused("the length of a name 1048576");
    d = good;
    d.name[2] = '\n';
    put_file(&d, sizeof d);
    refused("a name holds the byte 0x0a");
    d = good;
    d.count = 0;
    put_file(&d, sizeof d);
    refused("a count 0");
    d = good;
    d.n = 1 << 20;
    put_file(&d, sizeof d);
    refused("values of 4194304 bytes, the file has");
    d = good;
    d.value[0] = -1;
    put_file(&d, sizeof d);
    refused("blk7: value 0 is -1");
    struct {
        int32_t entries;
        struct {
            int32_t len;
            char name[4];
            int32_t count, n;
            float value;
        } x[2];
    } twice = {2, {{4, "same", 1, 1, 1}, {4, "same", 1, 1, 1}}};
    put_file(&twice, sizeof twice);
    refused("same is there twice");
    put_file("<html>no such page</html>", 25);
    refused("no importance matrix");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_then_read),
        cmocka_unit_test(wrong_gguf),
        cmocka_unit_test(older_form),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
