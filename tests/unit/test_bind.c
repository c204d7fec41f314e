// SPDX-License-Identifier: MIT
// Weight tables: fields filled, both peft spellings, LoRA on any subset, exact shapes and types, and
// nothing left over unnoticed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "st_writer.h"
#include "weights/bind.h"

enum { ONE, IN, OUT, N_SIZE };
static const size_t sizes[N_SIZE] = {1, 6, 4};
enum { LORA_R = 2 };

struct part {
    struct tensor norm, maybe;
    struct linear fc, head, spare;
};

static const struct bind_row rows[] = {
    {"norm.weight", BIND_TENSOR, 0, offsetof(struct part, norm), 1, {IN}},
    {"maybe", BIND_TENSOR, BIND_OPTIONAL, offsetof(struct part, maybe), 2, {ONE, IN}},
    {"fc", BIND_LINEAR, BIND_BIAS | BIND_LORA, offsetof(struct part, fc), 2, {OUT, IN}},
    {"head", BIND_LINEAR, BIND_LORA, offsetof(struct part, head), 2, {OUT, IN}},
    {"spare", BIND_LINEAR, BIND_BIAS | BIND_OPTIONAL, offsetof(struct part, spare), 2, {IN, IN}},
    {"ids", BIND_UNUSED, BIND_OPTIONAL, 0, 2, {ONE, IN}},
    {"any", BIND_UNUSED, 0, 0, 0, {0}},
};
enum { N_ROW = sizeof rows / sizeof rows[0] };

// What every checkpoint below starts from.
#define BASE                                                                                       \
    {"p.norm.weight", "F32", 1, {6}}, {"p.fc.weight", "BF16", 2, {4, 6}},                          \
        {"p.fc.bias", "F16", 1, {4}},                                                              \
    {                                                                                              \
        "p.head.weight", "F32", 2,                                                                 \
        {                                                                                          \
            4, 6                                                                                   \
        }                                                                                          \
    }

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

static struct weights *open_specs(const struct st_spec *t, size_t n)
{
    struct weights *w;
    struct err e = {0};
    st_write_specs(&dir, "model.safetensors", t, n);
    if (weights_open(dir.path, &w, &e) != 0)
        fail_msg("%s", e.msg);
    return w;
}

// Binds the rows and checks that nothing is left.
static int bind_all(const struct weights *w, unsigned lora_r, struct part *p, struct err *e)
{
    struct binder b;
    memset(p, 0xaa, sizeof *p);
    int rc = binder_init(&b, w, sizes, lora_r, lora_r ? 1.5f : 0.0f, e);
    if (rc == 0)
        rc = bind_rows(&b, rows, N_ROW, "p.", p, e);
    if (rc == 0)
        rc = bind_check_unused(&b, e);
    binder_free(&b);
    assert_null(b.used);
    return rc;
}

static void test_plain(void **state)
{
    static const struct st_spec t[] = {BASE};
    struct part p;
    struct err e = {0};
    (void)state;
    struct weights *w = open_specs(t, 4);
    assert_int_equal(bind_all(w, LORA_R, &p, &e), 0);
    assert_ptr_equal(p.norm.data, weights_find(w, "p.norm.weight")->data);
    assert_ptr_equal(p.fc.w.data, weights_find(w, "p.fc.weight")->data);
    assert_ptr_equal(p.fc.b.data, weights_find(w, "p.fc.bias")->data);
    assert_ptr_equal(p.head.w.data, weights_find(w, "p.head.weight")->data);
    assert_int_equal(p.fc.w.dtype, DT_BF16);
    assert_int_equal(p.fc.w.dim[0], 4);
    assert_string_equal(p.fc.w.name, "p.fc.weight");
    const struct tensor *absent[] = {&p.maybe,       &p.fc.lora_a, &p.fc.lora_b, &p.head.b,
                                     &p.head.lora_a, &p.spare.w,   &p.spare.b,   &p.spare.lora_a};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        assert_false(tensor_present(absent[i]));
    assert_true(p.fc.lora_scale == 0.0f);
    weights_close(w);
}

