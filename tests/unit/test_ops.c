// SPDX-License-Identifier: MIT
// The stream of ops itself: scratch and long-lived memory, sticky failures, abort, the tap, failing
// allocations, one pool under several streams; and the planner against a real run.
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "ops_fixture.h"

// ---- a small forward with every op in it, for a real stream or a planner

struct net {
    size_t n_frame, size, patch, d, n_head, n_kv, ffn;
    struct linear patch_w, qkv, proj, up, gate, down;
    struct tensor norm, bias, embed;
    float *pixels, *position;
};

static struct linear make_linear(struct fixture *f, size_t d_out, size_t d_in, size_t rank)
{
    struct linear w = {.w = fixture_tensor(f, DT_BF16, 0.1f, d_out, d_in, 0, 0, 0),
                       .b = fixture_tensor(f, DT_F32, 0.1f, d_out, 0, 0, 0, 0)};
    if (rank == 0)
        return w;
    w.lora_a = fixture_tensor(f, DT_F32, 0.1f, rank, d_in, 0, 0, 0);
    w.lora_b = fixture_tensor(f, DT_F32, 0.1f, d_out, rank, 0, 0, 0);
    w.lora_scale = 2.0f;
    return w;
}

static struct net make_net(struct fixture *f, size_t n_frame)
{
    struct net n = {n_frame, 12, 3, 24, 4, 2, 50, .pixels = NULL};
    size_t d_head = n.d / n.n_head, tokens = 1 + n_frame * 16;
    n.patch_w.w = fixture_tensor(f, DT_F32, 0.1f, n.d, 3, 1, n.patch, n.patch);
    n.patch_w.b = fixture_tensor(f, DT_F32, 0.1f, n.d, 0, 0, 0, 0);
    n.qkv = make_linear(f, (n.n_head + 2 * n.n_kv) * d_head, n.d, 4);
    n.proj = make_linear(f, n.d, n.d, 0);
    n.up = make_linear(f, n.ffn, n.d, 3);
    n.gate = make_linear(f, n.ffn, n.d, 0);
    n.down = make_linear(f, n.d, n.ffn, 0);
    n.norm = fixture_tensor(f, DT_BF16, 1.0f, n.d, 0, 0, 0, 0);
    n.bias = fixture_tensor(f, DT_F16, 1.0f, n.d, 0, 0, 0, 0);
    n.embed = fixture_tensor(f, DT_BF16, 1.0f, 1, n.d, 0, 0, 0);
    n.pixels = fixture_alloc(f, n_frame * 3 * n.size * n.size, sizeof *n.pixels);
    for (size_t i = 0; i < n_frame * 3 * n.size * n.size; i++)
        n.pixels[i] = fixture_random(f);
    n.position = fixture_alloc(f, tokens * n.d, sizeof *n.position);
    return n;
}

// x [tokens, d]; the cache holds at least that many rows.
static void net_forward(struct ops *o, const struct net *n, struct mat x, struct mat k_cache,
                        struct mat v_cache)
{
    size_t mark = ops_mark(o), rows = x.rows, d_head = n->d / n->n_head;
    uint32_t pos[256];
    for (uint32_t i = 0; i < 256; i++)
        pos[i] = i;
    op_embed(o, mat_rows(x, 0, 1), &n->embed, NULL);
    op_patch_embed(o, mat_rows(x, 1, rows - 1), n->pixels, n->n_frame, n->size, n->patch,
                   &n->patch_w);
    op_add_table(o, x, n->position, rows, NULL);
    struct mat rope = op_rope_table(o, pos, rows, d_head, 1e4);
    struct mat h = ops_mat(o, rows, n->d), y = ops_mat(o, rows, n->d);
    size_t narrow = ops_mark(o);
    struct mat qkv = ops_mat(o, rows, (n->n_head + 2 * n->n_kv) * d_head);
    struct mat q = ops_mat(o, rows, n->n_head * d_head), k = ops_mat(o, rows, n->n_kv * d_head),
               v = ops_mat(o, rows, n->n_kv * d_head);
    op_rms_norm(o, h, x, &n->norm, 1e-6f);
    op_linear(o, qkv, h, &n->qkv);
    op_split_wqkv(o, q, k, v, qkv, n->n_head, n->n_kv, d_head);
    op_rope(o, q, n->n_head, rope);
    op_rope(o, k, n->n_kv, rope);
    op_copy(o, mat_rows(k_cache, 0, rows), k);
    op_copy(o, mat_rows(v_cache, 0, rows), v);
    op_attention(o, h,
                 &(struct attention){.q = q,
                                     .k = mat_rows(k_cache, 0, rows),
                                     .v = mat_rows(v_cache, 0, rows),
                                     .n_head = n->n_head,
                                     .n_kv = n->n_kv,
                                     .d_head = d_head,
                                     .scale = 0.4f,
                                     .causal = true});
    op_linear(o, y, h, &n->proj);
    op_tap(o, "attended", y, (const size_t[]){1, rows, n->d}, 3);
    op_tap(o, "keys", mat_rows(k_cache, 0, rows), (const size_t[]){rows, n->n_kv * d_head}, 2);
    op_add_scaled(o, x, y, &n->norm);
    ops_pop(o, narrow);
    struct mat gate = ops_mat(o, rows, n->ffn), up = ops_mat(o, rows, n->ffn);
    op_layer_norm(o, h, x, &n->norm, &n->bias, 1e-12f);
    op_linear(o, gate, h, &n->gate);
    op_linear(o, up, h, &n->up);
    op_silu_mul(o, gate, up);
    op_gelu(o, gate);
    op_linear(o, y, gate, &n->down);
    op_add(o, x, y);
    ops_pop(o, mark);
}

