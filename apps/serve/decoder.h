// SPDX-License-Identifier: MIT
// Decoding of strangers' media, in a process of its own for each item: this side starts it, reads its frames, and ends
// it when its time is over or nobody wants them any more.
#ifndef IV_APPS_SERVE_DECODER_H
#define IV_APPS_SERVE_DECODER_H

#include <stdbool.h>
#include <sys/types.h>

#include "decodewire.h"
#include "items.h"
#include "ivchat.h"

struct decoder_limits {
    double max_duration_s; // of a video
    uint64_t max_pixels;   // of a frame
    unsigned seconds;      // of work
    unsigned memory_mib;
};

struct decoder_order {
    const struct item *item;
    bool image;
    int n_frame;
    double rate, start_s, end_s;
    struct decoder_limits limits;
    bool (*stop)(void *user); // polled; NULL = never
    void *stop_user;
};

struct decoder {
    struct decoder_order order;
    pid_t pid; // 0 = none
    int from;
    int64_t deadline_ns;
    uint8_t *rgb; // of the last frame
    size_t cap;
    struct decode_msg msg;  // the last message's
    struct decode_msg head; // of a video
    int32_t *index;         // [head.count]
    bool ahead;             // msg and rgb hold a frame that was not handed out yet
};

// Starts it and reads up to the first frame: of a video head and index are known then. IV_OK, else what the
// decoder said (IV_ERR_MEDIA for a crash too); decoder_close in any case.
int decoder_open(struct decoder *d, const struct decoder_order *order);
// For tests: the same without a process. What it would say comes from a descriptor, the decoder's from here on.
int decoder_listen(struct decoder *d, const struct decoder_order *order, int from);
// The next frame. For iv_media_from_frames, user being the decoder.
int decoder_next(void *user, struct iv_frame *f, struct iv_error *e);
void decoder_close(struct decoder *d);

#endif