static void test_lora_spellings(void **state)
{
    // fc as newer peft writes it, head in the old way
    static const struct st_spec t[] = {{"p.norm.weight", "F32", 1, {6}},
                                       {"p.maybe", "F32", 2, {1, 6}},
                                       {"p.fc.base_layer.weight", "BF16", 2, {4, 6}},
                                       {"p.fc.base_layer.bias", "F16", 1, {4}},
                                       {"p.fc.lora_A.default.weight", "F32", 2, {2, 6}},
                                       {"p.fc.lora_B.default.weight", "F32", 2, {4, 2}},
                                       {"p.head.weight", "F32", 2, {4, 6}},
                                       {"p.spare.weight", "F32", 2, {6, 6}},
                                       {"p.spare.bias", "F32", 1, {6}},
                                       {"p.ids", "I64", 2, {1, 6}},
                                       {"p.any", "U8", 3, {2, 2, 2}}};
    struct part p;
    struct err e = {0};
    (void)state;
    struct weights *w = open_specs(t, sizeof t / sizeof t[0]);
    if (bind_all(w, LORA_R, &p, &e) != 0)
        fail_msg("%s", e.msg);
    assert_string_equal(p.fc.w.name, "p.fc.base_layer.weight");
    assert_string_equal(p.fc.b.name, "p.fc.base_layer.bias");
    assert_string_equal(p.fc.lora_a.name, "p.fc.lora_A.default.weight");
    assert_string_equal(p.fc.lora_b.name, "p.fc.lora_B.default.weight");
    assert_true(p.fc.lora_scale == 1.5f);
    assert_true(tensor_present(&p.maybe));
    assert_false(tensor_present(&p.head.lora_a));
    assert_true(p.head.lora_scale == 0.0f);
    assert_true(tensor_present(&p.spare.b));
    weights_close(w);
}

