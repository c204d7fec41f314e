// SPDX-License-Identifier: MIT
// Checks the products of every tier this processor has against sums in double made here, at every size
// past three vectors, on the model's inner sizes, on hostile data, against guard pages; and that a row's
// bits do not depend on the other rows or on how the outputs are cut. `--bench` measures instead; `--short` is for
// emulators and sanitizers: fewer cuts of a smaller whole.
//
// The gate: a sum of k products whose longest chain is k roundings errs by a random walk, |d| <=
// (4 + 2 sqrt k) 2^-24 sum |x w|, far below one dropped product of the real sizes; subnormal numbers
// may count as zero.
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

struct shape {
    size_t m, n, k;
};

static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16};
static struct tiers all;
static bool short_run;

// One product's inputs and the exact answer.
struct task {
    struct shape s;
    enum dtype type;
    bool round;
    size_t x_stride, w_stride, y_stride;
    struct guarded x, w, bias, start; // start [m, n]: y's old values
    double *exact, *gate;             // [m, n], without bias and start
};

static double rounded(float v, bool round)
{
    return (double)(round ? bf16_round(v) : v);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static struct task task_new(struct rng *r, struct shape s, enum dtype type, bool round,
                            enum data data)
{
    size_t elem = dtype_bytes(type);
    struct task t = {.s = s, .type = type, .round = round};
    t.x_stride = s.k + rng_next(r) % 3;
    t.w_stride = s.k + rng_next(r) % 3;
    t.y_stride = s.n + rng_next(r) % 3;
    t.x = guarded_new(s.m ? ((s.m - 1) * t.x_stride + s.k) * sizeof(float) : 0, sizeof(float));
    t.w = guarded_new(s.n ? ((s.n - 1) * t.w_stride + s.k) * elem : 0, 1);
    t.bias = guarded_new(s.n * sizeof(float), sizeof(float));
    t.start = guarded_new(s.m * s.n * sizeof(float), sizeof(float));
    data_fill(r, data, t.x.data, t.x.bytes / sizeof(float));
    data_fill(r, DATA_RANDOM, t.bias.data, s.n);
    data_fill(r, DATA_RANDOM, t.start.data, s.m * s.n);
    float *w = must(malloc(t.w.bytes / elem * sizeof *w + 1));
    data_fill(r, type == DT_F16 && data == DATA_HUGE ? DATA_RANDOM : data, w, t.w.bytes / elem);
    weights_store(t.w.data, type, w, t.w.bytes / elem);
    dtype_to_f32(w, t.w.data, type, t.w.bytes / elem);
    t.exact = must(malloc(s.m * s.n * sizeof *t.exact + 1));
    t.gate = must(malloc(s.m * s.n * sizeof *t.gate + 1));
    double most = 1;
    for (size_t i = 0; i < t.x.bytes / sizeof(float); i++)
        most = fmax(most, fabs((double)((float *)t.x.data)[i]));
    for (size_t i = 0; i < t.w.bytes / elem; i++)
        most = fmax(most, fabs((double)w[i]));
    for (size_t i = 0; i < s.m; i++) {
        const float *x = (const float *)t.x.data + i * t.x_stride;
        for (size_t o = 0; o < s.n; o++) {
            double sum = 0, size = 0;
            for (size_t q = 0; q < s.k; q++) {
                double v = rounded(x[q], round) * rounded(w[o * t.w_stride + q], round);
                sum += v;
                size += fabs(v);
            }
            t.exact[i * s.n + o] = sum;
            t.gate[i * s.n + o] =
                (4 + 2 * sqrt((double)s.k)) * EPS * size + (double)(s.k + 1) * 0x1p-125 * most;
        }
    }
    free(w);
    return t;
}

static void task_free(struct task *t)
{
    guarded_free(&t->x);
    guarded_free(&t->w);
    guarded_free(&t->bias);
    guarded_free(&t->start);
    free(t->exact);
    free(t->gate);
}

// The prepared rows of x, and y computed by few or many; both guarded.
struct answer {
    struct guarded y, px;
};

static void run(const struct product_kernels *p, const struct task *t, bool few, bool bias,
                bool add, struct answer *a)
{
    struct shape s = t->s;
    a->px = guarded_new(s.m * product_x_stride(p, s.k), 64);
    p->prepare(p, a->px.data, t->x.data, t->x_stride, s.m, s.k);
    for (size_t i = 0; i < s.m; i++) {
        size_t stride = product_x_stride(p, s.k);
        const uint8_t *row = (const uint8_t *)a->px.data + i * stride;
        for (size_t b = s.k * p->x_elem; b < stride; b++)
            assert_true(row[b] == 0);
    }
    a->y = guarded_new(s.m ? ((s.m - 1) * t->y_stride + s.n) * sizeof(float) : 0, sizeof(float));
    float *y = a->y.data;
    for (size_t i = 0; add && i < s.m; i++)
        memcpy(y + i * t->y_stride, (const float *)t->start.data + i * s.n, s.n * sizeof *y);
    struct product_job j = {
        .y = y,
        .y_stride = t->y_stride,
        .x = a->px.data,
        .w = t->w.data,
        .w_stride = t->w_stride,
        .w_type = t->type,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .bias = bias ? t->bias.data : NULL,
        .add = add,
    };
    if (few) {
        p->few(p, &j);
        return;
    }
    struct guarded scratch = guarded_new(p->scratch_bytes, KERNEL_SCRATCH_ALIGN);
    p->many(p, &j, scratch.data);
    assert_true(guarded_intact(&scratch));
    guarded_free(&scratch);
}

static void answer_free(struct answer *a)
{
    assert_true(guarded_intact(&a->y));
    assert_true(guarded_intact(&a->px));
    guarded_free(&a->y);
    guarded_free(&a->px);
}

static void compare(const char *tier, const struct task *t, bool few, bool bias, bool add,
                    const float *y)
{
    struct shape s = t->s;
    for (size_t i = 0; i < s.m; i++) {
        for (size_t o = 0; o < s.n; o++) {
            double want = t->exact[i * s.n + o], gate = t->gate[i * s.n + o];
            double b = bias ? (double)((const float *)t->bias.data)[o] : 0;
            double c = add ? (double)((const float *)t->start.data)[i * s.n + o] : 0;
            want += b + c;
            gate += (fabs(want) + fabs(b) + fabs(c)) * 2 * EPS;
            if (bias || add) // the sum may start from them and carry them through its roundings
                gate += (4 + 2 * sqrt((double)s.k)) * EPS * (fabs(b) + fabs(c));
            double got = (double)y[i * t->y_stride + o];
            if (!(fabs(got - want) <= gate))
                fail_msg(
                    "%s %s %s %s [%zu,%zu] x [%zu,%zu]^T at %zu,%zu: %.9g, expected %.9g +- %.2g",
                    tier, t->round ? "bf16" : "f32", few ? "few" : "many", dtype_name(t->type), s.m,
                    s.k, s.n, s.k, i, o, got, want, gate);
        }
    }
}

static void check_shape(struct rng *r, struct shape s, enum dtype type, bool round, enum data data)
{
    struct task t = task_new(r, s, type, round, data);
    bool bias = rng_next(r) % 2, add = rng_next(r) % 2;
    for (size_t i = 0; i < all.n; i++) {
        const struct product_kernels *p = round ? &all.k[i].bf16 : &all.k[i].f32;
        for (int few = 0; few < 2; few++) {
            if (few && s.m > KERNEL_FEW_ROWS)
                continue;
            struct answer a;
            run(p, &t, few, bias, add, &a);
            compare(cpu_tier_name(all.k[i].tier), &t, few, bias, add, a.y.data);
            answer_free(&a);
        }
    }
    assert_true(guarded_intact(&t.x) && guarded_intact(&t.w));
    task_free(&t);
}

static void every_size(void **state)
{
    (void)state;
    struct rng r = {11};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            for (size_t n = 0; n <= 3 * 64 + 2; n += n < 70 ? 1 : 7)
                check_shape(&r, (struct shape){2, n, 37}, types[i], round, DATA_RANDOM);
            for (size_t k = 0; k <= 3 * 32 + 2; k++)
                check_shape(&r, (struct shape){3, 21, k}, types[i], round, DATA_RANDOM);
            for (size_t m = 0; m <= 40; m++)
                check_shape(&r, (struct shape){m, 33, 35}, types[i], round, DATA_RANDOM);
        }
    }
}

