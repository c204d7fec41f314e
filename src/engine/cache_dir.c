// SPDX-License-Identifier: MIT
// Files <64 hex digits of the key>.ivrows; the layout is in docs/FORMATS.md. A file's modification time is its
// last use, which decides what goes first when the folder is full.
//
// Easy to get wrong: a file may vanish at any time (another process tidies up too), which is no error;
// only names of our own shape are ever removed, and of those that cannot be read only the ones whose bytes are
// wrong: too many open files, missing rights or a failing disk say nothing about a file.
#include "engine/cache_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/checkedfile.h"
#include "base/mem.h"
#include "base/size.h"

static const struct checked_kind KIND = {"IVCHROWS", 1, "a file of cached visual rows"};
static const char SUFFIX[] = ".ivrows";

enum {
    NAME_BYTES = 64 + sizeof SUFFIX, // with the zero
    LOOK_EVERY = 64, // own files between two looks through the folder, for what others wrote
    STALE_S = 3600,  // a temporary file this old has no writer any more
};

struct cache_dir {
    char *path;
    uint64_t limit;
    const struct hooks *hooks;
    pthread_mutex_t lock; // for the rest
    bool looked;          // total is known
    size_t n_written;     // since the last look
    uint64_t total;       // bytes there, as far as is known
};

int cache_dir_open(const char *path, uint64_t bytes, const struct hooks *hooks,
                   struct cache_dir **out, struct err *e)
{
    struct stat st;
    *out = NULL;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_set(e, ERR_USAGE, "cache folder %s: %s", path, strerror(errno));
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_set(e, ERR_USAGE, "cache folder %s: is not a folder", path);
    struct cache_dir *d = mem_calloc(1, sizeof *d);
    if (d)
        d->path = mem_strndup(path, strlen(path));
    if (!d || !d->path) {
        mem_free(d);
        return err_set(e, ERR_LIMIT, "cache folder: out of memory");
    }
    pthread_mutex_init(&d->lock, NULL);
    d->limit = bytes;
    d->hooks = hooks;
    *out = d;
    return 0;
}

void cache_dir_close(struct cache_dir *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    mem_free(d->path);
    mem_free(d);
}

// The caller's wish to stop, without the progress of its own work.
static struct hooks abort_only(const struct hooks *hooks)
{
    return hooks ? (struct hooks){.user = hooks->user, .abort = hooks->abort} : (struct hooks){0};
}

// path/name, to mem_free; NULL = no memory.
static char *join(const struct cache_dir *dir, const char *name)
{
    size_t n = strlen(dir->path) + strlen(name) + 2;
    char *p = mem_calloc(n, 1);
    if (p)
        snprintf(p, n, "%s/%s", dir->path, name);
    return p;
}

static char *path_of(const struct cache_dir *dir, const struct cache_key *key)
{
    char name[NAME_BYTES], hex[SHA256_TEXT];
    sha256_text(key->digest, hex);
    snprintf(name, sizeof name, "%s%s", hex, SUFFIX);
    return join(dir, name);
}

// Damage that the container cannot know of.
static int wrong(struct checked_reader *f, const char *what, struct err *e)
{
    f->damaged = true;
    return err_set(e, ERR_FAIL, "%s: damaged: %s", f->path, what);
}

static int read_rows(struct checked_reader *f, const struct cache_key *key, size_t n, size_t d,
                     struct shared_rows **out, struct err *e)
{
    struct cache_key in_file;
    struct shared_rows *r = NULL;
    uint64_t size;
    int rc;
    TRY(checked_size(f, "key", &size, e));
    if (size != sizeof in_file)
        TRY(wrong(f, "its key is none", e));
    TRY(checked_read(f, "key", &in_file, sizeof in_file, e));
    if (memcmp(&in_file, key, sizeof in_file) != 0)
        TRY(wrong(f, "it holds the rows of another key", e));
    TRY(checked_size(f, "rows", &size, e));
    TRY(shared_rows_new(n, d, &r, e));
    if (size != shared_rows_bytes(r))
        TRY(wrong(f, "it holds another number of rows", e));
    TRY(checked_read(f, "rows", r->v, shared_rows_bytes(r), e));
    for (size_t i = 0; i < n * d; i++)
        if (!isfinite(r->v[i]))
            TRY(wrong(f, "a value is not finite", e));
    *out = r;
    return 0;
fail:
    shared_rows_drop(&r);
    return rc;
}

struct shared_rows *cache_dir_read(struct cache_dir *dir, const struct cache_key *key, size_t n,
                                   size_t d, const struct hooks *hooks)
{
    struct shared_rows *r = NULL;
    struct checked_reader f = {.fd = -1};
    struct hooks stop = abort_only(hooks);
    struct err e = {0};
    char *path = path_of(dir, key);
    if (!path)
        return NULL;
    int rc = checked_open(&f, path, &KIND, &stop, &e);
    if (rc == 0)
        rc = read_rows(&f, key, n, d, &r, &e);
    checked_close(&f);
    if (rc == 0) {
        (void)utimensat(AT_FDCWD, path, NULL, 0); // used now
    } else if (rc != ERR_ABORT && f.why != ENOENT) {
        log_line(dir->hooks, LOG_WARN, "cache: %s; %scomputed anew", e.msg,
                 f.damaged ? "removed and " : "");
        if (f.damaged)
            (void)unlink(path);
    }
    mem_free(path);
    return r;
}

