// SPDX-License-Identifier: MIT
// Videos and images as RGB frames.
//
// Reads the containers and codecs that people have videos and pictures in (the lists are in decode.c);
// formats that name other files are refused. Names are plain paths whatever characters they hold.
#ifndef IV_MEDIA_VIDEO_H
#define IV_MEDIA_VIDEO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "base/sha256.h"

// The limits end in ERR_LIMIT with the number; 0 = the default in brackets.
struct video_options {
    struct hooks hooks;  // abort; progress "read" (bytes of a pipe), "decode" (packets)
    unsigned n_thread;   // decoder threads [2], at most 16; never changes the pictures
    double max_seconds;  // wall clock of one call [1800]
    uint64_t max_bytes;  // of a file [2^40]
    uint64_t max_stored; // of standard input or a FIFO, kept in an unlinked file meanwhile [2^33]
    size_t max_frames;   // of the video [2^22]
    size_t max_side;     // width and height [16384]
    size_t max_pixels;   // width * height; video [2^26 = 8192 x 8192], image [2^28]
    const char *tmp_dir; // where standard input and FIFOs are kept ["/tmp"]; read while opening
    uint64_t seek_bytes; // distance from which skipping seeks instead of reading on [2^23]
    bool sequential;     // decode from the beginning, without skipping or seeking
};

struct video_stats {
    size_t n_frame;       // packets of the video stream
    size_t width, height; // of the frames handed out: after rotation
    int rotation;         // clockwise degrees applied: 0, 90, 180, 270
    double fps;           // average, as the container tells, else n_frame / duration; 0 = unknown
    double duration_s;    // as the container tells, else n_frame / fps; 0 = unknown
    const char *format;   // FFmpeg's short names, "mov,mp4,m4a,3gp,3g2,mj2"; static storage
    const char *codec;
};

struct video; // one thread at a time

// Opens path ("-" = standard input), finds every packet of the best video stream and fills the stats. Cover
// art counts only when there is nothing else. *out is NULL on failure, else the caller's (video_close).
// ERR_MEDIA: not readable, no video, damaged beyond use, refused format; ERR_LIMIT; ERR_ABORT.
int video_open(struct video **out, const char *path, const struct video_options *o, struct err *e);
// The same from bytes, which stay the caller's and must outlive the video. name is for messages; copied.
int video_open_memory(struct video **out, const void *bytes, size_t n, const char *name,
                      const struct video_options *o, struct err *e);
void video_close(struct video *v); // NULL is allowed

// Owned by the video.
const struct video_stats *video_stats(const struct video *v);
// Of the file's bytes (of what came through a pipe).
int video_sha256(struct video *v, char text[SHA256_TEXT], struct err *e);

// Seconds of frame i (< n_frame) after the first one, by timestamp, or i / fps where there are none.
double video_frame_seconds(const struct video *v, size_t i);
// Frames whose time lies in [start_s, end_s); end_s <= 0 = to the end. frames_sample(first, n, ...) then
// samples among them. ERR_USAGE when start_s is not before end_s or a value is not finite, ERR_MEDIA when
// no frame lies inside or the times are unknown.
int video_window(const struct video *v, double start_s, double end_s, size_t *first, size_t *n,
                 struct err *e);

// Takes frames as they are decoded, in any order, each slot once. rgb [height, width, 3] u8 RGB is valid
// during the call. rgb NULL = that frame cannot be decoded: repeat what slot - 1 got (always already
// put). Non-zero stops the reading and becomes its result.
struct frame_sink {
    void *user;
    int (*put)(void *user, size_t slot, const uint8_t *rgb, struct err *e);
};
// Slot k gets frame index[k] (0 <= index[k] < n_frame, any order, duplicates allowed): the picture of the
// packet with the index[k]-th smallest timestamp, as if everything had been decoded from the
// beginning. Streams without timestamps: the index[k]-th picture that the decoder gives. Pictures of another
// size than the stream's are scaled to it. If the picture of slot 0 cannot be decoded, or the file was written to
// since it was opened (the sink may have got pictures of both contents): ERR_MEDIA. May be called again.
int video_read(struct video *v, const int32_t *index, size_t n, const struct frame_sink *sink,
               struct err *e);
// The same into rgb [n, height, width, 3].
int video_read_rgb(struct video *v, const int32_t *index, size_t n, uint8_t *rgb, struct err *e);

struct image {
    uint8_t *rgb; // u8 [height, width, 3], alpha dropped
    size_t width, height;
    char sha256[SHA256_TEXT]; // of the file's bytes
};
// First picture of an image (or video) file, upright: a rotation that the container or EXIF tells is applied,
// mirroring is not. path "-" = standard input. *out is the caller's (image_free), zeroed on failure. Any
// thread.
int image_read(struct image *out, const char *path, const struct video_options *o, struct err *e);
int image_read_memory(struct image *out, const void *bytes, size_t n, const char *name,
                      const struct video_options *o, struct err *e);
void image_free(struct image *i);

#endif
