// SPDX-License-Identifier: MIT
// Sampler: every row of the golden case sampling/warpers, and by hand the order of the steps, ties,
// ranges of the options, rows that are no numbers, the random numbers and the draw.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "chat/fixed_math.h"
#include "chat/logprob.h"
#include "chat/sampler.h"
#include "npy.h"

static const int32_t eos2[] = {2};

static int32_t next_of(struct sampler_options o, const float *logits, size_t n, const int32_t *ids,
                       size_t n_id)
{
    struct sampler s;
    struct err e = {0};
    int32_t id = -1;
    assert_int_equal(sampler_init(&s, &o, n, eos2, 1, &e), 0);
    assert_int_equal(sampler_next(&s, logits, ids, n_id, &id, &e), 0);
    sampler_free(&s);
    return id;
}

static const js_value *golden_case(struct js_doc *d, const char *id)
{
    struct err e = {0};
    assert_int_equal(js_load(d, TEST_SHARED "/golden/manifest.json", 64 << 20, ERR_FAIL, &e), 0);
    const js_value *cases = js_get(d->root, "cases");
    for (size_t i = 0; i < js_size(cases); i++) {
        const char *s = js_str(js_get(js_at(cases, i), "id"), NULL);
        if (s && !strcmp(s, id))
            return js_at(cases, i);
    }
    fail_msg("no golden case %s", id);
    return NULL;
}

static double number_or(const js_value *o, const char *key, double otherwise)
{
    js_num(js_get(o, key), &otherwise);
    return otherwise;
}

static void check_config(const js_value *entry, const js_value *previous, const struct npy *logits)
{
    const js_value *config = js_get(entry, "config"), *kept = js_get(entry, "kept");
    struct sampler_options o = sampler_options_default();
    o.do_sample = true;
    o.top_p = number_or(config, "top_p", 1);
    o.top_k = (int)number_or(config, "top_k", 0);
    o.temperature = number_or(config, "temperature", 1);
    o.repetition_penalty = number_or(config, "repetition_penalty", 1);
    size_t min_keep = (size_t)number_or(config, "min_tokens_to_keep", 1), n = logits->dim[1];

    char path[1024];
    snprintf(path, sizeof path, "%s/golden/cases/sampling/warpers.%s.npy", TEST_SHARED,
             js_str(js_get(entry, "array"), NULL));
    struct npy want;
    assert_true(npy_read(&want, path));
    struct sampler s;
    struct err e = {0};
    assert_int_equal(sampler_init(&s, &o, n, eos2, 1, &e), 0);
    for (size_t row = 0; row < logits->dim[0]; row++) {
        int32_t ids[256];
        const js_value *history = js_at(previous, row);
        for (size_t i = 0; i < js_size(history); i++) {
            uint64_t id = 0;
            assert_true(js_u64(js_at(history, i), &id));
            ids[i] = (int32_t)id;
        }
        float scores[256];
        assert_true(n == 256);
        memcpy(scores, logits->f32 + row * n, sizeof scores);
        sampler_process(&s, scores, ids, js_size(history));
        sampler_warp(&s, scores, min_keep);
        logprob_softmax(scores, n, scores);
        size_t n_kept = 0;
        for (size_t i = 0; i < n; i++) {
            n_kept += scores[i] > 0;
            if (!(fabsf(scores[i] - want.f32[row * n + i]) <= 1e-6f))
                fail_msg("%s row %zu token %zu: %g, expected %g", path, row, i, (double)scores[i],
                         (double)want.f32[row * n + i]);
        }
        uint64_t want_kept = 0;
        assert_true(js_u64(js_at(kept, row), &want_kept));
        assert_int_equal(n_kept, want_kept);
    }
    sampler_free(&s);
    npy_free(&want);
}

static void golden_warpers(void **state)
{
    (void)state;
    if (access(TEST_SHARED "/golden/manifest.json", R_OK) != 0) {
        printf("SKIP no golden data\n");
        skip();
    }
    struct js_doc d;
    const js_value *values = js_get(golden_case(&d, "sampling/warpers"), "values");
    const js_value *configs = js_get(values, "configs");
    struct npy logits;
    assert_true(npy_read(&logits, TEST_SHARED "/golden/cases/sampling/warpers.logits.npy"));
    assert_int_equal(js_size(configs), 13);
    for (size_t i = 0; i < js_size(configs); i++)
        check_config(js_at(configs, i), js_get(values, "previous_ids"), &logits);
    npy_free(&logits);
    js_free(&d);
}

