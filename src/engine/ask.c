// SPDX-License-Identifier: MIT
// iv_session_ask: encodes the media, prefills what the KV cache does not hold, generates, appends the turn.
//
// Easy to get wrong: keys of generated tokens are never reused, since the answer's text may re-tokenise
// differently; the rows of the media are copied once, so a second session with another instruction on the
// same media does not disturb this one.
#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "chat/generate.h"
#include "engine/session.h"

struct iv_ask_options iv_ask_options_default(void)
{
    return (struct iv_ask_options){.max_new_tokens = 200,
                                   .top_p = 0.9,
                                   .num_beams = 1,
                                   .length_penalty = 1,
                                   .repetition_penalty = 1,
                                   .min_length = 1};
}

// again: what is there from before counts as not being there.
static int encode(iv_session *s, bool again, struct encode_times *t, struct err *e)
{
    int rc;
    iv_media *m = s->media;
    struct encode_request r = {
        .instruction = s->instruction, .cb = &s->callbacks, .use_cache = s->keep_cache};
    *t = (struct encode_times){.cached = m != NULL};
    if (!m || (s->rows && !again))
        return 0;
    TRY(media_lock(m, &s->callbacks, e));
    if (again)
        media_forget(m);
    rc = media_encode(m, &r, t, e);
    if (rc == 0) {
        shared_rows_drop(&s->rows);
        s->rows = shared_rows_hold(m->rows);
    }
    pthread_mutex_unlock(&m->lock);
fail:
    return rc;
}

int session_encode(iv_session *s, struct encode_times *t, struct err *e)
{
    return encode(s, !s->keep_cache, t, e);
}

int session_rows(iv_session *s, struct err *e)
{
    struct encode_times t;
    return encode(s, false, &t, e);
}

// Ids as the reference's input_ids: visual positions hold 0 there (SPEC 6.4).
static int stage_ids(const iv_session *s, const struct ids *ids, struct err *e)
{
    if (!s->callbacks.stage)
        return 0;
    int32_t *v = mem_calloc(ids->n, sizeof *v);
    if (!v)
        return err_set(e, ERR_LIMIT, "session: out of memory for %zu ids", ids->n);
    for (size_t i = 0; i < ids->n; i++)
        v[i] = ids->v[i] < 0 ? 0 : ids->v[i];
    callback_stage(&s->callbacks, "input_ids", "i32", v, &ids->n, 1);
    mem_free(v);
    return 0;
}

int session_prefill(iv_session *s, const struct prompt *p, size_t max_new, size_t *n_cached,
                    struct err *e)
{
    int rc;
    const struct kv *kv = &s->runner.cache[0];
    size_t same =
        s->keep_cache ? prompt_common_prefix(s->cached.v, s->cached.n, p->ids.v, p->ids.n) : 0;
    size_t kept = runner_reusable(&s->runner, min_size(same, kv->n), p->ids.n);
    s->cached.n = kept; // should the ids below not fit
    rc = runner_prefill(&s->runner,
                        &(struct runner_prompt){.ids = p->ids.v,
                                                .n = p->ids.n,
                                                .rows = s->rows ? s->rows->v : NULL,
                                                .n_reused = kept,
                                                .max_new = max_new,
                                                .share = s->keep_cache},
                        s->logits, e);
    *n_cached = s->runner.n_reused;
    if (kv->n > kept) {
        ids_reset(&s->cached);
        int added = ids_append(&s->cached, p->ids.v, min_size(kv->n, p->ids.n), e);
        rc = rc != 0 ? rc : added;
    }
    return rc;
}

static int decoder_step(void *self, const int32_t *ids, size_t n, float *logits, struct err *e)
{
    return runner_step(self, ids, n, logits, e);
}

static int decoder_reorder(void *self, const size_t *parent, size_t n, struct err *e)
{
    return runner_reorder(self, parent, n, e);
}

// FNV-1a over the bits of the last logits: a fingerprint to compare runs by.
static uint64_t hash_logits(const float *logits, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n * sizeof *logits; i++)
        h = (h ^ ((const unsigned char *)logits)[i]) * 1099511628211u;
    return h;
}

