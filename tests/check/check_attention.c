// SPDX-License-Identifier: MIT
// Checks the attention of every tier this processor has against plain sums in double made here, over
// head sizes, key counts around the block borders, groups, causal and full, both key/value types;
// against guard pages; and that a row's bits do not depend on the rows beside it nor on keys it does not
// see. `--bench` measures instead; `--short` is for emulators and sanitizers: fewer of the model's rows.
//
// The gate: a score errs by ds = (4 + 2 sqrt d) 2^-24 sum |q k|, which changes a probability by the
// factor exp(2 ds); the exponential and the sums over n keys add a few roundings each, and in bf16
// mode every probability is rounded, 2^-9 of itself. All of it is relative to sum p |v|.
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

static struct tiers all;
static bool short_run;

// [n_k, d] of keys or values, as the products see them. Caller frees.
static double *widened(const void *m, size_t stride, enum dtype t, const struct attention_job *j,
                       bool round)
{
    double *out = calloc(j->n_k * j->d + 1, sizeof *out);
    if (!out)
        abort();
    for (size_t i = 0; i < j->n_k; i++) {
        float row[KERNEL_HEAD_MAX];
        dtype_to_f32(row, (const uint8_t *)m + dtype_span(t, i * stride), t, j->d);
        for (size_t c = 0; c < j->d; c++)
            out[i * j->d + c] = (double)(round ? bf16_round(row[c]) : row[c]);
    }
    return out;
}

// y and gate [d] of row i and head h; k and v are widened, s [n_k] is scratch.
static void exact_row(const struct attention_job *j, bool round, size_t i, size_t h,
                      const double *k, const double *v, double *s, double *y, double *gate)
{
    size_t n = j->causal ? min_size(j->n_k, j->first_pos + i + 1) : j->n_k;
    double q[KERNEL_HEAD_MAX], max = -INFINITY, min = INFINITY, worst = 0, total = 0;
    for (size_t c = 0; c < j->d; c++) {
        float scaled = j->q[i * j->q_stride + h * j->d + c] * j->scale;
        q[c] = (double)(round ? bf16_round(scaled) : scaled);
    }
    for (size_t o = 0; o < n; o++) {
        double sum = 0, size = 0;
        for (size_t c = 0; c < j->d; c++) {
            sum += q[c] * k[o * j->d + c];
            size += fabs(q[c] * k[o * j->d + c]);
        }
        s[o] = sum;
        max = fmax(max, sum);
        min = fmin(min, sum); // the exponent's own rounding counts
        worst = fmax(worst, (4 + 2 * sqrt((double)j->d)) * EPS * size);
    }
    for (size_t o = 0; o < n; o++) {
        s[o] = exp(s[o] - max);
        total += s[o];
    }
    memset(y, 0, j->d * sizeof *y);
    memset(gate, 0, j->d * sizeof *gate);
    for (size_t o = 0; o < n; o++)
        for (size_t c = 0; c < j->d; c++) {
            double term = s[o] / total * v[o * j->d + c];
            y[c] += term;
            gate[c] += fabs(term);
        }
    double factor = expm1(2 * worst) + (round ? 0x1p-8 : 0) +
                    EPS * (16 + 2 * fmin(max - min, 100) + 4 * sqrt((double)n));
    for (size_t c = 0; c < j->d; c++)
        gate[c] = gate[c] * factor + (double)n * 0x1p-120;
}

