// SPDX-License-Identifier: MIT
// What a hub says about a repository, read from its JSON.
#ifndef IV_HUB_LISTING_H
#define IV_HUB_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hub/repo_name.h"

// A file of a repository at one commit: with oid or sha256, which is also its ETag.
struct remote_file {
    char *path;      // safe (repo_path_is_safe); owned by the listing
    uint64_t size;   // bytes of the file itself
    char oid[41];    // git's name of a file that git holds itself; "" for large files
    char sha256[65]; // of a large file; else ""
};

enum { LISTING_MAX_FILES = 1 << 20, LISTING_MAX_JSON = 64 << 20 };
#define LISTING_MAX_BYTES ((uint64_t)1 << 50) // of all files

struct listing {
    struct remote_file *file;
    size_t n, cap;
    uint64_t bytes;
};

// Adds the files of one page of .../tree/COMMIT?recursive=true; folders are passed over. ERR_NETWORK for
// JSON of another form and for unsafe names. `name` = the repository, for messages.
int listing_add_page(struct listing *l, const char *json, size_t n, const char *name,
                     struct err *e);
// Sorts by path. ERR_NETWORK when a path is there twice.
int listing_finish(struct listing *l, const char *name, struct err *e);
void listing_free(struct listing *l);

struct repo_info {
    char commit[41];
    char base_model[REPO_ID_MAX + 1]; // "" = none named
};
// The answer of /api/models/ORG/REPO/revision/REVISION.
int repo_info_parse(const char *json, size_t n, const char *name, struct repo_info *out,
                    struct err *e);
// The base language model that a config.json names; "" when it names none or no hub name.
int config_base_model(const char *json, size_t n, char out[REPO_ID_MAX + 1], struct err *e);

#endif
