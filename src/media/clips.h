// SPDX-License-Identifier: MIT
// From RGB frames to the pixel tensor that the vision encoder reads: resize, pad, normalise, cut into
// tiles, add the global view (SPEC 3.3 - 3.8, 3.10).
#ifndef IV_MEDIA_CLIPS_H
#define IV_MEDIA_CLIPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "media/resize.h"

enum {
    CLIPS_SIZE = 224,    // rows and columns of a tile
    CLIPS_TILE_MAX = 64, // largest hd_num and largest fixed grid
};

enum clips_mode {
    CLIPS_HD,    // tiles and a global view: the HD, F16 and InternLM variants
    CLIPS_PLAIN, // short side to 224, centre crop, one clip: the 8B variant
};

struct clips_options {
    enum clips_mode mode;
    int hd_num;   // HD, padding and automatic grid: most tiles, 1 .. CLIPS_TILE_MAX
    bool padding; // HD: keep the aspect ratio, fill up with white (the grid below is not read)
    int fix_cols, fix_rows; // HD: grid of tiles; 0 x 0 = at most hd_num tiles, nearest in shape
    bool antialias;         // plain: antialiased bicubic
};
// {HD, 6, no padding, 2 x 1, antialias}
struct clips_options clips_options_default(void);

// Everything that options, frame count and frame size decide, before a byte is taken.
struct clips_plan {
    struct clips_options options;
    size_t n_frame, width, height;        // of the input
    size_t cols, rows;                    // tiles; 1 x 1 in plain mode
    size_t n_clip;                        // cols * rows + 1; plain: 1
    size_t canvas_width, canvas_height;   // 224 * cols, 224 * rows
    size_t resized_width, resized_height; // picture within the canvas (padding) or before the crop
    size_t top;                           // rows of padding above the picture
    size_t crop_left, crop_top;           // plain: first column and row of the crop
    bool turned;                          // padding: portrait, resized upside down and turned back
    size_t frame_bytes;                   // one RGB frame, width * height * 3
    size_t pixel_floats, pixel_bytes;     // the tensor
    size_t canvas_bytes, scratch_bytes;   // of one writer, while frames are put
    size_t work_bytes;                    // both, and the weights of resizing
};
// ERR_USAGE: options or n_frame out of range; ERR_MEDIA: empty frame or no row left; ERR_LIMIT:
// overflow. *p is zeroed on failure. Any thread.
int clips_plan(struct clips_plan *p, const struct clips_options *o, size_t n_frame, size_t width,
               size_t height, struct err *e);

struct clips {
    struct clips_plan plan;
    float *pixels; // f32 [n_clip, n_frame, 3, 224, 224], normalised, RGB; zero until frames are put
    size_t n_clip, n_frame, cols, rows;
    struct clips_work *work; // scratch; NULL after clips_done
};

// Takes plan->pixel_bytes + work_bytes. ERR_LIMIT when memory is short; *c is zeroed on failure, else
// clips_free releases it. One thread at a time.
int clips_init(struct clips *c, const struct clips_plan *plan, struct err *e);
// rgb [height, width, 3] u8 becomes frame `frame` (< n_frame) of every clip. NULL = the pixels of frame - 1
// again (frame > 0).
void clips_put(struct clips *c, size_t frame, const uint8_t *rgb);
// A second writer of c's pixels with scratch of its own (plan.work_bytes), for other frames at the same time. To
// clips_done, never to clips_free.
int clips_share(struct clips *lane, const struct clips *c, struct err *e);
// Releases the scratch; pixels stay.
void clips_done(struct clips *c);
void clips_free(struct clips *c);

// All in one: rgb [n_frame, height, width, 3].
int clips_from_rgb(struct clips *c, const struct clips_options *o, const uint8_t *rgb,
                   size_t n_frame, size_t width, size_t height, struct err *e);

// Images (SPEC 3.10): tiles and global view of each become separate one-frame clips, one image after
// the other. Appends those of one image to c, which is zeroed (first image) or holds earlier ones;
// n_frame stays 1, n_clip and pixels grow, cols and rows are those of the image added last. c keeps what it
// had when this fails.
int clips_add_image(struct clips *c, const struct clips_options *o, const uint8_t *rgb,
                    size_t width, size_t height, struct err *e);

#endif