static void check_job(struct rng *r, struct attention_job j, bool round, enum data data)
{
    struct attention_task t = attention_task_new(r, j, data);
    size_t width = j.group * j.d;
    double *s = calloc(j.n_k + 2 * width * j.n_q + 1, sizeof *s);
    if (!s)
        abort();
    bool in_place = j.few && dtype_is_block(j.k_type); // counts as it is stored
    double *k = widened(t.k.data, t.j.k_stride, j.k_type, &t.j, round && !in_place),
           *v = widened(t.v.data, t.j.v_stride, j.v_type, &t.j, round);
    double *want = s + j.n_k, *gate = want + width * j.n_q;
    for (size_t i = 0; i < j.n_q; i++)
        for (size_t h = 0; h < j.group; h++)
            exact_row(&t.j, round, i, h, k, v, s, want + i * width + h * j.d,
                      gate + i * width + h * j.d);
    for (size_t q = 0; q < all.n; q++) {
        struct guarded y =
            attention_task_run(round ? &all.k[q].bf16 : &all.k[q].f32, &t.j, t.y_elems);
        for (size_t i = 0; i < j.n_q; i++)
            for (size_t c = 0; c < width; c++) {
                double got = (double)((float *)y.data)[i * t.j.y_stride + c],
                       w = want[i * width + c];
                if (!(fabs(got - w) <= gate[i * width + c]))
                    fail_msg("%s %s %s %s,%s q %zu k %zu group %zu d %zu%s %s at %zu,%zu: %.9g, "
                             "expected %.9g +- %.2g",
                             cpu_tier_name(all.k[q].tier), round ? "bf16" : "f32",
                             j.few ? "few" : "many", dtype_name(j.k_type), dtype_name(j.v_type),
                             j.n_q, j.n_k, j.group, j.d, j.causal ? " causal" : "", data_name(data),
                             i, c, got, w, gate[i * width + c]);
            }
        guarded_free(&y);
    }
    free(s);
    free(k);
    free(v);
    attention_task_free(&t);
}

// Blocks only where heads are whole ones.
static enum dtype cache_type(struct rng *r, size_t d)
{
    static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16, DT_Q8_0};
    return types[rng_next(r) % (d % 32 == 0 ? 4 : 3)];
}

static struct attention_job job_of(struct rng *r, size_t n_q, size_t n_k, size_t group, size_t d)
{
    struct attention_job j = {.n_q = n_q, .n_k = n_k, .group = group, .d = d};
    j.k_type = cache_type(r, d);
    j.v_type = cache_type(r, d);
    j.scale = 1.0f / sqrtf((float)d);
    j.causal = n_k >= n_q && rng_next(r) % 2;
    j.first_pos = n_k - n_q;
    return j;
}

static void head_sizes(void **state)
{
    (void)state;
    struct rng r = {21};
    for (size_t d = 2; d <= KERNEL_HEAD_MAX; d += d < 100 ? 2 : 26) {
        for (int few = 0; few < 2; few++) {
            struct attention_job j = job_of(&r, 5, 71, 2, d);
            j.few = few;
            check_job(&r, j, rng_next(&r) % 2, DATA_RANDOM);
        }
    }
}

static void row_and_key_counts(void **state)
{
    (void)state;
    struct rng r = {22};
    static const size_t keys[] = {
        1,   2,   3,   15,  16,  17,  31,  63,   64,   65,   255,  256, 257, 300,
        320, 321, 511, 512, 513, 576, 700, 2304, 2305, 2368, 2369, 2600}; // 2304 are packed at a time
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        for (int round = 0; round < 2; round++) {
            struct attention_job j = job_of(
                &r, 1 + rng_next(&r) % min_size(keys[i], short_run ? 21 : 61), keys[i], 1, 24);
            check_job(&r, j, round, DATA_RANDOM);
            j = job_of(&r, 1 + rng_next(&r) % min_size(keys[i], 8), keys[i], 1 + rng_next(&r) % 4,
                       24);
            j.few = true;
            check_job(&r, j, round, DATA_RANDOM);
        }
    }
    for (size_t n = 0; n <= 3 * 16 + 4; n++)
        check_job(&r, job_of(&r, n, 53, 1, 20), n % 2, DATA_RANDOM);
}

// Every key seen, in f32: heads, keys and rows around the tiles of the kernels that take whole heads.
static void without_a_mask(void **state)
{
    (void)state;
    struct rng r = {27};
    static const size_t heads[] = {2, 10, 12, 22, 64, 88, 128, 256};
    static const size_t keys[] = {1, 2, 10, 11, 12, 175, 176, 177, 351, 353};
    static const size_t rows[] = {1, 15, 16, 17, 31, 32, 33, 49};
    size_t n = 0;
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++, n += short_run ? 3 : 1) {
            struct attention_job j = job_of(&r, rows[n % 8], keys[k], 1 + n % 2, heads[h]);
            j.k_type = j.v_type = DT_F32;
            j.causal = false;
            if (!short_run || (h + k) % 3 == 0)
                check_job(&r, j, true, DATA_RANDOM);
        }
}

