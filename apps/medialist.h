// SPDX-License-Identifier: MIT
// A list of media and questions, for verbs that show a model what it is used for.
#ifndef IV_APPS_MEDIALIST_H
#define IV_APPS_MEDIALIST_H

#include "ivchat.h"
#include "settings.h"

struct media_item {
    char *video, *image; // path, or both NULL: a question without media
    char *prompt, *instruction;
};

struct media_list {
    struct media_item *item; // [n]
    size_t n, cap;
};

// Lines of a file: an object with "video" or "image" (or neither), "prompt" (or "turns": [{"q": ...}], whose first
// counts) and perhaps "instruction"; or a path, asked about with every prompt of `prompts`, without any with
// the usual question. Paths are relative to the file's folder. Blank lines and those that begin with # are skipped.
// path NULL: the prompts alone, without media.
int media_list_read(struct media_list *l, const char *path, const struct text_list *prompts,
                    struct iv_error *e);
void media_list_free(struct media_list *l);

#endif
