// SPDX-License-Identifier: MIT
// Standard output carries answers and nothing else; standard error carries the rest, as text or,
// with --log-json, as one JSON object a line: {"time","level","message"} and for progress "event".
//
//   message shown when     errors always, warnings and timings unless --quiet, others with -v
//   colour                 "error" on a terminal without NO_COLOR and TERM=dumb
//
// Easy to get wrong: the progress bar has to go before any other byte reaches the terminal; a
// file's name or a model's answer may hold escape sequences; a full disk shows up only when
// standard output is flushed, so console_close looks; a reader that closed the pipe is not an
// error worth a line.

#include "console.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "jsontext.h"
#include "signals.h"
#include "wallclock.h"
#include "wide.h"

enum { LINE = 2048 };

static bool dumb_terminal(void)
{
    const char *term = getenv("TERM");
    return !term || !*term || strcmp(term, "dumb") == 0;
}

void console_open(struct console *c, const char *who, bool json)
{
    const char *no_color = getenv("NO_COLOR");
    *c = (struct console){.who = who, .log_json = json};
    c->error_terminal = isatty(STDERR_FILENO) == 1;
    c->output_terminal = isatty(STDOUT_FILENO) == 1;
    c->color = c->error_terminal && !dumb_terminal() && !(no_color && *no_color);
    atomic_init(&c->output_lost, false);
    atomic_init(&c->muted, false);
}

void console_configure(struct console *c, bool verbose, bool quiet, bool json, const char *when)
{
    c->verbose = verbose && !quiet;
    c->quiet = quiet;
    c->log_json = json;
    if (quiet || strcmp(when, "never") == 0)
        c->progress.style = PROGRESS_NONE;
    else if (json)
        c->progress.style = PROGRESS_JSON;
    else
        c->progress.style = c->error_terminal && !dumb_terminal() ? PROGRESS_BAR : PROGRESS_LINES;
    c->progress.eager = strcmp(when, "always") == 0;
}

// The bytes of what would steer the terminal become \xHH; the copy is cut at LINE.
static void printable(char out[LINE], const char *line)
{
    size_t n = 0, left = strlen(line), used;
    for (; left > 0 && n + 4 * 4 < LINE; line += used, left -= used) {
        bool steers = wide_steers(wide_decode(line, left, &used));
        used = used ? used : 1;
        for (size_t i = 0; i < used; i++) {
            if (steers)
                n += (size_t)snprintf(out + n, LINE - n, "\\x%02x", (unsigned char)line[i]);
            else
                out[n++] = line[i];
        }
    }
    out[n] = 0;
}

static void json_line(const char *level, const char *line)
{
    struct json_writer w;
    char time[32];
    clock_utc(time);
    jw_begin(&w);
    jw_text(&w, "time", time);
    jw_text(&w, "level", level);
    jw_text(&w, "message", line);
    char *text = jw_take(&w);
    fprintf(stderr, "%s\n", text ? text : "{\"level\":\"error\",\"message\":\"out of memory\"}");
    heap_free(text);
}

static void emit(struct console *c, enum iv_log_level level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char safe[LINE];
    progress_clear(&c->progress);
    printable(safe, line);
    if (c->log_json)
        json_line(names[level], safe);
    else if (level == IV_LOG_ERROR)
        fprintf(stderr, "%s%s:%s %s\n", c->color ? "\x1b[31m" : "", c->who,
                c->color ? "\x1b[0m" : "", safe);
    else if (level == IV_LOG_WARN)
        fprintf(stderr, "%s: warning: %s\n", c->who, safe);
    else
        fprintf(stderr, "%s\n", safe);
    (void)fflush(stderr);
}

void console_line(struct console *c, enum iv_log_level level, const char *line)
{
    if (atomic_load(&c->muted))
        return;
    if (level == IV_LOG_ERROR || (level == IV_LOG_WARN && !c->quiet) || c->verbose)
        emit(c, level, line);
}

void console_error(struct console *c, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    console_line(c, IV_LOG_ERROR, line);
}

