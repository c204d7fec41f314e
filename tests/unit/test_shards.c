// SPDX-License-Identifier: MIT
// A model directory: single file, shards with an index, each way in which they can disagree, and the
// golden checkpoints.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "st_writer.h"
#include "weights/weights.h"

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

static const struct st_spec first[] = {{"b", "F32", 2, {2, 3}}, {"a", "BF16", 1, {4}}};
static const struct st_spec second[] = {{"c.weight", "I64", 1, {1}}, {"B", "F16", 1, {2}}};
static const char good_index[] =
    "{\"metadata\":{\"total_size\":44},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\",\"B\":\"s2\","
    "\"c.weight\":\"s2\"}}";

static struct tempdir dir;

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    st_write_specs(&dir, "s1", first, 2);
    st_write_specs(&dir, "s2", second, 2);
    tempdir_write_text(&dir, index_name, good_index);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

static void expect_refused(const char *message)
{
    struct weights *w = (struct weights *)&dir; // must be set to NULL
    struct err e = {0};
    int rc = weights_open(dir.path, &w, &e);
    if (rc == 0 || !strstr(e.msg, message))
        print_error("got %d \"%s\"\nexpected \"%s\"\n", rc, e.msg, message);
    assert_int_equal(rc, ERR_MODEL);
    assert_int_equal(e.code, ERR_MODEL);
    assert_non_null(strstr(e.msg, message));
    assert_null(w);
}

static struct weights *open_good(const char *path)
{
    struct weights *w;
    struct err e = {0};
    if (weights_open(path, &w, &e) != 0)
        fail_msg("%s", e.msg);
    return w;
}

static void test_indexed(void **state)
{
    static const char *const order[] = {"b", "a", "c.weight", "B"};
    (void)state;
    struct weights *w = open_good(dir.path);
    assert_int_equal(weights_count(w), 4);
    assert_int_equal(weights_file_count(w), 2);
    for (size_t i = 0; i < 4; i++) {
        const struct tensor *t = weights_find(w, order[i]);
        assert_ptr_equal(t, weights_at(w, i));
        assert_int_equal(weights_index(w, t), i);
        assert_string_equal(t->name, order[i]);
        struct tensor copy = *t; // as tables hold them
        assert_string_equal(weights_file(w, &copy), tempdir_path(&dir, i < 2 ? "s1" : "s2"));
    }
    assert_int_equal(weights_find(w, "b")->dim[1], 3);
    assert_null(weights_find(w, ""));
    assert_null(weights_find(w, "bb"));
    assert_null(weights_find(w, "c"));
    assert_null(weights_at(w, 4));
    assert_null(weights_file(w, &(struct tensor){.name = "x"}));
    size_t bytes;
    struct stat st;
    assert_string_equal(weights_file_at(w, 1, &bytes), tempdir_path(&dir, "s2"));
    assert_int_equal(stat(tempdir_path(&dir, "s2"), &st), 0);
    assert_int_equal(bytes, st.st_size);
    assert_null(weights_file_at(w, 2, NULL));
    weights_close(w);
    weights_close(NULL);
}

static void test_single(void **state)
{
    (void)state;
    tempdir_delete(&dir, index_name);
    expect_refused("neither model.safetensors.index.json nor model.safetensors is there");
    st_write_specs(&dir, single_name, first, 2);
    char path[300];
    snprintf(path, sizeof path, "%s/", dir.path);
    struct weights *w = open_good(path);
    assert_int_equal(weights_count(w), 2);
    assert_string_equal(weights_file_at(w, 0, NULL), tempdir_path(&dir, single_name));
    weights_close(w);
    tempdir_delete(&dir, single_name);
    assert_int_equal(symlink("nowhere", tempdir_path(&dir, single_name)), 0);
    expect_refused("model.safetensors: No such file");
}