static void test_refused(void **state)
{
    static const struct {
        struct st_spec t[8];
        unsigned lora_r;
        const char *message;
    } bad[] = {
        {{{"p.fc.weight", "BF16", 2, {4, 6}}}, 2, "p.norm.weight: missing, expected [6]"},
        {{{"p.norm.weight", "F32", 1, {5}}},
         2,
         "p.norm.weight: expected [6], "}, // file named in between
        {{{"p.norm.weight", "F32", 1, {5}}}, 2, "model.safetensors has [5]"},
        {{{"p.norm.weight", "F32", 2, {1, 6}}}, 2, "has [1,6]"},
        {{{"p.norm.weight", "F32", 2, {6, 1}}}, 2, "has [6,1]"},
        {{{"p.norm.weight", "F32", 0, {0}}}, 2, "has []"},
        {{{"p.norm.weight", "I32", 1, {6}}}, 2, "p.norm.weight: expected F32, F16 or BF16, "},
        {{{"p.norm.weight", "I32", 1, {6}}}, 2, "model.safetensors has I32"},
        {{BASE, {"p.maybe", "F32", 1, {6}}}, 2, "p.maybe: expected [1,6], "},
        {{{"p.norm.weight", "F32", 1, {6}}}, 2, "p.fc.weight: missing, expected [4,6]"},
        {{{"p.norm.weight", "F32", 1, {6}}, {"p.fc.weight", "F32", 2, {6, 4}}},
         2,
         "p.fc.weight: expected [4,6]"},
        {{{"p.norm.weight", "F32", 1, {6}}, {"p.fc.weight", "F32", 2, {4, 6}}},
         2,
         "p.fc.bias: missing, expected [4]"},
        {{BASE, {"p.fc.base_layer.weight", "F32", 2, {4, 6}}},
         2,
         "p.fc.weight and p.fc.base_layer.weight are both there"},
        {{BASE, {"p.fc.lora_A.default.weight", "F32", 2, {2, 6}}},
         2,
         "p.fc.lora_B.default.weight: missing, expected [4,2]"},
        {{BASE, {"p.head.lora_B.default.weight", "F32", 2, {4, 2}}},
         2,
         "p.head.lora_A.default.weight: missing, expected [2,6]"},
        {{BASE,
          {"p.head.lora_A.default.weight", "F32", 2, {3, 6}},
          {"p.head.lora_B.default.weight", "F32", 2, {4, 3}}},
         2,
         "p.head.lora_A.default.weight: expected [2,6]"},
        {{BASE,
          {"p.head.lora_A.default.weight", "F32", 2, {2, 6}},
          {"p.head.lora_B.default.weight", "F32", 2, {2, 4}}},
         2,
         "p.head.lora_B.default.weight: expected [4,2]"},
        {{BASE,
          {"p.head.lora_A.default.weight", "F32", 2, {2, 6}},
          {"p.head.lora_B.default.weight", "F32", 2, {4, 2}}},
         0,
         "p.head.lora_A.default.weight: unexpected, the configuration says that there is no LoRA"},
        {{BASE, {"p.ids", "I64", 2, {1, 7}}}, 2, "p.ids: expected [1,6]"},
        {{BASE, {"p.spare.weight", "F32", 2, {6, 6}}}, 2, "p.spare.bias: missing"},
        {{BASE, {"p.spare.bias", "F32", 1, {6}}},
         2,
         "1 tensor that the model has no place for: p.spare.bias"},
        {{BASE, {"p.spare.base_layer.weight", "F32", 2, {6, 6}}}, 2, "p.spare.base_layer.weight"},
        {{BASE, {"z", "F32", 1, {1}}, {"p.y", "U8", 1, {1}}},
         2,
         "2 tensors that the model has no place for: z, p.y"},
        {{BASE,
          {"z4", "F32", 1, {1}},
          {"z3", "F32", 1, {1}},
          {"z2", "F32", 1, {1}},
          {"z1", "F32", 1, {1}}},
         2,
         "4 tensors that the model has no place for: z4, z3, z2, ..."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct part p;
        struct err e = {0};
        size_t n = 0;
        while (n < 8 && bad[i].t[n].name)
            n++;
        struct weights *w = open_specs(bad[i].t, n);
        int rc = bind_all(w, bad[i].lora_r, &p, &e);
        if (rc == 0 || !strstr(e.msg, bad[i].message))
            print_error("row %zu: got %d \"%s\"\nexpected \"%s\"\n", i, rc, e.msg, bad[i].message);
        assert_int_equal(rc, ERR_MODEL);
        assert_non_null(strstr(e.msg, bad[i].message));
        weights_close(w);
    }
}

// A convolution: weight of rank 5, bias of its first dim.
static void test_rank5(void **state)
{
    static const struct st_spec t[] = {{"proj.weight", "F32", 5, {4, 1, 1, 6, 6}},
                                       {"proj.bias", "F32", 1, {4}}};
    static const struct bind_row row = {"proj", BIND_LINEAR, BIND_BIAS,
                                        0,      5,           {OUT, ONE, ONE, IN, IN}};
    struct linear out;
    struct binder b;
    struct err e = {0};
    (void)state;
    struct weights *w = open_specs(t, 2);
    assert_int_equal(binder_init(&b, w, sizes, 0, 0.0f, &e), 0);
    assert_int_equal(bind_rows(&b, &row, 1, "", &out, &e), 0);
    assert_int_equal(bind_check_unused(&b, &e), 0);
    assert_int_equal(out.w.rank, 5);
    assert_int_equal(out.b.dim[0], 4);
    binder_free(&b);
    mem_fail_after(1);
    assert_int_equal(binder_init(&b, w, sizes, 0, 0.0f, &e), ERR_LIMIT);
    mem_fail_after(0);
    binder_free(&b);
    weights_close(w);
}

// A name longer than any tensor's cannot be in a file: missing, not cut to another name.
static void test_long_prefix(void **state)
{
    static const struct st_spec t[] = {BASE};
    char prefix[1000];
    struct part p;
    struct binder b;
    struct err e = {0};
    (void)state;
    memset(prefix, 'p', sizeof prefix);
    prefix[sizeof prefix - 1] = 0;
    struct weights *w = open_specs(t, 4);
    assert_int_equal(binder_init(&b, w, sizes, 0, 0.0f, &e), 0);
    assert_int_equal(bind_rows(&b, rows, 1, prefix, &p, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "norm.weight: missing"));
    binder_free(&b);
    weights_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_lora_spellings),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_rank5),
        cmocka_unit_test(test_long_prefix),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
