// SPDX-License-Identifier: MIT
// Passages that the CPU does at once (op_linears, op_linear_add) against the same made of single ops: to
// the bit, on every tier (BEST_TIER_ONLY, where everything is slow: on the best one, and smaller), with every kind of
// input, with and without bias and LoRA; that they are planned with the bytes they take; and that an abort ends them.
#include <stdatomic.h>
#include <string.h>

#include "ops/backend.h"
#include "ops_fixture.h"
#include "tensor/block_coding.h"

enum { MOST = 6 };

struct setting {
    enum input_kind kind;
    enum dtype type;
    size_t rows, d_in, n_w, d_out, rank, gap; // layer i has d_out + 3 i outputs
    bool bias, scaled;
};

struct passage {
    struct linear_input in;
    struct linear w[MOST];
    const struct linear *list[MOST];
    struct mat y;
    struct tensor norm, scale;
};

static struct tensor blocks(struct fixture *f, enum dtype t, size_t rows, size_t cols)
{
    struct tensor r = {.dtype = t, .rank = 2, .dim = {rows, cols}, .name = "blocks"};
    size_t n = rows * cols;
    float *v = fixture_alloc(f, n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = 0.3f * fixture_random(f);
    r.bytes = dtype_span(t, n);
    void *to = fixture_alloc(f, r.bytes, 1);
    blocks_from_f32(to, t, v, n, NULL);
    r.data = to;
    return r;
}

static struct linear layer(struct fixture *f, const struct setting *s, size_t d_out)
{
    struct linear w = {0};
    w.w = dtype_is_block(s->type) ? blocks(f, s->type, d_out, s->d_in)
                                  : fixture_tensor(f, s->type, 0.3f, d_out, s->d_in, 0, 0, 0);
    enum dtype thin = dtype_is_block(s->type) ? DT_BF16 : s->type;
    if (s->bias)
        w.b = fixture_tensor(f, thin, 1.0f, d_out, 0, 0, 0, 0);
    if (s->rank) {
        w.lora_a = fixture_tensor(f, thin, 0.3f, s->rank, s->d_in, 0, 0, 0);
        w.lora_b = fixture_tensor(f, thin, 0.3f, d_out, s->rank, 0, 0, 0);
        w.lora_scale = 2.0f;
    }
    return w;
}

// The same for the same f->seed.
static struct passage make(struct fixture *f, const struct setting *s)
{
    struct passage p = {.in = {.kind = s->kind, .eps = 1e-5f}};
    size_t cols = 0;
    for (size_t i = 0; i < s->n_w; i++) {
        p.w[i] = layer(f, s, s->d_out + 3 * i);
        cols += s->d_out + 3 * i;
    }
    p.norm = fixture_tensor(f, DT_BF16, 1.0f, s->d_in, 0, 0, 0, 0);
    p.scale = fixture_tensor(f, DT_F16, 1.0f, cols, 0, 0, 0, 0);
    p.in.x = fixture_mat(f, s->rows, s->d_in, s->gap, NULL);
    p.in.up = fixture_mat(f, s->rows, s->d_in, s->gap, NULL);
    p.y = fixture_mat(f, s->rows, cols, s->gap, NULL);
    return p;
}

typedef void run_fn(struct ops *o, const struct setting *s, struct passage *p);

static void link_up(struct passage *p)
{
    p->in.norm = &p->norm;
    for (size_t i = 0; i < MOST; i++)
        p->list[i] = &p->w[i];
}

static void linears_at_once(struct ops *o, const struct setting *s, struct passage *p)
{
    link_up(p);
    op_linears(o, p->y, &p->in, p->list, s->n_w);
}

static void linears_one_by_one(struct ops *o, const struct setting *s, struct passage *p)
{
    link_up(p);
    fused_linears(o, p->y, &p->in, p->list, s->n_w);
}

static void add_at_once(struct ops *o, const struct setting *s, struct passage *p)
{
    link_up(p);
    op_linear_add(o, p->y, &p->in, p->list[0], s->scaled ? &p->scale : NULL);
}

static void add_one_by_one(struct ops *o, const struct setting *s, struct passage *p)
{
    link_up(p);
    fused_linear_add(o, p->y, &p->in, p->list[0], s->scaled ? &p->scale : NULL);
}

static float *result(struct fixture *f, const struct setting *s, run_fn *run, uint64_t seed)
{
    size_t mark = ops_mark(f->ops);
    f->seed = seed;
    struct passage p = make(f, s);
    size_t used = ops_mark(f->ops);
    run(f->ops, s, &p);
    assert_int_equal(ops_mark(f->ops), used);
    float *got = fixture_get(f, p.y);
    ops_pop(f->ops, mark);
    return got;
}

static size_t outputs(const struct setting *s)
{
    size_t cols = 0;
    for (size_t i = 0; i < s->n_w; i++)
        cols += s->d_out + 3 * i;
    return cols;
}

static void same(struct fixture *f, const struct setting *s, run_fn *a, run_fn *b)
{
    float *want = result(f, s, b, 99), *got = result(f, s, a, 99);
    for (size_t i = 0; i < s->rows * outputs(s); i++)
        if (memcmp(&want[i], &got[i], sizeof *got) != 0)
            fail_msg(
                "value %zu: %.9g, one by one %.9g; input %d, %zu x %zu, %zu layers of %zu, rank "
                "%zu, %s %s",
                i, (double)got[i], (double)want[i], (int)s->kind, s->rows, s->d_in, s->n_w,
                s->d_out, s->rank, dtype_name(s->type), cpu_tier_name(f->kernels.tier));
}

static const struct setting settings[] = {
    // input, weights, rows, d_in, layers, d_out, rank, gap, bias, scaled
    {INPUT_ROWS, DT_F32, 1, 1, 1, 1, 0, 0, false, false},
    {INPUT_ROWS, DT_BF16, 3, 70, 2, 33, 4, 3, true, true},
    {INPUT_RMS_NORM, DT_F32, 8, 131, 3, 17, 16, 1, false, false},
    {INPUT_RMS_NORM, DT_BF16, 9, 131, 3, 70, 16, 0, true, true},
    {INPUT_RMS_NORM, DT_F16, 211, 97, 6, 30, 3, 2, true, false},
    {INPUT_SILU_MUL, DT_BF16, 5, 515, 1, 259, 16, 0, false, false},
    {INPUT_SILU_MUL, DT_F16, 150, 290, 2, 50, 0, 5, false, true},
    {INPUT_GELU, DT_F32, 1, 33, 1, 65, 0, 1, true, true},
    {INPUT_GELU, DT_F32, 140, 1100, 1, 40, 5, 0, true, true},
    {INPUT_RMS_NORM, DT_Q4_K, 50, 512, 3, 67, 0, 0, false, false},
    {INPUT_RMS_NORM, DT_Q8_0, 7, 96, 2, 21, 0, 0, false, false},
    {INPUT_RMS_NORM, DT_Q4_K, 3, 512, 2, 67, 8, 0, true, true},
    {INPUT_SILU_MUL, DT_Q8_0, 8, 544, 1, 70, 16, 1, false, false},
    {INPUT_SILU_MUL, DT_Q6_K, 40, 256, 1, 90, 8, 0, true, true},
    {INPUT_ROWS, DT_Q8_0, 33, 544, 5, 70, 16, 1, false, false},
};
enum { N_SETTING = sizeof settings / sizeof settings[0] };

static void each_setting(void (*check)(struct fixture *f, const struct setting *s))
{
    enum cpu_tier tier[CPU_TIER_N];
    size_t n = fixture_tiers(tier);
    for (size_t i = FIRST_TIER(n); i < n; i++)
        for (enum compute c = COMPUTE_F32; c <= COMPUTE_INT8; c++) {
            struct fixture f;
            fixture_open(&f, tier[i], 3, c, NULL);
            for (size_t k = 0; k < N_SETTING; k++)
                check(&f, &settings[k]);
            fixture_close(&f);
        }
}

static void check_linears(struct fixture *f, const struct setting *s)
{
    same(f, s, linears_at_once, linears_one_by_one);
}

static void linears_equal_single_ops(void **state)
{
    (void)state;
    each_setting(check_linears);
}

static void check_add(struct fixture *f, const struct setting *s)
{
    struct setting one = *s;
    one.n_w = 1;
    same(f, &one, add_at_once, add_one_by_one);
}

static void linear_add_equals_single_ops(void **state)
{
    (void)state;
    each_setting(check_add);
}

// As large as tasks are cut by rows and by columns.
static void large_equal_single_ops(void **state)
{
    (void)state;
    static const struct setting large[] = {
#ifdef BEST_TIER_ONLY // cut by rows and by columns too
        {INPUT_GELU, DT_BF16, 200, 288, 1, 200, 0, 0, true, true},
        {INPUT_SILU_MUL, DT_BF16, 150, 515, 1, 259, 16, 0, false, false},
        {INPUT_RMS_NORM, DT_F32, 210, 300, 3, 130, 16, 0, true, false},
#else
        {INPUT_GELU, DT_BF16, 700, 1056, 1, 200, 0, 0, true, true},
        {INPUT_SILU_MUL, DT_BF16, 322, 2100, 1, 515, 16, 0, false, false},
        {INPUT_RMS_NORM, DT_F32, 530, 1408, 3, 130, 16, 0, true, false},
#endif
    };
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        struct fixture f;
        fixture_open(&f, cpu_best(cpu_detect()), threads,
                     threads <= 3 ? COMPUTE_BF16 : COMPUTE_INT8, NULL);
        for (size_t i = 0; i < 3; i++) {
            check_add(&f, &large[i]);
            check_linears(&f, &large[i]);
        }
        fixture_close(&f);
    }
}

