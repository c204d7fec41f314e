// SPDX-License-Identifier: MIT
// A growing run of bytes for requests, replies and streams.
#ifndef IV_APPS_SERVE_TEXTBUF_H
#define IV_APPS_SERVE_TEXTBUF_H

#include <stdbool.h>
#include <stddef.h>

// Zero is empty. Failure (memory, or more than max bytes) is sticky; what was there stays.
struct textbuf {
    char *data; // zero-terminated once anything was added
    size_t len, cap;
    size_t max; // most bytes; 0 = 2^31
    bool failed;
};

void textbuf_add(struct textbuf *b, const void *bytes, size_t n);
void textbuf_str(struct textbuf *b, const char *s);
void textbuf_printf(struct textbuf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// Drops the first n bytes.
void textbuf_shift(struct textbuf *b, size_t n);
// The bytes, now the caller's (heap_free); NULL when it failed. The buffer is empty afterwards.
char *textbuf_take(struct textbuf *b, size_t *n);
void textbuf_free(struct textbuf *b);

#endif
