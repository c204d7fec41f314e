// SPDX-License-Identifier: MIT
// tokenizer.json (Hugging Face) of a SentencePiece-BPE model: model.vocab, model.merges, added_tokens.
//   {"added_tokens":[{"id":3,"content":"[INST]",...}...],
//    "model":{"type":"BPE","byte_fallback":true,"vocab":{"<unk>":0,...},"merges":["a b",...]}}
// A merge is "left right" or ["left","right"]; its place in the list is its rank, and the rank (not the
// id) decides: the pieces made of spaces come last (SPEC 6.5).
//
// The normaliser, pre-tokeniser, post-processor and decoder of the file describe the fast tokenizer; the
// release uses the slow one, so they are not read. Also here: the added tokens of tokenizer_config.json.
// Easy to get wrong: a merge must lead to a piece, and never to or from a control or byte piece.
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "text/tokenizer_parts.h"

enum { MERGE_COUNT_MAX = 4 << 20 };

// Reads one entry of an added-token list; refuses options that the releases do not use.
static int read_token(const js_value *v, uint64_t id, const char *name, struct added_token *out,
                      struct err *e)
{
    static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
    unsigned long long shown = id;
    *out = (struct added_token){.id = id};
    (void)js_bool(js_get(v, "special"), &out->special);
    out->p = js_str(js_get(v, "content"), &out->n);
    if (!out->p || out->n == 0)
        return err_set(e, ERR_MODEL, "%s: added token %llu has no content", name, shown);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const js_value *option = js_get(v, unsupported[i]);
        bool on = false;
        if (!js_is_null(option) && (!js_bool(option, &on) || on))
            return err_set(e, ERR_MODEL, "%s: added token %llu: %s is not supported", name, shown,
                           unsupported[i]);
    }
    return 0;
}

static bool parse_id(const char *s, size_t n, uint64_t *id)
{
    *id = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *id = *id * 10 + (uint64_t)(s[i] - '0');
    }
    return n >= 1 && n <= 9;
}

int tokenizer_config_added(const struct js_doc *config, const char *name, struct added_token **out,
                           size_t *n, struct err *e)
{
    const js_value *list = js_get(config->root, "added_tokens_decoder");
    struct added_token *a = NULL;
    int rc = 0;
    *out = NULL;
    *n = 0;
    if (js_size(list) == 0)
        return 0;
    a = mem_calloc(js_size(list), sizeof *a);
    if (!a)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu added tokens", name, js_size(list));
    for (void *it = js_iter(list); it; it = js_next(list, it)) {
        size_t len;
        uint64_t id;
        const char *key = js_iter_key(it, &len);
        if (!parse_id(key, len, &id)) {
            rc = err_set(e, ERR_MODEL, "%s: added_tokens_decoder: \"%.*s\" is no id", name,
                         piece_shown(key, len), key);
            goto fail;
        }
        TRY(read_token(js_iter_value(it), id, name, &a[*n], e));
        ++*n;
    }
    *out = a;
    return 0;
fail:
    mem_free(a);
    *n = 0;
    return rc;
}

static int read_added(const js_value *root, const char *name, struct added_token **out, size_t *n,
                      struct err *e)
{
    const js_value *list = js_get(root, "added_tokens");
    int rc = 0;
    *n = js_size(list);
    if (!js_is_array(list) || *n == 0)
        return err_set(e, ERR_MODEL, "%s: added_tokens is missing or empty", name);
    *out = mem_calloc(*n, sizeof **out);
    if (!*out)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu added tokens", name, *n);
    for (size_t i = 0; i < *n; i++) {
        uint64_t id;
        if (!js_u64(js_get(js_at(list, i), "id"), &id)) {
            rc =
                err_set(e, ERR_MODEL, "%s: added_tokens[%zu]: id is missing or no number", name, i);
            goto fail;
        }
        TRY(read_token(js_at(list, i), id, name, &(*out)[i], e));
    }
fail:
    return rc;
}

