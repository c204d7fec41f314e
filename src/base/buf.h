// SPDX-License-Identifier: MIT
// Growable byte buffer with a hard maximum, for text and output assembled piece by piece.
#ifndef IV_BASE_BUF_H
#define IV_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

// Zero-initialise, set max, use, buf_free. data is always followed by a zero byte once anything was
// added. Failure (memory, max) is sticky: later additions do nothing; test `failed` once at the end.
struct buf {
    char *data;
    size_t len, cap;
    size_t max; // bytes; 0 = BUF_MAX_DEFAULT
    bool failed;
};

enum { BUF_MAX_DEFAULT = 64 << 20 };

bool buf_add(struct buf *b, const void *p, size_t n);
bool buf_add_str(struct buf *b, const char *s);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Keeps the memory, forgets the bytes and the failure.
void buf_reset(struct buf *b);
void buf_free(struct buf *b);
// Hands the zero-terminated bytes to the caller (mem_free); NULL if failed. b is empty afterwards.
char *buf_take(struct buf *b);

#endif