// Opens x and caches, runs the forward; *out (if not NULL) gets x on the host.
static int net_run(struct ops *o, const struct net *n, float *out, struct err *e)
{
    size_t mark = ops_mark(o), rows = 1 + n->n_frame * 16, d_kv = n->d / n->n_head * n->n_kv;
    struct mat k, v, x;
    int rc = ops_hold(o, 256, d_kv, DT_BF16, &k, e);
    if (rc != 0)
        return rc;
    rc = ops_hold(o, 256, d_kv, DT_BF16, &v, e);
    if (rc == 0) {
        x = ops_mat(o, rows, n->d);
        net_forward(o, n, x, k, v);
        if (out)
            op_download(o, out, x);
        rc = ops_status(o, e);
    }
    ops_release(o, &k);
    ops_release(o, &v);
    ops_pop(o, mark);
    return rc;
}

// ---- planner

static void count_tap(void *user, const char *name, const float *data, const size_t *dim,
                      unsigned rank)
{
    (void)name;
    (void)data;
    (void)dim;
    (void)rank;
    ++*(int *)user;
}

static void plan_equals_run(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const unsigned threads[] = {1, 4};
    for (size_t i = 0; i < n_tier * 8; i++) {
        struct fixture f;
        struct ops *plan;
        struct err e = {0};
        int taps = 0;
        struct tap tap = {&taps, i & 1 ? count_tap : NULL};
        fixture_open(&f, tier[i / 8], threads[i >> 1 & 1], i & 4 ? COMPUTE_BF16 : COMPUTE_F32,
                     NULL);
        struct net net = make_net(&f, 1 + i % 3);
        struct ops_options opt = {.pool = f.pool, .kernels = &f.kernels, .compute = f.compute};
        assert_int_equal(ops_open_plan(&opt, &plan, &e), 0);
        assert_int_equal(ops_compute(plan), f.compute);
        ops_set_tap(plan, tap);
        ops_set_tap(f.ops, tap);
        assert_true(ops_has_tap(plan) == ((i & 1) != 0));
        assert_int_equal(ops_reserve(plan, 1, &e), 0);
        assert_int_equal(net_run(plan, &net, NULL, &e), 0);
        assert_int_equal(taps, 0);
        assert_int_equal(ops_mark(plan), 0);
        struct ops_plan want = ops_plan_result(plan);
        assert_true(want.arena_bytes > 0);

        ops_plan_reset(f.ops);
        assert_int_equal(net_run(f.ops, &net, NULL, &e), 0);
        struct ops_plan got = ops_plan_result(f.ops);
        assert_int_equal(got.arena_bytes, want.arena_bytes);
        assert_true(got.flops == want.flops && got.weight_bytes == want.weight_bytes);
        assert_int_equal(taps, i & 1 ? 2 : 0);

        // exactly enough is enough, one cache line less is not
        for (size_t less = 0; less <= 64; less += 64) {
            struct ops *tight;
            assert_int_equal(ops_open_cpu(&opt, &tight, &e), 0);
            ops_set_tap(tight, tap);
            assert_int_equal(ops_reserve(tight, want.arena_bytes - less, &e), 0);
            assert_int_equal(ops_reserved(tight), want.arena_bytes - less);
            assert_int_equal(net_run(tight, &net, NULL, &e), less ? ERR_LIMIT : 0);
            ops_close(tight);
        }
        ops_plan_reset(plan);
        assert_int_equal(ops_plan_result(plan).arena_bytes, 0);
        assert_true(ops_plan_result(plan).flops == 0);
        ops_close(plan);
        fixture_close(&f);
    }
}

