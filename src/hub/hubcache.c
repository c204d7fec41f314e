// SPDX-License-Identifier: MIT
// Paths, links, refs and locks of the cache.
//
// Easy to get wrong: everything that others may look at while we write (links, refs) is made aside and
// renamed, so that it is whole or absent; a lock file may be unlinked by its owner between our open and
// our flock, which then locks nothing anyone else can see: the file is compared with what the path names
// now and the lock taken again.
#include "hub/hubcache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/filemap.h"
#include "base/mem.h"

int path_make(char **out, struct err *e, const char *fmt, ...)
{
    va_list ap;
    *out = NULL;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *path = n >= 0 ? mem_calloc((size_t)n + 1, 1) : NULL;
    if (!path)
        return err_set(e, ERR_LIMIT, "out of memory for a path");
    va_start(ap, fmt);
    vsnprintf(path, (size_t)n + 1, fmt, ap);
    va_end(ap);
    *out = path;
    return 0;
}

int path_make_folders(const char *path, bool all, struct err *e)
{
    char *p = mem_strndup(path, strlen(path));
    int rc = 0;
    if (!p)
        return err_set(e, ERR_LIMIT, "out of memory for a path");
    for (char *c = p + 1; rc == 0; c++) {
        if (*c != '/' && (*c || !all)) {
            if (!*c)
                break;
            continue;
        }
        char was = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST)
            rc = err_set(e, ERR_FAIL, "%s: cannot make the folder: %s", p, strerror(errno));
        *c = was;
        if (!was)
            break;
    }
    mem_free(p);
    return rc;
}

bool path_is_file(const char *path, uint64_t *size)
{
    struct stat st;
    bool good = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    if (size)
        *size = good ? (uint64_t)st.st_size : 0;
    return good;
}

uint64_t path_disk_bytes(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0;
}

bool path_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// A name beside path that no other process uses.
static int aside(const char *path, char **out, struct err *e)
{
    return path_make(out, e, "%s.%ld.tmp", path, (long)getpid());
}

int path_write(const char *path, const char *text, struct err *e)
{
    char *temporary = NULL;
    size_t n = strlen(text);
    int fd = -1, rc;
    TRY(path_make_folders(path, false, e));
    TRY(aside(path, &temporary, e));
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    ssize_t written = fd < 0 ? -1 : write(fd, text, n);
    if (written < 0 || (size_t)written != n || rename(temporary, path) != 0) {
        rc = err_set(e, ERR_FAIL, "%s: %s", path,
                     written >= 0 && (size_t)written != n ? "written in part only"
                                                          : strerror(errno));
        if (fd >= 0)
            unlink(temporary);
    }
fail:
    if (fd >= 0)
        close(fd);
    mem_free(temporary);
    return rc;
}

int path_link(const char *target, const char *path, struct err *e)
{
    char *temporary = NULL;
    int rc;
    TRY(path_make_folders(path, false, e));
    TRY(aside(path, &temporary, e));
    (void)unlink(temporary); // of a process with our number that was killed
    if (symlink(target, temporary) != 0 || rename(temporary, path) != 0) {
        rc = err_set(e, ERR_FAIL, "%s: cannot make the link: %s", path, strerror(errno));
        (void)unlink(temporary);
    }
fail:
    mem_free(temporary);
    return rc;
}

int cache_repo_folder(const char *cache, const char *id, char **out, struct err *e)
{
    const char *slash = strchr(id, '/');
    return path_make(out, e, "%s/models--%.*s--%s", cache, (int)(slash - id), id, slash + 1);
}

bool cache_repo_id(const char *entry, char id[REPO_ID_MAX + 1])
{
    if (strncmp(entry, "models--", 8) != 0)
        return false;
    const char *org = entry + 8, *split = strstr(org, "--");
    if (!split || strlen(org) - 1 > REPO_ID_MAX)
        return false;
    snprintf(id, REPO_ID_MAX + 1, "%.*s/%s", (int)(split - org), org, split + 2);
    return repo_name_is(id) && !strpbrk(id, "@:");
}

bool cache_read_ref(const char *repo_folder, const char *revision, char commit[41])
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    commit[0] = 0;
    if (repo_is_commit(revision)) {
        memcpy(commit, revision, 41);
        return true;
    }
    if (path_make(&path, NULL, "%s/refs/%s", repo_folder, revision) == 0 &&
        file_read(path, 256, ERR_MODEL, &text, &n, NULL) == 0) {
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
            text[--n] = 0;
        if (n == 40 && repo_is_commit(text))
            memcpy(commit, text, 41);
    }
    mem_free(text);
    mem_free(path);
    return commit[0] != 0;
}

int cache_write_ref(const char *repo_folder, const char *revision, const char *commit,
                    struct err *e)
{
    char known[41], *path = NULL;
    if (cache_read_ref(repo_folder, revision, known) && !strcmp(known, commit))
        return 0; // the folder may be read-only
    int rc = path_make(&path, e, "%s/refs/%s", repo_folder, revision);
    if (rc == 0)
        rc = path_write(path, commit, e);
    mem_free(path);
    return rc;
}

void cache_tag(const char *cache)
{
    char *path = NULL;
    if (path_make(&path, NULL, "%s/CACHEDIR.TAG", cache) == 0 && access(path, F_OK) != 0)
        (void)path_write(path,
                         "Signature: 8a477f597d28d172789f06886806bc55\n"
                         "# A folder that can be filled again; see https://bford.info/cachedir/\n",
                         NULL);
    mem_free(path);
}

int lock_try(const char *path, int *fd, struct err *e)
{
    struct stat held, named;
    *fd = -1;
    int rc = path_make_folders(path, false, e);
    while (rc == 0) {
        int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
        if (f < 0)
            return err_set(e, ERR_FAIL, "%s: %s", path, strerror(errno));
        if (flock(f, LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK && errno != EINTR)
                rc = err_set(e, ERR_FAIL, "%s: cannot be locked: %s", path, strerror(errno));
            close(f);
            return rc;
        }
        if (fstat(f, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev) {
            *fd = f;
            return 0;
        }
        close(f); // unlinked or replaced meanwhile
    }
    return rc;
}

void lock_release(int fd)
{
    if (fd >= 0)
        close(fd);
}
