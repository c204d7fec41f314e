// SPDX-License-Identifier: MIT
// Beam search on a synthetic scorer, against (1) an independent plain implementation that keeps whole
// id lists and starts from scores [0, -1e9, ...], and (2) enumeration of every sequence.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "chat/beam.h"
#include "chat/sampler.h"

enum { MAX_V = 64, MAX_LEN = 24, MAX_B = 16 };

struct setup {
    size_t n_vocab, n_beam, max_len;
    const int32_t *eos;
    size_t n_eos;
    double length_penalty, repetition_penalty;
    int min_length;
    unsigned levels; // distinct logits; few = many ties
    uint32_t seed;
    float end_bonus; // added to the logits of the ends
};

// Logits that depend on everything generated so far.
static void score(const struct setup *u, const int32_t *ids, size_t n, float *logits)
{
    uint32_t h = u->seed * 2654435761u + 12345;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint32_t)ids[i]) * 16777619u + 977;
    for (size_t k = 0; k < u->n_vocab; k++) {
        uint32_t x = (h + (uint32_t)k * 0x9e3779b9u) * 0x85ebca6bu;
        x ^= x >> 13;
        x *= 0xc2b2ae35u;
        x ^= x >> 16;
        logits[k] = (float)(x % u->levels) / (float)u->levels * 6.0f - 3.0f;
    }
    for (size_t i = 0; i < u->n_eos; i++)
        logits[u->eos[i]] += u->end_bonus;
}

// ---- the plain implementation

struct list {
    int32_t v[MAX_LEN];
    size_t n;
    double score;
};

struct option {
    float score;
    size_t beam;
    int32_t token;
};

static int by_score(const void *a, const void *b)
{
    const struct option *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->beam != y->beam)
        return x->beam < y->beam ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

struct plain {
    struct list hyp[MAX_B + 1];
    size_t n_hyp;
};

static bool is_end(const struct setup *u, int32_t id)
{
    for (size_t i = 0; i < u->n_eos; i++)
        if (u->eos[i] == id)
            return true;
    return false;
}

static void keep(struct plain *p, size_t n_beam, const struct list *l)
{
    double least = INFINITY;
    size_t at = 0;
    for (size_t i = 0; i < p->n_hyp; i++)
        if (p->hyp[i].score < least) {
            least = p->hyp[i].score;
            at = i;
        }
    if (p->n_hyp == n_beam) {
        if (l->score <= least)
            return;
        for (size_t i = at; i + 1 < p->n_hyp; i++)
            p->hyp[i] = p->hyp[i + 1];
        p->n_hyp--;
    }
    p->hyp[p->n_hyp++] = *l;
}

static void plain_log_probs(const struct setup *u, const struct list *l, float *row)
{
    score(u, l->v, l->n, row);
    double top = -INFINITY, sum = 0;
    for (size_t k = 0; k < u->n_vocab; k++)
        top = fmax(top, (double)row[k]);
    for (size_t k = 0; k < u->n_vocab; k++)
        sum += exp((double)row[k] - top);
    for (size_t k = 0; k < u->n_vocab; k++)
        row[k] = (float)((double)row[k] - (top + log(sum)));
    for (size_t k = 0; k < u->n_vocab; k++)
        for (size_t i = 0; i < l->n; i++)
            if (l->v[i] == (int32_t)k) {
                row[k] *= (float)u->repetition_penalty;
                break;
            }
    for (size_t i = 0; i < u->n_eos; i++)
        if (l->n < (size_t)u->min_length)
            row[u->eos[i]] = -INFINITY;
}

