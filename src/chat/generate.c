// SPDX-License-Identifier: MIT
// logits -> sampler or beam search -> id -> detokeniser -> stop texts -> answer text.
//
// Easy to get wrong: the end of sequence is among the ids but never in the text. A stop text can be
// completed by what the detokeniser held back until the end. The text of an answer that the tokenizer
// reads back in the next turn may hold strings of control tokens; only those that the model generated
// as such (has_control) may become control tokens again.
#include "chat/generate.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "chat/beam.h"

struct generate_options generate_options_default(void)
{
    return (struct generate_options){.sampler = sampler_options_default(),
                                     .max_new_tokens = 200,
                                     .n_beam = 1,
                                     .length_penalty = 1.0,
                                     .n_logprob = -1};
}

static struct beam_options beam_options_of(const struct generate_options *o)
{
    return (struct beam_options){.n_beam = o->n_beam,
                                 .length_penalty = o->length_penalty,
                                 .max_new_tokens = o->max_new_tokens};
}

int generate_options_check(const struct generate_options *o, struct err *e)
{
    struct beam_options beam = beam_options_of(o);
    struct stop_match stop;
    int rc;
    TRY(sampler_options_check(&o->sampler, e));
    TRY(beam_options_check(&beam, e));
    TRY(stop_init(&stop, o->stop, o->n_stop, e));
    stop_free(&stop);
    if (o->n_logprob < -1 || o->n_logprob > GENERATE_LOGPROB_MAX)
        rc = err_set(e, ERR_USAGE, "logprobs: %d is not in 0..%d", o->n_logprob,
                     GENERATE_LOGPROB_MAX);
    else if (o->n_forced > 0 && (o->n_beam > 1 || o->n_stop > 0))
        rc = err_set(e, ERR_USAGE, "forced: cannot be had together with beams or stop texts");
    else if (o->n_logprob >= 0 && o->n_beam > 1)
        rc = err_set(e, ERR_USAGE, "logprobs: cannot be had together with num_beams %d", o->n_beam);
fail:
    return rc;
}

const char *finish_reason_name(enum finish_reason f)
{
    return f == FINISH_STOP ? "stop" : f == FINISH_LENGTH ? "length" : "";
}

void generation_free(struct generation *a)
{
    for (size_t i = 0; i < a->n_beam; i++)
        ids_free(&a->beam[i].ids);
    mem_free(a->beam);
    mem_free(a->logprob);
    ids_free(&a->ids);
    buf_free(&a->text);
    memset(a, 0, sizeof *a);
}

int generator_init(struct generator *g, const struct generate_model *m,
                   const struct generate_options *o, struct err *e)
{
    memset(g, 0, sizeof *g);
    int rc;
    TRY(generate_options_check(o, e));
    g->model = *m;
    g->opt = o;
    TRY(sampler_init(&g->sampler, &o->sampler, m->n_vocab, m->eos, m->n_eos, e));
    TRY(stop_init(&g->stop, o->stop, o->n_stop, e));
    detok_init(&g->detok, m->tokenizer);
    return 0;
fail:
    generator_free(g);
    return rc;
}

void generator_free(struct generator *g)
{
    generation_free(&g->answer);
    sampler_free(&g->sampler);
    stop_free(&g->stop);
    buf_free(&g->piece);
    memset(g, 0, sizeof *g);
}

// Passes g->piece through the stop texts to the answer and the caller.
static int emit(struct generator *g, bool last, struct err *e)
{
    struct buf *text = &g->answer.text;
    size_t from = text->len;
    int rc;
    TRY(stop_push(&g->stop, g->piece.data, g->piece.len, text, e));
    if (last)
        TRY(stop_finish(&g->stop, text, e));
    buf_reset(&g->piece);
    if (text->len > from && g->opt->text)
        g->opt->text(g->opt->user, text->data + from, text->len - from);
fail:
    return rc;
}

static int end(struct generator *g, enum finish_reason reason, struct err *e)
{
    int rc;
    TRY(detok_finish(&g->detok, &g->piece, e));
    TRY(emit(g, true, e));
    g->answer.finish = g->stop.hit ? FINISH_STOP : reason;
    g->done = true;
fail:
    return rc;
}

// Does the answer show this token as the text of a control token?
static int note_control(struct generator *g, int32_t id, struct err *e)
{
    struct buf text = {0};
    int rc = 0;
    if (tokenizer_is_added(g->model.tokenizer, id)) {
        TRY(tokenizer_decode(g->model.tokenizer, &id, 1, &text, e));
        g->answer.has_control |= text.len > 0;
    }
fail:
    buf_free(&text);
    return rc;
}

// A row may only fill the matrix up: it has no piece, and trained weights hardly ever choose it.
static int check_piece(const struct generator *g, int32_t id, struct err *e)
{
    size_t n_piece = tokenizer_size(g->model.tokenizer);
    if ((size_t)id < n_piece)
        return 0;
    return err_set(e, ERR_MODEL,
                   "the model chose token %d of its %zu, its tokenizer has %zu pieces", (int)id,
                   g->model.n_vocab, n_piece);
}

// A token's text; sets done if it completes a stop text.
static int add_text(struct generator *g, int32_t id, struct err *e)
{
    int rc;
    TRY(check_piece(g, id, e));
    TRY(note_control(g, id, e));
    TRY(detok_push(&g->detok, id, &g->piece, e));
    TRY(emit(g, false, e));
    if (g->stop.hit) {
        g->answer.finish = FINISH_STOP;
        g->done = true;
    }
fail:
    return rc;
}

