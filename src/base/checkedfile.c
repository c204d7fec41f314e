// SPDX-License-Identifier: MIT
// Reading and writing of files of checked sections. Numbers are little-endian.
//
//   OFFSET  SIZE  MEANING
//   0       8     magic
//   8       4     version
//   12      4     n, number of sections, 1 .. 16
//   16      8     length of the file
//   24      8     zero
//   32      1024  16 rows: name (8, zero padded), zero (8), offset (8), size (8), SHA-256 (32); those
//                 behind the n-th are zero
//   1056    32    SHA-256 of all bytes before
//   1088    ...   sections in this order, each at the next multiple of 64, zeros between; the last one
//                 ends the file
//
// Easy to get wrong: the layout is fixed by the sizes alone, so every offset is compared with the one
// it must have and none can overlap or lie outside; a FIFO as path must not block; lengths are of the
// open file, so a file that shrinks while it is read is a short read and not a crash.
#include "base/checkedfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"
#include "base/sync.h"

enum {
    HEAD = 32,
    ROW = 64,
    PIECE = 1 << 20, // bytes between two looks at abort
    SUMMED = HEAD + ROW * CHECKED_SECTIONS_MAX,
    HEADER = SUMMED + SHA256_BYTES,
};

static void put_number(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_number(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t aligned(uint64_t at)
{
    return (at + CHECKED_ALIGN - 1) / CHECKED_ALIGN * CHECKED_ALIGN;
}

static int digest_of(const void *bytes, size_t n, uint8_t digest[SHA256_BYTES], struct err *e)
{
    struct sha256 s = {0};
    int rc;
    TRY(sha256_begin(&s, e));
    TRY(sha256_add(&s, bytes, n, e));
    return sha256_end(&s, digest, e);
fail:
    sha256_drop(&s);
    return rc;
}

// ---- writing

static int write_failed(const struct checked_writer *w, struct err *e)
{
    return err_set(e, ERR_FAIL, "%s: %s", w->path, strerror(errno));
}

static int write_at(const struct checked_writer *w, uint64_t at, const void *bytes, size_t n,
                    struct err *e)
{
    const char *p = bytes;
    while (n > 0) {
        if (hooks_abort(w->hooks))
            return err_set(e, ERR_ABORT, "%s: writing stopped", w->path);
        ssize_t put = pwrite(w->fd, p, min_size(n, PIECE), (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return write_failed(w, e);
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

int checked_create(struct checked_writer *w, const char *path, const struct checked_kind *kind,
                   const struct hooks *hooks, struct err *e)
{
    struct stat st;
    size_t n = strlen(path), cap;
    memset(w, 0, sizeof *w);
    w->fd = -1;
    w->kind = *kind;
    w->hooks = hooks;
    w->path = mem_strndup(path, n);
    w->temporary = add_size(n, 48, &cap) ? mem_calloc(cap, 1) : NULL;
    if (!w->path || !w->temporary)
        return err_set(e, ERR_LIMIT, "%s: out of memory", path);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(e, ERR_FAIL, "%s: is there and not a regular file", path);
    // the address tells writers of one process apart
    snprintf(w->temporary, cap, "%s.%ld.%zx.tmp", path, (long)getpid(), (size_t)(uintptr_t)w);
    w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        int rc = write_failed(w, e);
        w->temporary[0] = 0; // perhaps another's
        return rc;
    }
    return 0;
}

static int end_section(struct checked_writer *w, struct err *e)
{
    if (w->n == 0 || !w->sha.ctx)
        return 0;
    struct checked_section *s = &w->section[w->n - 1];
    s->size = w->at - s->offset;
    return sha256_end(&w->sha, s->digest, e);
}

int checked_begin(struct checked_writer *w, const char *name, struct err *e)
{
    int rc;
    TRY(end_section(w, e));
    if (w->n == CHECKED_SECTIONS_MAX)
        TRY(err_set(e, ERR_FAIL, "%s: more than %d sections", w->path, CHECKED_SECTIONS_MAX));
    struct checked_section *s = &w->section[w->n++];
    snprintf(s->name, sizeof s->name, "%s", name);
    w->at = w->n == 1 ? HEADER : aligned(w->at);
    s->offset = w->at;
    TRY(sha256_begin(&w->sha, e));
fail:
    return rc;
}

int checked_add(struct checked_writer *w, const void *bytes, size_t n, struct err *e)
{
    int rc = 0;
    const char *p = bytes;
    while (n > 0) {
        size_t piece = min_size(n, PIECE);
        TRY(sha256_add(&w->sha, p, piece, e));
        TRY(write_at(w, w->at, p, piece, e));
        w->at += piece;
        p += piece;
        n -= piece;
    }
fail:
    return rc;
}

static int write_header(struct checked_writer *w, struct err *e)
{
    uint8_t head[HEADER] = {0};
    int rc;
    memcpy(head, w->kind.magic, CHECKED_MAGIC);
    put_number(head + 8, w->kind.version, 4);
    put_number(head + 12, w->n, 4);
    put_number(head + 16, w->at, 8);
    for (size_t i = 0; i < w->n; i++) {
        uint8_t *row = head + HEAD + ROW * i;
        memcpy(row, w->section[i].name, strlen(w->section[i].name));
        put_number(row + 16, w->section[i].offset, 8);
        put_number(row + 24, w->section[i].size, 8);
        memcpy(row + 32, w->section[i].digest, SHA256_BYTES);
    }
    TRY(digest_of(head, SUMMED, head + SUMMED, e));
    TRY(write_at(w, 0, head, HEADER, e));
    // an empty last section or one behind padding leaves the file shorter than it says
    if (ftruncate(w->fd, (off_t)w->at) != 0)
        return write_failed(w, e);
fail:
    return rc;
}

static void writer_free(struct checked_writer *w)
{
    sha256_drop(&w->sha);
    mem_free(w->path);
    mem_free(w->temporary);
    memset(w, 0, sizeof *w);
    w->fd = -1;
}

int checked_commit(struct checked_writer *w, bool durable, struct err *e)
{
    int rc;
    TRY(end_section(w, e));
    TRY(write_header(w, e));
    int synced = durable ? sync_file(w->fd, w->at, w->hooks) : 0;
    if (synced > 0)
        return err_set(e, ERR_ABORT, "%s: writing stopped", w->path);
    if (synced != 0)
        return write_failed(w, e);
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 || rename(w->temporary, w->path) != 0)
        return write_failed(w, e);
    if (durable)
        sync_folder_of(w->path);
    writer_free(w);
fail:
    return rc;
}

void checked_abandon(struct checked_writer *w)
{
    if (!w->path && !w->temporary)
        return; // zeroed or finished: fd says nothing
    if (w->fd >= 0)
        close(w->fd);
    if (w->temporary && w->temporary[0])
        unlink(w->temporary);
    writer_free(w);
}

// ---- reading

static int damaged(struct checked_reader *r, const char *what, struct err *e)
{
    r->damaged = true;
    return err_set(e, ERR_FAIL, "%s: damaged: %s", r->path, what);
}

static int system_failed(struct checked_reader *r, struct err *e)
{
    r->why = errno;
    return err_set(e, ERR_FAIL, "%s: %s", r->path, strerror(r->why));
}

static int read_at(struct checked_reader *r, uint64_t at, void *bytes, size_t n, struct err *e)
{
    char *p = bytes;
    while (n > 0) {
        if (hooks_abort(r->hooks))
            return err_set(e, ERR_ABORT, "%s: reading stopped", r->path);
        ssize_t got = pread(r->fd, p, min_size(n, PIECE), (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return system_failed(r, e);
        if (got == 0)
            return damaged(r, "it ends too early", e);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int check_zeros(struct checked_reader *r, uint64_t from, uint64_t to, struct err *e)
{
    uint8_t gap[CHECKED_ALIGN];
    int rc = read_at(r, from, gap, (size_t)(to - from), e);
    for (size_t i = 0; rc == 0 && i < to - from; i++)
        if (gap[i] != 0)
            rc = damaged(r, "bytes between two sections are not zero", e);
    return rc;
}

static int parse_sections(struct checked_reader *r, const uint8_t *head, uint64_t length,
                          struct err *e)
{
    int rc;
    uint64_t at = HEADER;
    for (size_t i = 0; i < r->n; i++) {
        const uint8_t *row = head + HEAD + ROW * i;
        struct checked_section *s = &r->section[i];
        uint64_t begin = i == 0 ? at : aligned(at);
        memcpy(s->name, row, CHECKED_NAME);
        for (size_t k = 0; k < i; k++)
            if (strcmp(r->section[k].name, s->name) == 0)
                return damaged(r, "two sections have one name", e);
        s->offset = get_number(row + 16, 8);
        s->size = get_number(row + 24, 8);
        memcpy(s->digest, row + 32, SHA256_BYTES);
        r->damaged = begin > length || s->offset != begin || s->size > length - begin;
        if (r->damaged)
            return err_set(e, ERR_FAIL, "%s: damaged: section %.8s has %llu bytes at %llu of %llu",
                           r->path, s->name, (unsigned long long)s->size,
                           (unsigned long long)s->offset, (unsigned long long)length);
        TRY(check_zeros(r, at, begin, e));
        at = begin + s->size;
    }
    if (at != length)
        return damaged(r, "it is longer than its sections", e);
    return 0;
fail:
    return rc;
}

static int parse_header(struct checked_reader *r, uint64_t length, struct err *e)
{
    uint8_t head[HEADER], digest[SHA256_BYTES];
    int rc;
    r->damaged = length < HEADER;
    if (r->damaged)
        return err_set(e, ERR_FAIL, "%s: %llu bytes are too few for %s", r->path,
                       (unsigned long long)length, r->kind.what);
    TRY(read_at(r, 0, head, HEADER, e));
    r->damaged = memcmp(head, r->kind.magic, CHECKED_MAGIC) != 0;
    if (r->damaged)
        return err_set(e, ERR_FAIL, "%s: is not %s", r->path, r->kind.what);
    uint64_t version = get_number(head + 8, 4), n = get_number(head + 12, 4);
    if (version != r->kind.version)
        return err_set(e, ERR_FAIL, "%s: is version %llu of %s; this program reads version %u",
                       r->path, (unsigned long long)version, r->kind.what, r->kind.version);
    TRY(digest_of(head, SUMMED, digest, e));
    if (memcmp(digest, head + SUMMED, SHA256_BYTES) != 0)
        return damaged(r, "the header's checksum differs", e);
    r->damaged = n < 1 || n > CHECKED_SECTIONS_MAX || get_number(head + 16, 8) != length;
    if (n < 1 || n > CHECKED_SECTIONS_MAX)
        return err_set(e, ERR_FAIL, "%s: damaged: %llu sections", r->path, (unsigned long long)n);
    if (get_number(head + 16, 8) != length)
        return err_set(e, ERR_FAIL, "%s: damaged: %llu bytes of %llu", r->path,
                       (unsigned long long)length, (unsigned long long)get_number(head + 16, 8));
    r->n = (size_t)n;
    TRY(parse_sections(r, head, length, e));
fail:
    return rc;
}

int checked_open(struct checked_reader *r, const char *path, const struct checked_kind *kind,
                 const struct hooks *hooks, struct err *e)
{
    struct stat st;
    int rc;
    memset(r, 0, sizeof *r);
    r->kind = *kind;
    r->hooks = hooks;
    r->fd = -1;
    r->path = mem_strndup(path, strlen(path));
    if (!r->path)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", path));
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (r->fd < 0 || fstat(r->fd, &st) != 0)
        TRY(system_failed(r, e));
    if (!S_ISREG(st.st_mode))
        TRY(err_set(e, ERR_FAIL, "%s: not a regular file", path));
    TRY(parse_header(r, (uint64_t)st.st_size, e));
    return 0;
fail:
    checked_close(r);
    return rc;
}

void checked_close(struct checked_reader *r)
{
    if (!r->path)
        return;
    if (r->fd >= 0)
        close(r->fd);
    sha256_drop(&r->sha);
    mem_free(r->path);
    *r = (struct checked_reader){.fd = -1, .damaged = r->damaged, .why = r->why};
}

static const struct checked_section *find(const struct checked_reader *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->section[i].name, name) == 0)
            return &r->section[i];
    return NULL;
}

int checked_size(const struct checked_reader *r, const char *name, uint64_t *size, struct err *e)
{
    const struct checked_section *s = find(r, name);
    *size = s ? s->size : 0;
    return s ? 0 : err_set(e, ERR_FAIL, "%s: damaged: no section %s", r->path, name);
}

int checked_start(struct checked_reader *r, const char *name, struct err *e)
{
    uint64_t size;
    int rc = checked_size(r, name, &size, e);
    if (rc != 0)
        return rc;
    sha256_drop(&r->sha);
    r->open = find(r, name);
    r->left = size;
    return sha256_begin(&r->sha, e);
}

int checked_next(struct checked_reader *r, void *bytes, size_t n, struct err *e)
{
    int rc;
    char *p = bytes;
    if (n > r->left)
        return err_set(e, ERR_FAIL, "%s: damaged: section %s ends too early", r->path,
                       r->open->name);
    while (n > 0) {
        size_t piece = min_size(n, PIECE);
        TRY(read_at(r, r->open->offset + (r->open->size - r->left), p, piece, e));
        TRY(sha256_add(&r->sha, p, piece, e));
        r->left -= piece;
        p += piece;
        n -= piece;
    }
    return 0;
fail:
    return rc;
}

int checked_finish(struct checked_reader *r, struct err *e)
{
    uint8_t digest[SHA256_BYTES];
    int rc;
    if (r->left > 0)
        return err_set(e, ERR_FAIL, "%s: damaged: section %s is %llu bytes too long", r->path,
                       r->open->name, (unsigned long long)r->left);
    TRY(sha256_end(&r->sha, digest, e));
    r->damaged = memcmp(digest, r->open->digest, SHA256_BYTES) != 0;
    if (r->damaged)
        return err_set(e, ERR_FAIL, "%s: damaged: the checksum of section %s differs", r->path,
                       r->open->name);
fail:
    return rc;
}

int checked_read(struct checked_reader *r, const char *name, void *bytes, size_t n, struct err *e)
{
    int rc;
    TRY(checked_start(r, name, e));
    TRY(checked_next(r, bytes, n, e));
    TRY(checked_finish(r, e));
fail:
    return rc;
}
