// SPDX-License-Identifier: MIT
// Large files written from front to back.
//
// Easy to get wrong: the lock must be taken before the old bytes are cut off, or a second writer empties
// the first one's file; a full disk shows at fsync or close at the latest, so both are looked at.
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"
#include "base/sync.h"

enum { PIECE = 8 << 20 }; // bytes between two looks at abort

static int failed(const struct outfile *f, struct err *e)
{
    return err_set(e, ERR_FAIL, "%s: %s", f->path, strerror(errno));
}

static int lock_part(struct outfile *f, struct err *e)
{
    struct stat held, named;
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        int rc = errno == EWOULDBLOCK
                     ? err_set(e, ERR_FAIL, "%s: another process is writing it", f->path)
                     : failed(f, e);
        f->temporary[0] = 0; // not ours to remove
        return rc;
    }
    // whoever held it may have renamed or removed it meanwhile
    if (fstat(f->fd, &held) != 0 || stat(f->temporary, &named) != 0 ||
        held.st_ino != named.st_ino || held.st_dev != named.st_dev) {
        f->temporary[0] = 0;
        return err_set(e, ERR_FAIL, "%s: another process has just written it", f->path);
    }
    return ftruncate(f->fd, 0) == 0 ? 0 : failed(f, e);
}

int outfile_create(struct outfile *f, const char *path, const struct hooks *hooks, struct err *e)
{
    static const char suffix[] = ".part";
    struct stat st;
    size_t n = strlen(path);
    memset(f, 0, sizeof *f);
    f->fd = -1;
    f->hooks = hooks;
    f->path = mem_strndup(path, n);
    f->temporary = mem_calloc(n + sizeof suffix, 1);
    if (!f->path || !f->temporary)
        return err_set(e, ERR_LIMIT, "%s: out of memory", path);
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(e, ERR_FAIL, "%s: is there and not a regular file", path);
    snprintf(f->temporary, n + sizeof suffix, "%s%s", path, suffix);
    f->fd = open(f->temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (f->fd < 0) {
        int rc = failed(f, e);
        f->temporary[0] = 0;
        return rc;
    }
    return lock_part(f, e);
}

int outfile_add(struct outfile *f, const void *bytes, size_t n, struct err *e)
{
    const char *p = bytes;
    while (n > 0) {
        if (hooks_abort(f->hooks))
            return err_set(e, ERR_ABORT, "%s: writing stopped", f->path);
        ssize_t put = write(f->fd, p, min_size(n, PIECE));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return failed(f, e);
        p += put;
        n -= (size_t)put;
        f->at += (uint64_t)put;
    }
    return 0;
}

int outfile_pad(struct outfile *f, size_t align, struct err *e)
{
    static const char zeros[256];
    int rc = 0;
    size_t n = (size_t)(f->at % align ? align - f->at % align : 0);
    for (; rc == 0 && n > 0; n -= min_size(n, sizeof zeros))
        rc = outfile_add(f, zeros, min_size(n, sizeof zeros), e);
    return rc;
}

static void release(struct outfile *f)
{
    mem_free(f->path);
    mem_free(f->temporary);
    memset(f, 0, sizeof *f);
    f->fd = -1;
}

int outfile_commit(struct outfile *f, struct err *e)
{
    int rc = sync_file(f->fd, f->at, f->hooks);
    if (rc > 0)
        return err_set(e, ERR_ABORT, "%s: writing stopped", f->path);
    // renamed while the lock is held: a second writer must not meet a name that is about to move
    if (rc != 0 || rename(f->temporary, f->path) != 0)
        return failed(f, e);
    f->temporary[0] = 0;
    int fd = f->fd;
    f->fd = -1;
    if (close(fd) != 0)
        return failed(f, e);
    sync_folder_of(f->path);
    release(f);
    return 0;
}

void outfile_abandon(struct outfile *f)
{
    if (!f->path && !f->temporary)
        return; // zeroed or finished: fd says nothing
    if (f->temporary && f->temporary[0])
        unlink(f->temporary);
    if (f->fd >= 0)
        close(f->fd);
    release(f);
}
