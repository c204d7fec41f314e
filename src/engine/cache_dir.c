// SPDX-License-Identifier: MIT
// Files <64 hex digits of the key>.ivrows; the layout is in docs/FORMATS.md. A file's modification time is its
// last use, which decides what goes first when the folder is full.
//
// Easy to get wrong: a file may vanish at any time (another process tidies up too), which is no error;
// only names of our own shape are ever removed.
#include "engine/cache_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checkedfile.h"
#include "base/mem.h"
#include "base/size.h"

static const struct checked_kind KIND = {"IVCHROWS", 1, "a file of cached visual rows"};
static const char SUFFIX[] = ".ivrows";

enum { NAME_BYTES = 64 + sizeof SUFFIX, FILES_MAX = 1 << 16 }; // bytes with the zero

struct cache_dir {
    char *path;
    uint64_t limit;
    const struct hooks *hooks;
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
        cache_dir_close(d);
        return err_set(e, ERR_LIMIT, "cache folder: out of memory");
    }
    d->limit = bytes;
    d->hooks = hooks;
    *out = d;
    return 0;
}

void cache_dir_close(struct cache_dir *d)
{
    if (!d)
        return;
    mem_free(d->path);
    mem_free(d);
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

static int read_rows(struct checked_reader *f, const struct cache_key *key, size_t n, size_t d,
                     struct shared_rows **out, struct err *e)
{
    struct cache_key in_file;
    struct shared_rows *r = NULL;
    uint64_t size;
    int rc;
    TRY(checked_read(f, "key", &in_file, sizeof in_file, e));
    if (memcmp(&in_file, key, sizeof in_file) != 0)
        TRY(err_set(e, ERR_FAIL, "%s: holds the rows of another key", f->path));
    TRY(checked_size(f, "rows", &size, e));
    TRY(shared_rows_new(n, d, &r, e));
    if (size != shared_rows_bytes(r))
        TRY(err_set(e, ERR_FAIL, "%s: %llu bytes of rows, expected %zu", f->path,
                    (unsigned long long)size, shared_rows_bytes(r)));
    TRY(checked_read(f, "rows", r->v, shared_rows_bytes(r), e));
    for (size_t i = 0; i < n * d; i++)
        if (!isfinite(r->v[i]))
            TRY(err_set(e, ERR_FAIL, "%s: value %zu is not finite", f->path, i));
    *out = r;
    return 0;
fail:
    shared_rows_drop(&r);
    return rc;
}

struct shared_rows *cache_dir_read(struct cache_dir *dir, const struct cache_key *key, size_t n,
                                   size_t d)
{
    struct shared_rows *r = NULL;
    struct checked_reader f;
    struct err e = {0};
    char *path = path_of(dir, key);
    if (!path || access(path, F_OK) != 0) {
        mem_free(path);
        return NULL;
    }
    int rc = checked_open(&f, path, &KIND, NULL, &e);
    if (rc == 0)
        rc = read_rows(&f, key, n, d, &r, &e);
    checked_close(&f);
    if (rc == 0) {
        (void)utimensat(AT_FDCWD, path, NULL, 0); // used now
    } else {
        log_line(dir->hooks, LOG_WARN, "cache: %s; removed and computed anew", e.msg);
        if (rc != ERR_LIMIT)
            (void)unlink(path);
    }
    mem_free(path);
    return r;
}

// ---- keeping within the limit

struct file {
    char name[NAME_BYTES];
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

static bool is_ours(const char *name)
{
    return strspn(name, "0123456789abcdef") == 64 && strcmp(name + 64, SUFFIX) == 0;
}

// Files of ours with size and last use; to mem_free. The sum goes to *total.
static struct file *list(const struct cache_dir *dir, size_t *n, uint64_t *total)
{
    struct file *all = NULL;
    size_t cap = 0;
    struct dirent *x;
    *n = 0;
    *total = 0;
    DIR *d = opendir(dir->path);
    while (d && *n < FILES_MAX && (x = readdir(d))) {
        struct stat st;
        if (!is_ours(x->d_name) || fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        if (*n == cap) {
            cap = cap ? 2 * cap : 64;
            struct file *more = mem_realloc(all, cap, sizeof *more);
            if (!more)
                break;
            all = more;
        }
        all[*n] = (struct file){.bytes = (uint64_t)st.st_size, .used = st.st_mtim};
        memcpy(all[*n].name, x->d_name, NAME_BYTES);
        *total += all[(*n)++].bytes;
    }
    if (d)
        closedir(d);
    return all;
}

static void tidy(const struct cache_dir *dir)
{
    size_t n;
    uint64_t total;
    struct file *all = list(dir, &n, &total);
    if (total > dir->limit && n > 0)
        qsort(all, n, sizeof *all, by_use);
    for (size_t i = 0; i < n && total > dir->limit; i++) {
        char *path = join(dir, all[i].name);
        if (path)
            (void)unlink(path);
        mem_free(path);
        total -= all[i].bytes;
    }
    mem_free(all);
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
                     const struct shared_rows *r)
{
    struct checked_writer w = {.fd = -1};
    struct err e = {0};
    char *path = path_of(dir, key);
    if (!path)
        return;
    int rc = checked_create(&w, path, &KIND, NULL, &e);
    if (rc == 0)
        rc = write_rows(&w, key, r, &e);
    checked_abandon(&w);
    if (rc != 0)
        log_line(dir->hooks, LOG_WARN, "cache: %s; not kept on disk", e.msg);
    else
        tidy(dir);
    mem_free(path);
}
