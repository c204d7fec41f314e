// SPDX-License-Identifier: MIT
// Finds the vision file of a language file and makes tokenizers from both files' values.
//
//   ivchat.tokenizer.merges                       pairs of ids, when merging by score would not be the same
//   tokenizer.ggml.tokens, .scores, .token_type   as llama.cpp's converter writes them for SentencePiece
//   ivchat.qformer.vocabulary                     the bytes of BERT's vocab.txt
//
// Easy to get wrong: that converter spells InternLM2's piece U+0000 as a dragon and turns its unused pieces
// from "user-defined", which text may become, into "unused", which it may not: both are taken back, so
// that ids are those of the checkpoint. Arrays must agree in length before they are walked together.
#include "engine/gguf_pair.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

static const char MMPROJ[] = "mmproj-";

static bool is_gguf_name(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".gguf") == 0;
}

static bool is_vision_name(const char *name)
{
    return strncmp(name, MMPROJ, strlen(MMPROJ)) == 0 && is_gguf_name(name);
}

// The only mmproj-*.gguf of folder; *out stays empty without one.
static int find_only(const char *folder, struct buf *out, struct err *e)
{
    int rc = 0;
    struct dirent *d;
    DIR *dir = opendir(folder);
    if (!dir)
        return 0;
    while (rc == 0 && (d = readdir(dir)) != NULL) {
        if (!is_vision_name(d->d_name))
            continue;
        if (out->len > 0)
            rc = err_set(e, ERR_MODEL,
                         "%s: several mmproj-*.gguf and none named after the language file: "
                         "choose one with --mmproj",
                         folder);
        else if (!buf_printf(out, "%s/%s", folder, d->d_name))
            rc = err_set(e, ERR_LIMIT, "%s: out of memory", folder);
    }
    closedir(dir);
    return rc;
}

int gguf_pair_find(const char *path, const char *named, char **vision, struct err *e)
{
    int rc = 0;
    struct buf found = {0}, folder = {0};
    const char *slash = strrchr(path, '/');
    *vision = NULL;
    if (named) {
        buf_add_str(&found, named);
    } else {
        int n = slash ? (int)(slash - path) : 0;
        buf_printf(&folder, "%.*s", slash ? (n ? n : 1) : 1, slash ? path : ".");
        buf_printf(&found, "%s/%s%s", folder.data ? folder.data : "", MMPROJ,
                   slash ? slash + 1 : path);
        if (!found.failed && access(found.data, F_OK) != 0) {
            buf_reset(&found);
            if (!folder.failed)
                TRY(find_only(folder.data, &found, e));
        }
    }
    if (found.failed || folder.failed)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", path));
    if (found.len > 0 && !(*vision = buf_take(&found)))
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", path));
fail:
    buf_free(&found);
    buf_free(&folder);
    return rc;
}

void gguf_pair_suggest(const char *folder, char **path)
{
    struct buf found = {0};
    struct dirent *d;
    DIR *dir = opendir(folder);
    *path = NULL;
    while (dir && found.len == 0 && (d = readdir(dir)) != NULL)
        if (is_gguf_name(d->d_name) && !is_vision_name(d->d_name))
            buf_printf(&found, "%s/%s", folder, d->d_name);
    if (dir)
        closedir(dir);
    if (found.len > 0)
        *path = buf_take(&found);
    buf_free(&found);
}

// ---- tokenizers

// What the checkpoint's piece was.
static void take_back(struct tokenizer_piece *p, enum tokenizer_kind kind)
{
    static const char dragon[] = "\xf0\x9f\x90\x89", unused[] = "[UNUSED";
    if (kind != TOKENIZER_INTERNLM2)
        return;
    if (p->type == PIECE_NORMAL && p->n == strlen(dragon) && memcmp(p->p, dragon, p->n) == 0) {
        p->p = "\0";
        p->n = 1;
    }
    if (p->type == PIECE_UNUSED && p->n > strlen(unused) &&
        memcmp(p->p, unused, strlen(unused)) == 0)
        p->type = PIECE_USER;
}

