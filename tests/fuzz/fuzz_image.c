// SPDX-License-Identifier: MIT
// Arbitrary bytes as an image, then through both preprocessings.
#include <stddef.h>
#include <stdint.h>

#include "media/clips.h"
#include "media/video.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct video_options o = {
        .n_thread = 1, .max_seconds = 2, .max_frames = 10, .max_side = 256, .max_pixels = 1 << 14};
    struct image image;
    struct err e;
    if (image_read_memory(&image, data, n, "input", &o, &e) != 0)
        return 0;
    struct clips_options c = clips_options_default();
    struct clips clips;
    c.mode = n % 2 ? CLIPS_PLAIN : CLIPS_HD;
    c.padding = n % 4 == 2;
    c.fix_cols = c.fix_rows = n % 3 == 0;
    (void)clips_from_rgb(&clips, &c, image.rgb, 1, image.width, image.height, &e);
    clips_free(&clips);
    image_free(&image);
    return 0;
}
