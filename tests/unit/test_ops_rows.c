// SPDX-License-Identifier: MIT
// The row and element ops against their formulas in double, on every tier: odd sizes, views with gaps,
// in place where allowed, each stored type of weight; the columns beside a view stay untouched.
#include <math.h>
#include <string.h>

#include "ops_fixture.h"

static const size_t row_counts[] = {1, 3, 70}, col_counts[] = {1, 6, 88, 301};
static const enum dtype types[] = {DT_F32, DT_F16, DT_BF16};
enum { N_ROWS = 3, N_COLS = 4 };

static double value(const float *m, size_t cols, size_t r, size_t c)
{
    return (double)m[r * cols + c];
}

static void each_tier(void (*check)(struct fixture *f, size_t rows, size_t cols, size_t k))
{
    enum cpu_tier tier[CPU_TIER_N];
    size_t n = fixture_tiers(tier), k = 0;
    for (size_t i = 0; i < n; i++) {
        struct fixture f;
        fixture_open(&f, tier[i], 3, COMPUTE_BF16,
                     NULL); // the precision of products must not matter
        for (size_t r = 0; r < N_ROWS; r++)
            for (size_t c = 0; c < N_COLS; c++, k++) {
                size_t mark = ops_mark(f.ops);
                check(&f, row_counts[r], col_counts[c], k);
                fixture_sound(&f);
                ops_pop(f.ops, mark);
            }
        fixture_close(&f);
    }
}

// A mat in the middle of a wider one, whose other columns are watched.
struct framed {
    struct mat m, wide;
    float *before; // all of wide
    float *host;   // m
};

static struct framed framed_mat(struct fixture *f, size_t rows, size_t cols, size_t gap)
{
    struct framed r;
    r.wide = fixture_mat(f, rows, cols + 2 * gap, 0, &r.before);
    r.m = mat_cols(r.wide, gap, cols);
    r.host = fixture_get(f, r.m);
    return r;
}

static float *check_frame(struct fixture *f, const struct framed *r)
{
    size_t w = r->wide.cols, gap = (w - r->m.cols) / 2;
    float *after = fixture_get(f, r->wide);
    for (size_t i = 0; i < r->wide.rows; i++) {
        assert_memory_equal(after + i * w, r->before + i * w, gap * sizeof *after);
        assert_memory_equal(after + (i + 1) * w - gap, r->before + (i + 1) * w - gap,
                            gap * sizeof *after);
    }
    return fixture_get(f, r->m);
}

static void add(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    float *y;
    struct framed x = framed_mat(f, rows, cols, k % 3);
    op_add(f->ops, x.m, fixture_mat(f, rows, cols, k % 2, &y));
    float *got = check_frame(f, &x);
    for (size_t i = 0; i < rows * cols; i++)
        assert_true(got[i] == x.host[i] + y[i]);
}

static void add_scaled(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    float *y;
    struct framed x = framed_mat(f, rows, cols, k % 3);
    struct tensor s = fixture_tensor(f, types[k % 3], 2.0f, cols, 0, 0, 0, 0);
    double *scale = fixture_values(f, &s, false);
    op_add_scaled(f->ops, x.m, fixture_mat(f, rows, cols, k % 2, &y), &s);
    float *got = check_frame(f, &x);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            double a = value(x.host, cols, r, c), b = value(y, cols, r, c) * scale[c];
            assert_true(fixture_near(value(got, cols, r, c), a + b, (fabs(a) + fabs(b)) * 0x1p-23));
        }
}

static void add_table(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    size_t t_rows = k % 2 ? rows : 1;
    float *t = fixture_alloc(f, t_rows * cols, sizeof *t);
    for (size_t i = 0; i < t_rows * cols; i++)
        t[i] = fixture_random(f);
    struct framed x = framed_mat(f, rows, cols, k % 3);
    op_add_table(f->ops, x.m, t, t_rows, NULL);
    float *got = check_frame(f, &x);
    for (size_t i = 0; i < rows * cols; i++)
        assert_true(got[i] == x.host[i] + t[t_rows == 1 ? i % cols : i]);
}

