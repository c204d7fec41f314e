// SPDX-License-Identifier: MIT
// Per step: logits -> repetition penalty -> minimum length -> [temperature -> top-k -> top-p] -> pick
// (SPEC 7.3, in that order). Scores are f32 as in the reference, sums are double in index order, exp
// is our own (fixed_math.h): the same logits and seed give the same token on every machine.
//
// Easy to get wrong: the penalty sees each generated id once, not the prompt, and multiplies negative
// scores. top-k keeps every tie of the k-th score. top-p removes from the small end: a token goes when
// the sum of everything smaller plus itself is <= 1 - top_p, both rounded to f32 (ten equal tokens and
// top_p 0.9: one goes); among equal scores the lower id counts as the smaller. Greedy takes the first
// maximum, for bf16 logits do tie.
#include "chat/sampler.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "chat/logprob.h"

struct sampler_options sampler_options_default(void)
{
    return (struct sampler_options){
        .temperature = 1.0, .top_p = 0.9, .repetition_penalty = 1.0, .min_length = 1};
}

int sampler_options_check(const struct sampler_options *o, struct err *e)
{
    if (o->do_sample && !(o->temperature > 0 && o->temperature <= 1e6))
        return err_set(e, ERR_USAGE, "temperature: %g is not in (0, 1e6]", o->temperature);
    if (o->do_sample && !(o->top_p > 0 && o->top_p <= 1))
        return err_set(e, ERR_USAGE, "top_p: %g is not in (0, 1]", o->top_p);
    if (o->do_sample && o->top_k < 0)
        return err_set(e, ERR_USAGE, "top_k: %d is negative (0 = off)", o->top_k);
    if (!(o->repetition_penalty >= 1e-3 && o->repetition_penalty <= 1e3))
        return err_set(e, ERR_USAGE, "repetition_penalty: %g is not in [0.001, 1000]",
                       o->repetition_penalty);
    if (o->min_length < 0)
        return err_set(e, ERR_USAGE, "min_length: %d is negative", o->min_length);
    return 0;
}

int sampler_init(struct sampler *s, const struct sampler_options *o, size_t n_vocab,
                 const int32_t *eos, size_t n_eos, struct err *e)
{
    memset(s, 0, sizeof *s);
    int rc;
    TRY(sampler_options_check(o, e));
    if (n_vocab == 0 || n_vocab > INT32_MAX) {
        rc = err_set(e, ERR_MODEL, "vocabulary: %zu tokens", n_vocab);
        goto fail;
    }
    s->opt = *o;
    s->n_vocab = n_vocab;
    s->eos = eos;
    s->n_eos = n_eos;
    random_seed(&s->random, o->seed, o->stream);
    s->scores = mem_calloc(n_vocab, sizeof *s->scores);
    s->prob = mem_calloc(n_vocab, sizeof *s->prob);
    s->order = mem_calloc(n_vocab, sizeof *s->order);
    s->seen = mem_calloc(n_vocab, sizeof *s->seen);
    if (!s->scores || !s->prob || !s->order || !s->seen) {
        rc = err_set(e, ERR_LIMIT, "sampler: no memory for rows of %zu tokens", n_vocab);
        goto fail;
    }
    return 0;
fail:
    sampler_free(s);
    return rc;
}

void sampler_free(struct sampler *s)
{
    mem_free(s->scores);
    mem_free(s->prob);
    mem_free(s->order);
    mem_free(s->seen);
    memset(s, 0, sizeof *s);
}

bool sampler_is_eos(const struct sampler *s, int32_t id)
{
    for (size_t i = 0; i < s->n_eos; i++)
        if (s->eos[i] == id)
            return true;
    return false;
}

static void penalise(struct sampler *s, float *scores, const int32_t *ids, size_t n)
{
    float penalty = (float)s->opt.repetition_penalty;
    for (size_t i = 0; i < n; i++) {
        float *score = &scores[ids[i]];
        if (!s->seen[ids[i]])
            *score = *score < 0 ? *score * penalty : *score / penalty;
        s->seen[ids[i]] = true;
    }
    for (size_t i = 0; i < n; i++)
        s->seen[ids[i]] = false;
}

void sampler_process(struct sampler *s, float *scores, const int32_t *ids, size_t n)
{
    if (s->opt.repetition_penalty != 1.0)
        penalise(s, scores, ids, n);
    if (s->opt.ignore_eos || n < (size_t)s->opt.min_length)
        for (size_t i = 0; i < s->n_eos; i++)
            if (s->eos[i] >= 0 && (size_t)s->eos[i] < s->n_vocab)
                scores[s->eos[i]] = -INFINITY;
}

