// SPDX-License-Identifier: MIT
// iv_session: a conversation's life, its turns and the prompt they make. Each turn builds the whole prompt anew
// (history is re-tokenised text, SPEC 6.2 and 7.6); asking is in ask.c.
#include "engine/session.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "chat/template.h"

enum { MAX_TURNS = 1 << 16 };

struct iv_session_options iv_session_options_default(void)
{
    return (struct iv_session_options){.keep_cache = true};
}

static int copy_bytes(char **out, const char *s, size_t n, struct err *e)
{
    *out = mem_strndup(s, n);
    return *out ? 0 : err_set(e, ERR_LIMIT, "session: out of memory for %zu bytes of text", n);
}

static int copy_text(char **out, const char *s, struct err *e)
{
    *out = NULL;
    return s ? copy_bytes(out, s, strlen(s), e) : 0;
}

// Whether s can talk about media (NULL = none).
static int check_media(const iv_session *s, const iv_media *media, struct err *e)
{
    if (media && media->engine != s->engine)
        return err_set(e, ERR_USAGE, "the media was opened with another engine");
    if (s->time_text && media && !media->info.image && !media->time_text)
        return err_set(e, ERR_USAGE, "time text: the media has no frame rate");
    return 0;
}

int iv_session_open(const iv_engine *g, iv_media *media, const struct iv_session_options *o,
                    iv_session **out, struct iv_error *error)
{
    struct err e = {0};
    int rc;
    *out = NULL;
    iv_session *s = mem_calloc(1, sizeof *s);
    if (!s)
        return status_out(err_set(&e, ERR_LIMIT, "session: out of memory"), &e, error);
    s->engine = g;
    s->media = media;
    s->callbacks = o->callbacks;
    s->allow_special = o->allow_special;
    s->time_text = o->time_text;
    s->keep_cache = o->keep_cache && cache_on(g->cache);
    s->last = iv_ask_options_default();
    TRY(engine_check_computes(g, &e));
    TRY(check_media(s, media, &e));
    TRY(copy_text(&s->instruction, o->instruction, &e));
    TRY(copy_text(&s->msg, o->msg, &e));
    s->logits = mem_calloc(g->config.llm.n_vocab, sizeof *s->logits);
    if (!s->logits)
        TRY(err_set(&e, ERR_LIMIT, "session: out of memory for %zu logits", g->config.llm.n_vocab));
    TRY(runner_init(&s->runner, g, &s->callbacks, o->n_ctx, &e));
    *out = s;
    return IV_OK;
fail:
    iv_session_close(s);
    return status_out(rc, &e, error);
}

// Takes the parked KV back, if it is still there.
static bool take_kv(iv_session *s)
{
    struct kv kv;
    if (!s->runner.cache || !cache_unpark(s->engine->cache, s, &kv))
        return false;
    kv_free(&s->runner.cache[0]);
    s->runner.cache[0] = kv;
    return true;
}

int session_wake(iv_session *s, struct err *e)
{
    struct kv *kv = &s->runner.cache[0];
    if (take_kv(s) && s->cached.n > 0)
        return 0;
    s->cached.n = 0; // gone, or of other media: not to be held while the new media is encoded
    kv_free(kv);
    return kv_init(kv, s->runner.ops, &s->engine->config.llm, s->engine->kv_types, e);
}

void session_rest(iv_session *s)
{
    struct kv *kv = runner_rest(&s->runner, s->keep_cache ? s->cached.n : 0);
    if (kv->n == 0) {
        kv_free(kv);
        return;
    }
    cache_park(s->engine->cache, s, kv, kv_held(kv));
}

static void turn_free(struct turn *t)
{
    mem_free(t->question);
    mem_free(t->answer);
}

void iv_session_reset(iv_session *s)
{
    for (size_t i = 0; i < s->n_turn; i++)
        turn_free(&s->turn[i]);
    s->n_turn = 0;
}

void iv_session_close(iv_session *s)
{
    if (!s)
        return;
    iv_session_reset(s);
    take_kv(s);
    runner_free(&s->runner);
    ids_free(&s->cached);
    mem_free(s->turn);
    shared_rows_drop(&s->rows);
    mem_free(s->logits);
    mem_free(s->instruction);
    mem_free(s->msg);
    mem_free(s);
}

int session_add_turn(iv_session *s, const char *question, const char *answer, size_t answer_len,
                     bool special, struct err *e)
{
    struct turn t = {.answer_len = answer_len, .answer_special = special};
    int rc;
    if (s->n_turn == s->cap_turn) {
        size_t cap = s->cap_turn ? 2 * s->cap_turn : 8;
        struct turn *p = cap <= MAX_TURNS ? mem_realloc(s->turn, cap, sizeof *p) : NULL;
        if (!p)
            return err_set(e, ERR_LIMIT, "session: no room for turn %zu", s->n_turn + 1);
        s->turn = p;
        s->cap_turn = cap;
    }
    TRY(copy_text(&t.question, question, e));
    TRY(copy_bytes(&t.answer, answer, answer_len, e));
    s->turn[s->n_turn++] = t;
    return 0;
fail:
    turn_free(&t);
    return rc;
}

