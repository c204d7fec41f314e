// SPDX-License-Identifier: MIT
// --media-path: the kernel resolves the name below the folder (openat2 with RESOLVE_BENEATH and
// RESOLVE_NO_SYMLINKS); where it cannot, each component is opened by itself without following links.
//
// Easy to get wrong: a check of the text and a later open of the same text are two looks at a file system that others
// write to; a FIFO must not block; "not there" and "not allowed" outside of the folder are told alike, so that nobody
// learns which files exist.

#define _GNU_SOURCE // O_PATH
#include "mediapath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int mediapath_open(struct mediapath *m, const char *folder)
{
    *m = (struct mediapath){.fd = -1};
    char *real = realpath(folder, NULL);
    if (!real)
        return -1;
    (void)snprintf(m->root, sizeof m->root, "%s", strcmp(real, "/") == 0 ? "" : real);
    (void)snprintf(m->given, sizeof m->given, "%s", folder);
    size_t n = strlen(m->given);
    while (n > 0 && m->given[n - 1] == '/')
        m->given[--n] = 0;
    m->fd = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(real);
    return m->fd >= 0 ? 0 : -1;
}

void mediapath_close(struct mediapath *m)
{
    if (m->fd >= 0)
        (void)close(m->fd);
    m->fd = -1;
}

// The part of an absolute path behind the folder; NULL = it lies elsewhere.
static const char *behind(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

// No ".." (the kernel would allow those that stay inside) and not empty.
static bool plain(const char *path)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return false;
        p += n;
        p += *p == '/';
    }
    return *path && path[0] != '/';
}

static int open_by_steps(int root, const char *path)
{
    char name[256];
    int dir = root;
    for (;;) {
        size_t n = strcspn(path, "/");
        bool last = path[n] == 0;
        if (n == 0 || n >= sizeof name) {
            errno = ENOENT;
            break;
        }
        memcpy(name, path, n);
        name[n] = 0;
        int fd = openat(dir, name,
                        O_NOFOLLOW | O_CLOEXEC |
                            (last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY));
        if (dir != root)
            (void)close(dir);
        if (fd < 0 || last)
            return fd;
        dir = fd;
        path += n + 1;
    }
    if (dir != root)
        (void)close(dir);
    return -1;
}

static int open_beneath(int root, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL))
        return open_by_steps(root, path);
    return (int)fd;
}

int mediapath_file(const struct mediapath *m, const char *path, size_t n, uint64_t max,
                   const char *where, int *fd, uint64_t *size, struct refusal *r)
{
    char text[4096];
    struct stat st;
    *fd = -1;
    if (m->fd < 0)
        return refuse(r, 400, "files_not_allowed", where, "%s: this server reads no local files",
                      where);
    if (n >= sizeof text || memchr(path, 0, n))
        return refuse(r, 400, "invalid_media", where, "%s: not a path", where);
    memcpy(text, path, n);
    text[n] = 0;
    const char *rest = text[0] != '/' ? text : behind(text, m->root);
    if (!rest && m->given[0] == '/')
        rest = behind(text, m->given);
    if (!rest || !plain(rest))
        return refuse(r, 400, "file_not_allowed", where,
                      "%s: not a file below the folder of this server", where);
    *fd = open_beneath(m->fd, rest);
    if (*fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return refuse(r, 404, "media_not_found", where, "%s: no such file", where);
    if (*fd < 0 || fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        if (*fd >= 0)
            (void)close(*fd);
        *fd = -1;
        return refuse(r, 400, "file_not_allowed", where,
                      "%s: not a file below the folder of this server", where);
    }
    *size = (uint64_t)st.st_size;
    if (*size > max || *size == 0) {
        (void)close(*fd);
        *fd = -1;
        return refuse(r, *size ? 413 : 415, *size ? "media_too_large" : "not_a_video", where,
                      "%s: %llu bytes, 1 to %llu are accepted", where, (unsigned long long)*size,
                      (unsigned long long)max);
    }
    return 0;
}
