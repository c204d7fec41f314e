// SPDX-License-Identifier: MIT
// Text to ids, and the accessors.
//   spans -> one text: invalid bytes to U+FFFD, spaces to U+2581, MISTRAL: one U+2581 in front
//   -> split at added tokens (longest, leftmost, only inside special spans) -> each chunk between them:
//   split at user-defined pieces -> BPE -> BOS in front.
// Source: SPEC 6.5 (MISTRAL, "slow, legacy=False") and 6.7 (INTERNLM2).
//
// Easy to get wrong: only the piece as a whole gets a prefix, never the chunks after an added token; a
// lone first U+2581 goes when <s>, </s> or <unk> follows but stays before [INST]; empty text is BOS alone.
#include "text/tokenizer.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "text/bpe.h"
#include "text/spans.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

// Rewrites the text `in` character by character into `x`. A character that lies only partly in a
// special range is outside, so each range yields at most one.
static int rewrite(const struct joined *in, bool prefix, const struct ids *out, struct joined *x,
                   struct err *e)
{
    size_t cursor = 0, range = SIZE_MAX, step = 0;
    int rc = 0;
    // SPACE_MARK and U+FFFD, the longest that one byte can become, have three bytes each
    TRY(joined_init(x, SPACE_MARK_LEN * (in->n + 1), in->n_special, e));
    if (prefix && in->n) {
        memcpy(x->p, SPACE_MARK, SPACE_MARK_LEN);
        x->n = SPACE_MARK_LEN;
    }
    for (size_t i = 0, used; i < in->n; i += used) {
        uint32_t cp;
        int len = utf8_decode(in->p + i, in->n - i, &cp);
        size_t begin = x->n;
        TRY(ids_poll(out, step++, e));
        used = len > 0 ? (size_t)len : 1;
        if (len <= 0) {
            x->n += utf8_encode(UNI_REPLACEMENT, x->p + begin);
        } else if (cp == ' ') {
            memcpy(x->p + begin, SPACE_MARK, SPACE_MARK_LEN);
            x->n += SPACE_MARK_LEN;
        } else {
            memcpy(x->p + begin, in->p + i, used);
            x->n += used;
        }
        if (joined_special_left(in, i, &cursor) < used)
            continue;
        if (cursor != range)
            x->special[x->n_special++].begin = begin;
        x->special[x->n_special - 1].end = x->n;
        range = cursor;
    }
fail:
    return rc;
}

// Encodes bytes begin..end, which hold no added token: user-defined pieces whole, BPE between them.
static int encode_chunk(const struct tokenizer *t, struct bpe *w, const struct joined *x,
                        size_t begin, size_t end, size_t *cursor, struct ids *out, struct err *e)
{
    size_t from = begin;
    int rc = 0;
    bool any = t->user_trie.n || t->user_added_trie.n;
    for (size_t i = begin; any && i < end;) {
        int32_t id, added_id;
        size_t len = trie_match(&t->user_trie, x->p + i, end - i, &id);
        size_t limit = min_size(end - i, joined_special_left(x, i, cursor));
        size_t added_len = trie_match(&t->user_added_trie, x->p + i, limit, &added_id);
        if (added_len > len) {
            len = added_len;
            id = added_id;
        }
        if (len == 0) {
            i++; // pieces are valid UTF-8, so none begins inside a character
            continue;
        }
        if (i > from)
            TRY(bpe_encode(w, t, x->p + from, i - from, out, e));
        TRY(ids_add(out, id, e));
        i += len;
        from = i;
    }
    if (end > from)
        TRY(bpe_encode(w, t, x->p + from, end - from, out, e));
fail:
    return rc;
}

static int encode_text(const struct tokenizer *t, struct bpe *w, const struct joined *x,
                       struct ids *out, struct err *e)
{
    size_t from = 0, cursor = 0, user_cursor = 0;
    int rc = 0;
    for (size_t i = 0; i < x->n;) {
        int32_t id;
        TRY(ids_poll(out, i, e));
        size_t left = joined_special_left(x, i, &cursor);
        size_t len = left ? trie_match(&t->added_trie, x->p + i, left, &id) : 0;
        if (len == 0) {
            i++;
            continue;
        }
        if (i > from)
            TRY(encode_chunk(t, w, x, from, i, &user_cursor, out, e));
        TRY(ids_add(out, id, e));
        i += len;
        from = i;
    }
    if (x->n > from)
        TRY(encode_chunk(t, w, x, from, x->n, &user_cursor, out, e));
fail:
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const struct text_span *span, size_t n_span,
                     struct ids *out, struct err *e)
{
    struct joined raw = {0}, x = {0};
    struct bpe w = {0};
    size_t start = out->n, first = start + 1;
    int rc = 0;
    TRY(joined_from_spans(&raw, span, n_span, e));
    TRY(rewrite(&raw, t->kind == TOKENIZER_MISTRAL, out, &x, e));
    TRY(ids_add(out, t->bos, e));
    TRY(encode_text(t, &w, &x, out, e));
    if (t->kind == TOKENIZER_MISTRAL && out->n > first + 1 && out->v[first] == t->space_id &&
        (out->v[first + 1] == t->bos || out->v[first + 1] == t->eos[0] ||
         out->v[first + 1] == t->unk)) {
        memmove(out->v + first, out->v + first + 1, (out->n - first - 1) * sizeof *out->v);
        out->n--;
    }
fail:
    if (rc != 0)
        out->n = start;
    bpe_free(&w);
    joined_free(&x);
    joined_free(&raw);
    return rc;
}

size_t tokenizer_size(const struct tokenizer *t)
{
    return t->vocab.n;
}

enum tokenizer_kind tokenizer_kind_of(const struct tokenizer *t)
{
    return t->kind;
}

const char *tokenizer_piece(const struct tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    return id < 0 || (size_t)id >= t->vocab.n ? NULL : vocab_piece(&t->vocab, (size_t)id, n);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *p, size_t n)
{
    return vocab_find(&t->vocab, p, n);
}

bool tokenizer_is_added(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.n && t->added[id];
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

const int32_t *tokenizer_eos(const struct tokenizer *t, size_t *n)
{
    *n = t->n_eos;
    return t->eos;
}
