// SPDX-License-Identifier: MIT
// LoRA pairs copied as bf16: which are, where nothing is, and that no result in bf16 or int8 changes.
#include <string.h>

#include "base/mem.h"
#include "engine/lora_bf16.h"
#include "ops_fixture.h"

// More inputs than products take at once, and matrices that are no whole number of 64 bytes.
enum { D_IN = 2091, D_OUT = 139, RANK = 16, ROWS = 40 };
static const struct hooks no_hooks;

static void open_copies(struct fixture *f, struct llm *m, struct lora_bf16 *c)
{
    struct err e = {0};
    assert_int_equal(lora_bf16_open(m, &f->kernels, f->pool, &no_hooks, c, &e), 0);
}

static struct linear layer_of(struct fixture *f, enum dtype lora)
{
    return (struct linear){.w = fixture_tensor(f, DT_BF16, 0.5f, D_OUT, D_IN, 0, 0, 0),
                           .lora_a = fixture_tensor(f, lora, 0.5f, RANK, D_IN, 0, 0, 0),
                           .lora_b = fixture_tensor(f, lora, 0.5f, D_OUT, RANK, 0, 0, 0),
                           .lora_scale = 2.0f};
}

// Two layers and a head, of which some linear layers are there, each with another type of LoRA or none.
struct small_llm {
    struct llm llm;
    struct llm_layer layer[2];
};

static void small_llm_make(struct fixture *f, struct small_llm *m)
{
    *m = (struct small_llm){.llm.c.n_layer = 2, .llm.layer = m->layer};
    m->layer[0].q = layer_of(f, DT_F32);
    m->layer[0].down = layer_of(f, DT_F16);
    m->layer[1].wqkv = layer_of(f, DT_F32);
    m->layer[1].o = layer_of(f, DT_BF16);
    m->layer[1].up = layer_of(f, DT_F32);
    m->layer[1].up.lora_a = m->layer[1].up.lora_b = (struct tensor){0};
    m->llm.head = layer_of(f, DT_F32);
}

static struct linear *copied_layer(struct small_llm *m, size_t i)
{
    struct linear *all[] = {&m->layer[0].q, &m->layer[0].down, &m->layer[1].wqkv, &m->llm.head};
    return i < 4 ? all[i] : NULL;
}

static void check_copy(struct fixture *f, const struct tensor *t, const struct tensor *old,
                       const struct lora_bf16 *c)
{
    size_t n = old->dim[0] * old->dim[1];
    uintptr_t at = (uintptr_t)t->data, first = (uintptr_t)c->data;
    assert_int_equal(t->dtype, DT_BF16);
    assert_int_equal(t->bytes, 2 * n);
    assert_memory_equal(t->dim, old->dim, sizeof t->dim);
    assert_true(at >= first && at + t->bytes <= first + c->bytes && at % 64 == 0);
    const double *got = fixture_values(f, t, false), *want = fixture_values(f, old, true);
    assert_memory_equal(got, want, n * sizeof *got);
}

static void copies(void **state)
{
    (void)state;
    struct fixture f;
    struct small_llm m, old;
    struct lora_bf16 c;
    fixture_open(&f, CPU_REF, 2, COMPUTE_BF16, NULL);
    small_llm_make(&f, &m);
    old = m;
    // A takes 66912 bytes, B 4448
    size_t bytes = 4 * (66944 + 4480);
    assert_int_equal(lora_bf16_bytes(&m.llm), bytes);
    open_copies(&f, &m.llm, &c);
    assert_int_equal(c.bytes, bytes);
    assert_int_equal(lora_bf16_bytes(&m.llm), 0);
    for (size_t i = 0; copied_layer(&m, i); i++) {
        const struct linear *l = copied_layer(&m, i), *was = copied_layer(&old, i);
        check_copy(&f, &l->lora_a, &was->lora_a, &c);
        check_copy(&f, &l->lora_b, &was->lora_b, &c);
        assert_ptr_equal(l->w.data, was->w.data);
    }
    assert_memory_equal(&m.layer[1].o, &old.layer[1].o, sizeof m.layer[1].o);
    assert_memory_equal(&m.layer[1].up, &old.layer[1].up, sizeof m.layer[1].up);
    assert_memory_equal(&m.layer[0].k, &old.layer[0].k, sizeof m.layer[0].k);
    lora_bf16_close(&c);
    assert_null(c.data);
    fixture_close(&f);
}

