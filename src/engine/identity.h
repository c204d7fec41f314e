// SPDX-License-Identifier: MIT
// What tells one model, one media and one computation from another.
#ifndef IV_ENGINE_IDENTITY_H
#define IV_ENGINE_IDENTITY_H

#include "base/sha256.h"
#include "engine/cache.h"
#include "engine/engine.h"

struct identity; // of an engine's model, worked out when first asked for

int identity_open(struct identity **out, struct err *e);
void identity_close(struct identity *i); // NULL is allowed

// SHA-256 over the model's dimensions, every tensor's name, type and shape, and samples of its bytes: 4 KiB of both
// ends and 4 KiB from the middle of each MiB (all of a tensor of at most 12 KiB). Equal for a copy of the files,
// different for a model trained otherwise, but not for one that differs only outside of these samples.
// Not a checksum of the files (iv_engine_verify is). The first call reads the samples; hooks: abort is polled
// between them. Any thread; none waits for another's reading.
int engine_identity(const iv_engine *g, const struct hooks *hooks, uint8_t digest[SHA256_BYTES],
                    struct err *e);

// What the rows of one encoded piece of media depend on.
struct rows_source {
    const uint8_t *content; // [SHA256_BYTES] of the media's bytes
    const struct clips_options *options;
    bool image, pixels; // pixels: content is of finished pixels, not of files
    size_t n_clip, n_frame;
    const int32_t *frame_index; // [n_frame]
    const int32_t *text;        // [n_text] ids of the instruction
    size_t n_text;
};
// hooks: abort is polled, as by engine_identity.
int identity_of_rows(const iv_engine *g, const struct rows_source *s, const struct hooks *hooks,
                     struct cache_key *key, struct err *e);
// SHA-256 of n floats; abort is polled.
int identity_of_floats(const float *v, size_t n, const struct hooks *hooks,
                       uint8_t digest[SHA256_BYTES], struct err *e);

#endif
