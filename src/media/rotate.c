// SPDX-License-Identifier: MIT
// Clockwise turns. Output row by row: 90: dst[y][x] = src[H-1-x][y]; 180: src[H-1-y][W-1-x];
// 270: src[x][W-1-y]. Easy to get wrong: W and H are those of the source.
#include "media/rotate.h"

#include <string.h>

void rotate_rgb(uint8_t *dst, const uint8_t *src, size_t width, size_t height, size_t stride,
                int degrees)
{
    if (degrees == 0) {
        for (size_t y = 0; y < height; y++)
            memcpy(dst + y * width * 3, src + y * stride, width * 3);
        return;
    }
    size_t rows = degrees == 180 ? height : width, cols = degrees == 180 ? width : height;
    for (size_t y = 0; y < rows; y++) {
        for (size_t x = 0; x < cols; x++, dst += 3) {
            size_t sy = degrees == 90 ? height - 1 - x : degrees == 180 ? height - 1 - y : x;
            size_t sx = degrees == 90 ? y : degrees == 180 ? width - 1 - x : width - 1 - y;
            const uint8_t *p = src + sy * stride + sx * 3;
            dst[0] = p[0];
            dst[1] = p[1];
            dst[2] = p[2];
        }
    }
}
