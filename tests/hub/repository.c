// SPDX-License-Identifier: MIT
// Lists and checksums of the test hub's repositories. Checksums are remembered by path and size, since a
// speed test asks for them many times.
#include "repository.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "hub/walk.h"

enum { REMEMBERED = 1024, FILES_MAX = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char path[1024];
    uint64_t size;
    long mtime;
    char oid[65];
} known[REMEMBERED];
static size_t n_known;

static void git_name(const char *path, uint64_t size, char oid[65])
{
    struct sha256 s = {0};
    char head[40], piece[65536];
    ssize_t n;
    int fd = open(path, O_RDONLY);
    int len = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
    if (fd < 0 || sha1_begin(&s, NULL) != 0)
        return;
    (void)sha256_add(&s, head, (size_t)len + 1, NULL);
    while ((n = read(fd, piece, sizeof piece)) > 0)
        (void)sha256_add(&s, piece, (size_t)n, NULL);
    close(fd);
    (void)sha1_end(&s, oid, NULL);
}

static void checksum(struct stored *f, long mtime)
{
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < n_known && (strcmp(known[i].path, f->disk) != 0 || known[i].size != f->size ||
                           known[i].mtime != mtime))
        i++;
    if (i < n_known) {
        memcpy(f->oid, known[i].oid, 65);
    } else {
        if (f->large)
            (void)sha256_file(f->disk, -1, NULL, f->oid, NULL);
        else
            git_name(f->disk, f->size, f->oid);
        if (n_known < REMEMBERED && strlen(f->disk) < sizeof known->path) {
            memcpy(known[n_known].path, f->disk, strlen(f->disk) + 1);
            known[n_known].size = f->size;
            known[n_known].mtime = mtime;
            memcpy(known[n_known++].oid, f->oid, 65);
        }
    }
    pthread_mutex_unlock(&lock);
}

bool stored_find(const char *root, const char *repo, const char *path, const struct scenario *s,
                 struct stored *out)
{
    struct stat st;
    memset(out, 0, sizeof *out);
    if (strstr(path, "..") ||
        (size_t)snprintf(out->disk, sizeof out->disk, "%s/%s/%s", root, repo, path) >=
            sizeof out->disk ||
        stat(out->disk, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    out->size = (uint64_t)st.st_size;
    out->large = s->large && out->size >= s->large;
    if (*s->oid)
        memcpy(out->oid, s->oid, sizeof out->oid);
    else
        checksum(out, (long)st.st_mtime);
    return true;
}

struct names {
    char *name[FILES_MAX];
    size_t n, skip;
};

static int add_name(void *user, const struct walk_name *n, struct err *e)
{
    struct names *names = user;
    (void)e;
    if (!n->is_folder && names->n < FILES_MAX)
        names->name[names->n++] = strdup(n->path + names->skip);
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t repository_list(const char *root, const char *repo, const struct scenario *s, size_t from,
                       size_t n, struct buf *out)
{
    static struct names names; // one list at a time
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    char folder[4096];
    struct stored f;
    pthread_mutex_lock(&one);
    names.n = 0;
    names.skip = (size_t)snprintf(folder, sizeof folder, "%s/%s", root, repo) + 1;
    (void)walk(folder, true, add_name, &names, NULL);
    qsort(names.name, names.n, sizeof *names.name, by_text);
    buf_add_str(out, "[{\"type\":\"directory\",\"oid\":\"0\",\"size\":0,\"path\":\"folder\"}");
    for (size_t i = from; i < names.n && (n == 0 || i < from + n); i++) {
        if (!stored_find(root, repo, names.name[i], s, &f))
            continue;
        if (f.large)
            buf_printf(
                out,
                ",\n{\"type\":\"file\",\"oid\":\"%040d\",\"size\":%llu,\"path\":\"%s\",\"lfs\":"
                "{\"oid\":\"%s\",\"size\":%llu,\"pointerSize\":130}}",
                7, (unsigned long long)f.size, names.name[i], f.oid, (unsigned long long)f.size);
        else
            buf_printf(out, ",\n{\"type\":\"file\",\"oid\":\"%s\",\"size\":%llu,\"path\":\"%s\"}",
                       f.oid, (unsigned long long)f.size, names.name[i]);
    }
    buf_add_str(out, "]");
    size_t total = names.n;
    for (size_t i = 0; i < names.n; i++)
        free(names.name[i]);
    pthread_mutex_unlock(&one);
    return total;
}