static struct plain plain_search(const struct setup *u)
{
    static struct option all[MAX_B * MAX_V];
    struct plain p = {.n_hyp = 0};
    struct list beam[MAX_B] = {{.n = 0}}, next[MAX_B];
    float sum[MAX_B];
    bool done = false;
    for (size_t i = 0; i < u->n_beam; i++)
        sum[i] = i ? -1e9f : 0;
    size_t n_option = u->n_beam * (u->n_eos > 1 ? 1 + u->n_eos : 2);
    for (size_t t = 1; t <= u->max_len && !done; t++) {
        size_t n = 0;
        for (size_t i = 0; i < u->n_beam; i++) {
            float row[MAX_V];
            plain_log_probs(u, &beam[i], row);
            for (size_t k = 0; k < u->n_vocab; k++)
                all[n++] = (struct option){row[k] + sum[i], i, (int32_t)k};
        }
        qsort(all, n, sizeof *all, by_score);
        size_t n_next = 0;
        float next_sum[MAX_B];
        for (size_t r = 0; r < n_option && n_next < u->n_beam; r++) {
            struct list l = beam[all[r].beam];
            l.v[l.n++] = all[r].token;
            l.score = (double)all[r].score / pow((double)t, u->length_penalty);
            if (!is_end(u, all[r].token)) {
                next_sum[n_next] = all[r].score;
                next[n_next++] = l;
            } else if (r < u->n_beam) {
                keep(&p, u->n_beam, &l);
            }
        }
        assert_int_equal(n_next, u->n_beam);
        memcpy(beam, next, sizeof beam);
        memcpy(sum, next_sum, sizeof sum);
        double least = INFINITY;
        for (size_t i = 0; i < p.n_hyp; i++)
            least = fmin(least, p.hyp[i].score);
        done = p.n_hyp == u->n_beam &&
               least >= (double)all[0].score / pow((double)t, u->length_penalty);
    }
    for (size_t i = 0; i < u->n_beam && !done; i++)
        keep(&p, u->n_beam, &beam[i]);
    // Stable, best first, of equals the later first.
    for (size_t i = 1; i < p.n_hyp; i++)
        for (size_t k = i; k > 0 && p.hyp[k - 1].score <= p.hyp[k].score; k--) {
            struct list l = p.hyp[k];
            p.hyp[k] = p.hyp[k - 1];
            p.hyp[k - 1] = l;
        }
    return p;
}

// ---- ours

struct run {
    struct sampler sampler;
    struct beam_search beam;
};

static void run_open(struct run *r, const struct setup *u, bool sample)
{
    struct sampler_options so = sampler_options_default();
    so.do_sample = sample;
    so.seed = u->seed;
    so.repetition_penalty = u->repetition_penalty;
    so.min_length = u->min_length;
    struct beam_options bo = {.n_beam = (int)u->n_beam,
                              .length_penalty = u->length_penalty,
                              .max_new_tokens = (int)u->max_len};
    struct err e = {0};
    assert_int_equal(sampler_init(&r->sampler, &so, u->n_vocab, u->eos, u->n_eos, &e), 0);
    assert_int_equal(beam_init(&r->beam, &bo, &r->sampler, &e), 0);
}

static void run_close(struct run *r)
{
    beam_free(&r->beam);
    sampler_free(&r->sampler);
}

// Drives a search as an engine would, with a timeline of ids in place of each cache.
static void run_search(struct run *r, const struct setup *u)
{
    static float logits[MAX_B * MAX_V];
    struct list time[MAX_B] = {{.n = 0}}, next[MAX_B];
    struct err e = {0};
    score(u, NULL, 0, logits);
    if (beam_step(&r->beam, logits, 1, &e) != 0)
        fail_msg("%s", e.msg);
    while (!r->beam.done) {
        for (size_t i = 0; i < u->n_beam; i++) {
            next[i] = time[r->beam.parent[i]];
            next[i].v[next[i].n++] = r->beam.token[i];
        }
        memcpy(time, next, sizeof time);
        for (size_t i = 0; i < u->n_beam; i++)
            score(u, time[i].v, time[i].n, logits + i * u->n_vocab);
        if (beam_step(&r->beam, logits, u->n_beam, &e) != 0)
            fail_msg("%s", e.msg);
    }
    beam_finish(&r->beam);
}

