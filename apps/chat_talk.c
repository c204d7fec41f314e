// SPDX-License-Identifier: MIT
// The loop of the interactive conversation.
//
//   line       from the editor; from a plain terminal (TERM=dumb, no UTF-8 locale, standard error
//              elsewhere) as the system hands it out
//   /command   chat_commands.c
//   question   chat_ask; what fails is told and the conversation goes on
//   Ctrl-C     while answering: stops the answer; in a line with text: clears it; else ends (130)
//
// While a line is typed, chat_warm prefills what comes before it.
//
// Easy to get wrong: the warming thread has the session to itself, so it has stopped before
// anything looks at the session; SIGTERM and a lost standard output end the conversation, though
// they stop an answer just as Ctrl-C does.

#include "chat_talk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "chat_words.h"
#include "editor.h"
#include "heap.h"
#include "historyfile.h"
#include "savefile.h"
#include "signals.h"
#include "wellformed.h"

enum line_result { TALK_LINE, TALK_NONE, TALK_END, TALK_STOPPED, TALK_FAILED };

const char *talk_keep(struct talk *t, const char *text)
{
    if (t->n_kept == t->cap_kept) {
        size_t cap = t->cap_kept ? 2 * t->cap_kept : 8;
        char **grown = heap_realloc(t->kept, cap, sizeof *grown);
        if (!grown)
            return NULL;
        t->kept = grown;
        t->cap_kept = cap;
    }
    size_t n = strlen(text);
    char *copy = heap_calloc(n + 1, 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, n);
    t->kept[t->n_kept++] = copy;
    return copy;
}

int talk_ask(struct talk *t, const char *question)
{
    struct chat *c = t->c;
    size_t n = strlen(question);
    if (question != t->question) {
        char *copy = heap_calloc(n + 1, 1);
        if (!copy)
            return app_error(&c->work.error, IV_ERR_LIMIT, "out of memory for the question");
        memcpy(copy, question, n);
        heap_free(t->question);
        t->question = copy;
    }
    t->answered = false;
    int rc = chat_ask(c, t->question);
    if (rc != IV_OK)
        return rc;
    t->answered = t->media_used = true;
    t->n_answer++;
    t->prompt_tokens += c->last.prompt_tokens;
    t->cached_tokens += c->last.cached_tokens;
    t->n_token += c->last.n_token;
    return IV_OK;
}

// ---- lines

static void remember(void *user, const char *text, size_t n)
{
    struct talk *t = user;
    (void)editor_remember(t->editor, text, n); // out of memory: one entry less
}

static void keep_history(struct talk *t)
{
    char path[PATH_MAX];
    if (!t->mine.history || !historyfile_path(path))
        return;
    if (historyfile_load(path, remember, t) != 0)
        console_warn(t->c->work.con, "%s: %s; no history is kept", path, strerror(errno));
    else
        memcpy(t->history, path, sizeof path);
}

// A line that begins with a blank is not kept, as in shells.
static void note_line(struct talk *t, const char *line, size_t n)
{
    if (n == 0 || line[0] == ' ')
        return;
    (void)editor_remember(t->editor, line, n);
    if (t->history[0] && historyfile_add(t->history, line, n) != 0) {
        console_warn(t->c->work.con, "%s: %s; no history is kept", t->history, strerror(errno));
        t->history[0] = 0;
    }
}

static enum line_result edited_line(struct talk *t, const char **line)
{
    struct console *con = t->c->work.con;
    size_t n;
    enum editor_result r = editor_line(t->editor, line, &n);
    chat_warm_end(&t->warm); // until then no message is shown
    switch (r) {
    case EDITOR_END:
        return TALK_END;
    case EDITOR_CLEARED:
        return TALK_NONE;
    case EDITOR_STOPPED:
        return TALK_STOPPED;
    case EDITOR_TOO_LONG:
        console_error(con, "a line of %zu bytes; at most %d are accepted", n, QUESTION_MAX);
        return TALK_NONE;
    case EDITOR_FAILED:
        (void)app_error(&t->c->work.error, IV_ERR_LIMIT, "out of memory for the line");
        return TALK_FAILED;
    case EDITOR_LINE:
        break;
    }
    note_line(t, *line, n);
    return TALK_LINE;
}

