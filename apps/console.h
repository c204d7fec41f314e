// SPDX-License-Identifier: MIT
// The two ends a person sees: answers on standard output, everything else on standard error.
#ifndef IV_APPS_CONSOLE_H
#define IV_APPS_CONSOLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivchat.h"
#include "progress.h"

// One per process, made by console_open; used from the main thread except where noted.
struct console {
    const char *who; // "ivchat chat", in front of messages
    bool quiet, verbose, log_json;
    bool error_terminal, output_terminal; // what standard error and output are
    bool color;
    atomic_bool muted; // another thread works unseen: its progress and messages are dropped
    struct progress progress;
    bool streaming;          // answers appear on the terminal while they are generated
    atomic_bool output_lost; // standard output cannot be written any more; any thread may read it
    int output_error;        // errno of that; EPIPE = the reader went away
    char held[4096];         // bytes for standard output, not yet written
    size_t n_held;
};

// How messages look is needed before options are parsed: `json` is the pre-scanned --log-json.
void console_open(struct console *c, const char *who, bool json);
// The parsed options. `when`: "auto", "never" or "always" (progress).
void console_configure(struct console *c, bool verbose, bool quiet, bool json, const char *when);

// One line on standard error, unless its level is below what was asked for (errors always,
// warnings unless --quiet, the rest with -v). The bytes of controls and of marks that turn the direction
// of text are shown as \xHH.
void console_line(struct console *c, enum iv_log_level level, const char *line);
void console_error(struct console *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void console_warn(struct console *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void console_note(struct console *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A result line that is shown unless --quiet: timings.
void console_say(struct console *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
// What a person asked to be told, --quiet or not.
void console_reply(struct console *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// For the library's progress callback.
void console_progress(struct console *c, const char *stage, uint64_t done, uint64_t total);

// Bytes for standard output; the progress bar is taken away first. false when it is lost.
bool console_write(struct console *c, const char *text, size_t n);
bool console_print(struct console *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// As console_write for text made by the model: on a terminal, control bytes other than newline and
// tab are replaced by U+FFFD, so that an answer cannot steer the terminal.
bool console_write_answer(struct console *c, const char *text, size_t n);
bool console_flush(struct console *c);

// Reports a failed library call and returns the exit code: 1..7, or 128 + signal when a signal
// asked to stop, or 1 without a line when the reader of standard output went away.
int console_fail(struct console *c, int status, const struct iv_error *e);
// Last call: flushes; the exit code becomes 1 if standard output was lost.
int console_close(struct console *c, int exit_code);

#endif