// One op at a time on mats of its own, so that no other op's scratch hides what it takes.
static const struct tap nobody = {NULL, NULL};
enum { N_CASE = 9 };

static void run_case(struct ops *o, const struct net *n, int which, size_t rows)
{
    static const uint32_t pos[40] = {0};
    int taps = 0;
    struct mat x = ops_mat(o, rows, n->d), y = ops_mat(o, rows, n->d);
    if (!ops_reserved(o)) { // the planner's mats have no data
        assert_null(x.data);
    } else {
        memset(x.data, 0, rows * n->d * sizeof(float));
        memset(y.data, 0, rows * n->d * sizeof(float));
    }
    struct attention a = {.q = x, .k = x, .v = x, .n_head = 3, .n_kv = 1, .d_head = 8, .scale = 1};
    switch (which) {
    case 0:
        op_linear(o, ops_mat(o, rows, n->ffn), x, &n->up);
        break;
    case 1:
        op_linear(o, ops_mat(o, rows, n->ffn), x, &n->gate);
        break;
    case 2:
        op_rms_norm(o, y, x, &n->norm, 1e-6f);
        break;
    case 3:
        op_layer_norm(o, y, x, &n->norm, &n->bias, 1e-6f);
        break;
    case 4:
        op_add_scaled(o, y, x, &n->norm);
        break;
    case 5:
        op_rope_table(o, pos, rows, 16, 1e4);
        break;
    case 6:
        ops_set_tap(o, (struct tap){&taps, count_tap});
        op_tap(o, "part", mat_cols(x, 1, 5), (const size_t[]){rows, 5}, 2);
        ops_set_tap(o, nobody);
        break;
    case 7:
        a.k = a.v = mat_cols(x, 0, 8);
        op_attention(o, y, &a);
        break;
    default:
        op_patch_embed(o, ops_mat(o, 16 * n->n_frame, n->d), n->pixels, n->n_frame, n->size,
                       n->patch, &n->patch_w);
    }
    ops_pop(o, 0);
}

static void plan_equals_run_op_by_op(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const size_t rows[] = {1, 8, 9, 40};
    for (size_t i = 0; i < n_tier * 2; i++) {
        struct fixture f;
        struct ops *plan;
        fixture_open(&f, tier[i / 2], 3, i & 1 ? COMPUTE_BF16 : COMPUTE_F32, NULL);
        struct net net = make_net(&f, 2);
        struct ops_options opt = {.pool = f.pool, .kernels = &f.kernels, .compute = f.compute};
        assert_int_equal(ops_open_plan(&opt, &plan, NULL), 0);
        for (int which = 0; which < N_CASE; which++)
            for (size_t r = 0; r < 4; r++) {
                ops_plan_reset(plan);
                run_case(plan, &net, which, rows[r]);
                ops_plan_reset(f.ops);
                run_case(f.ops, &net, which, rows[r]);
                fixture_sound(&f);
                size_t want = ops_plan_result(f.ops).arena_bytes;
                assert_int_equal(ops_plan_result(plan).arena_bytes, want);
                assert_true(want > 2 * rows[r] * net.d * sizeof(float)); // it has scratch
            }
        ops_close(plan);
        fixture_close(&f);
    }
}

