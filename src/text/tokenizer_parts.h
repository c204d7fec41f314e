// SPDX-License-Identifier: MIT
// The inside of struct tokenizer, for the tokenizer_*.c files, bpe.c and detok.c only.
#ifndef IV_TEXT_TOKENIZER_PARTS_H
#define IV_TEXT_TOKENIZER_PARTS_H

#include "text/tokenizer.h"
#include "text/trie.h"
#include "text/vocab.h"

#define SPACE_MARK "\xE2\x96\x81" // U+2581, which stands for the space in pieces
#define RANK_NONE  UINT32_MAX
enum { SPACE_MARK_LEN = 3, EOS_MAX = 2 };

// One row of the merge table of tokenizer.json: neighbours left, right become id.
struct merge {
    int32_t left, right; // left = -1: empty slot
    int32_t id;
    uint32_t rank; // lower first
};

struct tokenizer {
    enum tokenizer_kind kind;
    struct vocab vocab;
    uint8_t *type; // [n] enum piece_type
    bool *added;   // [n]
    int16_t *byte; // [n] value of a byte piece, else -1
    uint32_t
        *rank; // [n] order in which a piece may be merged (equal scores, equal ranks), RANK_NONE
               // for pieces that no merge yields; unused when there is a merge table
    struct merge *merge; // [n_merge_slot] open addressing; NULL = merge by rank
    size_t n_merge_slot;
    int32_t byte_id[256];
    struct trie added_trie;      // strings of added tokens
    struct trie user_trie;       // user-defined pieces that are no added tokens
    struct trie user_added_trie; // user-defined pieces that are, under the vocabulary's own name
    int32_t space_id;            // the lone U+2581, -1 = none
    int32_t bos, eos[EOS_MAX], unk;
    size_t n_eos;
};

// A token that the configuration adds to or renames in the vocabulary.
struct added_token {
    const char *p; // borrowed
    size_t n;
    uint64_t id;
    bool special; // as the configuration says
};

// What the loaders gather; everything borrowed.
struct tokenizer_source {
    const char *name; // file name for messages
    enum tokenizer_kind kind;
    const struct tokenizer_piece *piece;
    size_t n_piece;
    struct added_token *added; // gets sorted by id; NULL = take the control pieces
    size_t n_added;
};

// Makes a tokenizer that merges by score. On failure *out is NULL.
int tokenizer_build(const struct tokenizer_source *src, struct tokenizer **out, struct err *e);
// Gives it an (empty) merge table for n merges, then adds rows: rank = order of adding; a repeated pair
// is an error.
int tokenizer_merges_init(struct tokenizer *t, size_t n, const char *name, struct err *e);
int tokenizer_merges_add(struct tokenizer *t, int32_t left, int32_t right, int32_t id,
                         uint32_t rank, const char *name, struct err *e);
const struct merge *tokenizer_merge(const struct tokenizer *t, int32_t left, int32_t right);
// Whether ordinary text may become this id.
bool tokenizer_is_ordinary(const struct tokenizer *t, int32_t id);

// The pieces of a tokenizer.model, checked as for opening it; *out is the caller's (mem_free), its strings
// point into model.
int tokenizer_model_pieces(const void *model, size_t n, const char *name, enum tokenizer_kind kind,
                           struct tokenizer_piece **out, size_t *n_piece, struct err *e);

struct js_doc;
// Reads the added tokens of a parsed tokenizer_config.json ("added_tokens_decoder") into *out, which the
// caller frees (mem_free); the strings belong to the document. *n = 0 and NULL when it has none.
int tokenizer_config_added(const struct js_doc *config, const char *name, struct added_token **out,
                           size_t *n, struct err *e);

#endif