// A row alone has the bits that it has among others.
static void check_rows(struct fixture *f, const struct setting *s)
{
    struct setting one = *s;
    one.n_w = 1;
    size_t part = s->rows <= OPS_FEW_ROWS ? 1 : OPS_FEW_ROWS + 1;
    for (int add = 0; add < 2; add++) {
        size_t mark = ops_mark(f->ops), d = outputs(&one);
        f->seed = 5;
        struct passage p = make(f, &one), few;
        float *before = fixture_get(f, p.y);
        (add ? add_at_once : linears_at_once)(f->ops, &one, &p);
        float *all = fixture_get(f, p.y);
        f->seed = 5;
        few = make(f, &one);
        op_upload(f->ops, few.y, before);
        few.in.x = mat_rows(few.in.x, 0, part);
        few.in.up = mat_rows(few.in.up, 0, part);
        few.y = mat_rows(few.y, 0, part);
        (add ? add_at_once : linears_at_once)(f->ops, &one, &few);
        assert_memory_equal(fixture_get(f, few.y), all, part * d * sizeof *all);
        ops_pop(f->ops, mark);
    }
}

static void rows_do_not_depend_on_others(void **state)
{
    (void)state;
    each_setting(check_rows);
}

static void plan_same(struct fixture *f, const struct setting *s)
{
    struct ops *plan;
    struct ops_options opt = {.pool = f->pool, .kernels = &f->kernels, .compute = f->compute};
    assert_int_equal(ops_open_plan(&opt, &plan, NULL), 0);
    struct passage p = make(f, s);
    for (int add = 0; add < 2; add++) {
        struct ops_plan got[2];
        struct setting one = *s;
        if (add)
            one.n_w = 1;
        for (int i = 0; i < 2; i++) {
            struct ops *o = i ? plan : f->ops;
            size_t mark = ops_mark(o);
            struct passage q = p;
            q.y = mat_cols(q.y, 0, outputs(&one));
            q.scale.dim[0] = outputs(&one);
            ops_plan_reset(o);
            (add ? add_at_once : linears_at_once)(o, &one, &q);
            got[i] = ops_plan_result(o);
            got[i].arena_bytes -= mark;
            assert_int_equal(ops_mark(o), mark);
        }
        fixture_sound(f);
        assert_int_equal(got[0].arena_bytes, got[1].arena_bytes);
        assert_true(got[0].arena_bytes > 0 && got[0].flops == got[1].flops && got[0].flops > 0 &&
                    got[0].weight_bytes == got[1].weight_bytes);
    }
    ops_pop(f->ops, 0);
    ops_close(plan);
}

