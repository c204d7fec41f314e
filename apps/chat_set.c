// SPDX-License-Identifier: MIT
// /set NAME VALUE: the options of `ivchat chat`, changed while talking. Names, ranges and texts are
// those of the tables in verbs.c.
//
// Easy to get wrong: how the session was opened (instruction, context, cache) cannot change under
// it, nor can the model; values point into the typed line, so they are copied first.

#include <stdio.h>
#include <string.h>

#include "chat_talk.h"
#include "option_value.h"
#include "savefile.h"

const char *talk_set_refusal(const struct option *o, const struct option_group *group)
{
    static const char *const of_media[] = {"video", "image"};
    for (size_t i = 0; i < 2; i++) {
        if (strcmp(o->name, of_media[i]) == 0)
            return "has a command of its own, see /help";
    }
    if (strcmp(group->title, "Generation") == 0 || strcmp(group->title, "Media") == 0 ||
        strcmp(o->name, "answer-prefix") == 0 || strcmp(o->name, "verbose") == 0 ||
        strcmp(o->name, "quiet") == 0)
        return NULL;
    return "is fixed when ivchat starts";
}

static void show(struct talk *t, const struct option *o)
{
    char value[200];
    option_value_text(o, &t->mine, value, sizeof value);
    console_reply(t->c->work.con, "  %-20s %-12s %s", o->name, value, o->help);
}

static void show_all(struct talk *t)
{
    for (const struct option_group *const *g = t->c->work.verb->groups; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if (!talk_set_refusal(&(*g)->option[i], *g))
                show(t, &(*g)->option[i]);
        }
    }
}

static int unknown(struct talk *t, const char *name)
{
    struct nearest near = {.word = name};
    for (const struct option_group *const *g = t->c->work.verb->groups; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if (!talk_set_refusal(&(*g)->option[i], *g))
                nearest_offer(&near, (*g)->option[i].name);
        }
    }
    const char *best = nearest_word(&near);
    return app_error(&t->c->work.error, IV_ERR_USAGE, "/set: nothing is called %.60s%s%s%s", name,
                     best ? ", did you mean " : " (/set alone lists all)", best ? best : "",
                     best ? "?" : "");
}

// Cuts "NAME VALUE"; *value NULL = none.
static void cut(char *text, const char **value)
{
    size_t n = strcspn(text, " \t\n=");
    *value = NULL;
    if (!text[n])
        return;
    text[n++] = 0;
    n += strspn(text + n, " \t\n");
    if (text[n])
        *value = text + n;
}

int talk_set(struct talk *t, const char *argument)
{
    struct work *w = &t->c->work;
    const struct option_group *const *groups = w->verb->groups;
    const struct option_group *group = NULL;
    char message[OPTION_MESSAGE];
    const char *value;
    if (!*argument) {
        show_all(t);
        return IV_OK;
    }
    char *name = (char *)talk_keep(t, argument);
    if (!name)
        return app_error(&w->error, IV_ERR_LIMIT, "out of memory for the value");
    cut(name, &value);
    while (*name == '-')
        name++;
    const struct option *o = options_find(groups, name, &group);
    if (!o)
        return unknown(t, name);
    const char *refusal = talk_set_refusal(o, group);
    if (refusal)
        return app_error(&w->error, IV_ERR_USAGE, "/set: %s %s", name, refusal);
    if (strcmp(o->name, "stop") == 0 && value && chat_check_stop(w, value) != IV_OK)
        return w->error.code; // before the old one is gone
    if (options_set(groups, &t->mine, name, value, message) != 0)
        return app_error(&w->error, IV_ERR_USAGE, "/set: %s", message);
    console_configure(w->con, t->mine.verbose, t->mine.quiet, t->mine.log_json, t->mine.progress);
    show(t, o);
    return IV_OK;
}
