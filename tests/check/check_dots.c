// SPDX-License-Identifier: MIT
// Checks products of few rows with weights in blocks: prepared rows are the plain tier's to the bit, for every
// length and kind of data; results are sums in double over those levels and the stored weights, within the rounding
// of f32 sums, and as near to the product of the values themselves as rounding to levels allows; a row's bits depend
// neither on the other rows nor on the cut; everything against guard pages. `--bench` measures instead; `--short` is for
// emulators and sanitizers: fewer outputs and rows of the model's sizes.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/size.h"
#include "guarded.h"
#include "kernel_check.h"
#include "kernels/dots_parts.h"
#include "tensor/blocks.h"

static struct tiers all;
static bool short_run;

// Whether tier i has kernels that the one below has not.
static bool is_new(size_t i)
{
    return i == 0 || all.k[i].dots.few != all.k[i - 1].dots.few;
}

// ---- prepared rows

static void same_levels(const void *got, const void *want, size_t n, enum cpu_tier tier, size_t k)
{
    if (memcmp(got, want, n) != 0)
        fail_msg("%s k %zu: levels differ", cpu_tier_name(tier), k);
}

// The same bits, or both NaN.
static void same_floats(const float *got, const float *want, size_t n, enum cpu_tier tier, size_t k)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s k %zu: step or sum %zu is %.9g, expected %.9g", cpu_tier_name(tier), k, i,
                     (double)got[i], (double)want[i]);
}

static const struct dots_half *halves_of(const void *row, size_t k)
{
    return (const void *)((const char *)row + dots_halves_at(k));
}

static void same_row(const void *got, const void *want, enum cpu_tier tier, size_t k)
{
    const struct dots_part *g = got, *w = want;
    const struct dots_half *gh = halves_of(got, k), *wh = halves_of(want, k);
    for (size_t i = 0; i < k; i += DOTS_PART, g++, w++) {
        same_levels(g->level, w->level, sizeof g->level, tier, k);
        same_floats(g->step, w->step, DOTS_LANES, tier, k);
        same_floats(g->sum, w->sum, DOTS_LANES, tier, k);
        for (int h = 0; h < 2; h++, gh++, wh++) {
            same_levels(gh->level, wh->level, sizeof gh->level, tier, k);
            same_floats(gh->step, wh->step, DOTS_LANES, tier, k);
            same_levels(gh->base, wh->base, sizeof gh->base, tier, k);
        }
    }
}

static void same_rows(const struct guarded *x, size_t m, size_t k)
{
    size_t bytes = product_x_stride(&all.k[0].dots, k);
    struct guarded want = guarded_new(m * bytes, 64);
    all.k[0].dots.prepare(&all.k[0].dots, want.data, (float *)x->data, k, m, k);
    for (size_t i = 1; i < all.n; i++) {
        struct guarded got = guarded_new(m * bytes, 64);
        memset(got.data, 0xa5, got.bytes);
        all.k[i].dots.prepare(&all.k[i].dots, got.data, (float *)x->data, k, m, k);
        for (size_t r = 0; r < m; r++)
            same_row((char *)got.data + r * bytes, (char *)want.data + r * bytes, all.k[i].tier, k);
        assert_true(guarded_intact(&got));
        guarded_free(&got);
    }
    guarded_free(&want);
}

