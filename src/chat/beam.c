// SPDX-License-Identifier: MIT
// Beam search with B beams (SPEC 7.4; transformers 4.39 semantics, early_stopping False).
//
//   log-softmax of each row -> processors -> [sampling: warpers] -> + score of its beam
//   -> candidates, best first: the 2B best (B (1 + n_eos) if more); sampling: 2B drawn
//   -> walk: an end of sequence among the first B closes a hypothesis, others fill the next beams
//   done: B hypotheses and the worst is at least the best that any candidate has now.
//
// Easy to get wrong: the search starts from one beam (the reference: scores [0, -1e9, ...]), when
// sampling from B equal ones. Processors act on log-probabilities. An end of sequence ranked B or later
// is dropped, but a best candidate that is one still counts in the test for done. At the length limit
// open beams are stored unless done. Sums are f32, as in the reference; a hypothesis' score is a double.
#include "chat/beam.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "chat/logprob.h"

int beam_options_check(const struct beam_options *o, struct err *e)
{
    if (o->n_beam < 1 || o->n_beam > BEAM_MAX)
        return err_set(e, ERR_USAGE, "num_beams: %d is not in 1..%d", o->n_beam, BEAM_MAX);
    if (!(o->length_penalty >= -10 && o->length_penalty <= 10))
        return err_set(e, ERR_USAGE, "length_penalty: %g is not in [-10, 10]", o->length_penalty);
    if (o->max_new_tokens < 1)
        return err_set(e, ERR_USAGE, "max_new_tokens: %d is less than 1", o->max_new_tokens);
    return 0;
}

int beam_init(struct beam_search *b, const struct beam_options *o, struct sampler *sampler,
              struct err *e)
{
    memset(b, 0, sizeof *b);
    int rc;
    TRY(beam_options_check(o, e));
    b->opt = *o;
    b->sampler = sampler;
    b->n_beam = (size_t)o->n_beam;
    b->max_candidate = b->n_beam * max_size(2, 1 + sampler->n_eos);
    bool sampling = sampler->opt.do_sample;
    size_t n_row = sampling ? b->n_beam : 1, n_score;
    if (!mul_size(n_row, sampler->n_vocab, &n_score)) {
        rc = err_set(e, ERR_LIMIT, "beam search: %zu rows of %zu tokens", n_row, sampler->n_vocab);
        goto fail;
    }
    b->token = mem_calloc(b->n_beam, sizeof *b->token);
    b->parent = mem_calloc(b->n_beam, sizeof *b->parent);
    b->score = mem_calloc(b->n_beam, sizeof *b->score);
    b->candidate = mem_calloc(b->max_candidate, sizeof *b->candidate);
    b->rows = mem_calloc(n_score, sizeof *b->rows);
    b->weight = sampling ? mem_calloc(n_score, sizeof *b->weight) : NULL;
    b->hypothesis = mem_calloc(b->n_beam, sizeof *b->hypothesis);
    if (!b->token || !b->parent || !b->score || !b->candidate || !b->rows || !b->hypothesis ||
        (sampling && !b->weight)) {
        rc = err_set(e, ERR_LIMIT, "beam search: no memory for %zu beams", b->n_beam);
        goto fail;
    }
    b->n_live = sampling ? b->n_beam : 1;
    return 0;
fail:
    beam_free(b);
    return rc;
}

void beam_free(struct beam_search *b)
{
    mem_free(b->token);
    mem_free(b->parent);
    mem_free(b->score);
    mem_free(b->past_token);
    mem_free(b->past_slot);
    mem_free(b->path);
    mem_free(b->candidate);
    mem_free(b->rows);
    mem_free(b->weight);
    mem_free(b->hypothesis);
    memset(b, 0, sizeof *b);
}

// Room for one more step.
static int grow(struct beam_search *b, struct err *e)
{
    if (b->n_step < b->cap_step)
        return 0;
    size_t cap = min_size((size_t)b->opt.max_new_tokens, max_size(32, b->cap_step * 2)), n;
    int32_t *token = NULL, *path = NULL;
    uint8_t *slot = NULL;
    if (mul_size(cap, b->n_beam, &n)) {
        token = mem_realloc(b->past_token, n, sizeof *token);
        b->past_token = token ? token : b->past_token;
        slot = mem_realloc(b->past_slot, n, sizeof *slot);
        b->past_slot = slot ? slot : b->past_slot;
        path = mem_realloc(b->path, cap, sizeof *path);
        b->path = path ? path : b->path;
    }
    if (!token || !slot || !path)
        return err_set(e, ERR_LIMIT, "beam search: no memory for %zu steps of %zu beams", cap,
                       b->n_beam);
    b->cap_step = cap;
    return 0;
}

