// SPDX-License-Identifier: MIT
// An option as words for people and shells: what the help, the manual pages and the completions say
// of a row of the tables.
#ifndef IV_APPS_OPTION_WORDS_H
#define IV_APPS_OPTION_WORDS_H

#include <stddef.h>

#include "options.h"

enum value_kind { VALUE_NONE, VALUE_FREE, VALUE_FILE, VALUE_FOLDER, VALUE_WORDS };

// "no-" for a flag that is on by default, else "".
const char *option_negation(const struct option *o);
// The help with words, default and alias.
void option_text(const struct option *o, char *out, size_t cap);
// What the value is; for VALUE_WORDS the words with blanks between them are written to out.
enum value_kind option_value_kind(const struct option *o, char *out, size_t cap);

#endif