static struct generate_options generate_settings(const struct iv_ask_options *o,
                                                 const struct hooks *hooks)
{
    struct generate_options g = generate_options_default();
    g.sampler.do_sample = o->temperature != 0;
    if (g.sampler.do_sample)
        g.sampler.temperature = o->temperature;
    g.sampler.top_p = o->top_p;
    g.sampler.top_k = o->top_k;
    g.sampler.seed = o->seed;
    g.sampler.repetition_penalty = o->repetition_penalty;
    g.sampler.min_length = o->min_length;
    g.sampler.ignore_eos = o->ignore_eos;
    g.max_new_tokens = o->max_new_tokens;
    g.n_beam = o->num_beams;
    g.length_penalty = o->length_penalty;
    g.stop = o->stop;
    g.n_stop = o->n_stop;
    g.forced = o->forced;
    g.n_forced = o->n_forced;
    g.user = o->user;
    g.text = o->text;
    g.hooks = hooks;
    return g;
}

static int fill_answer(struct iv_answer *a, struct generation *g, struct err *e)
{
    a->text_len = g->text.len;
    a->text = buf_take(&g->text);
    if (!a->text)
        return err_set(e, ERR_LIMIT, "session: out of memory for the answer");
    a->token_ids = g->ids.v;
    a->n_token = g->ids.n;
    g->ids = (struct ids){0};
    a->finish_reason = finish_reason_name(g->finish);
    a->score = g->n_beam > 0 ? g->beam[0].score : 0;
    return 0;
}

// Notes when the first token came and passes text on.
struct first_token {
    const struct iv_ask_options *ask;
    double start, ms;
};

static void note_token(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct first_token *f = user;
    if (f->ms == 0)
        f->ms = clock_ms() - f->start;
    if (f->ask->token)
        f->ask->token(f->ask->user, id, logits, n_vocab);
}

static void pass_text(void *user, const char *piece, size_t n)
{
    const struct first_token *f = user;
    if (f->ask->text)
        f->ask->text(f->ask->user, piece, n);
}

// Generates behind the prefilled prompt into *a.
static int generate(iv_session *s, struct generate_options *g, size_t n_prompt, struct iv_answer *a,
                    bool *special, struct err *e)
{
    int rc;
    const struct llm_config *c = &s->engine->config.llm;
    struct generate_model model = {s->engine->tokenizer, c->n_vocab, c->eos, c->n_eos};
    struct decoder d = {.self = &s->runner, .step = decoder_step, .reorder = decoder_reorder};
    struct generation out = {0};
    size_t n, room = s->runner.ctx_limit - n_prompt + 1; // the last token is not fed back
    double start = clock_ms();
    float *logits = NULL;
    if ((size_t)g->max_new_tokens > room)
        g->max_new_tokens = (int)room;
    if (mul_size((size_t)g->n_beam, c->n_vocab, &n))
        logits = mem_calloc(n, sizeof *logits);
    if (!logits)
        return err_set(e, ERR_LIMIT, "session: out of memory for %d rows of logits", g->n_beam);
    memcpy(logits, s->logits, c->n_vocab * sizeof *logits);
    bool alone = g->n_beam > 1;
    if (!alone)
        runner_sit(&s->runner);
    rc = generate_run(&model, &d, g, logits, &out, e);
    if (!alone)
        runner_rise(&s->runner);
    TRY(rc);
    a->generate_ms = clock_ms() - start;
    a->logits_hash = hash_logits(logits, c->n_vocab);
    *special = out.has_control;
    TRY(fill_answer(a, &out, e));
    if (a->generate_ms > 0)
        a->tokens_per_second = (double)a->n_token * 1e3 / a->generate_ms;
fail:
    generation_free(&out);
    mem_free(logits);
    return rc;
}

static void remember_options(iv_session *s, const struct iv_ask_options *o)
{
    s->last = *o;
    s->last.stop = NULL;
    s->last.n_stop = 0;
    s->last.answer_prefix = NULL;
    s->last.forced = NULL;
    s->last.n_forced = 0;
    s->last.user = NULL;
    s->last.text = NULL;
    s->last.token = NULL;
}

// Media and KV for a prompt that is known to fit; t, *n_cached, *ms: what it took.
static int prepare(iv_session *s, const struct prompt *p, size_t max_new, struct encode_times *t,
                   size_t *n_cached, double *ms, struct err *e)
{
    int rc;
    prefetch_until(s->engine->prefetch, s->engine->model.n_order);
    TRY(session_encode(s, t, e));
    TRY(stage_ids(s, &p->ids, e));
    double start = clock_ms();
    TRY(session_prefill(s, p, max_new, n_cached, e));
    *ms = clock_ms() - start;
fail:
    return rc;
}

