// SPDX-License-Identifier: MIT
// SHA-256, comparison without a clock's help, random names. The program's door to GnuTLS.
#ifndef IV_APPS_SERVE_DIGEST_H
#define IV_APPS_SERVE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_TEXT = 65 };

// false = no memory.
bool digest_bytes(const void *p, size_t n, uint8_t out[DIGEST_BYTES]);
void digest_text(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_TEXT]);
// Of the n bytes of a file from its beginning; stop is asked now and then (NULL = never). false = unreadable,
// shorter, or stopped.
bool digest_file(int fd, uint64_t n, bool (*stop)(void *user), void *user, char out[DIGEST_TEXT]);
// In a time that does not depend on where they differ.
bool digest_equal(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES]);
// n random bytes as 2 n hex digits, zero-terminated. false = the system gives none.
bool random_text(char *out, size_t n);

#endif
