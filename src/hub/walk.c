// SPDX-License-Identifier: MIT
// Recursion over a folder, inner names first, so that it can also remove.
// Easy to get wrong: a symbolic link to a folder is a name like any other and is never entered.
#include "hub/walk.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "hub/hubcache.h"

static int visit(const char *folder, unsigned depth,
                 int (*fn)(void *user, const char *path, bool is_folder, struct err *e), void *user,
                 struct err *e)
{
    DIR *d = opendir(folder);
    struct stat st;
    int rc = 0;
    if (!d)
        return errno == ENOENT ? 0 : err_set(e, ERR_FAIL, "%s: %s", folder, strerror(errno));
    for (struct dirent *entry; rc == 0 && (entry = readdir(d));) {
        char *path = NULL;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        rc = path_make(&path, e, "%s/%s", folder, entry->d_name);
        bool inner = rc == 0 && lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
        if (inner && depth == 0)
            rc = err_set(e, ERR_FAIL, "%s: folders nested deeper than %d", path, WALK_DEPTH);
        if (inner && rc == 0)
            rc = visit(path, depth - 1, fn, user, e);
        if (rc == 0)
            rc = fn(user, path, inner, e);
        mem_free(path);
    }
    closedir(d);
    return rc;
}

int walk(const char *folder, int (*fn)(void *user, const char *path, bool is_folder, struct err *e),
         void *user, struct err *e)
{
    return visit(folder, WALK_DEPTH, fn, user, e);
}
