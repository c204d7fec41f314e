// SPDX-License-Identifier: MIT
// Declarative options: one table row drives parsing, the environment twin, the range check, the
// message and the help.
#ifndef IV_APPS_OPTIONS_H
#define IV_APPS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "settings.h"

enum option_type {
    OPTION_FLAG,   // bool; --x and --no-x
    OPTION_INT,    // int
    OPTION_COUNT,  // uint64_t
    OPTION_REAL,   // double, finite
    OPTION_TEXT,   // const char *, any bytes (a path), or with range "utf-8" that
    OPTION_CHOICE, // const char *, one of the words of `range`
    OPTION_GRID,   // struct grid, "WxH" or, if `value` says so, "auto"
    OPTION_LIST,   // struct text_list of the same; repeatable
    OPTION_OPERAND // const char *, given without a name; one a verb, has no twin
};

struct option {
    const char *name;  // without dashes
    const char *alias; // another long name, NULL = none
    char letter;       // short name, 0 = none
    enum option_type type;
    size_t offset;       // of the field in struct settings
    const char *value;   // what the help calls the value; NULL for flags
    const char *range;   // numbers: "[1,512]", "(0,1]"; choices: "lm|bert"; texts: "utf-8";
                         // NULL = any text
    const char *initial; // the default, parsed like a value; NULL = zero
    const char *shown;   // what the help says instead of `initial`; NULL = the same
    const char *help;
};

struct option_group {
    const char *title;
    const struct option *option;
    size_t n;
    // more rows of the help, behind the options: row i, false past the last one; NULL = none
    bool (*row)(size_t i, const char **left, const char **help);
};

enum option_source { SOURCE_DEFAULT, SOURCE_ENVIRONMENT, SOURCE_ARGUMENT };

enum { OPTION_GROUPS = 12, OPTION_MESSAGE = 400, OPTIONS_HELP = 1 };

// Fills s from argv[first..], the environment and the defaults. 0; OPTIONS_HELP when --help or
// -h was found before any error; or -1 with a line without newline in message. s is to be
// released with options_free in all cases.
int options_parse(const struct option_group *const *groups, int argc, char *const *argv, int first,
                  struct settings *s, char message[OPTION_MESSAGE]);
void options_free(struct settings *s);
// One option by its long name, as if it had been an argument; value NULL = back to the default
// (a flag: on), for a flag on, off, 1 or 0. A list gets the value in place of all it had. 0, or -1
// with a line in message; s is then as before.
int options_set(const struct option_group *const *groups, struct settings *s, const char *name,
                const char *value, char message[OPTION_MESSAGE]);
// The option of that long name or alias, *group where it stands; NULL = none.
const struct option *options_find(const struct option_group *const *groups, const char *name,
                                  const struct option_group **group);

// Whether a person named the option, as an argument or in the environment. `name` as in the table.
bool options_given(const struct option_group *const *groups, const struct settings *s,
                   const char *name);

#endif