static void hostile_data(void **state)
{
    (void)state;
    struct rng r = {12};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            for (int d = 0; d < DATA_N; d++)
                check_shape(&r, (struct shape){7, 83, 131}, types[i], round, (enum data)d);
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {13};
    static const struct shape shapes[] = {
        {1, 70, 4096},  {4, 37, 14336}, {9, 70, 6144}, {11, 66, 1408},
        {13, 130, 588}, {8, 100, 768},  {2, 300, 16},  {401, 20, 70},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int round = 0; round < 2; round++)
            check_shape(&r, shapes[i], types[i % 3], round, i % 2 ? DATA_RANDOM : DATA_POSITIVE);
}

// y [m, n] of rows [i, i + m) and outputs [o, o + n) of the task equals the same part of the whole.
static void check_part(const struct product_kernels *p, const struct task *t, bool few, bool bias,
                       const struct answer *whole, size_t i, size_t m, size_t o, size_t n)
{
    struct task part = *t;
    part.s = (struct shape){m, n, t->s.k};
    part.x.data = (float *)t->x.data + i * t->x_stride;
    part.w.data = (uint8_t *)t->w.data + o * t->w_stride * dtype_bytes(t->type);
    part.bias.data = (float *)t->bias.data + o;
    struct answer a;
    run(p, &part, few, bias, false, &a);
    for (size_t q = 0; q < m; q++) {
        const float *got = (const float *)a.y.data + q * t->y_stride;
        const float *want = (const float *)whole->y.data + (i + q) * t->y_stride + o;
        if (memcmp(got, want, n * sizeof *got) != 0)
            fail_msg("%s: rows [%zu,+%zu) outputs [%zu,+%zu) differ from the whole",
                     few ? "few" : "many", i, m, o, n);
    }
    answer_free(&a);
}

