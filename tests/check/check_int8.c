// SPDX-License-Identifier: MIT
// Checks the int8 products of every tier this processor has: levels and steps are the plain tier's to the bit, for
// every type, length and kind of data; sums are the exact integers; steps join them within rounding; the distance
// to the product of the values themselves is what rounding to levels allows; a row's bits do not depend on the
// other rows or on the cut; everything against guard pages. `--bench` measures instead; `--short` is for emulators and
// sanitizers: one of the large shapes with random data only.
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

enum { BLOCK = KERNEL_INT8_BLOCK };

static struct tiers all;
static bool short_run;

static bool is_plain(enum dtype t)
{
    return t == DT_F32 || t == DT_F16 || t == DT_BF16;
}

static bool has_products(enum dtype t)
{
    return is_plain(t) || dtype_is_block(t);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

// n weights at w, of plain types from data d.
static void fill(struct rng *r, void *w, enum dtype t, size_t n, enum data d)
{
    if (!is_plain(t)) {
        blocks_fill(r, w, t, n / dtype_block(t));
        return;
    }
    float *v = must(malloc(n * sizeof *v + 1));
    data_fill(r, t == DT_F16 && d == DATA_HUGE ? DATA_RANDOM : d, v, n);
    weights_store(w, t, v, n);
    free(v);
}

// ---- levels

static void same_levels(const void *w, enum dtype t, size_t n)
{
    int8_t want[BLOCK];
    float step = all.k[0].int8.levels(want, w, t, n);
    for (size_t i = 1; i < all.n; i++) {
        struct guarded q = guarded_new(BLOCK, 64); // kernels may write whole vectors
        float got = all.k[i].int8.levels(q.data, w, t, n);
        if (memcmp(&got, &step, sizeof got) != 0 && !(isnan(got) && isnan(step)))
            fail_msg("%s %s n %zu: step %.9g, expected %.9g", cpu_tier_name(all.k[i].tier),
                     dtype_name(t), n, (double)got, (double)step);
        for (size_t b = 0; b < n; b++)
            if (((int8_t *)q.data)[b] != want[b])
                fail_msg("%s %s n %zu: level %zu is %d, expected %d", cpu_tier_name(all.k[i].tier),
                         dtype_name(t), n, b, ((int8_t *)q.data)[b], want[b]);
        assert_true(guarded_intact(&q));
        guarded_free(&q);
    }
}

static void levels_of_plain(void **state)
{
    (void)state;
    struct rng r = {21};
    for (enum dtype t = 0; t < DT_N; t++)
        for (size_t n = 0; is_plain(t) && n <= BLOCK; n++)
            for (int d = 0; d < DATA_N; d++) {
                struct guarded w = guarded_new(n * dtype_bytes(t), 1);
                fill(&r, w.data, t, n, (enum data)d);
                same_levels(w.data, t, n);
                if (n > 0) { // what is not finite
                    float bad = n % 3 == 0 ? NAN : n % 3 == 1 ? INFINITY : -INFINITY;
                    weights_store((uint8_t *)w.data + rng_next(&r) % n * dtype_bytes(t), t, &bad,
                                  1);
                    same_levels(w.data, t, n);
                }
                assert_true(guarded_intact(&w));
                guarded_free(&w);
            }
}

static void levels_of_blocks(void **state)
{
    (void)state;
    struct rng r = {22};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (int i = 0; i < 400; i++) {
            size_t n = dtype_block(t) * (1 + rng_next(&r) % (BLOCK / dtype_block(t)));
            struct guarded w = guarded_new(dtype_span(t, n), 1);
            blocks_fill(&r, w.data, t, n / dtype_block(t));
            for (size_t b = 0; i % 2 && b < w.bytes; b++) // scales that no quantiser makes
                ((uint8_t *)w.data)[b] = (uint8_t)(rng_next(&r) >> 9);
            if (i % 8 == 0)
                memset(w.data, i % 16 ? 0 : 0x80, w.bytes);
            same_levels(w.data, t, n);
            assert_true(guarded_intact(&w));
            guarded_free(&w);
        }
}

// The definition, on its own: step = max / 127, level = nearest to value / step; what blocks hold comes back.
static void levels_are_near(void **state)
{
    (void)state;
    struct rng r = {23};
    for (enum dtype t = 0; t < DT_N; t++)
        for (int i = 0; has_products(t) && i < 50; i++) {
            uint8_t w[BLOCK * sizeof(float)];
            float v[BLOCK], most = 0;
            int8_t q[BLOCK];
            fill(&r, w, t, BLOCK, DATA_RANDOM);
            dtype_to_f32(v, w, t, BLOCK);
            float step = all.k[0].int8.levels(q, w, t, BLOCK);
            for (size_t b = 0; b < BLOCK; b++) {
                most = fmaxf(most, fabsf(v[b]));
                assert_true(fabs((double)v[b] - (double)step * q[b]) <= 0.50001 * (double)step);
            }
            if (is_plain(t))
                assert_true(step == most / 127);
            else // blocks allow no more than twice what they hold
                assert_true(step >= most / 128.001f && step <= most / 60);
        }
}

// ---- products

struct task {
    size_t m, n, k, x_stride, y_stride;
    enum dtype t;
    struct guarded x, w;
    float *v;    // [n, k], the weights' values
    float *bias; // [n]
};

// What y [m, n] must be, without what it starts from.
struct answer {
    double sum, size;  // of the levels, and of their absolute values
    double exact, far; // of the values, and how far half a step a factor takes it
};

static struct task task_new(struct rng *r, size_t m, size_t n, size_t k, enum dtype t, enum data d)
{
    struct task a = {.m = m, .n = n, .k = k, .t = t};
    a.x_stride = k + rng_next(r) % 3;
    a.y_stride = n + rng_next(r) % 3;
    a.x = guarded_new(m ? ((m - 1) * a.x_stride + k) * sizeof(float) : 0, sizeof(float));
    a.w = guarded_new(dtype_span(t, n * k), 1);
    data_fill(r, d, a.x.data, a.x.bytes / sizeof(float));
    fill(r, a.w.data, t, n * k, d);
    a.v = must(malloc(n * k * sizeof(float) + 1));
    a.bias = must(malloc(n * sizeof(float) + 1));
    dtype_to_f32(a.v, a.w.data, t, n * k);
    data_fill(r, DATA_RANDOM, a.bias, n);
    return a;
}

static void task_free(struct task *a)
{
    assert_true(guarded_intact(&a->x) && guarded_intact(&a->w));
    guarded_free(&a->x);
    guarded_free(&a->w);
    free(a->v);
    free(a->bias);
}

static size_t steps_at(const struct product_kernels *p, size_t k)
{
    return (k + 31) / 32 * 32 * p->x_elem;
}

static int level_at(const struct product_kernels *p, const uint8_t *row, size_t i)
{
    int16_t wide;
    if (p->x_elem == 1)
        return (int8_t)row[i];
    memcpy(&wide, row + 2 * i, sizeof wide);
    return wide;
}

// Prepared rows, their levels and steps compared with those of `levels`.
static struct guarded prepared(const struct product_kernels *p, const struct task *a)
{
    size_t stride = product_x_stride(p, a->k);
    struct guarded px = guarded_new(a->m * stride, 64);
    p->prepare(p, px.data, a->x.data, a->x_stride, a->m, a->k);
    for (size_t row = 0; row < a->m; row++) {
        const uint8_t *got = (const uint8_t *)px.data + row * stride;
        const float *x = (const float *)a->x.data + row * a->x_stride;
        size_t end = steps_at(p, a->k);
        for (size_t i = 0; i < a->k; i += BLOCK) {
            size_t n = min_size(BLOCK, a->k - i);
            int8_t q[BLOCK];
            struct int8_step s;
            float step = all.k[0].int8.levels(q, x + i, DT_F32, n);
            int32_t base = 0;
            memcpy(&s, got + end, sizeof s);
            end += sizeof s;
            assert_true(s.step == step || (isnan(s.step) && isnan(step)));
            for (size_t o = 0; o < n; o++) {
                assert_int_equal(level_at(p, got, i + o), q[o]);
                base -= 128 * q[o];
            }
            assert_int_equal(s.base, base);
        }
        for (size_t b = a->k * p->x_elem; b < steps_at(p, a->k); b++)
            assert_int_equal(got[b], 0);
        for (; end < stride; end++)
            assert_int_equal(got[end], 0);
    }
    assert_true(guarded_intact(&px));
    return px;
}

static struct guarded multiply(const struct product_kernels *p, const struct task *a, bool bias,
                               bool add)
{
    struct guarded px = prepared(p, a);
    struct guarded y =
        guarded_new(a->m ? ((a->m - 1) * a->y_stride + a->n) * sizeof(float) : 0, sizeof(float));
    struct guarded scratch = guarded_new(p->scratch_bytes, KERNEL_SCRATCH_ALIGN);
    struct product_job j = {.y = y.data,
                            .y_stride = a->y_stride,
                            .x = px.data,
                            .w = a->w.data,
                            .w_stride = a->k,
                            .w_type = a->t,
                            .m = a->m,
                            .n = a->n,
                            .k = a->k,
                            .bias = bias ? a->bias : NULL,
                            .add = add};
    for (size_t i = 0; add && i < a->m; i++)
        for (size_t o = 0; o < a->n; o++)
            j.y[i * a->y_stride + o] = (float)(i + o) * 0.125f;
    p->many(p, &j, scratch.data);
    assert_true(guarded_intact(&y) && guarded_intact(&px) && guarded_intact(&scratch));
    guarded_free(&px);
    guarded_free(&scratch);
    return y;
}

// Levels of rows of length k and their steps: q [rows, k], step [rows, blocks].
static void levels_of(const void *data, size_t stride, enum dtype t, size_t rows, size_t k,
                      int8_t *q, double *step)
{
    for (size_t i = 0; i < rows; i++) {
        const uint8_t *at = (const uint8_t *)data + dtype_span(t, i * stride);
        for (size_t b = 0; b < k; b += BLOCK)
            *step++ = (double)all.k[0].int8.levels(q + i * k + b, at + dtype_span(t, b), t,
                                                   min_size(BLOCK, k - b));
    }
}

// [m, n], once for all tiers; caller frees.
static struct answer *answers(const struct task *a)
{
    const size_t n_block = (a->k + BLOCK - 1) / BLOCK;
    struct answer *all_of = must(calloc(a->m * a->n + 1, sizeof *all_of));
    int8_t *qx = must(malloc((a->m + a->n) * a->k + 1)), *qw = qx + a->m * a->k;
    double *sx = must(malloc((a->m + a->n) * n_block * sizeof *sx + 1)), *sw = sx + a->m * n_block;
    levels_of(a->x.data, a->x_stride, DT_F32, a->m, a->k, qx, sx);
    levels_of(a->w.data, a->k, a->t, a->n, a->k, qw, sw);
    for (size_t y = 0; y < a->m * a->n; y++) {
        const size_t i = y / a->n, o = y % a->n;
        const float *x = (const float *)a->x.data + i * a->x_stride, *w = a->v + o * a->k;
        struct answer *to = &all_of[y];
        for (size_t b = 0; b < a->k; b += BLOCK) {
            double step_x = sx[i * n_block + b / BLOCK], step_w = sw[o * n_block + b / BLOCK];
            long inner = 0;
            for (size_t e = b; e < min_size(b + BLOCK, a->k); e++) {
                inner += qx[i * a->k + e] * qw[o * a->k + e];
                to->exact += (double)x[e] * (double)w[e];
                to->far += 0.5001 * (step_x * fabs((double)w[e]) + step_w * fabs((double)x[e])) +
                           0.2501 * step_x * step_w;
            }
            to->sum += step_x * step_w * (double)inner;
            to->size += fabs(step_x * step_w * (double)inner);
        }
    }
    free(qx);
    free(sx);
    return all_of;
}

// y[i][o] within rounding of what the levels give, and within half a step a factor of the values' product.
static void check_one(const char *tier, const struct task *a, const struct answer *want, size_t i,
                      size_t o, double got, double start)
{
    const size_t n_block = (a->k + BLOCK - 1) / BLOCK;
    double sum = start + want->sum, exact = start + want->exact;
    double gate = (3.0 + (double)n_block) * EPS * (want->size + fabs(start)) +
                  (double)(n_block + 1) * 0x1p-125;
    if (!(fabs(got - sum) <= gate))
        fail_msg("%s %s m %zu n %zu k %zu: y[%zu][%zu] is %.9g, the levels give %.9g +- %.2g", tier,
                 dtype_name(a->t), a->m, a->n, a->k, i, o, got, sum, gate);
    if (!(fabs(got - exact) <= want->far + gate + (double)a->k * 0x1p-100))
        fail_msg("%s %s m %zu n %zu k %zu: y[%zu][%zu] is %.9g, the values give %.9g +- %.2g", tier,
                 dtype_name(a->t), a->m, a->n, a->k, i, o, got, exact, want->far);
}

static void check_shape(struct rng *r, size_t m, size_t n, size_t k, enum dtype t, enum data d)
{
    struct task a = task_new(r, m, n, k, t, d);
    struct answer *want = answers(&a);
    bool bias = rng_next(r) % 2, add = rng_next(r) % 2;
    for (size_t q = 0; q < all.n; q++) {
        struct guarded y = multiply(&all.k[q].int8, &a, bias, add);
        for (size_t i = 0; i < m; i++)
            for (size_t o = 0; o < n; o++)
                check_one(cpu_tier_name(all.k[q].tier), &a, &want[i * n + o], i, o,
                          (double)((float *)y.data)[i * a.y_stride + o],
                          (bias ? (double)a.bias[o] : 0) + (add ? (double)(i + o) * 0.125 : 0));
        guarded_free(&y);
    }
    free(want);
    task_free(&a);
}

static void every_size(void **state)
{
    (void)state;
    struct rng r = {24};
    static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16};
    for (size_t i = 0; i < 3; i++) {
        for (size_t n = 0; n <= 3 * 64 + 2; n += n < 70 ? 1 : 7)
            check_shape(&r, 2, n, 37, types[i], DATA_RANDOM);
        for (size_t k = 0; k <= 3 * 64 + 2; k++)
            check_shape(&r, 3, 21, k, types[i], DATA_RANDOM);
        for (size_t k = 250; k <= 2 * BLOCK + 70; k += 3)
            check_shape(&r, 2, 18, k, types[i], DATA_RANDOM);
        for (size_t m = 0; m <= 20; m++)
            check_shape(&r, m, 33, 35, types[i], DATA_RANDOM);
    }
}

