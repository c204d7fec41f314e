// SPDX-License-Identifier: MIT
// The commands of the interactive conversation: one table for running, help, completion and
// suggestions.
//
// Media stand in front of the whole conversation (the template has no other place), so another
// video or image begins a new one. Images named one after the other, before any question, stand
// there together.
//
// Easy to get wrong: the old media is closed only after the session took the new one; a file that
// cannot be opened changes nothing; a question asked again that fails leaves the old answer.

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "chat_talk.h"
#include "chat_words.h"
#include "heap.h"
#include "savefile.h"

static int need_file(struct talk *t, const char *command, const char *argument, char out[PATH_MAX])
{
    if (!*argument)
        return app_error(&t->c->work.error, IV_ERR_USAGE, "/%s: needs a file", command);
    if (!chat_words_file(argument, out))
        return app_error(&t->c->work.error, IV_ERR_USAGE, "/%s: not the name of a file", command);
    return IV_OK;
}

static void forget_turns(struct talk *t)
{
    heap_free(t->question);
    t->question = NULL;
    t->answered = false;
    t->media_used = false;
}

// Opens what `mine` names and gives it to the session.
static int change_media(struct talk *t)
{
    struct chat *c = t->c;
    iv_media *media, *old = c->work.media;
    double ms;
    int rc = work_media_open(&c->work, &media, &ms);
    if (rc == IV_OK)
        rc = iv_session_set_media(c->session, media, &c->work.error);
    if (rc != IV_OK) {
        iv_media_close(media);
        return rc;
    }
    c->work.media = media;
    c->work.media_ms = ms;
    c->media_told = false;
    iv_media_close(old);
    bool talked = t->question != NULL;
    forget_turns(t);
    work_media_note(&c->work);
    const struct iv_media_info *m = iv_media_info(media);
    if (t->n_image > 0)
        console_reply(c->work.con, "%zu image%s%s", t->n_image, t->n_image > 1 ? "s" : "",
                      talked ? "; a new conversation" : "");
    else
        console_reply(c->work.con, "video: %zu of %llu frames, %llux%llu%s", m->n_frame,
                      (unsigned long long)m->frame_count, (unsigned long long)m->width,
                      (unsigned long long)m->height, talked ? "; a new conversation" : "");
    return IV_OK;
}

static int run_video(struct talk *t, const char *argument)
{
    char path[PATH_MAX];
    const struct settings before = t->mine;
    size_t n_image = t->n_image;
    int rc = need_file(t, "video", argument, path);
    if (rc != IV_OK)
        return rc;
    if (strcmp(path, "-") == 0)
        return app_error(&t->c->work.error, IV_ERR_USAGE,
                         "/video -: standard input is where the questions come from");
    t->mine.image.n = t->n_image = 0;
    t->mine.video = talk_keep(t, path);
    rc = t->mine.video ? change_media(t)
                       : app_error(&t->c->work.error, IV_ERR_LIMIT, "out of memory for a name");
    if (rc != IV_OK) {
        t->mine = before;
        t->n_image = n_image;
    }
    return rc;
}

static bool add_image(struct talk *t, const char *path)
{
    if (t->n_image == t->cap_image) {
        size_t cap = t->cap_image ? 2 * t->cap_image : 8;
        const char **grown = heap_realloc(t->image, cap, sizeof *grown);
        if (!grown)
            return false;
        t->image = grown;
        t->cap_image = cap;
    }
    const char *copy = talk_keep(t, path);
    if (copy)
        t->image[t->n_image++] = copy;
    return copy != NULL;
}

// The settings as they were, with n_image images; the array may have moved.
static void take_back(struct talk *t, const struct settings *before, size_t n_image)
{
    t->mine = *before;
    t->n_image = n_image;
    if (n_image > 0)
        t->mine.image.item = t->image;
}

// The images that options named are the first ones.
static bool adopt_images(struct talk *t)
{
    for (size_t i = 0; i < t->mine.image.n; i++) {
        if (!add_image(t, t->mine.image.item[i]))
            return false;
    }
    return true;
}

static int run_image(struct talk *t, const char *argument)
{
    char path[PATH_MAX];
    const struct settings before = t->mine;
    size_t n_image = t->n_image;
    int rc = need_file(t, "image", argument, path);
    if (rc != IV_OK)
        return rc;
    bool fresh = t->media_used || t->mine.video;
    bool good = fresh || n_image > 0 || adopt_images(t);
    size_t first = fresh ? t->n_image : 0; // what stood there before is left out
    if (!good || !add_image(t, path)) {
        take_back(t, &before, n_image);
        return app_error(&t->c->work.error, IV_ERR_LIMIT, "out of memory for a name");
    }
    t->mine.video = NULL;
    t->mine.image = (struct text_list){t->image + first, t->n_image - first};
    size_t all = t->n_image;
    t->n_image -= first;
    rc = change_media(t);
    if (rc != IV_OK) {
        take_back(t, &before, n_image);
        return rc;
    }
    memmove(t->image, t->image + first, (all - first) * sizeof *t->image);
    t->mine.image.item = t->image;
    return IV_OK;
}

