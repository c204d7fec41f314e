// SPDX-License-Identifier: MIT
// `ivchat chat`: turns of one conversation.
//
//   questions: -p in order, "-p -" or no -p = lines of standard input; an empty line is no question
//   each turn: ask -> answer streamed to standard output and a newline, or one JSON line
//              -> timings on standard error
//
// A cost stands in the turn that paid it: loading and decoding in the first, vision where the
// features were computed; ttft_ms of the first turn includes opening the media.
//
// Easy to get wrong: what the library streamed may be less than the answer (beam search), the
// rest is written after the call; a failed turn must not leave half a line before the shell's
// prompt. What is typed at a terminal is the business of chat_talk.c.

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "chat_talk.h"
#include "heap.h"
#include "jsontext.h"
#include "savefile.h"
#include "wellformed.h"

enum {
    STOPS_MAX = 64, // these two are the library's
    STOP_BYTES_MAX = 1024,
};

static bool reads_input(const struct settings *s)
{
    for (size_t i = 0; i < s->prompt.n; i++) {
        if (strcmp(s->prompt.item[i], "-") == 0)
            return true;
    }
    return s->prompt.n == 0;
}

int chat_check_stop(struct work *w, const char *text)
{
    size_t n = strlen(text);
    if (n == 0)
        return app_error(&w->error, IV_ERR_USAGE, "--stop: expected a text, got \"\"");
    if (n > STOP_BYTES_MAX)
        return app_error(&w->error, IV_ERR_USAGE, "--stop: %zu bytes, at most %d are accepted", n,
                         STOP_BYTES_MAX);
    return IV_OK;
}

static int check_stops(struct work *w)
{
    const struct settings *s = w->s;
    for (size_t i = 0; i < s->stop.n; i++) {
        if (chat_check_stop(w, s->stop.item[i]) != IV_OK)
            return w->error.code;
    }
    if (s->stop.n > STOPS_MAX)
        return app_error(&w->error, IV_ERR_USAGE, "--stop: %zu texts, at most %d are accepted",
                         s->stop.n, STOPS_MAX);
    return IV_OK;
}

static int check(struct chat *c)
{
    struct work *w = &c->work;
    const struct settings *s = w->s;
    if (s->video && strcmp(s->video, "-") == 0 && reads_input(s))
        return app_error(&w->error, IV_ERR_USAGE,
                         "--video -: standard input is the video; give the question with -p");
    if (s->msg && s->time_text)
        return app_error(&w->error, IV_ERR_USAGE, "--msg and --time-text exclude each other");
    if (check_stops(w) != IV_OK || chat_check_file(w) != IV_OK)
        return w->error.code;
    static const char *const of_sampling[] = {"top-p", "top-k", "seed"};
    for (size_t i = 0; i < 3 && s->temp == 0; i++) {
        if (options_given(w->verb->groups, s, of_sampling[i]))
            console_warn(w->con, "--%s has no effect with --temp 0", of_sampling[i]);
    }
    if (s->num_beams == 1 && options_given(w->verb->groups, s, "length-penalty"))
        console_warn(w->con, "--length-penalty has no effect without --num-beams");
    return work_check(w);
}

struct iv_session_options chat_session_options(struct chat *c)
{
    const struct settings *s = c->work.s;
    struct iv_session_options o = iv_session_options_default();
    o.n_ctx = (size_t)s->ctx;
    o.allow_special = s->allow_special;
    o.instruction = s->instruction;
    o.msg = s->msg;
    o.time_text = s->time_text; // also of a video that comes later
    o.keep_cache = s->cache_mib > 0;
    o.callbacks = work_callbacks(&c->work);
    return o;
}

int chat_session_open(struct chat *c)
{
    struct iv_session_options o = chat_session_options(c);
    return iv_session_open(c->work.engine, c->work.media, &o, &c->session, &c->work.error);
}

static void before_wait(void *user)
{
    struct chat *c = user;
    (void)console_flush(c->work.con);
}

// *question NULL = there are no more.
static int next_question(struct chat *c, const char **question)
{
    const struct settings *s = c->work.s;
    *question = NULL;
    if (c->next_prompt < s->prompt.n && strcmp(s->prompt.item[c->next_prompt], "-") != 0) {
        *question = s->prompt.item[c->next_prompt++];
        return IV_OK;
    }
    if (c->next_prompt >= s->prompt.n && s->prompt.n > 0)
        return IV_OK;
    for (;;) {
        char *line;
        size_t n;
        switch (linereader_next(&c->lines, &line, &n)) {
        case LINE_STOPPED:
            return app_error(&c->work.error, IV_ERR_ABORT, "stopped");
        case LINE_FAILED:
            return app_error(&c->work.error, errno == EFBIG ? IV_ERR_LIMIT : IV_ERR_FAIL,
                             "standard input, line %zu: %s", c->lines.number + 1,
                             errno == EFBIG ? "longer than 1 MiB" : strerror(errno));
        case LINE_END:
            if (c->next_prompt + 1 < s->prompt.n) {
                c->next_prompt++;
                return next_question(c, question);
            }
            return IV_OK;
        case LINE_OK:
            break;
        }
        size_t good = wellformed_length(line, strlen(line));
        if (good < n)
            return app_error(&c->work.error, IV_ERR_FAIL,
                             "standard input, line %zu: byte %zu is not text in UTF-8",
                             c->lines.number, good + 1);
        if (n > 0) {
            *question = line;
            return IV_OK;
        }
    }
}

