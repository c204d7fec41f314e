// SPDX-License-Identifier: MIT
// Attention that continues cached sequences against the same made of single ops (rotary positions, copies, attention):
// to the bit, results and caches, on every tier (see FIRST_TIER), with few rows of each sequence and with many, for any
// number of threads, key heads and types of cache; and planned with the bytes it takes, or more.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/backend.h"
#include "ops_fixture.h"
#include "tensor/dtype.h"

enum { SPANS = 3 };

struct setting {
    size_t n_head, n_kv, d_head;
    enum dtype k, v;
    bool pairs;
    size_t n_span;
    size_t n_row[SPANS], pos[SPANS];
};

struct step {
    struct cache_attention a;
    struct cache_span span[SPANS];
    struct mat y;
    size_t mark;
};

static size_t rows_of(const struct setting *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_span; i++)
        n += s->n_row[i];
    return n;
}

static struct mat cache(struct fixture *f, size_t rows, size_t cols, enum dtype t, size_t full)
{
    struct mat m;
    assert_int_equal(ops_hold(f->ops, rows, cols, t, &m, NULL), 0);
    if (full > 0)
        op_copy(f->ops, mat_rows(m, 0, full), fixture_mat(f, full, cols, 0, NULL));
    return m;
}

// The same for the same f->seed.
static struct step make(struct fixture *f, const struct setting *s)
{
    struct step t = {.mark = ops_mark(f->ops)};
    size_t n = rows_of(s), first = 0, d = s->d_head, wide = s->n_head * d, kv = s->n_kv * d;
    uint32_t pos[64];
    for (size_t i = 0; i < s->n_span; i++) {
        for (size_t r = 0; r < s->n_row[i]; r++)
            pos[first + r] = (uint32_t)(s->pos[i] + r);
        t.span[i] = (struct cache_span){
            .k = cache(f, s->pos[i] + s->n_row[i] + i, kv, s->k, s->pos[i]),
            .v = cache(f, s->pos[i] + s->n_row[i] + i, kv, s->v, s->pos[i]),
            .first_row = first,
            .n_row = s->n_row[i],
            .pos = s->pos[i],
        };
        first += s->n_row[i];
    }
    struct mat all = fixture_mat(f, n, wide + 2 * kv, 0, NULL);
    t.a = (struct cache_attention){.q = mat_cols(all, 0, wide),
                                   .k = mat_cols(all, wide, kv),
                                   .v = mat_cols(all, wide + kv, kv),
                                   .rope = op_rope_table(f->ops, pos, n, d, 10000),
                                   .pairs = s->pairs,
                                   .n_span = s->n_span,
                                   .n_head = s->n_head,
                                   .n_kv = s->n_kv,
                                   .d_head = d,
                                   .scale = (float)(2.0 / sqrt((double)d))};
    t.y = fixture_mat(f, n, wide, 1, NULL);
    return t;
}

static void drop(struct fixture *f, struct step *t)
{
    for (size_t i = 0; i < t->a.n_span; i++) {
        ops_release(f->ops, &t->span[i].k);
        ops_release(f->ops, &t->span[i].v);
    }
    ops_pop(f->ops, t->mark);
}

static void one_by_one(struct ops *o, struct step *t)
{
    const struct cache_attention *a = &t->a;
    (a->pairs ? op_rope_pairs : op_rope)(o, a->q, a->n_head, a->rope);
    (a->pairs ? op_rope_pairs : op_rope)(o, a->k, a->n_kv, a->rope);
    for (size_t i = 0; i < a->n_span; i++) {
        const struct cache_span *s = &t->span[i];
        op_copy(o, mat_rows(s->k, s->pos, s->n_row), mat_rows(a->k, s->first_row, s->n_row));
        op_copy(o, mat_rows(s->v, s->pos, s->n_row), mat_rows(a->v, s->first_row, s->n_row));
        op_attention(o, mat_rows(t->y, s->first_row, s->n_row),
                     &(struct attention){.q = mat_rows(a->q, s->first_row, s->n_row),
                                         .k = mat_rows(s->k, 0, s->pos + s->n_row),
                                         .v = mat_rows(s->v, 0, s->pos + s->n_row),
                                         .n_head = a->n_head,
                                         .n_kv = a->n_kv,
                                         .d_head = a->d_head,
                                         .scale = a->scale,
                                         .causal = true,
                                         .first_pos = s->pos});
    }
}

static void at_once(struct ops *o, struct step *t)
{
    t->a.span = t->span;
    op_cache_attention(o, t->y, &t->a);
}

static const struct setting settings[] = {
    // heads, key heads, size, types, pairs, spans: rows, positions
    {4, 2, 16, DT_BF16, DT_BF16, false, 1, {1}, {0}},
    {8, 4, 32, DT_BF16, DT_BF16, true, 3, {1, 1, 1}, {300, 0, 7}},
    {32, 8, 16, DT_BF16, DT_BF16, false, 1, {1}, {517}},
    {6, 3, 24, DT_F32, DT_F16, false, 2, {8, 1}, {40, 255}},
    {8, 8, 32, DT_Q8_0, DT_BF16, false, 2, {1, 3}, {20, 256}},
    {4, 1, 64, DT_BF16, DT_Q8_0, true, 3, {1, 1, 2}, {5, 6, 0}},
    {16, 4, 32, DT_Q8_0, DT_Q8_0, false, 3, {1, 1, 1}, {90, 70, 80}},
    {16, 4, 64, DT_BF16, DT_BF16, false, 3, {1, 1, 1}, {600, 2, 3}},
    {16, 8, 32, DT_BF16, DT_F16, true, 3, {1, 2, 1}, {300, 299, 301}},
    {4, 4, 20, DT_BF16, DT_F32, false, 1, {9}, {33}},
    {4, 2, 16, DT_BF16, DT_BF16, true, 3, {20, 1, 30}, {0, 80, 260}},
};
enum { N_SETTING = sizeof settings / sizeof settings[0] };

