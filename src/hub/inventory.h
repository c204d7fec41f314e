// SPDX-License-Identifier: MIT
// What the cache holds, and removing from it.
#ifndef IV_HUB_INVENTORY_H
#define IV_HUB_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hub/repo_name.h"

struct inventory_revision {
    char commit[41];
    char refs[128]; // names separated by blanks, cut to fit
    uint64_t bytes; // of its files, shared ones included
    size_t n_file;
    bool usable; // configuration, tokenizer and every weight are there
};

struct inventory_repo {
    char id[REPO_ID_MAX + 1];
    char *folder;
    uint64_t bytes;      // on disk, shared files once, unfinished ones included
    uint64_t unfinished; // of these, in files still in the making
    struct inventory_revision *revision;
    size_t n_revision;
};

struct inventory {
    struct inventory_repo *repo; // sorted by id
    size_t n;
};

// cache NULL = of the environment. A cache that does not exist is empty. inventory_free in all cases.
int inventory_read(const char *cache, struct inventory *out, struct err *e);
void inventory_free(struct inventory *v);

// Removes "ORG/REPO" or, with @REVISION, one snapshot and what no other snapshot of the repository uses.
// *freed = bytes on disk given back (or, with dry_run, that would be). ERR_MODEL when it is not in the
// cache, ERR_FAIL while another process downloads it.
int inventory_remove(const char *name, const char *cache, bool dry_run, uint64_t *freed,
                     struct err *e);

#endif