static void prepared_rows(void **state)
{
    (void)state;
    struct rng r = {31};
    static const size_t WHOLE[] = {DOTS_PART - 1, DOTS_PART, DOTS_PART + 1,
                                   2 * DOTS_PART, 4096,      14336};
    size_t n_whole = sizeof WHOLE / sizeof WHOLE[0], tail = 0;
    for (size_t at = 0; tail < 2 * DOTS_PART + 20; at++, tail += at <= n_whole ? 0
                                                                 : tail < 600  ? 1
                                                                               : 7)
        for (int d = 0; d < DATA_N; d++) {
            size_t k = at < n_whole ? WHOLE[at] : tail, m = 1 + k % 3;
            struct guarded x = guarded_new(m * k * sizeof(float), sizeof(float));
            float *v = (float *)x.data;
            data_fill(&r, (enum data)d, v, m * k);
            same_rows(&x, m, k);
            for (size_t i = 0; i < m * k; i += 3) // ties between two levels
                v[i] = (float)((int)(rng_next(&r) % 253) - 126) + 0.5f * (float)(i % 2);
            for (size_t i = 0; i < m * k;
                 i++) // in groups whose step is 1, by their first or second half
                v[i] = i % k % 64 == 0 || i % k % 64 == 48 ? 127.0f : v[i];
            same_rows(&x, m, k);
            if (k > 0) {
                v[rng_next(&r) % (m * k)] = d % 3 == 0 ? NAN : d % 3 == 1 ? INFINITY : -INFINITY;
                same_rows(&x, m, k);
            }
            guarded_free(&x);
        }
}

// The definition on its own: what levels stand for is the value, within half a step and what three roundings of f32
// make of the largest level.
#define NEAR (0.5 + 3 * EPS * DOTS_TOP)

static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) // (gcc 12 for arm64 does not survive a largest double of floats)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

// n of the 32 inputs that share a step, those at x, four by four; returns the sum of their levels.
static int levels_near(const int8_t *level, float step, const float *x, size_t n)
{
    int sum = 0;
    for (size_t i = 0; i < n; i++) {
        int q = level[64 * (i / 4) + i % 4];
        assert_true(fabs((double)x[i] - (double)step * q) <= NEAR * (double)step);
        sum += q;
    }
    return sum;
}

static void step_is_near(float step, const float *x)
{
    assert_true(fabs((double)step - (double)largest(x, 32) / DOTS_TOP) <= 2 * EPS * (double)step);
}

// Inputs 32 g .. 32 g + 31, which are those at x.
static void part_is_near(const struct dots_part *b, size_t g, const float *x)
{
    size_t l = dots_lane(g);
    step_is_near(b->step[l], x);
    double sum = (double)b->step[l] * levels_near(b->level + 4 * l, b->step[l], x, 32);
    assert_true(fabs(sum - (double)b->sum[l]) <= 2 * EPS * fabs(sum));
}

// Inputs 16 i .. 16 i + 15 of those at x.
static void half_is_near(const struct dots_half *b, size_t i, const float *x)
{
    size_t l = dots_lane_half(i % DOTS_LANES);
    step_is_near(b->step[l], x + 32 * (i / 2));
    assert_int_equal(b->base[l], -128 * levels_near(b->level + 4 * l, b->step[l], x + 16 * i, 16));
}

static void levels_are_near(void **state)
{
    (void)state;
    struct rng r = {32};
    const struct product_kernels *p = &all.k[0].dots;
    for (int run = 0; run < 400; run++) {
        float x[DOTS_PART];
        _Alignas(64) uint8_t row[DOTS_PART_BYTES + 64];
        data_fill(&r, DATA_RANDOM, x, DOTS_PART);
        p->prepare(p, row, x, DOTS_PART, 1, DOTS_PART);
        for (size_t g = 0; g < DOTS_LANES; g++)
            part_is_near((const void *)row, g, x + 32 * g);
        for (size_t i = 0; i < 2 * DOTS_LANES; i++)
            half_is_near(halves_of(row, DOTS_PART) + i / DOTS_LANES, i, x);
    }
}

// ---- products

struct task {
    size_t m, n, k;
    enum dtype t;
    struct guarded x, w, px, bias;
    float *plain; // [n, k]
};