static void every_type(void **state)
{
    (void)state;
    struct rng r = {25};
    for (enum dtype t = 0; t < DT_N; t++)
        for (int d = 0; has_products(t) && d < DATA_N; d++) {
            check_shape(&r, 7, 83, 3 * BLOCK, t, (enum data)d);
            if (!short_run || d == DATA_RANDOM)
                check_shape(&r, 9, 70, 5 * BLOCK, t, (enum data)d);
            if (dtype_block(t) == 32)
                check_shape(&r, 4, 17, 32 * 13, t, (enum data)d);
        }
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {26};
    check_shape(&r, 7, 70, 4096, DT_Q4_K, DATA_POSITIVE);
    check_shape(&r, 3, 20, 14336, DT_Q6_K, DATA_POSITIVE);
    check_shape(&r, 13, 66, 1408, DT_F32, DATA_POSITIVE);
    check_shape(&r, 9, 66, 6144, DT_BF16, DATA_RANDOM);
    check_shape(&r, 13, 130, 588, DT_F32, DATA_RANDOM);
    check_shape(&r, 401, 20, 70, DT_F16, DATA_RANDOM);
}

// With steps of one the sums themselves can be read from y: the largest there are, and random ones, are equal
// in every tier, and are the integers.
static void exact_sums(void **state)
{
    (void)state;
    struct rng r = {27};
    enum { M = 11, N = 83 };
    for (size_t k = 1; k <= BLOCK; k += k < 40 ? 1 : 27) {
        struct task a = task_new(&r, M, N, k, DT_F32, DATA_ZERO);
        float *x = a.x.data, *w = a.w.data;
        for (size_t i = 0; i < M; i++)
            for (size_t e = 0; e < k; e++)
                x[i * a.x_stride + e] = i == 0   ? 127
                                        : i == 1 ? -127
                                        : e == rng_next(&r) % k
                                            ? 127
                                            : (float)((int)(rng_next(&r) % 255) - 127);
        for (size_t o = 0; o < N; o++)
            for (size_t e = 0; e < k; e++)
                w[o * k + e] = o == 0   ? 127
                               : o == 1 ? -127
                                        : (float)((int)(rng_next(&r) % 255) - 127);
        for (size_t i = 2; i < M; i++)
            x[i * a.x_stride + rng_next(&r) % k] = -127;
        for (size_t o = 2; o < N; o++)
            w[o * k + rng_next(&r) % k] = 127;
        for (size_t q = 0; q < all.n; q++) {
            struct guarded y = multiply(&all.k[q].int8, &a, false, false);
            for (size_t i = 0; i < M; i++)
                for (size_t o = 0; o < N; o++) {
                    long sum = 0;
                    for (size_t e = 0; e < k; e++)
                        sum += (long)x[i * a.x_stride + e] * (long)w[o * k + e];
                    float got = ((float *)y.data)[i * a.y_stride + o];
                    if (got != (float)sum)
                        fail_msg("%s k %zu: sum %zu,%zu is %.9g, expected %ld",
                                 cpu_tier_name(all.k[q].tier), k, i, o, (double)got, sum);
                }
            guarded_free(&y);
        }
        task_free(&a);
    }
}

