// SPDX-License-Identifier: MIT
// Lists a vocabulary for a GGUF file by the rules of llama.cpp's converter: pieces, scores and types of
// tokenizer.model, then the added tokens of tokenizer_config.json in place of theirs (score -1000, control
// when special or of the form <|...|>, else user-defined); user-defined pieces of the model itself count
// as normal. InternLM2: U+0000 is spelt as a dragon, since C strings cannot hold it, and "[UNUSED..." pieces
// are unused.
//
// A directory with only a tokenizer.json has no scores: each piece gets minus the rank of its first merge, so
// that merging by score is merging by rank where the file came from SentencePiece; for other files, whose merges
// leave out some neighbours that make a piece, the merges are listed too.
// Easy to get wrong: an added token's name may be one the model spells otherwise, and it may lie behind the
// model's pieces.
#include "text/tokenizer_pieces.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"
#include "text/tokenizer_parts.h"

enum { FILE_MAX_BYTES = 32 << 20, PAD_NAME = 24 };

static int load(const char *dir, const char *file, char **text, size_t *n, struct err *e)
{
    int rc = 0;
    struct buf path = {0};
    *text = NULL;
    *n = 0;
    if (!buf_printf(&path, "%s/%s", dir, file))
        rc = err_set(e, ERR_LIMIT, "%s: out of memory", dir);
    else if (access(path.data, F_OK) == 0)
        rc = file_read(path.data, FILE_MAX_BYTES, ERR_MODEL, text, n, e);
    buf_free(&path);
    return rc;
}

static int flag_of(const js_value *root, const char *name)
{
    bool on;
    return js_bool(js_get(root, name), &on) ? on : -1;
}

static int grow(struct piece_list *l, size_t n_vocab, const char *dir, struct err *e)
{
    if (l->n > n_vocab)
        return err_set(e, ERR_MODEL, "%s: the tokenizer has %zu pieces, the model %zu rows", dir,
                       l->n, n_vocab);
    struct tokenizer_piece *more = mem_realloc(l->piece, n_vocab, sizeof *more);
    if (!more)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", dir, n_vocab);
    l->piece = more;
    l->made = mem_calloc(n_vocab - l->n + 1, PAD_NAME);
    if (!l->made)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", dir, n_vocab);
    for (char *to = l->made; l->n < n_vocab; l->n++, to += PAD_NAME) {
        int n = snprintf(to, PAD_NAME, "[PAD%zu]", l->n);
        l->piece[l->n] = (struct tokenizer_piece){to, (size_t)n, -10000.0f, PIECE_UNUSED};
    }
    return 0;
}

static bool starts(const struct tokenizer_piece *p, const char *with)
{
    return p->n >= strlen(with) && memcmp(p->p, with, strlen(with)) == 0;
}

static void respell(struct tokenizer_piece *p, enum tokenizer_kind kind)
{
    if (p->type == PIECE_USER)
        p->type = PIECE_NORMAL;
    if (kind != TOKENIZER_INTERNLM2)
        return;
    if (p->n == 1 && p->p[0] == 0) {
        p->p = "\xf0\x9f\x90\x89"; // U+1F409
        p->n = 4;
    }
    if (starts(p, "[UNUSED"))
        p->type = PIECE_UNUSED;
}

static bool looks_special(const struct added_token *a)
{
    return a->n >= 4 && memcmp(a->p, "<|", 2) == 0 && memcmp(a->p + a->n - 2, "|>", 2) == 0;
}

// The configuration's added tokens; those beyond the rows are left out.
static int put_added(struct piece_list *l, struct err *e)
{
    int rc;
    size_t n;
    struct added_token *a = NULL;
    TRY(tokenizer_config_added(&l->config, "tokenizer_config.json", &a, &n, e));
    for (size_t i = 0; i < n; i++) {
        if (a[i].id >= l->n)
            continue;
        bool control = a[i].special || looks_special(&a[i]);
        l->piece[a[i].id] = (struct tokenizer_piece){a[i].p, a[i].n, -1000.0f,
                                                     control ? PIECE_CONTROL : PIECE_USER};
    }
fail:
    mem_free(a);
    return rc;
}

