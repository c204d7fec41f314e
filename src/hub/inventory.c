// SPDX-License-Identifier: MIT
// Reading the cache: repositories, their snapshots and refs, and what they take on disk.
// Easy to get wrong: two snapshots share blobs, so sizes are counted from blobs/ and not by following links; a
// blob may itself be a link into the client's store that repositories share, which lstat counts as nothing; where
// links cannot be made the client keeps the files themselves in the snapshot.
#include "hub/inventory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "hub/hubcache.h"
#include "hub/hubenv.h"
#include "hub/snapshot.h"
#include "hub/walk.h"

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static int add_blob(void *user, const struct walk_name *n, struct err *e)
{
    struct inventory_repo *r = user;
    uint64_t bytes = n->is_folder ? 0 : path_disk_bytes(n->path);
    (void)e;
    r->bytes += bytes;
    if (ends_with(n->path, ".incomplete"))
        r->unfinished += bytes;
    return 0;
}

// To the last revision.
static int add_file(void *user, const struct walk_name *n, struct err *e)
{
    struct inventory_repo *r = user;
    struct inventory_revision *v = &r->revision[r->n_revision - 1];
    uint64_t size;
    (void)e;
    if (!n->is_folder && path_is_file(n->path, &size)) {
        v->bytes += size;
        v->n_file++;
        r->bytes += path_disk_bytes(n->path); // of a link nothing
    }
    return 0;
}

struct refs {
    struct inventory_repo *repo;
    size_t skip; // of a path, up to the name of the ref
};

static int add_ref(void *user, const struct walk_name *n, struct err *e)
{
    struct refs *refs = user;
    char commit[41];
    (void)e;
    if (n->is_folder || ends_with(n->path, ".tmp") ||
        !cache_read_ref(refs->repo->folder, n->path + refs->skip, commit))
        return 0;
    for (size_t i = 0; i < refs->repo->n_revision; i++) {
        struct inventory_revision *v = &refs->repo->revision[i];
        size_t len = strlen(v->refs);
        if (!strcmp(v->commit, commit))
            snprintf(v->refs + len, sizeof v->refs - len, "%s%s", len ? " " : "",
                     n->path + refs->skip);
    }
    return 0;
}

static int add_revision(struct inventory_repo *r, const char *commit, struct err *e)
{
    char missing[300], *folder = NULL;
    struct inventory_revision *more =
        mem_realloc(r->revision, r->n_revision + 1, sizeof *r->revision);
    if (!more)
        return err_set(e, ERR_LIMIT, "out of memory for the list of the cache");
    r->revision = more;
    struct inventory_revision *v = &more[r->n_revision++];
    memset(v, 0, sizeof *v);
    memcpy(v->commit, commit, 41);
    int rc = path_make(&folder, e, "%s/snapshots/%s", r->folder, commit);
    if (rc == 0)
        rc = walk(folder, true, add_file, r, e);
    if (rc == 0) {
        snapshot_missing(folder, true, missing, sizeof missing);
        v->usable = !*missing;
    }
    mem_free(folder);
    return rc;
}

static int by_commit(const void *a, const void *b)
{
    const struct inventory_revision *x = a, *y = b;
    return strcmp(x->commit, y->commit);
}

static int read_repo(struct inventory_repo *r, struct err *e)
{
    char *snapshots = NULL, *other = NULL;
    DIR *d = NULL;
    int rc;
    TRY(path_make(&snapshots, e, "%s/snapshots", r->folder));
    d = opendir(snapshots);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (repo_is_commit(entry->d_name))
            TRY(add_revision(r, entry->d_name, e));
    }
    if (r->n_revision)
        qsort(r->revision, r->n_revision, sizeof *r->revision, by_commit);
    TRY(path_make(&other, e, "%s/blobs", r->folder));
    TRY(walk(other, true, add_blob, r, e));
    mem_free(other);
    other = NULL;
    TRY(path_make(&other, e, "%s/refs", r->folder));
    struct refs refs = {.repo = r, .skip = strlen(other) + 1};
    TRY(walk(other, true, add_ref, &refs, e));
fail:
    if (d)
        closedir(d);
    mem_free(other);
    mem_free(snapshots);
    return rc;
}

static int add_repo(struct inventory *v, const char *cache, const char *entry, const char *id,
                    struct err *e)
{
    struct inventory_repo *more = mem_realloc(v->repo, v->n + 1, sizeof *v->repo);
    if (!more)
        return err_set(e, ERR_LIMIT, "out of memory for the list of the cache");
    v->repo = more;
    struct inventory_repo *r = &more[v->n++];
    memset(r, 0, sizeof *r);
    memcpy(r->id, id, strlen(id) + 1);
    int rc = path_make(&r->folder, e, "%s/%s", cache, entry);
    return rc != 0 ? rc : read_repo(r, e);
}

static int by_id(const void *a, const void *b)
{
    const struct inventory_repo *x = a, *y = b;
    return strcmp(x->id, y->id);
}

int inventory_read(const char *given, struct inventory *out, struct err *e)
{
    char *cache = NULL, id[REPO_ID_MAX + 1];
    DIR *d = NULL;
    int rc;
    memset(out, 0, sizeof *out);
    TRY(hubenv_cache(given, &cache, e));
    d = opendir(cache);
    if (!d && errno != ENOENT)
        TRY(err_set(e, ERR_FAIL, "%s: %s", cache, strerror(errno)));
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (cache_repo_id(entry->d_name, id))
            TRY(add_repo(out, cache, entry->d_name, id, e));
    }
    if (out->n)
        qsort(out->repo, out->n, sizeof *out->repo, by_id);
fail:
    if (d)
        closedir(d);
    mem_free(cache);
    return rc;
}

void inventory_free(struct inventory *v)
{
    for (size_t i = 0; i < v->n; i++) {
        mem_free(v->repo[i].folder);
        mem_free(v->repo[i].revision);
    }
    mem_free(v->repo);
    memset(v, 0, sizeof *v);
}
