// SPDX-License-Identifier: MIT
// Attention against the definition in double: grouped heads, causal offsets, f32 and bf16 keys, views
// with gaps; and that neither threads nor the other query rows show in a row. On every tier (see FIRST_TIER).
#include <math.h>
#include <string.h>

#include "ops_fixture.h"

struct setting {
    size_t n_q, n_k, n_head, n_kv, d_head, first_pos, gap;
    bool causal, bf16_cache;
};

struct run {
    struct attention a;
    struct mat y;
    float *q, *k, *v; // host copies, as the ops see them
    size_t mark;
};

static struct mat to_cache(struct fixture *f, struct mat m)
{
    struct mat wide;
    assert_int_equal(ops_hold(f->ops, m.rows, m.cols + 4, DT_BF16, &wide, NULL), 0);
    struct mat c = mat_cols(wide, 2, m.cols);
    op_copy(f->ops, c, m);
    return c;
}

static struct run make_run(struct fixture *f, const struct setting *s)
{
    struct run r = {.mark = ops_mark(f->ops)};
    r.a = (struct attention){.n_head = s->n_head,
                             .n_kv = s->n_kv,
                             .d_head = s->d_head,
                             .scale = (float)(3.0 / sqrt((double)s->d_head)),
                             .causal = s->causal,
                             .first_pos = s->first_pos};
    r.a.q = fixture_mat(f, s->n_q, s->n_head * s->d_head, s->gap, &r.q);
    r.a.k = fixture_mat(f, s->n_k, s->n_kv * s->d_head, s->gap, &r.k);
    r.a.v = fixture_mat(f, s->n_k, s->n_kv * s->d_head, s->gap, &r.v);
    if (s->bf16_cache) {
        r.a.k = to_cache(f, r.a.k);
        r.a.v = to_cache(f, r.a.v);
        r.k = fixture_get(f, r.a.k);
        r.v = fixture_get(f, r.a.v);
    }
    r.y = mat_cols(ops_mat(f->ops, s->n_q, s->n_head * s->d_head + 2 * s->gap), s->gap,
                   s->n_head * s->d_head);
    return r;
}

static void drop_cache(struct fixture *f, struct mat c)
{
    struct mat wide = {(char *)c.data - 2 * sizeof(uint16_t), DT_BF16, c.rows, c.cols + 4,
                       c.stride};
    ops_release(f->ops, &wide);
}

static void drop_run(struct fixture *f, struct run *r)
{
    if (r->a.k.dtype == DT_BF16) {
        drop_cache(f, r->a.k);
        drop_cache(f, r->a.v);
    }
    ops_pop(f->ops, r->mark);
}

static double rounded(double x, bool round)
{
    return round ? (double)bf16_round((float)x) : x;
}

// Row i, head h by the definition. In bf16 the tolerance admits that each probability and, through
// the scores, each product falls to the other neighbour.
static void check_row(struct fixture *f, const struct run *r, const float *y, size_t i, size_t h)
{
    const struct attention *a = &r->a;
    bool round = f->compute == COMPUTE_BF16;
    size_t d = a->d_head, n_k = a->k.rows, kv = h / (a->n_head / a->n_kv), wide = a->n_kv * d;
    size_t seen = a->causal && a->first_pos + i + 1 < n_k ? a->first_pos + i + 1 : n_k;
    double *p = fixture_alloc(f, seen, sizeof *p), max = -INFINITY, sum = 0, s_error = 0;
    for (size_t j = 0; j < seen; j++) {
        double size = 0;
        for (size_t c = 0; c < d; c++) {
            float q = r->q[i * a->n_head * d + h * d + c] * a->scale;
            double t =
                rounded((double)q, round) * rounded((double)r->k[j * wide + kv * d + c], round);
            p[j] += t;
            size += fabs(t);
        }
        s_error = fmax(s_error, size * (double)(d + 8) * 0x1p-24);
        max = fmax(max, p[j]);
    }
    for (size_t j = 0; j < seen; j++)
        sum += p[j] = exp(p[j] - max);
    for (size_t c = 0; c < d; c++) {
        double want = 0, size = 0;
        for (size_t j = 0; j < seen; j++) {
            double t = p[j] / sum * rounded((double)r->v[j * wide + kv * d + c], round);
            want += t;
            size += fabs(t);
        }
        double tol =
            size * (2 * s_error + (round ? 0x1p-8 : 0) + ((double)seen / 8 + 16) * 0x1p-23);
        if (!fixture_near((double)y[i * a->n_head * d + h * d + c], want, tol + 1e-30))
            fail_msg("row %zu, head %zu, value %zu: %zu x %zu, %zu/%zu heads of %zu, %s", i, h, c,
                     a->q.rows, n_k, a->n_head, a->n_kv, d, cpu_tier_name(f->kernels.tier));
    }
}

