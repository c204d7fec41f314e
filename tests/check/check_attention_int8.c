// SPDX-License-Identifier: MIT
// Checks the attention in int8 of every tier that has one (plain C is the witness) against its definition in double made
// here, from the levels that `levels` gives: over every small head size, every number of keys and rows around the
// borders of blocks and tiles, groups, and hostile data; against the attention of the values themselves; against guard
// pages; and that a row's bits do not depend on the rows beside it. `--bench` measures instead.
//
// The first gate: a probability of a block is rounded to a level of 1/255 of the block's largest, half a level and
// 0.02 for the exponential's 7.5e-5, which is relative to sum |v| of the block; the rest is relative to sum p |v|: the
// exponential again, twice, and a few roundings of each score, of size |s|, and of each block.
// The second: levels move a score by D = half a step of the key times sum |q|, the same for the query, and a quarter of
// both; shares of the sum then move by the factor exp(2 D), and a value by half its step.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attention_task.h"
#include "base/size.h"
#include "guarded.h"
#include "kernel_check.h"

enum { KEYS = 264, TILE = 32 }; // keys of a block, queries of a tile

static struct tiers all;

static struct attention_task task_new(struct rng *r, size_t n_q, size_t n_k, size_t group, size_t d,
                                      enum data data)
{
    return attention_task_new(r,
                              (struct attention_job){.n_q = n_q,
                                                     .n_k = n_k,
                                                     .group = group,
                                                     .d = d,
                                                     .scale = 3.0f / sqrtf((float)d),
                                                     .k_type = DT_F32,
                                                     .v_type = DT_F32},
                              data);
}

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static float levels(int8_t *q, const float *v, size_t n)
{
    return all.k[0].int8.levels(q, v, DT_F32, n);
}

// Keys and values as the definition has them.
struct levelled {
    int8_t *k;      // [n_k, d]
    double *k_step; // [n_k]
    double *v;      // [n_k, d] steps times levels
    double *v_step; // [n_k, d]
    float *centred; // [n_k, d] keys without their mean
};

static struct levelled levelled(const struct attention_job *j)
{
    size_t n = j->n_k * j->d + 1;
    struct levelled l = {must(malloc(n)), must(calloc(n, sizeof(double))),
                         must(calloc(n, sizeof(double))), must(calloc(n, sizeof(double))),
                         must(calloc(n, sizeof(float)))};
    const float *k = j->k, *v = j->v;
    for (size_t c = 0; c < j->d; c++) {
        float mean = 0;
        for (size_t i = 0; i < j->n_k; i++)
            mean += k[i * j->k_stride + c];
        mean /= (float)j->n_k;
        for (size_t i = 0; i < j->n_k; i++)
            l.centred[i * j->d + c] = k[i * j->k_stride + c] - mean;
        for (size_t b = 0; b < j->n_k; b += KEYS) {
            float column[KEYS];
            int8_t q[2];
            size_t m = min_size(KEYS, j->n_k - b);
            for (size_t i = 0; i < m; i++)
                column[i] = v[(b + i) * j->v_stride + c];
            float most = 0;
            for (size_t i = 0; i < m; i++)
                most = fmaxf(most, fabsf(column[i]));
            for (size_t i = 0; i < m; i++) { // `levels` takes 256 at most: each beside the largest
                float pair[2] = {column[i], most};
                double step = (double)levels(q, pair, 2);
                l.v_step[(b + i) * j->d + c] = step;
                l.v[(b + i) * j->d + c] = step * q[0];
            }
        }
    }
    for (size_t i = 0; i < j->n_k; i++)
        l.k_step[i] = (double)levels(l.k + i * j->d, l.centred + i * j->d, j->d);
    return l;
}

static void levelled_free(struct levelled *l)
{
    free(l->k);
    free(l->k_step);
    free(l->v);
    free(l->v_step);
    free(l->centred);
}

// Softmax of s [n] in place; returns the largest size of a score, *spread = largest minus smallest.
static double softmax(double *s, size_t n, double *spread)
{
    double max = -INFINITY, min = INFINITY, total = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        max = fmax(max, s[i]);
        min = fmin(min, s[i]);
        size = fmax(size, fabs(s[i]));
    }
    for (size_t i = 0; i < n; i++) {
        s[i] = exp(s[i] - max);
        total += s[i];
    }
    for (size_t i = 0; i < n; i++)
        s[i] /= total;
    *spread = max - min;
    return size;
}

