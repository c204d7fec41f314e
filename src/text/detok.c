// SPDX-License-Identifier: MIT
// Ids to text, one id at a time; tokenizer_decode is the same thing in one go (SPEC 7.5).
//   byte pieces -> whole characters, U+FFFD for each byte that is none
//   MISTRAL:   runs of text and added tokens, joined by single spaces; the first piece of a run loses one
//              leading U+2581; a run without text vanishes, but the last one still gets its space
//   INTERNLM2: plain concatenation, then the clean-up of cleanup.c
// In both U+2581 becomes a space and unk, bos, eos (INTERNLM2: every added token) are dropped first, so
// they do not interrupt a run of byte pieces.
//
// Easy to get wrong: the space before a run may only be written with the run's first byte; "first piece of
// a run" means first id, even if it has no text.
#include "text/detok.h"

#include <string.h>

#include "text/tokenizer_parts.h"

void detok_init(struct detok *d, const struct tokenizer *t)
{
    memset(d, 0, sizeof *d);
    d->t = t;
}

// Text of the current run.
static void put(struct detok *d, const char *p, size_t n, struct buf *out)
{
    if (n == 0)
        return;
    if (d->t->kind == TOKENIZER_INTERNLM2) {
        cleanup_push(&d->clean, p, n, out);
        return;
    }
    if (!d->run_out && d->any)
        buf_add(out, " ", 1);
    d->run_out = true;
    buf_add(out, p, n);
}

// Writes the characters that are complete; at the end of a run of bytes (last) all of it.
static void put_bytes(struct detok *d, bool last, struct buf *out)
{
    while (d->n_byte) {
        uint32_t cp;
        int len = utf8_decode(d->byte, d->n_byte, &cp);
        if (len == 0 && !last)
            return;
        if (len <= 0) {
            char bad[UTF8_MAX];
            put(d, bad, utf8_encode(UNI_REPLACEMENT, bad), out);
            len = 1;
        } else {
            put(d, d->byte, (size_t)len, out);
        }
        d->n_byte -= (size_t)len;
        memmove(d->byte, d->byte + len, d->n_byte);
    }
}

static void put_piece(struct detok *d, const char *p, size_t n, struct buf *out)
{
    while (n) {
        const char *mark = memchr(p, SPACE_MARK[0], n);
        size_t k = mark ? (size_t)(mark - p) : n;
        if (mark && n - k >= SPACE_MARK_LEN && memcmp(mark, SPACE_MARK, SPACE_MARK_LEN) == 0) {
            put(d, p, k, out);
            put(d, " ", 1, out);
            k += SPACE_MARK_LEN;
        } else {
            k += mark != NULL;
            put(d, p, k, out);
        }
        p += k;
        n -= k;
    }
}

static bool is_dropped(const struct tokenizer *t, int32_t id)
{
    if (t->kind == TOKENIZER_INTERNLM2)
        return t->added[id];
    return id == t->bos || id == t->eos[0] || id == t->unk;
}

static int check_out(const struct buf *out, struct err *e)
{
    return out->failed ? err_set(e, ERR_LIMIT, "decoded text: out of memory at %zu bytes", out->len)
                       : 0;
}

int detok_push(struct detok *d, int32_t id, struct buf *out, struct err *e)
{
    const struct tokenizer *t = d->t;
    if (id < 0 || (size_t)id >= t->vocab.n)
        return err_set(e, ERR_USAGE, "token id %d is outside the vocabulary of %zu", (int)id,
                       t->vocab.n);
    size_t n;
    const char *p = vocab_piece(&t->vocab, (size_t)id, &n);
    if (is_dropped(t, id))
        return 0;
    if (t->byte[id] >= 0) {
        d->in_run = true;
        d->byte[d->n_byte++] = (char)t->byte[id]; // at most 3 were left, see put_bytes
        put_bytes(d, false, out);
        return check_out(out, e);
    }
    put_bytes(d, true, out);
    if (t->added[id]) {
        if (d->any || d->run_out)
            buf_add(out, " ", 1);
        buf_add(out, p, n);
        d->any = true;
        d->in_run = d->run_out = false;
        return check_out(out, e);
    }
    if (t->kind == TOKENIZER_MISTRAL && !d->in_run && n >= SPACE_MARK_LEN &&
        memcmp(p, SPACE_MARK, SPACE_MARK_LEN) == 0) {
        p += SPACE_MARK_LEN;
        n -= SPACE_MARK_LEN;
    }
    d->in_run = true;
    if (t->type[id] != PIECE_CONTROL)
        put_piece(d, p, n, out);
    return check_out(out, e);
}

int detok_finish(struct detok *d, struct buf *out, struct err *e)
{
    put_bytes(d, true, out);
    if (d->t->kind == TOKENIZER_INTERNLM2)
        cleanup_finish(&d->clean, out);
    else if (d->in_run && !d->run_out && d->any)
        buf_add(out, " ", 1);
    return check_out(out, e);
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *id, size_t n, struct buf *out,
                     struct err *e)
{
    struct detok d;
    int rc = 0;
    detok_init(&d, t);
    for (size_t i = 0; i < n; i++)
        TRY(detok_push(&d, id[i], out, e));
    TRY(detok_finish(&d, out, e));
fail:
    return rc;
}