static int add_logprob(struct generator *g, const float *logits, int32_t id, struct err *e)
{
    if (g->opt->n_logprob < 0)
        return 0;
    size_t n_top = (size_t)g->opt->n_logprob, width = 1 + n_top, at = g->answer.ids.n;
    if (at == g->cap_logprob) {
        size_t cap = max_size(64, g->cap_logprob * 2), n;
        struct token_logprob *p = NULL;
        if (mul_size(cap, width, &n))
            p = mem_realloc(g->answer.logprob, n, sizeof *p);
        if (!p)
            return err_set(e, ERR_LIMIT, "logprobs: no memory for %zu tokens", cap);
        g->answer.logprob = p;
        g->cap_logprob = cap;
    }
    struct token_logprob *row = g->answer.logprob + at * width;
    double total = logprob_total(logits, g->model.n_vocab);
    row[0] = (struct token_logprob){.id = id, .logprob = (float)((double)logits[id] - total)};
    size_t n = logprob_top(logits, g->model.n_vocab, row + 1, n_top);
    for (; n < n_top; n++)
        row[1 + n] = (struct token_logprob){.id = -1};
    return 0;
}

int generator_push(struct generator *g, const float *logits, struct err *e)
{
    struct ids *ids = &g->answer.ids;
    int32_t id;
    int rc;
    bool forced = g->opt->n_forced > 0;
    if (forced)
        id = g->opt->forced[ids->n];
    else
        TRY(sampler_next(&g->sampler, logits, ids->v, ids->n, &id, e));
    bool last = !forced && sampler_is_eos(&g->sampler, id);
    if (!last)
        TRY(check_piece(g, id, e)); // before anybody is told of it
    TRY(add_logprob(g, logits, id, e));
    TRY(ids_add(ids, id, e));
    if (g->opt->token)
        g->opt->token(g->opt->user, id, logits, g->model.n_vocab);
    if (last) {
        TRY(end(g, FINISH_STOP, e));
        return 0;
    }
    TRY(add_text(g, id, e));
    size_t most = forced ? g->opt->n_forced : (size_t)g->opt->max_new_tokens;
    if (!g->done && ids->n >= most)
        TRY(end(g, FINISH_LENGTH, e));
    g->next = id;
fail:
    return rc;
}

// Once a token: tells the caller and asks whether to go on.
static int report(const struct generate_options *o, size_t n_token, struct err *e)
{
    hooks_progress(o->hooks, "generate", n_token, (size_t)o->max_new_tokens);
    if (hooks_abort(o->hooks))
        return err_set(e, ERR_ABORT, "generate: stopped after %zu tokens", n_token);
    return 0;
}

static int run_tokens(struct generator *g, const struct decoder *d, float *logits, struct err *e)
{
    int rc;
    TRY(report(g->opt, 0, e));
    TRY(generator_push(g, logits, e));
    while (!g->done) {
        TRY(report(g->opt, g->answer.ids.n, e));
        TRY(d->step(d->self, &g->next, 1, logits, e));
        TRY(generator_push(g, logits, e));
    }
    hooks_progress(g->opt->hooks, "generate", g->answer.ids.n, g->answer.ids.n);
fail:
    return rc;
}

// The hypotheses into the answer, the first one's text too.
static int take_beams(struct generator *g, const struct beam_search *b, struct err *e)
{
    struct generation *a = &g->answer;
    int rc;
    a->beam = mem_calloc(b->n_hypothesis, sizeof *a->beam);
    if (!a->beam) {
        rc = err_set(e, ERR_LIMIT, "beam search: no memory for %zu answers", b->n_hypothesis);
        goto fail;
    }
    a->n_beam = b->n_hypothesis;
    for (size_t i = 0; i < a->n_beam; i++) {
        a->beam[i].score = b->hypothesis[i].score;
        TRY(beam_ids(b, &b->hypothesis[i], &a->beam[i].ids, e));
    }
    const struct ids *best = &a->beam[0].ids;
    TRY(ids_append(&a->ids, best->v, best->n, e));
    bool ended = b->hypothesis[0].eos >= 0;
    for (size_t i = 0; i < best->n - ended && !g->done; i++)
        TRY(add_text(g, best->v[i], e));
    if (!g->done)
        TRY(end(g, ended ? FINISH_STOP : FINISH_LENGTH, e));
fail:
    return rc;
}

static int run_beams(struct generator *g, const struct decoder *d, float *logits, struct err *e)
{
    struct beam_options bo = beam_options_of(g->opt);
    struct beam_search b = {0};
    int rc;
    if (!d->reorder) {
        rc = err_set(e, ERR_USAGE, "num_beams: this model runs one timeline, not %d", bo.n_beam);
        goto fail;
    }
    TRY(beam_init(&b, &bo, &g->sampler, e));
    TRY(report(g->opt, 0, e));
    TRY(beam_step(&b, logits, 1, e));
    while (!b.done) {
        TRY(report(g->opt, b.n_step, e));
        TRY(d->reorder(d->self, b.parent, b.n_beam, e));
        TRY(d->step(d->self, b.token, b.n_beam, logits, e));
        TRY(beam_step(&b, logits, b.n_beam, e));
    }
    hooks_progress(g->opt->hooks, "generate", b.n_step, b.n_step);
    beam_finish(&b);
    TRY(take_beams(g, &b, e));
fail:
    beam_free(&b);
    return rc;
}

int generate_run(const struct generate_model *m, const struct decoder *d,
                 const struct generate_options *o, float *logits, struct generation *out,
                 struct err *e)
{
    memset(out, 0, sizeof *out);
    struct generator g;
    int rc;
    TRY(generator_init(&g, m, o, e));
    TRY(o->n_beam > 1 ? run_beams(&g, d, logits, e) : run_tokens(&g, d, logits, e));
    *out = g.answer;
    g.answer = (struct generation){0};
fail:
    generator_free(&g);
    return rc;
}