static void rms_norm(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct framed x = framed_mat(f, rows, cols, k % 3);
    struct framed y = k % 2 ? x : framed_mat(f, rows, cols, 1);
    struct tensor w = fixture_tensor(f, types[k % 3], 2.0f, cols, 0, 0, 0, 0);
    double *weight = fixture_values(f, &w, false), eps = (double)1e-5f;
    op_rms_norm(f->ops, y.m, x.m, &w, 1e-5f);
    float *got = check_frame(f, &y);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < cols; c++)
            sum += value(x.host, cols, r, c) * value(x.host, cols, r, c);
        double factor = 1 / sqrt(sum / (double)cols + eps);
        for (size_t c = 0; c < cols; c++) {
            double want = value(x.host, cols, r, c) * factor * weight[c];
            assert_true(fixture_near(value(got, cols, r, c), want, fabs(want) * 0x1p-20));
        }
    }
}

// The bits of two single norms.
static void rms_norm2(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct framed x[2], y[2];
    struct tensor w[2];
    for (size_t i = 0; i < 2; i++) {
        x[i] = framed_mat(f, rows, cols, k % 3);
        y[i] = framed_mat(f, rows, cols, 1);
        w[i] = fixture_tensor(f, types[(k + i) % 3], 2.0f, cols, 0, 0, 0, 0);
        op_rms_norm(f->ops, y[i].m, x[i].m, &w[i], 1e-5f);
    }
    op_rms_norm2(f->ops, x[0].m, &w[0], x[1].m, &w[1], 1e-5f);
    for (size_t i = 0; i < 2; i++) {
        float *want = check_frame(f, &y[i]), *got = check_frame(f, &x[i]);
        assert_memory_equal(got, want, rows * cols * sizeof *got);
    }
}

static void layer_norm(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct framed x = framed_mat(f, rows, cols, k % 3);
    struct framed y = k % 2 ? x : framed_mat(f, rows, cols, 1);
    struct tensor w = fixture_tensor(f, types[k % 3], 2.0f, cols, 0, 0, 0, 0);
    struct tensor b = fixture_tensor(f, types[(k + 1) % 3], 1.0f, cols, 0, 0, 0, 0);
    double *weight = fixture_values(f, &w, false), *bias = fixture_values(f, &b, false);
    double eps = (double)1e-3f;
    op_layer_norm(f->ops, y.m, x.m, &w, &b, 1e-3f);
    float *got = check_frame(f, &y);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0, square = 0;
        for (size_t c = 0; c < cols; c++)
            sum += value(x.host, cols, r, c);
        double mean = sum / (double)cols;
        for (size_t c = 0; c < cols; c++)
            square += pow(value(x.host, cols, r, c) - mean, 2);
        double factor = 1 / sqrt(square / (double)cols + eps);
        for (size_t c = 0; c < cols; c++) {
            double t = (value(x.host, cols, r, c) - mean) * factor * weight[c];
            double tol = (fabs(t) + fabs(bias[c]) + factor * fabs(weight[c])) * 0x1p-20;
            assert_true(fixture_near(value(got, cols, r, c), t + bias[c], tol));
        }
    }
}

static void activations(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct framed x = framed_mat(f, rows, cols, k % 3), gate = framed_mat(f, rows, cols, k % 2);
    float *up;
    op_gelu(f->ops, x.m);
    op_silu_mul(f->ops, gate.m, fixture_mat(f, rows, cols, k % 3, &up));
    float *got_gelu = check_frame(f, &x), *got_silu = check_frame(f, &gate);
    for (size_t i = 0; i < rows * cols; i++) {
        double v = (double)x.host[i], g = (double)gate.host[i];
        double gelu = 0.5 * v * (1 + erf(v / sqrt(2.0))), silu = g / (1 + exp(-g)) * (double)up[i];
        assert_true(fixture_near((double)got_gelu[i], gelu, fabs(gelu) * 0x1p-20 + 1e-7 * fabs(v)));
        assert_true(fixture_near((double)got_silu[i], silu, fabs(silu) * 0x1p-20));
    }
}

