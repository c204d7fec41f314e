// SPDX-License-Identifier: MIT
// Frames on their way from the decoder to the pixels: a few are gathered and resized on all threads.
#ifndef IV_ENGINE_FRAME_BATCH_H
#define IV_ENGINE_FRAME_BATCH_H

#include "base/pool.h"
#include "media/clips.h"

enum { FRAME_BATCH_MAX = 16 };

struct frame_batch {
    struct clips *clips;
    struct pool *pool;
    size_t n, cap;
    uint8_t *rgb;                  // [cap, frame_bytes]
    size_t frame[FRAME_BATCH_MAX]; // where each goes
    struct clips lane[FRAME_BATCH_MAX];
    size_t n_lane;
    double ms; // spent on pixels
};

// Bytes that are touched between the decoder's frame and the pixels: gathered frames and the scratch of each, at most
// 64 MiB, or that of clips->work where nothing is gathered.
size_t frame_batch_bytes(const struct clips_plan *p, const struct pool *pool);
// clips is made (clips_init). One thread is enough for one frame at a time: then nothing is gathered.
int frame_batch_open(struct frame_batch *b, struct clips *clips, struct pool *pool, struct err *e);
void frame_batch_close(struct frame_batch *b); // also of a zeroed one
// As clips_put; rgb is copied.
void frame_batch_put(struct frame_batch *b, size_t frame, const uint8_t *rgb);
// Frames put so far are in the pixels then.
void frame_batch_flush(struct frame_batch *b);

#endif
