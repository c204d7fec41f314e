// SPDX-License-Identifier: MIT
// BPE over a doubly linked list of symbols and a heap of possible joins.
//   symbols = characters; push every neighbouring pair that has a merge;
//   pop the best (lowest rank, then leftmost), join it, push the two new pairs; repeat.
// A popped join is stale when one of its symbols has changed since; symbols only ever grow or vanish, so
// comparing the byte lengths is enough. Characters without a piece become their UTF-8 bytes at the end.
// Source: SPEC 6.5 and 6.7. With a merge table (tokenizer.json) a pair of ids is looked up; without one
// (tokenizer.model) the joined bytes are, and equal scores have equal rank.
//
// Easy to get wrong: an unknown character has no id but still has bytes, and SentencePiece may join it by
// its bytes; the rank of a join belongs to its result, not to its position in the vocabulary.
#include "text/bpe.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

struct bpe_symbol {
    uint32_t at, len;    // bytes of the text; len 0 = joined into its left neighbour
    uint32_t prev, next; // symbol numbers, NONE at the ends
    int32_t id;          // -1 = no piece
};

struct bpe_join {
    uint64_t key; // rank << 32 | left symbol: the smallest is next
    uint32_t right, len;
    int32_t id;
};

static const uint32_t NONE = UINT32_MAX;

void bpe_free(struct bpe *w)
{
    mem_free(w->symbol);
    mem_free(w->join);
    memset(w, 0, sizeof *w);
}

static int heap_push(struct bpe *w, struct bpe_join j, struct err *e)
{
    if (w->n_join == w->join_cap) {
        size_t cap = max_size(64, w->join_cap * 2);
        struct bpe_join *p = mem_realloc(w->join, cap, sizeof *p);
        if (!p)
            return err_set(e, ERR_LIMIT, "tokenizer: out of memory for %zu joins", cap);
        w->join = p;
        w->join_cap = cap;
    }
    size_t i = w->n_join++;
    while (i && w->join[(i - 1) / 2].key > j.key) {
        w->join[i] = w->join[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->join[i] = j;
    return 0;
}

static struct bpe_join heap_pop(struct bpe *w)
{
    struct bpe_join top = w->join[0], last = w->join[--w->n_join];
    size_t i = 0, n = w->n_join;
    for (size_t c = 1; c < n; c = 2 * i + 1) {
        if (c + 1 < n && w->join[c + 1].key < w->join[c].key)
            c++;
        if (w->join[c].key >= last.key)
            break;
        w->join[i] = w->join[c];
        i = c;
    }
    w->join[i] = last;
    return top;
}

// Pushes the join of symbol `left` and its right neighbour if there is one.
static int try_join(struct bpe *w, const struct tokenizer *t, const char *p, uint32_t left,
                    struct err *e)
{
    const struct bpe_symbol *a = &w->symbol[left];
    if (a->next == NONE)
        return 0;
    const struct bpe_symbol *b = &w->symbol[a->next];
    uint32_t rank;
    int32_t id;
    if (t->merge) {
        const struct merge *m = tokenizer_merge(t, a->id, b->id);
        if (!m)
            return 0;
        rank = m->rank;
        id = m->id;
    } else {
        id = vocab_find(&t->vocab, p + a->at, (size_t)a->len + b->len);
        rank = id < 0 ? RANK_NONE : t->rank[id];
        if (rank == RANK_NONE)
            return 0;
    }
    return heap_push(
        w,
        (struct bpe_join){
            .key = (uint64_t)rank << 32 | left, .right = a->next, .len = a->len + b->len, .id = id},
        e);
}

static int split_characters(struct bpe *w, const struct tokenizer *t, const char *p, size_t n,
                            const struct ids *out, size_t *count, struct err *e)
{
    size_t n_char = 0;
    int rc = 0;
    *count = 0;
    for (size_t i = 0; i < n; i++)
        n_char += ((unsigned char)p[i] & 0xC0) != 0x80;
    if (n_char > w->symbol_cap) {
        struct bpe_symbol *s = mem_realloc(w->symbol, n_char, sizeof *s);
        if (!s)
            return err_set(e, ERR_LIMIT, "tokenizer: out of memory for %zu characters", n_char);
        w->symbol = s;
        w->symbol_cap = n_char;
    }
    uint32_t k = 0;
    for (size_t i = 0; i < n; k++) {
        uint32_t cp;
        TRY(ids_poll(out, k, e));
        int len = utf8_decode(p + i, n - i, &cp); // valid text: len > 0
        int32_t id = vocab_find(&t->vocab, p + i, (size_t)len);
        w->symbol[k] = (struct bpe_symbol){.at = (uint32_t)i,
                                           .len = (uint32_t)len,
                                           .prev = k ? k - 1 : NONE,
                                           .next = k + 1,
                                           .id = tokenizer_is_ordinary(t, id) ? id : -1};
        i += (size_t)len;
    }
    w->symbol[k - 1].next = NONE;
    *count = k;
fail:
    return rc;
}

int bpe_encode(struct bpe *w, const struct tokenizer *t, const char *p, size_t n, struct ids *out,
               struct err *e)
{
    size_t count;
    int rc = 0;
    TRY(split_characters(w, t, p, n, out, &count, e));
    w->n_join = 0;
    for (uint32_t i = 0; i + 1 < count; i++) {
        TRY(ids_poll(out, i, e));
        TRY(try_join(w, t, p, i, e));
    }
    for (size_t step = 0; w->n_join; step++) {
        TRY(ids_poll(out, step, e));
        struct bpe_join j = heap_pop(w);
        uint32_t left = (uint32_t)j.key; // the low half
        struct bpe_symbol *a = &w->symbol[left], *b = &w->symbol[j.right];
        if (!a->len || !b->len || a->len + b->len != j.len)
            continue;
        a->len = j.len;
        a->id = j.id;
        a->next = b->next;
        b->len = 0;
        if (a->next != NONE)
            w->symbol[a->next].prev = left;
        if (a->prev != NONE)
            TRY(try_join(w, t, p, a->prev, e));
        TRY(try_join(w, t, p, left, e));
    }
    for (uint32_t i = 0; i != NONE; i = w->symbol[i].next) {
        const struct bpe_symbol *s = &w->symbol[i];
        if (s->id >= 0) {
            TRY(ids_add(out, s->id, e));
            continue;
        }
        for (uint32_t k = 0; k < s->len; k++)
            TRY(ids_add(out, t->byte_id[(unsigned char)p[s->at + k]], e));
    }
fail:
    return rc;
}
