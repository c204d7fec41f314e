// SPDX-License-Identifier: MIT
// Which frames of a video are looked at, and the sentence that tells their times.
#ifndef IV_MEDIA_FRAMES_H
#define IV_MEDIA_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Frames that may be asked for at once; beyond it is ERR_LIMIT.
enum { FRAMES_SEGMENT_MAX = 4096 };

// SPEC 3.1 over the frames first .. first + n_frame - 1: writes n_segment ascending indices (with
// duplicates when n_frame is small) to index [n_segment]. ERR_USAGE for n_segment = 0, ERR_MEDIA for
// n_frame = 0, ERR_LIMIT beyond FRAMES_SEGMENT_MAX or the int32 range. Any thread.
int frames_sample(size_t first, size_t n_frame, size_t n_segment, int32_t *index, struct err *e);

// SPEC 3.9: "The video contains 8 frames sampled at 0.6, 1.8, ... seconds." in new memory of the caller
// (mem_free); *text is NULL on failure and, with success, when fps is not a positive number (the times
// are unknown then). The decimal sign is a point in every locale. Any thread.
int frames_time_text(const int32_t *index, size_t n, double fps, char **text, struct err *e);

#endif