static void on_text(void *user, const char *piece, size_t n)
{
    struct chat *c = user;
    if (console_write_answer(c->work.con, piece, n) && console_flush(c->work.con))
        c->streamed += n;
}

static void answer_json(const struct chat *c, const struct iv_answer *a, struct json_writer *w)
{
    const struct iv_engine_info *info = iv_engine_info(c->work.engine);
    const struct iv_media_info *m = c->work.media ? iv_media_info(c->work.media) : NULL;
    bool first = c->turn == 1, opened = m && !c->media_told;

    jw_begin(w);
    jw_count(w, "turn", c->turn);
    if (c->segment) {
        jw_object(w, "segment");
        jw_count(w, "index", c->segment->index);
        jw_ms(w, "start", c->segment->start_s);
        if (c->segment->end_s > 0)
            jw_ms(w, "end", c->segment->end_s);
        else
            jw_null(w, "end");
        jw_end(w);
    }
    jw_text_n(w, "response", a->text, a->text_len);
    jw_array(w, "token_ids");
    for (size_t i = 0; i < a->n_token; i++)
        jw_int(w, NULL, a->token_ids[i]);
    jw_end(w);
    jw_text(w, "finish_reason", a->finish_reason);
    jw_count(w, "prompt_tokens", a->prompt_tokens);
    jw_count(w, "cached_tokens", a->cached_tokens);
    work_media_json(&c->work, w, "video");
    jw_object(w, "timings");
    jw_ms(w, "load_ms", first ? info->load_ms : 0);
    jw_ms(w, "decode_video_ms", opened ? m->decode_ms : 0);
    jw_ms(w, "preprocess_ms", opened ? m->preprocess_ms : 0);
    jw_ms(w, "vision_ms", a->vision_ms);
    jw_ms(w, "qformer_ms", a->qformer_ms);
    jw_ms(w, "prefill_ms", a->prefill_ms);
    jw_ms(w, "generate_ms", a->generate_ms);
    jw_ms(w, "ttft_ms", a->ttft_ms + (opened ? c->work.media_ms : 0));
    jw_ms(w, "tokens_per_second", a->tokens_per_second);
    jw_end(w);
    jw_object(w, "model");
    jw_text(w, "name", info->name);
    jw_text(w, "variant", info->variant);
    jw_text(w, "type", info->dtype);
    jw_end(w);
    jw_text(w, "version", iv_version());
}

static int write_answer(struct chat *c, const struct iv_answer *a)
{
    struct console *con = c->work.con;
    bool ok = true;
    if (c->work.s->json) {
        struct json_writer w;
        answer_json(c, a, &w);
        char *line = jw_take(&w);
        if (!line)
            return app_error(&c->work.error, IV_ERR_LIMIT, "out of memory for the JSON line");
        ok = console_write(con, line, strlen(line));
        heap_free(line);
    } else if (c->streamed < a->text_len) {
        ok = console_write_answer(con, a->text + c->streamed, a->text_len - c->streamed);
    }
    ok = ok && console_write(con, "\n", 1) && console_flush(con);
    return ok ? IV_OK : app_error(&c->work.error, IV_ERR_FAIL, "standard output is closed");
}

static void tell(const struct chat *c, const struct iv_answer *a)
{
    struct console *con = c->work.con;
    const struct iv_media_info *m = c->work.media ? iv_media_info(c->work.media) : NULL;
    bool opened = m && !c->media_told;
    char media[160] = "";

    if (opened)
        (void)snprintf(media, sizeof media, "decode %.0f ms, preprocess %.0f ms, ", m->decode_ms,
                       m->preprocess_ms);
    console_note(con, "turn %u: %zu prompt tokens, %zu of them reused, %zu tokens generated, %s",
                 c->turn, a->prompt_tokens, a->cached_tokens, a->n_token, a->finish_reason);
    console_say(con,
                "timings: %svision %.0f ms, qformer %.0f ms, prefill %.0f ms, first token after "
                "%.0f ms, %zu tokens in %.0f ms (%.2f/s)",
                media, a->vision_ms, a->qformer_ms, a->prefill_ms,
                a->ttft_ms + (opened ? c->work.media_ms : 0), a->n_token, a->generate_ms,
                a->tokens_per_second);
    console_note(con, "logits %016llx", (unsigned long long)a->logits_hash);
}