// The n ids (n <= n_step) that lead to `slot` after step n.
static void read_path(const struct beam_search *b, size_t n, size_t slot, int32_t *out)
{
    for (size_t i = n; i-- > 0;) {
        out[i] = b->past_token[i * b->n_beam + slot];
        slot = b->past_slot[i * b->n_beam + slot];
    }
}

static bool ahead(const struct beam_candidate *a, const struct beam_candidate *b)
{
    if (a->score != b->score)
        return a->score > b->score;
    return a->parent != b->parent ? a->parent < b->parent : a->token < b->token;
}

// Keeps the best max_candidate in order.
static void offer(struct beam_search *b, struct beam_candidate c)
{
    size_t at = b->n_candidate;
    if (at == b->max_candidate && !ahead(&c, &b->candidate[at - 1]))
        return;
    if (at < b->max_candidate)
        b->n_candidate++;
    else
        at--;
    for (; at > 0 && ahead(&c, &b->candidate[at - 1]); at--)
        b->candidate[at] = b->candidate[at - 1];
    b->candidate[at] = c;
}

// Row of log-probabilities of beam i after processors and warpers, its score added.
static int score_row(struct beam_search *b, size_t i, const float *logits, float *row,
                     struct err *e)
{
    struct sampler *s = b->sampler;
    int rc;
    TRY(logprob_check(logits, s->n_vocab, e));
    memcpy(row, logits, s->n_vocab * sizeof *row);
    logprob_normalise(row, s->n_vocab);
    if (s->opt.repetition_penalty != 1.0)
        read_path(b, b->n_step, i, b->path);
    sampler_process(s, row, b->path, b->n_step);
    bool any = false;
    for (size_t k = 0; k < s->n_vocab && !any; k++)
        any = row[k] != -INFINITY;
    if (any && s->opt.do_sample)
        sampler_warp(s, row, 2);
    for (size_t k = 0; k < s->n_vocab; k++)
        row[k] += b->score[i];
fail:
    return rc;
}

static void offer_row(struct beam_search *b, size_t i, const float *row)
{
    for (size_t k = 0; k < b->sampler->n_vocab; k++)
        if (row[k] != -INFINITY)
            offer(b, (struct beam_candidate){.score = row[k], .token = (int32_t)k, .parent = i});
}

// 2B draws without replacement, in proportion to the softmax over all beams.
static void draw_candidates(struct beam_search *b)
{
    size_t n_vocab = b->sampler->n_vocab, n = b->n_live * n_vocab;
    bool any = false;
    for (size_t k = 0; k < n && !any; k++)
        any = b->rows[k] != -INFINITY;
    if (!any)
        return;
    logprob_softmax(b->rows, n, b->weight);
    for (size_t d = 0; d < 2 * b->n_beam; d++) {
        size_t k = sampler_draw(&b->sampler->random, b->weight, n);
        if (!(b->weight[k] > 0))
            break; // fewer than 2B tokens have any probability
        b->weight[k] = 0;
        offer(b, (struct beam_candidate){
                     .score = b->rows[k], .token = (int32_t)(k % n_vocab), .parent = k / n_vocab});
    }
}

static double final_score(const struct beam_search *b, float sum, size_t n_token)
{
    return (double)sum / pow((double)n_token, b->opt.length_penalty);
}

static size_t worst(const struct beam_search *b)
{
    size_t at = 0;
    for (size_t i = 1; i < b->n_hypothesis; i++)
        if (b->hypothesis[i].score < b->hypothesis[at].score)
            at = i;
    return at;
}

