// SPDX-License-Identifier: MIT
// Decoded media, ready for conversations, kept while they are used and some time longer.
#ifndef IV_APPS_SERVE_MEDIACACHE_H
#define IV_APPS_SERVE_MEDIACACHE_H

#include "chatreq.h"
#include "httpio.h"
#include "sources.h"

enum { THUMBS_MAX = 64, THUMB_SIDE = 160 };

struct media_entry; // counted holders

struct media_view {
    iv_media *media;
    size_t n_thumb, width, height; // of the first frames: u8 [n_thumb, height, width, 3]
    const uint8_t *thumb;
    double decode_ms; // the decoding process, preprocessing left out
};

struct mediacache *mediacache_open(struct server *s, uint64_t max_bytes);
void mediacache_close(struct mediacache *c); // no entry is held any more
// The media of these sources under this request's preprocessing; decoded now, or found. Waits while another
// job decodes the same. Worker threads. 0 and a hold, or -1 with *r. *found: nothing was decoded.
int mediacache_get(struct mediacache *c, const struct sources *from, const struct chatreq *q,
                   struct job *job, struct media_entry **out, bool *found, struct refusal *r);
void mediacache_drop(struct media_entry *e); // NULL is allowed
// Whether the cache still holds it; if not, it costs memory only for who holds it.
bool mediacache_kept(struct media_entry *e);
struct media_view mediacache_view(const struct media_entry *e);
// iv_media_stage, for one job after the other; the job's stop and progress are those of the call.
int mediacache_stage(struct media_entry *e, enum iv_stage stage, const char *instruction,
                     struct job *job, float **data, size_t dim[6], unsigned *n_dim,
                     struct iv_error *error);

#endif
