// SPDX-License-Identifier: MIT
// Folders below TMPDIR or /tmp, or in memory, made with mkdtemp and removed depth first without following links.
#include "tempdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

static bool make_below(struct tempdir *d, const char *base)
{
    int n = snprintf(d->path, sizeof d->path, "%s/ivchat-test-XXXXXX", base);
    return n > 0 && (size_t)n < sizeof d->path && mkdtemp(d->path);
}

void tempdir_make(struct tempdir *d)
{
    const char *base = getenv("TMPDIR");
    assert_true(make_below(d, base ? base : "/tmp"));
}

void tempdir_make_in_memory(struct tempdir *d)
{
    static const char memory[] = "/dev/shm";
    // more than a test writes; containers often have 64 MiB
    const unsigned long long room = 32 << 20;
    struct statvfs v;
    bool is_room = statvfs(memory, &v) == 0 && (unsigned long long)v.f_bavail * v.f_frsize >= room;
    if (getenv("TMPDIR") || !is_room || !make_below(d, memory))
        tempdir_make(d);
}

static void tree_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return;
    if (S_ISDIR(st.st_mode)) {
        DIR *dir = opendir(path);
        assert_non_null(dir);
        for (struct dirent *x; (x = readdir(dir));) {
            char sub[1024];
            if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
                continue;
            assert_true(snprintf(sub, sizeof sub, "%s/%s", path, x->d_name) < (int)sizeof sub);
            tree_remove(sub);
        }
        closedir(dir);
    }
    assert_int_equal(remove(path), 0);
}

void tempdir_remove(struct tempdir *d)
{
    tree_remove(d->path);
    d->path[0] = 0;
}

const char *tempdir_path(const struct tempdir *d, const char *name)
{
    static char path[1024];
    assert_true(snprintf(path, sizeof path, "%s/%s", d->path, name) < (int)sizeof path);
    return path;
}

const char *tempdir_write(const struct tempdir *d, const char *name, const void *data, size_t n)
{
    const char *path = tempdir_path(d, name);
    remove(path); // not truncated in place: it may be a link, or mapped
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(n ? fwrite(data, 1, n, f) : 0, n);
    assert_int_equal(fclose(f), 0);
    return path;
}

const char *tempdir_write_text(const struct tempdir *d, const char *name, const char *text)
{
    return tempdir_write(d, name, text, strlen(text));
}

void tempdir_delete(const struct tempdir *d, const char *name)
{
    assert_int_equal(remove(tempdir_path(d, name)), 0);
}