static void test_directory(void **state)
{
    struct weights *w;
    struct err e = {0};
    (void)state;
    assert_int_equal(weights_open(tempdir_path(&dir, "none"), &w, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "none: No such file"));
    assert_int_equal(weights_open(tempdir_path(&dir, "s1"), &w, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "s1: not a directory"));
    assert_int_equal(weights_open("", &w, &e), ERR_MODEL);
    assert_int_equal(weights_open("", &w, NULL), ERR_MODEL);
}

static void test_index_malformed(void **state)
{
    static const struct {
        const char *index, *message;
    } bad[] = {
        {"", "invalid JSON"},
        {"[]", "weight_map is missing, empty or no object"},
        {"{}", "weight_map is missing, empty or no object"},
        {"{\"weight_map\":[]}", "weight_map is missing, empty or no object"},
        {"{\"weight_map\":{}}", "weight_map is missing, empty or no object"},
        {"{\"weight_map\":{\"a\":1}}", "weight_map: the file of a is no string"},
        {"{\"weight_map\":{\"a\":\"s1\",\"a\":\"s1\"}}", "duplicate object key"},
        {"{\"weight_map\":{\"a\":\"\"}}", "a is said to be in \"\", which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"../s1\"}}", "\"../s1\", which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "\"..\", which is no plain file name"},
        {"{\"weight_map\":{\"a\":\".\"}}", "\".\", which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "\"/etc/passwd\", which is no plain"},
        {"{\"weight_map\":{\"a\":\"..\\\\s1\"}}", "which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"s1\\u0000\"}}", "which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"s\\n1\"}}", "\"s\\x0a1\", which is no plain file name"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\",\"x\":\"s3\"}}", "s3: No such file"},
        {"{\"weight_map\":{\"a\":\"s1\"}}", "b of file s1 is not in the index"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\",\"B\":\"s1\",\"c.weight\":\"s2\"}}",
         "B is said to be in s1 but is in s2"},
        {"{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\",\"z\":\"s1\"}}",
         "z is said to be in s1, which lacks it"},
        {"{\"metadata\":7,\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}", "metadata is no object"},
        {"{\"metadata\":{\"total_size\":\"32\"},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
         "metadata.total_size is no number"},
        {"{\"metadata\":{\"total_size\":33},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
         "metadata.total_size is 33, the tensors of its files take 32 bytes"},
        {"{\"metadata\":{\"total_size\":-32},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
         "metadata.total_size is -32"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tempdir_write_text(&dir, index_name, bad[i].index);
        expect_refused(bad[i].message);
    }
    struct buf b = {0}; // a file name of 256 bytes
    buf_add_str(&b, "{\"weight_map\":{\"a\":\"");
    for (size_t i = 0; i < 256; i++)
        buf_add_str(&b, "s");
    buf_add_str(&b, "\"}}");
    tempdir_write_text(&dir, index_name, b.data);
    expect_refused("which is no plain file name");
    buf_reset(&b); // more files than accepted
    buf_add_str(&b, "{\"weight_map\":{\"a\":\"s1\"");
    for (size_t i = 0; i < 1024; i++)
        buf_printf(&b, ",\"t%zu\":\"f%zu\"", i, i);
    buf_add_str(&b, "}}");
    tempdir_write_text(&dir, index_name, b.data);
    expect_refused("1025 files, at most 1024 are accepted");
    buf_free(&b);
}

static void test_index_accepted(void **state)
{
    static const char *const good[] = {
        "{\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
        "{\"metadata\":{},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
        "{\"metadata\":null,\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
        "{\"metadata\":{\"total_size\":32.0,\"x\":1},\"weight_map\":{\"a\":\"s1\",\"b\":\"s1\"}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        tempdir_write_text(&dir, index_name, good[i]);
        struct weights *w = open_good(dir.path);
        assert_int_equal(weights_count(w), 2);
        weights_close(w);
    }
}

static void test_shards_disagree(void **state)
{
    static const struct st_spec twice[] = {{"c.weight", "I64", 1, {1}}, {"a", "F16", 1, {2}}};
    static const struct st_spec extra[] = {
        {"c.weight", "I64", 1, {1}}, {"B", "F16", 1, {2}}, {"lora", "F16", 1, {0}}};
    (void)state;
    st_write_specs(&dir, "s2", twice, 2);
    expect_refused("a is in ");
    st_write_specs(&dir, "s2", extra, 3);
    expect_refused("lora of file s2 is not in the index");
    st_write_specs(&dir, "s2", second, 1);
    expect_refused("B is said to be in s2, which lacks it");
    tempdir_delete(&dir, "s2");
    expect_refused("/s2: No such file");
    assert_int_equal(symlink("s2", tempdir_path(&dir, "s2")), 0);
    expect_refused("/s2: Too many levels of symbolic links");
    tempdir_delete(&dir, "s2");
    assert_int_equal(mkdir(tempdir_path(&dir, "s2"), 0700), 0);
    expect_refused("/s2: is a directory");
    tempdir_delete(&dir, "s2");
    tempdir_write_text(&dir, "s2", "<!doctype html><title>login</title>");
    expect_refused("/s2: header of ");
}

static void test_allocation_failure(void **state)
{
    struct weights *w;
    struct err e;
    uint64_t k;
    (void)state;
    for (k = 1;; k++) {
        mem_fail_after(k);
        int rc = weights_open(dir.path, &w, &e);
        mem_fail_after(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
        assert_non_null(strstr(e.msg, "out of memory"));
        assert_null(w);
    }
    assert_true(k > 12);
    weights_close(w);
}

static struct weights *open_golden(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/golden/%s", TEST_SHARED, name);
    if (access(path, R_OK) != 0) {
        printf("SKIP no %s\n", path);
        skip();
    }
    return open_good(path);
}

static void check_tensor(const struct weights *w, const char *name, enum dtype dtype, size_t d0,
                         size_t d1)
{
    const struct tensor *t = weights_find(w, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->dim[0], d0);
    assert_int_equal(t->dim[1], d1);
}

static void test_golden_hd(void **state)
{
    (void)state;
    struct weights *w = open_golden("tiny-hd");
    assert_int_equal(weights_count(w), 252);
    check_tensor(w, "lm.base_model.model.lm_head.weight", DT_BF16, 32768, 192);
    check_tensor(w, "lm.base_model.model.lm_head.lora_A.default.weight", DT_F32, 16, 192);
    check_tensor(w, "qformer.bert.embeddings.position_ids", DT_I64, 1, 512);
    assert_int_equal(
        ((const int64_t *)weights_find(w, "qformer.bert.embeddings.position_ids")->data)[511], 511);
    weights_close(w);
}

static void test_golden_internlm(void **state)
{
    (void)state;
    struct weights *w = open_golden("tiny-internlm");
    assert_int_equal(weights_count(w), 135);
    check_tensor(w, "lm.base_model.model.model.layers.1.attention.wqkv.weight", DT_BF16, 128, 64);
    check_tensor(w, "lm.base_model.model.output.weight", DT_BF16, 92544, 64);
    weights_close(w);
}

// As many tensors as a release, with names of its length.
static void test_many(void **state)
{
    enum { N = 1590 };
    struct st_spec *t = calloc(N, sizeof *t);
    char(*name)[80] = calloc(N, sizeof *name);
    struct timespec a, b;
    (void)state;
    assert_true(t && name);
    for (size_t i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i],
                 "lm.base_model.model.model.layers.%zu.self_attn.q_proj.lora_A.default.weight", i);
        t[i] = (struct st_spec){name[i], "F32", 2, {2, 3}};
    }
    tempdir_delete(&dir, index_name);
    st_write_specs(&dir, single_name, t, N);
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct weights *w = open_good(dir.path);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("opened %d tensors in %.1f ms\n", N,
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6);
    for (size_t i = 0; i < N; i++)
        assert_ptr_equal(weights_find(w, name[i]), weights_at(w, i));
    weights_close(w);
    free(t);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_indexed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_single, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_index_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_index_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shards_disagree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allocation_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test(test_golden_hd),
        cmocka_unit_test(test_golden_internlm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