struct row {
    double *s, *t;                                       // [n_k] shares by levels, by values
    double y[KERNEL_HEAD_MAX], gate[KERNEL_HEAD_MAX];    // by levels
    double exact[KERNEL_HEAD_MAX], far[KERNEL_HEAD_MAX]; // by values
};

static void expect_row(const struct attention_job *j, const struct levelled *l, const float *q,
                       struct row *r)
{
    float scaled[KERNEL_HEAD_MAX];
    int8_t level[KERNEL_HEAD_MAX];
    double size_q = 0, moved = 0, spread;
    for (size_t c = 0; c < j->d; c++) {
        scaled[c] = q[c] * j->scale;
        size_q += fabs((double)scaled[c]);
    }
    double step = (double)levels(level, scaled, j->d);
    for (size_t i = 0; i < j->n_k; i++) {
        long sum = 0;
        double exact = 0, size_k = 0, size = 0;
        for (size_t c = 0; c < j->d; c++) {
            double k = (double)l->centred[i * j->d + c];
            sum += level[c] * l->k[i * j->d + c];
            double real = (double)((const float *)j->k)[i * j->k_stride + c];
            exact += (double)scaled[c] * real;
            size += fabs((double)scaled[c] * real);
            size_k += fabs(k);
        }
        r->s[i] = step * l->k_step[i] * (double)sum;
        r->t[i] = exact;
        moved = fmax(moved, 0.5001 * (l->k_step[i] * size_q + step * size_k) +
                                0.2501 * (double)j->d * step * l->k_step[i] + EPS * size);
    }
    double size = softmax(r->s, j->n_k, &spread);
    double blocks = (double)div_up(j->n_k, KEYS);
    double factor = 2 * 7.5e-5 + expm1(8 * EPS * size) +
                    EPS * (16 + 4 * fmin(spread, 150) + 8 * blocks + 4 * sqrt((double)j->n_k));
    softmax(r->t, j->n_k, &spread);
    double most = expm1(2 * moved);
    memset(r->y, 0, sizeof r->y);
    memset(r->gate, 0, sizeof r->gate);
    memset(r->exact, 0, sizeof r->exact);
    memset(r->far, 0, sizeof r->far);
    for (size_t b = 0; b < j->n_k; b += KEYS) {
        size_t end = min_size(b + KEYS, j->n_k);
        double top = 0;
        for (size_t i = b; i < end; i++)
            top = fmax(top, r->s[i]);
        for (size_t i = b; i < end; i++)
            for (size_t c = 0; c < j->d; c++) {
                double v = l->v[i * j->d + c];
                double real = (double)((const float *)j->v)[i * j->v_stride + c];
                r->y[c] += r->s[i] * v;
                r->gate[c] += (factor * r->s[i] + top * 0.52 / 255) * fabs(v);
                r->exact[c] += r->t[i] * real;
                r->far[c] +=
                    r->t[i] * (most * fabs(real) + (1 + most) * 0.5001 * l->v_step[i * j->d + c]);
            }
    }
    for (size_t c = 0; c < j->d; c++) {
        r->gate[c] += (double)j->n_k * 0x1p-120;
        r->far[c] += r->gate[c];
    }
}

static void check_task(struct attention_task *t)
{
    const struct attention_job *j = &t->j;
    struct levelled l = levelled(j);
    struct row *r = must(calloc(1, sizeof *r));
    struct guarded y[CPU_TIER_N];
    r->s = must(calloc(j->n_k, sizeof *r->s));
    r->t = must(calloc(j->n_k, sizeof *r->t));
    for (size_t q = 0; q < all.n; q++)
        if (all.k[q].int8.attention)
            y[q] = attention_task_run(&all.k[q].int8, j, t->y_elems);
    for (size_t i = 0; i < j->n_q; i++)
        for (size_t h = 0; h < j->group; h++) {
            expect_row(j, &l, j->q + i * j->q_stride + h * j->d, r);
            for (size_t q = 0; q < all.n; q++)
                for (size_t c = 0; all.k[q].int8.attention && c < j->d; c++) {
                    double got = (double)((float *)y[q].data)[i * j->y_stride + h * j->d + c];
                    if (!(fabs(got - r->y[c]) <= r->gate[c]))
                        fail_msg("%s q %zu k %zu group %zu d %zu at %zu,%zu,%zu: %.9g, the levels "
                                 "give %.9g +- %.2g",
                                 cpu_tier_name(all.k[q].tier), j->n_q, j->n_k, j->group, j->d, i, h,
                                 c, got, r->y[c], r->gate[c]);
                    if (!(fabs(got - r->exact[c]) <= r->far[c]))
                        fail_msg("%s q %zu k %zu group %zu d %zu at %zu,%zu,%zu: %.9g, the values "
                                 "give %.9g +- %.2g",
                                 cpu_tier_name(all.k[q].tier), j->n_q, j->n_k, j->group, j->d, i, h,
                                 c, got, r->exact[c], r->far[c]);
                }
        }
    for (size_t q = 0; q < all.n; q++)
        if (all.k[q].int8.attention)
            guarded_free(&y[q]);
    free(r->s);
    free(r->t);
    free(r);
    levelled_free(&l);
}

