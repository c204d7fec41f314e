// SPDX-License-Identifier: MIT
// What an engine keeps between calls, within a number of bytes: visual rows by a key that names
// everything they depend on, and the KV caches of sessions that are not in a call. What was used
// longest ago goes first. All functions: any thread.
#ifndef IV_ENGINE_CACHE_H
#define IV_ENGINE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"
#include "engine/flight.h"
#include "engine/shared_rows.h"
#include "model/kv.h"

struct cache;

struct cache_key {
    uint8_t digest[SHA256_BYTES];
};

enum { CACHE_ENTRIES_MAX = 4096 };

struct cache_options {
    uint64_t bytes;            // most that is kept in memory; 0 = nothing is kept at all
    const char *dir;           // NULL = memory only; copied
    uint64_t dir_bytes;        // most that lies in dir
    const struct hooks *hooks; // log: files that were refused; outlives the cache
};

// ERR_USAGE when dir is no folder and cannot become one.
int cache_open(const struct cache_options *o, struct cache **out, struct err *e);
void cache_close(struct cache *c); // NULL is allowed
// Whether anything is kept.
bool cache_on(const struct cache *c);
// Most bytes that it keeps in memory.
uint64_t cache_limit(const struct cache *c);
// Whether rows are kept on disk too: keys must then tell one model from another.
bool cache_on_disk(const struct cache *c);

// The rows of one piece of media, for whoever comes first. *rows: kept under the key, or made by another thread
// that was at it already, which is waited for; a new hold, n rows of d values. Else *work, and the caller makes them
// and ends with cache_made, also when it fails. hooks: abort is polled. With a cache that keeps nothing both are NULL.
// ERR_ABORT, ERR_LIMIT.
int cache_want(struct cache *c, const struct cache_key *key, size_t n, size_t d,
               const struct hooks *hooks, struct flight **work, struct shared_rows **rows,
               struct err *e);
// Hands r (NULL = failed) to those who wait, and keeps a hold on it if there is room. Never fails: what cannot be
// kept is computed again.
void cache_made(struct cache *c, const struct cache_key *key, struct flight *work,
                struct shared_rows *r, const struct hooks *hooks);
// Keeps what was made without cache_want.
void cache_keep(struct cache *c, const struct cache_key *key, struct shared_rows *r,
                const struct hooks *hooks);

// A session that goes idle leaves its KV here, *kv being emptied, and takes it back with its next call:
// false = it has gone meanwhile, *kv is as it was. owner names the session; one KV each.
void cache_park(struct cache *c, const void *owner, struct kv *kv, size_t bytes);
bool cache_unpark(struct cache *c, const void *owner, struct kv *kv);

struct cache_use {
    size_t n_rows, n_kv; // entries
    uint64_t bytes;
};
struct cache_use cache_usage(struct cache *c);

#endif
