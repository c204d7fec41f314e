// SPDX-License-Identifier: MIT
// Where the hub is, where its files are kept here, and who we are there: options first, then the
// variables that the hub's own client reads.
#ifndef IV_HUB_HUBENV_H
#define IV_HUB_HUBENV_H

#include <stdbool.h>

#include "base/err.h"

struct hubenv {
    char *endpoint;         // without a slash at the end
    char *cache;            // folder with models--ORG--REPO
    char *token;            // NULL = none
    const char *token_from; // "HF_TOKEN", "the token file" ...; for messages
    char *ca_file;          // NULL = the system's certificates
    bool offline;           // HF_HUB_OFFLINE
    unsigned stall_s;       // HF_HUB_DOWNLOAD_TIMEOUT
};

// endpoint, cache: NULL = from HF_ENDPOINT; HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME. ERR_USAGE. hubenv_free in
// all cases.
int hubenv_read(const char *endpoint, const char *cache, struct hubenv *out, struct err *e);
// The cache's folder alone; the caller's (mem_free).
int hubenv_cache(const char *given, char **out, struct err *e);
void hubenv_free(struct hubenv *h);

#endif