static void check_part(const struct product_kernels *p, const struct task *a,
                       const struct guarded *whole, size_t i, size_t m, size_t o, size_t n)
{
    struct task part = *a;
    part.m = m;
    part.n = n;
    part.x.data = (float *)a->x.data + i * a->x_stride;
    part.w.data = (uint8_t *)a->w.data + dtype_span(a->t, o * a->k);
    part.bias = a->bias + o;
    struct guarded y = multiply(p, &part, true, false);
    for (size_t q = 0; q < m; q++)
        assert_memory_equal((float *)y.data + q * a->y_stride,
                            (float *)whole->data + (i + q) * a->y_stride + o, n * sizeof(float));
    guarded_free(&y);
}

static void same_bits(void **state)
{
    (void)state;
    struct rng r = {28};
    static const enum dtype types[] = {DT_F32, DT_Q4_K};
    for (size_t t = 0; t < 2; t++) {
        struct task a = task_new(&r, 23, 171, 5 * BLOCK, types[t], DATA_RANDOM);
        for (size_t q = 0; q < all.n; q++) {
            struct guarded y = multiply(&all.k[q].int8, &a, true, false);
            for (size_t i = 0; i < 6; i++) {
                size_t m = 1 + rng_next(&r) % a.m, n = 1 + rng_next(&r) % a.n;
                check_part(&all.k[q].int8, &a, &y, rng_next(&r) % (a.m - m + 1), m,
                           rng_next(&r) % (a.n - n + 1), n);
            }
            guarded_free(&y);
        }
        task_free(&a);
    }
}

