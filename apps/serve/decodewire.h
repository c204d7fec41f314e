// SPDX-License-Identifier: MIT
// What the decoding process says on its standard output: messages of one struct, some followed by bytes. Both ends are
// the same program file.
#ifndef IV_APPS_SERVE_DECODEWIRE_H
#define IV_APPS_SERVE_DECODEWIRE_H

#include <stdint.h>

#include "digest.h"

enum { DECODE_MAGIC = 0x64637669 };

enum decode_say {
    DECODE_VIDEO = 1, // numbers of a video; count int32 frame indices follow
    DECODE_FRAME,     // slot; if has_pixels, width * height * 3 bytes follow
    DECODE_END        // status
};

struct decode_msg {
    uint32_t magic, say;
    int32_t status;
    uint32_t has_pixels;
    uint64_t slot, count, width, height, frame_count;
    double fps, duration_s;
    char sha256[DIGEST_TEXT + 7];
};

// The name under which the program starts itself as the decoding process, its first argument.
#define DECODE_VERB "--decode-media"

// The process's main. Standard input is the media, standard output a pipe. Returns the exit code.
int decodechild_main(int argc, char *const *argv);

#endif
