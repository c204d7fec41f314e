// SPDX-License-Identifier: MIT
// The verbs of the command line: name, options, help, and the function that does the work.
#ifndef IV_APPS_VERBS_H
#define IV_APPS_VERBS_H

#include <stddef.h>

#include "options.h"

struct console;

struct verb {
    const char *name;
    const char *summary; // one line for the list of verbs
    const char *about;   // paragraphs of its help
    const char *examples;
    const struct option_group *groups[OPTION_GROUPS]; // ends with NULL
    // Returns the exit code. The console is open and reports errors.
    int (*run)(const struct verb *verb, const struct settings *s, struct console *con);
};

// NULL past the last one.
const struct verb *verb_at(size_t i);
const struct verb *verb_find(const char *name);
// How its i-th operand is written in a synopsis; NULL past the last one.
const char *verb_operand(const struct verb *verb, size_t i);

// The work of each verb, one file each.
int chat_run(const struct verb *verb, const struct settings *s, struct console *con);
int embed_run(const struct verb *verb, const struct settings *s, struct console *con);
int tokenize_run(const struct verb *verb, const struct settings *s, struct console *con);
int pull_run(const struct verb *verb, const struct settings *s, struct console *con);
int list_run(const struct verb *verb, const struct settings *s, struct console *con);
int quantize_run(const struct verb *verb, const struct settings *s, struct console *con);
int rm_run(const struct verb *verb, const struct settings *s, struct console *con);
int serve_run(const struct verb *verb, const struct settings *s, struct console *con);
int bench_run(const struct verb *verb, const struct settings *s, struct console *con);
int info_run(const struct verb *verb, const struct settings *s, struct console *con);

#endif
