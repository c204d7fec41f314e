// SPDX-License-Identifier: MIT
// Separable bicubic resampling with the two kernels of the model's preprocessing.
#ifndef IV_MEDIA_RESIZE_H
#define IV_MEDIA_RESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// RESIZE_CUBIC: A = -0.75, always 4 taps, also when shrinking (SPEC 3.3).
// RESIZE_CUBIC_AA: A = -0.5, support grows with the shrink factor, weights sum to 1 (SPEC 3.8).
enum resize_kernel { RESIZE_CUBIC, RESIZE_CUBIC_AA };

// One axis: output d = sum_k w[d * n_tap + k] * input[at[d * n_tap + k]]. Unused taps have weight 0.
// Taps of one output lie within n_tap consecutive inputs, except that borders repeat the last input.
struct resize_axis {
    size_t n_in, n_out, n_tap;
    int32_t *at; // [n_out, n_tap]
    float *w;    // f32 [n_out, n_tap]
};

// Taps for the outputs first .. first + n_out - 1 of a resize from n_in to n_full values (n_in, n_out
// >= 1, all below 2^30). ERR_LIMIT when memory is short. resize_axis_free releases, also after failure.
int resize_axis_init(struct resize_axis *a, enum resize_kernel kernel, size_t n_in, size_t n_full,
                     size_t first, size_t n_out, struct err *e);
void resize_axis_free(struct resize_axis *a);
// Taps of one output.
size_t resize_taps(enum resize_kernel kernel, size_t n_in, size_t n_full);
// Bytes that the axis takes; the same for every first.
size_t resize_axis_bytes(enum resize_kernel kernel, size_t n_in, size_t n_full, size_t n_out);

// A packed u8 RGB picture. Negative strides walk it backwards: the 180 degree turn costs nothing.
struct rgb_view {
    const uint8_t *pixel; // of row 0, column 0
    ptrdiff_t row, col;   // bytes to the next row, column; the 3 channels are adjacent
};

// Floats of scratch that the functions below need for these axes; reads n_in and n_out of x, n_tap of y.
size_t resize_scratch(const struct resize_axis *x, const struct resize_axis *y);

// src [y->n_in, x->n_in, 3] u8 -> dst f32 planes [3, plane] with rows of dst_row floats:
// channel c, row r, column i at dst[c * plane + r * dst_row + i]. Values 0..255 are divided by `divide`
// before resampling and not clamped afterwards. scratch as above; src, dst and scratch do not overlap.
// Any thread.
void resize_rgb(const struct resize_axis *x, const struct resize_axis *y, struct rgb_view src,
                float divide, float *dst, size_t plane, size_t dst_row, float *scratch);

// The same from f32 planes src [3, src_plane], rows of src_row floats.
void resize_planes(const struct resize_axis *x, const struct resize_axis *y, const float *src,
                   size_t src_plane, size_t src_row, float *dst, size_t plane, size_t dst_row,
                   float *scratch);

#endif