static struct task task_new(struct rng *r, size_t m, size_t n, size_t k, enum dtype t)
{
    const struct product_kernels *p = &all.k[0].dots;
    struct task a = {.m = m, .n = n, .k = k, .t = t};
    a.x = guarded_new(m * k * sizeof(float), sizeof(float));
    a.w = guarded_new(dtype_span(t, n * k), 1);
    a.px = guarded_new(m * product_x_stride(p, k), 64);
    a.bias = guarded_new(n * sizeof(float), sizeof(float));
    data_fill(r, DATA_RANDOM, (float *)a.x.data, m * k);
    for (size_t i = 0; i < m * k; i += 1 + rng_next(r) % 90) // outliers
        ((float *)a.x.data)[i] *= 50;
    blocks_fill(r, a.w.data, t, n * k / dtype_block(t));
    for (size_t o = 0; o < n; o++)
        ((float *)a.bias.data)[o] = (float)o * 0.25f;
    p->prepare(p, a.px.data, (float *)a.x.data, k, m, k);
    a.plain = malloc(n * k * sizeof(float) + 1);
    if (!a.plain)
        abort();
    dtype_to_f32(a.plain, a.w.data, t, n * k);
    return a;
}

static void task_free(struct task *a)
{
    guarded_free(&a->x);
    guarded_free(&a->w);
    guarded_free(&a->px);
    guarded_free(&a->bias);
    free(a->plain);
}

static struct product_job job_of(const struct task *a, float *y)
{
    return (struct product_job){.y = y,
                                .y_stride = a->n,
                                .x = a->px.data,
                                .w = a->w.data,
                                .w_stride = a->k,
                                .w_type = a->t,
                                .m = a->m,
                                .n = a->n,
                                .k = a->k};
}

// Of an output: the product of the values, how far rounding x to levels may take it, and its size for the gate of
// f32 sums, each weight as large as its block's largest, since levels and minimum are summed apart.
struct expected {
    double value, rounding, size;
};

static struct expected expect(const struct task *a, size_t r, size_t o)
{
    struct expected e = {0};
    const float *x = (const float *)a->x.data + r * a->k, *w = a->plain + o * a->k;
    size_t block = dtype_block(a->t);
    for (size_t b = 0; b < a->k; b += block) {
        double most = 0;
        for (size_t i = b; i < b + block; i++)
            most = fmax(most, fabs((double)w[i]));
        for (size_t l = b; l < b + block; l += 32) {
            double top = 0, weights = 0;
            for (size_t i = l; i < l + 32; i++) {
                e.value += (double)x[i] * (double)w[i];
                top = fmax(top, fabs((double)x[i]));
                weights += fabs((double)w[i]);
            }
            e.rounding += NEAR / DOTS_TOP * top * weights;
            e.size += 32 * top * most;
        }
    }
    return e;
}

static void check_task(struct task *a)
{
    struct guarded want = guarded_new(a->m * a->n * sizeof(float), sizeof(float));
    struct expected *expected = calloc(a->m * a->n + 1, sizeof *expected);
    if (!expected)
        abort();
    for (size_t c = 0; c < a->m * a->n; c++) // most of the work, and the same for every tier
        expected[c] = expect(a, c / a->n, c % a->n);
    for (size_t i = 0; i < all.n; i++) {
        if (!is_new(i))
            continue;
        const struct product_kernels *p = &all.k[i].dots;
        struct guarded y = guarded_new(a->m * a->n * sizeof(float), sizeof(float));
        for (int add = 0; add < 2; add++) {
            struct product_job j = job_of(a, (float *)y.data);
            j.bias = (float *)a->bias.data;
            j.add = add != 0;
            p->few(p, &j);
            j.y = (float *)want.data;
            if (i == 0)
                memcpy(want.data, y.data, y.bytes);
            else
                all.k[0].dots.few(&all.k[0].dots, &j);
            for (size_t c = 0; c < a->m * a->n; c++) {
                struct expected e = expected[c];
                double start = (double)(c % a->n) * 0.25, got = (double)((float *)y.data)[c];
                double gate = (6 + 2 * sqrt((double)a->k)) * EPS * (e.size + 4 * start) * (add + 1);
                double plain = (double)((float *)want.data)[c];
                double far = (add + 1) * (e.value + start), near = (add + 1) * e.rounding + gate;
                if (!(fabs(got - plain) <= gate))
                    fail_msg("%s %s m %zu n %zu k %zu: y[%zu] is %.9g, plain %.9g +- %.3g",
                             cpu_tier_name(all.k[i].tier), dtype_name(a->t), a->m, a->n, a->k, c,
                             got, plain, gate);
                if (!(fabs(got - far) <= near))
                    fail_msg("%s %s m %zu n %zu k %zu: y[%zu] is %.9g, expected %.9g +- %.3g",
                             cpu_tier_name(all.k[i].tier), dtype_name(a->t), a->m, a->n, a->k, c,
                             got, far, near);
            }
        }
        assert_true(guarded_intact(&y) && guarded_intact(&a->w) && guarded_intact(&a->px));
        guarded_free(&y);
    }
    free(expected);
    guarded_free(&want);
}