static int read_vocab(const js_value *model, const char *name, struct tokenizer_piece **out,
                      size_t *n, struct err *e)
{
    const js_value *vocab = js_get(model, "vocab");
    *n = js_size(vocab);
    if (!js_is_object(vocab) || *n == 0 || *n > VOCAB_COUNT_MAX)
        return err_set(e, ERR_MODEL, "%s: model.vocab has %zu pieces, 1 to %d are accepted", name,
                       *n, VOCAB_COUNT_MAX);
    struct tokenizer_piece *piece = *out = mem_calloc(*n, sizeof *piece);
    if (!piece)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", name, *n);
    for (void *it = js_iter(vocab); it; it = js_next(vocab, it)) {
        struct tokenizer_piece q = {.type = PIECE_NORMAL};
        uint64_t id;
        q.p = js_iter_key(it, &q.n);
        int shown = piece_shown(q.p, q.n);
        if (!js_u64(js_iter_value(it), &id) || id >= *n)
            return err_set(e, ERR_MODEL, "%s: piece \"%.*s\": the id is not a number below %zu",
                           name, shown, q.p, *n);
        if (piece[id].p)
            return err_set(e, ERR_MODEL, "%s: pieces \"%.*s\" and \"%.*s\" both have id %llu", name,
                           piece_shown(piece[id].p, piece[id].n), piece[id].p, shown, q.p,
                           (unsigned long long)id);
        if (q.n >= 4 && q.n <= 8 && memcmp(q.p, "<0x", 3) == 0 && q.p[q.n - 1] == '>')
            q.type = PIECE_BYTE; // a malformed one is refused later, by name
        piece[id] = q;
    }
    return 0;
}

// The two halves of a merge; false when it has another form.
static bool split_merge(const js_value *v, const char **left, size_t *n_left, const char **right,
                        size_t *n_right)
{
    if (js_is_array(v) && js_size(v) == 2) {
        *left = js_str(js_at(v, 0), n_left);
        *right = js_str(js_at(v, 1), n_right);
        return *left && *right;
    }
    size_t n;
    const char *s = js_str(v, &n), *space = s ? memchr(s, ' ', n) : NULL;
    if (!space)
        return false;
    *left = s;
    *n_left = (size_t)(space - s);
    *right = space + 1;
    *n_right = n - *n_left - 1;
    return true;
}

static int read_merges(struct tokenizer *t, const js_value *model, const char *name, struct err *e)
{
    const js_value *list = js_get(model, "merges");
    size_t n = js_size(list);
    int rc = 0;
    if (!js_is_array(list) || n > MERGE_COUNT_MAX)
        return err_set(e, ERR_MODEL, "%s: model.merges is no list of at most %d", name,
                       MERGE_COUNT_MAX);
    TRY(tokenizer_merges_init(t, n, name, e));
    for (size_t i = 0; i < n; i++) {
        const char *l, *r;
        size_t nl = 0, nr = 0;
        char joined[2 * VOCAB_PIECE_MAX];
        if (!split_merge(js_at(list, i), &l, &nl, &r, &nr)) {
            rc = err_set(e, ERR_MODEL, "%s: merge %zu is not a pair of pieces", name, i);
            goto fail;
        }
        int32_t left = vocab_find(&t->vocab, l, nl), right = vocab_find(&t->vocab, r, nr), id = -1;
        if (left >= 0 && right >= 0) { // so both are within VOCAB_PIECE_MAX
            memcpy(joined, l, nl);
            memcpy(joined + nl, r, nr);
            id = vocab_find(&t->vocab, joined, nl + nr);
        }
        if (!tokenizer_is_ordinary(t, left) || !tokenizer_is_ordinary(t, right) ||
            !tokenizer_is_ordinary(t, id)) {
            rc = err_set(
                e, ERR_MODEL,
                "%s: merge %zu, \"%.*s\" and \"%.*s\": a half or the whole is no ordinary piece",
                name, i, piece_shown(l, nl), l, piece_shown(r, nr), r);
            goto fail;
        }
        TRY(tokenizer_merges_add(t, left, right, id, (uint32_t)i, name, e));
    }
fail:
    return rc;
}

