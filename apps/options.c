// SPDX-License-Identifier: MIT
// Parsing of options against the tables of verbs.c.
//
//   value = argument, else IVCHAT_OPTION_NAME, else default
//   --name value   --name=value   -n value   -nvalue   --flag   --no-flag   -- (ends the options)
//
// Numbers are checked against a grammar before strtod or strtoll sees them: no leading blanks, hex,
// "inf" or "nan", the whole text must be the number. The program never calls setlocale, so the
// decimal point is a point whatever the environment says.
//
// Easy to get wrong: the environment is only asked for what the arguments leave open, so that a
// repeatable option replaces its twin and a bad twin can be overruled; "--video --json" is a forgotten value, not a file called "--json"; an empty
// environment variable counts as unset.

#include "options.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "nearest.h"
#include "wellformed.h"

struct parser {
    const struct option_group *const *groups;
    struct settings *s;
    size_t list_max; // entries a repeatable option can get
    char *message;
};

static const struct option *option_at(const struct option_group *const *groups, size_t i)
{
    for (; *groups; groups++) {
        if (i < (*groups)->n)
            return &(*groups)->option[i];
        i -= (*groups)->n;
    }
    return NULL;
}

void options_twin(const char *name, char out[64])
{
    int n = snprintf(out, 64, "IVCHAT_%s", name);
    for (int i = 7; i < n && i < 63; i++) {
        if (out[i] == '-')
            out[i] = '_';
        else if (out[i] >= 'a' && out[i] <= 'z')
            out[i] = (char)(out[i] - 'a' + 'A');
    }
}

bool options_given(const struct option_group *const *groups, const struct settings *s,
                   const char *name)
{
    const struct option *o;
    for (size_t i = 0; (o = option_at(groups, i)); i++) {
        if (strcmp(o->name, name) == 0)
            return s->source[i] != SOURCE_DEFAULT;
    }
    return false;
}

// A value quoted in a message: at most 60 bytes, cut between characters.
static int quote_length(const char *value)
{
    size_t n = strlen(value);
    if (n > 60) {
        n = 60;
        while (n > 0 && ((unsigned char)value[n] & 0xc0) == 0x80)
            n--;
    }
    return (int)n;
}

static int refuse(const struct parser *p, const char *who, const char *expected, const char *value)
{
    (void)snprintf(p->message, OPTION_MESSAGE, "%s: expected %s, got \"%.*s\"%s", who, expected,
                   quote_length(value), value, strlen(value) > 60 ? "..." : "");
    return -1;
}

// ---- values

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

static int set_int(const struct parser *p, const struct option *o, const char *who,
                   const char *value, int *field)
{
    char low[32], high[32], expected[96];
    long long v, least, most;
    range_bounds(o->range, low, high);
    if (!parse_int(value, &v) || !parse_int(low, &least) || !parse_int(high, &most) || v < least ||
        v > most) {
        (void)snprintf(expected, sizeof expected, "a whole number in %s", o->range);
        return refuse(p, who, expected, value);
    }
    *field = (int)v;
    return 0;
}

static int set_count(const struct parser *p, const struct option *o, const char *who,
                     const char *value, uint64_t *field)
{
    char low[32], high[32], expected[96];
    unsigned long long v, least, most;
    range_bounds(o->range, low, high);
    if (!parse_count(value, &v) || !parse_count(low, &least) || !parse_count(high, &most) ||
        v < least || v > most) {
        (void)snprintf(expected, sizeof expected, "a whole number in %s", o->range);
        return refuse(p, who, expected, value);
    }
    *field = v;
    return 0;
}

static int set_real(const struct parser *p, const struct option *o, const char *who,
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
        return refuse(p, who, expected, value);
    }
    *field = v;
    return 0;
}