static void nothing_to_copy(void **state)
{
    (void)state;
    struct fixture f;
    struct llm none = {.c.n_layer = 3}; // as of an engine for text alone
    struct small_llm m, old;
    struct lora_bf16 c;
    fixture_open(&f, CPU_REF, 1, COMPUTE_BF16, NULL);
    open_copies(&f, &none, &c);
    assert_null(c.data);
    small_llm_make(&f, &m);
    old = m;
    for (uint64_t k = 1; k <= 2; k++) { // without memory
        mem_fail_after(k);
        open_copies(&f, &m.llm, &c);
        mem_fail_after(0);
        assert_null(c.data);
        assert_memory_equal(&m, &old, sizeof m);
    }
    lora_bf16_close(&c);
    fixture_close(&f);
}

// Told to stop before anything is copied, or between two slices: what is copied stays in use, and nothing is lost.
static void stopped(void **state)
{
    (void)state;
    enum { N_LAYER = 12 }; // 97 linear layers: two slices
    for (long at = 1; at <= 2; at++) {
        struct fixture f;
        struct llm_layer layer[N_LAYER] = {0};
        struct llm m = {.c.n_layer = N_LAYER, .layer = layer};
        struct stopper stop = {.at = at};
        const struct hooks hooks = {.user = &stop, .abort = stop_later};
        struct lora_bf16 c;
        struct err e = {0};
        fixture_open(&f, CPU_REF, 2, COMPUTE_BF16, NULL);
        layer[0].q = layer_of(&f, DT_F32);
        layer[N_LAYER - 1].down = layer_of(&f, DT_F32);
        assert_int_equal(lora_bf16_open(&m, &f.kernels, f.pool, &hooks, &c, &e), ERR_ABORT);
        assert_int_equal(layer[0].q.lora_a.dtype, at == 1 ? DT_F32 : DT_BF16);
        assert_int_equal(layer[N_LAYER - 1].down.lora_b.dtype, DT_F32);
        lora_bf16_close(&c);
        fixture_close(&f);
    }
}

// Every kind of rows: one, several, many. Not in tiers that lay weights out anew, for whose engines nothing is copied.
static void same_results(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    static const size_t rows[] = {1, 3, 8, ROWS};
    size_t n_tier = fixture_tiers(tier);
    for (size_t i = FIRST_TIER(n_tier); i < n_tier; i++)
        for (enum compute compute = COMPUTE_BF16; compute <= COMPUTE_INT8; compute++) {
            struct fixture f;
            struct small_llm m, old;
            struct lora_bf16 c;
            fixture_open(&f, tier[i], 2, compute, NULL);
            if (f.kernels.bf16.repacks) {
                fixture_close(&f);
                continue;
            }
            small_llm_make(&f, &m);
            old = m;
            open_copies(&f, &m.llm, &c);
            struct mat all = fixture_mat(&f, ROWS, D_IN, 0, NULL);
            for (size_t l = 0; copied_layer(&m, l); l++)
                for (size_t r = 0; r < 4; r++) {
                    size_t mark = ops_mark(f.ops), n = rows[r];
                    struct mat got = ops_mat(f.ops, n, D_OUT), want = ops_mat(f.ops, n, D_OUT);
                    op_linear(f.ops, got, mat_rows(all, 0, n), copied_layer(&m, l));
                    op_linear(f.ops, want, mat_rows(all, 0, n), copied_layer(&old, l));
                    fixture_sound(&f);
                    assert_memory_equal(fixture_get(&f, got), fixture_get(&f, want),
                                        n * D_OUT * sizeof(float));
                    ops_pop(f.ops, mark);
                }
            lora_bf16_close(&c);
            fixture_close(&f);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),
        cmocka_unit_test(nothing_to_copy),
        cmocka_unit_test(stopped),
        cmocka_unit_test(same_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