static void same_bits(void **state)
{
    (void)state;
    struct rng r = {14};
    for (int round = 0; round < 2; round++) {
        for (int few = 0; few < 2; few++) {
            struct shape s = {few         ? 8
                              : short_run ? 19
                                          : 41,
                              short_run ? 141 : 301,
                              few ? 1201 : 2401}; // more than are packed at a time
            struct task t = task_new(&r, s, types[rng_next(&r) % 3], round, DATA_RANDOM);
            for (size_t q = 1; q < all.n; q++) { // ref sums one by one
                const struct product_kernels *p = round ? &all.k[q].bf16 : &all.k[q].f32;
                struct answer whole;
                run(p, &t, few, true, false, &whole);
                for (size_t m = 1; m <= s.m; m += short_run ? 3 : few || m < 13 ? 1 : 9)
                    check_part(p, &t, few, true, &whole, rng_next(&r) % (s.m - m + 1), m, 0, s.n);
                static const size_t odd[] = {1, 2, 65, 129, 257}; // one output, alone or left over
                const size_t n_any = short_run ? 3 : 12, n_odd = short_run ? 4 : 5;
                for (size_t i = 0; i < n_any + n_odd; i++) {
                    size_t n = i < n_any ? 1 + rng_next(&r) % s.n : odd[i - n_any];
                    check_part(p, &t, few, true, &whole, 0, s.m, rng_next(&r) % (s.n - n + 1), n);
                }
                answer_free(&whole);
            }
            task_free(&t);
        }
    }
}

// Weights one row behind the other or apart, asked for in L1 or in L2, beside an x of two whole pages, a shorter and a
// longer one: one row has the bits of seven.
static void asked_for(void **state)
{
    (void)state;
    struct rng r = {16};
    static const size_t inputs[] = {1201, 4096, 4801};
    for (size_t i = 0; i < 36; i++) {
        bool round = i % 2 == 1;
        struct shape s = {7, 37, inputs[i / 12]};
        struct task t = task_new(&r, s, types[i % 12 / 4], round, DATA_RANDOM), u = t;
        if (i % 4 < 2) { // and W ends where its memory does
            u.w_stride = s.k;
            u.w.data = (uint8_t *)t.w.data + t.w.bytes - s.n * s.k * dtype_bytes(t.type);
        }
        for (size_t q = 1; q < all.n; q++) {
            struct product_kernels p = round ? all.k[q].bf16 : all.k[q].f32;
            struct answer whole;
            p.ask_l2 = false;
            run(&p, &u, true, true, false, &whole);
            check_part(&p, &u, true, true, &whole, s.m - 1, 1, 0, s.n);
            p.ask_l2 = true;
            check_part(&p, &u, true, true, &whole, s.m - 1, 1, 0, s.n);
            check_part(&p, &u, true, true, &whole, 0, s.m, 0, s.n);
            answer_free(&whole);
        }
        task_free(&t);
    }
}

