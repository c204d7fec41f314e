// SPDX-License-Identifier: MIT
// Files that appear whole or not at all.
#ifndef IV_APPS_SAVEFILE_H
#define IV_APPS_SAVEFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "ivchat.h"

struct savefile {
    int fd;
    bool in_place; // the target is a device or a pipe: written directly
    char target[PATH_MAX], temporary[PATH_MAX];
};

// Begins the file that will be `path`; an existing one stays as it is until savefile_commit.
// IV_ERR_FAIL with the path and the reason. On failure nothing is left to release.
int savefile_open(struct savefile *f, const char *path, struct iv_error *e);
// Whether savefile_open would succeed now; leaves nothing behind. For a check before long work.
int savefile_check(const char *path, struct iv_error *e);
int savefile_write(struct savefile *f, const void *data, size_t n, struct iv_error *e);
// Puts the file in place; with `durable`, after its bytes have reached the disk. Releases f on
// success and on failure, when the temporary file is removed.
int savefile_commit(struct savefile *f, bool durable, struct iv_error *e);
// Removes what was written.
void savefile_abandon(struct savefile *f);

// Writes an error of the command line in the library's form: code, printf-style message. Returns
// code.
int app_error(struct iv_error *e, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