static void plan_counts_work(void **state)
{
    (void)state;
    struct fixture f;
    struct ops *o;
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    struct ops_options opt = {.kernels = &f.kernels, .compute = COMPUTE_F32};
    assert_int_equal(ops_open_plan(&opt, &o, NULL), 0);
    struct linear w = make_linear(&f, 30, 20, 4);
    op_linear(o, ops_mat(o, 7, 30), ops_mat(o, 7, 20), &w);
    struct ops_plan p = ops_plan_result(o);
    assert_true(p.flops == 2.0 * 7 * (20 * 30 + 4 * 20 + 4 * 30));
    assert_true(p.weight_bytes == 2.0 * 600 + 4.0 * 30 + 4.0 * (80 + 120));
    ops_plan_reset(o);
    struct attention a = {.q = ops_mat(o, 3, 8),
                          .k = ops_mat(o, 10, 4),
                          .v = ops_mat(o, 10, 4),
                          .n_head = 4,
                          .n_kv = 2,
                          .d_head = 2,
                          .scale = 1};
    op_attention(o, ops_mat(o, 3, 8), &a);
    assert_true(ops_plan_result(o).flops == 4.0 * 30 * 8);
    ops_plan_reset(o);
    a.causal = true;
    a.first_pos = 6;
    op_attention(o, ops_mat(o, 3, 8), &a); // 7 + 8 + 9 keys
    assert_true(ops_plan_result(o).flops == 4.0 * 24 * 8);
    // sizes that cannot be
    op_gelu(o, ops_mat(o, SIZE_MAX / 2, 3));
    assert_int_equal(ops_status(o, NULL), ERR_LIMIT);
    ops_close(o);
    fixture_close(&f);
}

// ---- memory and failure

static void mats_and_views(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    float *v;
    struct mat m = fixture_mat(&f, 5, 7, 2, &v);
    struct mat part = mat_cols(mat_rows(m, 1, 3), 2, 4);
    float *got = fixture_get(&f, part);
    assert_int_equal(part.rows, 3);
    assert_int_equal(part.cols, 4);
    for (size_t i = 0; i < 12; i++)
        assert_true(got[i] == v[(1 + i / 4) * 7 + 2 + i % 4]);
    struct mat none = {NULL, DT_F32, 5, 7, 7};
    assert_null(mat_cols(mat_rows(none, 1, 3), 2, 4).data);
    assert_int_equal((uintptr_t)ops_mat(f.ops, 3, 1).data % 64, 0);
    // nothing to do is fine
    op_gelu(f.ops, ops_mat(f.ops, 0, 4));
    op_add(f.ops, mat_rows(m, 2, 0), mat_rows(m, 0, 0));
    fixture_sound(&f);
    fixture_close(&f);
}

static void scratch_runs_out(void **state)
{
    (void)state;
    struct fixture f;
    struct err e = {0};
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    struct net net = make_net(&f, 1);
    float *want = fixture_alloc(&f, 17 * net.d, sizeof *want);
    float *got = fixture_alloc(&f, 17 * net.d, sizeof *got);
    assert_int_equal(net_run(f.ops, &net, want, &e), 0);

    struct mat m = ops_mat(f.ops, 1000000, 1000);
    assert_null(m.data);
    assert_int_equal(m.rows, 1000000);
    assert_int_equal(ops_status(f.ops, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "4000000000"));
    op_gelu(f.ops, m); // does nothing
    op_linear(f.ops, ops_mat(f.ops, 3, net.ffn), ops_mat(f.ops, 3, net.d), &net.up);
    ops_pop(f.ops, 0);
    struct err again = {0};
    assert_int_equal(ops_status(f.ops, &again), ERR_LIMIT); // a pop does not heal
    assert_string_equal(again.msg, e.msg);
    assert_int_equal(net_run(f.ops, &net, got, &e), ERR_LIMIT);
    ops_clear(f.ops);
    assert_int_equal(ops_mark(f.ops), 0);
    assert_int_equal(net_run(f.ops, &net, got, &e), 0);
    assert_memory_equal(got, want, 17 * net.d * sizeof *got);
    fixture_close(&f);
}