static void every_length(void **state)
{
    (void)state;
    struct rng r = {33};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t m = 0; m <= KERNEL_FEW_ROWS; m++)
            for (size_t blocks = 0; blocks <= (dtype_block(t) == BLOCK_SUPER ? 6 : 37); blocks++) {
                struct task a = task_new(&r, m, (m + blocks) % 4 + (blocks == 5 ? 17 : 0),
                                         blocks * dtype_block(t), t);
                check_task(&a);
                task_free(&a);
            }
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {34};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t m = 1; m <= KERNEL_FEW_ROWS; m++) { // most have stretches of their own
            size_t n = m == 1 || (!short_run && m == KERNEL_FEW_ROWS) ? 21 : 3;
            struct task a = task_new(&r, m, n, 14336, t),
                        b = task_new(&r, m, short_run ? 5 : 35, 4096, t);
            check_task(&a);
            check_task(&b);
            task_free(&a);
            task_free(&b);
        }
}

// A row alone is the row among others; a part of the outputs is the part of all; wherever weights are asked for.
static void same_bits(void **state)
{
    (void)state;
    struct rng r = {35};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t i = 0; i < all.n; i++) {
            struct product_kernels p[2] = {all.k[i].dots, all.k[i].dots};
            p[0].ask_l2 = false, p[1].ask_l2 = true;
            // a second stretch but for one row; of two and of four rows it is less than a step
            size_t k = 17 * BLOCK_SUPER + (dtype_block(t) == BLOCK_SUPER ? 0 : 5 * BLOCK_SMALL);
            struct task a = task_new(&r, 8, 37, k, t);
            float whole[8 * 37], part[8 * 37];
            struct product_job j = job_of(&a, whole);
            if (!is_new(i)) {
                task_free(&a);
                continue;
            }
            p->few(p, &j);
            for (size_t m = 1; m < 8; m++)
                for (size_t row = 0; row < a.m; row += m)
                    for (size_t o = 0; o < a.n; o += 7 * m) {
                        j.y = part + row * a.n + o;
                        j.x = (char *)a.px.data + row * product_x_stride(p, a.k);
                        j.w = (char *)a.w.data + o * dtype_span(t, a.k);
                        j.m = min_size(m, a.m - row);
                        j.n = min_size(7 * m, a.n - o);
                        p[row % 2].few(&p[row % 2], &j);
                        if (row + m >= a.m && o + 7 * m >= a.n)
                            assert_memory_equal(whole, part, sizeof whole);
                    }
            task_free(&a);
        }
}