static void compare(const struct setup *u)
{
    struct plain want = plain_search(u);
    struct run r;
    run_open(&r, u, false);
    run_search(&r, u);
    assert_int_equal(r.beam.n_hypothesis, want.n_hyp);
    for (size_t i = 0; i < want.n_hyp; i++) {
        const struct beam_hypothesis *h = &r.beam.hypothesis[i];
        struct ids ids = {0};
        assert_int_equal(beam_ids(&r.beam, h, &ids, NULL), 0);
        if (ids.n != want.hyp[i].n || memcmp(ids.v, want.hyp[i].v, ids.n * sizeof *ids.v) != 0 ||
            !(fabs(h->score - want.hyp[i].score) <= 1e-5 * (1 + fabs(h->score))))
            fail_msg("seed %u beams %zu: hypothesis %zu: score %g length %zu, expected %g, %zu",
                     u->seed, u->n_beam, i, h->score, ids.n, want.hyp[i].score, want.hyp[i].n);
        assert_int_equal(h->n_token, ids.n);
        assert_int_equal(h->eos >= 0, is_end(u, ids.v[ids.n - 1]));
        ids_free(&ids);
    }
    run_close(&r);
}

static const int32_t ends[] = {2, 5, 7};

static void agrees_with_the_plain_search(void **state)
{
    (void)state;
    static const double length_penalty[] = {1, 0.5, 2, 0, -1};
    size_t n_early = 0;
    for (uint32_t seed = 0; seed < 400; seed++) {
        struct setup u = {.n_beam = 1 + seed % 6,
                          .n_vocab = 16 + seed % 40,
                          .max_len = 1 + seed % 20,
                          .eos = ends,
                          .n_eos = seed % 4,
                          .length_penalty = length_penalty[seed % 5],
                          .repetition_penalty = seed % 3 ? 1.0 : 1.3,
                          .min_length = (int)(seed % 7) / 2,
                          .levels = 1u << 20,
                          .end_bonus = seed % 8 == 7 ? 5.0f : 0.0f,
                          .seed = seed};
        compare(&u);
        struct run r;
        run_open(&r, &u, false);
        run_search(&r, &u);
        n_early += r.beam.n_step < u.max_len;
        run_close(&r);
    }
    assert_in_range(n_early, 40, 360); // both ways of ending are covered
}

// Few distinct logits: equal scores everywhere. Sums of f32 must be taken in the same way for this.
static void agrees_with_the_plain_search_on_ties(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct setup u = {.n_beam = 2 + seed % 4,
                          .n_vocab = 16,
                          .max_len = 6,
                          .eos = ends,
                          .n_eos = 1,
                          .length_penalty = 0,
                          .repetition_penalty = 1,
                          .min_length = 1,
                          .levels = 1,
                          .seed = seed};
        compare(&u);
    }
}

// With as many beams as there are sequences nothing is pruned: the best of all must come out.
static void finds_the_best_of_all_sequences(void **state)
{
    (void)state;
    enum { V = 4, LEN = 3 };
    static const int32_t end[] = {2};
    for (uint32_t seed = 0; seed < 50; seed++) {
        struct setup u = {.n_beam = BEAM_MAX,
                          .n_vocab = V,
                          .max_len = LEN,
                          .eos = end,
                          .n_eos = 1,
                          .length_penalty = seed % 2 ? 1 : 0.3,
                          .repetition_penalty = 1,
                          .min_length = 1,
                          .levels = 1u << 20,
                          .seed = seed};
        struct list best = {.score = -INFINITY};
        size_t n_all = 0;
        for (size_t code = 0; code < V * V * V; code++) {
            for (size_t n = 1; n <= LEN; n++) {
                struct list l = {.n = 0};
                double sum = 0;
                bool whole = true;
                for (size_t i = 0, c = code; i < n; i++, c /= V) {
                    float row[MAX_V];
                    plain_log_probs(&u, &l, row);
                    whole = whole && !(l.n > 0 && l.v[l.n - 1] == 2);
                    l.v[l.n++] = (int32_t)(c % V);
                    sum += (double)row[c % V];
                }
                bool ended = l.v[n - 1] == 2;
                if (!whole || (n < LEN && !ended) || isinf(sum))
                    continue;
                n_all++;
                l.score = sum / pow((double)n, u.length_penalty);
                if (l.score > best.score)
                    best = l;
            }
        }
        assert_true(n_all > V);
        static float logits[BEAM_MAX * V];
        struct list time[BEAM_MAX] = {{.n = 0}}, next[BEAM_MAX];
        struct run r;
        run_open(&r, &u, false);
        score(&u, NULL, 0, logits);
        assert_int_equal(beam_step(&r.beam, logits, 1, NULL), 0);
        while (!r.beam.done) {
            for (size_t i = 0; i < BEAM_MAX; i++) {
                next[i] = time[r.beam.parent[i]];
                next[i].v[next[i].n++] = r.beam.token[i];
            }
            memcpy(time, next, sizeof time);
            for (size_t i = 0; i < BEAM_MAX; i++)
                score(&u, time[i].v, time[i].n, logits + i * V);
            assert_int_equal(beam_step(&r.beam, logits, BEAM_MAX, NULL), 0);
        }
        beam_finish(&r.beam);
        struct ids ids = {0};
        assert_int_equal(beam_ids(&r.beam, &r.beam.hypothesis[0], &ids, NULL), 0);
        assert_int_equal(ids.n, best.n);
        assert_memory_equal(ids.v, best.v, ids.n * sizeof *ids.v);
        assert_true(fabs(r.beam.hypothesis[0].score - best.score) < 1e-5);
        ids_free(&ids);
        run_close(&r);
    }
}

