// SPDX-License-Identifier: MIT
// UTF-8 to the wide characters of the terminal editor and back. A wide character is a code point.
#ifndef IV_APPS_WIDE_H
#define IV_APPS_WIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

// The code point of the first character of n bytes; *used bytes belong to it. 0 bytes used = the
// character is not complete yet. An ill-formed byte is U+FFFD and one byte.
wchar_t wide_decode(const char *s, size_t n, size_t *used);
// The n bytes of s as a zero-terminated wide text, the caller's (heap_free); NULL = out of memory.
wchar_t *wide_text(const char *s, size_t n);
// The other way for one: writes 1 to 4 bytes and returns how many; what is none becomes U+FFFD.
size_t wide_encode(char *out, wchar_t c);
// n of them; *len gets the bytes.
char *wide_bytes(const wchar_t *s, size_t n, size_t *len);

// Whether a terminal would obey c instead of showing it: a control (newline and tab too) or a mark that
// turns the direction of text.
bool wide_steers(wchar_t c);

#endif