static void check_setting(struct fixture *f, const struct setting *s)
{
    struct run r = make_run(f, s);
    size_t used = ops_mark(f->ops);
    op_attention(f->ops, r.y, &r.a);
    assert_int_equal(ops_mark(f->ops), used);
    float *y = fixture_get(f, r.y);
    for (size_t i = 0; i < s->n_q; i++)
        for (size_t h = 0; h < s->n_head; h++)
            check_row(f, &r, y, i, h);
    drop_run(f, &r);
}

static void each_tier(void (*check)(struct fixture *f), unsigned threads)
{
    enum cpu_tier tier[CPU_TIER_N];
    size_t n = fixture_tiers(tier);
    for (size_t i = FIRST_TIER(n); i < n; i++)
        for (int c = 0; c < 2; c++) {
            struct fixture f;
            fixture_open(&f, tier[i], threads, c ? COMPUTE_BF16 : COMPUTE_F32, NULL);
            check(&f);
            fixture_close(&f);
        }
}

static void definition(struct fixture *f)
{
    static const struct setting s[] = {
        // n_q n_k n_head n_kv d first gap causal bf16
        {1, 1, 1, 1, 2, 0, 0, false, false},
        {1, 300, 4, 2, 16, 299, 0, true, true},
        {1, 77, 8, 8, 22, 0, 1, false, false},
        {8, 40, 4, 1, 6, 32, 3, true, false},
        {5, 33, 6, 3, 10, 0, 0, true, true},
        {9, 9, 2, 2, 88, 0, 0, false, false},
        {37, 37, 4, 2, 64, 0, 2, true, true},
        {20, 300, 8, 2, 32, 280, 0, true, true},
        {150, 150, 2, 1, 14, 0, 1, true, false},
        {33, 7, 3, 3, 128, 0, 0, false, true},
        {11, 5, 2, 1, 12, 2, 0, true, false}, // fewer keys than positions
        {140, 270, 2, 2, 24, 0, 0, false, false},
        {64, 300, 2, 1, 128, 0, 0, false, true}, // scratch full to its end
    };
    for (size_t i = 0; i < sizeof s / sizeof s[0]; i++)
        check_setting(f, &s[i]);
}

static void equals_the_definition(void **state)
{
    (void)state;
    each_tier(definition, 2);
}

// Query rows [from, from + n) of a fixed causal problem, with keys up to the last of them.
static float *fixed_rows(struct fixture *f, size_t from, size_t n, bool bf16_cache)
{
    struct setting s = {60, 60, 4, 2, 20, 0, 0, true, bf16_cache};
    f->seed = 99;
    struct run r = make_run(f, &s);
    struct attention a = r.a;
    a.q = mat_rows(a.q, from, n);
    a.k = mat_rows(a.k, 0, from + n);
    a.v = mat_rows(a.v, 0, from + n);
    a.first_pos = from;
    op_attention(f->ops, mat_rows(r.y, from, n), &a);
    float *y = fixture_get(f, mat_rows(r.y, from, n));
    drop_run(f, &r);
    return y;
}

