// SPDX-License-Identifier: MIT
// SHA-256 (FIPS 180-4) through libcrypto's EVP interface, which picks the processor's SHA
// instructions. Files are read, not mapped: a download that is replaced or truncated while it is
// hashed must give an error, not a SIGBUS. Easy to get wrong: EVP contexts come from libcrypto's own
// heap, so each path that leaves must end in sha256_end or sha256_drop.
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { PIECE = 256 << 10 };

static int begin(struct sha256 *s, const EVP_MD *kind, const char *name, struct err *e)
{
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx)
        return err_set(e, ERR_LIMIT, "%s: out of memory", name);
    if (EVP_DigestInit_ex(s->ctx, kind, NULL) != 1)
        return err_set(e, ERR_FAIL, "%s: not offered by this libcrypto", name);
    return 0;
}

int sha256_begin(struct sha256 *s, struct err *e)
{
    return begin(s, EVP_sha256(), "SHA-256", e);
}

int sha1_begin(struct sha256 *s, struct err *e)
{
    return begin(s, EVP_sha1(), "SHA-1", e);
}

int sha256_add(struct sha256 *s, const void *bytes, size_t n, struct err *e)
{
    if (n && EVP_DigestUpdate(s->ctx, bytes, n) != 1)
        return err_set(e, ERR_FAIL, "SHA-256: failed after %zu further bytes", n);
    return 0;
}

int sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES], struct err *e)
{
    int rc = 0;
    unsigned n = 0;
    memset(digest, 0, SHA256_BYTES);
    if (EVP_DigestFinal_ex(s->ctx, digest, &n) != 1 || n != SHA256_BYTES) {
        memset(digest, 0, SHA256_BYTES);
        rc = err_set(e, ERR_FAIL, "SHA-256: libcrypto gave %u of %d bytes", n, SHA256_BYTES);
    }
    sha256_drop(s);
    return rc;
}

static void hex_text(const uint8_t *digest, size_t n, char *text)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = hex[digest[i] >> 4];
        text[2 * i + 1] = hex[digest[i] & 15];
    }
    text[2 * n] = 0;
}

int sha1_end(struct sha256 *s, char text[SHA1_TEXT], struct err *e)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int rc = 0;
    memset(text, 0, SHA1_TEXT);
    if (EVP_DigestFinal_ex(s->ctx, digest, &n) == 1 && n == (SHA1_TEXT - 1) / 2)
        hex_text(digest, n, text);
    else
        rc = err_set(e, ERR_FAIL, "SHA-1: libcrypto gave %u bytes", n);
    sha256_drop(s);
    return rc;
}

void sha256_drop(struct sha256 *s)
{
    EVP_MD_CTX_free(s->ctx);
    s->ctx = NULL;
}

void sha256_text(const uint8_t digest[SHA256_BYTES], char text[SHA256_TEXT])
{
    hex_text(digest, SHA256_BYTES, text);
}

int sha256_file(const char *path, int code, const struct hooks *hooks, char text[SHA256_TEXT],
                struct err *e)
{
    struct sha256 s = {0};
    struct stat st;
    uint8_t digest[SHA256_BYTES];
    uint8_t *piece = NULL;
    int rc;

    memset(text, 0, SHA256_TEXT);
    // O_NONBLOCK: opening a FIFO must not wait for a writer
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(e, code, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        rc = err_set(e, code, "%s: not a regular file", path);
        goto fail;
    }
    piece = mem_calloc(PIECE, 1);
    if (!piece) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %d bytes", path, (int)PIECE);
        goto fail;
    }
    TRY(sha256_begin(&s, e));
    for (;;) {
        if (hooks_abort(hooks)) {
            rc = err_set(e, ERR_ABORT, "%s: checksum stopped", path);
            goto fail;
        }
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = err_set(e, code, "%s: %s", path, strerror(errno));
            goto fail;
        }
        if (n == 0)
            break;
        TRY(sha256_add(&s, piece, (size_t)n, e));
    }
    TRY(sha256_end(&s, digest, e));
    sha256_text(digest, text);
fail:
    sha256_drop(&s);
    mem_free(piece);
    close(fd);
    return rc;
}
