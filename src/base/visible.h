// SPDX-License-Identifier: MIT
// Text of unknown origin (names in files, answers of the system) made fit for one line of a message.
#ifndef IV_BASE_VISIBLE_H
#define IV_BASE_VISIBLE_H

#include <stddef.h>

// Copies the zero-terminated src to dst, at most cap - 1 bytes (cap > 0), always terminated. dst is then
// valid UTF-8 on one line: control characters, bytes that are no UTF-8, and characters that reorder or
// break lines become \xNN, byte by byte. Cut only between characters. Returns the bytes written.
size_t visible_copy(char *dst, size_t cap, const char *src);

#endif