int tokenizer_set_merges(struct tokenizer *t, const int32_t *pair, size_t n, const char *name,
                         struct err *e)
{
    int rc;
    if (n > MERGE_COUNT_MAX)
        return err_set(e, ERR_MODEL, "%s: %zu merges, at most %d are accepted", name, n,
                       MERGE_COUNT_MAX);
    TRY(tokenizer_merges_init(t, n, name, e));
    for (size_t i = 0; i < n; i++) {
        int32_t half[2], id = -1; // pair may lie at any address
        memcpy(half, (const char *)pair + i * sizeof half, sizeof half);
        char joined[2 * VOCAB_PIECE_MAX];
        bool known = half[0] >= 0 && half[1] >= 0 && (size_t)half[0] < t->vocab.n &&
                     (size_t)half[1] < t->vocab.n;
        if (known) {
            size_t nl, nr;
            const char *l = vocab_piece(&t->vocab, (size_t)half[0], &nl);
            const char *r = vocab_piece(&t->vocab, (size_t)half[1], &nr);
            memcpy(joined, l, nl);
            memcpy(joined + nl, r, nr);
            id = vocab_find(&t->vocab, joined, nl + nr);
        }
        if (!known || !tokenizer_is_ordinary(t, half[0]) || !tokenizer_is_ordinary(t, half[1]) ||
            !tokenizer_is_ordinary(t, id))
            return err_set(e, ERR_MODEL,
                           "%s: merge %zu of %d and %d: a half or the whole is no ordinary piece",
                           name, i, (int)half[0], (int)half[1]);
        TRY(tokenizer_merges_add(t, half[0], half[1], id, (uint32_t)i, name, e));
    }
fail:
    return rc;
}

static int check_model(const js_value *model, const char *name, struct err *e)
{
    size_t n = 0;
    bool fallback = false;
    const char *type = js_str(js_get(model, "type"), &n);
    if (!type || n != 3 || memcmp(type, "BPE", 3) != 0)
        return err_set(e, ERR_MODEL, "%s: model.type is %s%.*s, only BPE is supported", name,
                       type ? "" : "missing", piece_shown(type, n), type ? type : "");
    if (!js_bool(js_get(model, "byte_fallback"), &fallback) || !fallback)
        return err_set(e, ERR_MODEL, "%s: model.byte_fallback is not true", name);
    return 0;
}

// Both lists of the file must agree; only tokenizer_config.json renames pieces.
static int check_names(const struct tokenizer_source *src, struct err *e)
{
    for (size_t i = 0; i < src->n_added; i++) {
        const struct added_token *a = &src->added[i];
        if (a->id >= src->n_piece)
            continue; // judged by tokenizer_build
        const struct tokenizer_piece *q = &src->piece[a->id];
        if (a->n != q->n || memcmp(a->p, q->p, a->n) != 0)
            return err_set(e, ERR_MODEL,
                           "%s: id %llu is \"%.*s\" in added_tokens, \"%.*s\" in model.vocab",
                           src->name, (unsigned long long)a->id, piece_shown(a->p, a->n), a->p,
                           piece_shown(q->p, q->n), q->p);
    }
    return 0;
}

int tokenizer_open_json(const char *json, size_t n, const char *name, struct tokenizer **out,
                        struct err *e)
{
    struct js_doc doc = {NULL};
    struct tokenizer_piece *piece = NULL;
    struct added_token *added = NULL;
    struct tokenizer_source src = {.name = name, .kind = TOKENIZER_MISTRAL};
    struct tokenizer *t = NULL;
    int rc;
    *out = NULL;
    TRY(js_parse(&doc, json, n, name, ERR_MODEL, e));
    const js_value *model = js_get(doc.root, "model");
    TRY(check_model(model, name, e));
    TRY(read_vocab(model, name, &piece, &src.n_piece, e));
    TRY(read_added(doc.root, name, &added, &src.n_added, e));
    src.piece = piece;
    src.added = added;
    TRY(check_names(&src, e));
    TRY(tokenizer_build(&src, &t, e));
    TRY(read_merges(t, model, name, e));
    *out = t;
    t = NULL;
fail:
    tokenizer_close(t);
    mem_free(piece);
    mem_free(added);
    js_free(&doc);
    return rc;
}