void console_warn(struct console *c, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    console_line(c, IV_LOG_WARN, line);
}

void console_note(struct console *c, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    console_line(c, IV_LOG_INFO, line);
}

void console_say(struct console *c, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!c->quiet)
        emit(c, IV_LOG_INFO, line);
}

void console_reply(struct console *c, const char *format, ...)
{
    char line[LINE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    emit(c, IV_LOG_INFO, line);
}

void console_progress(struct console *c, const char *stage, uint64_t done, uint64_t total)
{
    if (atomic_load(&c->muted))
        return;
    // the growing answer is its own progress
    if (c->streaming && c->output_terminal && strcmp(stage, "generate") == 0)
        return;
    progress_feed(&c->progress, stage, done, total);
}

static bool lose(struct console *c)
{
    if (!atomic_load(&c->output_lost)) {
        c->output_error = errno;
        atomic_store(&c->output_lost, true);
    }
    return false;
}

// On a terminal Ctrl-C ends the answer, not the line that is being written; elsewhere a signal also ends a
// write that nobody reads. (stdio would drop what a signal kept it from writing.)
static bool put(struct console *c, const char *text, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, text, n);
        bool later = done < 0 && (errno == EINTR || errno == EAGAIN);
        if (later && (c->output_terminal || !signals_caught())) {
            struct pollfd f = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&f, 1, errno == EAGAIN ? 100 : 0); // somebody else made it non-blocking
            continue;
        }
        if (done < 0)
            return lose(c);
        text += done;
        n -= (size_t)done;
    }
    return true;
}

static bool put_held(struct console *c)
{
    size_t n = c->n_held;
    c->n_held = 0;
    return put(c, c->held, n);
}

bool console_write(struct console *c, const char *text, size_t n)
{
    if (atomic_load(&c->output_lost))
        return false;
    progress_clear(&c->progress);
    if (n > sizeof c->held - c->n_held && !put_held(c))
        return false;
    if (n > sizeof c->held)
        return put(c, text, n);
    memcpy(c->held + c->n_held, text, n);
    c->n_held += n;
    return true;
}

bool console_print(struct console *c, const char *format, ...)
{
    char text[LINE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return console_write(c, text, n < LINE ? (size_t)n : LINE - 1);
}

bool console_write_answer(struct console *c, const char *text, size_t n)
{
    if (!c->output_terminal)
        return console_write(c, text, n);
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (run < n &&
               ((unsigned char)text[run] >= 0x20 || text[run] == '\n' || text[run] == '\t') &&
               text[run] != 0x7f &&
               !(text[run] == '\xc2' && run + 1 < n && (unsigned char)text[run + 1] < 0xa0))
            run++;
        if (run > i && !console_write(c, text + i, run - i))
            return false;
        if (run < n) {
            if (!console_write(c, "\xef\xbf\xbd", 3))
                return false;
            run += text[run] == '\xc2' ? 2 : 1; // U+0080..U+009F are two bytes
        }
        i = run;
    }
    return true;
}

bool console_flush(struct console *c)
{
    if (atomic_load(&c->output_lost))
        return false;
    if (!put_held(c))
        return false;
    errno = 0; // help and manual pages are printed by stdio
    return fflush(stdout) == 0 && !ferror(stdout) ? true : lose(c);
}

int console_fail(struct console *c, int status, const struct iv_error *e)
{
    if (signals_caught()) {
        console_note(c, "stopped by signal %d", signals_caught());
        return 128 + signals_caught();
    }
    if (atomic_load(&c->output_lost))
        return 1; // console_close says why
    console_error(c, "%s", e->message[0] ? e->message : "failed without a message");
    return status <= IV_ERR_FAIL && status >= IV_ERR_PARTIAL ? -status : 1;
}

int console_close(struct console *c, int exit_code)
{
    progress_clear(&c->progress);
    (void)console_flush(c);
    if (!atomic_load(&c->output_lost))
        return exit_code;
    if (c->output_error != EPIPE)
        console_error(c, "standard output: %s", strerror(c->output_error));
    return exit_code ? exit_code : 1;
}
