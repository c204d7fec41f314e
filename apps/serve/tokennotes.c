// SPDX-License-Identifier: MIT
// log softmax of the logits in double, and the best few by insertion.
//
// Easy to get wrong: a token's text depends on what stands in front of it (a leading blank), so it is told as what it
// adds behind another token; the end-of-sequence token has no text and is not part of the answer.

#include "tokennotes.h"

#include <math.h>
#include <string.h>

#include "heap.h"

static double total(const float *logits, size_t n)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - most);
    return most + log(sum);
}

void tokennotes_add(struct tokennotes *t, int32_t id, const float *logits, size_t n_vocab)
{
    if (t->n_top < 0 || t->failed)
        return;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        struct tokennote *p = heap_realloc(t->note, cap, sizeof *p);
        if (!p) {
            t->failed = true;
            return;
        }
        t->note = p;
        t->cap = cap;
    }
    struct tokennote *note = &t->note[t->n++];
    double sum = total(logits, n_vocab);
    int n = 0;
    note->id[0] = id;
    note->logprob[0] = (double)logits[id] - sum;
    for (size_t i = 0; i < n_vocab && t->n_top > 0; i++) {
        double lp = (double)logits[i] - sum;
        if (n == t->n_top && !(lp > note->logprob[n]))
            continue;
        int at = n < t->n_top ? ++n : n;
        for (; at > 1 && lp > note->logprob[at - 1]; at--) {
            note->id[at] = note->id[at - 1];
            note->logprob[at] = note->logprob[at - 1];
        }
        note->id[at] = (int32_t)i;
        note->logprob[at] = lp;
    }
    for (int i = n + 1; i <= t->n_top; i++)
        note->id[i] = -1;
}

// What the token adds behind another one. *text is to be freed with iv_free; *from is where it begins.
static bool text_of(const iv_engine *engine, int32_t id, char **text, size_t *from, size_t *n)
{
    int32_t *anchor = NULL;
    size_t n_anchor, n_alone;
    char *alone = NULL;
    *text = NULL;
    if (iv_tokenize(engine, IV_TOKENIZER_LM, "a", 1, false, &anchor, &n_anchor, NULL) != IV_OK)
        return false;
    int32_t pair[2] = {n_anchor ? anchor[n_anchor - 1] : id, id};
    bool ok = iv_detokenize(engine, IV_TOKENIZER_LM, pair, 1, &alone, &n_alone, NULL) == IV_OK &&
              iv_detokenize(engine, IV_TOKENIZER_LM, pair, 2, text, n, NULL) == IV_OK &&
              *n >= n_alone && memcmp(alone, *text, n_alone) == 0;
    *from = ok ? n_alone : 0;
    iv_free(alone);
    iv_free(anchor);
    return ok;
}

static void members(const iv_engine *engine, int32_t id, double logprob, struct json_writer *w)
{
    char *text;
    size_t from, n;
    if (!text_of(engine, id, &text, &from, &n)) {
        iv_free(text);
        text = NULL;
        from = n = 0;
    }
    jw_text_n(w, "token", text ? text + from : "", n - from);
    jw_real(w, "logprob", logprob > -9999 ? logprob : -9999);
    jw_array(w, "bytes");
    for (size_t i = from; i < n; i++)
        jw_int(w, NULL, (unsigned char)text[i]);
    jw_end(w);
    iv_free(text);
}

static bool has_text(const iv_engine *engine, int32_t id)
{
    char *text;
    size_t from, n;
    bool has = text_of(engine, id, &text, &from, &n) && n > from;
    iv_free(text);
    return has;
}

void tokennotes_json(struct tokennotes *t, const iv_engine *engine, struct json_writer *w)
{
    if (t->n_top < 0) {
        jw_null(w, "logprobs");
        return;
    }
    jw_object(w, "logprobs");
    jw_array(w, "content");
    for (; t->told < t->n; t->told++) {
        const struct tokennote *note = &t->note[t->told];
        if (!has_text(engine, note->id[0]))
            continue;
        jw_object(w, NULL);
        members(engine, note->id[0], note->logprob[0], w);
        jw_array(w, "top_logprobs");
        for (int i = 1; i <= t->n_top && note->id[i] >= 0; i++) {
            jw_object(w, NULL);
            members(engine, note->id[i], note->logprob[i], w);
            jw_end(w);
        }
        jw_end(w);
        jw_end(w);
    }
    jw_end(w);
    jw_null(w, "refusal");
    jw_end(w);
}

void tokennotes_free(struct tokennotes *t)
{
    heap_free(t->note);
    *t = (struct tokennotes){.n_top = t->n_top};
}