static void check_shape(struct rng *r, size_t n_q, size_t n_k, size_t group, size_t d,
                        enum data data)
{
    struct attention_task t = task_new(r, n_q, n_k, group, d, data);
    check_task(&t);
    attention_task_free(&t);
}

static void head_sizes(void **state)
{
    (void)state;
    struct rng r = {41};
    for (size_t d = 2; d <= KERNEL_HEAD_MAX; d += d < 100 ? 2 : 26)
        check_shape(&r, 3, 70, 2, d, DATA_RANDOM);
    check_shape(&r, 3, 70, 1, KERNEL_HEAD_MAX, DATA_RANDOM);
}

static void row_and_key_counts(void **state)
{
    (void)state;
    struct rng r = {42};
    for (size_t n = 1; n <= 70; n++)
        check_shape(&r, 2, n, 1, 24, DATA_RANDOM);
    for (size_t n = KEYS - 14; n <= KEYS + 14; n++)
        check_shape(&r, 2, n, 1, 24, DATA_RANDOM);
    for (size_t n = 2 * KEYS - 1; n <= 2 * KEYS + 5; n++)
        check_shape(&r, 2, n, 1, 24, DATA_RANDOM);
    for (size_t n = 0; n <= 3 * TILE + 2; n++)
        check_shape(&r, n, 53, 1, 20, DATA_RANDOM);
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {43};
    check_shape(&r, 37, 2049, 1, 88, DATA_RANDOM);
    check_shape(&r, 16, 1025, 1, 88, DATA_POSITIVE);
    check_shape(&r, 33, 513, 2, 88, DATA_RANDOM);
}

static void hostile_data(void **state)
{
    (void)state;
    struct rng r = {44};
    for (int d = 0; d < DATA_N; d++) {
        check_shape(&r, 7, 333, 3, 64, (enum data)d);
        check_shape(&r, 18, 300, 1, 30, (enum data)d);
    }
}

// One key far above the others, in every block but the first; later blocks then weigh nothing, or all.
static void peaks(void **state)
{
    (void)state;
    struct rng r = {45};
    for (size_t at = 0; at < 3 * KEYS; at += 97) {
        struct attention_task t = task_new(&r, 5, 3 * KEYS, 1, 40, DATA_RANDOM);
        for (size_t c = 0; c < 40; c++)
            ((float *)t.k.data)[at * t.j.k_stride + c] =
                40 * ((const float *)t.q.data)[2 * t.j.q_stride + c];
        check_task(&t);
        attention_task_free(&t);
    }
}

// What all keys have in common changes no share, however large it is: the levels are of what tells keys apart.
static void common_part(void **state)
{
    (void)state;
    struct rng r = {46};
    struct attention_task t = task_new(&r, 9, 600, 1, 88, DATA_RANDOM);
    for (size_t i = 0; i < t.j.n_k; i++)
        for (size_t c = 0; c < t.j.d; c++)
            ((float *)t.k.data)[i * t.j.k_stride + c] += c % 2 ? 8.0f : -8.0f;
    check_task(&t);
    attention_task_free(&t);
}

