// SPDX-License-Identifier: MIT
// What a typed line is made of: "/command argument", or a question.
#ifndef IV_APPS_CHAT_WORDS_H
#define IV_APPS_CHAT_WORDS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct chat_words {
    const char *question; // NULL = a command; "" = nothing to do
    const char *command;  // without the slash
    const char *argument; // "" = none; no blanks around it
};

// Cuts the zero-terminated line, in place. A line that begins with "/" is a command, with "//" a
// question that begins with one "/".
void chat_words_split(char *line, struct chat_words *out);
// A file's name as people type or drop it: in quotes, with backslashes before blanks, with "~/".
// A name that exists as it stands is taken so. false = longer than PATH_MAX, or empty.
bool chat_words_file(const char *text, char out[PATH_MAX]);
// "~/" as $HOME, and quotes at the begin left out; for names that are not complete.
bool chat_words_home(const char *text, size_t n, char out[PATH_MAX]);

#endif
