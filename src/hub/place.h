// SPDX-License-Identifier: MIT
// Where a downloaded file goes: the cache, or a folder of the user's (--local-dir), each in the layout of
// the hub's own client.
//
//   cache   blobs/ETAG, link snapshots/COMMIT/PATH; in the making blobs/ETAG.ivchat.incomplete
//   folder  DIR/PATH, DIR/.cache/huggingface/download/PATH.metadata; in the making beside that
#ifndef IV_HUB_PLACE_H
#define IV_HUB_PLACE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"
#include "hub/listing.h"

struct target {
    const char *cache, *repo_folder; // CACHE and CACHE/models--ORG--REPO
    const char *commit;
    const char *local_dir; // NULL = the cache
};

// Absolute names, owned (place_free).
struct place {
    char *data, *journal; // in the making
    char *whole;          // the file when it is complete and verified
    char *lock;
    char *link;     // of the snapshot, or NULL
    char *metadata; // of a folder, or NULL
};

int place_make(const struct target *t, const char *path, const char *etag, struct place *out,
               struct err *e);
void place_free(struct place *p);

// Whether f needs nothing to be done, as far as can be told without network and without reading it.
bool place_has(const struct target *t, const struct remote_file *f);
// Whether the bytes of f lie in the cache (as a blob of another snapshot or name), so that none are to be loaded.
bool place_has_bytes(const struct target *t, const struct remote_file *f);
// Takes what is here already under the lock: the same blob for another snapshot, the file of a folder without
// metadata, a copy from the cache; what is read for that is checked. *done = nothing is left to do. ERR_ABORT soon after
// *stop.
int place_adopt(const struct target *t, const struct place *p, const struct remote_file *f,
                const char *etag, const atomic_bool *stop, bool *done, struct err *e);
// Puts the verified data file in place and takes the journal away.
int place_commit(const struct target *t, const struct place *p, const char *etag, struct err *e);

#endif