static void model_sizes(void **state)
{
    (void)state;
    struct rng r = {23};
    for (int round = 0; round < 2; round++) {
        struct attention_job j = {.n_q = short_run ? 5 : 50,
                                  .n_k = 2049,
                                  .group = 1,
                                  .d = 88,
                                  .scale = 0.1066f,
                                  .k_type = DT_F32,
                                  .v_type = DT_F32};
        check_job(&r, j, round, DATA_RANDOM);
        j = (struct attention_job){.n_q = 49,
                                   .n_k = 322,
                                   .group = short_run ? 1 : 4, // groups: elsewhere here too
                                   .d = 128,
                                   .scale = 0.0884f,
                                   .k_type = DT_BF16,
                                   .v_type = DT_BF16,
                                   .causal = true,
                                   .first_pos = 273};
        check_job(&r, j, round, DATA_RANDOM);
        j.n_q = 130; // row blocks that end inside a key block, at many places of a panel
        for (j.first_pos = 90; j.first_pos < 192; j.first_pos += short_run ? 100 : 17)
            check_job(&r, j, round, DATA_RANDOM);
        j.n_q = 1;
        j.first_pos = 321;
        j.few = true;
        check_job(&r, j, round, DATA_RANDOM);
        for (int i = 0; i < 8; i++) { // every pairing with blocks and f16, few and many
            j.few = i & 1;
            j.n_q = j.few ? 3 : short_run ? 10 : 40;
            j.first_pos = j.n_k - j.n_q;
            j.k_type = i & 2 ? DT_Q8_0 : DT_F16;
            j.v_type = i & 4 ? DT_Q8_0 : DT_BF16;
            check_job(&r, j, round, DATA_RANDOM);
        }
    }
}

static void hostile_data(void **state)
{
    (void)state;
    struct rng r = {24};
    for (int d = 0; d < DATA_N; d++)
        for (int round = 0; round < 2; round++)
            for (int few = 0; few < 2; few++) {
                struct attention_job j = job_of(&r, short_run ? 3 : 7, 333, short_run ? 2 : 3, 64);
                j.few = few;
                if (d == DATA_HUGE) // beyond f16, which is the step of a block too
                    j.k_type = j.v_type = few ? DT_BF16 : DT_F32;
                check_job(&r, j, round, (enum data)d);
            }
}

// With one key the probability is 1, so y is the value itself: rounded in bf16 mode, else exact.
static void one_key(void **state)
{
    (void)state;
    struct rng r = {28};
    for (int i = 0; i < 8; i++) {
        bool round = i & 1;
        struct attention_job j = job_of(&r, 5, 1, 2, 78);
        j.causal = false;
        j.few = i & 2;
        j.k_type = j.v_type = i & 4 ? DT_BF16 : DT_F32;
        struct attention_task t = attention_task_new(&r, j, DATA_RANDOM);
        double *v = widened(t.v.data, t.j.v_stride, j.v_type, &t.j, round);
        for (size_t q = 0; q < all.n; q++) {
            struct guarded y =
                attention_task_run(round ? &all.k[q].bf16 : &all.k[q].f32, &t.j, t.y_elems);
            for (size_t o = 0; o < j.n_q; o++)
                for (size_t c = 0; c < 2 * j.d; c++) {
                    double got = (double)((float *)y.data)[o * t.j.y_stride + c], want = v[c % j.d];
                    if (!(fabs(got - want) <= 8 * EPS * fabs(want)))
                        fail_msg("%s: %.9g, expected %.9g", cpu_tier_name(all.k[q].tier), got,
                                 want);
                }
            guarded_free(&y);
        }
        free(v);
        attention_task_free(&t);
    }
}

