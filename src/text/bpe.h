// SPDX-License-Identifier: MIT
// Byte-pair merging of ordinary text.
#ifndef IV_TEXT_BPE_H
#define IV_TEXT_BPE_H

#include <stddef.h>

#include "base/err.h"
#include "text/ids.h"

struct tokenizer;

// Working memory that one encode reuses from chunk to chunk. Zero-initialise; bpe_free.
struct bpe {
    struct bpe_symbol *symbol;
    struct bpe_join *join; // a heap
    size_t symbol_cap, join_cap, n_join;
};

void bpe_free(struct bpe *w);
// Appends the ids of n > 0 bytes of valid UTF-8 with U+2581 for each space, all of it ordinary text
// (no user-defined piece, no control token). ERR_LIMIT: memory or out->max.
int bpe_encode(struct bpe *w, const struct tokenizer *t, const char *p, size_t n, struct ids *out,
               struct err *e);

#endif