static struct iv_ask_options ask_options(struct chat *c)
{
    const struct settings *s = c->work.s;
    struct iv_ask_options o = iv_ask_options_default();
    o.max_new_tokens = s->max_new_tokens;
    o.temperature = s->temp;
    o.top_p = s->top_p;
    o.top_k = s->top_k;
    o.seed = s->seed;
    o.num_beams = s->num_beams;
    o.length_penalty = s->length_penalty;
    o.repetition_penalty = s->repetition_penalty;
    o.min_length = s->min_length;
    o.ignore_eos = s->ignore_eos;
    o.stop = s->stop.item;
    o.n_stop = s->stop.n;
    o.answer_prefix = s->answer_prefix;
    o.user = c;
    o.text = s->json ? NULL : on_text;
    return o;
}

int chat_ask(struct chat *c, const char *question)
{
    struct iv_answer answer = {0};
    struct iv_ask_options o = ask_options(c);

    c->turn++;
    c->streamed = 0;
    dump_turn(&c->work.dump, c->turn);
    console_note(c->work.con, "question %u: %s", c->turn, question);
    c->work.con->streaming = !c->work.s->json;
    int rc = iv_session_ask(c->session, question, &o, &answer, &c->work.error);
    c->work.con->streaming = false;
    if (rc == IV_OK) {
        rc = write_answer(c, &answer);
        if (rc == IV_OK)
            tell(c, &answer);
        c->media_told = true;
        c->last = (struct chat_costs){.prompt_tokens = answer.prompt_tokens,
                                      .cached_tokens = answer.cached_tokens,
                                      .n_token = answer.n_token,
                                      .ttft_ms = answer.ttft_ms,
                                      .generate_ms = answer.generate_ms};
    } else if (c->streamed > 0) {
        (void)(console_write(c->work.con, "\n", 1) && console_flush(c->work.con));
    } else if (c->terminal && !c->work.s->log_json) {
        progress_clear(&c->work.con->progress);
        fputc('\n', stderr); // the terminal has shown "^C"
    }
    iv_answer_free(&answer);
    return rc;
}

// Whether it is the turn of questions that a person types.
static bool typed_next(const struct chat *c)
{
    const struct text_list *p = &c->work.s->prompt;
    if (!c->terminal)
        return false;
    return p->n == 0 || (c->next_prompt < p->n && strcmp(p->item[c->next_prompt], "-") == 0);
}

int chat_answer_all(struct chat *c)
{
    const char *question;
    for (;;) {
        if (typed_next(c)) {
            int rc = chat_talk(c);
            if (rc != IV_OK || ++c->next_prompt >= c->work.s->prompt.n)
                return rc;
            continue;
        }
        int rc = next_question(c, &question);
        if (rc == IV_OK && question)
            rc = chat_ask(c, question);
        if (rc != IV_OK || !question)
            return rc;
    }
}

// --save, however the conversation ended: what it ended with, rc, goes before what goes wrong here.
static int keep(struct chat *c, int rc)
{
    const char *save = c->work.s->save;
    struct iv_error e = {0};
    if (!save || !c->session)
        return rc;
    if (iv_session_n_turn(c->session) == 0) {
        if (rc == IV_OK)
            console_warn(c->work.con, "%s: not written, the conversation has no turn", save);
        return rc;
    }
    atomic_store(&c->work.finishing, true);
    int saved = chat_save(c, save, &e);
    if (saved == IV_OK || rc == IV_OK) {
        if (saved != IV_OK)
            c->work.error = e;
        return saved == IV_OK ? rc : saved;
    }
    console_error(c->work.con, "%s", e.message);
    return rc;
}

static int converse(struct chat *c)
{
    int rc = c->session ? IV_OK : chat_session_open(c);
    if (rc == IV_OK)
        rc = chat_answer_all(c);
    return keep(c, rc);
}

int chat_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct settings mine = *s;
    struct chat c = {
        .work = {.verb = verb, .s = &mine, .con = con},
        .lines = {.fd = STDIN_FILENO, .max = QUESTION_MAX, .before_wait = before_wait},
        .terminal = reads_input(s) && isatty(STDIN_FILENO) == 1,
    };
    c.lines.user = &c;
    c.work.later = c.terminal; // by /video and /image

    int rc = check(&c);
    if (rc == IV_OK)
        rc = work_open(&c.work, false);
    if (rc == IV_OK)
        rc = s->load ? chat_load(&c, &mine) : work_media(&c.work);
    if (rc == IV_OK && s->each_segment)
        rc = chat_each_segment(&c);
    else if (rc == IV_OK)
        rc = converse(&c);
    int exit_code = rc == IV_OK ? 0 : work_fail(&c.work, rc);
    iv_session_close(c.session);
    work_close(&c.work);
    linereader_free(&c.lines);
    return exit_code;
}