// ---- keeping within the limit

enum { LISTED_BYTES = NAME_BYTES + 48 }; // of a temporary file: see base/checkedfile.c

struct file {
    char name[LISTED_BYTES];
    uint64_t bytes;
    struct timespec used;
};

static int by_use(const void *a, const void *b)
{
    const struct file *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec)
        return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool is_key(const char *name)
{
    return strspn(name, "0123456789abcdef") == 64 &&
           strncmp(name + 64, SUFFIX, sizeof SUFFIX - 1) == 0;
}

static bool is_ours(const char *name)
{
    return is_key(name) && name[NAME_BYTES - 1] == 0;
}

static bool is_temporary(const char *name)
{
    size_t n = strlen(name);
    return is_key(name) && name[NAME_BYTES - 1] == '.' && n > NAME_BYTES + 3 && n < LISTED_BYTES &&
           strcmp(name + n - 4, ".tmp") == 0;
}

static bool add_file(struct file **all, size_t *n, size_t *cap, const struct file *x)
{
    if (*n == *cap) {
        size_t more_cap = *cap ? 2 * *cap : 64;
        struct file *more = mem_realloc(*all, more_cap, sizeof *more);
        if (!more)
            return false; // the rest is seen to when there is memory again
        *all = more;
        *cap = more_cap;
    }
    (*all)[(*n)++] = *x;
    return true;
}

// Files of ours with size and last use; to mem_free. The sum goes to *total. Temporary files without a writer are
// removed on the way. *whole = it was not stopped.
static struct file *list(const struct cache_dir *dir, const struct hooks *stop, size_t *n,
                         uint64_t *total, bool *whole)
{
    struct file *all = NULL;
    size_t cap = 0;
    struct dirent *x;
    struct stat st;
    time_t now = time(NULL);
    *n = 0;
    *total = 0;
    *whole = true;
    DIR *d = opendir(dir->path);
    while (d && *whole && (x = readdir(d))) {
        struct file f = {.bytes = 0};
        bool ours = is_ours(x->d_name);
        if (!(ours || is_temporary(x->d_name)) ||
            fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (!ours && st.st_mtim.tv_sec < now - STALE_S) {
            (void)unlinkat(dirfd(d), x->d_name, 0);
            continue;
        }
        f.bytes = (uint64_t)st.st_size;
        f.used = st.st_mtim;
        memcpy(f.name, x->d_name, strlen(x->d_name)); // is_ours or is_temporary: below LISTED_BYTES
        *total += f.bytes;
        if (ours && !add_file(&all, n, &cap, &f)) // a young temporary file only counts
            break;
        *whole = !hooks_abort(stop);
    }
    if (d)
        closedir(d);
    return all;
}

// Down to a little below the limit, so that the next files fit without a look. Caller holds dir->lock.
static void tidy(struct cache_dir *dir, const struct hooks *stop)
{
    size_t n;
    uint64_t goal = dir->limit - dir->limit / 16;
    bool whole;
    struct file *all = list(dir, stop, &n, &dir->total, &whole);
    dir->looked = whole;
    dir->n_written = 0;
    if (whole && dir->total > dir->limit && n > 0) {
        qsort(all, n, sizeof *all, by_use);
        for (size_t i = 0; i < n && dir->total > goal && !hooks_abort(stop); i++) {
            char *path = join(dir, all[i].name);
            if (path)
                (void)unlink(path);
            mem_free(path);
            dir->total -= all[i].bytes;
        }
    }
    mem_free(all);
}

// A file of so many bytes has been written. One thread looks through the folder, others go on.
static void note_written(struct cache_dir *dir, uint64_t bytes, const struct hooks *stop)
{
    if (pthread_mutex_trylock(&dir->lock) != 0)
        return;
    dir->total += bytes;
    dir->n_written++;
    if (!dir->looked || dir->total > dir->limit || dir->n_written >= LOOK_EVERY)
        tidy(dir, stop);
    pthread_mutex_unlock(&dir->lock);
}

static int write_rows(struct checked_writer *w, const struct cache_key *key,
                      const struct shared_rows *r, struct err *e)
{
    int rc;
    TRY(checked_begin(w, "key", e));
    TRY(checked_add(w, key, sizeof *key, e));
    TRY(checked_begin(w, "rows", e));
    TRY(checked_add(w, r->v, shared_rows_bytes(r), e));
    TRY(checked_commit(w, false, e));
fail:
    return rc;
}

void cache_dir_write(struct cache_dir *dir, const struct cache_key *key,
                     const struct shared_rows *r, const struct hooks *hooks)
{
    struct checked_writer w = {.fd = -1};
    struct hooks stop = abort_only(hooks);
    struct err e = {0};
    char *path = path_of(dir, key);
    if (!path)
        return;
    int rc = checked_create(&w, path, &KIND, &stop, &e);
    if (rc == 0)
        rc = write_rows(&w, key, r, &e);
    checked_abandon(&w);
    if (rc == 0)
        note_written(dir, shared_rows_bytes(r), &stop);
    else if (rc != ERR_ABORT)
        log_line(dir->hooks, LOG_WARN, "cache: %s; not kept on disk", e.msg);
    mem_free(path);
}
