// SPDX-License-Identifier: MIT
// `ivchat pull` as a function: from a name to a complete, verified snapshot.
#ifndef IV_HUB_HUB_PULL_H
#define IV_HUB_HUB_PULL_H

#include "hub/choose.h"
#include "hub/fetch.h"

struct pull_order {
    const char *name;             // "ORG/REPO[@REVISION]"
    const char *endpoint, *cache; // NULL = of the environment
    const char *local_dir;        // NULL = into the cache
    struct choice choice;
    unsigned n_connection, retries;
    bool dry_run;
    const struct hooks *hooks;
    void *user;
    void (*progress)(void *user, const struct fetch_view *view, size_t n);
};

struct pull_file {
    char *path;
    uint64_t size;
    bool had; // its bytes, before
};

struct pull_result {
    char *folder; // of the snapshot, or local_dir
    char commit[41];
    struct pull_file *file; // [n]
    size_t n;
    uint64_t bytes, missing, fetched; // of all files; of those not had; received
};

// pull_free in all cases.
int hub_pull(const struct pull_order *o, struct pull_result *out, struct err *e);
void pull_free(struct pull_result *r);

#endif
