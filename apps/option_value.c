// SPDX-License-Identifier: MIT
// One option's value from its text: checked against the row's type and range, then stored in the
// row's field of the settings.
//
// Numbers are checked against a grammar before strtod or strtoll sees them: no leading blanks, hex,
// "inf" or "nan", the whole text must be the number. The program never calls setlocale, so the
// decimal point is a point whatever the environment says.
//
// Easy to get wrong: "8b|hd" holds the words of a choice and is none itself; a number too large
// for a double becomes infinity and not an error of strtod's; a quoted value is cut between
// characters; the name "" is a script's unset variable, and no system call's error tells which.

#include "option_value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "heap.h"
#include "wellformed.h"

int option_quote_length(const char *value)
{
    size_t n = strlen(value);
    if (n > 60) {
        n = 60;
        while (n > 0 && ((unsigned char)value[n] & 0xc0) == 0x80)
            n--;
    }
    return (int)n;
}

int option_refuse(const struct option_sink *p, const char *who, const char *expected,
                  const char *value)
{
    (void)snprintf(p->message, OPTION_MESSAGE, "%s: expected %s, got \"%.*s\"%s", who, expected,
                   option_quote_length(value), value, strlen(value) > 60 ? "..." : "");
    return -1;
}

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

static bool parse_real(const char *text, double *out)
{
    const char *s = text + (*text == '-' || *text == '+');
    const char *whole = skip_digits(s);
    bool digits = whole > s;
    s = whole;
    if (*s == '.') {
        const char *end = skip_digits(s + 1);
        digits |= end > s + 1;
        s = end;
    }
    if (digits && (*s == 'e' || *s == 'E')) {
        const char *e = s + 1 + (s[1] == '-' || s[1] == '+');
        s = skip_digits(e);
        digits = s > e;
    }
    if (!digits || *s)
        return false;
    *out = strtod(text, NULL);
    return isfinite(*out);
}

static bool parse_int(const char *text, long long *out)
{
    const char *s = text + (*text == '-' || *text == '+');
    const char *end = skip_digits(s);
    if (end == s || *end)
        return false;
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool parse_count(const char *text, unsigned long long *out)
{
    const char *end = skip_digits(text);
    if (end == text || *end)
        return false;
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

// The bounds of "[1,512]" as texts.
static void range_bounds(const char *range, char low[32], char high[32])
{
    const char *comma = strchr(range, ',');
    (void)snprintf(low, 32, "%.*s", (int)(comma - range - 1), range + 1);
    (void)snprintf(high, 32, "%.*s", (int)strcspn(comma + 1, "])"), comma + 1);
}

static int set_int(const struct option_sink *p, const struct option *o, const char *who,
                   const char *value, int *field)
{
    char low[32], high[32], expected[96];
    long long v, least, most;
    range_bounds(o->range, low, high);
    if (!parse_int(value, &v) || !parse_int(low, &least) || !parse_int(high, &most) || v < least ||
        v > most) {
        (void)snprintf(expected, sizeof expected, "a whole number in %s", o->range);
        return option_refuse(p, who, expected, value);
    }
    *field = (int)v;
    return 0;
}

static int set_count(const struct option_sink *p, const struct option *o, const char *who,
                     const char *value, uint64_t *field)
{
    char low[32], high[32], expected[96];
    unsigned long long v, least, most;
    range_bounds(o->range, low, high);
    if (!parse_count(value, &v) || !parse_count(low, &least) || !parse_count(high, &most) ||
        v < least || v > most) {
        (void)snprintf(expected, sizeof expected, "a whole number in %s", o->range);
        return option_refuse(p, who, expected, value);
    }
    *field = v;
    return 0;
}

static int set_real(const struct option_sink *p, const struct option *o, const char *who,
                    const char *value, double *field)
{
    char low[32], high[32], expected[96];
    double v = 0, least = 0, most = 0;
    range_bounds(o->range, low, high);
    bool ok = parse_real(value, &v) && parse_real(low, &least) && parse_real(high, &most);
    ok = ok && (o->range[0] == '[' ? v >= least : v > least);
    ok = ok && (o->range[strlen(o->range) - 1] == ']' ? v <= most : v < most);
    if (!ok) {
        (void)snprintf(expected, sizeof expected, "a number in %s", o->range);
        return option_refuse(p, who, expected, value);
    }
    *field = v;
    return 0;
}

static bool has_word(const char *range, const char *value)
{
    size_t n = strlen(value);
    for (const char *word = range; n > 0;) {
        size_t len = strcspn(word, "|");
        if (len == n && memcmp(word, value, n) == 0)
            return true;
        if (!word[len])
            break;
        word += len + 1;
    }
    return false;
}

static int set_choice(const struct option_sink *p, const struct option *o, const char *who,
                      const char *value, const char **field)
{
    // number formats, which other programs write in either case; of a range one is a word
    static const char *const types[] = {"Q4_K_M", "Q4_0", "Q6_K", "Q8_0", "BF16",
                                        "F16",    "F32",  "bf16", "f16",  "f32",
                                        "q8_0",   "q6_k", "q4_0", "int8", "q4_k_m"};
    bool good = has_word(o->range, value);
    for (size_t i = 0; !good && i < sizeof types / sizeof *types; i++) {
        good = strcasecmp(types[i], value) == 0 && has_word(o->range, types[i]);
        value = good ? types[i] : value;
    }
    if (good) {
        *field = value;
        return 0;
    }
    char expected[96];
    (void)snprintf(expected, sizeof expected, "one of %s", o->range);
    return option_refuse(p, who, expected, value);
}

static int set_grid(const struct option_sink *p, const struct option *o, const char *who,
                    const char *value, struct grid *field)
{
    bool automatic = strstr(o->value, "auto") != NULL;
    if (automatic && strcmp(value, "auto") == 0) {
        *field = (struct grid){0, 0};
        return 0;
    }
    char low[32], high[32], expected[96], first[16];
    long long cols, rows, least, most;
    const char *x = strchr(value, 'x');
    size_t n = x ? (size_t)(x - value) : 0;
    range_bounds(o->range, low, high);
    if (n > 0 && n < sizeof first) {
        memcpy(first, value, n);
        first[n] = 0;
        if (parse_int(first, &cols) && parse_int(x + 1, &rows) && parse_int(low, &least) &&
            parse_int(high, &most) && cols >= least && cols <= most && rows >= least &&
            rows <= most) {
            *field = (struct grid){(int)cols, (int)rows};
            return 0;
        }
    }
    (void)snprintf(expected, sizeof expected, "WxH with both in %s%s", o->range,
                   automatic ? " or auto" : "");
    return option_refuse(p, who, expected, value);
}

// FILE, DIR|GGUF|..., LIST, SRC, DST: what is named lies on a disk.
static bool names_file(const struct option *o)
{
    static const char *const kinds[] = {"FILE", "DIR", "LIST", "SRC", "DST"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i]);
        if (strncmp(o->value, kinds[i], n) == 0 && (!o->value[n] || o->value[n] == '|'))
            return true;
    }
    return false;
}

