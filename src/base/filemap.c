// SPDX-License-Identifier: MIT
// Mapping keeps 19 GB of weights in the page cache instead of copying them. A file that shrinks
// while it is mapped raises SIGBUS on access; the application turns that into a message
// (apps/signals.c), a library cannot.
#include "base/filemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

_Static_assert(sizeof(size_t) >= 8, "the weights alone need 64-bit sizes");

static int open_regular(const char *path, int code, int *fd, size_t *size, struct err *e)
{
    struct stat st = {0};
    // O_NONBLOCK: opening a FIFO must not wait for a writer
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_set(e, code, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        *fd = -1;
        return err_set(e, code, "%s: %s", path,
                       S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    }
    *size = (size_t)st.st_size;
    return 0;
}

// Asks for large pages. Where the file system has them, what is read from now on lies in the cache in pieces of
// 2 MiB, and mapping such a piece is one entry instead of 512; a fault on what is not cached reads that much
// at once anywhere. Pieces that others cached small stay as they are.
static void *want_large_pages(void *p, size_t n)
{
    const size_t large = (size_t)4 << 20; // small files would only be read beyond what is asked for
#ifdef MADV_HUGEPAGE
    if (n >= large)
        (void)madvise(p, n, MADV_HUGEPAGE); // advice only
#endif
    return p;
}

int filemap_open(struct filemap *m, const char *path, int code, struct err *e)
{
    int fd;
    memset(m, 0, sizeof *m);
    int rc = open_regular(path, code, &fd, &m->size, e);
    if (rc != 0)
        return rc;
    if (m->size) {
        void *p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            rc = err_set(e, code, "%s: cannot map %zu bytes: %s", path, m->size, strerror(errno));
        else
            m->data = want_large_pages(p, m->size);
    }
    close(fd);
    if (rc != 0)
        m->size = 0;
    return rc;
}

void filemap_close(struct filemap *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    memset(m, 0, sizeof *m);
}

void filemap_touch(const void *p, size_t n)
{
    // One byte a page, in order: faults that move forward make the system read ahead in large pieces. (madvise's
    // WILLNEED reads no more a call than the disk's read-ahead size, often 128 KiB; POPULATE_READ was not faster.)
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < n; at += page)
        (void)*((const volatile char *)p + at);
    if (n > 0)
        (void)*((const volatile char *)p + n - 1);
}

void filemap_forget(const void *p, size_t n)
{
    // whole pages only: the ends may be shared with a neighbour
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)p + page - 1) / page * page,
              end = ((uintptr_t)p + n) / page * page;
    if (end > from)
        (void)madvise((void *)from, end - from, MADV_DONTNEED);
}

int file_read(const char *path, size_t max, int code, char **out, size_t *n, struct err *e)
{
    int fd, rc, why = 0;
    size_t size, got = 0;
    *out = NULL;
    *n = 0;
    rc = open_regular(path, code, &fd, &size, e);
    if (rc != 0)
        return rc;
    if (size > max) {
        rc = err_set(e, code, "%s: %zu bytes, at most %zu are accepted", path, size, max);
        goto done;
    }
    char *p = mem_calloc(size + 1, 1);
    if (!p) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes", path, size);
        goto done;
    }
    while (got < size) {
        ssize_t k = read(fd, p + got, size - got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0) {
            why = k < 0 ? errno : 0;
            break;
        }
        got += (size_t)k;
    }
    if (got != size) {
        mem_free(p);
        rc = err_set(e, code, "%s: read %zu of %zu bytes%s%s", path, got, size, why ? ": " : "",
                     why ? strerror(why) : "");
        goto done;
    }
    *out = p;
    *n = size;
done:
    close(fd);
    return rc;
}