static int check_room(const iv_session *s, size_t n, struct err *e)
{
    if (n <= s->runner.ctx_limit)
        return 0;
    return err_set(e, ERR_LIMIT, "the prompt has %zu tokens, the context holds %zu", n,
                   s->runner.ctx_limit);
}

int iv_session_warm(iv_session *s, struct iv_error *error)
{
    struct err e = {0};
    struct prompt p = {0};
    struct encode_times t;
    size_t n_cached;
    int rc = 0;
    if (!s->keep_cache)
        return IV_OK;
    TRY(check_room(s, session_n_visual(s), &e));
    // of a prompt with an empty question the next one keeps what stands in front of the question
    TRY(session_prompt(s, "", NULL, &p, &e));
    TRY(check_room(s, p.ids.n, &e));
    TRY(session_wake(s, &e));
    rc = session_encode(s, &t, &e);
    if (rc == 0)
        rc = session_prefill(s, &p, (size_t)s->last.max_new_tokens, &n_cached, &e);
    session_rest(s);
fail:
    prompt_free(&p);
    return status_out(rc, &e, error);
}

// The turn behind a prompt that is built and fits.
static int answer(iv_session *s, const struct prompt *p, struct generate_options *g,
                  struct iv_answer *a, bool *special, struct err *e)
{
    struct encode_times t;
    int rc;
    TRY(prepare(s, p, (size_t)g->max_new_tokens, &t, &a->cached_tokens, &a->prefill_ms, e));
    callback_stage(&s->callbacks, "logits", "f32", s->logits, &s->engine->config.llm.n_vocab, 1);
    a->vision_ms = t.vision_ms;
    a->qformer_ms = t.qformer_ms;
    a->media_cached = t.cached;
    a->prompt_tokens = p->ids.n;
    TRY(generate(s, g, p->ids.n, a, special, e));
fail:
    return rc;
}

static int check_forced(const iv_session *s, const struct iv_ask_options *o, struct err *e)
{
    size_t n = tokenizer_size(s->engine->tokenizer); // the model may have more, without text
    for (size_t i = 0; i < o->n_forced; i++)
        if (o->forced[i] < 0 || (size_t)o->forced[i] >= n)
            return err_set(e, ERR_USAGE, "forced: %d is no token of this model", (int)o->forced[i]);
    return 0;
}

int iv_session_ask(iv_session *s, const char *question, const struct iv_ask_options *o,
                   struct iv_answer *a, struct iv_error *error)
{
    struct err e = {0};
    struct prompt p = {0};
    struct first_token first = {.ask = o, .start = clock_ms()};
    struct generate_options g = generate_settings(o, &s->runner.hooks);
    if (o->n_forced > 0)
        g.max_new_tokens = (int)min_size(o->n_forced, INT_MAX);
    bool special = false;
    int rc;
    memset(a, 0, sizeof *a);
    g.user = &first;
    g.text = pass_text;
    g.token = g.n_beam == 1 ? note_token : NULL;
    TRY(check_forced(s, o, &e));
    TRY(generate_options_check(&g, &e));
    if (g.n_beam > RUNNER_MAX_BEAM)
        TRY(err_set(&e, ERR_USAGE, "num-beams: %d is not in 1..%d", g.n_beam, RUNNER_MAX_BEAM));
    TRY(check_room(s, session_n_visual(s), &e));
    TRY(session_prompt(s, question, o->answer_prefix, &p, &e)); // cheap: before any long work
    TRY(check_room(s, p.ids.n, &e));
    if (o->n_forced > s->runner.ctx_limit - p.ids.n + 1)
        TRY(err_set(&e, ERR_LIMIT,
                    "an answer of %zu tokens behind a prompt of %zu: the context holds %zu",
                    o->n_forced, p.ids.n, s->runner.ctx_limit));
    TRY(session_wake(s, &e));
    rc = answer(s, &p, &g, a, &special, &e);
    session_rest(s);
    TRY(rc);
    a->ttft_ms = first.ms > 0 ? first.ms : clock_ms() - first.start;
    TRY(session_add_turn(s, question, a->text, a->text_len, special, &e));
    remember_options(s, o);
    prompt_free(&p);
    return IV_OK;
fail:
    prompt_free(&p);
    iv_answer_free(a);
    return status_out(rc, &e, error);
}

void iv_answer_free(struct iv_answer *a)
{
    if (!a)
        return;
    mem_free(a->text);
    mem_free(a->token_ids);
    memset(a, 0, sizeof *a);
}