static void copy(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct framed x = framed_mat(f, rows, cols, k % 3), y = framed_mat(f, rows, cols, 2);
    struct mat half, other;
    assert_int_equal(ops_hold(f->ops, rows, cols, DT_BF16, &half, NULL), 0);
    assert_int_equal(ops_hold(f->ops, rows, cols, DT_BF16, &other, NULL), 0);
    op_copy(f->ops, y.m, x.m);
    assert_memory_equal(check_frame(f, &y), x.host, rows * cols * sizeof(float));
    op_copy(f->ops, half, x.m);
    op_copy(f->ops, other, half);
    op_copy(f->ops, y.m, other);
    float *got = check_frame(f, &y), *loaded = fixture_get(f, other);
    for (size_t i = 0; i < rows * cols; i++) {
        assert_true(got[i] == bf16_round(x.host[i]));
        assert_true(loaded[i] == got[i]);
    }
    float *twice = fixture_alloc(f, rows * cols, sizeof *twice);
    for (size_t i = 0; i < rows * cols; i++)
        twice[i] = 2 * got[i];
    op_upload(f->ops, half, twice);
    loaded = fixture_get(f, half);
    for (size_t i = 0; i < rows * cols; i++)
        assert_true(loaded[i] == twice[i]);
    ops_release(f->ops, &half);
    ops_release(f->ops, &other);
    assert_null(half.data);
}

static void embed(struct fixture *f, size_t rows, size_t cols, size_t k)
{
    struct tensor table = k % 2 ? fixture_tensor(f, types[k % 3], 1.0f, 90, cols, 0, 0, 0)
                                : fixture_tensor(f, types[k % 3], 1.0f, 1, 90, cols, 0, 0);
    double *values = fixture_values(f, &table, false);
    struct framed y = framed_mat(f, rows, cols, k % 3);
    int32_t ids[70];
    for (size_t i = 0; i < rows; i++)
        ids[i] = (int32_t)((i * 37 + 89) % 90);
    op_embed(f->ops, y.m, &table, ids);
    float *got = check_frame(f, &y);
    for (size_t i = 0; i < rows * cols; i++)
        assert_true((double)got[i] == values[(size_t)ids[i / cols] * cols + i % cols]);
    op_embed(f->ops, y.m, &table, NULL);
    got = check_frame(f, &y);
    for (size_t i = 0; i < rows * cols; i++)
        assert_true((double)got[i] == values[i]);
}

// Three rows in the middle of each group of five, copied out side by side and back into others' place.
static void groups(struct fixture *f, size_t n_group, size_t cols, size_t k)
{
    enum { GROUP = 5, FROM = 1, N = 3 };
    float *x, *z;
    struct mat from = fixture_mat(f, n_group * GROUP, cols, 0, &x);
    struct mat part = fixture_mat(f, n_group * N, cols, 0, NULL);
    struct mat back = fixture_mat(f, n_group * GROUP, cols, 0, &z);
    (void)k;
    op_copy(f->ops, mat_groups(part, N, 0, N), mat_groups(from, GROUP, FROM, N));
    const float *got = fixture_get(f, part);
    for (size_t r = 0; r < n_group * N; r++)
        assert_memory_equal(got + r * cols, x + (r / N * GROUP + FROM + r % N) * cols,
                            cols * sizeof *got);
    op_copy(f->ops, mat_groups(back, GROUP, FROM, N), mat_groups(part, N, 0, N));
    got = fixture_get(f, back);
    for (size_t r = 0; r < n_group * GROUP; r++) {
        bool inside = r % GROUP >= FROM && r % GROUP < FROM + N;
        assert_memory_equal(got + r * cols, (inside ? x : z) + r * cols, cols * sizeof *got);
    }
}

static void elementwise(void **state)
{
    (void)state;
    each_tier(add);
    each_tier(add_scaled);
    each_tier(add_table);
    each_tier(activations);
}