static size_t first_max(const float *scores, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

static void divide(float *scores, size_t n, double temperature)
{
    float t = (float)temperature, best = scores[first_max(scores, n)];
    // So cold that the quotient is no longer a number: only the best remain.
    bool frozen = t == 0.0f || !isfinite(best / t);
    for (size_t i = 0; i < n; i++) {
        if (frozen)
            scores[i] = scores[i] == best ? 0.0f : -INFINITY;
        else
            scores[i] /= t;
    }
}

// true if token a is to be popped before token b.
static bool ahead(const float *scores, int32_t a, int32_t b)
{
    return scores[a] > scores[b] || (scores[a] == scores[b] && a > b);
}

static void sift_down(const float *scores, int32_t *heap, size_t n, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && ahead(scores, heap[child + 1], heap[child]))
            child++;
        if (!ahead(scores, heap[child], heap[at]))
            return;
        int32_t keep = heap[at];
        heap[at] = heap[child];
        heap[child] = keep;
    }
}

// A heap of every token that can still come; its size. Popped tokens come best first, which for the
// usual few kept tokens costs far less than sorting the vocabulary.
static size_t heap_build(struct sampler *s, const float *scores)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_vocab; i++)
        if (scores[i] != -INFINITY)
            s->order[n++] = (int32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(scores, s->order, n, i);
    return n;
}

static int32_t heap_pop(const float *scores, int32_t *heap, size_t *n)
{
    int32_t top = heap[0];
    heap[0] = heap[--*n];
    sift_down(scores, heap, *n, 0);
    return top;
}

static void keep_top_k(struct sampler *s, float *scores, size_t k)
{
    size_t n = heap_build(s, scores);
    if (k >= n)
        return;
    int32_t last = s->order[0];
    for (size_t i = 0; i < k; i++)
        last = heap_pop(scores, s->order, &n);
    float least = scores[last];
    for (size_t i = 0; i < s->n_vocab; i++)
        if (scores[i] < least)
            scores[i] = -INFINITY;
}

static void keep_top_p(struct sampler *s, float *scores, double top_p, size_t min_keep)
{
    double up_to_here = logprob_softmax(scores, s->n_vocab, s->prob); // this token and all smaller
    float removed = (float)(1.0 - top_p);
    size_t n = heap_build(s, scores), n_kept = 0;
    while (n > 0 && (n_kept < min_keep || (float)up_to_here > removed)) {
        up_to_here -= (double)s->prob[heap_pop(scores, s->order, &n)];
        n_kept++;
    }
    for (size_t i = 0; i < n; i++)
        scores[s->order[i]] = -INFINITY;
}

void sampler_warp(struct sampler *s, float *scores, size_t min_keep)
{
    if (s->opt.temperature != 1.0)
        divide(scores, s->n_vocab, s->opt.temperature);
    if (s->opt.top_k > 0)
        keep_top_k(s, scores, max_size((size_t)s->opt.top_k, min_keep));
    if (s->opt.top_p < 1.0)
        keep_top_p(s, scores, s->opt.top_p, min_keep);
}

size_t sampler_draw(struct random *r, const float *weight, size_t n)
{
    double total = 0.0, sum = 0.0;
    size_t last = 0;
    for (size_t i = 0; i < n; i++)
        total += (double)weight[i];
    double target = random_unit(r) * total;
    for (size_t i = 0; i < n; i++) {
        if (!(weight[i] > 0))
            continue;
        last = i;
        sum += (double)weight[i];
        if (sum > target)
            break;
    }
    return last;
}

int sampler_next(struct sampler *s, const float *logits, const int32_t *ids, size_t n, int32_t *id,
                 struct err *e)
{
    *id = 0;
    int rc;
    TRY(logprob_check(logits, s->n_vocab, e));
    memcpy(s->scores, logits, s->n_vocab * sizeof *s->scores);
    sampler_process(s, s->scores, ids, n);
    if (!isfinite(s->scores[first_max(s->scores, s->n_vocab)])) {
        rc = err_set(
            e, ERR_USAGE,
            "min_length %d, ignore_eos %s and repetition_penalty %g leave no token to choose",
            s->opt.min_length, s->opt.ignore_eos ? "on" : "off", s->opt.repetition_penalty);
        goto fail;
    }
    if (!s->opt.do_sample) {
        *id = (int32_t)first_max(s->scores, s->n_vocab);
        return 0;
    }
    sampler_warp(s, s->scores, 1);
    logprob_softmax(s->scores, s->n_vocab, s->prob);
    *id = (int32_t)sampler_draw(&s->random, s->prob, s->n_vocab);
    return 0;
fail:
    return rc;
}
