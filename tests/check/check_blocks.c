// SPDX-License-Identifier: MIT
// Checks products with weights in blocks, of every type and tier, against sums in double over the plain
// reader's values: `few` with the stored values as they are, `many` with them rounded in bf16; against guard
// pages; and that a row's bits depend neither on the other rows nor on the cut. `--bench` measures
// `few`; `--short` is for emulators and sanitizers: fewer rows of the model's sizes.
//
// The gate is that of check_product.c, with each weight counted as large as its block's largest: a block's
// levels and minimum are summed apart.
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
#include "tensor/blocks.h"

static struct tiers all;
static bool short_run;

struct task {
    size_t m, n, k;
    enum dtype t;
    struct guarded x, w, px;
    float *plain;   // [n, k]
    double *sum[3]; // [m, n] by rounding(), NULL until asked for
    double *size[3];
};

static struct task task_new(struct rng *r, size_t m, size_t n, size_t k, enum dtype t)
{
    struct task a = {.m = m, .n = n, .k = k, .t = t};
    a.x = guarded_new(m * k * sizeof(float), sizeof(float));
    a.w = guarded_new(dtype_span(t, n * k), 1);
    data_fill(r, DATA_RANDOM, a.x.data, m * k);
    blocks_fill(r, a.w.data, t, n * k / dtype_block(t));
    a.plain = malloc(n * k * sizeof(float) + 1);
    dtype_to_f32(a.plain, a.w.data, t, n * k);
    return a;
}

static void task_free(struct task *a)
{
    guarded_free(&a->x);
    guarded_free(&a->w);
    free(a->plain);
    for (size_t i = 0; i < 3; i++) {
        free(a->sum[i]);
        free(a->size[i]);
    }
}

// What is rounded to bf16: nothing, x, both.
static size_t rounding(const struct product_kernels *p, bool few)
{
    return !p->round ? 0 : few ? 1 : 2;
}

static double exact_one(const struct task *a, size_t r, size_t o, bool round_x, bool round_w,
                        double *size)
{
    double sum = 0;
    size_t block = dtype_block(a->t);
    const float *x = (const float *)a->x.data + r * a->k, *w = a->plain + o * a->k;
    *size = 0;
    for (size_t b = 0; b < a->k; b += block) {
        float most = 0;
        for (size_t i = b; i < b + block; i++)
            most = fmaxf(most, fabsf(w[i]));
        for (size_t i = b; i < b + block; i++) {
            double xv = (double)(round_x ? bf16_round(x[i]) : x[i]);
            sum += xv * (double)(round_w ? bf16_round(w[i]) : w[i]);
            *size += fabs(xv) * (double)most;
        }
    }
    return sum;
}

// a->sum[i] and a->size[i], once for all tiers.
static void exact(struct task *a, size_t i)
{
    size_t n = a->m * a->n;
    if (a->sum[i])
        return;
    a->sum[i] = calloc(n + 1, sizeof(double));
    a->size[i] = calloc(n + 1, sizeof(double));
    if (!a->sum[i] || !a->size[i])
        abort();
    for (size_t e = 0; e < n; e++)
        a->sum[i][e] = exact_one(a, e / a->n, e % a->n, i > 0, i > 1, &a->size[i][e]);
}

static struct product_job job_of(const struct task *a, float *y, const void *px)
{
    return (struct product_job){.y = y,
                                .y_stride = a->n,
                                .x = px,
                                .w = a->w.data,
                                .w_stride = a->k,
                                .w_type = a->t,
                                .m = a->m,
                                .n = a->n,
                                .k = a->k};
}

static void check_task(const struct kernels *k, bool bf16, bool few, struct task *a)
{
    const struct product_kernels *p = bf16 ? &k->bf16 : &k->f32;
    const size_t way = rounding(p, few);
    struct guarded px = guarded_new(a->m * product_x_stride(p, a->k), 64);
    struct guarded y = guarded_new(a->m * a->n * sizeof(float), sizeof(float));
    struct guarded bias = guarded_new(a->n * sizeof(float), sizeof(float));
    struct guarded scratch = guarded_new(p->scratch_bytes, 64);
    for (size_t o = 0; o < a->n; o++)
        ((float *)bias.data)[o] = (float)o * 0.25f;
    p->prepare(p, px.data, a->x.data, a->k, a->m, a->k);
    struct product_job j = job_of(a, y.data, px.data);
    j.bias = bias.data;
    exact(a, way);
    for (int add = 0; add < 2; add++) {
        j.add = add != 0;
        if (few)
            p->few(p, &j);
        else
            p->many(p, &j, scratch.data);
        for (size_t i = 0; i < a->m * a->n; i++) {
            double size = a->size[way][i], want = a->sum[way][i];
            double start = (double)(i % a->n) * 0.25, got = (double)((float *)y.data)[i];
            want = (add + 1) * (want + start);
            double gate = (6 + 2 * sqrt((double)a->k)) * EPS * (size + 4 * start) * (add + 1);
            if (!(fabs(got - want) <= gate))
                fail_msg("%s %s %s %s m %zu n %zu k %zu: y[%zu] is %.9g, expected %.9g +- %.3g",
                         cpu_tier_name(k->tier), bf16 ? "bf16" : "f32", few ? "few" : "many",
                         dtype_name(a->t), a->m, a->n, a->k, i, got, want, gate);
        }
    }
    assert_true(guarded_intact(&y) && guarded_intact(&scratch) && guarded_intact(&a->w));
    guarded_free(&px);
    guarded_free(&y);
    guarded_free(&bias);
    guarded_free(&scratch);
}