static int set_choice(const struct parser *p, const struct option *o, const char *who,
                      const char *value, const char **field)
{
    size_t n = strlen(value);
    for (const char *word = o->range; n > 0;) {
        size_t len = strcspn(word, "|");
        if (len == n && memcmp(word, value, n) == 0) {
            *field = value;
            return 0;
        }
        if (!word[len])
            break;
        word += len + 1;
    }
    char expected[96];
    (void)snprintf(expected, sizeof expected, "one of %s", o->range);
    return refuse(p, who, expected, value);
}

static int set_grid(const struct parser *p, const struct option *o, const char *who,
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
    return refuse(p, who, expected, value);
}

// Texts that the model reads must be UTF-8; paths are bytes and have no range.
static int check_text(const struct parser *p, const struct option *o, const char *who,
                      const char *value)
{
    size_t n = strlen(value), good = o->range ? wellformed_length(value, n) : n;
    if (good == n)
        return 0;
    (void)snprintf(p->message, OPTION_MESSAGE, "%s: byte %zu of the text is not UTF-8", who,
                   good + 1);
    return -1;
}

static int set_value(const struct parser *p, const struct option *o, const char *who,
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

// ---- environment

static int truth(const struct parser *p, const char *who, const char *value, bool *out)
{
    static const char *const words[2][4] = {{"0", "false", "no", "off"},
                                            {"1", "true", "yes", "on"}};
    for (int v = 0; v < 2; v++) {
        for (int i = 0; i < 4; i++) {
            if (strcmp(value, words[v][i]) == 0) {
                *out = v;
                return 0;
            }
        }
    }
    return refuse(p, who, "1 or 0", value);
}

// *value gets the variable's text, NULL when it is unset or empty.
static void twin_value(const char *name, char variable[64], const char **value)
{
    options_twin(name, variable);
    *value = getenv(variable);
    if (*value && !**value)
        *value = NULL;
}

static int from_environment(const struct parser *p, const struct option *o, uint8_t *source)
{
    char variable[64], negative[48];
    const char *value;
    bool on;

    if (o->type == OPTION_FLAG) {
        (void)snprintf(negative, sizeof negative, "no-%s", o->name);
        twin_value(negative, variable, &value);
        if (value) {
            if (truth(p, variable, value, &on) != 0)
                return -1;
            *(bool *)((char *)p->s + o->offset) = !on;
            *source = SOURCE_ENVIRONMENT;
        }
    }
    twin_value(o->name, variable, &value);
    if (!value && o->alias)
        twin_value(o->alias, variable, &value);
    if (!value)
        return 0;
    *source = SOURCE_ENVIRONMENT;
    if (o->type == OPTION_FLAG)
        return truth(p, variable, value, (bool *)((char *)p->s + o->offset));
    return set_value(p, o, variable, value);
}

// ---- arguments

// The option called by the first n bytes of name, its position in *index; *negated when a flag was
// called with no- in front.
static const struct option *find_long(const struct parser *p, const char *name, size_t n,
                                      size_t *index, bool *negated)
{
    const struct option *o;
    *negated = false;
    for (size_t i = 0; (o = option_at(p->groups, i)); i++) {
        *index = i;
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
        if (o->alias && strlen(o->alias) == n && memcmp(o->alias, name, n) == 0)
            return o;
        if (o->type == OPTION_FLAG && n > 3 && memcmp(name, "no-", 3) == 0 &&
            strlen(o->name) == n - 3 && memcmp(o->name, name + 3, n - 3) == 0) {
            *negated = true;
            return o;
        }
    }
    return NULL;
}

static const struct option *find_letter(const struct parser *p, char letter, size_t *index)
{
    const struct option *o;
    for (size_t i = 0; (o = option_at(p->groups, i)); i++) {
        *index = i;
        if (o->letter == letter)
            return o;
    }
    return NULL;
}

static bool is_option(const struct parser *p, const char *arg)
{
    size_t index;
    bool negated;
    return arg[0] == '-' && arg[1] == '-' && arg[2] &&
           find_long(p, arg + 2, strlen(arg + 2), &index, &negated);
}

static int unknown(const struct parser *p, const char *arg)
{
    char name[64];
    int n = (int)strcspn(arg, "=");
    (void)snprintf(name, sizeof name, "%.*s", n - 2 > 0 && arg[1] == '-' ? n - 2 : 0, arg + 2);
    struct nearest near = {.word = name};
    const struct option *o;
    for (size_t i = 0; (o = option_at(p->groups, i)); i++) {
        nearest_offer(&near, o->name);
        if (o->alias)
            nearest_offer(&near, o->alias);
    }
    const char *best = nearest_word(&near);
    (void)snprintf(p->message, OPTION_MESSAGE, "unknown option \"%.*s\"%s%s%s", n < 60 ? n : 60,
                   arg, best ? ", did you mean --" : "", best ? best : "", best ? "?" : "");
    return -1;
}

// One option at argv[*i], with its value; *i moves to the last argument used.
static int from_argument(const struct parser *p, int argc, char *const *argv, int *i)
{
    const char *arg = argv[*i], *value = NULL;
    const struct option *o;
    size_t index = 0;
    bool negated = false;
    char who[64];

    if (arg[1] == '-') {
        size_t n = strcspn(arg + 2, "=");
        o = find_long(p, arg + 2, n, &index, &negated);
        if (arg[2 + n] == '=')
            value = arg + 3 + n;
        (void)snprintf(who, sizeof who, "%.*s", (int)(2 + n), arg);
    } else {
        o = find_letter(p, arg[1], &index);
        if (arg[2])
            value = arg + 2 + (arg[2] == '=');
        (void)snprintf(who, sizeof who, "%.2s", arg);
    }
    if (!o)
        return strcmp(who, "--help") == 0 || strcmp(who, "-h") == 0 ? OPTIONS_HELP
                                                                    : unknown(p, arg);

    p->s->source[index] = SOURCE_ARGUMENT;
    if (o->type == OPTION_FLAG) {
        if (value) {
            (void)snprintf(p->message, OPTION_MESSAGE, "%s: takes no value, got \"%.*s\"", who,
                           quote_length(value), value);
            return -1;
        }
        *(bool *)((char *)p->s + o->offset) = !negated;
        return 0;
    }
    if (!value) {
        bool missing = *i + 1 >= argc || is_option(p, argv[*i + 1]);
        if (missing) {
            (void)snprintf(p->message, OPTION_MESSAGE, "%s: needs a value (%s)%s%s", who, o->value,
                           *i + 1 < argc ? ", found the option " : "",
                           *i + 1 < argc ? argv[*i + 1] : "");
            return -1;
        }
        value = argv[++*i];
    }
    return set_value(p, o, who, value);
}

int options_parse(const struct option_group *const *groups, int argc, char *const *argv, int first,
                  struct settings *s, char message[OPTION_MESSAGE])
{
    *s = (struct settings){0};
    message[0] = 0;
    struct parser p = {groups, s, (size_t)argc + 1, message};
    const struct option *o;

    for (size_t i = 0; (o = option_at(groups, i)); i++) {
        assert(i < OPTION_MAX);
        if (o->initial && set_value(&p, o, o->name, o->initial) != 0)
            return -1;
    }
    bool ended = false;
    for (int i = first; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (!ended && argv[i][0] == '-' && argv[i][1]) {
            int rc = from_argument(&p, argc, argv, &i);
            if (rc != 0)
                return rc;
        } else {
            (void)snprintf(message, OPTION_MESSAGE, "unexpected argument \"%.*s\"%s",
                           quote_length(argv[i]), argv[i], strlen(argv[i]) > 60 ? "..." : "");
            return -1;
        }
    }
    for (size_t i = 0; (o = option_at(groups, i)); i++) {
        if (s->source[i] == SOURCE_DEFAULT && from_environment(&p, o, &s->source[i]) != 0)
            return -1;
    }
    return 0;
}

void options_free(struct settings *s)
{
    heap_free(s->image.item);
    heap_free(s->prompt.item);
    heap_free(s->stop.item);
    *s = (struct settings){0};
}
