// SPDX-License-Identifier: MIT
// A conversation of `ivchat chat`: what the verb, the interactive mode and its commands share.
#ifndef IV_APPS_CHAT_H
#define IV_APPS_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "linereader.h"
#include "work.h"

enum { QUESTION_MAX = 1 << 20 }; // bytes

// What the last answer took.
struct chat_costs {
    size_t prompt_tokens, cached_tokens, n_token;
    double ttft_ms, generate_ms;
};

struct chat {
    struct work work;
    struct iv_session *session;
    struct linereader lines;
    size_t next_prompt;
    bool terminal;   // questions are typed
    unsigned turn;   // questions asked
    bool media_told; // the cost of opening the media stands in an earlier turn
    size_t streamed; // bytes of the running answer that standard output has
    struct chat_costs last;
    const struct chat_segment *segment; // that the questions are about, NULL = the whole media
};

struct chat_segment {
    size_t index, n;
    double start_s, end_s; // end_s 0 = unknown
};

// One question: the answer on standard output, timings on standard error. IV_ERR_* with the message
// in work.error; the history is then as before.
int chat_ask(struct chat *c, const char *question);
// Every question of the options and of standard input, in order.
int chat_answer_all(struct chat *c);
// Opens c->session about c->work.media.
int chat_session_open(struct chat *c);
// --each-segment: all questions about one segment after the other (chat_segments.c).
int chat_each_segment(struct chat *c);
// --load: media and session from the file; mine gets its generation options, where a person has named
// none (chat_file.c).
int chat_load(struct chat *c, struct settings *mine);
// Writes the conversation to path. Refused: one without turns, and a path where another kind of file
// stands.
int chat_save(struct chat *c, const char *path, struct iv_error *e);
// Whether --save, --load and --each-segment go together with the rest.
int chat_check_file(struct work *w);
struct iv_session_options chat_session_options(struct chat *c);
// Whether that can be a stop text.
int chat_check_stop(struct work *w, const char *text);

#endif
