// SPDX-License-Identifier: MIT
// Repositories of the test hub: files below ROOT/ORG/REPO, and what the real hub says about them.
#ifndef TEST_REPOSITORY_H
#define TEST_REPOSITORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "scenario.h"

struct stored {
    char disk[4096]; // path of the file
    uint64_t size;
    bool large;   // in the store
    char oid[65]; // SHA-256 of a large file, git's name of another
};

// false = no such file.
bool stored_find(const char *root, const char *repo, const char *path, const struct scenario *s,
                 struct stored *out);
// The list of all files as JSON; entries [from, from + n) of it (n 0 = all). Returns how many there are.
size_t repository_list(const char *root, const char *repo, const struct scenario *s, size_t from,
                       size_t n, struct buf *out);

#endif
