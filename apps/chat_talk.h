// SPDX-License-Identifier: MIT
// The interactive conversation: questions and commands typed at a terminal.
#ifndef IV_APPS_CHAT_TALK_H
#define IV_APPS_CHAT_TALK_H

#include <limits.h>
#include <stdbool.h>

#include "chat.h"
#include "chat_warm.h"
#include "nearest.h"

struct candidates;
struct editor;

struct talk {
    struct chat *c;
    struct settings mine;   // the options, changed by /set
    struct editor *editor;  // NULL = plain lines
    char history[PATH_MAX]; // "" = none is kept
    struct chat_warm warm;
    bool over;       // /quit
    char *question;  // the last one that was asked, NULL = none
    bool answered;   // and it is the session's last turn
    bool media_used; // a question was asked about the media
    char **kept;     // texts that `mine` points to
    size_t n_kept, cap_kept;
    const char **image; // of the conversation's media
    size_t n_image, cap_image;
    // for /stats
    unsigned n_answer;
    size_t prompt_tokens, cached_tokens, n_token;
};

// Talks until Ctrl-D, /quit or a signal. IV_OK; or IV_ERR_* with the message in c->work.error, when
// the conversation cannot go on.
int chat_talk(struct chat *c);

// A question, asked and counted; the history of the conversation is as before if it fails.
int talk_ask(struct talk *t, const char *question);
// The last question of the session becomes the one that /regen asks.
int talk_adopt(struct talk *t);
// A copy of text that lives as long as t; NULL = out of memory.
const char *talk_keep(struct talk *t, const char *text);

// ---- commands (chat_commands.c)

struct talk_command {
    const char *name, *other; // other name or NULL
    const char *argument;     // for people; "" = takes none
    bool file;                // the argument is a file
    const char *help;
    int (*run)(struct talk *t, const char *argument);
};

// NULL past the last one.
const struct talk_command *talk_command_at(size_t i);
// Runs it; an unknown one is told, with the nearest name. IV_ERR_* with the message in work.error.
int talk_command(struct talk *t, const char *name, const char *argument);
// For the help text: row i of the list of commands.
bool talk_command_row(size_t i, const char **left, const char **help);

// ---- settings (chat_set.c)

int talk_set(struct talk *t, const char *argument);
// Whether /set takes the option; NULL = yes, else why not.
struct option;
struct option_group;
const char *talk_set_refusal(const struct option *o, const struct option_group *group);

// ---- completion (chat_tab.c), for editor_options.complete; user is a struct talk
void talk_complete(void *user, const char *line, size_t n, struct candidates *out);

#endif
