// SPDX-License-Identifier: MIT
// The Q-Former's tokenizer: BERT WordPiece, lower-casing, with the added token [DEC] (SPEC 5.3). A struct
// wordpiece is read-only once opened and may be used by any number of threads.
#ifndef IV_TEXT_WORDPIECE_H
#define IV_TEXT_WORDPIECE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/ids.h"
#include "text/spans.h"

struct wordpiece;

enum { WORDPIECE_IDS_MAX = 512 }; // of one text, [CLS] and [SEP] included

// Reads dir/vocab.txt, or the built-in vocabulary when there is no such file or dir is NULL. On failure
// (ERR_MODEL: damaged; ERR_LIMIT: memory) *out is NULL. Close with wordpiece_close.
int wordpiece_open(const char *dir, struct wordpiece **out, struct err *e);
// From the bytes of a vocab.txt, which are not needed afterwards; `name` = its name in messages.
int wordpiece_open_text(const char *text, size_t n, const char *name, struct wordpiece **out,
                        struct err *e);
void wordpiece_close(struct wordpiece *w); // NULL is fine

// Appends [CLS], the tokens of the text, [SEP]: 2 to WORDPIECE_IDS_MAX ids; of a longer text the end is
// kept. "[CLS]", "[DEC]" and the like become their ids only where all their bytes lie in spans with
// special = true. Bytes that are not valid UTF-8 are dropped. On failure (ERR_LIMIT; ERR_ABORT by out->hooks)
// out is as before.
int wordpiece_encode(const struct wordpiece *w, const struct text_span *span, size_t n_span,
                     struct ids *out, struct err *e);
// Appends the text of ids: special tokens left out, "##" pieces joined to the one before, the others parted
// by spaces, none before punctuation. ERR_USAGE: an id outside the vocabulary; ERR_LIMIT: memory.
int wordpiece_decode(const struct wordpiece *w, const int32_t *id, size_t n, struct buf *out,
                     struct err *e);

size_t wordpiece_size(const struct wordpiece *w); // lines of the file and [DEC]
int32_t wordpiece_pad(const struct wordpiece *w);
// Number of the piece with exactly these bytes, -1 = none; and back: NULL when id is outside.
int32_t wordpiece_find(const struct wordpiece *w, const char *p, size_t n);
const char *wordpiece_piece(const struct wordpiece *w, int32_t id, size_t *n);

#endif
