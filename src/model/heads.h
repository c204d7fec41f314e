// SPDX-License-Identifier: MIT
// How a model file cuts a width into attention heads, held against what attention takes.
#ifndef IV_MODEL_HEADS_H
#define IV_MODEL_HEADS_H

#include <stddef.h>

#include "base/err.h"

enum {
    HEADS_SIZE_LEAST = 2,   // of any head: its size is even
    HEADS_ROTARY_LEAST = 4, // of a rotary one: dynamic NTK divides by size - 2
};

// A file's keys, for messages: "FILE: SECTION.KEY".
struct heads_keys {
    const char *file, *section;
    const char *width, *n_head, *n_kv, *d_head; // n_kv, d_head: of a language model
};

// All return 0 or ERR_MODEL naming keys, values and the limit.
// *d_head = width / n_head, which must come out even: nothing left over, and a size that attention takes.
int heads_of_width(const struct heads_keys *k, size_t width, size_t n_head, size_t least,
                   size_t *d_head, struct err *e);
// A size that the file states as d_head.
int heads_of_size(const struct heads_keys *k, size_t d_head, size_t least, struct err *e);
// n_kv key heads serve n_head query heads, which together are at most `most` wide.
int heads_of_groups(const struct heads_keys *k, size_t n_head, size_t n_kv, size_t d_head,
                    size_t most, struct err *e);

#endif
