// SPDX-License-Identifier: MIT
// Parsing of options against the tables of verbs.c.
//
//   value = argument, else IVCHAT_OPTION_NAME, else default
//   --name value   --name=value   -n value   -nvalue   --flag   --no-flag   -- (ends the options)
//
// Easy to get wrong: the environment is only asked for what the arguments leave open, so that a
// repeatable option replaces its twin and a bad twin can be overruled; "--video --json" is a
// forgotten value, not a file called "--json"; an empty environment variable counts as unset.

#include "options.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "nearest.h"
#include "option_value.h"

struct parser {
    const struct option_group *const *groups;
    struct option_sink sink;
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

// IVCHAT_ and the name in capitals, '-' as '_'.
static void twin(const char *name, char out[64])
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
    return option_refuse(&p->sink, who, "1 or 0", value);
}

// *value gets the variable's text, NULL when it is unset or empty.
static void twin_value(const char *name, char variable[64], const char **value)
{
    twin(name, variable);
    *value = getenv(variable);
    if (*value && !**value)
        *value = NULL;
}

static int from_environment(const struct parser *p, const struct option *o, uint8_t *source)
{
    char variable[64], negative[48];
    const char *value;
    bool on;

    if (o->type == OPTION_OPERAND)
        return 0;
    if (o->type == OPTION_FLAG) {
        (void)snprintf(negative, sizeof negative, "no-%s", o->name);
        twin_value(negative, variable, &value);
        if (value) {
            if (truth(p, variable, value, &on) != 0)
                return -1;
            *(bool *)((char *)p->sink.s + o->offset) = !on;
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
        return truth(p, variable, value, (bool *)((char *)p->sink.s + o->offset));
    return option_value_set(&p->sink, o, variable, value);
}

// The option called by the first n bytes of name, its position in *index; *negated when a flag was
// called with no- in front.
static const struct option *find_long(const struct parser *p, const char *name, size_t n,
                                      size_t *index, bool *negated)
{
    const struct option *o;
    *negated = false;
    for (size_t i = 0; (o = option_at(p->groups, i)); i++) {
        *index = i;
        if (o->type == OPTION_OPERAND)
            continue;
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
        if (o->type != OPTION_OPERAND)
            nearest_offer(&near, o->name);
        if (o->alias)
            nearest_offer(&near, o->alias);
    }
    const char *best = nearest_word(&near);
    (void)snprintf(p->sink.message, OPTION_MESSAGE, "unknown option \"%.*s\"%s%s%s",
                   n < 60 ? n : 60, arg, best ? ", did you mean --" : "", best ? best : "",
                   best ? "?" : "");
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

    p->sink.s->source[index] = SOURCE_ARGUMENT;
    if (o->type == OPTION_FLAG) {
        if (value) {
            (void)snprintf(p->sink.message, OPTION_MESSAGE, "%s: takes no value, got \"%.*s\"", who,
                           option_quote_length(value), value);
            return -1;
        }
        *(bool *)((char *)p->sink.s + o->offset) = !negated;
        return 0;
    }
    if (!value) {
        bool missing = *i + 1 >= argc || is_option(p, argv[*i + 1]);
        if (missing) {
            (void)snprintf(p->sink.message, OPTION_MESSAGE, "%s: needs a value (%s)%s%s", who,
                           o->value, *i + 1 < argc ? ", found the option " : "",
                           *i + 1 < argc ? argv[*i + 1] : "");
            return -1;
        }
        value = argv[++*i];
    }
    return option_value_set(&p->sink, o, who, value);
}

// A bare argument: the verb's operand, if it has one and it was not given yet.
static int from_operand(const struct parser *p, const char *arg)
{
    const struct option *o;
    for (size_t i = 0; (o = option_at(p->groups, i)); i++) {
        if (o->type != OPTION_OPERAND || p->sink.s->source[i] != SOURCE_DEFAULT)
            continue;
        p->sink.s->source[i] = SOURCE_ARGUMENT;
        return option_value_set(&p->sink, o, o->value, arg);
    }
    (void)snprintf(p->sink.message, OPTION_MESSAGE, "unexpected argument \"%.*s\"%s",
                   option_quote_length(arg), arg, strlen(arg) > 60 ? "..." : "");
    return -1;
}

int options_parse(const struct option_group *const *groups, int argc, char *const *argv, int first,
                  struct settings *s, char message[OPTION_MESSAGE])
{
    *s = (struct settings){0};
    message[0] = 0;
    struct parser p = {groups, {s, (size_t)argc + 1, message}};
    const struct option *o;

    for (size_t i = 0; (o = option_at(groups, i)); i++) {
        assert(i < OPTION_MAX);
        if (o->initial && option_value_set(&p.sink, o, o->name, o->initial) != 0)
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
        } else if (from_operand(&p, argv[i]) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; (o = option_at(groups, i)); i++) {
        if (s->source[i] == SOURCE_DEFAULT && from_environment(&p, o, &s->source[i]) != 0)
            return -1;
    }
    return 0;
}

const struct option *options_find(const struct option_group *const *groups, const char *name,
                                  const struct option_group **group)
{
    for (; *groups; groups++) {
        for (size_t i = 0; i < (*groups)->n; i++) {
            const struct option *o = &(*groups)->option[i];
            if (strcmp(o->name, name) == 0 || (o->alias && strcmp(o->alias, name) == 0)) {
                *group = *groups;
                return o;
            }
        }
    }
    return NULL;
}

int options_set(const struct option_group *const *groups, struct settings *s, const char *name,
                const char *value, char message[OPTION_MESSAGE])
{
    struct parser p = {groups, {s, OPTION_MAX, message}};
    const struct settings before = *s;
    bool negated, on = true;
    size_t index, had = 0;
    int rc = 0;
    message[0] = 0;
    const struct option *o = find_long(&p, name, strlen(name), &index, &negated);
    if (!o) {
        (void)snprintf(message, OPTION_MESSAGE, "no option is called %.60s", name);
        return -1;
    }
    void *field = (char *)s + o->offset;
    struct text_list *list = o->type == OPTION_LIST ? field : NULL;
    if (list) {
        had = list->n;
        list->n = 0;
    }
    if (o->type == OPTION_FLAG) {
        rc = value ? truth(&p, name, value, &on) : 0;
        if (rc == 0)
            *(bool *)field = on != negated;
    } else if (value || o->initial) {
        rc = option_value_set(&p.sink, o, name, value ? value : o->initial);
    } else if (o->type == OPTION_TEXT || o->type == OPTION_CHOICE) {
        *(const char **)field = NULL;
    }
    if (rc == 0)
        s->source[index] = value || o->type == OPTION_FLAG ? SOURCE_ARGUMENT : SOURCE_DEFAULT;
    else if (list)
        list->n = had; // its array may be new: keep it
    else
        *s = before;
    return rc;
}

void options_free(struct settings *s)
{
    heap_free(s->image.item);
    heap_free(s->prompt.item);
    heap_free(s->stop.item);
    heap_free(s->include.item);
    heap_free(s->exclude.item);
    heap_free(s->tensor_type.item);
    heap_free(s->bench_stage.item);
    *s = (struct settings){0};
}