// Keeps the best n_beam; of equal ones the later.
static void store(struct beam_search *b, float sum, size_t n_token, size_t slot, int32_t eos)
{
    struct beam_hypothesis h = {
        .score = final_score(b, sum, n_token), .n_token = n_token, .slot = slot, .eos = eos};
    if (b->n_hypothesis == b->n_beam) {
        size_t at = worst(b);
        if (!(h.score > b->hypothesis[at].score))
            return;
        // Shifted, not replaced: the order of storing decides between equals.
        memmove(&b->hypothesis[at], &b->hypothesis[at + 1],
                (b->n_hypothesis - at - 1) * sizeof *b->hypothesis);
        b->n_hypothesis--;
    }
    b->hypothesis[b->n_hypothesis++] = h;
}

// Hypotheses and next beams from the candidates; returns how many beams go on.
static size_t walk(struct beam_search *b)
{
    size_t n_next = 0;
    for (size_t rank = 0; rank < b->n_candidate && n_next < b->n_beam; rank++) {
        const struct beam_candidate *c = &b->candidate[rank];
        if (sampler_is_eos(b->sampler, c->token)) {
            if (rank < b->n_beam)
                store(b, c->score, b->n_step + 1, c->parent, c->token);
            continue;
        }
        b->token[n_next] = c->token;
        b->parent[n_next] = c->parent;
        b->score[n_next++] = c->score;
    }
    for (size_t i = n_next; i < b->n_beam && n_next > 0; i++) {
        b->token[i] = b->token[0];
        b->parent[i] = b->parent[0];
    }
    return n_next;
}

// No beam can still give a better hypothesis than those stored, as far as the reference looks ahead.
static bool is_full(const struct beam_search *b)
{
    double best = final_score(b, b->candidate[0].score, b->n_step);
    return b->n_hypothesis == b->n_beam && b->hypothesis[worst(b)].score >= best;
}

int beam_step(struct beam_search *b, const float *logits, size_t n_row, struct err *e)
{
    size_t n_vocab = b->sampler->n_vocab;
    bool sampling = b->sampler->opt.do_sample;
    int rc;
    if (b->done || (n_row != b->n_beam && !(n_row == 1 && b->n_step == 0))) {
        rc = err_set(e, ERR_FAIL, "beam search: %zu rows for %zu beams at step %zu", n_row,
                     b->n_beam, b->n_step);
        goto fail;
    }
    TRY(grow(b, e));
    b->n_candidate = 0;
    for (size_t i = 0; i < b->n_live; i++) {
        float *row = sampling ? b->rows + i * n_vocab : b->rows;
        TRY(score_row(b, i, n_row == 1 ? logits : logits + i * n_vocab, row, e));
        if (!sampling)
            offer_row(b, i, row);
    }
    if (sampling)
        draw_candidates(b);
    b->n_live = walk(b);
    if (b->n_live == 0 && b->n_hypothesis == 0) {
        rc = err_set(e, ERR_USAGE, "beam search: the options leave no token to choose at step %zu",
                     b->n_step);
        goto fail;
    }
    for (size_t i = 0; i < b->n_live; i++) {
        b->past_token[b->n_step * b->n_beam + i] = b->token[i];
        b->past_slot[b->n_step * b->n_beam + i] = (uint8_t)b->parent[i];
    }
    b->n_step++;
    // n_live = 0: every candidate was an end of sequence.
    b->done = b->n_live == 0 || is_full(b) || b->n_step == (size_t)b->opt.max_new_tokens;
    return 0;
fail:
    return rc;
}

void beam_finish(struct beam_search *b)
{
    // If the search ended before the limit no open beam is good enough to be stored: see is_full.
    for (size_t i = 0; i < b->n_live; i++)
        store(b, b->score[i], b->n_step, i, -1);
    for (size_t i = 1; i < b->n_hypothesis; i++) {
        struct beam_hypothesis h = b->hypothesis[i];
        size_t at = i;
        for (; at > 0 && b->hypothesis[at - 1].score <= h.score; at--)
            b->hypothesis[at] = b->hypothesis[at - 1];
        b->hypothesis[at] = h;
    }
}

int beam_ids(const struct beam_search *b, const struct beam_hypothesis *h, struct ids *out,
             struct err *e)
{
    size_t n = h->n_token - (h->eos >= 0);
    int rc;
    read_path(b, n, h->slot, b->path);
    TRY(ids_append(out, b->path, n, e));
    if (h->eos >= 0)
        TRY(ids_add(out, h->eos, e));
fail:
    return rc;
}
