// SPDX-License-Identifier: MIT
// The Python tokenizers' removal of spaces before punctuation, as a stream.
#ifndef IV_TEXT_CLEANUP_H
#define IV_TEXT_CLEANUP_H

#include <stddef.h>

#include "base/buf.h"

enum { CLEANUP_STAGES = 10 };

// Zero-initialise. One text a time.
struct cleanup {
    unsigned char
        held[CLEANUP_STAGES]; // bytes of its pattern that each stage has seen and holds back
};

// Feeds bytes; what is certain goes to out (appended; look at out->failed).
void cleanup_push(struct cleanup *c, const char *p, size_t n, struct buf *out);
// The end of the text: lets go of what was held. c may be used for another text afterwards.
void cleanup_finish(struct cleanup *c, struct buf *out);

#endif
