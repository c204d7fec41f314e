// SPDX-License-Identifier: MIT
// Linear layers and the patch convolution against sums in double, on every tier, in both precisions,
// with every stored type; and that neither threads nor neighbouring rows show in a result.
#include <math.h>
#include <string.h>

#include "ops_fixture.h"

static const float LORA_SCALE = 2.0f;

struct layer {
    struct linear w;
    size_t d_in, d_out, rank;
};

static struct layer make_layer(struct fixture *f, enum dtype t, size_t d_in, size_t d_out,
                               size_t rank, bool bias)
{
    struct layer l = {.d_in = d_in, .d_out = d_out, .rank = rank};
    l.w.w = fixture_tensor(f, t, 0.5f, d_out, d_in, 0, 0, 0);
    if (bias)
        l.w.b = fixture_tensor(f, t, 1.0f, d_out, 0, 0, 0, 0);
    if (rank) {
        l.w.lora_a = fixture_tensor(f, t, 0.5f, rank, d_in, 0, 0, 0);
        l.w.lora_b = fixture_tensor(f, t, 0.5f, d_out, rank, 0, 0, 0);
        l.w.lora_scale = LORA_SCALE;
    }
    return l;
}

// Sum of x[i] w[i] and, in *size, of the absolute values.
static double dot(const double *x, const double *w, size_t n, double *size)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] * w[i];
        *size += fabs(x[i] * w[i]);
    }
    return sum;
}

// Worst error of n f32 additions of values whose sizes sum to `size`.
static double sum_error(size_t n, double size)
{
    return ((double)n / 8 + 8) * 0x1p-24 * size + 1e-37;
}

static void check_layer(struct fixture *f, const struct layer *l, const float *x, const float *y,
                        size_t n)
{
    bool round = f->compute == COMPUTE_BF16;
    double *w = fixture_values(f, &l->w.w, round);
    double *b = l->w.b.data ? fixture_values(f, &l->w.b, false) : NULL;
    double *la = l->rank ? fixture_values(f, &l->w.lora_a, round) : NULL;
    double *lb = l->rank ? fixture_values(f, &l->w.lora_b, round) : NULL;
    double *xr = fixture_alloc(f, l->d_in, sizeof *xr);
    double *t = fixture_alloc(f, l->rank + 1, sizeof *t);
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < l->d_in; i++)
            xr[i] = (double)(round ? bf16_round(x[r * l->d_in + i]) : x[r * l->d_in + i]);
        double t_error = 0;
        for (size_t i = 0; i < l->rank; i++) {
            double size = 0;
            t[i] = (double)LORA_SCALE * dot(xr, la + i * l->d_in, l->d_in, &size);
            t_error = fmax(t_error, (double)LORA_SCALE * sum_error(l->d_in, size));
            if (round) {
                t_error = fmax(t_error, fabs(t[i]) * 0x1p-8); // the other neighbour
                t[i] = (double)bf16_round((float)t[i]);
            }
        }
        for (size_t o = 0; o < l->d_out; o++) {
            double size = b ? fabs(b[o]) : 0, want = b ? b[o] : 0, lora_size = 0;
            want += dot(xr, w + o * l->d_in, l->d_in, &size);
            if (l->rank)
                want += dot(t, lb + o * l->rank, l->rank, &lora_size);
            double tol = sum_error(l->d_in + l->rank, size + lora_size);
            for (size_t i = 0; i < l->rank; i++)
                tol += t_error * fabs(lb[o * l->rank + i]);
            if (!fixture_near((double)y[r * l->d_out + o], want, tol))
                fail_msg("row %zu of %zu, output %zu: %zu -> %zu, rank %zu, %s %s", r, n, o,
                         l->d_in, l->d_out, l->rank, dtype_name(l->w.w.dtype),
                         cpu_tier_name(f->kernels.tier));
        }
    }
}

