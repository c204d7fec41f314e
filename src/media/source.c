// SPDX-License-Identifier: MIT
// Opens what the user named and turns it into a random-access run of bytes. libavformat never sees a
// name: it reads through source_read, so "%d", "|", "concat:..." or a newline in a name mean nothing.
//
// Pipes are copied into a temporary file that has no name any more when the first byte arrives, so
// nothing is left behind however the process ends. Waiting for a pipe is cut into short polls that look
// at the abort hook and the deadline.
//
// Easy to get wrong: a FIFO opened with O_NONBLOCK and no writer yet reads as "end of file", so poll()
// must come first; standard input may be a regular file that was partly read already.
#include "media/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"

enum { PIECE = 256 << 10, POLL_MS = 50 };

struct deadline deadline_in(double seconds)
{
    if (!(seconds > 0) || seconds > 1e9)
        return (struct deadline){0};
    return (struct deadline){clock_ns() + (int64_t)(seconds * 1e9), seconds};
}

int deadline_check(const struct deadline *d, const struct hooks *hooks, const char *name,
                   struct err *e)
{
    if (hooks_abort(hooks))
        return err_set(e, ERR_ABORT, "%s: stopped", name);
    if (d->ns && clock_ns() > d->ns)
        return err_set(e, ERR_LIMIT, "%s: not done after %g s", name, d->seconds);
    return 0;
}

// Descriptor of a file that has no name.
static int temporary(const char *dir, int *fd, struct err *e)
{
    int rc = 0;
    struct buf b = {0};
    *fd = -1;
    buf_printf(&b, "%s/ivchat-XXXXXX", dir);
    if (b.failed)
        rc = err_set(e, ERR_LIMIT, "%s: out of memory", dir);
    else if ((*fd = mkstemp(b.data)) < 0)
        rc = err_set(e, ERR_FAIL, "%s: cannot make a temporary file: %s", dir, strerror(errno));
    else if (unlink(b.data) != 0 || fcntl(*fd, F_SETFD, FD_CLOEXEC) != 0)
        rc = err_set(e, ERR_FAIL, "%s: cannot unlink: %s", b.data, strerror(errno));
    if (rc != 0 && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    buf_free(&b);
    return rc;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

// Waits a moment for bytes or the end of the pipe.
static int wait_readable(int fd, const struct source_options *o, const char *name, bool *ready,
                         struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int rc = deadline_check(&o->deadline, o->hooks, name, e);
    if (rc != 0)
        return rc;
    int k = poll(&p, 1, POLL_MS);
    *ready = k > 0;
    if (k < 0 && errno != EINTR)
        return err_set(e, ERR_MEDIA, "%s: %s", name, strerror(errno));
    return 0;
}

// fifo: `from` is a FIFO that nobody else reads, with O_NONBLOCK.
static int spool(int from, bool fifo, int to, const struct source_options *o, const char *name,
                 uint64_t *size, struct err *e)
{
    int rc = 0;
    bool ready;
    struct deadline writer = deadline_in(o->writer_s);
    *size = 0;
    uint8_t *piece = mem_calloc(PIECE, 1);
    if (!piece)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %d bytes", name, (int)PIECE);
    for (;;) {
        TRY(wait_readable(from, o, name, &ready, e));
        if (!ready && (!fifo || *size > 0))
            continue;
        ssize_t n = read(from, piece, PIECE);
        if (n == 0 && !ready) { // no end, but no writer yet
            if (!writer.ns || clock_ns() < writer.ns)
                continue;
            rc = err_set(e, ERR_MEDIA, "%s: a FIFO that no program opened for writing in %g s",
                         name, writer.seconds);
            goto fail;
        }
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0) {
            rc = err_set(e, ERR_MEDIA, "%s: %s", name, strerror(errno));
            goto fail;
        }
        if (n == 0)
            break;
        if ((uint64_t)n > o->max_stored - *size) {
            rc = err_set(e, ERR_LIMIT, "%s: more than %llu bytes", name,
                         (unsigned long long)o->max_stored);
            goto fail;
        }
        if (write_all(to, piece, (size_t)n) != 0) {
            rc = err_set(e, ERR_FAIL, "%s: cannot store byte %llu in %s: %s", name,
                         (unsigned long long)*size, o->tmp_dir, strerror(errno));
            goto fail;
        }
        *size += (uint64_t)n;
        hooks_progress(o->hooks, "read", (size_t)*size, 0);
    }
fail:
    mem_free(piece);
    return rc;
}

// The type of file that fd is, in words, or NULL when it can be read.
static const char *refused_type(mode_t mode, bool is_stdin, int fd)
{
    if (S_ISREG(mode) || S_ISFIFO(mode))
        return NULL;
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISBLK(mode))
        return "a block device";
    if (is_stdin && S_ISCHR(mode))
        return isatty(fd) ? "a terminal" : NULL;
    if (S_ISCHR(mode))
        return "a character device";
    return is_stdin ? NULL : "a socket";
}

