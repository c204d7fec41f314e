// SPDX-License-Identifier: MIT
// The vocabulary of bert-base-uncased, built into the library (third_party/bert-base-uncased).
#ifndef IV_TEXT_BERT_VOCAB_H
#define IV_TEXT_BERT_VOCAB_H

#include <stddef.h>

// The bytes of vocab.txt, one piece a line; static.
const char *bert_vocab_text(size_t *n);

#endif