static void check_linear(struct fixture *f, enum dtype t, size_t n, size_t d_in, size_t d_out,
                         size_t rank, bool bias, size_t gap)
{
    size_t mark = ops_mark(f->ops);
    struct layer l = make_layer(f, t, d_in, d_out, rank, bias);
    float *x_host, *before;
    struct mat x = fixture_mat(f, n, d_in, gap, &x_host);
    struct mat wide = fixture_mat(f, n, d_out + 2 * gap, 0, &before);
    struct mat y = mat_cols(wide, gap, d_out);
    size_t used = ops_mark(f->ops);
    op_linear(f->ops, y, x, &l.w);
    assert_int_equal(ops_mark(f->ops), used);
    check_layer(f, &l, x_host, fixture_get(f, y), n);
    // beside y nothing was written
    float *after = fixture_get(f, wide);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < gap; c++) {
            size_t left = r * wide.cols + c, right = left + gap + d_out;
            assert_memory_equal(&before[left], &after[left], sizeof(float));
            assert_memory_equal(&before[right], &after[right], sizeof(float));
        }
    ops_pop(f->ops, mark);
}

static void each_setting(void (*check)(struct fixture *f), unsigned threads)
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

static void odd_sizes(struct fixture *f)
{
    static const enum dtype types[] = {DT_F32, DT_F16, DT_BF16};
    static const size_t rows[] = {1, 2, 7, 8, 9, 37}, ins[] = {1, 7, 64, 131}, outs[] = {1, 5, 70};
    size_t k = 0; // walks through the other choices, so that all meet
    for (size_t a = 0; a < 6; a++)
        for (size_t b = 0; b < 4; b++)
            for (size_t c = 0; c < 3; c++, k++)
                check_linear(f, types[k % 3], rows[a], ins[b], outs[c],
                             (size_t[]){0, 3, 16, 0, 1}[k % 5], k % 2 == 0, k % 4);
}

static void linear_odd_sizes(void **state)
{
    (void)state;
    each_setting(odd_sizes, 2);
}

static void large(struct fixture *f)
{
    check_linear(f, DT_F32, 1, 1030, 515, 16, true, 0);
    check_linear(f, DT_BF16, 5, 1030, 259, 4, false, 1);
    check_linear(f, DT_F16, 150, 290, 300, 16, true, 3);
    check_linear(f, DT_BF16, 33, 1100, 130, 0, true, 0);
}

static void linear_large(void **state)
{
    (void)state;
    each_setting(large, 3);
}

// y of the first n rows of the fixture's fixed input.
static float *fixed_linear(struct fixture *f, size_t n, size_t d_in, size_t d_out)
{
    size_t mark = ops_mark(f->ops);
    f->seed = 77;
    struct layer l = make_layer(f, DT_BF16, d_in, d_out, 16, true);
    struct mat x = mat_rows(fixture_mat(f, 50, d_in, 0, NULL), 0, n);
    struct mat y = ops_mat(f->ops, n, d_out);
    op_linear(f->ops, y, x, &l.w);
    float *got = fixture_get(f, y);
    ops_pop(f->ops, mark);
    return got;
}

static void rows_alone(struct fixture *f)
{
    size_t d_in = 200, d_out = 70, bytes = d_out * sizeof(float);
    float *few = fixed_linear(f, OPS_FEW_ROWS, d_in, d_out);
    for (size_t n = 1; n < OPS_FEW_ROWS; n++)
        assert_memory_equal(fixed_linear(f, n, d_in, d_out), few, n * bytes);
    float *many = fixed_linear(f, 50, d_in, d_out);
    for (size_t n = OPS_FEW_ROWS + 1; n < 50; n++)
        assert_memory_equal(fixed_linear(f, n, d_in, d_out), many, n * bytes);
}

static void rows_do_not_depend_on_others(void **state)
{
    (void)state;
    each_setting(rows_alone, 2);
}

