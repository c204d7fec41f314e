// SPDX-License-Identifier: MIT
// Commands and file names in typed lines.
//
// Easy to get wrong: a command's argument is the rest of the line, so a file's name needs no
// quotes; but terminals quote what is dropped on them, each in its own way.

#include "chat_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

static char *trimmed(char *s)
{
    while (is_blank(*s))
        s++;
    size_t n = strlen(s);
    while (n > 0 && is_blank(s[n - 1]))
        n--;
    s[n] = 0;
    return s;
}

void chat_words_split(char *line, struct chat_words *out)
{
    *out = (struct chat_words){0};
    if (line[0] != '/' || line[1] == '/') {
        const char *c = line + (line[0] == '/');
        while (is_blank(*c))
            c++;
        out->question = *c ? line + (line[0] == '/') : "";
        return;
    }
    size_t n = 1;
    while (line[n] && !is_blank(line[n]))
        n++;
    out->argument = line[n] ? trimmed(line + n + 1) : "";
    line[n] = 0;
    out->command = line + 1;
}

bool chat_words_home(const char *text, size_t n, char out[PATH_MAX])
{
    const char *home = "";
    if (n > 0 && (text[0] == '\'' || text[0] == '"')) {
        text++;
        n--;
    }
    if (n > 1 && text[0] == '~' && text[1] == '/') {
        home = getenv("HOME");
        home = home ? home : "";
        text += *home ? 1 : 0;
        n -= *home ? 1 : 0;
    }
    if (n >= PATH_MAX)
        return false;
    int len = snprintf(out, PATH_MAX, "%s%.*s", home, (int)n, text);
    return len > 0 && len < PATH_MAX;
}

// Removes the backslashes that protect characters.
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (*s == '\\' && s[1])
            s++;
        *to++ = *s;
    }
    *to = 0;
}

bool chat_words_file(const char *text, char out[PATH_MAX])
{
    size_t n = strlen(text);
    if (n > 0 && n < PATH_MAX && access(text, F_OK) == 0) {
        memcpy(out, text, n + 1);
        return true;
    }
    bool quoted = n >= 2 && (text[0] == '\'' || text[0] == '"') && text[n - 1] == text[0];
    if (quoted)
        n--; // chat_words_home takes the one at the begin
    if (!chat_words_home(text, n, out))
        return false;
    if (!quoted && access(out, F_OK) != 0)
        unescape(out);
    return out[0] != 0;
}