static enum line_result plain_line(struct talk *t, const char **out)
{
    struct chat *c = t->c;
    struct console *con = c->work.con;
    char *line;
    size_t n;
    if (!t->mine.log_json)
        fputs("> ", stderr);
    (void)fflush(stderr);
    enum linereader_result r = linereader_next(&c->lines, &line, &n);
    int why = errno;
    chat_warm_end(&t->warm); // until then no message is shown
    switch (r) {
    case LINE_STOPPED:
        return TALK_STOPPED;
    case LINE_FAILED:
        (void)app_error(&c->work.error, why == EFBIG ? IV_ERR_LIMIT : IV_ERR_FAIL,
                        "standard input, line %zu: %s", c->lines.number + 1,
                        why == EFBIG ? "longer than 1 MiB" : strerror(why));
        return TALK_FAILED;
    case LINE_END:
        return TALK_END;
    case LINE_OK:
        break;
    }
    size_t good = wellformed_length(line, strlen(line));
    if (good < n) {
        console_error(con, "byte %zu of the line is not text in UTF-8", good + 1);
        return TALK_NONE;
    }
    *out = line;
    return TALK_LINE;
}

static enum line_result next_line(struct talk *t, const char **line)
{
    (void)console_flush(t->c->work.con);
    chat_warm_begin(&t->warm, t->c);
    return t->editor ? edited_line(t, line) : plain_line(t, line);
}

// ---- the loop

// Whether the conversation goes on after a question or command ended with rc.
static bool goes_on(struct talk *t, int rc)
{
    struct work *w = &t->c->work;
    if (rc == IV_OK) {
        if (signals_caught() == SIGINT)
            signals_forget(); // it came when there was nothing left to stop
        return !atomic_load(&w->con->output_lost);
    }
    if (atomic_load(&w->con->output_lost) || atomic_load(&w->dump.failed))
        return false;
    int signo = signals_caught();
    if (signo && signo != SIGINT)
        return false;
    if (signo) {
        signals_forget();
        console_say(w->con, "stopped%s", t->question && !t->answered ? "; /regen asks again" : "");
        return true;
    }
    console_error(w->con, "%s", w->error.message);
    return true;
}

static int obey(struct talk *t, const char *typed)
{
    struct chat *c = t->c;
    struct chat_words words;
    size_t n = strlen(typed);
    char *line = heap_calloc(n + 1, 1);
    if (!line)
        return app_error(&c->work.error, IV_ERR_LIMIT, "out of memory for the line");
    memcpy(line, typed, n);
    chat_words_split(line, &words);
    int rc = IV_OK;
    if (words.command) {
        rc = talk_command(t, words.command, words.argument);
    } else if (words.question[0]) {
        rc = talk_ask(t, words.question);
    }
    heap_free(line);
    return rc;
}

static int converse(struct talk *t)
{
    struct chat *c = t->c;
    while (!t->over) {
        const char *line = "";
        switch (next_line(t, &line)) {
        case TALK_END:
            if (!t->editor && !t->mine.log_json)
                fputc('\n', stderr);
            return IV_OK;
        case TALK_STOPPED:
            return app_error(&c->work.error, IV_ERR_ABORT, "stopped");
        case TALK_FAILED:
            return c->work.error.code;
        case TALK_NONE:
            continue;
        case TALK_LINE:
            break;
        }
        int rc = obey(t, line);
        if (!goes_on(t, rc))
            return rc != IV_OK ? rc : IV_ERR_FAIL;
    }
    return IV_OK;
}

static void greet(const struct talk *t)
{
    const struct iv_engine_info *info = iv_engine_info(t->c->work.engine);
    console_say(t->c->work.con,
                "%s (%s). /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.",
                info->name, info->variant);
}

// The stop texts in an array of t's own, since /set writes into it.
static int own_stops(struct talk *t)
{
    const struct text_list given = t->mine.stop; // the start has counted them
    t->mine.stop.item = heap_calloc(OPTION_MAX, sizeof *given.item);
    if (!t->mine.stop.item)
        return app_error(&t->c->work.error, IV_ERR_LIMIT, "out of memory for the options");
    for (size_t i = 0; i < given.n; i++)
        t->mine.stop.item[i] = given.item[i];
    return IV_OK;
}

int chat_talk(struct chat *c)
{
    struct talk t = {.c = c, .mine = *c->work.s};
    const struct settings *given = c->work.s;
    struct editor_options o = {
        .prompt = "> ",
        .history = HISTORY_ENTRIES,
        .max = QUESTION_MAX,
        .complete = talk_complete,
        .user = &t,
    };
    int rc = own_stops(&t);
    if (rc != IV_OK)
        return rc;
    c->work.s = &t.mine;
    greet(&t);
    if (editor_possible() && !t.mine.log_json)
        t.editor = editor_open(&o);
    if (t.editor)
        keep_history(&t);

    rc = talk_adopt(&t); // of --load, of earlier -p
    if (rc == IV_OK)
        rc = converse(&t);

    editor_close(t.editor);
    c->work.s = given;
    heap_free(t.mine.stop.item);
    for (size_t i = 0; i < t.n_kept; i++)
        heap_free(t.kept[i]);
    heap_free(t.kept);
    heap_free(t.image);
    heap_free(t.question);
    return rc;
}
