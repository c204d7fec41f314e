// SPDX-License-Identifier: MIT
// Lines typed at a terminal: editing, history, completion, paste. The one door to libedit.
#ifndef IV_APPS_EDITOR_H
#define IV_APPS_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

struct candidates;
struct editor;

struct editor_options {
    const char *prompt; // ASCII, borrowed as long as the editor lives
    size_t history;     // lines that the arrow keys reach
    size_t max;         // bytes of a line
    // Fills `out` with what may stand at the cursor, which is at the end of the n bytes of line.
    // NULL = no completion.
    void (*complete)(void *user, const char *line, size_t n, struct candidates *out);
    void *user;
};

enum editor_result {
    EDITOR_LINE,
    EDITOR_END,     // Ctrl-D, or the terminal is gone
    EDITOR_CLEARED, // Ctrl-C took a line away that had text; the signal is forgotten
    EDITOR_STOPPED, // another signal, or Ctrl-C on an empty line; see signals_caught
    EDITOR_TOO_LONG,
    EDITOR_FAILED // out of memory
};

// Whether standard input and standard error are a terminal that can move its cursor.
bool editor_possible(void);
// Reads from standard input and draws on standard error. NULL = out of memory or no usable locale.
struct editor *editor_open(const struct editor_options *o);
// One line of well-formed UTF-8 without control characters except newline and tab; *line has a zero
// behind its *n bytes and is valid until the next call. Outside of this call the terminal is as it
// was.
enum editor_result editor_line(struct editor *ed, const char **line, size_t *n);
// Puts a line (UTF-8) at the end of the history; false = out of memory.
bool editor_remember(struct editor *ed, const char *line, size_t n);
// NULL is allowed.
void editor_close(struct editor *ed);
// "libedit 2.11"
void editor_version(char out[32]);

#endif