static void every_type(void **state)
{
    static const struct {
        size_t m, n, k; // k in blocks
    } shape[] = {{1, 1, 1}, {1, 5, 3}, {2, 3, 2}, {8, 7, 5}, {9, 70, 3}, {20, 33, 9}, {3, 4, 0}};
    (void)state;
    struct rng r = {11};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++)
        for (size_t s = 0; s < sizeof shape / sizeof shape[0]; s++) {
            struct task a = task_new(&r, shape[s].m, shape[s].n, shape[s].k * dtype_block(t), t);
            for (size_t i = 0; i < all.n; i++)
                for (int bf16 = 0; bf16 < 2; bf16++) {
                    if (a.m <= KERNEL_FEW_ROWS)
                        check_task(&all.k[i], bf16, true, &a);
                    check_task(&all.k[i], bf16, false, &a);
                }
            task_free(&a);
        }
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {12};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        struct task a = task_new(&r, 1, 6, 14336, t),
                    b = task_new(&r, short_run ? 12 : 17, 66, 4352, t);
        for (size_t i = 0; i < all.n; i++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                check_task(&all.k[i], bf16, true, &a);
                if (i > 0) // plain C takes minutes under sanitizers
                    check_task(&all.k[i], bf16, false, &b);
            }
        task_free(&a);
        task_free(&b);
    }
}

// A row alone is the row among others; a part of the outputs is the part of all.
static void same_bits(void **state)
{
    (void)state;
    struct rng r = {13};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        struct task a = task_new(&r, 8, 24, 3 * dtype_block(t), t);
        for (size_t i = 0; i < all.n; i++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                const struct product_kernels *p = bf16 ? &all.k[i].bf16 : &all.k[i].f32;
                struct guarded px = guarded_new(a.m * product_x_stride(p, a.k), 64);
                float whole[8 * 24], part[8 * 24];
                p->prepare(p, px.data, a.x.data, a.k, a.m, a.k);
                struct product_job j = job_of(&a, whole, px.data);
                p->few(p, &j);
                for (size_t row = 0; row < a.m; row++)
                    for (size_t o = 0; o < a.n; o += 7) {
                        j.y = part + row * a.n + o;
                        j.x = (char *)px.data + row * product_x_stride(p, a.k);
                        j.w = (char *)a.w.data + o * dtype_span(t, a.k);
                        j.m = 1;
                        j.n = min_size(7, a.n - o);
                        p->few(p, &j);
                    }
                assert_memory_equal(whole, part, sizeof whole);
                guarded_free(&px);
            }
        task_free(&a);
    }
}

static void unpacked_bits(void **state)
{
    (void)state;
    struct rng r = {14};
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        struct task a = task_new(&r, 0, 3, 2 * dtype_block(t), t);
        for (size_t i = 0; i < all.n; i++) {
            struct guarded out = guarded_new(a.n * a.k * sizeof(float), sizeof(float));
            all.k[i].bf16.unpack(out.data, a.w.data, t, a.n * a.k);
            if (memcmp(out.data, a.plain, out.bytes) != 0)
                fail_msg("%s %s differs", cpu_tier_name(all.k[i].tier), dtype_name(t));
            assert_true(guarded_intact(&out));
            guarded_free(&out);
        }
        task_free(&a);
    }
}

struct timed {
    const struct product_kernels *p;
    struct product_job j;
    float *unpacked;
    void *scratch;
};

static void timed_few(void *arg)
{
    struct timed *t = arg;
    t->p->few(t->p, &t->j);
}

static void timed_many(void *arg)
{
    struct timed *t = arg;
    t->p->many(t->p, &t->j, t->scratch);
}

static void timed_unpack(void *arg)
{
    struct timed *t = arg;
    for (size_t o = 0; o < t->j.n; o++)
        t->p->unpack(t->unpacked, (const char *)t->j.w + o * dtype_span(t->j.w_type, t->j.k),
                     t->j.w_type, t->j.k);
}

static int bench(void)
{
    struct rng r = {15};
    const struct product_kernels *p = &all.k[all.n - 1].bf16;
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        size_t n = 16384, k = 4096;
        struct guarded w = guarded_new(dtype_span(t, n * k), 64);
        struct guarded x = guarded_new(322 * product_x_stride(p, k), 64);
        struct guarded y = guarded_new(322 * n * sizeof(float), 64);
        struct guarded u = guarded_new(k * sizeof(float), 64),
                       s = guarded_new(p->scratch_bytes, 64);
        blocks_fill(&r, w.data, t, n * k / dtype_block(t));
        memset(x.data, 0, x.bytes);
        struct timed a = {p,
                          {.y = y.data,
                           .y_stride = n,
                           .x = x.data,
                           .w = w.data,
                           .w_stride = k,
                           .w_type = t,
                           .m = 1,
                           .n = n,
                           .k = k},
                          u.data,
                          s.data};
        double few = time_best(timed_few, &a), unpack = time_best(timed_unpack, &a);
        a.j.m = 322;
        a.j.n = 1024;
        double many = time_best(timed_many, &a);
        printf(
            "%-5s few %6.2f ms %5.1f GB/s %5.1f Gweights/s; unpack %5.2f Gweights/s; many of 322 "
            "rows %6.1f GFLOP/s\n",
            dtype_name(t), few * 1e3, (double)w.bytes * 1e-9 / few, 1e-9 * (double)(n * k) / few,
            1e-9 * (double)(n * k) / unpack, 2e-9 * 322 * 1024 * (double)k / many);
        guarded_free(&w);
        guarded_free(&x);
        guarded_free(&y);
        guarded_free(&u);
        guarded_free(&s);
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
        cmocka_unit_test(every_type),
        cmocka_unit_test(model_sizes),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(unpacked_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