static void threads_do_not_show(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const unsigned threads[] = {2, 3, 5};
    for (size_t i = FIRST_TIER(n_tier); i < n_tier; i++)
        for (enum compute c = COMPUTE_F32; c <= COMPUTE_INT8; c++) {
            struct fixture one, more;
            fixture_open(&one, tier[i], 1, c, NULL);
            for (size_t t = 0; t < 3; t++) {
                fixture_open(&more, tier[i], threads[t], one.compute, NULL);
                static const size_t rows[] = {1, 8, 50};
                for (size_t r = 0; r < 3; r++)
                    assert_memory_equal(fixed_linear(&more, rows[r], 301, 411),
                                        fixed_linear(&one, rows[r], 301, 411),
                                        rows[r] * 411 * sizeof(float));
                fixture_close(&more);
            }
            fixture_close(&one);
        }
}

// Layers of very unlike sizes in one batch, and one whose result is added, on more threads than there are stretches: no
// task is left out and none comes twice.
static void crowds_do_not_show(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    static const unsigned threads[] = {1, 2, 70};
    static const size_t out[] = {2000, 5, 90};
    float want[3][2095];
    for (size_t t = 0; t < 3; t++) {
        struct fixture f;
        fixture_open(&f, tier[n_tier - 1], threads[t], COMPUTE_BF16, NULL);
        struct linear_input in = {.kind = INPUT_ROWS, .x = fixture_mat(&f, 1, 300, 0, NULL)};
        struct mat y = ops_mat(f.ops, 1, 2095);
        struct layer l[3];
        const struct linear *w[3];
        for (size_t i = 0; i < 3; i++) {
            l[i] = make_layer(&f, DT_BF16, 300, out[i], 0, false);
            w[i] = &l[i].w;
        }
        op_linears(f.ops, y, &in, w, 3);
        memcpy(want[t], fixture_get(&f, y), sizeof want[t]);
        op_linear_add(f.ops, mat_cols(y, 0, out[0]), &in, w[0], NULL);
        const float *twice = fixture_get(&f, y);
        for (size_t o = 0; o < out[0]; o++)
            assert_true(twice[o] == 2 * want[t][o]);
        assert_memory_equal(want[t], want[0], sizeof want[t]);
        fixture_close(&f);
    }
}

// y of n rows through a layer with 3 LoRA columns, to compare precisions.
static float *linear_in(enum cpu_tier tier, enum compute c, size_t n, bool fine)
{
    static float out[40 * 130];
    struct fixture f;
    fixture_open(&f, tier, 2, c, NULL);
    struct layer l = make_layer(&f, DT_F32, 300, 130, 3, true);
    l.w.fine = fine;
    struct mat x = mat_rows(fixture_mat(&f, 40, 300, 0, NULL), 0, n), y = ops_mat(f.ops, n, 130);
    op_linear(f.ops, y, x, &l.w);
    memcpy(out, fixture_get(&f, y), n * 130 * sizeof *out);
    fixture_close(&f);
    return out;
}

// In int8 few rows and fine layers are those of bf16; others are near it, and not the same.
static void int8_where_it_belongs(void **state)
{
    (void)state;
    enum cpu_tier tier[CPU_TIER_N];
    size_t n_tier = fixture_tiers(tier);
    for (size_t i = 0; i < n_tier; i++)
        for (int fine = 0; fine < 2; fine++)
            for (size_t n = OPS_FEW_ROWS; n <= 40; n += 32) {
                float want[40 * 130];
                size_t count = n * 130, apart = 0;
                memcpy(want, linear_in(tier[i], COMPUTE_BF16, n, fine), count * sizeof *want);
                const float *got = linear_in(tier[i], COMPUTE_INT8, n, fine);
                for (size_t v = 0; v < count; v++) {
                    apart += got[v] != want[v];
                    assert_true(fabsf(got[v] - want[v]) < 0.5f);
                }
                if (fine || n <= OPS_FEW_ROWS)
                    assert_int_equal(apart, 0);
                else
                    assert_true(apart > count / 2);
            }
}

