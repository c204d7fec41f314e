// SPDX-License-Identifier: MIT
// Answers to a chat.
//
//   media -> session (one with the same past, if there is one) -> the prompt fits? -> n answers -> usage, timings
//
// Easy to get wrong: an answer is one of n to the same question, so the turn is dropped before the next; the
// conversation keeps the last one, whose keys the next request will most likely want; a stream's first event says who
// speaks, its last one why it ended; text is told when it is certain, log-probabilities with the text they belong to.

#include "chatanswer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "talks.h"
#include "tokennotes.h"
#include "work.h"

struct chat {
    struct modeljob *m;
    struct media_entry *media; // borrowed from the talk
    bool decoded;              // now
    struct talk *talk;
    int choice;
    struct tokennotes notes;
    struct json_writer body; // of a reply that is no stream
    // sums over the answers
    size_t prompt, cached, generated;
    struct iv_answer first; // numbers of the first one
};

static void begin(const struct chat *c, struct json_writer *w, const char *object)
{
    jw_begin(w);
    jw_text(w, "id", c->m->id);
    jw_text(w, "object", object);
    jw_int(w, "created", c->m->created);
    jw_text(w, "model", iv_engine_info(c->m->server->engine)->name);
    jw_text(w, "system_fingerprint", iv_version());
}

static void send_event(struct chat *c, struct json_writer *w)
{
    struct textbuf b = {0};
    char *text = jw_take(w);
    if (text) {
        textbuf_str(&b, "data: ");
        textbuf_str(&b, text);
        textbuf_str(&b, "\n\n");
    }
    if (!text || b.failed)
        job_cancel(&c->m->job);
    else
        job_write(&c->m->job, b.data, b.len);
    heap_free(text);
    textbuf_free(&b);
}

static void token_ids(const struct iv_answer *a, struct json_writer *w)
{
    jw_array(w, "token_ids");
    for (size_t i = 0; i < a->n_token; i++)
        jw_int(w, NULL, a->token_ids[i]);
    jw_end(w);
}

// One chunk; text NULL = none, role: it says who speaks, ended: the answer that this chunk ends.
static void send_chunk(struct chat *c, bool role, const char *text, size_t n,
                       const struct iv_answer *ended)
{
    struct json_writer w;
    begin(c, &w, "chat.completion.chunk");
    jw_array(&w, "choices");
    jw_object(&w, NULL);
    jw_int(&w, "index", c->choice);
    jw_object(&w, "delta");
    if (role)
        jw_text(&w, "role", "assistant");
    if (text)
        jw_text_n(&w, "content", text, n);
    jw_end(&w);
    if (role)
        jw_null(&w, "logprobs");
    else
        tokennotes_json(&c->notes, c->m->server->engine, &w);
    jw_text(&w, "finish_reason", ended ? ended->finish_reason : NULL);
    if (ended)
        token_ids(ended, &w);
    jw_end(&w);
    jw_end(&w);
    send_event(c, &w);
}

static void on_text(void *user, const char *piece, size_t n)
{
    send_chunk(user, false, piece, n, NULL);
}

static void on_token(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct chat *c = user;
    tokennotes_add(&c->notes, id, logits, n_vocab);
}

static void usage(const struct chat *c, struct json_writer *w)
{
    jw_object(w, "usage");
    jw_count(w, "prompt_tokens", c->prompt);
    jw_count(w, "completion_tokens", c->generated);
    jw_count(w, "total_tokens", c->prompt + c->generated);
    jw_object(w, "prompt_tokens_details");
    jw_count(w, "cached_tokens", c->cached);
    jw_end(w);
    jw_end(w);
}

