// SPDX-License-Identifier: MIT
// The committed videos and images, and whole videos as bytes. Functions fail the running test on errors.
#ifndef IV_TESTS_MEDIA_FIXTURE_H
#define IV_TESTS_MEDIA_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"
#include "media/video.h"

// Path of a file in tests/fixtures/media, valid until the next call.
const char *media_fixture(const char *name);

// RGB frames u8 [n, height, width, 3].
struct frames {
    uint8_t *rgb;
    size_t n, width, height, frame_bytes;
};
void frames_free(struct frames *f);
const uint8_t *frames_at(const struct frames *f, size_t i);

// Opens a fixture with these options (NULL = defaults).
struct video *open_fixture(const char *name, const struct video_options *o);
// The chosen frames of an open video; index NULL = all in order.
void read_video(struct frames *f, struct video *v, const int32_t *index, size_t n);
// All frames of a fixture.
void read_fixture(struct frames *f, const char *name, const struct video_options *o);

void sha256_of(const void *bytes, size_t n, char text[SHA256_TEXT]);

#endif
