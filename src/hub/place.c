// SPDX-License-Identifier: MIT
// Names of a file on its way and at its end, and the last step between them.
//
// Easy to get wrong: older versions of the hub's client append to blobs/ETAG.incomplete and trust its
// length, and ours has its full length from the start, so it has another name; a link is made only after
// its blob is whole; what was left behind by a process killed after the last rename is taken away.
#include "hub/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"
#include "hub/filesum.h"
#include "hub/hubcache.h"

static const char local_folder[] = ".cache/huggingface/download";

static int make_cached(const struct target *t, const char *path, const char *etag, struct place *p,
                       struct err *e)
{
    const char *name = strrchr(t->repo_folder, '/') + 1;
    int rc;
    TRY(path_make(&p->whole, e, "%s/blobs/%s", t->repo_folder, etag));
    TRY(path_make(&p->data, e, "%s.ivchat.incomplete", p->whole));
    TRY(path_make(&p->journal, e, "%s.journal.incomplete", p->whole));
    TRY(path_make(&p->lock, e, "%s/.locks/%s/%s.lock", t->cache, name, etag));
    TRY(path_make(&p->link, e, "%s/snapshots/%s/%s", t->repo_folder, t->commit, path));
fail:
    return rc;
}

static int make_local(const struct target *t, const char *path, const char *etag, struct place *p,
                      struct err *e)
{
    int rc;
    TRY(path_make(&p->whole, e, "%s/%s", t->local_dir, path));
    TRY(path_make(&p->data, e, "%s/%s/%s.%s.ivchat.incomplete", t->local_dir, local_folder, path,
                  etag));
    TRY(path_make(&p->journal, e, "%s/%s/%s.%s.journal.incomplete", t->local_dir, local_folder,
                  path, etag));
    TRY(path_make(&p->lock, e, "%s/%s/%s.lock", t->local_dir, local_folder, path));
    TRY(path_make(&p->metadata, e, "%s/%s/%s.metadata", t->local_dir, local_folder, path));
fail:
    return rc;
}

int place_make(const struct target *t, const char *path, const char *etag, struct place *p,
               struct err *e)
{
    memset(p, 0, sizeof *p);
    int rc = t->local_dir ? make_local(t, path, etag, p, e) : make_cached(t, path, etag, p, e);
    if (rc != 0)
        place_free(p);
    return rc;
}

void place_free(struct place *p)
{
    mem_free(p->data);
    mem_free(p->journal);
    mem_free(p->whole);
    mem_free(p->lock);
    mem_free(p->link);
    mem_free(p->metadata);
    memset(p, 0, sizeof *p);
}

// "COMMIT\nETAG\nTIME\n" still speaks of the file as it is.
static bool metadata_fits(const struct place *p, const char *etag)
{
    char *text = NULL;
    struct stat st;
    size_t n;
    bool fits = false;
    if (stat(p->whole, &st) == 0 && file_read(p->metadata, 1024, ERR_FAIL, &text, &n, NULL) == 0) {
        char *second = strchr(text, '\n');
        char *third = second ? strchr(second + 1, '\n') : NULL;
        if (third) {
            *third = 0;
            double time = strtod(third + 1, NULL);
            fits = !strcmp(second + 1, etag) && (double)st.st_mtime - 1 <= time;
        }
    }
    mem_free(text);
    return fits;
}

bool place_has(const struct target *t, const struct remote_file *f)
{
    const char *etag = *f->sha256 ? f->sha256 : f->oid;
    struct place p;
    uint64_t size;
    if (place_make(t, f->path, etag, &p, NULL) != 0)
        return false;
    bool has = path_is_file(p.link ? p.link : p.whole, &size) && size == f->size &&
               (p.link || metadata_fits(&p, etag));
    place_free(&p);
    return has;
}

bool place_has_bytes(const struct target *t, const struct remote_file *f)
{
    char *blob = NULL;
    uint64_t size;
    bool has = path_make(&blob, NULL, "%s/blobs/%s", t->repo_folder,
                         *f->sha256 ? f->sha256 : f->oid) == 0 &&
               path_is_file(blob, &size) && size == f->size;
    mem_free(blob);
    return has;
}

static int make_link(const struct target *t, const struct place *p, const char *etag, struct err *e)
{
    // from snapshots/COMMIT/a/b up to the repository's folder: one step for each '/'
    struct buf b = {0};
    for (const char *c = p->link + strlen(t->repo_folder) + 1; *c; c++) {
        if (*c == '/')
            buf_add_str(&b, "../");
    }
    buf_printf(&b, "blobs/%s", etag);
    char *target = buf_take(&b), *aside = NULL;
    int rc;
    if (!target)
        TRY(err_set(e, ERR_LIMIT, "out of memory for a path"));
    TRY(cache_lock_folder(t->repo_folder, &aside, e));
    TRY(path_link(aside, target, p->link, e));
fail:
    mem_free(aside);
    mem_free(target);
    return rc;
}

static int write_metadata(const struct target *t, const struct place *p, const char *etag,
                          struct err *e)
{
    char text[256];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(text, sizeof text, "%s\n%s\n%lld.%03ld\n", t->commit, etag, (long long)now.tv_sec,
             now.tv_nsec / 1000000);
    return path_write(NULL, p->metadata, text, e);
}

// The file may lie there without metadata (downloaded by other means), or in the cache.
static int adopt_local(const struct target *t, const struct place *p, const struct remote_file *f,
                       const char *etag, const atomic_bool *stop, bool *done, struct err *e)
{
    char *blob = NULL;
    uint64_t size;
    int rc = 0;
    if (path_is_file(p->whole, &size) && size == f->size) {
        TRY(filesum_copy(p->whole, NULL, f, stop, done, e));
        if (*done)
            return write_metadata(t, p, etag, e);
    }
    TRY(path_make(&blob, e, "%s/blobs/%s", t->repo_folder, etag));
    if (path_is_file(blob, &size) && size == f->size) {
        TRY(path_make_folders(p->data, false, e));
        (void)unlink(p->journal); // of the data that are overwritten now
        TRY(filesum_copy(blob, p->data, f, stop, done, e));
        if (*done)
            TRY(place_commit(t, p, etag, e));
    }
fail:
    mem_free(blob);
    return rc;
}

int place_adopt(const struct target *t, const struct place *p, const struct remote_file *f,
                const char *etag, const atomic_bool *stop, bool *done, struct err *e)
{
    uint64_t size;
    *done = false;
    if (t->local_dir)
        return adopt_local(t, p, f, etag, stop, done, e);
    if (!path_is_file(p->whole, &size) || size != f->size)
        return 0;
    (void)unlink(p->data);
    (void)unlink(p->journal);
    *done = true;
    return make_link(t, p, etag, e);
}

int place_commit(const struct target *t, const struct place *p, const char *etag, struct err *e)
{
    int rc;
    TRY(path_make_folders(p->whole, false, e));
    if (rename(p->data, p->whole) != 0)
        TRY(err_set(e, ERR_FAIL, "%s: %s", p->whole, strerror(errno)));
    (void)unlink(p->journal);
    rc = p->link ? make_link(t, p, etag, e) : write_metadata(t, p, etag, e);
fail:
    return rc;
}