static void plan_equals_run(void **state)
{
    (void)state;
    each_setting(plan_same);
}

// ---- abort

static void abort_ends_them(void **state)
{
    (void)state;
    struct stopper s = {.at = 1000000};
    struct hooks hooks = {.user = &s, .abort = stop_later};
    struct fixture f;
    struct err e;
    fixture_open(&f, CPU_REF, 2, COMPUTE_BF16, &hooks);
    static run_fn *const run[] = {linears_at_once, add_at_once};
    for (int which = 0; which < 2; which++) {
        const struct setting t = {INPUT_RMS_NORM, DT_BF16, 60, 300, which ? 1 : 5, 150, 16, 0,
                                  true,           true};
        s.polls = 0;
        s.at = 1000000;
        float *want = result(&f, &t, run[which], 7);
        long all = s.polls;
        assert_true(all > 8);
        for (long at = 1; at <= all; at += 1 + at / 4) {
            f.seed = 7;
            struct passage p = make(&f, &t);
            s.polls = 0;
            s.at = at;
            run[which](f.ops, &t, &p);
            assert_int_equal(ops_status(f.ops, &e), ERR_ABORT);
            assert_true(s.polls < at + 2); // nobody begins another task
            ops_clear(f.ops);
        }
        s.at = 1000000;
        assert_memory_equal(result(&f, &t, run[which], 7), want,
                            t.rows * outputs(&t) * sizeof *want);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_equal_single_ops), cmocka_unit_test(linear_add_equals_single_ops),
        cmocka_unit_test(large_equal_single_ops),   cmocka_unit_test(rows_do_not_depend_on_others),
        cmocka_unit_test(plan_equals_run),          cmocka_unit_test(abort_ends_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
