// SPDX-License-Identifier: MIT
// The language model's tokenizer: SentencePiece BPE as the "slow" Python tokenizers of the releases
// use it (SPEC 6.5, 6.7, 7.5). A struct tokenizer is read-only once opened and may be used by any
// number of threads.
#ifndef IV_TEXT_TOKENIZER_H
#define IV_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/ids.h"
#include "text/spans.h"

struct tokenizer;

enum tokenizer_kind {
    TOKENIZER_MISTRAL, // LlamaTokenizer, legacy=False, add_prefix_space: one U+2581 before each piece
    TOKENIZER_INTERNLM2 // InternLM2Tokenizer: no prefix, text clean-up when decoding
};

// Numbers as in the SentencePiece file and in GGUF.
enum piece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER = 4,   // USER_DEFINED: matched whole, before anything else
    PIECE_UNUSED = 5, // text never becomes it; not accepted from tokenizer.model
    PIECE_BYTE = 6    // "<0x00>" .. "<0xFF>"
};

// One piece of a vocabulary; its number is its place in the array.
struct tokenizer_piece {
    const char *p;
    size_t n;    // bytes, 1..VOCAB_PIECE_MAX, valid UTF-8
    float score; // finite; the higher, the earlier it is merged
    enum piece_type type;
};

// Reads dir/tokenizer.json (TOKENIZER_MISTRAL, preferred) or dir/tokenizer.model, the latter with the
// added tokens of dir/tokenizer_config.json when that file is there. On failure (ERR_MODEL: missing,
// damaged or unsupported; ERR_LIMIT: memory) *out is NULL. Close with tokenizer_close.
int tokenizer_open(const char *dir, enum tokenizer_kind kind, struct tokenizer **out,
                   struct err *e);
// The same from bytes, which are not needed afterwards; `name` = the file's name in messages. The kind
// is TOKENIZER_MISTRAL.
int tokenizer_open_json(const char *json, size_t n, const char *name, struct tokenizer **out,
                        struct err *e);
// config = the bytes of tokenizer_config.json, NULL if there is none. Without one the control pieces
// of the model (MISTRAL: also its user-defined ones) are the added tokens.
int tokenizer_open_model(const void *model, size_t n, const char *config, size_t n_config,
                         const char *name, enum tokenizer_kind kind, struct tokenizer **out,
                         struct err *e);
// From arrays (GGUF metadata), which are not needed afterwards; added tokens as without a config.
int tokenizer_open_pieces(const struct tokenizer_piece *piece, size_t n, const char *name,
                          enum tokenizer_kind kind, struct tokenizer **out, struct err *e);
// Merges by this table instead of by score, as tokenizer.json does: n pairs of neighbours, each of which
// becomes the piece of both texts together, in the order of their ranks. For a tokenizer from pieces, before
// its first use.
int tokenizer_set_merges(struct tokenizer *t, const int32_t *pair, size_t n, const char *name,
                         struct err *e);
void tokenizer_close(struct tokenizer *t); // NULL is fine

// Appends to out the ids of ONE piece of the prompt, whose text is the concatenation of the spans:
// BOS, then the text. The string of an added token matches only where all of its bytes lie in spans
// with special = true; otherwise the spans' borders mean nothing. Each byte that is not part of valid
// UTF-8 counts as U+FFFD. O(n log n). On failure (ERR_LIMIT: memory, TEXT_MAX, out->max;
// ERR_ABORT: out->hooks) out is as before.
int tokenizer_encode(const struct tokenizer *t, const struct text_span *span, size_t n_span,
                     struct ids *out, struct err *e);

// Appends the text of ids to out, special tokens skipped as the release does: MISTRAL drops unk, bos and
// eos and keeps other added tokens, one space away from their neighbours; INTERNLM2 drops all added
// tokens and cleans up spaces before punctuation. The bytes are valid UTF-8. ERR_USAGE: an id outside
// the vocabulary; ERR_LIMIT: memory. On failure out holds a part of the text.
int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out,
                     struct err *e);

size_t tokenizer_size(const struct tokenizer *t); // ids are 0..size-1
enum tokenizer_kind tokenizer_kind_of(const struct tokenizer *t);
// The bytes of a piece as in the vocabulary (U+2581 for space, "<0x0A>" for a byte), not
// zero-terminated; NULL when id is outside the vocabulary.
const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n);
// Number of the piece or added token with exactly these bytes, -1 = none.
int32_t tokenizer_find(const struct tokenizer *t, const char *p, size_t n);
// True for control and other added tokens: what untrusted text never becomes.
bool tokenizer_is_added(const struct tokenizer *t, int32_t id);
int32_t tokenizer_bos(const struct tokenizer *t);
// Ids that end an answer (MISTRAL </s>; INTERNLM2 </s> and <|im_end|>), *n of them, at least one.
const int32_t *tokenizer_eos(const struct tokenizer *t, size_t *n);

#endif