static void timings(const struct chat *c, struct json_writer *w)
{
    const struct iv_answer *a = &c->first;
    struct media_view v = c->decoded ? mediacache_view(c->media) : (struct media_view){0};
    double preprocess_ms = c->decoded ? iv_media_info(v.media)->preprocess_ms : 0;
    double wait_ms = (double)(c->m->begun_ns - c->m->made_ns) * 1e-6;
    jw_object(w, "timings");
    jw_ms(w, "queue_ms", wait_ms);
    jw_ms(w, "load_ms", 0);
    jw_ms(w, "decode_video_ms", v.decode_ms);
    jw_ms(w, "preprocess_ms", preprocess_ms);
    jw_ms(w, "vision_ms", a->vision_ms);
    jw_ms(w, "qformer_ms", a->qformer_ms);
    jw_ms(w, "prefill_ms", a->prefill_ms);
    jw_ms(w, "generate_ms", a->generate_ms);
    jw_ms(w, "ttft_ms", v.decode_ms + preprocess_ms + a->ttft_ms);
    jw_ms(w, "tokens_per_second", a->tokens_per_second);
    jw_end(w);
}

static void video(const struct chat *c, struct json_writer *w)
{
    if (!c->media) {
        jw_null(w, "video");
        return;
    }
    jw_object(w, "video");
    work_media_members(mediacache_view(c->media).media, c->m->from.shown, w);
    jw_flag(w, "cache_hit", c->first.media_cached);
    jw_end(w);
}

static struct iv_ask_options ask_options(struct chat *c)
{
    const struct chatreq *q = &c->m->q;
    struct iv_ask_options o = iv_ask_options_default();
    o.max_new_tokens = q->max_tokens ? q->max_tokens : c->m->server->s->max_new_tokens;
    o.temperature = q->temperature;
    o.top_p = q->top_p;
    o.top_k = q->top_k;
    o.seed = q->seed + (uint64_t)c->choice;
    o.num_beams = q->num_beams;
    o.length_penalty = q->length_penalty;
    o.repetition_penalty = q->repetition_penalty;
    o.min_length = q->min_length;
    o.ignore_eos = q->ignore_eos;
    o.stop = q->stop;
    o.n_stop = q->n_stop;
    o.answer_prefix = q->answer_prefix;
    o.user = c;
    o.text = q->stream ? on_text : NULL;
    o.token = q->n_logprob >= 0 ? on_token : NULL;
    return o;
}

static void add_choice(struct chat *c, const struct iv_answer *a)
{
    struct json_writer *w = &c->body;
    jw_object(w, NULL);
    jw_int(w, "index", c->choice);
    jw_object(w, "message");
    jw_text(w, "role", "assistant");
    jw_text_n(w, "content", a->text, a->text_len);
    jw_null(w, "refusal");
    jw_end(w);
    tokennotes_json(&c->notes, c->m->server->engine, w);
    jw_text(w, "finish_reason", a->finish_reason);
    token_ids(a, w);
    jw_end(w);
}

static int one_answer(struct chat *c)
{
    const struct chatreq *q = &c->m->q;
    struct iv_ask_options o = ask_options(c);
    struct iv_error e = {0};
    struct iv_answer a;
    c->notes = (struct tokennotes){.n_top = q->n_logprob};
    if (q->stream)
        send_chunk(c, true, "", 0, NULL);
    int rc = iv_session_ask(c->talk->session, q->turn[q->n_turn - 1].question, &o, &a, &e);
    if (rc != IV_OK) {
        tokennotes_free(&c->notes);
        return modeljob_failed(c->m, rc, &e);
    }
    counters_answer(&c->m->server->counters,
                    &(struct counters_answer){.prompt = a.prompt_tokens,
                                              .cached = a.cached_tokens,
                                              .generated = a.n_token,
                                              .vision_ms = a.vision_ms + a.qformer_ms,
                                              .prefill_ms = a.prefill_ms,
                                              .generate_ms = a.generate_ms,
                                              .ttft_ms = a.ttft_ms});
    if (c->choice == 0) {
        c->first = a;
        c->prompt = a.prompt_tokens;
        c->cached = a.cached_tokens;
    }
    c->generated += a.n_token;
    if (q->stream)
        send_chunk(c, false, NULL, 0, &a);
    else
        add_choice(c, &a);
    bool lost = c->notes.failed;
    tokennotes_free(&c->notes);
    iv_answer_free(&a);
    return lost ? modeljob_failed(c->m, IV_ERR_LIMIT, &e) : 0;
}