// A task whose rows of W lie one behind the other, to the end of its memory.
static struct task task_dense(struct rng *r, struct shape s, enum dtype type, bool round)
{
    for (;;) {
        struct task t = task_new(r, s, type, round, DATA_RANDOM);
        if (t.w_stride == s.k)
            return t;
        task_free(&t);
    }
}

static void check_dense(const struct product_kernels *p, enum cpu_tier tier, const struct task *t,
                        bool bias)
{
    struct answer a;
    run(p, t, true, !bias, true, &a);
    compare(cpu_tier_name(tier), t, true, !bias, true, a.y.data);
    answer_free(&a);
    run(p, t, true, bias, false, &a);
    compare(cpu_tier_name(tier), t, true, bias, false, a.y.data);
    for (size_t one = 0; one < t->s.m; one += short_run ? t->s.m - 1 : 1)
        check_part(p, t, true, bias, &a, one, 1, 0, t->s.n);
    check_part(p, t, true, bias, &a, 0, t->s.m, t->s.n / 3, t->s.n - t->s.n / 3);
    answer_free(&a);
}

// Several rows beside weights one behind the other, as few inputs as LoRA's or more than stay in L1 or L2, and more outputs
// than share them: each row has the bits that it has alone, and outputs those of a part.
static void in_stretches(void **state)
{
    (void)state;
    struct rng r = {17};
    static const size_t inputs[] = {16, 1024, 2753, 8229}, outputs[] = {20, 50, 101};
    for (size_t i = 0; i < 24; i++) {
        bool round = i % 8 != 0; // pairs of bf16 above all
        struct shape s = {3 + i % 6, outputs[(i + i / 6) % 3], inputs[i / 6]};
        struct task t = task_dense(&r, s, round ? DT_BF16 : types[i % 3], round);
        for (size_t q = 1; q < all.n; q++) {
            struct product_kernels p = round ? all.k[q].bf16 : all.k[q].f32;
            p.ask_l2 = false;
            check_dense(&p, all.k[q].tier, &t, (i + i / 6) % 2);
        }
        assert_true(guarded_intact(&t.x) && guarded_intact(&t.w));
        task_free(&t);
    }
}

// A NaN in a row of x reaches that row of y only; in a row of w that column only.
static void nan_stays(void **state)
{
    (void)state;
    struct rng r = {15};
    struct shape s = {7, 37, 77};
    for (int round = 0; round < 2; round++) {
        for (size_t type = 0; type < 3; type++) {
            struct task t = task_new(&r, s, types[type], round, DATA_RANDOM);
            size_t row = rng_next(&r) % s.m, col = rng_next(&r) % s.n, elem = dtype_bytes(t.type);
            ((float *)t.x.data)[row * t.x_stride + rng_next(&r) % s.k] = NAN;
            float nan = NAN;
            weights_store((uint8_t *)t.w.data + (col * t.w_stride + s.k - 1) * elem, t.type, &nan,
                          1);
            for (size_t q = 0; q < all.n * 2; q++) {
                const struct kernels *k = &all.k[q / 2];
                struct answer a;
                run(round ? &k->bf16 : &k->f32, &t, q % 2, false, false, &a);
                for (size_t i = 0; i < s.m; i++)
                    for (size_t o = 0; o < s.n; o++)
                        if (!isnan(((float *)a.y.data)[i * t.y_stride + o]) !=
                            (i != row && o != col))
                            fail_msg("%s: NaN at %zu,%zu", cpu_tier_name(k->tier), i, o);
                answer_free(&a);
            }
            task_free(&t);
        }
    }
}

struct timed {
    const struct product_kernels *p;
    struct product_job j;
    void *scratch;
};

static void timed_many(void *arg)
{
    struct timed *t = arg;
    t->p->many(t->p, &t->j, t->scratch);
}

static void timed_few(void *arg)
{
    struct timed *t = arg;
    t->p->few(t->p, &t->j);
}

static void timed_tile(void *arg)
{
    const struct timed *t = arg;
    for (int i = 0; i < 1000; i++)
        t->p->tile(t->scratch);
}

