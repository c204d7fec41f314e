// SPDX-License-Identifier: MIT
// Text in pieces, some of which may hold control tokens and some of which must not.
#ifndef IV_TEXT_SPANS_H
#define IV_TEXT_SPANS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { TEXT_MAX = 64 << 20 }; // bytes that one encode takes

// A piece of a text. p need not be zero-terminated and may hold NUL; it may be NULL when n is 0.
struct text_span {
    const char *p;
    size_t n;
    bool special; // true = strings such as "[INST]" become their ids; false = they are plain text
};

struct special_range {
    size_t begin, end;
};

// The concatenation of spans.
struct joined {
    char *p;
    size_t n;
    struct special_range *special; // [n_special] ascending, apart from each other, none empty
    size_t n_special;
};

// Fills *x. ERR_LIMIT: more than TEXT_MAX bytes, memory. joined_free in any case.
int joined_from_spans(struct joined *x, const struct text_span *span, size_t n_span, struct err *e);
// An empty one with room for that many bytes and ranges.
int joined_init(struct joined *x, size_t bytes, size_t n_range, struct err *e);
void joined_free(struct joined *x);
// Bytes from `at` to the end of the special range it lies in, else 0. *cursor starts at 0 and belongs to
// one walk with ascending `at`; it is then the number of that range.
size_t joined_special_left(const struct joined *x, size_t at, size_t *cursor);

#endif
