// SPDX-License-Identifier: MIT
// What the Tab key offers in the interactive conversation: commands, file names after the commands
// that take one, names and words after /set.
//
// Easy to get wrong: the name of a file is the rest of the line, blanks included; a folder may hold
// names that cannot be typed, which are left out.

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "candidates.h"
#include "chat_talk.h"
#include "chat_words.h"
#include "wellformed.h"
#include "wide.h"

static bool can_be_typed(const char *name)
{
    size_t n = strlen(name), used;
    for (size_t i = 0; i < n; i += used) {
        if (wide_steers(wide_decode(name + i, n - i, &used)) || used == 0)
            return false;
    }
    return wellformed_length(name, n) == n;
}

static bool is_folder(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && n < (int)sizeof path && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void offer_files(const char *text, size_t n, struct candidates *out)
{
    char path[PATH_MAX];
    if (!chat_words_home(text, n, path))
        path[0] = 0;
    char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path, *folder = ".";
    if (slash == path)
        folder = "/";
    else if (slash)
        folder = path;
    size_t len = strlen(base);
    if (slash && slash > path)
        *slash = 0;
    DIR *d = opendir(folder);
    if (!d)
        return;
    out->replaced = len;
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strncmp(e->d_name, base, len) != 0 || (e->d_name[0] == '.' && base[0] != '.') ||
            strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || !can_be_typed(e->d_name))
            continue;
        candidates_add(out, e->d_name, is_folder(folder, e->d_name) ? "/" : "");
    }
    (void)closedir(d);
}

static void offer_commands(const char *word, size_t n, struct candidates *out)
{
    const struct talk_command *k;
    out->replaced = n;
    out->after = ' ';
    for (size_t i = 0; (k = talk_command_at(i)); i++)
        candidates_offer(out, k->name, word, n);
}

static void offer_settings(struct talk *t, const char *word, size_t n, struct candidates *out)
{
    out->replaced = n;
    out->after = ' ';
    for (const struct option_group *const *g = t->c->work.verb->groups; *g; g++) {
        for (size_t i = 0; i < (*g)->n; i++) {
            if (!talk_set_refusal(&(*g)->option[i], *g))
                candidates_offer(out, (*g)->option[i].name, word, n);
        }
    }
}

static void offer_values(struct talk *t, const char *name, size_t n_name, const char *word,
                         size_t n, struct candidates *out)
{
    const struct option_group *group;
    char text[64];
    if (n_name >= sizeof text)
        return;
    (void)snprintf(text, sizeof text, "%.*s", (int)n_name, name);
    const struct option *o = options_find(t->c->work.verb->groups, text, &group);
    out->replaced = n;
    if (o && o->type == OPTION_FLAG) {
        candidates_offer(out, "on", word, n);
        candidates_offer(out, "off", word, n);
    }
}

void talk_complete(void *user, const char *line, size_t n, struct candidates *out)
{
    struct talk *t = user;
    const struct talk_command *k;
    if (n == 0 || line[0] != '/')
        return;
    const char *blank = memchr(line, ' ', n);
    if (!blank) {
        offer_commands(line + 1, n - 1, out);
        return;
    }
    size_t n_command = (size_t)(blank - line) - 1;
    const char *word = blank + 1;
    while (word < line + n && *word == ' ')
        word++;
    size_t n_word = (size_t)(line + n - word);
    for (size_t i = 0; (k = talk_command_at(i)); i++) {
        if (strlen(k->name) != n_command || memcmp(k->name, line + 1, n_command) != 0)
            continue;
        if (k->file) {
            offer_files(word, n_word, out);
        } else if (k->run == talk_set) {
            const char *gap = memchr(word, ' ', n_word);
            if (gap)
                offer_values(t, word, (size_t)(gap - word), gap + 1, (size_t)(line + n - gap) - 1,
                             out);
            else
                offer_settings(t, word, n_word, out);
        }
    }
}