// A row alone, or among others, with exactly the keys it sees or with more: the same bits.
static void same_bits(void **state)
{
    (void)state;
    struct rng r = {25};
    for (int round = 0; round < 2; round++) {
        for (int which = 0; which < 4; which++) {
            bool few = which == 1;
            // short: still a block of rows and a rest, and fewer heads
            size_t rows = few ? 8 : short_run ? 59 : 110, keys = which == 2 ? 2400 : 600;
            struct attention_job j = job_of(&r, rows, keys,
                                            !short_run || few ? 3
                                            : which == 0      ? 2
                                                              : 1,
                                            88);
            j.causal = which < 3;
            if (!j.causal)
                j.k_type = j.v_type = DT_F32;
            if (few)
                j.v_type = DT_BF16; // four rows at a time share what one reads alone
            j.few = few;
            struct attention_task t = attention_task_new(&r, j, DATA_RANDOM);
            for (size_t q = 1; q < all.n; q++) {
                struct product_kernels p = round ? all.k[q].bf16 : all.k[q].f32;
                struct guarded whole = attention_task_run(&p, &t.j, t.y_elems);
                for (int i = 0; i < (short_run ? 4 : 10); i++) {
                    struct attention_job part = t.j;
                    part.n_q = 1 + rng_next(&r) % min_size(j.n_q, 20);
                    size_t first = rng_next(&r) % (j.n_q - part.n_q + 1);
                    part.q += first * part.q_stride;
                    part.first_pos += first;
                    if (i % 2 && j.causal)
                        part.n_k = part.first_pos + part.n_q;
                    p.ask_l2 = !p.ask_l2; // wherever keys and values are asked for
                    struct guarded y = attention_task_run(
                        &p, &part, (part.n_q - 1) * part.y_stride + j.group * j.d);
                    for (size_t o = 0; o < part.n_q; o++)
                        if (memcmp((float *)y.data + o * part.y_stride,
                                   (float *)whole.data + (first + o) * part.y_stride,
                                   j.group * j.d * sizeof(float)) != 0)
                            fail_msg("%s %s %s: row %zu differs from the whole",
                                     cpu_tier_name(all.k[q].tier), round ? "bf16" : "f32",
                                     few ? "few" : "many", first + o);
                    guarded_free(&y);
                }
                guarded_free(&whole);
            }
            attention_task_free(&t);
        }
    }
}

// Key heads side by side give what each gives alone.
static void compare_heads(const struct product_kernels *p, const struct attention_task *t,
                          const char *tier)
{
    const struct attention_job *j = &t->j;
    size_t width = j->group * j->d;
    struct guarded all_heads = attention_task_run(p, j, t->y_elems);
    for (size_t h = 0; h < j->n_kv; h++) {
        struct attention_job one = *j;
        one.n_kv = 1;
        one.q += h * width;
        one.k = (const uint8_t *)j->k + dtype_span(j->k_type, h * j->d);
        one.v = (const uint8_t *)j->v + dtype_span(j->v_type, h * j->d);
        struct guarded y = attention_task_run(p, &one, (j->n_q - 1) * j->y_stride + width);
        for (size_t i = 0; i < j->n_q; i++)
            if (memcmp((float *)y.data + i * j->y_stride,
                       (float *)all_heads.data + i * j->y_stride + h * width,
                       width * sizeof(float)) != 0)
                fail_msg("%s %s,%s q %zu k %zu group %zu d %zu: row %zu of head %zu of %zu differs",
                         tier, dtype_name(j->k_type), dtype_name(j->v_type), j->n_q, j->n_k,
                         j->group, j->d, i, h, j->n_kv);
        guarded_free(&y);
    }
    guarded_free(&all_heads);
}

static void heads_side_by_side(void **state)
{
    (void)state;
    struct rng r = {29};
    static const size_t keys[] = {1, 2, 33, 255, 256, 257, 600};
    static const size_t rows[] = {1, 3, 8}, groups[] = {1, 4, 3}, wide[] = {24, 64, 88, 128};
    for (size_t i = 0; i < (short_run ? 12 : 84); i++) {
        struct attention_job j =
            job_of(&r, rows[i % 3], keys[i % 7], groups[i / 3 % 3], wide[i % 4]);
        j.n_q = min_size(j.n_q, j.n_k);
        j.first_pos = j.n_k - j.n_q;
        j.n_kv = 1 + rng_next(&r) % 4;
        j.few = true;
        if (i / 4 % 3 == 0) // else drawn
            j.k_type = j.v_type = DT_BF16;
        if (i / 4 % 3 == 1 && j.d % 32 == 0)
            *(i / 12 % 2 ? &j.k_type : &j.v_type) = DT_Q8_0;
        struct attention_task t = attention_task_new(&r, j, DATA_RANDOM);
        for (size_t q = 0; q < all.n; q++) {
            compare_heads(&all.k[q].bf16, &t, cpu_tier_name(all.k[q].tier));
            compare_heads(&all.k[q].f32, &t, cpu_tier_name(all.k[q].tier));
        }
        attention_task_free(&t);
    }
}

