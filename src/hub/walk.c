// SPDX-License-Identifier: MIT
// Recursion over a folder, inner names first, so that it can also remove.
// Easy to get wrong: a symbolic link to a folder is a name like any other and is never entered, not even when it
// takes the place of a folder between our look at it and our opening it.
#include "hub/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "hub/hubcache.h"

struct walker {
    int (*fn)(void *user, const struct walk_name *n, struct err *e);
    void *user;
};

static int visit(const struct walker *w, int fd, const char *folder, unsigned depth, struct err *e);

static int visit_name(const struct walker *w, int dir, const char *folder, const char *name,
                      unsigned depth, struct err *e)
{
    struct walk_name n = {.dir = dir, .name = name};
    struct stat st;
    char *path = NULL;
    int rc;
    TRY(path_make(&path, e, "%s/%s", folder, name));
    n.path = path;
    n.is_folder = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    if (n.is_folder) {
        if (depth == 0)
            TRY(err_set(e, ERR_FAIL, "%s: folders nested deeper than %d", path, WALK_DEPTH));
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT)
            TRY(err_set(e, ERR_FAIL, "%s: %s", path, strerror(errno)));
        if (fd >= 0)
            TRY(visit(w, fd, path, depth - 1, e));
    }
    rc = w->fn(w->user, &n, e);
fail:
    mem_free(path);
    return rc;
}

// Closes fd.
static int visit(const struct walker *w, int fd, const char *folder, unsigned depth, struct err *e)
{
    DIR *d = fdopendir(fd);
    int rc = 0;
    if (!d) {
        rc = err_set(e, ERR_FAIL, "%s: %s", folder, strerror(errno));
        close(fd);
        return rc;
    }
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = visit_name(w, fd, folder, entry->d_name, depth, e);
    }
    closedir(d);
    return rc;
}

int walk(const char *folder, bool follow,
         int (*fn)(void *user, const struct walk_name *n, struct err *e), void *user, struct err *e)
{
    struct walker w = {fn, user};
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set(e, ERR_FAIL, "%s: %s", folder, strerror(errno));
    return visit(&w, fd, folder, WALK_DEPTH, e);
}