static int run_reset(struct talk *t, const char *argument)
{
    (void)argument;
    iv_session_reset(t->c->session);
    forget_turns(t);
    console_reply(t->c->work.con, "a new conversation about the same %s",
                  t->mine.video      ? "video"
                  : t->mine.image.n  ? "images"
                  : t->c->work.media ? "media"
                                     : "nothing");
    return IV_OK;
}

// A copy of the last turn, for the case that asking again fails; its prompt is t->question, its answer the caller's.
static int take_last_turn(struct talk *t, struct iv_turn *turn)
{
    iv_session *s = t->c->session;
    struct iv_error *e = &t->c->work.error;
    if (iv_session_turn(s, iv_session_n_turn(s) - 1, turn) != IV_OK)
        return app_error(e, IV_ERR_FAIL, "/regen: the conversation has no turn");
    char *answer = heap_calloc(turn->answer_len + 1, 1);
    if (answer)
        memcpy(answer, turn->answer, turn->answer_len);
    turn->prompt = t->question;
    turn->answer = answer;
    if (!answer)
        return app_error(e, IV_ERR_LIMIT, "out of memory for the old answer");
    return iv_session_drop_turn(s, e);
}

static int run_regen(struct talk *t, const char *argument)
{
    struct chat *c = t->c;
    struct iv_error ignored;
    struct iv_turn old = {0};
    (void)argument;
    if (!t->question)
        return app_error(&c->work.error, IV_ERR_USAGE, "/regen: there is no question yet");
    bool again = t->answered;
    int rc = again ? take_last_turn(t, &old) : IV_OK;
    if (rc == IV_OK) {
        t->mine.seed += again && t->mine.temp > 0;
        rc = talk_ask(t, t->question);
        if (rc != IV_OK && again)
            t->answered = iv_session_add_turn(c->session, &old, &ignored) == IV_OK;
    }
    if (rc == IV_OK && again && t->mine.temp == 0)
        console_say(c->work.con, "greedy answers do not change: /set temp 0.7 for another one");
    heap_free((char *)old.answer);
    return rc;
}

static int run_save(struct talk *t, const char *argument)
{
    char path[PATH_MAX];
    int rc = need_file(t, "save", argument, path);
    if (rc == IV_OK)
        rc = chat_save(t->c, path, &t->c->work.error);
    if (rc == IV_OK)
        console_reply(t->c->work.con, "saved %zu turn%s", iv_session_n_turn(t->c->session),
                      iv_session_n_turn(t->c->session) == 1 ? "" : "s");
    return rc;
}

// What must be asked with again for the same tokens.
static void adopt_options(struct talk *t)
{
    struct iv_ask_options o = iv_session_last_options(t->c->session);
    struct settings *s = &t->mine;
    s->max_new_tokens = o.max_new_tokens;
    s->temp = o.temperature;
    s->top_p = o.top_p;
    s->top_k = o.top_k;
    s->seed = o.seed;
    s->num_beams = o.num_beams;
    s->length_penalty = o.length_penalty;
    s->repetition_penalty = o.repetition_penalty;
    s->min_length = o.min_length;
    s->ignore_eos = o.ignore_eos;
}

int talk_adopt(struct talk *t)
{
    struct iv_turn last;
    iv_session *s = t->c->session;
    size_t turns = iv_session_n_turn(s);
    forget_turns(t);
    if (turns == 0 || iv_session_turn(s, turns - 1, &last) != IV_OK)
        return IV_OK;
    size_t n = strlen(last.prompt);
    t->question = heap_calloc(n + 1, 1);
    if (!t->question)
        return app_error(&t->c->work.error, IV_ERR_LIMIT, "out of memory for the question");
    memcpy(t->question, last.prompt, n);
    t->answered = t->media_used = true;
    return IV_OK;
}

static int run_load(struct talk *t, const char *argument)
{
    struct chat *c = t->c;
    struct iv_session_options o = chat_session_options(c);
    char path[PATH_MAX];
    iv_session *session;
    iv_media *media;
    int rc = need_file(t, "load", argument, path);
    if (rc == IV_OK)
        rc = iv_session_load(c->work.engine, path, &o, &media, &session, &c->work.error);
    if (rc != IV_OK)
        return rc;
    iv_session_close(c->session);
    iv_media_close(c->work.media);
    c->session = session;
    c->work.media = media;
    c->media_told = true; // nothing was decoded
    t->mine.video = NULL;
    t->mine.image.n = t->n_image = 0;
    adopt_options(t);
    rc = talk_adopt(t);
    if (rc == IV_OK)
        console_reply(c->work.con, "loaded %zu turn%s%s", iv_session_n_turn(session),
                      iv_session_n_turn(session) == 1 ? "" : "s",
                      media ? " and what they are about" : "");
    return rc;
}

