// SPDX-License-Identifier: MIT
// iv_tokenize and iv_detokenize: the model's two tokenizers, outside of any conversation.

#include "base/buf.h"
#include "engine/engine.h"
#include "text/ids.h"

int iv_tokenize(const iv_engine *g, enum iv_tokenizer kind, const char *text, size_t n,
                bool allow_special, int32_t **ids, size_t *n_id, struct iv_error *error)
{
    struct err e = {0};
    struct hooks hooks = callback_hooks(&g->callbacks);
    struct ids out = {.hooks = &hooks};
    struct text_span span = {text, n, allow_special};
    *ids = NULL;
    *n_id = 0;
    int rc = kind == IV_TOKENIZER_BERT ? wordpiece_encode(g->wordpiece, &span, 1, &out, &e)
                                       : tokenizer_encode(g->tokenizer, &span, 1, &out, &e);
    if (rc != 0) {
        ids_free(&out);
        return status_out(rc, &e, error);
    }
    *ids = out.v;
    *n_id = out.n;
    return IV_OK;
}

int iv_detokenize(const iv_engine *g, enum iv_tokenizer kind, const int32_t *ids, size_t n_id,
                  char **text, size_t *n, struct iv_error *error)
{
    struct err e = {0};
    struct buf out = {0};
    *text = NULL;
    *n = 0;
    int rc = kind == IV_TOKENIZER_BERT ? wordpiece_decode(g->wordpiece, ids, n_id, &out, &e)
                                       : tokenizer_decode(g->tokenizer, ids, n_id, &out, &e);
    if (rc == 0) {
        *n = out.len;
        *text = buf_take(&out);
        if (!*text)
            rc = err_set(&e, ERR_LIMIT, "out of memory for the text");
    }
    buf_free(&out);
    return status_out(rc, &e, error);
}
