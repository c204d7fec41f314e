// SPDX-License-Identifier: MIT
// SHA-256 and random names for the server. Easy to get wrong: keys are compared as digests, so that neither their
// bytes nor their lengths show in the time it takes.

#include "digest.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sys/random.h>
#include <unistd.h>

#include "heap.h"

enum { PIECE = 1 << 20 };

bool digest_bytes(const void *p, size_t n, uint8_t out[DIGEST_BYTES])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, p, n, out) == 0;
}

void digest_text(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[DIGEST_TEXT - 1] = 0;
}

bool digest_file(int fd, uint64_t n, bool (*stop)(void *user), void *user, char out[DIGEST_TEXT])
{
    gnutls_hash_hd_t hash;
    uint8_t digest[DIGEST_BYTES];
    uint8_t *piece = heap_calloc(PIECE, 1);
    uint64_t at = 0;
    if (!piece || gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) != 0) {
        heap_free(piece);
        return false;
    }
    while (at < n && !(stop && stop(user))) {
        size_t want = n - at < PIECE ? (size_t)(n - at) : PIECE;
        ssize_t k = pread(fd, piece, want, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0 || gnutls_hash(hash, piece, (size_t)k) != 0)
            break;
        at += (uint64_t)k;
    }
    gnutls_hash_deinit(hash, digest);
    heap_free(piece);
    digest_text(digest, out);
    return at == n;
}

bool digest_equal(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES])
{
    return gnutls_memcmp(a, b, DIGEST_BYTES) == 0;
}

bool random_text(char *out, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[64];
    out[0] = 0;
    if (n > sizeof bytes || getrandom(bytes, n, 0) != (ssize_t)n)
        return false;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
    return true;
}