// A NaN in a query reaches that head of that row only.
static void nan_stays(void **state)
{
    (void)state;
    struct rng r = {26};
    for (int i = 0; i < 4; i++) {
        struct attention_job j = job_of(&r, 8, 300, 2, 30);
        j.few = i % 2;
        struct attention_task t = attention_task_new(&r, j, DATA_RANDOM);
        ((float *)t.q.data)[3 * t.j.q_stride + j.d + 7] = NAN;
        for (size_t q = 0; q < all.n; q++) {
            struct guarded y =
                attention_task_run(i / 2 ? &all.k[q].bf16 : &all.k[q].f32, &t.j, t.y_elems);
            for (size_t o = 0; o < j.n_q; o++)
                for (size_t c = 0; c < 2 * j.d; c++)
                    if ((isnan(((float *)y.data)[o * t.j.y_stride + c]) != 0) !=
                        (o == 3 && c >= j.d))
                        fail_msg("%s: NaN at %zu,%zu", cpu_tier_name(all.k[q].tier), o, c);
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

static void bench_job(const struct kernels *k, bool round, struct attention_job j)
{
    struct rng r = {27};
    const struct product_kernels *p = round ? &k->bf16 : &k->f32;
    struct attention_task t = attention_task_new(&r, j, DATA_RANDOM);
    struct guarded y = guarded_new(t.y_elems * sizeof(float), 64);
    struct guarded scratch = guarded_new(p->attention_scratch(p, &t.j), 64);
    struct timed timed = {p, t.j, scratch.data};
    timed.j.y = y.data;
    double sec = time_best(timed_attention, &timed);
    double work = 4 * (double)(j.n_q * j.group * j.d) * (double)j.n_k;
    if (j.causal)
        work *= ((double)j.first_pos + 0.5 * (double)(j.n_q + 1)) / (double)j.n_k;
    printf("%-10s %-4s q %4zu k %4zu group %zu d %3zu %-4s %8.3f ms %7.1f GFLOP/s\n",
           cpu_tier_name(k->tier), round ? "bf16" : "f32", j.n_q, j.n_k, j.group, j.d,
           dtype_name(j.v_type), sec * 1e3, work * 1e-9 / sec);
    guarded_free(&y);
    guarded_free(&scratch);
    attention_task_free(&t);
}

static int bench(void)
{
    const struct attention_job jobs[] = {
        {.n_q = 2049,
         .n_k = 2049,
         .group = 1,
         .d = 88,
         .scale = 0.1f,
         .k_type = DT_F32,
         .v_type = DT_F32},
        {.n_q = 96,
         .n_k = 2049,
         .group = 1,
         .d = 64,
         .scale = 0.1f,
         .k_type = DT_F32,
         .v_type = DT_F32},
        {.n_q = 322,
         .n_k = 322,
         .group = 4,
         .d = 128,
         .scale = 0.1f,
         .k_type = DT_BF16,
         .v_type = DT_BF16,
         .causal = true},
        {.n_q = 1,
         .n_k = 1000,
         .group = 4,
         .d = 128,
         .scale = 0.1f,
         .k_type = DT_BF16,
         .v_type = DT_BF16,
         .few = true},
        {.n_q = 1,
         .n_k = 1000,
         .group = 4,
         .d = 128,
         .scale = 0.1f,
         .k_type = DT_Q8_0,
         .v_type = DT_Q8_0,
         .few = true},
        {.n_q = 322,
         .n_k = 322,
         .group = 4,
         .d = 128,
         .scale = 0.1f,
         .k_type = DT_Q8_0,
         .v_type = DT_Q8_0,
         .causal = true},
    };
    for (size_t i = 1; i < all.n; i++)
        for (int round = 0; round < 2; round++)
            for (size_t q = 0; q < sizeof jobs / sizeof *jobs; q++)
                bench_job(&all.k[i], round, jobs[q]);
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
        cmocka_unit_test(head_sizes),     cmocka_unit_test(row_and_key_counts),
        cmocka_unit_test(without_a_mask), cmocka_unit_test(model_sizes),
        cmocka_unit_test(hostile_data),   cmocka_unit_test(one_key),
        cmocka_unit_test(same_bits),      cmocka_unit_test(heads_side_by_side),
        cmocka_unit_test(nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