static int from_model(struct piece_list *l, size_t n_bytes, const char *dir,
                      enum tokenizer_kind kind, size_t n_vocab, struct err *e)
{
    int rc;
    TRY(tokenizer_model_pieces(l->model, n_bytes, dir, kind, &l->piece, &l->n, e));
    for (size_t i = 0; i < l->n; i++)
        respell(&l->piece[i], kind);
    TRY(grow(l, n_vocab, dir, e));
    if (l->config_text)
        TRY(put_added(l, e));
fail:
    return rc;
}

static int list_merges(struct piece_list *l, const char *dir, struct err *e)
{
    const struct tokenizer *t = l->t;
    for (size_t i = 0; i < t->n_merge_slot; i++)
        l->n_merge += t->merge[i].left >= 0;
    l->merge = mem_calloc(max_size(l->n_merge, 1), 2 * sizeof *l->merge);
    if (!l->merge)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu merges", dir, l->n_merge);
    for (size_t i = 0; i < t->n_merge_slot; i++) {
        const struct merge *m = &t->merge[i];
        if (m->left < 0)
            continue;
        l->merge[2 * m->rank] = m->left; // ranks are 0 .. n_merge - 1
        l->merge[2 * m->rank + 1] = m->right;
    }
    return 0;
}

static int from_json(struct piece_list *l, const char *dir, enum tokenizer_kind kind,
                     size_t n_vocab, struct err *e)
{
    int rc;
    TRY(tokenizer_open(dir, kind, &l->t, e));
    const struct tokenizer *t = l->t;
    size_t n = t->vocab.n;
    l->piece = mem_calloc(n, sizeof *l->piece);
    if (!l->piece)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", dir, n));
    for (; l->n < n; l->n++) {
        struct tokenizer_piece *p = &l->piece[l->n];
        p->p = vocab_piece(&t->vocab, l->n, &p->n);
        p->type = t->added[l->n] ? PIECE_CONTROL : (enum piece_type)t->type[l->n];
        p->score = t->added[l->n]            ? -1000.0f
                   : p->type == PIECE_NORMAL ? -(float)(t->n_merge_slot + l->n)
                                             : 0.0f;
    }
    for (size_t i = 0; i < t->n_merge_slot; i++) {
        const struct merge *m = &t->merge[i];
        if (m->left >= 0 && -(float)m->rank > l->piece[m->id].score)
            l->piece[m->id].score = -(float)m->rank;
    }
    TRY(grow(l, n_vocab, dir, e));
    TRY(list_merges(l, dir, e));
fail:
    return rc;
}

static void read_config(struct piece_list *l)
{
    const js_value *root = l->config.root, *pad = js_get(root, "pad_token");
    size_t n = 0;
    const char *p = js_str(js_is_object(pad) ? js_get(pad, "content") : pad, &n);
    l->add_bos = flag_of(root, "add_bos_token");
    l->add_eos = flag_of(root, "add_eos_token");
    l->add_prefix = flag_of(root, "add_prefix_space");
    l->chat_template = js_str(js_get(root, "chat_template"), &l->n_chat_template);
    for (size_t i = 0; p && l->pad < 0 && i < l->n; i++)
        if (l->piece[i].n == n && memcmp(l->piece[i].p, p, n) == 0)
            l->pad = (int32_t)i;
}

int piece_list_open(struct piece_list *l, const char *dir, enum tokenizer_kind kind, size_t n_vocab,
                    struct err *e)
{
    int rc;
    size_t n_model, n_config;
    memset(l, 0, sizeof *l);
    l->pad = l->add_bos = l->add_eos = l->add_prefix = -1;
    TRY(load(dir, "tokenizer_config.json", &l->config_text, &n_config, e));
    if (l->config_text)
        TRY(js_parse_reals(&l->config, l->config_text, n_config, "tokenizer_config.json", ERR_MODEL,
                           e));
    TRY(load(dir, "tokenizer.model", &l->model, &n_model, e));
    if (l->model)
        TRY(from_model(l, n_model, dir, kind, n_vocab, e));
    else
        TRY(from_json(l, dir, kind, n_vocab, e));
    if (l->config_text)
        read_config(l);
    if (kind == TOKENIZER_INTERNLM2)
        l->add_prefix = 0;
fail:
    return rc;
}

void piece_list_free(struct piece_list *l)
{
    mem_free(l->piece);
    mem_free(l->model);
    mem_free(l->config_text);
    mem_free(l->made);
    mem_free(l->merge);
    js_free(&l->config);
    tokenizer_close(l->t);
    memset(l, 0, sizeof *l);
}
