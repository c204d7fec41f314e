// SPDX-License-Identifier: MIT
// Output files: temporary file beside the target, write, fsync, rename, fsync of the folder.
//
// A crash, a full disk or Ctrl-C leaves the old file or the new one, never a part. Symbolic
// links are followed, so that the file behind the link is replaced and the link stays.
//
// Easy to get wrong: renaming onto /dev/null or a pipe would replace it by a file, so what is not a
// regular file is written directly; close reports errors of network file systems; a rename is only
// durable once the folder is synced.

#include "savefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int app_error(struct iv_error *e, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    e->code = code;
    (void)vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return code;
}

static int failed(const char *path, struct iv_error *e)
{
    return app_error(e, IV_ERR_FAIL, "%s: %s", path, strerror(errno));
}

int savefile_open(struct savefile *f, const char *path, struct iv_error *e)
{
    struct stat st;
    *f = (struct savefile){.fd = -1};
    bool exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode))
        return app_error(e, IV_ERR_FAIL, "%s: is a directory", path);
    f->in_place = exists && !S_ISREG(st.st_mode);

    if (exists && !f->in_place) {
        if (!realpath(path, f->target)) // follows links; PATH_MAX bytes are enough by definition
            return failed(path, e);
    } else if ((size_t)snprintf(f->target, sizeof f->target, "%s", path) >= sizeof f->target) {
        errno = ENAMETOOLONG;
        return failed(path, e);
    }
    int n = snprintf(f->temporary, sizeof f->temporary, "%s.%ld.tmp", f->target, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof f->temporary) {
        errno = ENAMETOOLONG;
        return failed(path, e);
    }
    if (f->in_place) {
        f->fd = open(f->target, O_WRONLY | O_CLOEXEC);
    } else {
        (void)unlink(f->temporary); // of a process of the same number that was killed
        f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    return f->fd < 0 ? failed(path, e) : IV_OK;
}

int savefile_check(const char *path, struct iv_error *e)
{
    struct savefile f;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return IV_OK; // opening a pipe and closing it would be the end for its reader
    int rc = savefile_open(&f, path, e);
    savefile_abandon(&f);
    return rc;
}

int savefile_write(struct savefile *f, const void *data, size_t n, struct iv_error *e)
{
    const char *p = data;
    while (n > 0) {
        ssize_t put = write(f->fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return failed(f->target, e);
        p += put;
        n -= (size_t)put;
    }
    return IV_OK;
}

static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (slash && n == 0)
        n = 1;
    (void)snprintf(folder, sizeof folder, "%.*s", slash ? (int)n : 1, slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES; // a folder may be writable and not readable
    bool ok = fsync(fd) == 0 || errno == EINVAL;
    (void)close(fd);
    return ok;
}

int savefile_commit(struct savefile *f, bool durable, struct iv_error *e)
{
    int rc = IV_OK;
    if (durable && !f->in_place && fsync(f->fd) != 0)
        rc = failed(f->target, e);
    int fd = f->fd;
    f->fd = -1;
    if (close(fd) != 0 && rc == IV_OK)
        rc = failed(f->target, e);
    if (f->in_place)
        return rc;
    if (rc == IV_OK && rename(f->temporary, f->target) != 0)
        rc = failed(f->target, e);
    if (rc != IV_OK)
        (void)unlink(f->temporary);
    else if (durable && !sync_folder(f->target))
        rc = failed(f->target, e);
    return rc;
}

void savefile_abandon(struct savefile *f)
{
    if (f->fd < 0)
        return;
    (void)close(f->fd);
    f->fd = -1;
    if (!f->in_place)
        (void)unlink(f->temporary);
}