static void norms(void **state)
{
    (void)state;
    each_tier(rms_norm);
    each_tier(rms_norm2);
    each_tier(layer_norm);
}

static void copies(void **state)
{
    (void)state;
    each_tier(copy);
    each_tier(groups);
}

static void embeddings(void **state)
{
    (void)state;
    each_tier(embed);
}

static void embed_checks_ids(void **state)
{
    (void)state;
    static const int32_t bad[][2] = {{3, 5}, {-1, 7}, {INT32_MIN, -5}, {0, INT32_MAX}};
    static const char *const where[] = {"5 at 1", "-1 at 0", "-2147483648 at 0", "2147483647 at 1"};
    struct fixture f;
    struct err e;
    fixture_open(&f, CPU_REF, 1, COMPUTE_F32, NULL);
    struct tensor table = fixture_tensor(&f, DT_F32, 1.0f, 5, 4, 0, 0, 0);
    for (size_t i = 0; i < 4; i++) {
        op_embed(f.ops, ops_mat(f.ops, 2, 4), &table, bad[i]);
        assert_int_equal(ops_status(f.ops, &e), ERR_FAIL);
        assert_non_null(strstr(e.msg, "5 rows"));
        assert_non_null(strstr(e.msg, where[i])); // the first of them
        ops_clear(f.ops);
    }
    op_embed(f.ops, ops_mat(f.ops, 6, 4), &table, NULL);
    assert_int_equal(ops_status(f.ops, &e), ERR_FAIL);
    ops_clear(f.ops);
    op_embed(f.ops, ops_mat(f.ops, 5, 4), &table, NULL);
    fixture_sound(&f);
    fixture_close(&f);
}

// ---- rotary positions

// cos and sin of pos * theta^(-2j/d) with every step rounded to f32, at the language model's sizes.
static void rope_table_values(void **state)
{
    (void)state;
    static const uint32_t pos[] = {0, 1, 319, 32767};
    struct fixture f;
    fixture_open(&f, CPU_REF, 2, COMPUTE_F32, NULL);
    size_t d = 128;
    struct mat table = op_rope_table(f.ops, pos, 4, d, 1e6);
    assert_int_equal(table.rows, 4);
    assert_int_equal(table.cols, d);
    float *got = fixture_get(&f, table);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < d / 2; j++) {
            float power = (float)pow(1e6, (double)(2 * j) / 128.0);
            float inv_freq = 1.0f / power, angle = (float)pos[i] * inv_freq;
            assert_true(got[i * d + j] == (float)cos((double)angle));
            assert_true(got[i * d + d / 2 + j] == (float)sin((double)angle));
        }
    // the f32 angle differs from the exact one visibly at large positions: rounding is part of it
    double exact = cos(32767 * pow(1e6, -2.0 / 128));
    assert_true(fabs((double)got[3 * d + 1] - exact) > 1e-5);
    assert_true(fabs((double)got[3 * d + 1] - exact) < 1e-2);
    fixture_close(&f);
}

// Column of the other half's partner, the place among the angles, and whether c is in the first half.
static void rope_place(bool pairs, size_t c, size_t d, size_t *other, size_t *at, bool *first)
{
    size_t j = c % d, half = d / 2;
    *first = pairs ? j % 2 == 0 : j < half;
    *at = pairs ? j / 2 : j % half;
    *other = pairs ? (*first ? c + 1 : c - 1) : (*first ? c + half : c - half);
}

