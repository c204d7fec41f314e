// SPDX-License-Identifier: MIT
// Removing a repository or one snapshot of it from the cache.
//
//   refs that name it, links, then blobs: whatever is interrupted leaves a cache that is read correctly,
//   and a second call finishes
//
// Easy to get wrong: a blob may belong to several snapshots; a download of another process writes beside the
// blobs, so the repository's lock (ours) and each blob's (the hub's client's) are taken first; a cache may be written by others, so no link is followed to
// what is removed, and links of other snapshots, whatever their form, count by the file that they lead to.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hubcache.h"
#include "hub/hubenv.h"
#include "hub/inventory.h"
#include "hub/walk.h"

struct used {
    dev_t dev;
    ino_t ino;
};

struct removal {
    const char *cache, *repo; // folders
    const char *commit;       // NULL = all snapshots
    bool dry_run;
    uint64_t freed;
    struct used *used; // [n_used], sorted: files that other snapshots lead to
    size_t n_used, cap;
    size_t skip; // of a path, up to the name below the folder that is walked
};

static int by_file(const void *a, const void *b)
{
    const struct used *x = a, *y = b;
    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

// Links of other snapshots. Their form does not matter, only what they lead to.
static int keep_others(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    struct stat st;
    const char *commit = n->path + r->skip;
    size_t len = strlen(r->commit);
    if (n->is_folder || (!strncmp(commit, r->commit, len) && (commit[len] == '/' || !commit[len])))
        return 0;
    if (fstatat(n->dir, n->name, &st, 0) != 0) {
        if (errno == ENOENT)
            return 0; // leads nowhere
        return err_set(e, ERR_FAIL, "%s: not known what it leads to (%s), so nothing is removed",
                       n->path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_FAIL, "%s: leads to no file, so nothing is removed", n->path);
    if (r->n_used == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct used *more = mem_realloc(r->used, cap, sizeof *more);
        if (!more)
            return err_set(e, ERR_LIMIT, "out of memory for the list of shared files");
        r->used = more;
        r->cap = cap;
    }
    r->used[r->n_used++] = (struct used){st.st_dev, st.st_ino};
    return 0;
}

static bool is_used(const struct removal *r, const struct walk_name *n)
{
    struct stat st;
    if (r->n_used == 0 || fstatat(n->dir, n->name, &st, 0) != 0)
        return false;
    struct used key = {st.st_dev, st.st_ino};
    return bsearch(&key, r->used, r->n_used, sizeof key, by_file) != NULL;
}

static int remove_any(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    if (r->dry_run || unlinkat(n->dir, n->name, n->is_folder ? AT_REMOVEDIR : 0) == 0 ||
        errno == ENOENT)
        return 0;
    return err_set(e, ERR_FAIL, "%s: cannot be removed: %s", n->path, strerror(errno));
}

// Of a snapshot: a link, or the file itself where links could not be made.
static int remove_file(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    struct stat st;
    bool plain = !n->is_folder && fstatat(n->dir, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                 S_ISREG(st.st_mode) && st.st_nlink == 1;
    int rc = remove_any(r, n, e);
    if (rc == 0 && plain)
        r->freed += (uint64_t)st.st_blocks * 512;
    return rc;
}

static int remove_ref(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    char commit[41];
    if (n->is_folder)
        return 0;
    if (r->commit &&
        (!cache_read_ref(r->repo, n->path + r->skip, commit) || strcmp(commit, r->commit)))
        return 0;
    return remove_any(r, n, e);
}

// Of "ETAG", "ETAG.ivchat.incomplete" and so on: ETAG's lock. *fd -1 with rc 0 does not occur.
static int lock_blob(const struct removal *r, const char *name, char **lock, int *fd, struct err *e)
{
    int rc;
    *fd = -1;
    TRY(path_make(lock, e, "%s/.locks/%s/%.*s.lock", r->cache, strrchr(r->repo, '/') + 1,
                  (int)strcspn(name, "."), name));
    TRY(lock_try(*lock, fd, e));
    if (*fd < 0)
        TRY(err_set(e, ERR_FAIL, "%s: another process is downloading it now", r->repo));
fail:
    return rc;
}

// Whether a file of blobs/ goes.
static bool is_spare(const struct removal *r, const struct walk_name *n)
{
    // of what is unfinished nobody knows to which snapshot it belongs
    return !r->commit || !(n->is_folder || is_used(r, n) || strstr(n->name, ".incomplete"));
}

static int remove_blob(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    struct stat st;
    char *lock = NULL;
    int fd = -1, rc = 0;
    if (!is_spare(r, n))
        return 0;
    if (n->is_folder)
        return remove_any(r, n, e);
    if (!r->dry_run)
        TRY(lock_blob(r, n->path + r->skip, &lock, &fd, e));
    bool plain = fstatat(n->dir, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
    TRY(remove_any(r, n, e));
    if (plain)
        r->freed += (uint64_t)st.st_blocks * 512;
    if (lock)
        (void)unlink(lock);
fail:
    lock_release(fd);
    mem_free(lock);
    return rc;
}

// A download under way holds the lock of a file that is not complete, or of one that it takes over.
static int refuse_if_busy(void *user, const struct walk_name *n, struct err *e)
{
    struct removal *r = user;
    char *lock = NULL;
    int fd = -1, rc = 0;
    if (!n->is_folder)
        rc = lock_blob(r, n->path + r->skip, &lock, &fd, e);
    lock_release(fd);
    mem_free(lock);
    return rc;
}

// One part of the repository's folder.
static int part(struct removal *r, const char *name,
                int (*fn)(void *user, const struct walk_name *n, struct err *e), struct err *e)
{
    char *folder = NULL;
    int rc = path_make(&folder, e, "%s/%s", r->repo, name);
    if (rc == 0) {
        r->skip = strlen(r->repo) + 1 + strcspn(name, "/") + 1;
        rc = walk(folder, false, fn, r, e);
    }
    mem_free(folder);
    return rc;
}

// A folder of the cache that is a link may lead to what is not ours to remove.
static int refuse_link(const char *folder, const char *name, struct err *e)
{
    struct stat st;
    char *path = NULL;
    int rc;
    TRY(path_make(&path, e, "%s%s", folder, name));
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        TRY(err_set(e, ERR_FAIL, "%s: is a link to elsewhere, so nothing is removed", path));
fail:
    mem_free(path);
    return rc;
}

static int refuse_links(const struct removal *r, struct err *e)
{
    static const char *const parts[] = {"", "/refs", "/snapshots", "/blobs"};
    int rc = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == 0; i++)
        rc = refuse_link(r->repo, parts[i], e);
    return rc;
}

// snapshots/COMMIT: a folder, or a link that goes as a name.
static int remove_snapshot(struct removal *r, struct err *e)
{
    struct stat st;
    char name[64], *path = NULL;
    int rc;
    snprintf(name, sizeof name, "snapshots/%s", r->commit);
    TRY(path_make(&path, e, "%s/%s", r->repo, name));
    struct walk_name n = {.dir = AT_FDCWD, .name = path, .path = path};
    n.is_folder = lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
    if (n.is_folder)
        TRY(part(r, name, remove_file, e));
    TRY(remove_any(r, &n, e));
fail:
    mem_free(path);
    return rc;
}

static int remove_locked(struct removal *r, struct err *e)
{
    int rc;
    TRY(part(r, "blobs", refuse_if_busy, e));
    if (r->commit)
        TRY(part(r, "snapshots", keep_others, e));
    if (r->n_used)
        qsort(r->used, r->n_used, sizeof *r->used, by_file);
    TRY(part(r, "refs", remove_ref, e));
    if (r->commit)
        TRY(remove_snapshot(r, e));
    else
        TRY(part(r, "snapshots", remove_file, e));
    TRY(part(r, "blobs", remove_blob, e));
    if (!r->commit) {
        // refs/ with its folders, trees/ and whatever else the client keeps about it
        r->skip = strlen(r->repo) + 1;
        TRY(walk(r->repo, false, remove_any, r, e));
        if (!r->dry_run && rmdir(r->repo) != 0 && errno != ENOENT)
            TRY(err_set(e, ERR_FAIL, "%s: cannot be removed: %s", r->repo, strerror(errno)));
    }
fail:
    return rc;
}

static int remove_temporary(void *user, const struct walk_name *n, struct err *e)
{
    size_t len = strlen(n->name);
    return len > 4 && !strcmp(n->name + len - 4, ".tmp") ? remove_any(user, n, e) : 0;
}

static int remove_all(struct removal *r, struct err *e)
{
    char *folder = NULL, *lock = NULL;
    int rc, fd = -1;
    TRY(refuse_links(r, e));
    TRY(cache_lock_name(r->repo, &lock, e));
    TRY(cache_lock_repo(r->repo, true, &fd, e));
    if (fd < 0)
        TRY(err_set(e, ERR_FAIL, "%s: another process is downloading it now", r->repo));
    TRY(remove_locked(r, e));
    TRY(cache_lock_folder(r->repo, &folder, e));
    TRY(walk(folder, false, remove_temporary, r, e)); // nobody writes, so it is of killed processes
    (void)unlink(lock);
fail:
    lock_release(fd);
    mem_free(lock);
    mem_free(folder);
    return rc;
}

int inventory_remove(const char *text, const char *given, bool dry_run, uint64_t *freed,
                     struct err *e)
{
    struct repo_name name;
    struct removal r = {.dry_run = dry_run};
    char commit[41], *cache = NULL, *repo = NULL, *folder = NULL;
    int rc;
    *freed = 0;
    TRY(repo_name_parse(text, &name, e));
    TRY(hubenv_cache(given, &cache, e));
    TRY(cache_repo_folder(cache, name.id, &repo, e));
    if (!path_is_folder(repo))
        TRY(err_set(e, ERR_MODEL, "%s: not in the cache %s", name.id, cache));
    r.cache = cache;
    r.repo = repo;
    if (name.has_revision) {
        r.commit = commit;
        if (!cache_read_ref(repo, name.revision, commit))
            TRY(err_set(e, ERR_MODEL, "%s: revision %s is not in the cache %s", name.id,
                        name.revision, cache));
        TRY(path_make(&folder, e, "%s/snapshots/%s", repo, commit));
        if (!path_is_folder(folder))
            TRY(err_set(e, ERR_MODEL, "%s: revision %s is not in the cache %s", name.id,
                        name.revision, cache));
    }
    TRY(remove_all(&r, e));
    *freed = r.freed;
fail:
    mem_free(r.used);
    mem_free(folder);
    mem_free(repo);
    mem_free(cache);
    return rc;
}