static int open_named(const char *path, bool is_stdin, int *fd, struct err *e)
{
    const char *name = is_stdin ? "standard input" : path;
    // O_NONBLOCK: opening a FIFO must not wait for a writer
    *fd = is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                   : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0 && errno == ENOENT && strstr(path, "://"))
        return err_set(e, ERR_MEDIA, "%s: no file of that name, and URLs are not fetched", name);
    return *fd >= 0 ? 0 : err_set(e, ERR_MEDIA, "%s: %s", name, strerror(errno));
}

static struct source_state state_of(const struct stat *st)
{
    return (struct source_state){.dev = (uint64_t)st->st_dev,
                                 .ino = (uint64_t)st->st_ino,
                                 .size = (uint64_t)st->st_size,
                                 .modified = st->st_mtim,
                                 .changed = st->st_ctim};
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int source_open(struct source *s, const char *path, const struct source_options *o, struct err *e)
{
    int rc, tmp = -1;
    struct stat st;
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    *s = (struct source){.fd = -1};

    TRY(open_named(path, is_stdin, &s->fd, e));
    if (fstat(s->fd, &st) != 0) {
        rc = err_set(e, ERR_MEDIA, "%s: %s", name, strerror(errno));
        goto fail;
    }
    const char *refused = refused_type(st.st_mode, is_stdin, s->fd);
    if (refused) {
        rc = err_set(e, ERR_MEDIA, "%s: %s, not a video or image file", name, refused);
        goto fail;
    }
    if (S_ISREG(st.st_mode)) {
        s->named = true;
        s->state = state_of(&st);
        off_t at = is_stdin ? lseek(s->fd, 0, SEEK_CUR) : 0;
        s->base = at > 0 ? (uint64_t)at : 0;
        s->size = (uint64_t)st.st_size > s->base ? (uint64_t)st.st_size - s->base : 0;
        if (s->size > o->max_bytes) {
            rc = err_set(e, ERR_LIMIT, "%s: %llu bytes, at most %llu are accepted", name,
                         (unsigned long long)s->size, (unsigned long long)o->max_bytes);
            goto fail;
        }
    } else {
        TRY(temporary(o->tmp_dir, &tmp, e));
        TRY(spool(s->fd, !is_stdin && S_ISFIFO(st.st_mode), tmp, o, name, &s->size, e));
        close(s->fd);
        s->fd = tmp;
        tmp = -1;
    }
    if (s->size == 0) {
        rc = err_set(e, ERR_MEDIA, "%s: empty", name);
        goto fail;
    }
    return 0;
fail:
    if (tmp >= 0)
        close(tmp);
    source_close(s);
    return rc;
}

void source_open_memory(struct source *s, const void *bytes, size_t n)
{
    *s = (struct source){.fd = -1, .mem = bytes, .size = n};
}

void source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct source){.fd = -1};
}

ptrdiff_t source_read(const struct source *s, uint64_t at, void *buf, size_t n)
{
    if (at >= s->size)
        return 0;
    if (n > s->size - at)
        n = (size_t)(s->size - at);
    if (s->fd < 0) {
        memcpy(buf, s->mem + at, n);
        return (ptrdiff_t)n;
    }
    for (;;) {
        ssize_t k = pread(s->fd, buf, n, (off_t)(s->base + at));
        if (k >= 0 || errno != EINTR)
            return k;
    }
}

int source_unchanged(const struct source *s, const char *name, struct err *e)
{
    struct stat st;
    if (!s->named)
        return 0;
    if (fstat(s->fd, &st) != 0)
        return err_set(e, ERR_MEDIA, "%s: %s", name, strerror(errno));
    struct source_state now = state_of(&st);
    if (now.dev == s->state.dev && now.ino == s->state.ino && now.size == s->state.size &&
        same_time(&now.modified, &s->state.modified) && same_time(&now.changed, &s->state.changed))
        return 0;
    return err_set(e, ERR_MEDIA, "%s: changed while it was read (%llu bytes, now %llu)", name,
                   (unsigned long long)s->state.size, (unsigned long long)now.size);
}

int source_sha256(const struct source *s, const char *name, const struct hooks *hooks,
                  char text[SHA256_TEXT], struct err *e)
{
    struct sha256 h = {0};
    uint8_t digest[SHA256_BYTES];
    int rc;
    memset(text, 0, SHA256_TEXT);
    uint8_t *piece = mem_calloc(PIECE, 1);
    if (!piece)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %d bytes", name, (int)PIECE);
    TRY(sha256_begin(&h, e));
    for (uint64_t at = 0; at < s->size;) {
        if (hooks_abort(hooks)) {
            rc = err_set(e, ERR_ABORT, "%s: checksum stopped", name);
            goto fail;
        }
        ptrdiff_t n = source_read(s, at, piece, PIECE);
        if (n <= 0) {
            rc = err_set(e, ERR_MEDIA, "%s: %s at byte %llu", name,
                         n < 0 ? strerror(errno) : "ends early", (unsigned long long)at);
            goto fail;
        }
        TRY(sha256_add(&h, piece, (size_t)n, e));
        at += (uint64_t)n;
    }
    TRY(sha256_end(&h, digest, e));
    sha256_text(digest, text);
fail:
    sha256_drop(&h);
    mem_free(piece);
    return rc;
}
