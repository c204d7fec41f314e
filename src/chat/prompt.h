// SPDX-License-Identifier: MIT
// From a question, its history and its media to the ids the language model reads (SPEC 6).
#ifndef IV_CHAT_PROMPT_H
#define IV_CHAT_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/template.h"
#include "text/ids.h"
#include "text/tokenizer.h"

// Borrowed UTF-8 text, not zero-terminated; {NULL, 0} = none.
struct prompt_text {
    const char *p;
    size_t n;
};

// Text of a zero-terminated string, NULL = none.
struct prompt_text prompt_text_of(const char *s);

enum prompt_media { PROMPT_NO_MEDIA, PROMPT_IMAGE, PROMPT_VIDEO };

struct prompt_turn {
    struct prompt_text question;
    struct prompt_text answer; // verbatim as it was generated
    // The model itself generated a control token in this answer (generation.has_control): strings of
    // control tokens in it become ids again, as in the reference.
    bool answer_special;
};

enum { PROMPT_CLIP_MAX = 1 << 16, PROMPT_QUERY_MAX = 1 << 16 };

// Everything is borrowed for the call. The caller's texts are plain text: "[INST]", "</s>" or a
// placeholder in them never becomes a control id or a visual position. With allow_special they do as
// in the reference, except that a placeholder is ERR_USAGE (the reference fails on its count).
struct prompt_request {
    const struct chat_template *tmpl;
    enum prompt_media media;
    size_t n_clip; // markers, 1..PROMPT_CLIP_MAX; 1 for a one-marker template; unused without media
    size_t n_query; // visual positions of one marker (96), 1..PROMPT_QUERY_MAX
    struct prompt_text instruction;
    struct prompt_text msg; // part of the media turn; trailing white space goes; needs media
    struct prompt_text question;
    struct prompt_text answer_prefix;
    const struct prompt_turn *turn; // [n_turn] oldest first
    size_t n_turn;
    bool allow_special;
    const struct hooks *hooks; // abort is polled; NULL = none
};

enum { PROMPT_VISUAL = -1 };

struct prompt {
    struct ids ids;  // PROMPT_VISUAL where a row of project_up goes, in order: not an id to look up
    size_t n_visual; // how many of them: n_clip * n_query
};

// Zeroes *p first; on failure it stays so (ERR_USAGE: the request; ERR_LIMIT: memory; ERR_ABORT). Otherwise to
// prompt_free. Any thread.
int prompt_build(struct prompt *p, const struct tokenizer *t, const struct prompt_request *r,
                 struct err *e);
void prompt_free(struct prompt *p);

// Appends the conversation string, with a placeholder for each marker, to out. For people and tests:
// pieces are tokenised one by one and text is told from control tokens by where it came from, so this
// string does not lead back to the ids. Fails as prompt_build.
int prompt_conversation(const struct prompt_request *r, struct buf *out, struct err *e);

// Length of the common beginning of two id sequences. Visual positions compare equal: the caller knows
// whether the media and the instruction are the same.
size_t prompt_common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b);

#endif
