// SPDX-License-Identifier: MIT
// Paths, links, refs and locks of the cache.
//
// Easy to get wrong: everything that others may look at while we write (links, refs) is made aside and
// renamed, so that it is whole or absent, and aside is not among them: the hub's client takes every name in
// snapshots/ and refs/ for one of its own, also what a killed process left; a lock file may be unlinked by its owner between our open and
// our flock, which then locks nothing anyone else can see: the file is compared with what the path names
// now and the lock taken again.
#include "hub/hubcache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
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

// A name that no other process or thread uses, in the folder `aside`, or beside path.
static int temporary_name(const char *aside, const char *path, char **out, struct err *e)
{
    uint64_t salt = 0;
    if (getrandom(&salt, sizeof salt, GRND_NONBLOCK) != sizeof salt)
        salt = (uint64_t)clock_ns();
    const char *name = strrchr(path, '/');
    return path_make(out, e, "%s%s%s.%ld.%016llx.tmp", aside ? aside : path, aside ? "/" : "",
                     aside ? (name ? name + 1 : path) : "", (long)getpid(),
                     (unsigned long long)salt);
}

static int write_text(int fd, const char *text)
{
    for (size_t n = strlen(text); n > 0;) {
        ssize_t k = write(fd, text, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? errno : EIO;
        text += k;
        n -= (size_t)k;
    }
    return 0;
}

// Makes the file or link and renames it. Returns 0 or errno.
static int put(const char *temporary, const char *path, const char *text, const char *target)
{
    int why = 0;
    if (target) {
        why = symlink(target, temporary) != 0 ? errno : 0;
    } else {
        int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        why = fd < 0 ? errno : write_text(fd, text);
        if (fd >= 0 && close(fd) != 0 && why == 0)
            why = errno;
    }
    if (why == 0 && rename(temporary, path) != 0)
        why = errno;
    if (why != 0 && why != EEXIST)
        (void)unlink(temporary);
    return why;
}

static int put_aside(const char *aside, const char *path, const char *text, const char *target,
                     struct err *e)
{
    char *temporary = NULL, *inner = NULL;
    int rc, why;
    TRY(path_make_folders(path, false, e));
    if (aside)
        TRY(path_make_folders(aside, true, e));
    TRY(temporary_name(aside, path, &temporary, e));
    why = put(temporary, path, text, target);
    if (why == EXDEV && aside) { // the repository's folder is on another disk
        TRY(temporary_name(NULL, path, &inner, e));
        why = put(inner, path, text, target);
    }
    if (why != 0)
        rc = err_set(e, ERR_FAIL, "%s: %s%s", path, target ? "cannot make the link: " : "",
                     strerror(why));
fail:
    mem_free(inner);
    mem_free(temporary);
    return rc;
}

int path_write(const char *aside, const char *path, const char *text, struct err *e)
{
    return put_aside(aside, path, text, NULL, e);
}

int path_link(const char *aside, const char *target, const char *path, struct err *e)
{
    return put_aside(aside, path, NULL, target, e);
}

int cache_repo_folder(const char *cache, const char *id, char **out, struct err *e)
{
    const char *slash = strchr(id, '/');
    return path_make(out, e, "%s/models--%.*s--%s", cache, (int)(slash - id), id, slash + 1);
}

int cache_lock_folder(const char *repo_folder, char **out, struct err *e)
{
    const char *name = strrchr(repo_folder, '/') + 1;
    return path_make(out, e, "%.*s.locks/%s", (int)(name - repo_folder), repo_folder, name);
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
    char known[41], *path = NULL, *aside = NULL;
    int rc;
    if (cache_read_ref(repo_folder, revision, known) && !strcmp(known, commit))
        return 0; // the folder may be read-only
    TRY(path_make(&path, e, "%s/refs/%s", repo_folder, revision));
    TRY(cache_lock_folder(repo_folder, &aside, e));
    TRY(path_write(aside, path, commit, e));
fail:
    mem_free(aside);
    mem_free(path);
    return rc;
}

void cache_tag(const char *cache)
{
    char *path = NULL, *aside = NULL;
    if (path_make(&path, NULL, "%s/CACHEDIR.TAG", cache) == 0 && access(path, F_OK) != 0 &&
        path_make(&aside, NULL, "%s/.locks", cache) == 0)
        (void)path_write(aside, path,
                         "Signature: 8a477f597d28d172789f06886806bc55\n"
                         "# A folder that can be filled again; see https://bford.info/cachedir/\n",
                         NULL);
    mem_free(aside);
    mem_free(path);
}

static int lock_as(const char *path, int kind, int *fd, struct err *e)
{
    struct stat held, named;
    *fd = -1;
    int rc = path_make_folders(path, false, e);
    while (rc == 0) {
        int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
        if (f < 0)
            return err_set(e, ERR_FAIL, "%s: %s", path, strerror(errno));
        if (flock(f, kind | LOCK_NB) != 0) {
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

int lock_try(const char *path, int *fd, struct err *e)
{
    return lock_as(path, LOCK_EX, fd, e);
}

int cache_lock_name(const char *repo_folder, char **out, struct err *e)
{
    char *folder = NULL;
    int rc = cache_lock_folder(repo_folder, &folder, e);
    if (rc == 0)
        rc = path_make(out, e, "%s/ivchat.lock", folder);
    mem_free(folder);
    return rc;
}

int cache_lock_repo(const char *repo_folder, bool exclusive, int *fd, struct err *e)
{
    char *path = NULL;
    *fd = -1;
    int rc = cache_lock_name(repo_folder, &path, e);
    if (rc == 0)
        rc = lock_as(path, exclusive ? LOCK_EX : LOCK_SH, fd, e);
    mem_free(path);
    return rc;
}

void lock_release(int fd)
{
    if (fd >= 0)
        close(fd);
}