// What is not finite in a row of x makes that row of y a NaN, in a row of w that column.
static void nan_stays(void **state)
{
    (void)state;
    struct rng r = {29};
    for (enum dtype t = 0; t < DT_N; t++) {
        if (!is_plain(t))
            continue;
        struct task a = task_new(&r, 8, 37, 2 * BLOCK + 19, t, DATA_RANDOM);
        size_t row = rng_next(&r) % a.m, col = rng_next(&r) % a.n;
        ((float *)a.x.data)[row * a.x_stride + rng_next(&r) % a.k] = INFINITY;
        float nan = NAN;
        weights_store((uint8_t *)a.w.data + (col * a.k + rng_next(&r) % a.k) * dtype_bytes(t), t,
                      &nan, 1);
        for (size_t q = 0; q < all.n; q++) {
            struct guarded y = multiply(&all.k[q].int8, &a, false, false);
            for (size_t i = 0; i < a.m; i++)
                for (size_t o = 0; o < a.n; o++)
                    if (!isnan(((float *)y.data)[i * a.y_stride + o]) != (i != row && o != col))
                        fail_msg("%s: NaN at %zu,%zu", cpu_tier_name(all.k[q].tier), i, o);
            guarded_free(&y);
        }
        task_free(&a);
    }
}

// ---- speed