// Rows of W that lie farther apart than they are long: what is between them does not count.
static void rows_apart(void **state)
{
    (void)state;
    struct rng r = {37};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t i = 0; i < all.n; i++) {
            if (!is_new(i))
                continue;
            const struct product_kernels *p = &all.k[i].dots;
            struct task a = task_new(&r, KERNEL_FEW_ROWS, 19, 5 * BLOCK_SUPER, t);
            const size_t stride = a.k + 3 * BLOCK_SUPER, row = dtype_span(t, a.k);
            const size_t apart = dtype_span(t, stride);
            struct guarded w = guarded_new((a.n - 1) * apart + row, 1);
            memset(w.data, 0xff, w.bytes);
            for (size_t o = 0; o < a.n; o++)
                memcpy((char *)w.data + o * apart, (char *)a.w.data + o * row, row);
            float y[KERNEL_FEW_ROWS * 19], wide[KERNEL_FEW_ROWS * 19];
            for (size_t m = 1; m <= a.m; m++) {
                struct product_job j = job_of(&a, y);
                j.m = m;
                p->few(p, &j);
                j.y = wide, j.w = w.data, j.w_stride = stride;
                p->few(p, &j);
                assert_memory_equal(y, wide, m * a.n * sizeof *y);
            }
            guarded_free(&w);
            task_free(&a);
        }
}

// A NaN or an infinity in a row makes its results NaN and leaves the others alone.
static void not_finite(void **state)
{
    (void)state;
    struct rng r = {36};
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t i = 0; i < 3 * all.n; i++) {
            const struct product_kernels *p = &all.k[i / 3].dots;
            struct task a = task_new(&r, 3, 5, 512, t);
            float y[3 * 5];
            struct product_job j = job_of(&a, y);
            ((float *)a.x.data)[512 + 300] = odd[i % 3];
            p->prepare(p, a.px.data, (float *)a.x.data, 512, 3, 512);
            p->few(p, &j);
            for (size_t c = 0; c < 15; c++)
                assert_true(isnan(y[c]) == (c / 5 == 1));
            task_free(&a);
        }
}

// ---- speed

struct timed {
    const struct product_kernels *p;
    struct product_job j;
};

static void timed_few(void *arg)
{
    struct timed *t = arg;
    t->p->few(t->p, &t->j);
}

static void timed_prepare(void *arg)
{
    struct timed *t = arg;
    static float x[4096];
    t->p->prepare(t->p, (void *)(uintptr_t)t->j.x, x, 0, t->j.m, t->j.k);
}

static int bench(void)
{
    struct rng r = {37};
    const size_t k = 4096;
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        const struct product_kernels *p = &all.k[all.n - 1].dots;
        struct guarded w = guarded_new(dtype_span(t, 16384 * k), 64);
        struct guarded x = guarded_new(8 * product_x_stride(p, k), 64);
        struct guarded y = guarded_new(8 * 16384 * sizeof(float), 64);
        blocks_fill(&r, w.data, t, 16384 * k / dtype_block(t));
        memset(x.data, 0, x.bytes);
        struct timed a = {p,
                          {.y = (float *)y.data,
                           .y_stride = 16384,
                           .x = x.data,
                           .w = w.data,
                           .w_stride = k,
                           .w_type = t,
                           .n = 64,
                           .k = k}};
        printf("%-5s ns a 256 weights, in L2:", dtype_name(t));
        for (a.j.m = 1; a.j.m <= 8; a.j.m *= 2)
            printf(" %6.2f", time_best(timed_few, &a) * 1e9 / (64 * 16));
        a.j.n = 16384;
        printf("; GB/s from memory:");
        for (a.j.m = 1; a.j.m <= 8; a.j.m *= 2)
            printf(" %5.1f", (double)w.bytes * 1e-9 / time_best(timed_few, &a));
        a.j.m = 8;
        printf("; x %5.2f\n", time_best(timed_prepare, &a) * 1e9 / (8 * 16));
        guarded_free(&w);
        guarded_free(&x);
        guarded_free(&y);
    }
    return 0;
}

int main(int argc, char **argv)
{
    all = tiers_all();
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    short_run = argc > 1 && strcmp(argv[1], "--short") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_rows), cmocka_unit_test(levels_are_near),
        cmocka_unit_test(every_length),  cmocka_unit_test(model_sizes),
        cmocka_unit_test(same_bits),     cmocka_unit_test(rows_apart),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
