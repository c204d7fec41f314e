// SPDX-License-Identifier: MIT
// Texts that end an answer, found while it streams: nothing is let through that may yet turn out to be
// the beginning of one.
#ifndef IV_CHAT_STOP_H
#define IV_CHAT_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum { STOP_MAX = 64, STOP_BYTES_MAX = 1024 };

struct stop_match {
    const char *const *stop; // [n_stop] borrowed
    size_t n_stop;
    size_t len[STOP_MAX]; // bytes
    struct buf held;      // text that may begin a stop
    bool hit;
};

// stop: n zero-terminated texts, which must outlive m; n = 0 lets everything through. ERR_USAGE: more
// than STOP_MAX, or one that is empty, longer than STOP_BYTES_MAX or not UTF-8. On failure m is zeroed.
// Free with stop_free.
int stop_init(struct stop_match *m, const char *const *stop, size_t n, struct err *e);
void stop_free(struct stop_match *m);

// The next n bytes of the text (whole UTF-8 characters). Appends to out what is certain, whole characters
// again; once a stop is complete, m->hit is set, the text in front of the (first) stop has been let
// through and nothing follows. ERR_LIMIT: memory.
int stop_push(struct stop_match *m, const char *p, size_t n, struct buf *out, struct err *e);
// The end of the text: appends what was held back, unless a stop was hit.
int stop_finish(struct stop_match *m, struct buf *out, struct err *e);

#endif
