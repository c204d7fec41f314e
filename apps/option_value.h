// SPDX-License-Identifier: MIT
// From an option's text to its field of the settings.
#ifndef IV_APPS_OPTION_VALUE_H
#define IV_APPS_OPTION_VALUE_H

#include "options.h"

struct option_sink {
    struct settings *s;
    size_t list_max; // entries a repeatable option can get
    char *message;   // [OPTION_MESSAGE]
};

// Checks value and stores it; `who` names the option in messages as the person wrote it. 0, or
// -1 with the message written.
int option_value_set(const struct option_sink *p, const struct option *o, const char *who,
                     const char *value);
// The option's value as it would be typed, cut at cap - 1 bytes.
void option_value_text(const struct option *o, const struct settings *s, char *out, size_t cap);
// Writes "<who>: expected <expected>, got "<value>"" and returns -1.
int option_refuse(const struct option_sink *p, const char *who, const char *expected,
                  const char *value);
// Bytes of value that a message quotes: at most 60, whole characters.
int option_quote_length(const char *value);

#endif
