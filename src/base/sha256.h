// SPDX-License-Identifier: MIT
// SHA-256 of streamed bytes: the library's one door to libcrypto.
#ifndef IV_BASE_SHA256_H
#define IV_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

enum { SHA256_BYTES = 32, SHA256_TEXT = 65 }; // digest; 64 lower-case hex digits and a zero
enum { SHA1_TEXT = 41 };

struct sha256 {
    void *ctx; // libcrypto's; NULL = not begun
};

// begin, add any number of times, then end or drop. One thread at a time per struct. After a failure
// only sha256_drop is allowed. ERR_LIMIT: no memory; ERR_FAIL: libcrypto offers no SHA-256.
int sha256_begin(struct sha256 *s, struct err *e);
int sha256_add(struct sha256 *s, const void *bytes, size_t n, struct err *e);
// Writes the digest and releases s, also on failure (digest zeroed).
int sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES], struct err *e);
// The same with SHA-1, by which git names what it holds: begin, sha256_add, then end or sha256_drop. text gets
// 40 lower-case hex digits and a zero.
int sha1_begin(struct sha256 *s, struct err *e);
int sha1_end(struct sha256 *s, char text[SHA1_TEXT], struct err *e);
// Releases without a result; a zeroed struct is allowed.
void sha256_drop(struct sha256 *s);

void sha256_text(const uint8_t digest[SHA256_BYTES], char text[SHA256_TEXT]);

// Of a regular file, read once in 256 KiB pieces; text is empty on failure. code = error code when the
// file cannot be read. hooks (may be NULL): abort is polled for every piece.
int sha256_file(const char *path, int code, const struct hooks *hooks, char text[SHA256_TEXT],
                struct err *e);

#endif
