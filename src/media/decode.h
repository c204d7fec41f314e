// SPDX-License-Identifier: MIT
// The library's one door to FFmpeg's libraries: packets in file order, pictures as they are decoded,
// pictures as RGB. What is read when is media/video.c's business.
//
// Formats that name other files (HLS, DASH, concat, image sequences, SDP ...) are refused and nothing but
// the given source can be opened.
#ifndef IV_MEDIA_DECODE_H
#define IV_MEDIA_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "media/packets.h"
#include "media/source.h"

// Everything pointed to must outlive the decoder; deadline and hooks are looked at while it works.
struct decode_options {
    const char *name; // starts messages
    const struct source *source;
    const struct deadline *deadline;
    const struct hooks *hooks;
    unsigned n_thread;
    size_t max_side, max_pixels; // of a picture
    bool image;                  // the picture's own (EXIF) rotation counts
};

struct decode_info {
    size_t width, height; // after rotation
    int rotation;         // clockwise degrees: 0, 90, 180, 270
    double time_base;     // seconds of a timestamp unit
    double fps;           // 0 = unknown
    double duration_s;    // as the container tells; 0 = unknown
    bool broadcast;       // recordings of this container begin anywhere (MPEG-TS, MPEG-PS)
    const char *format;   // FFmpeg's short names, "mov,mp4,m4a,3gp,3g2,mj2"; static storage
    const char *codec;
};

struct decode; // one thread at a time

// Opens the source, chooses the stream (cover art only when there is nothing else) and a decoder for it.
// *out is NULL on failure, else the caller's (decode_close). ERR_MEDIA, ERR_LIMIT, ERR_ABORT; ERR_FAIL when FFmpeg's
// libraries cannot be loaded (libav.h).
int decode_open(struct decode **out, const struct decode_options *o, struct err *e);
void decode_close(struct decode *d); // NULL is allowed
// Starts demuxing at the first packet again, as if just opened.
int decode_rewind(struct decode *d, struct err *e);
// fps and duration may become better known while packets are read; an image's rotation and with it
// width and height when its picture is. Owned by d.
const struct decode_info *decode_info(struct decode *d);

// Reads the next packet of the stream and keeps it; tells all but its rank. 1, 0 at the end (a damaged
// tail is an end), or a negative code.
int decode_packet(struct decode *d, struct packet *p, struct err *e);
// Moves near the key packet of this dts, if the container can; which packet comes next is to be found out.
// After false the position is undefined: decode_rewind.
bool decode_seek(struct decode *d, int64_t dts);

// A decoder that remembers nothing: anew as after decode_open, or merely emptied if there is one (not so when the
// last decode_restart failed).
int decode_restart(struct decode *d, struct err *e);
int decode_flush(struct decode *d, struct err *e);
// Decodes the kept packet under a rank that comes back with its picture. Damaged packets are no error.
int decode_send(struct decode *d, int64_t rank, struct err *e);
// No more packets: the rest comes out. Then restart or flush.
int decode_send_end(struct decode *d, struct err *e);
// The next picture: 1 and its rank, 0 when none is ready, or a negative code.
int decode_picture(struct decode *d, int64_t *rank, struct err *e);
// That picture, upright, as packed u8 RGB [height, width, 3] of decode_info; one of another size than the
// stream's is scaled to it.
int decode_rgb(struct decode *d, uint8_t *rgb, struct err *e);

// One line on the libraries, which it loads, zero-terminated, cut to cap bytes. Any thread.
void decode_describe(char *out, size_t cap);

#endif