static void greedy_takes_first_maximum(void **state)
{
    (void)state;
    const float tie[] = {-1, 3, 0, 3, 3};
    struct sampler_options o = sampler_options_default();
    assert_int_equal(next_of(o, tie, 5, NULL, 0), 1);
    const float low[] = {-INFINITY, -INFINITY, -INFINITY, -7, -INFINITY};
    assert_int_equal(next_of(o, low, 5, NULL, 0), 3);
}

static void end_waits_for_min_length(void **state)
{
    (void)state;
    const float logits[] = {0, 1, 9, 2};
    const int32_t ids[] = {0, 1, 0};
    struct sampler_options o = sampler_options_default();
    assert_int_equal(next_of(o, logits, 4, ids, 0), 3);
    assert_int_equal(next_of(o, logits, 4, ids, 1), 2);
    o.min_length = 3;
    assert_int_equal(next_of(o, logits, 4, ids, 2), 3);
    assert_int_equal(next_of(o, logits, 4, ids, 3), 2);
    o.min_length = 0;
    assert_int_equal(next_of(o, logits, 4, ids, 0), 2);
    o.ignore_eos = true;
    assert_int_equal(next_of(o, logits, 4, ids, 3), 3);
}

static void penalty_acts_once_per_token(void **state)
{
    (void)state;
    float scores[] = {2, -2, 5, 1};
    const int32_t ids[] = {0, 1, 0, 0, 1};
    struct sampler s;
    struct sampler_options o = sampler_options_default();
    o.repetition_penalty = 2;
    assert_int_equal(sampler_init(&s, &o, 4, eos2, 1, NULL), 0);
    for (int again = 0; again < 2; again++) {
        float row[4];
        memcpy(row, scores, sizeof row);
        sampler_process(&s, row, ids, 5);
        assert_true(row[0] == 1 && row[1] == -4 && row[2] == 5 && row[3] == 1);
    }
    sampler_free(&s);
}

// Five equal tokens; what the reference keeps of ties follows from its ascending sort.
static void ties_in_top_k_and_top_p(void **state)
{
    (void)state;
    struct sampler s;
    struct sampler_options o = sampler_options_default();
    o.do_sample = true;
    o.top_p = 1;
    o.top_k = 2;
    float a[10] = {1, 1, 0, 1, -1}, b[10] = {0};
    assert_int_equal(sampler_init(&s, &o, 5, eos2, 1, NULL), 0);
    sampler_warp(&s, a, 1);
    assert_true(a[0] == 1 && a[1] == 1 && a[3] == 1 && a[2] == -INFINITY && a[4] == -INFINITY);
    sampler_free(&s);

    o.top_k = 0;
    o.top_p = 0.9;
    assert_int_equal(sampler_init(&s, &o, 10, eos2, 1, NULL), 0);
    sampler_warp(&s, b, 1);
    size_t n_kept = 0;
    for (size_t i = 0; i < 10; i++)
        n_kept += b[i] == 0;
    assert_int_equal(n_kept, 9); // 0.1 <= 1 - 0.9 in f32
    assert_true(b[0] == -INFINITY);
    sampler_free(&s);
}

static void at_least_min_keep_stay(void **state)
{
    (void)state;
    struct sampler s;
    struct sampler_options o = sampler_options_default();
    o.do_sample = true;
    o.top_p = 1e-9;
    o.top_k = 1;
    for (size_t min_keep = 1; min_keep < 4; min_keep++) {
        float a[] = {0, 10, 20, 5, -3};
        assert_int_equal(sampler_init(&s, &o, 5, eos2, 1, NULL), 0);
        sampler_warp(&s, a, min_keep);
        size_t n_kept = 0;
        for (size_t i = 0; i < 5; i++)
            n_kept += isfinite(a[i]);
        assert_int_equal(n_kept, min_keep);
        assert_true(a[2] == 20);
        sampler_free(&s);
    }
}

static void coldest_temperature_is_greedy(void **state)
{
    (void)state;
    const float rows[][4] = {{1, 3, 0, 2}, {-9, -3, -30, -4}, {0, 1e-30f, -5, 0}};
    const double cold[] = {1e-3, 1e-30, 1e-45, 1e-300};
    struct sampler_options o = sampler_options_default();
    o.do_sample = true;
    o.min_length = 0;
    for (size_t r = 0; r < 2; r++)
        for (size_t i = 0; i < 4; i++)
            for (o.temperature = cold[i], o.seed = 0; o.seed < 20; o.seed++)
                assert_int_equal(next_of(o, rows[r], 4, NULL, 0), 1);
    o.temperature = 1e-300;
    assert_int_equal(next_of(o, rows[2], 4, NULL, 0), 1);
}