struct timed {
    const struct product_kernels *p;
    struct product_job j;
    const float *x;
    void *px, *scratch;
};

static void timed_many(void *arg)
{
    struct timed *t = arg;
    t->p->many(t->p, &t->j, t->scratch);
}

static void timed_prepare(void *arg)
{
    struct timed *t = arg;
    t->p->prepare(t->p, t->px, t->x, t->j.k, t->j.m, t->j.k);
}

static void timed_tile(void *arg)
{
    const struct timed *t = arg;
    for (int i = 0; i < 1000; i++)
        t->p->tile(t->scratch);
}

static void timed_levels(void *arg)
{
    const struct timed *t = arg;
    int8_t q[BLOCK];
    for (size_t o = 0; o < t->j.n; o++)
        for (size_t i = 0; i < t->j.k; i += BLOCK)
            t->p->levels(q, (const uint8_t *)t->j.w + dtype_span(t->j.w_type, o * t->j.k + i),
                         t->j.w_type, min_size(BLOCK, t->j.k - i));
}

// GOP/s of the tile kernel on data that stay in L1.
static double tile_rate(const struct product_kernels *p)
{
    enum { ROWS = 6 };
    size_t stride = product_x_stride(p, BLOCK);
    struct guarded x = guarded_new(ROWS * stride, 64);
    struct guarded panel = guarded_new(p->panel * (4 + BLOCK * p->x_elem), 64);
    struct guarded y = guarded_new(ROWS * p->panel * sizeof(float), 64);
    memset(x.data, 0, x.bytes);
    memset(panel.data, 0, panel.bytes);
    memset(y.data, 0, y.bytes);
    struct tile_job tile = {.y = y.data,
                            .y_stride = p->panel,
                            .x = x.data,
                            .x_stride = stride,
                            .steps = (uint8_t *)x.data + BLOCK * p->x_elem,
                            .panel = panel.data,
                            .m = ROWS,
                            .n = p->panel,
                            .k = BLOCK,
                            .add = true};
    struct timed t = {.p = p, .scratch = &tile};
    double sec = time_best(timed_tile, &t);
    guarded_free(&x);
    guarded_free(&panel);
    guarded_free(&y);
    return 2e-6 * ROWS * (double)p->panel * BLOCK / sec;
}

