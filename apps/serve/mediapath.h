// SPDX-License-Identifier: MIT
// Files below one folder, for clients that may name files of this machine (--media-path).
#ifndef IV_APPS_SERVE_MEDIAPATH_H
#define IV_APPS_SERVE_MEDIAPATH_H

#include <stddef.h>
#include <stdint.h>

#include "refusal.h"

struct mediapath {
    int fd;           // of the folder; -1 = none
    char root[4096];  // its real path, without a slash at the end
    char given[4096]; // as the option named it
};

// 0, or -1 with errno.
int mediapath_open(struct mediapath *m, const char *folder);
void mediapath_close(struct mediapath *m);
// A regular file of 1 to max bytes below the folder, reached without a symbolic link and without leaving it. n bytes of path:
// absolute, or relative to the folder. *fd is the caller's. 0 or -1 with *r, whose message tells no path.
int mediapath_file(const struct mediapath *m, const char *path, size_t n, uint64_t max,
                   const char *where, int *fd, uint64_t *size, struct refusal *r);

#endif