static void rope_rotates(void **state, bool pairs)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const size_t heads[] = {1, 3, 8}, dims[] = {2, 22, 128};
    uint32_t pos[40];
    for (uint32_t i = 0; i < 40; i++)
        pos[i] = i * 13;
    for (size_t i = 0; i < n_tier; i++) {
        struct fixture f;
        fixture_open(&f, tier[i], 2, COMPUTE_BF16, NULL);
        for (size_t k = 0; k < 3; k++) {
            size_t n_head = heads[k], d = dims[k], cols = n_head * d, mark = ops_mark(f.ops);
            struct mat table = op_rope_table(f.ops, pos, 40, d, 5e7);
            float *t = fixture_get(&f, table);
            struct framed x = framed_mat(&f, 40, cols, k);
            if (pairs)
                op_rope_pairs(f.ops, x.m, n_head, table);
            else
                op_rope(f.ops, x.m, n_head, table);
            float *got = check_frame(&f, &x);
            for (size_t r = 0; r < 40; r++)
                for (size_t c = 0; c < cols; c++) {
                    size_t partner, at;
                    bool first;
                    rope_place(pairs, c, d, &partner, &at, &first);
                    double cs = value(t, d, r, at), sn = value(t, d, r, d / 2 + at);
                    double self = value(x.host, cols, r, c);
                    double other = value(x.host, cols, r, partner);
                    double want = self * cs + (first ? -other : other) * sn;
                    assert_true(fixture_near(value(got, cols, r, c), want, 0x1p-22));
                }
            ops_pop(f.ops, mark);
        }
        fixture_close(&f);
    }
}

static void rope_rotates_halves(void **state)
{
    rope_rotates(state, false);
}

static void rope_rotates_pairs(void **state)
{
    rope_rotates(state, true);
}

// Rows of a table in blocks are those of the plain reader.
static void embed_blocks(void **state)
{
    (void)state;
    enum { ROWS = 5, D = 256 };
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        struct fixture f;
        uint8_t blocks[ROWS * D * 2];
        float plain[ROWS * D];
        static const int32_t ids[] = {4, 0, 4, 2};
        for (size_t i = 0; i < sizeof blocks; i++) // scales stay small numbers
            blocks[i] = (uint8_t)(i * 7 % 61);
        dtype_to_f32(plain, blocks, t, ROWS * D);
        struct tensor table = {.data = blocks, .dtype = t, .rank = 2, .dim = {ROWS, D}};
        fixture_open(&f, CPU_REF, 2, COMPUTE_BF16, NULL);
        struct framed y = framed_mat(&f, 4, D, 1);
        op_embed(f.ops, y.m, &table, ids);
        float *got = check_frame(&f, &y);
        for (size_t r = 0; r < 4; r++)
            assert_memory_equal(got + r * D, plain + (size_t)ids[r] * D, D * sizeof *got);
        fixture_close(&f);
    }
}

static void split_wqkv(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, CPU_REF, 2, COMPUTE_F32, NULL);
    size_t n_kv = 3, per = 2, d = 5, rows = 4, n_head = n_kv * per;
    float *all;
    struct mat qkv = fixture_mat(&f, rows, n_kv * (per + 2) * d, 1, &all);
    struct framed q = framed_mat(&f, rows, n_head * d, 2), k = framed_mat(&f, rows, n_kv * d, 0),
                  v = framed_mat(&f, rows, n_kv * d, 1);
    op_split_wqkv(f.ops, q.m, k.m, v.m, qkv, n_head, n_kv, d);
    float *got_q = check_frame(&f, &q), *got_k = check_frame(&f, &k), *got_v = check_frame(&f, &v);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < n_kv * (per + 2); i++)
            for (size_t c = 0; c < d; c++) {
                size_t group = i / (per + 2), j = i % (per + 2);
                float want = all[r * qkv.cols + i * d + c];
                if (j < per)
                    assert_true(got_q[r * n_head * d + (group * per + j) * d + c] == want);
                else
                    assert_true((j == per ? got_k : got_v)[r * n_kv * d + group * d + c] == want);
            }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise),
        cmocka_unit_test(norms),
        cmocka_unit_test(copies),
        cmocka_unit_test(embeddings),
        cmocka_unit_test(embed_checks_ids),
        cmocka_unit_test(rope_table_values),
        cmocka_unit_test(rope_rotates_halves),
        cmocka_unit_test(rope_rotates_pairs),
        cmocka_unit_test(embed_blocks),
        cmocka_unit_test(split_wqkv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
