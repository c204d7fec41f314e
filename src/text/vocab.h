// SPDX-License-Identifier: MIT
// A vocabulary: byte strings numbered 0..n-1 and one hash table back from string to number.
// Filled once, then read-only and usable from any thread.
#ifndef IV_TEXT_VOCAB_H
#define IV_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    VOCAB_PIECE_MAX = 1024,   // bytes of one piece (the longest published one has 384)
    VOCAB_COUNT_MAX = 1 << 20 // pieces
};

struct vocab {
    char *bytes;    // all pieces, one after the other
    uint32_t *end;  // [n]: piece i is bytes[end[i-1] .. end[i])
    uint32_t *slot; // [n_slot] id + 1, 0 = empty; open addressing
    size_t n, cap, n_slot, bytes_cap;
    size_t longest; // bytes
};

// Room for exactly cap pieces of together at most bytes bytes. ERR_MODEL when over the limits above
// or no piece at all; `name` = the file's name in messages. Free with vocab_free also after failure.
int vocab_init(struct vocab *v, size_t cap, size_t bytes, const char *name, struct err *e);
// Adds the piece number v->n. ERR_MODEL: empty, longer than VOCAB_PIECE_MAX or there already.
int vocab_add(struct vocab *v, const char *p, size_t n, const char *name, struct err *e);
void vocab_free(struct vocab *v);

// Number of the piece with exactly these bytes, or -1.
int32_t vocab_find(const struct vocab *v, const char *p, size_t n);
// Bytes of piece id (0 <= id < v->n), not zero-terminated.
const char *vocab_piece(const struct vocab *v, size_t id, size_t *n);

// How many of a name's n bytes to show in a message: at most 60, whole characters.
int piece_shown(const char *p, size_t n);

#endif