// One beam, one step, no end: two are drawn without replacement and the better one stays.
static void sampling_draws_without_replacement(void **state)
{
    (void)state;
    const float logits[] = {0, 1, -0.5f, 0.7f};
    double p[4], total = 0, want[4] = {0};
    for (size_t i = 0; i < 4; i++)
        total += exp((double)logits[i]);
    for (size_t i = 0; i < 4; i++)
        p[i] = exp((double)logits[i]) / total;
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 4; k++)
            if (logits[k] < logits[i])
                want[i] += p[i] * p[k] / (1 - p[i]) + p[k] * p[i] / (1 - p[k]);
    struct sampler s;
    struct sampler_options so = sampler_options_default();
    so.do_sample = true;
    so.top_p = 1;
    enum { N = 20000 };
    size_t count[4] = {0};
    assert_int_equal(sampler_init(&s, &so, 4, NULL, 0, NULL), 0);
    for (int i = 0; i < N; i++) {
        struct beam_search b;
        struct beam_options bo = {.n_beam = 1, .length_penalty = 1, .max_new_tokens = 1};
        assert_int_equal(beam_init(&b, &bo, &s, NULL), 0);
        assert_int_equal(beam_step(&b, logits, 1, NULL), 0);
        assert_int_equal(b.n_candidate, 2);
        assert_true(b.candidate[0].token != b.candidate[1].token);
        count[b.token[0]]++;
        beam_free(&b);
    }
    sampler_free(&s);
    for (size_t i = 0; i < 4; i++)
        assert_true(fabs((double)count[i] / N - want[i]) <=
                    5 * sqrt(want[i] * (1 - want[i]) / N) + 1e-12);
}

// Sampling starts from equal beams, which may all take the same token, and leaves each beam two tokens at
// least; what is drawn is drawn once.
static void sampling_starts_from_equal_beams(void **state)
{
    (void)state;
    const float sure[] = {0, 20, 0, 0};
    struct sampler s;
    struct sampler_options so = sampler_options_default();
    so.do_sample = true;
    so.top_p = 1e-6;
    assert_int_equal(sampler_init(&s, &so, 4, NULL, 0, NULL), 0);
    struct beam_search b;
    struct beam_options bo = {.n_beam = 3, .length_penalty = 1, .max_new_tokens = 4};
    assert_int_equal(beam_init(&b, &bo, &s, NULL), 0);
    assert_int_equal(beam_step(&b, sure, 1, NULL), 0);
    assert_int_equal(b.n_candidate, 6);
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < i; k++)
            assert_true(b.candidate[i].parent != b.candidate[k].parent ||
                        b.candidate[i].token != b.candidate[k].token);
        assert_int_equal(b.candidate[i].token == 1, i < 3);
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(b.token[i] == 1 && b.parent[i] == i);
    beam_free(&b);
    sampler_free(&s);
}

