// SPDX-License-Identifier: MIT
// The vocabulary of a model directory as llama.cpp's converter lists it for GGUF files.
#ifndef IV_TEXT_TOKENIZER_PIECES_H
#define IV_TEXT_TOKENIZER_PIECES_H

#include "base/json.h"
#include "text/tokenizer.h"

struct piece_list {
    struct tokenizer_piece *piece; // [n]
    size_t n;
    int32_t pad;    // id, -1 = none
    int32_t *merge; // [2 n_merge] pairs by rank, of a tokenizer.json; else NULL
    size_t n_merge;
    // of tokenizer_config.json; -1 = it does not say
    int add_bos, add_eos, add_prefix;
    const char *chat_template; // NULL = none
    size_t n_chat_template;
    // what the pieces point into
    char *model, *config_text, *made;
    struct js_doc config;
    struct tokenizer *t;
};

// n_vocab: rows of the model's embedding; missing pieces are made up ("[PAD7]", unused). ERR_MODEL as
// tokenizer_open, and when there are more pieces than rows. piece_list_free also after failure.
int piece_list_open(struct piece_list *l, const char *dir, enum tokenizer_kind kind, size_t n_vocab,
                    struct err *e);
void piece_list_free(struct piece_list *l);

#endif
