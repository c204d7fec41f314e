// SPDX-License-Identifier: MIT
// Rows of the option tables, told.
//
// Easy to get wrong: a flag that is on by default is told by its negative form ("--no-antialias"),
// since that is what people have to type; of "cpu|cuda[:N]|auto" only what can be typed as it
// stands is a word.

#include "option_words.h"

#include <stdio.h>
#include <string.h>

const char *option_negation(const struct option *o)
{
    return o->type == OPTION_FLAG && o->initial ? "no-" : "";
}

void option_text(const struct option *o, char *out, size_t cap)
{
    bool negative = *option_negation(o) != 0;
    const char *dflt = o->shown ? o->shown : negative ? NULL : o->initial;
    size_t n = (size_t)snprintf(out, cap, "%s", o->help);
    if (o->type == OPTION_CHOICE && n < cap)
        n += (size_t)snprintf(out + n, cap - n, ": %s", o->range);
    if (dflt && n < cap)
        n += (size_t)snprintf(out + n, cap - n, " (default %s)", dflt);
    if (o->alias && n < cap)
        (void)snprintf(out + n, cap - n, "; also --%s", o->alias);
}

enum value_kind option_value_kind(const struct option *o, char *out, size_t cap)
{
    const char *text = o->type == OPTION_CHOICE ? o->range : o->value;
    size_t n = 0;
    out[0] = 0;
    if (o->type == OPTION_FLAG)
        return VALUE_NONE;
    if (strcmp(o->value, "FILE") == 0)
        return VALUE_FILE;
    if (strcmp(o->value, "DIR") == 0 || strncmp(o->value, "DIR|", 4) == 0)
        return VALUE_FOLDER;
    if (!strchr(text, '|'))
        return VALUE_FREE;
    while (*text) {
        size_t len = strcspn(text, "|");
        bool whole = o->type == OPTION_CHOICE ||
                     strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
        if (whole && n < cap)
            n += (size_t)snprintf(out + n, cap - n, "%s%.*s", n ? " " : "", (int)len, text);
        text += len + (text[len] == '|');
    }
    return n ? VALUE_WORDS : VALUE_FREE;
}