// GFLOP/s of the tile kernel on data that stay in L1: what the tier can reach on this core.
static double tile_rate(const struct product_kernels *p)
{
    enum { ROWS = 6, DEPTH = 96 };
    struct guarded x = guarded_new(ROWS * product_x_stride(p, DEPTH), 64);
    struct guarded panel = guarded_new(p->panel * DEPTH * p->x_elem, 64);
    struct guarded y = guarded_new(ROWS * p->panel * sizeof(float), 64);
    memset(x.data, 0, x.bytes);
    memset(panel.data, 0, panel.bytes);
    struct tile_job tile = {.y = y.data, .y_stride = p->panel, .x = x.data, .panel = panel.data};
    tile.x_stride = product_x_stride(p, DEPTH);
    tile.m = ROWS;
    tile.n = p->panel;
    tile.k = DEPTH;
    struct timed t = {.p = p, .scratch = &tile};
    double sec = time_best(timed_tile, &t);
    guarded_free(&x);
    guarded_free(&panel);
    guarded_free(&y);
    return 2e-6 * ROWS * (double)p->panel * DEPTH / sec;
}

static void timed_read(void *arg)
{
    const struct guarded *g = arg;
    if (memchr(g->data, 1, g->bytes))
        puts("unexpected byte");
}

static void bench_shape(const struct kernels *k, bool round, double best, struct shape s,
                        enum dtype type)
{
    const struct product_kernels *p = round ? &k->bf16 : &k->f32;
    size_t bytes = s.m * product_x_stride(p, s.k);
    struct guarded x = guarded_new(bytes, 64), w = guarded_new(s.n * s.k * dtype_bytes(type), 64);
    struct guarded y = guarded_new(s.m * s.n * sizeof(float), 64),
                   scratch = guarded_new(p->scratch_bytes, 64);
    memset(x.data, 0, x.bytes);
    memset(w.data, 0, w.bytes);
    struct timed t = {
        p,
        {y.data, s.n, x.data, w.data, s.k, type, s.m, s.n, s.k, NULL, false, NULL, 0, {0}},
        scratch.data};
    bool few = s.m <= KERNEL_FEW_ROWS;
    double sec = time_best(few ? timed_few : timed_many, &t);
    double rate = 2e-9 * (double)s.m * (double)s.n * (double)s.k / sec;
    printf("%-10s %-4s %-4s m %4zu n %5zu k %5zu %-4s %8.2f ms %7.1f GFLOP/s",
           cpu_tier_name(k->tier), round ? "bf16" : "f32", few ? "few" : "many", s.m, s.n, s.k,
           dtype_name(type), sec * 1e3, rate);
    if (few)
        printf(" %6.1f GB/s of weights\n", (double)w.bytes * 1e-9 / sec);
    else if (best > 0)
        printf(" %5.1f %% of the tile's\n", 100 * rate / best);
    else
        putchar('\n');
    guarded_free(&x);
    guarded_free(&w);
    guarded_free(&y);
    guarded_free(&scratch);
}

static int bench(void)
{
    struct guarded memory = guarded_new((size_t)256 << 20, 64);
    memset(memory.data, 0, memory.bytes);
    printf("memory read by one thread: %.1f GB/s\n",
           (double)memory.bytes * 1e-9 / time_best(timed_read, &memory));
    guarded_free(&memory);
    for (int round = 0; round < 2; round++)
        bench_shape(&all.k[0], round, 0, (struct shape){9, 64, 4096}, DT_BF16);
    for (size_t i = 1; i < all.n; i++) {
        for (int round = 0; round < 2; round++) {
            double best = tile_rate(round ? &all.k[i].bf16 : &all.k[i].f32);
            printf("%-10s %-4s tile in L1 %.1f GFLOP/s\n", cpu_tier_name(all.k[i].tier),
                   round ? "bf16" : "f32", best);
            bench_shape(&all.k[i], round, best, (struct shape){322, 2048, 4096}, DT_BF16);
            bench_shape(&all.k[i], round, best, (struct shape){2049, 512, 1408}, DT_F32);
            bench_shape(&all.k[i], round, best, (struct shape){2049, 256, 6144}, DT_F32);
            bench_shape(&all.k[i], round, best, (struct shape){96, 3072, 768}, DT_F32);
            for (size_t m = 1; m <= 8; m *= 2)
                bench_shape(&all.k[i], round, best, (struct shape){m, 16384, 4096}, DT_BF16);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    all = tiers_all();
    char names[128];
    printf("tiers: %s\n", cpu_tiers_text(cpu_detect(), names, sizeof names));
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    short_run = argc > 1 && strcmp(argv[1], "--short") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size),  cmocka_unit_test(hostile_data),
        cmocka_unit_test(model_sizes), cmocka_unit_test(same_bits),
        cmocka_unit_test(asked_for),   cmocka_unit_test(in_stretches),
        cmocka_unit_test(nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
