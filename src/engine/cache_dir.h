// SPDX-License-Identifier: MIT
// The cache's disk tier: one checked file of visual rows a key, in a folder that several processes may
// share. Every function: any thread; none fails a caller: what cannot be read or written is told to
// the log and computed.
#ifndef IV_ENGINE_CACHE_DIR_H
#define IV_ENGINE_CACHE_DIR_H

#include <stdint.h>

#include "engine/cache.h"

struct cache_dir;

// Makes the folder (mode 0700) if there is none. bytes: most that its row files may have together. hooks
// must outlive it.
int cache_dir_open(const char *path, uint64_t bytes, const struct hooks *hooks,
                   struct cache_dir **out, struct err *e);
void cache_dir_close(struct cache_dir *d); // NULL is allowed
// The rows under key, [n, d], or NULL: not there, not readable, stopped by hooks' abort, or damaged and then
// removed.
struct shared_rows *cache_dir_read(struct cache_dir *dir, const struct cache_key *key, size_t n,
                                   size_t d, const struct hooks *hooks);
// Writes them, unless hooks ask to stop. When the files of the folder are too much together, those whose use is
// longest ago are removed; the folder is looked through once in a while, not with each file, so that what other
// processes write may stand above the limit for some files.
void cache_dir_write(struct cache_dir *dir, const struct cache_key *key,
                     const struct shared_rows *r, const struct hooks *hooks);

#endif
