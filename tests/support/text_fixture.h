// SPDX-License-Identifier: MIT
// A language-model tokenizer small enough to reckon by hand, as tokenizer.json and as tokenizer.model.
#ifndef IV_TESTS_TEXT_FIXTURE_H
#define IV_TESTS_TEXT_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

// Ids of both files. Byte piece b is FX_BYTE + b.
enum {
    FX_UNK,
    FX_BOS,
    FX_EOS,
    FX_INST, // "[INST]"
    FX_END,  // "[/INST]"
    FX_BYTE,
    FX_SPACE = FX_BYTE + 256, // U+2581
    FX_A,
    FX_B,
    FX_C,
    FX_D,
    FX_E_ACUTE,
    FX_SPACE_A, // merged first
    FX_AB,
    FX_SPACE_AB,
    FX_BC,
    FX_ABC,
    FX_SPACES, // two U+2581, merged last
    FX_DOT,
    FX_COUNT,
    // tokenizer.model for INTERNLM2 goes on
    FX_DASH = FX_COUNT, // "--", user-defined
    FX_DASHES,          // "----", user-defined
    FX_UNUSED,          // "[UNUSED_TOKEN_1]", user-defined, no control token
    FX_IM_END,          // "[UNUSED_TOKEN_145]", renamed "<|im_end|>"
    FX_IM_START,        // "[UNUSED_TOKEN_146]", renamed "<|im_start|>"
    FX_COUNT_INTERNLM2
};

// Appends tokenizer.json (MISTRAL).
void fixture_json(struct buf *b);
// Appends tokenizer.model; internlm2 = with the pieces after FX_COUNT and without a prefix.
void fixture_model(struct buf *b, bool internlm2);

// The parts of a tokenizer.model. type 0 = leave the field out.
void fixture_varint(struct buf *b, uint64_t v);
void fixture_piece(struct buf *b, const char *p, size_t n, float score, unsigned type);
void fixture_options(struct buf *b, bool prefix);

#endif
