// SPDX-License-Identifier: MIT
// From a list of pieces to a struct tokenizer: names, types, byte pieces, ranks, control tokens.
//   added tokens rename or extend the pieces -> vocabulary -> tries -> ranks by score -> named ids.
// Source: SPEC 6.5, 6.7; the numbers of the piece types are SentencePiece's.
//
// Easy to get wrong: an added token may have another name in tokenizer.model ("<|im_end|>" is
// "[UNUSED_TOKEN_145]" there, a user-defined piece that plain text could contain). Both names lead to
// the id, and both only where special strings are allowed. Byte pieces are parsed strictly: a vocabulary
// with "<0x-1>" has indexed tables elsewhere.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

// What InternLM2's own configuration names; used where no configuration says it.
static const struct {
    const char *piece, *name;
} internlm2_added[] = {
    {"[UNUSED_TOKEN_141]", "<|plugin|>"},     {"[UNUSED_TOKEN_142]", "<|interpreter|>"},
    {"[UNUSED_TOKEN_143]", "<|action_end|>"}, {"[UNUSED_TOKEN_144]", "<|action_start|>"},
    {"[UNUSED_TOKEN_145]", "<|im_end|>"},     {"[UNUSED_TOKEN_146]", "<|im_start|>"},
};

// Value 0..255 of a string of the exact form <0xHH> (upper-case digits), else -1.
static int byte_value(const char *p, size_t n)
{
    static const char digit[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>' || !p[3] || !p[4])
        return -1;
    const char *hi = strchr(digit, p[3]), *lo = strchr(digit, p[4]);
    return hi && lo ? (int)((hi - digit) * 16 + (lo - digit)) : -1;
}

bool tokenizer_is_ordinary(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && t->type[id] == PIECE_NORMAL && !t->added[id];
}

static const char *default_name(const struct tokenizer_source *src, size_t i, size_t *n)
{
    const struct tokenizer_piece *q = &src->piece[i];
    if (q->type == PIECE_CONTROL || q->type == PIECE_UNKNOWN ||
        (q->type == PIECE_USER && src->kind == TOKENIZER_MISTRAL)) {
        *n = q->n;
        return q->p;
    }
    if (src->kind == TOKENIZER_INTERNLM2 && q->type == PIECE_USER)
        for (size_t k = 0; k < sizeof internlm2_added / sizeof *internlm2_added; k++)
            if (q->n == strlen(internlm2_added[k].piece) &&
                memcmp(q->p, internlm2_added[k].piece, q->n) == 0) {
                *n = strlen(internlm2_added[k].name);
                return internlm2_added[k].name;
            }
    return NULL;
}

// The added tokens by id, either the source's own or the default ones; *made = to be freed.
static int list_added(const struct tokenizer_source *src, struct added_token **list, size_t *n,
                      struct added_token **made, struct err *e)
{
    *made = NULL;
    *list = src->added;
    *n = src->n_added;
    if (src->added)
        return 0;
    struct added_token *a = mem_calloc(src->n_piece, sizeof *a);
    if (!a)
        return err_set(e, ERR_LIMIT, "%s: out of memory", src->name);
    *n = 0;
    for (size_t i = 0; i < src->n_piece; i++) {
        size_t len;
        const char *p = default_name(src, i, &len);
        if (p)
            a[(*n)++] = (struct added_token){.p = p, .n = len, .id = i};
    }
    *list = *made = a;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct added_token *)a)->id, y = ((const struct added_token *)b)->id;
    return x < y ? -1 : x > y;
}

// Added tokens take the place of pieces or follow them without a hole.
static int check_added(const struct tokenizer_source *src, struct added_token *a, size_t n,
                       size_t *n_total, struct err *e)
{
    *n_total = src->n_piece;
    if (n)
        qsort(a, n, sizeof *a, by_id);
    for (size_t i = 0; i < n; i++) {
        unsigned long long id = a[i].id;
        if (i && id == a[i - 1].id)
            return err_set(e, ERR_MODEL, "%s: two added tokens have id %llu", src->name, id);
        if (a[i].id > *n_total)
            return err_set(e, ERR_MODEL, "%s: added token id %llu, but ids end at %zu", src->name,
                           id, *n_total);
        *n_total += a[i].id == *n_total;
    }
    return 0;
}

static int add_literal(struct trie *trie, const char *p, size_t n, int32_t id, struct err *e)
{
    char text[VOCAB_PIECE_MAX * SPACE_MARK_LEN];
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] == ' ') {
            memcpy(text + k, SPACE_MARK, SPACE_MARK_LEN);
            k += SPACE_MARK_LEN;
        } else {
            text[k++] = p[i];
        }
    return trie_add(trie, text, k, id, e);
}

