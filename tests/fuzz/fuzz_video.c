// SPDX-License-Identifier: MIT
// Arbitrary bytes as a video: opened, windowed, two pictures read in order and one seeked to, under tight
// limits. What FFmpeg's libraries do with the bytes is theirs; what we do with their answers is tested.
#include <stddef.h>
#include <stdint.h>

#include "media/frames.h"
#include "media/video.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SIDE = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t rgb[2 * SIDE * SIDE * 3];
    struct video_options o = {.n_thread = 1,
                              .max_seconds = 2,
                              .max_frames = 300,
                              .max_side = SIDE,
                              .max_pixels = SIDE * SIDE,
                              .seek_bytes = 1};
    struct video *v;
    struct err e;
    if (video_open_memory(&v, data, n, "input", &o, &e) != 0)
        return 0;
    size_t n_frame = video_stats(v)->n_frame, first, count;
    int32_t index[2];
    char sha256[SHA256_TEXT];
    if (frames_sample(0, n_frame, 2, index, &e) == 0 && video_read_rgb(v, index, 2, rgb, &e) == 0) {
        index[0] = (int32_t)n_frame - 1;
        (void)video_read_rgb(v, index, 1, rgb, &e);
    }
    (void)video_window(v, 0.5, 1.5, &first, &count, &e);
    (void)video_sha256(v, sha256, &e);
    video_close(v);
    return 0;
}
