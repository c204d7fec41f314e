// SPDX-License-Identifier: MIT
// Removing a repository or one snapshot of it from the cache.
//
//   refs that name it, links, then blobs: whatever is interrupted leaves a cache that is read correctly,
//   and a second call finishes
//
// Easy to get wrong: a blob may belong to several snapshots; a download of another process writes beside the
// blobs, so each blob's lock is taken before it goes; only links of the form ../../blobs/NAME are believed,
// since a cache may be written by others and a link to elsewhere must not steer what we delete.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "hub/hubcache.h"
#include "hub/hubenv.h"
#include "hub/inventory.h"
#include "hub/walk.h"

struct removal {
    const char *cache, *repo; // folders
    const char *commit;       // NULL = all snapshots
    bool dry_run;
    uint64_t freed;
    struct buf kept; // "\nNAME\n" of each blob that another snapshot uses
    size_t skip;     // of a path, up to the name below the folder that is walked
};

// Name of the blob that a link of a snapshot leads to; false for other links.
static bool blob_of_link(const char *path, char name[REPO_ETAG_MAX + 1])
{
    char target[512];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = 0;
    const char *t = target;
    while (!strncmp(t, "../", 3))
        t += 3;
    if (t == target || strncmp(t, "blobs/", 6) != 0 || strlen(t + 6) > REPO_ETAG_MAX)
        return false;
    snprintf(name, REPO_ETAG_MAX + 1, "%s", t + 6);
    return repo_etag_clean(name);
}

static int keep_others(void *user, const char *path, bool is_folder, struct err *e)
{
    struct removal *r = user;
    char name[REPO_ETAG_MAX + 1];
    const char *commit = path + r->skip;
    bool ours = r->commit && !strncmp(commit, r->commit, 40) && (commit[40] == '/' || !commit[40]);
    if (is_folder || !r->commit || ours || !blob_of_link(path, name))
        return 0;
    return buf_printf(&r->kept, "\n%s\n", name)
               ? 0
               : err_set(e, ERR_LIMIT, "out of memory for the list of shared files");
}

static int remove_name(struct removal *r, const char *path, bool is_folder, struct err *e)
{
    if (r->dry_run || (is_folder ? rmdir(path) : unlink(path)) == 0 || errno == ENOENT)
        return 0;
    return err_set(e, ERR_FAIL, "%s: cannot be removed: %s", path, strerror(errno));
}

static int remove_any(void *user, const char *path, bool is_folder, struct err *e)
{
    return remove_name(user, path, is_folder, e);
}

static int remove_ref(void *user, const char *path, bool is_folder, struct err *e)
{
    struct removal *r = user;
    char commit[41];
    if (is_folder)
        return 0;
    if (r->commit &&
        (!cache_read_ref(r->repo, path + r->skip, commit) || strcmp(commit, r->commit)))
        return 0;
    return remove_name(r, path, false, e);
}

// Of "ETAG", "ETAG.ivchat.incomplete" and so on: ETAG.
static int remove_blob(void *user, const char *path, bool is_folder, struct err *e)
{
    struct removal *r = user;
    char *lock = NULL, *mark = NULL;
    const char *name = path + r->skip;
    int fd = -1, rc = 0;
    size_t n = strcspn(name, ".");
    if (is_folder)
        return r->commit ? 0 : remove_name(r, path, true, e);
    TRY(path_make(&mark, e, "\n%s\n", name));
    if (r->kept.data && strstr(r->kept.data, mark))
        goto fail; // used by another snapshot
    if (r->commit && strstr(name, ".incomplete"))
        goto fail; // nobody knows of which snapshot
    if (!r->dry_run) {
        TRY(path_make(&lock, e, "%s/.locks/%s/%.*s.lock", r->cache, strrchr(r->repo, '/') + 1,
                      (int)n, name));
        TRY(lock_try(lock, &fd, e));
        if (fd < 0)
            TRY(err_set(e, ERR_FAIL, "%s: another process is downloading it now", r->repo));
    }
    uint64_t bytes = path_disk_bytes(path);
    TRY(remove_name(r, path, false, e));
    r->freed += bytes;
    if (lock)
        (void)unlink(lock);
fail:
    lock_release(fd);
    mem_free(mark);
    mem_free(lock);
    return rc;
}

// One part of the repository's folder.
static int part(struct removal *r, const char *name,
                int (*fn)(void *user, const char *path, bool is_folder, struct err *e),
                struct err *e)
{
    char *folder = NULL;
    int rc = path_make(&folder, e, "%s/%s", r->repo, name);
    if (rc == 0) {
        r->skip = strlen(r->repo) + 1 + strcspn(name, "/") + 1;
        rc = walk(folder, fn, r, e);
    }
    mem_free(folder);
    return rc;
}

// A download under way holds the lock of some file that is not complete.
static int refuse_if_busy(void *user, const char *path, bool is_folder, struct err *e)
{
    struct removal *r = user;
    char *lock = NULL;
    int fd = -1, rc = 0;
    const char *name = path + r->skip;
    if (is_folder || !strstr(name, ".incomplete"))
        return 0;
    TRY(path_make(&lock, e, "%s/.locks/%s/%.*s.lock", r->cache, strrchr(r->repo, '/') + 1,
                  (int)strcspn(name, "."), name));
    TRY(lock_try(lock, &fd, e));
    if (fd < 0)
        TRY(err_set(e, ERR_FAIL, "%s: another process is downloading it now", r->repo));
fail:
    lock_release(fd);
    mem_free(lock);
    return rc;
}

static int remove_all(struct removal *r, struct err *e)
{
    char snapshots[64], *folder = NULL;
    int rc;
    TRY(part(r, "blobs", refuse_if_busy, e));
    TRY(part(r, "snapshots", keep_others, e));
    TRY(part(r, "refs", remove_ref, e));
    snprintf(snapshots, sizeof snapshots, "snapshots%s%s", r->commit ? "/" : "",
             r->commit ? r->commit : "");
    TRY(part(r, snapshots, remove_any, e));
    TRY(path_make(&folder, e, "%s/%s", r->repo, snapshots));
    TRY(remove_name(r, folder, true, e));
    TRY(part(r, "blobs", remove_blob, e));
    if (!r->commit) {
        // refs/ with its folders, trees/ and whatever else the client keeps about it
        r->skip = strlen(r->repo) + 1;
        TRY(walk(r->repo, remove_any, r, e));
        TRY(remove_name(r, r->repo, true, e));
    }
fail:
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
    buf_free(&r.kept);
    mem_free(folder);
    mem_free(repo);
    mem_free(cache);
    return rc;
}