// y, then each cache.
static void compare(struct fixture *f, const struct setting *s, const struct step *got,
                    const struct step *want)
{
    size_t n = rows_of(s) * s->n_head * s->d_head, kv = s->n_kv * s->d_head;
    assert_memory_equal(fixture_get(f, got->y), fixture_get(f, want->y), n * sizeof(float));
    for (size_t i = 0; i < s->n_span; i++) {
        size_t rows = got->span[i].k.rows; // spare ones, too
        assert_memory_equal(got->span[i].k.data, want->span[i].k.data, dtype_span(s->k, rows * kv));
        assert_memory_equal(got->span[i].v.data, want->span[i].v.data, dtype_span(s->v, rows * kv));
    }
}

static void equals_single_ops(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n = fixture_tiers(tier);
    static const unsigned threads[] = {1, 2, 5};
    for (size_t i = FIRST_TIER(n); i < n; i++)
        for (size_t t = 0; t < 3; t++)
            for (int c = 0; c < 2; c++) {
                struct fixture f;
                fixture_open(&f, tier[i], threads[t], c ? COMPUTE_BF16 : COMPUTE_F32, NULL);
                for (size_t k = 0; k < N_SETTING; k++) {
                    f.seed = 7;
                    struct step want = make(&f, &settings[k]);
                    f.seed = 7;
                    struct step got = make(&f, &settings[k]);
                    size_t used = ops_mark(f.ops);
                    one_by_one(f.ops, &want);
                    at_once(f.ops, &got);
                    assert_int_equal(ops_mark(f.ops), used);
                    compare(&f, &settings[k], &got, &want);
                    drop(&f, &got);
                    drop(&f, &want);
                }
                fixture_close(&f);
            }
}

static float *y_of(enum cpu_tier tier, unsigned threads, const struct setting *s)
{
    struct fixture f;
    size_t n = rows_of(s) * s->n_head * s->d_head;
    float *y = calloc(n, sizeof *y);
    assert_non_null(y);
    fixture_open(&f, tier, threads, COMPUTE_BF16, NULL);
    f.seed = 8;
    struct step t = make(&f, s);
    at_once(f.ops, &t);
    memcpy(y, fixture_get(&f, t.y), n * sizeof *y);
    drop(&f, &t);
    fixture_close(&f);
    return y;
}

// However heads are shared out: one query head a task, a key head or several.
static void threads_do_not_show(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n = fixture_tiers(tier);
    for (size_t i = FIRST_TIER(n); i < n; i++)
        for (size_t k = 0; k < N_SETTING; k++) {
            const struct setting *s = &settings[k];
            size_t bytes = rows_of(s) * s->n_head * s->d_head * sizeof(float);
            float *want = y_of(tier[i], 1, s);
            for (unsigned threads = 2; threads <= 7; threads += 5) {
                float *y = y_of(tier[i], threads, s);
                assert_memory_equal(y, want, bytes);
                free(y);
            }
            free(want);
        }
}

static void planned_as_it_runs(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 5; threads += 2)
        for (size_t k = 0; k < N_SETTING; k++) {
            struct fixture f;
            struct ops *plan;
            struct err e;
            fixture_open(&f, cpu_best(cpu_detect()), threads, COMPUTE_BF16, NULL);
            const struct ops_options opt = {
                .pool = f.pool, .kernels = &f.kernels, .compute = COMPUTE_BF16};
            assert_int_equal(ops_open_plan(&opt, &plan, &e), 0);
            struct step t = make(&f, &settings[k]);
            size_t before = ops_mark(f.ops);
            ops_plan_reset(f.ops);
            at_once(f.ops, &t);
            struct ops_plan ran = ops_plan_result(f.ops);
            ops_plan_reset(plan);
            at_once(plan, &t);
            struct ops_plan planned = ops_plan_result(plan);
            assert_int_equal(planned.arena_bytes, ran.arena_bytes - before);
            assert_true(planned.arena_bytes > 0);
            assert_true(planned.flops == ran.flops && planned.flops > 0);
            drop(&f, &t);
            ops_close(plan);
            fixture_close(&f);
        }
}

static size_t bytes_of(struct ops *o, struct step *t)
{
    size_t before = ops_mark(o);
    ops_plan_reset(o);
    at_once(o, t);
    return ops_plan_result(o).arena_bytes - before;
}

// The engine plans steps for as many sequences, all as long as the longest may be, and runs fewer and shorter ones.
static void planned_for_more(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 9; threads += 2)
        for (size_t k = 0; k < N_SETTING; k++) {
            struct setting longest = settings[k];
            struct fixture f;
            fixture_open(&f, cpu_best(cpu_detect()), threads, COMPUTE_BF16, NULL);
            for (size_t i = 0; i < longest.n_span; i++) {
                longest.n_row[i] = 1;
                longest.pos[i] = 600;
            }
            struct step more = make(&f, &longest);
            size_t planned = bytes_of(f.ops, &more);
            drop(&f, &more);
            for (struct setting s = settings[k]; s.n_span > 0; s.n_span--) {
                for (size_t i = 0; i < s.n_span; i++)
                    s.n_row[i] = 1;
                struct step t = make(&f, &s);
                assert_in_range(bytes_of(f.ops, &t), 1, planned);
                drop(&f, &t);
            }
            fixture_close(&f);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_single_ops),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(planned_as_it_runs),
        cmocka_unit_test(planned_for_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