static void allocations_fail(void **state)
{
    (void)state;
    struct fixture f;
    struct err e;
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    struct net net = make_net(&f, 1);
    struct ops_options opt = {.kernels = &f.kernels, .compute = COMPUTE_F32};
    struct ops *o = f.ops;
    mem_fail_after(1);
    assert_int_equal(ops_open_cpu(&opt, &o, &e), ERR_LIMIT);
    assert_null(o);
    mem_fail_after(1);
    assert_int_equal(ops_open_plan(&opt, &o, &e), ERR_LIMIT);
    assert_null(o);
    ops_close(NULL);

    assert_int_equal(ops_open_cpu(&opt, &o, &e), 0);
    mem_fail_after(1);
    assert_int_equal(ops_reserve(o, 1 << 20, &e), ERR_LIMIT);
    assert_int_equal(ops_reserved(o), 0);
    assert_int_equal(net_run(o, &net, NULL, &e), ERR_LIMIT);
    ops_clear(o);
    assert_int_equal(ops_reserve(o, 1 << 20, &e), 0);
    assert_int_equal(ops_reserve(o, 1 << 10, &e), 0);
    assert_int_equal(ops_reserved(o), 1 << 20); // never shrinks
    for (uint64_t k = 1; k <= 2; k++) {
        mem_fail_after(k);
        assert_int_equal(net_run(o, &net, NULL, &e), ERR_LIMIT);
    }
    mem_fail_after(1);
    struct mat m;
    assert_int_equal(ops_hold(o, 3, 4, DT_F32, &m, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "3 x 4"));
    assert_null(m.data);
    mem_fail_after(0);
    assert_int_equal(ops_hold(o, SIZE_MAX / 2, 4, DT_F32, &m, &e), ERR_LIMIT);
    assert_int_equal(net_run(o, &net, NULL, &e), 0);
    assert_int_equal(ops_hold(o, 3, 4, DT_F32, &m, &e), 0);
    float zero[12] = {1};
    op_download(o, zero, m);
    for (size_t i = 0; i < 12; i++)
        assert_true(zero[i] == 0);
    ops_release(o, &m);
    ops_release(o, &m); // a second time does nothing
    ops_close(o);
    fixture_close(&f);
}

// ---- the tap

struct seen {
    char name[16];
    float data[6];
    size_t dim[3];
    unsigned rank;
};

static void keep(void *user, const char *name, const float *data, const size_t *dim, unsigned rank)
{
    struct seen *s = user;
    snprintf(s->name, sizeof s->name, "%s", name);
    memcpy(s->data, data, sizeof s->data);
    memcpy(s->dim, dim, rank * sizeof *dim);
    s->rank = rank;
}

static void tap_sees_values(void **state)
{
    (void)state;
    struct fixture f;
    struct seen s = {0};
    float *v;
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    for (size_t gap = 0; gap < 2; gap++) {
        struct mat m = fixture_mat(&f, 2, 3, gap, &v);
        ops_set_tap(f.ops, (struct tap){&s, keep});
        op_tap(f.ops, "stage", m, (const size_t[]){1, 2, 3}, 3);
        assert_string_equal(s.name, "stage");
        assert_int_equal(s.rank, 3);
        assert_int_equal(s.dim[1], 2);
        assert_memory_equal(s.data, v, sizeof s.data);
        s.name[0] = 0;
        ops_set_tap(f.ops, (struct tap){0});
        op_tap(f.ops, "stage", m, (const size_t[]){2, 3}, 2);
        assert_string_equal(s.name, "");
    }
    fixture_close(&f);
}

// ---- abort

static void abort_stops_a_layer(void **state)
{
    (void)state;
    enum { ROWS = 40, WIDE = 640, THREADS = 3 };
    struct stopper s = {.at = 1000000};
    struct hooks hooks = {.user = &s, .abort = stop_later};
    struct fixture f;
    struct err e;
    fixture_open(&f, CPU_REF, THREADS, COMPUTE_F32, &hooks);
    struct linear w = make_linear(&f, WIDE, WIDE, 0);
    f.seed = 5;
    struct mat x = fixture_mat(&f, ROWS, WIDE, 0, NULL);
    struct mat y = ops_mat(f.ops, ROWS, WIDE), y2 = ops_mat(f.ops, ROWS, WIDE);
    op_linear(f.ops, y, x, &w);
    float *want = fixture_get(&f, y);
    long all = s.polls;
    assert_true(all >= 8 * THREADS); // 16 million multiply-adds in small pieces

    s.at = all + all / 2;
    op_linear(f.ops, y2, x, &w);
    assert_int_equal(ops_status(f.ops, &e), ERR_ABORT);
    assert_true(s.polls >= s.at && s.polls < s.at + THREADS); // nobody begins another task
    long polls = s.polls;
    op_linear(f.ops, y2, x, &w); // sticky: not even asked
    op_gelu(f.ops, y2);
    assert_int_equal(s.polls, polls);

    s.at = polls + 1000000;
    ops_clear(f.ops);
    assert_int_equal(ops_status(f.ops, &e), 0);
    f.seed = 5;
    x = fixture_mat(&f, ROWS, WIDE, 0, NULL);
    y = ops_mat(f.ops, ROWS, WIDE);
    op_linear(f.ops, y, x, &w);
    fixture_sound(&f);
    assert_memory_equal(fixture_get(&f, y), want, ROWS * WIDE * sizeof *want);
    fixture_close(&f);
}