static void same_bits(void **state)
{
    (void)state;
    struct rng r = {47};
    struct attention_task t = task_new(&r, 110, 600, 2, 88, DATA_RANDOM);
    for (size_t q = 0; q < all.n; q++) {
        const struct product_kernels *p = &all.k[q].int8;
        if (!p->attention)
            continue;
        struct guarded whole = attention_task_run(p, &t.j, t.y_elems);
        for (int i = 0; i < 10; i++) {
            struct attention_job part = t.j;
            part.n_q = 1 + rng_next(&r) % 60;
            size_t first = rng_next(&r) % (t.j.n_q - part.n_q + 1);
            part.q += first * part.q_stride;
            struct guarded y =
                attention_task_run(p, &part, (part.n_q - 1) * part.y_stride + 2 * part.d);
            for (size_t o = 0; o < part.n_q; o++)
                if (memcmp((float *)y.data + o * part.y_stride,
                           (float *)whole.data + (first + o) * part.y_stride,
                           2 * part.d * sizeof(float)) != 0)
                    fail_msg("%s: row %zu differs from the whole", cpu_tier_name(all.k[q].tier),
                             first + o);
            guarded_free(&y);
        }
        guarded_free(&whole);
    }
    attention_task_free(&t);
}

// What is not finite in a query reaches that head of that row only; in a key, every row; in a value, its channel.
static void nan_stays(void **state)
{
    (void)state;
    struct rng r = {48};
    for (int where = 0; where < 6; where++) {
        struct attention_task t = task_new(&r, 40, 300, 2, 30, DATA_RANDOM);
        float bad = where < 3 ? NAN : INFINITY;
        if (where % 3 == 0)
            ((float *)t.q.data)[33 * t.j.q_stride + t.j.d + 7] = bad;
        else if (where % 3 == 1)
            ((float *)t.k.data)[280 * t.j.k_stride + 7] = bad;
        else
            ((float *)t.v.data)[280 * t.j.v_stride + 7] = bad;
        for (size_t q = 0; q < all.n; q++) {
            if (!all.k[q].int8.attention)
                continue;
            struct guarded y = attention_task_run(&all.k[q].int8, &t.j, t.y_elems);
            for (size_t o = 0; o < t.j.n_q; o++)
                for (size_t c = 0; c < 2 * t.j.d; c++) {
                    bool want = where % 3 == 0   ? o == 33 && c >= t.j.d
                                : where % 3 == 1 ? true
                                                 : c % t.j.d == 7;
                    if ((isnan(((float *)y.data)[o * t.j.y_stride + c]) != 0) != want)
                        fail_msg("%s %d: NaN at %zu,%zu", cpu_tier_name(all.k[q].tier), where, o,
                                 c);
                }
            guarded_free(&y);
        }
        attention_task_free(&t);
    }
}

struct timed {
    const struct product_kernels *p;
    struct attention_job j;
    void *scratch;
};

static void timed_attention(void *arg)
{
    struct timed *t = arg;
    t->p->attention(t->p, &t->j, t->scratch);
}

static void bench_job(const struct kernels *k, const struct product_kernels *p, size_t n_q,
                      size_t n_k, size_t d)
{
    struct rng r = {49};
    struct attention_task t = task_new(&r, n_q, n_k, 1, d, DATA_RANDOM);
    struct guarded y = guarded_new(t.y_elems * sizeof(float), 64);
    struct guarded scratch = guarded_new(p->attention_scratch(p, &t.j), 64);
    struct timed timed = {p, t.j, scratch.data};
    timed.j.y = y.data;
    double sec = time_best(timed_attention, &timed);
    printf("%-12s %s q %4zu k %4zu d %3zu %8.3f ms %7.1f GOP/s\n", cpu_tier_name(k->tier),
           p->steps ? "int8" : "bf16", n_q, n_k, d, sec * 1e3,
           4e-9 * (double)(n_q * d) * (double)n_k / sec);
    guarded_free(&y);
    guarded_free(&scratch);
    attention_task_free(&t);
}

static int bench(void)
{
    for (size_t i = 1; i < all.n; i++) {
        if (!all.k[i].int8.attention)
            continue;
        bench_job(&all.k[i], &all.k[i].bf16, 2049, 2049, 88);
        bench_job(&all.k[i], &all.k[i].int8, 2049, 2049, 88);
        bench_job(&all.k[i], &all.k[i].int8, 1025, 2049, 88);
        bench_job(&all.k[i], &all.k[i].int8, 1025, 1025, 88);
        bench_job(&all.k[i], &all.k[i].int8, 2049, 2049, 64);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_sizes),  cmocka_unit_test(row_and_key_counts),
        cmocka_unit_test(model_sizes), cmocka_unit_test(hostile_data),
        cmocka_unit_test(peaks),       cmocka_unit_test(common_part),
        cmocka_unit_test(same_bits),   cmocka_unit_test(nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