static void sampling_repeats_with_its_seed(void **state)
{
    (void)state;
    struct setup u = {.n_beam = 4,
                      .n_vocab = 40,
                      .max_len = 16,
                      .eos = ends,
                      .n_eos = 2,
                      .length_penalty = 1,
                      .repetition_penalty = 1.1,
                      .min_length = 2,
                      .levels = 1u << 20};
    size_t n_differ = 0;
    struct ids last = {0};
    for (u.seed = 0; u.seed < 20; u.seed++) {
        struct ids ids[2] = {{0}, {0}};
        for (size_t k = 0; k < 2; k++) {
            struct run r;
            struct setup same = u;
            run_open(&r, &same, true);
            same.seed = 7; // one model, many seeds of the sampler
            run_search(&r, &same);
            assert_in_range(r.beam.n_hypothesis, 1, 4);
            assert_int_equal(beam_ids(&r.beam, &r.beam.hypothesis[0], &ids[k], NULL), 0);
            for (size_t i = 1; i < r.beam.n_hypothesis; i++)
                assert_true(r.beam.hypothesis[i - 1].score >= r.beam.hypothesis[i].score);
            assert_false(is_end(&same, ids[k].v[0]) || is_end(&same, ids[k].v[1]));
            run_close(&r);
        }
        assert_int_equal(ids[0].n, ids[1].n);
        assert_memory_equal(ids[0].v, ids[1].v, ids[0].n * sizeof *ids[0].v);
        n_differ += last.n != ids[0].n || memcmp(last.v, ids[0].v, last.n * sizeof *last.v) != 0;
        ids_free(&ids[1]);
        ids_free(&last);
        last = ids[0];
    }
    ids_free(&last);
    assert_true(n_differ > 5);
}

// Fewer tokens than beams: the search runs with the beams there are.
static void more_beams_than_tokens(void **state)
{
    (void)state;
    static const int32_t end[] = {1};
    for (int sample = 0; sample < 2; sample++) {
        struct setup u = {.n_beam = 8,
                          .n_vocab = 2,
                          .max_len = 3,
                          .eos = end,
                          .n_eos = 1,
                          .length_penalty = 1,
                          .repetition_penalty = 1,
                          .min_length = 1,
                          .levels = 1000,
                          .seed = 3};
        struct run r;
        static float first[2];
        score(&u, NULL, 0, first);
        run_open(&r, &u, sample);
        assert_int_equal(beam_step(&r.beam, first, 1, NULL), 0);
        assert_int_equal(r.beam.n_candidate, sample ? 8 : 1); // the end waits: one token a beam
        run_close(&r);
        run_open(&r, &u, sample);
        run_search(&r, &u);
        assert_in_range(r.beam.n_hypothesis, 1, 8);
        for (size_t i = 0; i < r.beam.n_hypothesis; i++) {
            struct ids ids = {0};
            assert_int_equal(beam_ids(&r.beam, &r.beam.hypothesis[i], &ids, NULL), 0);
            for (size_t k = 0; k < ids.n; k++)
                assert_int_equal(ids.v[k], k + 1 == ids.n && r.beam.hypothesis[i].eos == 1);
            ids_free(&ids);
        }
        run_close(&r);
    }
}

static void every_candidate_ends(void **state)
{
    (void)state;
    static const int32_t end[] = {0, 1};
    const float first[] = {0, 0, 5, 4},
                rest[] = {2, 1, -INFINITY, -INFINITY, 3, 1, -INFINITY, -INFINITY};
    for (int sample = 0; sample < 2; sample++) {
        struct setup u = {.n_beam = 2,
                          .n_vocab = 4,
                          .max_len = 9,
                          .eos = end,
                          .n_eos = 2,
                          .length_penalty = 1,
                          .repetition_penalty = 1,
                          .min_length = 1};
        struct run r;
        run_open(&r, &u, sample);
        assert_int_equal(beam_step(&r.beam, first, 1, NULL), 0);
        assert_false(r.beam.done);
        assert_int_equal(beam_step(&r.beam, rest, 2, NULL), 0);
        assert_true(r.beam.done);
        beam_finish(&r.beam);
        assert_int_equal(r.beam.n_hypothesis, 2);
        assert_int_equal(r.beam.hypothesis[0].n_token, 2);
        assert_true(r.beam.hypothesis[0].eos >= 0);
        run_close(&r);
    }
}