static void abort_stops_a_forward(void **state)
{
    (void)state;
    struct stopper s = {.at = 1000000};
    struct hooks hooks = {.user = &s, .abort = stop_later};
    struct fixture f;
    struct err e;
    fixture_open(&f, CPU_REF, 2, COMPUTE_BF16, &hooks);
    struct net net = make_net(&f, 2);
    float *want = fixture_alloc(&f, 33 * net.d, sizeof *want);
    float *got = fixture_alloc(&f, 33 * net.d, sizeof *got);
    assert_int_equal(net_run(f.ops, &net, want, &e), 0);
    long all = s.polls;
    for (long at = 1; at <= all; at += 1 + at / 8) {
        s.polls = 0;
        s.at = at;
        assert_int_equal(net_run(f.ops, &net, got, &e), ERR_ABORT);
        assert_true(s.polls < at + 2);
        ops_clear(f.ops);
    }
    s.at = 1000000;
    assert_int_equal(net_run(f.ops, &net, got, &e), 0);
    assert_memory_equal(got, want, 33 * net.d * sizeof *got);
    fixture_close(&f);
}

// ---- one pool, several streams

struct stream {
    pthread_t thread;
    struct ops *ops;
    const struct net *net;
    const float *want;
    float *got;
    int wrong;
};

static void *run_stream(void *arg)
{
    struct stream *s = arg;
    struct err e;
    size_t n = (1 + 16 * s->net->n_frame) * s->net->d;
    for (int i = 0; i < 10; i++) {
        memset(s->got, 0, n * sizeof *s->got);
        if (net_run(s->ops, s->net, s->got, &e) != 0 ||
            memcmp(s->got, s->want, n * sizeof *s->got) != 0)
            s->wrong++;
    }
    return NULL;
}

static void streams_share_a_pool(void **state)
{
    (void)state;
    enum { N = 3 };
    struct fixture f;
    struct stream s[N];
    struct err e;
    fixture_open(&f, cpu_best(cpu_detect()), 3, COMPUTE_BF16, NULL);
    struct net net = make_net(&f, 2);
    float *want = fixture_alloc(&f, 33 * net.d, sizeof *want);
    assert_int_equal(net_run(f.ops, &net, want, &e), 0);
    struct ops_options opt = {.pool = f.pool, .kernels = &f.kernels, .compute = COMPUTE_BF16};
    for (size_t i = 0; i < N; i++) {
        s[i] = (struct stream){.net = &net, .want = want};
        s[i].got = fixture_alloc(&f, 33 * net.d, sizeof *want);
        assert_int_equal(ops_open_cpu(&opt, &s[i].ops, &e), 0);
        assert_int_equal(ops_reserve(s[i].ops, ops_reserved(f.ops), &e), 0);
    }
    for (size_t i = 0; i < N; i++)
        assert_int_equal(pthread_create(&s[i].thread, NULL, run_stream, &s[i]), 0);
    for (size_t i = 0; i < N; i++)
        pthread_join(s[i].thread, NULL);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(s[i].wrong, 0);
        ops_close(s[i].ops);
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mats_and_views),           cmocka_unit_test(scratch_runs_out),
        cmocka_unit_test(allocations_fail),         cmocka_unit_test(tap_sees_values),
        cmocka_unit_test(plan_equals_run),          cmocka_unit_test(plan_counts_work),
        cmocka_unit_test(plan_equals_run_op_by_op), cmocka_unit_test(abort_stops_a_layer),
        cmocka_unit_test(abort_stops_a_forward),    cmocka_unit_test(streams_share_a_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
