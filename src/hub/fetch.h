// SPDX-License-Identifier: MIT
// Downloads many files at once over several connections.
#ifndef IV_HUB_FETCH_H
#define IV_HUB_FETCH_H

#include "base/log.h"
#include "hub/hubenv.h"
#include "hub/listing.h"
#include "hub/place.h"
#include "hub/repo_name.h"

enum fetch_state { FETCH_WAITING, FETCH_BUSY, FETCH_RUNNING, FETCH_DONE };

struct fetch_view {
    const char *path;
    uint64_t size, done; // bytes that have arrived, those of earlier runs included
    enum fetch_state state;
};

struct fetch_order {
    const struct hubenv *env;
    const struct repo_name *name;
    const char *base_model; // for messages; "" = unknown
    struct target target;
    const struct remote_file *const *file; // [n]
    size_t n;
    unsigned n_connection, retries;
    const struct hooks *hooks; // log on the calling thread; abort on it too
    void *user;
    // ten times a second on the calling thread, and once at the end; may be NULL
    void (*progress)(void *user, const struct fetch_view *view, size_t n);
};

// Returns when every file is in place and verified, or at the first failure; what has arrived stays for the
// next call. *fetched = bytes received now.
int fetch_files(const struct fetch_order *o, uint64_t *fetched, struct err *e);

#endif