static void bad_steps_are_errors(void **state)
{
    (void)state;
    struct setup u = {.n_beam = 2,
                      .n_vocab = 4,
                      .max_len = 1,
                      .eos = ends,
                      .n_eos = 1,
                      .length_penalty = 1,
                      .repetition_penalty = 1,
                      .min_length = 1};
    const float nan_row[] = {0, NAN, 0, 0}, only_end[] = {-INFINITY, -INFINITY, 0, -INFINITY};
    const float good[] = {0, 1, 2, 3};
    struct run r;
    struct err e = {0};
    run_open(&r, &u, false);
    assert_int_equal(beam_step(&r.beam, nan_row, 1, &e), ERR_MODEL);
    run_close(&r);
    for (int sample = 0; sample < 2; sample++) {
        run_open(&r, &u, sample);
        assert_int_equal(beam_step(&r.beam, only_end, 1, &e), ERR_USAGE);
        run_close(&r);
    }
    run_open(&r, &u, false);
    assert_int_equal(beam_step(&r.beam, good, 3, &e), ERR_FAIL);
    assert_int_equal(beam_step(&r.beam, good, 1, &e), 0);
    assert_true(r.beam.done);
    assert_int_equal(beam_step(&r.beam, good, 1, &e), ERR_FAIL);
    run_close(&r);

    const struct beam_options bad[] = {{0, 1, 5},  {BEAM_MAX + 1, 1, 5}, {-3, 1, 5}, {2, NAN, 5},
                                       {2, 11, 5}, {2, -INFINITY, 5},    {2, 1, 0},  {2, 1, -7}};
    static const char *const name[] = {"num_beams",      "num_beams",      "num_beams",
                                       "length_penalty", "length_penalty", "length_penalty",
                                       "max_new_tokens", "max_new_tokens"};
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(beam_options_check(&bad[i], &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, name[i]));
    }
}

static void allocation_failures(void **state)
{
    (void)state;
    const float logits[] = {0, 1, 2, 3, 3, 2, 1, 0};
    int n_failed = 0;
    for (uint64_t k = 1;; k++, n_failed++) {
        struct sampler_options so = sampler_options_default();
        struct beam_options bo = {.n_beam = 2, .length_penalty = 1, .max_new_tokens = 100};
        struct sampler s;
        struct beam_search b;
        so.do_sample = true;
        assert_int_equal(sampler_init(&s, &so, 4, NULL, 0, NULL), 0);
        struct err e = {0};
        struct ids ids = {0};
        mem_fail_after(k);
        int rc = beam_init(&b, &bo, &s, &e);
        if (rc == 0)
            rc = beam_step(&b, logits, 1, &e);
        for (size_t i = 1; i < 100 && rc == 0; i++)
            rc = beam_step(&b, logits, 2, &e);
        if (rc == 0) {
            beam_finish(&b);
            rc = beam_ids(&b, &b.hypothesis[0], &ids, &e);
        }
        mem_fail_after(0);
        beam_free(&b);
        ids_free(&ids);
        sampler_free(&s);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
    }
    assert_true(n_failed > 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_plain_search),
        cmocka_unit_test(agrees_with_the_plain_search_on_ties),
        cmocka_unit_test(finds_the_best_of_all_sequences),
        cmocka_unit_test(sampling_draws_without_replacement),
        cmocka_unit_test(sampling_starts_from_equal_beams),
        cmocka_unit_test(sampling_repeats_with_its_seed),
        cmocka_unit_test(more_beams_than_tokens),
        cmocka_unit_test(every_candidate_ends),
        cmocka_unit_test(bad_steps_are_errors),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
