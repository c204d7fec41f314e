// SPDX-License-Identifier: MIT
// Ids to text while they are being generated.
#ifndef IV_TEXT_DETOK_H
#define IV_TEXT_DETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/cleanup.h"
#include "text/unicode.h"

struct tokenizer;

// One text. Holds no memory of its own; t must outlive it. One thread at a time.
struct detok {
    const struct tokenizer *t;
    char byte[UTF8_MAX]; // byte pieces that are not yet a whole character
    size_t n_byte;
    bool any;     // an earlier run or added token has been written
    bool in_run;  // the current run has a piece
    bool run_out; // the current run has written a byte
    struct cleanup clean;
};

void detok_init(struct detok *d, const struct tokenizer *t);
// Appends to out what the id makes certain, perhaps nothing; always whole UTF-8 characters. All pushes
// and the finish together give exactly the bytes of tokenizer_decode. Errors as there; an id outside the
// vocabulary changes nothing.
int detok_push(struct detok *d, int32_t id, struct buf *out, struct err *e);
// The end of the text: appends what was held back. Call detok_init before using d again.
int detok_finish(struct detok *d, struct buf *out, struct err *e);

#endif