// User-defined pieces match under the name they have in the file, also where an added token renames them.
static int add_user(struct tokenizer *t, const struct tokenizer_piece *q, size_t id,
                    const char *name, struct err *e)
{
    if (q->n == 0 || q->n > VOCAB_PIECE_MAX || !utf8_valid(q->p, q->n))
        return err_set(e, ERR_MODEL, "%s: user-defined piece %zu: %zu bytes, not 1 to %d of UTF-8",
                       name, id, q->n, VOCAB_PIECE_MAX);
    return trie_add(t->added[id] ? &t->user_added_trie : &t->user_trie, q->p, q->n, (int32_t)id, e);
}

static int fill_vocab(struct tokenizer *t, const struct tokenizer_source *src,
                      const struct added_token *a, size_t n_added, size_t n_total, struct err *e)
{
    size_t bytes = 0, k = 0;
    int rc = 0;
    for (size_t i = 0; i < src->n_piece; i++)
        if (!add_size(bytes, src->piece[i].n, &bytes))
            return err_set(e, ERR_MODEL, "%s: pieces too long", src->name);
    for (size_t i = 0; i < n_added; i++)
        if (!add_size(bytes, a[i].n, &bytes))
            return err_set(e, ERR_MODEL, "%s: added tokens too long", src->name);
    TRY(vocab_init(&t->vocab, n_total, bytes, src->name, e));
    t->type = mem_calloc(n_total, sizeof *t->type);
    t->added = mem_calloc(n_total, sizeof *t->added);
    t->byte = mem_calloc(n_total, sizeof *t->byte);
    t->rank = mem_calloc(n_total, sizeof *t->rank);
    if (!t->type || !t->added || !t->byte || !t->rank) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", src->name, n_total);
        goto fail;
    }
    for (size_t i = 0; i < n_total; i++) {
        const struct tokenizer_piece *q = i < src->n_piece ? &src->piece[i] : NULL;
        bool is_added = k < n_added && a[k].id == i;
        const char *p = is_added ? a[k].p : q->p;
        size_t n = is_added ? a[k].n : q->n;
        k += is_added;
        if (!utf8_valid(p, n)) {
            rc = err_set(e, ERR_MODEL, "%s: piece %zu is not valid UTF-8", src->name, i);
            goto fail;
        }
        TRY(vocab_add(&t->vocab, p, n, src->name, e));
        t->type[i] = q ? (uint8_t)q->type : PIECE_CONTROL;
        if (n == 1 && *p == 0) // SentencePiece (0.2.3) leaves U+0000 to the byte pieces
            t->type[i] = PIECE_UNUSED;
        t->added[i] = is_added;
        t->byte[i] = -1;
        t->rank[i] = RANK_NONE;
        if (is_added)
            TRY(add_literal(&t->added_trie, p, n, (int32_t)i, e));
        if (q && q->type == PIECE_USER)
            TRY(add_user(t, q, i, src->name, e));
    }
fail:
    return rc;
}

static int find_bytes(struct tokenizer *t, const char *name, struct err *e)
{
    for (size_t b = 0; b < 256; b++)
        t->byte_id[b] = -1;
    for (size_t i = 0; i < t->vocab.n; i++) {
        size_t n;
        const char *p = vocab_piece(&t->vocab, i, &n);
        if (t->type[i] != PIECE_BYTE)
            continue;
        int value = byte_value(p, n);
        if (value < 0)
            return err_set(e, ERR_MODEL, "%s: byte piece %zu is \"%.*s\", not <0x00> to <0xFF>",
                           name, i, piece_shown(p, n), p);
        t->byte[i] = (int16_t)value;
        t->byte_id[value] = (int32_t)i; // names are unique, so this is the only one
    }
    for (unsigned b = 0; b < 256; b++)
        if (t->byte_id[b] < 0)
            return err_set(e, ERR_MODEL, "%s: byte piece <0x%02X> is missing", name, b);
    return 0;
}

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int rank_by_score(struct tokenizer *t, const struct tokenizer_source *src, struct err *e)
{
    struct scored *s = mem_calloc(src->n_piece, sizeof *s);
    int rc = 0;
    if (!s)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu scores", src->name, src->n_piece);
    for (size_t i = 0; i < src->n_piece; i++) {
        s[i] = (struct scored){.score = src->piece[i].score, .id = (int32_t)i};
        if (!isfinite(s[i].score)) {
            rc = err_set(e, ERR_MODEL, "%s: the score of piece %zu is not a finite number",
                         src->name, i);
            goto fail;
        }
    }
    qsort(s, src->n_piece, sizeof *s, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < src->n_piece; i++) {
        rank += i && s[i].score != s[i - 1].score;
        if (tokenizer_is_ordinary(t, s[i].id))
            t->rank[s[i].id] = rank;
    }
fail:
    mem_free(s);
    return rc;
}

