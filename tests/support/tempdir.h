// SPDX-License-Identifier: MIT
// A temporary folder for files that a test makes up. Functions fail the running test on any error.
#ifndef IV_TESTS_TEMPDIR_H
#define IV_TESTS_TEMPDIR_H

#include <stddef.h>

struct tempdir {
    char path[256];
};

void tempdir_make(struct tempdir *d);
// In memory where the system has room for it there, so that no disk is waited for; else, and with TMPDIR, as
// tempdir_make.
void tempdir_make_in_memory(struct tempdir *d);
// Removes it with all it holds.
void tempdir_remove(struct tempdir *d);
// Writes n bytes to the file `name` in d, replacing it. Returns its path, valid until the next call.
const char *tempdir_write(const struct tempdir *d, const char *name, const void *data, size_t n);
const char *tempdir_write_text(const struct tempdir *d, const char *name, const char *text);
// Path of `name` in d, valid until the next call.
const char *tempdir_path(const struct tempdir *d, const char *name);
void tempdir_delete(const struct tempdir *d, const char *name);

#endif