static void check_patches(struct fixture *f, size_t n_frame, size_t size, size_t patch, size_t d,
                          bool bias)
{
    size_t mark = ops_mark(f->ops), side = size / patch, n = n_frame * side * side;
    size_t d_in = 3 * patch * patch;
    struct layer l = {.d_in = d_in, .d_out = d};
    l.w.w = fixture_tensor(f, DT_F32, 0.5f, d, 3, 1, patch, patch);
    if (bias)
        l.w.b = fixture_tensor(f, DT_F32, 1.0f, d, 0, 0, 0, 0);
    float *pixels = fixture_alloc(f, n_frame * 3 * size * size, sizeof *pixels);
    for (size_t i = 0; i < n_frame * 3 * size * size; i++)
        pixels[i] = fixture_random(f);
    struct mat y = mat_cols(ops_mat(f->ops, n, d + 3), 1, d);
    op_patch_embed(f->ops, y, pixels, n_frame, size, patch, &l.w);
    // the convolution's definition, pixel by pixel
    float *x = fixture_alloc(f, n * d_in, sizeof *x);
    for (size_t t = 0; t < n_frame; t++)
        for (size_t c = 0; c < 3; c++)
            for (size_t v = 0; v < size; v++)
                for (size_t u = 0; u < size; u++) {
                    size_t row = (t * side + v / patch) * side + u / patch;
                    size_t col = (c * patch + v % patch) * patch + u % patch;
                    x[row * d_in + col] = pixels[((t * 3 + c) * size + v) * size + u];
                }
    check_layer(f, &l, x, fixture_get(f, y), n);
    ops_pop(f->ops, mark);
}

static void patches(struct fixture *f)
{
    check_patches(f, 1, 4, 2, 5, true);  // 4 rows: few
    check_patches(f, 2, 6, 3, 7, false); // 8 rows: still few
    check_patches(f, 3, 6, 3, 7, true);  // 12 rows
    check_patches(f, 1, 14, 14, 3, true);
    check_patches(f, 2, 28, 14, 33, true);
    check_patches(f, 1, 35, 1, 3, true); // 1225 rows: more than one block
}

// 41 frames of 25 patches: the last block has a single row, which must not be computed as if the whole
// op had so few.
static void last_block(struct fixture *f)
{
    enum { N_FRAME = 41, SIZE = 15, PATCH = 3, D = 7, ROWS = 25 };
    size_t pixels_of_frame = 3 * SIZE * SIZE;
    struct linear w = {.w = fixture_tensor(f, DT_F32, 0.5f, D, 3, 1, PATCH, PATCH)};
    float *pixels = fixture_alloc(f, N_FRAME * pixels_of_frame, sizeof *pixels);
    for (size_t i = 0; i < N_FRAME * pixels_of_frame; i++)
        pixels[i] = fixture_random(f);
    struct mat all = ops_mat(f->ops, N_FRAME * ROWS, D), last = ops_mat(f->ops, ROWS, D);
    op_patch_embed(f->ops, all, pixels, N_FRAME, SIZE, PATCH, &w);
    op_patch_embed(f->ops, last, pixels + (N_FRAME - 1) * pixels_of_frame, 1, SIZE, PATCH, &w);
    assert_memory_equal(fixture_get(f, mat_rows(all, (N_FRAME - 1) * ROWS, ROWS)),
                        fixture_get(f, last), ROWS * D * sizeof(float));
}

static void patch_blocks_do_not_show(void **state)
{
    (void)state;
    each_setting(last_block, 2);
}

static void patch_embed(void **state)
{
    (void)state;
    each_setting(patches, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_odd_sizes),
        cmocka_unit_test(linear_large),
        cmocka_unit_test(rows_do_not_depend_on_others),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(crowds_do_not_show),
        cmocka_unit_test(int8_where_it_belongs),
        cmocka_unit_test(patch_embed),
        cmocka_unit_test(patch_blocks_do_not_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