static void bench_shape(const struct kernels *k, size_t m, size_t n, size_t kk, enum dtype type)
{
    const struct product_kernels *p = &k->int8;
    struct rng r = {30};
    struct guarded px = guarded_new(m * product_x_stride(p, kk), 64);
    struct guarded w = guarded_new(dtype_span(type, n * kk), 64);
    struct guarded x = guarded_new(m * kk * sizeof(float), 64);
    struct guarded y = guarded_new(m * n * sizeof(float), 64);
    struct guarded scratch = guarded_new(p->scratch_bytes, 64);
    data_fill(&r, DATA_RANDOM, x.data, m * kk);
    fill(&r, w.data, type, n * kk, DATA_RANDOM);
    struct timed t = {.p = p,
                      .j = {.y = y.data,
                            .y_stride = n,
                            .x = px.data,
                            .w = w.data,
                            .w_stride = kk,
                            .w_type = type,
                            .m = m,
                            .n = n,
                            .k = kk},
                      .x = x.data,
                      .px = px.data,
                      .scratch = scratch.data};
    double prepare = time_best(timed_prepare, &t), many = time_best(timed_many, &t);
    double levels = time_best(timed_levels, &t);
    printf("%-10s int8 m %4zu n %5zu k %5zu %-4s %8.2f ms %7.1f GOP/s; prepare %5.2f G/s; levels "
           "%5.2f G/s\n",
           cpu_tier_name(k->tier), m, n, kk, dtype_name(type), many * 1e3,
           2e-9 * (double)m * (double)n * (double)kk / many, 1e-9 * (double)(m * kk) / prepare,
           1e-9 * (double)(n * kk) / levels);
    guarded_free(&px);
    guarded_free(&w);
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&scratch);
}

static int bench(void)
{
    for (size_t i = 1; i < all.n; i++) {
        if (all.k[i].int8.tile == all.k[i - 1].int8.tile)
            continue;
        printf("%-10s int8 tile in L1 %.1f GOP/s\n", cpu_tier_name(all.k[i].tier),
               tile_rate(&all.k[i].int8));
        bench_shape(&all.k[i], 2049, 512, 1408, DT_F32);
        bench_shape(&all.k[i], 2049, 256, 6144, DT_F32);
        bench_shape(&all.k[i], 322, 2048, 4096, DT_BF16);
        for (enum dtype t = DT_Q4_0; t < DT_N; t++)
            bench_shape(&all.k[i], 322, 1024, 4096, t);
        bench_shape(&all.k[i], 322, 512, 14336, DT_Q4_K);
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
        cmocka_unit_test(levels_of_plain), cmocka_unit_test(levels_of_blocks),
        cmocka_unit_test(levels_are_near), cmocka_unit_test(exact_sums),
        cmocka_unit_test(every_size),      cmocka_unit_test(every_type),
        cmocka_unit_test(model_sizes),     cmocka_unit_test(same_bits),
        cmocka_unit_test(nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
