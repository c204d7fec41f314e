// SPDX-License-Identifier: MIT
// Downloads a client's https URL, if its host is on the list and public (--allow-remote-media).
#ifndef IV_APPS_SERVE_MEDIAFETCH_H
#define IV_APPS_SERVE_MEDIAFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "refusal.h"

struct mediafetch {
    const char *allowed;                          // "HOST[:PORT],..."; NULL = nothing
    uint64_t max;                                 // bytes
    double seconds;                               // for everything
    const char *ca_file;                          // certificates to trust; NULL = the system's
    bool (*acceptable)(const struct sockaddr *a); // address_public, but in tests
    bool (*stop)(void *user);
    bool (*room)(void *user, size_t n); // for n bytes more, among all requests
    void *user;
};

// Into a descriptor of item_memory, the caller's on success. 0 or -1 with *r; messages name no host and no address.
int mediafetch(const struct mediafetch *f, const char *url, size_t n, const char *where, int *fd,
               uint64_t *size, struct refusal *r);

#endif
