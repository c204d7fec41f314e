// SPDX-License-Identifier: MIT
// Checksums of files of a repository, and copies that are checked on their way.
// Easy to get wrong: a file of 16 GB takes a minute, so the stop flag is looked at for every piece; a copy has to
// reach the disk before a name is given to it.
#include "hub/filesum.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { PIECE = 1 << 20 };

const char *filesum_kind(const struct remote_file *f)
{
    return *f->sha256 ? "SHA-256" : "SHA-1";
}

const char *filesum_wanted(const struct remote_file *f)
{
    return *f->sha256 ? f->sha256 : f->oid;
}

int filesum_begin(struct sha256 *s, const struct remote_file *f, struct err *e)
{
    char head[40];
    if (*f->sha256)
        return sha256_begin(s, e);
    int rc = sha1_begin(s, e);
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)f->size);
    return rc != 0 ? rc : sha256_add(s, head, (size_t)n + 1, e);
}

int filesum_end(struct sha256 *s, const struct remote_file *f, char text[SHA256_TEXT],
                struct err *e)
{
    uint8_t digest[SHA256_BYTES];
    if (!*f->sha256)
        return sha1_end(s, text, e);
    int rc = sha256_end(s, digest, e);
    sha256_text(digest, text);
    return rc;
}

static int write_all(int fd, const char *p, size_t n, const char *path, struct err *e)
{
    while (n > 0) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return err_set(e, ERR_FAIL, "%s: %s", path,
                           k < 0 ? strerror(errno) : "nothing could be written");
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

// All of in through the sum and, with out >= 0, to there.
static int pump(int in, int out, const char *from, const char *to, struct sha256 *s,
                const atomic_bool *stop, struct err *e)
{
    char *piece = mem_calloc(PIECE, 1);
    int rc = piece ? 0 : err_set(e, ERR_LIMIT, "%s: out of memory", from);
    while (rc == 0) {
        ssize_t n = read(in, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            TRY(err_set(e, ERR_FAIL, "%s: %s", from, strerror(errno)));
        if (n == 0)
            break;
        if (atomic_load(stop))
            TRY(err_set(e, ERR_ABORT, "download stopped"));
        TRY(sha256_add(s, piece, (size_t)n, e));
        if (out >= 0)
            TRY(write_all(out, piece, (size_t)n, to, e));
    }
    if (rc == 0 && out >= 0 && fdatasync(out) != 0)
        rc = err_set(e, ERR_FAIL, "%s: %s", to, strerror(errno));
fail:
    mem_free(piece);
    return rc;
}

int filesum_copy(const char *from, const char *to, const struct remote_file *f,
                 const atomic_bool *stop, bool *same, struct err *e)
{
    char text[SHA256_TEXT];
    struct sha256 sum = {0};
    int rc, in, out = -1;
    *same = false;
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_set(e, ERR_FAIL, "%s: %s", from, strerror(errno));
    if (to) {
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (out < 0)
            TRY(err_set(e, ERR_FAIL, "%s: %s", to, strerror(errno)));
    }
    TRY(filesum_begin(&sum, f, e));
    TRY(pump(in, out, from, to, &sum, stop, e));
    TRY(filesum_end(&sum, f, text, e));
    *same = !strcmp(text, filesum_wanted(f));
fail:
    sha256_drop(&sum);
    close(in);
    if (out >= 0) {
        close(out);
        if (!*same)
            (void)unlink(to);
    }
    return rc;
}