int iv_session_add_turn(iv_session *s, const struct iv_turn *turn, struct iv_error *error)
{
    struct err e = {0};
    size_t n = turn->answer_len ? turn->answer_len : strlen(turn->answer);
    int rc = session_add_turn(s, turn->prompt, turn->answer, n, turn->answer_special, &e);
    return status_out(rc, &e, error);
}

int iv_session_drop_turn(iv_session *s, struct iv_error *error)
{
    struct err e = {0};
    if (s->n_turn == 0)
        return status_out(err_set(&e, ERR_USAGE, "the conversation has no turn to remove"), &e,
                          error);
    turn_free(&s->turn[--s->n_turn]);
    return IV_OK;
}

size_t iv_session_n_turn(const iv_session *s)
{
    return s->n_turn;
}

int iv_session_turn(const iv_session *s, size_t i, struct iv_turn *turn)
{
    *turn = (struct iv_turn){0};
    if (i >= s->n_turn)
        return IV_ERR_USAGE;
    const struct turn *t = &s->turn[i];
    *turn = (struct iv_turn){t->question, t->answer, t->answer_len, t->answer_special};
    return IV_OK;
}

struct iv_ask_options iv_session_last_options(const iv_session *s)
{
    return s->last;
}

int iv_session_set_media(iv_session *s, iv_media *media, struct iv_error *error)
{
    struct err e = {0};
    int rc = check_media(s, media, &e);
    if (rc != 0)
        return status_out(rc, &e, error);
    iv_session_reset(s);
    shared_rows_drop(&s->rows);
    s->cached.n = 0; // visual positions of different media look the same among the ids
    s->media = media;
    return IV_OK;
}

size_t session_n_visual(const iv_session *s)
{
    return s->media ? s->media->info.n_clip * s->engine->config.qformer.n_query : 0;
}

// The text in the media turn: a video's time sentence takes the place of the caller's msg.
static const char *msg_of(const iv_session *s)
{
    if (!s->media)
        return NULL;
    return s->time_text && !s->media->info.image ? s->media->time_text : s->msg;
}

// The prompt as ids, or as text if that is not NULL.
static int make_prompt(const iv_session *s, const char *question, const char *answer_prefix,
                       struct prompt *out, struct buf *text, struct err *e)
{
    struct prompt_turn *turn = mem_calloc(s->n_turn, sizeof *turn);
    if (!turn)
        return err_set(e, ERR_LIMIT, "session: out of memory for %zu turns", s->n_turn);
    for (size_t i = 0; i < s->n_turn; i++)
        turn[i] = (struct prompt_turn){.question = prompt_text_of(s->turn[i].question),
                                       .answer = {s->turn[i].answer, s->turn[i].answer_len},
                                       .answer_special = s->turn[i].answer_special};
    struct prompt_request r = {.tmpl = template_of(s->engine->config.variant),
                               .media = !s->media              ? PROMPT_NO_MEDIA
                                        : s->media->info.image ? PROMPT_IMAGE
                                                               : PROMPT_VIDEO,
                               .n_clip = s->media ? s->media->info.n_clip : 0,
                               .n_query = s->engine->config.qformer.n_query,
                               .instruction = prompt_text_of(s->instruction),
                               .msg = prompt_text_of(msg_of(s)),
                               .question = prompt_text_of(question),
                               .answer_prefix = prompt_text_of(answer_prefix),
                               .turn = turn,
                               .n_turn = s->n_turn,
                               .allow_special = s->allow_special,
                               .hooks = &s->runner.hooks};
    int rc =
        text ? prompt_conversation(&r, text, e) : prompt_build(out, s->engine->tokenizer, &r, e);
    mem_free(turn);
    return rc;
}

int session_prompt(const iv_session *s, const char *question, const char *answer_prefix,
                   struct prompt *out, struct err *e)
{
    return make_prompt(s, question, answer_prefix, out, NULL, e);
}

int iv_session_prompt_text(iv_session *s, const char *question, const char *answer_prefix,
                           char **text, size_t *n, struct iv_error *error)
{
    struct err e = {0};
    struct buf out = {0};
    *text = NULL;
    *n = 0;
    int rc = make_prompt(s, question, answer_prefix, NULL, &out, &e);
    if (rc == 0) {
        *n = out.len;
        *text = buf_take(&out);
        if (!*text)
            rc = err_set(&e, ERR_LIMIT, "session: out of memory for the prompt");
    }
    buf_free(&out);
    return status_out(rc, &e, error);
}

int iv_session_prompt_ids(iv_session *s, const char *prompt, const char *answer_prefix,
                          int32_t **ids, size_t *n, struct iv_error *error)
{
    struct err e = {0};
    struct prompt p = {0};
    *ids = NULL;
    *n = 0;
    int rc = session_prompt(s, prompt, answer_prefix, &p, &e);
    if (rc == 0) {
        *ids = p.ids.v;
        *n = p.ids.n;
        p.ids = (struct ids){0};
    }
    prompt_free(&p);
    return status_out(rc, &e, error);
}