static int fill_pieces(const struct gguf_file *f, const struct gguf_value *tokens,
                       const struct gguf_value *scores, const struct gguf_value *types,
                       enum tokenizer_kind kind, struct tokenizer_piece *piece, struct err *e)
{
    const uint8_t *at = tokens->data;
    for (size_t i = 0; i < tokens->n; i++) {
        struct gguf_text t = gguf_next_text(&at);
        int32_t type;
        memcpy(&type, types->data + i * sizeof type, sizeof type);
        if (type < PIECE_NORMAL || type > PIECE_BYTE)
            return err_set(e, ERR_MODEL,
                           "%s: tokenizer.ggml.token_type[%zu] is %d, expected 1 to 6", f->path, i,
                           (int)type);
        piece[i] = (struct tokenizer_piece){.p = t.p, .n = t.n, .type = (enum piece_type)type};
        memcpy(&piece[i].score, scores->data + i * sizeof(float), sizeof(float));
        take_back(&piece[i], kind);
    }
    return 0;
}

static int language_tokenizer(const struct gguf_file *f, enum tokenizer_kind kind,
                              struct tokenizer **out, struct err *e)
{
    int rc;
    struct gguf_text model;
    const struct gguf_value *tokens, *scores, *types, *merges;
    struct tokenizer_piece *piece = NULL;
    TRY(gguf_get_text(f, "tokenizer.ggml.model", true, &model, e));
    if (!gguf_text_is(model, "llama"))
        TRY(err_set(e, ERR_MODEL,
                    "%s: tokenizer.ggml.model is \"%.*s\", only \"llama\" (SentencePiece) is "
                    "supported",
                    f->path, (int)(model.n < 60 ? model.n : 60), model.p));
    TRY(gguf_get_array(f, "tokenizer.ggml.tokens", true, GGUF_STRING, &tokens, e));
    TRY(gguf_get_array(f, "tokenizer.ggml.scores", true, GGUF_F32, &scores, e));
    TRY(gguf_get_array(f, "tokenizer.ggml.token_type", true, GGUF_I32, &types, e));
    if (scores->n != tokens->n || types->n != tokens->n)
        TRY(err_set(e, ERR_MODEL, "%s: tokenizer.ggml has %zu tokens, %zu scores and %zu types",
                    f->path, tokens->n, scores->n, types->n));
    piece = mem_calloc(tokens->n ? tokens->n : 1, sizeof *piece);
    if (!piece)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", f->path, tokens->n));
    TRY(fill_pieces(f, tokens, scores, types, kind, piece, e));
    TRY(gguf_get_array(f, "ivchat.tokenizer.merges", false, GGUF_I32, &merges, e));
    TRY(tokenizer_open_pieces(piece, tokens->n, f->path, kind, out, e));
    if (merges)
        TRY(tokenizer_set_merges(*out, (const int32_t *)(const void *)merges->data, merges->n / 2,
                                 f->path, e));
fail:
    mem_free(piece);
    return rc;
}

int gguf_pair_text(const struct gguf_file *language, const struct gguf_file *vision,
                   const struct model_config *c, struct tokenizer **tokenizer,
                   struct wordpiece **wordpiece, struct err *e)
{
    int rc;
    struct gguf_text words = {"", 0};
    enum tokenizer_kind kind =
        c->llm.kind == LLM_INTERNLM2 ? TOKENIZER_INTERNLM2 : TOKENIZER_MISTRAL;
    *tokenizer = NULL;
    *wordpiece = NULL;
    TRY(language_tokenizer(language, kind, tokenizer, e));
    if (!vision)
        return wordpiece_open(NULL, wordpiece, e);
    TRY(gguf_get_text(vision, "ivchat.qformer.vocabulary", true, &words, e));
    TRY(wordpiece_open_text(words.p, words.n, vision->path, wordpiece, e));
fail:
    return rc;
}