static int run_stats(struct talk *t, const char *argument)
{
    const struct chat *c = t->c;
    struct console *con = c->work.con;
    const struct iv_engine_info *info = iv_engine_info(c->work.engine);
    struct rusage use;
    (void)argument;
    console_reply(con, "model         %s, %s, %s on %s, %d threads", info->name, info->variant,
                  info->dtype, info->cpu, info->n_threads);
    if (c->work.media) {
        const struct iv_media_info *m = iv_media_info(c->work.media);
        console_reply(con, "media         %s: %zu frames, %zu clips", m->path ? m->path : "-",
                      m->n_frame, m->n_clip);
    }
    console_reply(con, "turns         %zu in the conversation, %u answered since the start",
                  iv_session_n_turn(c->session), t->n_answer);
    if (t->n_answer > 0) {
        console_reply(con,
                      "last answer   %zu prompt tokens, %zu of them reused; first token after "
                      "%.0f ms; %zu tokens in %.0f ms",
                      c->last.prompt_tokens, c->last.cached_tokens, c->last.ttft_ms,
                      c->last.n_token, c->last.generate_ms);
        console_reply(con, "all answers   %zu prompt tokens, %zu of them reused; %zu generated",
                      t->prompt_tokens, t->cached_tokens, t->n_token);
    }
    if (getrusage(RUSAGE_SELF, &use) == 0)
        console_reply(con, "memory        %.0f MiB at most so far", (double)use.ru_maxrss / 1024);
    return IV_OK;
}

static int run_quit(struct talk *t, const char *argument)
{
    (void)argument;
    t->over = true;
    return IV_OK;
}

static int run_help(struct talk *t, const char *argument)
{
    struct console *con = t->c->work.con;
    const char *left, *help;
    (void)argument;
    for (size_t i = 0; talk_command_row(i, &left, &help); i++)
        console_reply(con, "  %-18s%s", left, help);
    console_reply(con, "A line that begins with // is a question that begins with /. Alt-Enter: "
                       "a new line; Tab: completes commands and file names.");
    return IV_OK;
}

// clang-format off
static const struct talk_command commands[] = {
    {"help", NULL, "", false, "this list", run_help},
    {"video", NULL, "FILE", true, "talk about another video; forgets the conversation", run_video},
    {"image", NULL, "FILE", true, "the same with an image; before the first question it joins the images there", run_image},
    {"reset", NULL, "", false, "forget the conversation, keep the video", run_reset},
    {"regen", NULL, "", false, "ask the last question again; when sampling, with the next seed", run_regen},
    {"save", NULL, "FILE", true, "write the conversation to a file", run_save},
    {"load", NULL, "FILE", true, "go on with a conversation from a file", run_load},
    {"set", NULL, "NAME VALUE", false, "change an option; without VALUE its default, without NAME all are shown", talk_set},
    {"stats", NULL, "", false, "what the model is and what the answers took", run_stats},
    {"quit", "exit", "", false, "end, as Ctrl-D does", run_quit},
};
// clang-format on

const struct talk_command *talk_command_at(size_t i)
{
    return i < sizeof commands / sizeof *commands ? &commands[i] : NULL;
}

bool talk_command_row(size_t i, const char **left, const char **help)
{
    static const char *const names[] = {
        "/help",      "/video FILE", "/image FILE",     "/reset", "/regen",
        "/save FILE", "/load FILE",  "/set NAME VALUE", "/stats", "/quit",
    };
    _Static_assert(sizeof names / sizeof *names == sizeof commands / sizeof *commands,
                   "a row each");
    if (i >= sizeof commands / sizeof *commands)
        return false;
    *left = names[i];
    *help = commands[i].help;
    return true;
}

int talk_command(struct talk *t, const char *name, const char *argument)
{
    struct nearest near = {.word = name};
    const struct talk_command *k;
    for (size_t i = 0; (k = talk_command_at(i)); i++) {
        nearest_offer(&near, k->name);
        if (k->other)
            nearest_offer(&near, k->other);
        if (strcmp(k->name, name) != 0 && (!k->other || strcmp(k->other, name) != 0))
            continue;
        if (!*k->argument && *argument)
            return app_error(&t->c->work.error, IV_ERR_USAGE, "/%s: takes nothing, got \"%.60s\"",
                             name, argument);
        return k->run(t, argument);
    }
    const char *best = nearest_word(&near);
    return app_error(&t->c->work.error, IV_ERR_USAGE, "no command /%.60s%s%s%s (/help lists them)",
                     name, best ? ", did you mean /" : "", best ? best : "", best ? "?" : "");
}