// Texts that the model reads must be UTF-8; paths are bytes and have no range.
static int check_text(const struct option_sink *p, const struct option *o, const char *who,
                      const char *value)
{
    size_t n = strlen(value), good = o->range ? wellformed_length(value, n) : n;
    if (n == 0 && names_file(o))
        return option_refuse(p, who, "a name", value);
    if (good == n)
        return 0;
    (void)snprintf(p->message, OPTION_MESSAGE, "%s: byte %zu of the text is not UTF-8", who,
                   good + 1);
    return -1;
}

int option_value_set(const struct option_sink *p, const struct option *o, const char *who,
                     const char *value)
{
    void *field = (char *)p->s + o->offset;
    switch (o->type) {
    case OPTION_FLAG:
        *(bool *)field = strcmp(value, "1") == 0;
        return 0;
    case OPTION_INT:
        return set_int(p, o, who, value, field);
    case OPTION_COUNT:
        return set_count(p, o, who, value, field);
    case OPTION_REAL:
        return set_real(p, o, who, value, field);
    case OPTION_CHOICE:
        return set_choice(p, o, who, value, field);
    case OPTION_GRID:
        return set_grid(p, o, who, value, field);
    case OPTION_OPERAND:
    case OPTION_TEXT:
        *(const char **)field = value;
        return check_text(p, o, who, value);
    case OPTION_LIST:
        break;
    }
    if (check_text(p, o, who, value) != 0)
        return -1;
    struct text_list *list = field;
    if (!list->item)
        list->item = heap_calloc(p->list_max, sizeof *list->item);
    if (!list->item) {
        (void)snprintf(p->message, OPTION_MESSAGE, "%s: out of memory", who);
        return -1;
    }
    list->item[list->n++] = value;
    return 0;
}

static void text_of_grid(const struct grid *g, char *out, size_t cap)
{
    if (g->cols > 0)
        (void)snprintf(out, cap, "%dx%d", g->cols, g->rows);
    else
        (void)snprintf(out, cap, "auto");
}

static void text_of_list(const struct text_list *list, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < list->n && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s\"%s\"", i ? " " : "", list->item[i]);
}

void option_value_text(const struct option *o, const struct settings *s, char *out, size_t cap)
{
    const void *field = (const char *)s + o->offset;
    const char *text;
    switch (o->type) {
    case OPTION_FLAG:
        (void)snprintf(out, cap, "%s", *(const bool *)field ? "on" : "off");
        break;
    case OPTION_INT:
        (void)snprintf(out, cap, "%d", *(const int *)field);
        break;
    case OPTION_COUNT:
        (void)snprintf(out, cap, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case OPTION_REAL:
        (void)snprintf(out, cap, "%g", *(const double *)field);
        break;
    case OPTION_TEXT:
    case OPTION_CHOICE:
    case OPTION_OPERAND:
        text = *(const char *const *)field;
        (void)snprintf(out, cap, text ? "\"%s\"" : "%s", text ? text : "none");
        break;
    case OPTION_GRID:
        text_of_grid(field, out, cap);
        break;
    case OPTION_LIST:
        text_of_list(field, out, cap);
        break;
    }
}