static void bad_rows_are_errors(void **state)
{
    (void)state;
    const float rows[][4] = {{0, NAN, 0, 0},
                             {NAN, NAN, NAN, NAN},
                             {0, 0, 0, INFINITY},
                             {-INFINITY, -INFINITY, -INFINITY, -INFINITY}};
    struct sampler s;
    struct sampler_options o = sampler_options_default();
    for (int sample = 0; sample < 2; sample++) {
        o.do_sample = sample;
        assert_int_equal(sampler_init(&s, &o, 4, eos2, 1, NULL), 0);
        for (size_t r = 0; r < 4; r++) {
            struct err e = {0};
            int32_t id = 7;
            assert_int_equal(sampler_next(&s, rows[r], NULL, 0, &id, &e), ERR_MODEL);
            assert_int_equal(id, 0);
            assert_non_null(strstr(e.msg, "logits: "));
        }
        const float only_end[] = {-INFINITY, -INFINITY, 1, -INFINITY};
        struct err e = {0};
        int32_t id;
        assert_int_equal(sampler_next(&s, only_end, NULL, 0, &id, &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, "min_length"));
        sampler_free(&s);
    }
    // A penalty may push a huge score out of range; it must not become an answer.
    o.repetition_penalty = 1e-3;
    const float huge[] = {3e38f, 0, 0, 0};
    const int32_t ids[] = {0};
    struct err e = {0};
    int32_t id;
    assert_int_equal(sampler_init(&s, &o, 4, eos2, 1, NULL), 0);
    assert_int_equal(sampler_next(&s, huge, ids, 1, &id, &e), ERR_USAGE);
    sampler_free(&s);
}

static void options_have_ranges(void **state)
{
    (void)state;
    struct {
        const char *name;
        struct sampler_options o;
    } bad[24];
    size_t n = 0;
    const double not_temperature[] = {0, -1, NAN, INFINITY, 1e7};
    const double not_top_p[] = {0, -0.5, 1.0001, NAN, INFINITY};
    const double not_penalty[] = {0, -1, NAN, INFINITY, 1e4};
    struct sampler_options ok = sampler_options_default();
    ok.do_sample = true;
    for (size_t i = 0; i < 5; i++) {
        bad[n].name = "temperature";
        bad[n].o = ok;
        bad[n++].o.temperature = not_temperature[i];
        bad[n].name = "top_p";
        bad[n].o = ok;
        bad[n++].o.top_p = not_top_p[i];
        bad[n].name = "repetition_penalty";
        bad[n].o = ok;
        bad[n++].o.repetition_penalty = not_penalty[i];
    }
    bad[n].name = "top_k";
    bad[n].o = ok;
    bad[n++].o.top_k = -1;
    bad[n].name = "min_length";
    bad[n].o = ok;
    bad[n++].o.min_length = -1;
    for (size_t i = 0; i < n; i++) {
        struct err e = {0};
        struct sampler s;
        assert_int_equal(sampler_init(&s, &bad[i].o, 4, eos2, 1, &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, bad[i].name));
        assert_null(s.scores);
    }
    assert_int_equal(sampler_options_check(&ok, NULL), 0);
    // Greedy does not look at the sampling options: a card passes do_sample False, top_p whatever.
    ok.do_sample = false;
    ok.temperature = 0;
    ok.top_p = 7;
    assert_int_equal(sampler_options_check(&ok, NULL), 0);
}