static void pieces(struct fixture *f)
{
    size_t row = 4 * 20;
    for (int cache = 0; cache < 2; cache++) {
        float *all = fixed_rows(f, 0, 60, cache);
        for (size_t from = 0; from < 60 - OPS_FEW_ROWS; from += 7) {
            size_t n = 60 - from;
            assert_memory_equal(fixed_rows(f, from, n, cache), all + from * row,
                                n * row * sizeof *all);
        }
        assert_memory_equal(fixed_rows(f, 30, 9, cache), all + 30 * row, 9 * row * sizeof *all);
        // the same among calls of few rows
        float *few = fixed_rows(f, 40, OPS_FEW_ROWS, cache);
        for (size_t i = 0; i < OPS_FEW_ROWS; i++)
            assert_memory_equal(fixed_rows(f, 40 + i, 1, cache), few + i * row, row * sizeof *few);
    }
}

static void a_piece_equals_its_rows_of_the_whole(void **state)
{
    (void)state;
    each_tier(pieces, 2);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const unsigned threads[] = {2, 3, 5};
    static const size_t from[] = {0, 31, 59}, n[] = {60, 8, 1};
    for (size_t i = FIRST_TIER(n_tier); i < n_tier; i++)
        for (int c = 0; c < 2; c++) {
            struct fixture one, more;
            fixture_open(&one, tier[i], 1, c ? COMPUTE_BF16 : COMPUTE_F32, NULL);
            for (size_t t = 0; t < 3; t++) {
                fixture_open(&more, tier[i], threads[t], one.compute, NULL);
                for (size_t k = 0; k < 3; k++)
                    assert_memory_equal(fixed_rows(&more, from[k], n[k], true),
                                        fixed_rows(&one, from[k], n[k], true),
                                        n[k] * 80 * sizeof(float));
                fixture_close(&more);
            }
            fixture_close(&one);
        }
}

// Levels where int8 is the precision and the tier has them: near the attention in bf16 (cosine 0.99994 measured), and
// the same for any number of threads. A sequence has more keys than a block; where the tier has no levels n is small:
// the attention is that of the tests above.
static float *levelled(struct fixture *f, bool levels, size_t n)
{
    struct setting s = {n, n, 2, 2, 88, 0, 1, false, false};
    f->seed = 77;
    struct run r = make_run(f, &s);
    r.a.levels = levels;
    r.a.n_seq = 2;
    op_attention(f->ops, r.y, &r.a);
    float *y = fixture_get(f, r.y);
    drop_run(f, &r);
    return y;
}

static void levels_are_near_and_threads_do_not_show(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    for (size_t i = FIRST_TIER(n_tier); i < n_tier; i++) {
        struct fixture one, more;
        fixture_open(&one, tier[i], 1, COMPUTE_INT8, NULL);
        const bool has = one.kernels.int8.attention != NULL;
        const size_t rows = has ? 540 : 90, n = rows * 2 * 88;
        const float *y = levelled(&one, true, rows), *plain = levelled(&one, false, rows);
        double both = 0, a = 0, b = 0;
        for (size_t e = 0; e < n; e++) {
            both += (double)y[e] * (double)plain[e];
            a += (double)y[e] * (double)y[e];
            b += (double)plain[e] * (double)plain[e];
        }
        bool same = memcmp(y, plain, n * sizeof *y) == 0;
        assert_int_equal(same, !has);
        assert_true(both / sqrt(a * b) > 0.9998);
        for (unsigned threads = 2; threads <= 5; threads += 3) {
            fixture_open(&more, tier[i], threads, COMPUTE_INT8, NULL);
            assert_memory_equal(levelled(&more, true, rows), y, n * sizeof *y);
            fixture_close(&more);
        }
        fixture_close(&one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_definition),
        cmocka_unit_test(a_piece_equals_its_rows_of_the_whole),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(levels_are_near_and_threads_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