// Whether the prompt leaves room for an answer.
static int check_room(struct chat *c)
{
    const struct chatreq *q = &c->m->q;
    const struct server *s = c->m->server;
    struct iv_error e = {0};
    int32_t *ids;
    size_t n, most = server_positions(s);
    int rc = iv_session_prompt_ids(c->talk->session, q->turn[q->n_turn - 1].question,
                                   q->answer_prefix, &ids, &n, &e);
    iv_free(ids);
    if (rc != IV_OK)
        return modeljob_failed(c->m, rc, &e);
    if (n > most)
        return refuse(&c->m->refusal, 400, "context_length_exceeded", "messages",
                      "the prompt has %zu tokens, the context holds %zu", n, most);
    return 0;
}

static void choose_seed(struct chatreq *q)
{
    char text[17];
    if (!q->seed_given && q->temperature > 0 && random_text(text, 8))
        q->seed = strtoull(text, NULL, 16);
}

static int answers(struct chat *c)
{
    struct modeljob *m = c->m;
    int rc = check_room(c);
    if (rc != 0)
        return rc;
    choose_seed(&m->q);
    if (m->q.stream) {
        job_settle(&m->job);
    } else {
        begin(c, &c->body, "chat.completion");
        jw_array(&c->body, "choices");
    }
    for (; c->choice < m->q.n_choice && rc == 0; c->choice++) {
        if (c->choice > 0)
            (void)iv_session_drop_turn(c->talk->session, NULL);
        rc = one_answer(c);
    }
    return rc;
}

// What follows the last answer.
static int end(struct chat *c)
{
    static const char done[] = "data: [DONE]\n\n";
    struct modeljob *m = c->m;
    struct json_writer w;
    if (!m->q.stream) {
        jw_end(&c->body);
        usage(c, &c->body);
        timings(c, &c->body);
        video(c, &c->body);
        m->body = jw_take(&c->body);
        m->n_body = m->body ? strlen(m->body) : 0;
        return m->body ? 0 : modeljob_failed(m, IV_ERR_LIMIT, NULL);
    }
    if (m->q.include_usage) {
        begin(c, &w, "chat.completion.chunk");
        jw_array(&w, "choices");
        jw_end(&w);
        usage(c, &w);
        timings(c, &w);
        video(c, &w);
        send_event(c, &w);
    }
    job_write(&m->job, done, sizeof done - 1);
    return 0;
}

int chatanswer_work(struct modeljob *m)
{
    struct chat c = {.m = m};
    bool found;
    if (modeljob_media(m, &c.media, &found) != 0 ||
        talks_take(m->server->talks, m->owner, c.media, &m->q, &m->job, &c.talk, &m->refusal) != 0)
        return -1;
    c.decoded = c.media && !found;
    int rc = answers(&c);
    if (rc == 0)
        rc = end(&c);
    else
        heap_free(jw_take(&c.body));
    talks_give(m->server->talks, c.talk, rc == 0 || m->refusal.status == 503);
    return rc;
}

int chatanswer_template(struct modeljob *m)
{
    struct chat c = {.m = m};
    struct iv_error e = {0};
    struct json_writer w;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n, n_id = 0;
    bool found;
    if (modeljob_media(m, &c.media, &found) != 0 ||
        talks_take(m->server->talks, m->owner, c.media, &m->q, &m->job, &c.talk, &m->refusal) != 0)
        return -1;
    const char *question = m->q.turn[m->q.n_turn - 1].question, *prefix = m->q.answer_prefix;
    int rc = iv_session_prompt_text(c.talk->session, question, prefix, &text, &n, &e);
    if (rc == IV_OK)
        rc = iv_session_prompt_ids(c.talk->session, question, prefix, &ids, &n_id, &e);
    talks_give(m->server->talks, c.talk, true);
    if (rc == IV_OK) {
        jw_begin(&w);
        jw_text_n(&w, "prompt", text, n);
        jw_array(&w, "tokens");
        for (size_t i = 0; i < n_id; i++)
            jw_int(&w, NULL, ids[i]);
        jw_end(&w);
        jw_count(&w, "count", n_id);
        m->body = jw_take(&w);
        m->n_body = m->body ? strlen(m->body) : 0;
    }
    iv_free(text);
    iv_free(ids);
    if (rc != IV_OK)
        return modeljob_failed(m, rc, &e);
    return m->body ? 0 : modeljob_failed(m, IV_ERR_LIMIT, &e);
}
