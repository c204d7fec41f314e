// SPDX-License-Identifier: MIT
// Quarter turns of packed RGB pictures.
#ifndef IV_MEDIA_ROTATE_H
#define IV_MEDIA_ROTATE_H

#include <stddef.h>
#include <stdint.h>

// src u8 [height, width, 3] with rows of `stride` bytes -> dst packed, turned clockwise by 0, 90, 180 or 270
// degrees: [width, height, 3] for 90 and 270, else [height, width, 3]. No overlap.
void rotate_rgb(uint8_t *dst, const uint8_t *src, size_t width, size_t height, size_t stride,
                int degrees);

#endif