static int find_named(struct tokenizer *t, const char *piece, const char *name, int32_t *id,
                      struct err *e)
{
    *id = vocab_find(&t->vocab, piece, strlen(piece));
    if (*id < 0)
        return err_set(e, ERR_MODEL, "%s: there is no %s", name, piece);
    t->added[*id] = true;
    return trie_add(&t->added_trie, piece, strlen(piece), *id, e);
}

int tokenizer_build(const struct tokenizer_source *src, struct tokenizer **out, struct err *e)
{
    struct added_token *added, *made = NULL;
    size_t n_added, n_total;
    int rc = 0;
    *out = NULL;
    struct tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_LIMIT, "%s: out of memory", src->name);
    t->kind = src->kind;
    TRY(list_added(src, &added, &n_added, &made, e));
    TRY(check_added(src, added, n_added, &n_total, e));
    TRY(fill_vocab(t, src, added, n_added, n_total, e));
    TRY(find_bytes(t, src->name, e));
    TRY(find_named(t, "<unk>", src->name, &t->unk, e));
    TRY(find_named(t, "<s>", src->name, &t->bos, e));
    TRY(find_named(t, "</s>", src->name, &t->eos[t->n_eos++], e));
    if (t->kind == TOKENIZER_INTERNLM2)
        TRY(find_named(t, "<|im_end|>", src->name, &t->eos[t->n_eos++], e));
    t->space_id = vocab_find(&t->vocab, SPACE_MARK, SPACE_MARK_LEN);
    TRY(rank_by_score(t, src, e));
    mem_free(made);
    *out = t;
    return 0;
fail:
    mem_free(made);
    tokenizer_close(t);
    return rc;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    vocab_free(&t->vocab);
    mem_free(t->type);
    mem_free(t->added);
    mem_free(t->byte);
    mem_free(t->rank);
    mem_free(t->merge);
    trie_free(&t->added_trie);
    trie_free(&t->user_trie);
    trie_free(&t->user_added_trie);
    mem_free(t);
}

static size_t merge_slot(const struct tokenizer *t, int32_t left, int32_t right)
{
    uint64_t k = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(k ^ k >> 32) & (t->n_merge_slot - 1);
}

const struct merge *tokenizer_merge(const struct tokenizer *t, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return NULL;
    size_t i = merge_slot(t, left, right);
    for (; t->merge[i].left >= 0; i = (i + 1) & (t->n_merge_slot - 1))
        if (t->merge[i].left == left && t->merge[i].right == right)
            return &t->merge[i];
    return NULL;
}

int tokenizer_merges_init(struct tokenizer *t, size_t n, const char *name, struct err *e)
{
    t->n_merge_slot = 16;
    while (t->n_merge_slot < 2 * n)
        t->n_merge_slot *= 2;
    t->merge = mem_calloc(t->n_merge_slot, sizeof *t->merge);
    if (!t->merge)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu merges", name, n);
    for (size_t i = 0; i < t->n_merge_slot; i++)
        t->merge[i].left = -1;
    return 0;
}

int tokenizer_merges_add(struct tokenizer *t, int32_t left, int32_t right, int32_t id,
                         uint32_t rank, const char *name, struct err *e)
{
    enum { PROBE_MAX = 1024 };
    size_t i = merge_slot(t, left, right);
    for (size_t k = 0; t->merge[i].left >= 0; i = (i + 1) & (t->n_merge_slot - 1), k++) {
        if (t->merge[i].left == left && t->merge[i].right == right)
            return err_set(e, ERR_MODEL, "%s: merge %u repeats merge %u", name, (unsigned)rank,
                           (unsigned)t->merge[i].rank);
        if (k == PROBE_MAX)
            return err_set(e, ERR_MODEL, "%s: more than %d merges collide at merge %u", name,
                           PROBE_MAX, (unsigned)rank);
    }
    t->merge[i] = (struct merge){.left = left, .right = right, .id = id, .rank = rank};
    return 0;
}