static void allocation_failures(void **state)
{
    (void)state;
    struct sampler_options o = sampler_options_default();
    struct sampler s;
    int n_failed = 0;
    for (uint64_t k = 1;; k++) {
        struct err e = {0};
        mem_fail_after(k);
        int rc = sampler_init(&s, &o, 1000, eos2, 1, &e);
        mem_fail_after(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
        n_failed++;
    }
    sampler_free(&s);
    assert_int_equal(n_failed, 4);
}

// The generator's published recurrence from the state 1, 2, 3, 4: 1st output rotl(2 * 5, 7) * 9.
static void random_numbers(void **state)
{
    (void)state;
    struct random r = {{1, 2, 3, 4}};
    assert_true(random_next(&r) == 11520);
    assert_true(random_next(&r) == 0);
    assert_true(random_next(&r) == 1509978240);
    assert_true(random_next(&r) == 1215971899390074240u);
    struct random a, b, c;
    random_seed(&a, 7, 0);
    random_seed(&b, 7, 0);
    random_seed(&c, 7, 1);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    random_seed(&b, 0, 0); // SplitMix64 from 0
    assert_true(b.s[0] == 0xe220a8397b1dcdafu && b.s[1] == 0x6e789e6aa1b965f4u);
    double least = 1, most = 0, mean = 0;
    for (int i = 0; i < 20000; i++) {
        double u = random_unit(&c);
        least = fmin(least, u);
        most = fmax(most, u);
        mean += u / 20000;
    }
    assert_true(least >= 0 && least < 0.001 && most < 1 && most > 0.999 && fabs(mean - 0.5) < 0.01);
}

static void draws_follow_the_weights(void **state)
{
    (void)state;
    const float weight[] = {0, 1, 0, 3, 4, 0};
    const double p[] = {0, 0.125, 0, 0.375, 0.5, 0};
    size_t count[6] = {0};
    struct random r;
    random_seed(&r, 1, 0);
    for (int i = 0; i < 80000; i++)
        count[sampler_draw(&r, weight, 6)]++;
    for (size_t i = 0; i < 6; i++) // 5 standard deviations
        assert_true(fabs((double)count[i] / 80000 - p[i]) <= 5 * sqrt(p[i] * (1 - p[i]) / 80000));
}

static void same_seed_same_tokens(void **state)
{
    (void)state;
    float logits[64];
    for (size_t i = 0; i < 64; i++)
        logits[i] = (float)((i * 37) % 64) / 16.0f;
    struct sampler_options o = sampler_options_default();
    o.do_sample = true;
    o.seed = 42;
    int32_t first[32], second[32], other[32];
    int32_t *runs[] = {first, second, other};
    for (size_t run = 0; run < 3; run++) {
        struct sampler s;
        o.stream = run / 2;
        assert_int_equal(sampler_init(&s, &o, 64, eos2, 1, NULL), 0);
        for (size_t i = 0; i < 32; i++)
            assert_int_equal(sampler_next(&s, logits, NULL, 0, &runs[run][i], NULL), 0);
        sampler_free(&s);
    }
    assert_memory_equal(first, second, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    // From a Python program of the same description; a change here changes everybody's answers.
    const int32_t pinned[] = {5, 24, 43, 57, 62, 50, 46, 55, 50, 38, 43, 19, 50, 19, 43, 57};
    assert_memory_equal(first, pinned, sizeof pinned);
}

static void fixed_math_agrees_with_libm(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        double x = -745.0 + 0.0741 * i;
        if (x > 709)
            break;
        double want = exp(x);
        if (want > 1e-300)
            assert_true(fabs(fixed_exp(x) - want) <= 1e-15 * want);
    }
    assert_true(fixed_exp(0) == 1 && fixed_exp(-INFINITY) == 0 && fixed_exp(-746) == 0);
    for (double x = 1e-9; x < 1e9; x *= 1.0007)
        assert_true(fabs(fixed_log(x) - log(x)) <= 1e-15 * fabs(log(x)) + 1e-16);
    assert_true(fixed_log(1) == 0);
}

static void log_probabilities(void **state)
{
    (void)state;
    const float row[] = {1, 4, -INFINITY, 4, 3};
    double total = log(exp(1) + 2 * exp(4) + exp(3));
    struct token_logprob top[8];
    assert_int_equal(logprob_top(row, 5, top, 3), 3);
    assert_true(top[0].id == 1 && top[1].id == 3 && top[2].id == 4);
    assert_true(fabs((double)top[0].logprob - (4 - total)) < 1e-6);
    assert_true(fabs((double)top[2].logprob - (3 - total)) < 1e-6);
    assert_int_equal(logprob_top(row, 5, top, 8), 5);
    assert_true(top[3].id == 0 && top[4].id == 2 && top[4].logprob == -INFINITY);
    assert_int_equal(logprob_top(row, 5, top, 0), 0);
    float prob[5];
    assert_true(fabs(logprob_softmax(row, 5, prob) - 1) < 1e-6);
    assert_true(prob[2] == 0 && prob[1] == prob[3]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_warpers),
        cmocka_unit_test(greedy_takes_first_maximum),
        cmocka_unit_test(end_waits_for_min_length),
        cmocka_unit_test(penalty_acts_once_per_token),
        cmocka_unit_test(ties_in_top_k_and_top_p),
        cmocka_unit_test(at_least_min_keep_stay),
        cmocka_unit_test(coldest_temperature_is_greedy),
        cmocka_unit_test(bad_rows_are_errors),
        cmocka_unit_test(options_have_ranges),
        cmocka_unit_test(allocation_failures),
        cmocka_unit_test(random_numbers),
        cmocka_unit_test(draws_follow_the_weights),
        cmocka_unit_test(same_seed_same_tokens),
        cmocka_unit_test(fixed_math_agrees_with_libm),
        cmocka_unit_test(log_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
