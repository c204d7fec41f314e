// SPDX-License-Identifier: MIT
// Golden cases of the tokenizers, the prompts and the sampler.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "chat/prompt.h"
#include "chat/sampler.h"
#include "golden_rows.h"
#include "text/tokenizer.h"
#include "text/wordpiece.h"

struct text_run {
    struct tokenizer *lm;
    struct wordpiece *bert;
    enum variant variant;
};

static bool open_lm(struct golden *g, struct text_run *r, bool internlm)
{
    char path[4400];
    struct err e;
    golden_path(g, internlm ? "tiny-internlm" : "tiny-hd", path, sizeof path);
    return tokenizer_open(path, internlm ? TOKENIZER_INTERNLM2 : TOKENIZER_MISTRAL, &r->lm, &e) ==
           0;
}

static bool same_ids(const struct ids *got, const js_value *want, char *why, size_t cap)
{
    size_t n;
    int32_t *v = golden_prompt_ids(want, &n);
    bool same = v && n == got->n && !memcmp(v, got->v, n * sizeof *v);
    if (!same)
        snprintf(why, cap, "%zu ids, expected %zu", got->n, n);
    free(v);
    return same;
}

static bool encode_row(void *user, const js_value *row, char *why, size_t cap)
{
    struct text_run *r = user;
    struct text_span span = {.special = true};
    struct ids ids = {0};
    struct err e;
    span.p = js_str(js_get(row, "text"), &span.n);
    int rc = r->bert ? wordpiece_encode(r->bert, &span, 1, &ids, &e)
                     : tokenizer_encode(r->lm, &span, 1, &ids, &e);
    bool same = rc == 0 && same_ids(&ids, js_get(row, "ids"), why, cap);
    ids_free(&ids);
    return same;
}

static bool decode_row(void *user, const js_value *row, char *why, size_t cap)
{
    struct text_run *r = user;
    struct buf text = {0};
    struct err e;
    size_t n, n_want;
    int32_t *ids = golden_ints(js_get(row, "ids"), &n);
    const char *want = js_str(js_get(row, "text"), &n_want);
    bool same = tokenizer_decode(r->lm, ids, n, &text, &e) == 0 && text.len == n_want &&
                (n_want == 0 || !memcmp(text.data, want, n_want));
    if (!same)
        snprintf(why, cap, "\"%s\", expected \"%s\"", text.data ? text.data : "", want);
    buf_free(&text);
    free(ids);
    return same;
}

static struct prompt_text text_of(const js_value *v)
{
    struct prompt_text t = {0};
    t.p = js_str(v, &t.n);
    return t;
}

static bool prompt_row(void *user, const js_value *row, char *why, size_t cap)
{
    struct text_run *r = user;
    struct prompt_turn turn[16];
    struct prompt p;
    struct buf text = {0};
    struct err e;
    uint64_t clips = 1;
    js_u64(js_get(row, "clips"), &clips);
    const js_value *history = js_get(row, "history");
    struct prompt_request q = {.tmpl = template_of(r->variant),
                               .media = strcmp(js_str(js_get(row, "media_type"), NULL), "image")
                                            ? PROMPT_VIDEO
                                            : PROMPT_IMAGE,
                               .n_clip = clips,
                               .n_query = 96,
                               .instruction = text_of(js_get(row, "instruction")),
                               .msg = text_of(js_get(row, "msg")),
                               .question = text_of(js_get(row, "prompt")),
                               .answer_prefix = text_of(js_get(row, "answer_prompt")),
                               .turn = turn,
                               .n_turn = js_size(history),
                               .allow_special = true};
    for (size_t i = 0; i < q.n_turn && i < 16; i++)
        turn[i] = (struct prompt_turn){.question = text_of(js_at(js_at(history, i), 0)),
                                       .answer = text_of(js_at(js_at(history, i), 1))};
    if (prompt_build(&p, r->lm, &q, &e) != 0) {
        snprintf(why, cap, "%s", e.msg);
        return false;
    }
    bool same = same_ids(&p.ids, js_get(row, "ids"), why, cap);
    if (same && (prompt_conversation(&q, &text, &e) != 0 ||
                 strcmp(text.data, js_str(js_get(row, "conversation"), NULL)) != 0)) {
        snprintf(why, cap, "the conversation string differs");
        same = false;
    }
    buf_free(&text);
    prompt_free(&p);
    return same;
}

static double config_num(const js_value *c, const char *key, double fallback)
{
    double x;
    return js_num(js_get(c, key), &x) ? x : fallback;
}

// Probabilities of every row of logits under one configuration.
static void warp_config(struct golden *g, const js_value *c, const js_value *entry,
                        const struct npy *logits)
{
    static const int32_t eos[] = {2};
    const js_value *config = js_get(entry, "config"), *previous = golden_value(c, "previous_ids");
    const char *name = js_str(js_get(entry, "array"), NULL);
    size_t n_vocab = logits->dim[1], min_keep = (size_t)config_num(config, "min_tokens_to_keep", 1);
    struct sampler_options o = sampler_options_default();
    struct sampler s;
    struct npy want;
    struct err e;
    double max_abs;
    o.do_sample = true;
    o.top_p = config_num(config, "top_p", 1);
    o.top_k = (int)config_num(config, "top_k", 0);
    o.temperature = config_num(config, "temperature", 1);
    o.repetition_penalty = config_num(config, "repetition_penalty", 1);
    if (!golden_array(g, c, name, &want, &max_abs, NULL) || want.n != logits->n) {
        report_result(g, golden_id(c), name, false, "the stored probabilities cannot be read");
        return;
    }
    if (sampler_init(&s, &o, n_vocab, eos, 1, &e) != 0) {
        report_result(g, golden_id(c), name, false, "%s", e.msg);
        npy_free(&want);
        return;
    }
    float *got = malloc(logits->n * sizeof *got);
    memcpy(got, logits->f32, logits->n * sizeof *got);
    for (size_t r = 0; r < logits->dim[0]; r++) {
        float *row = got + r * n_vocab;
        size_t n;
        int32_t *ids = golden_ints(js_at(previous, r), &n);
        sampler_process(&s, row, ids, n);
        sampler_warp(&s, row, min_keep);
        double max = -INFINITY, sum = 0;
        for (size_t i = 0; i < n_vocab; i++)
            max = fmax(max, row[i]);
        for (size_t i = 0; i < n_vocab; i++)
            sum += exp(row[i] - max);
        for (size_t i = 0; i < n_vocab; i++)
            row[i] = (float)(exp(row[i] - max) / sum);
        free(ids);
    }
    report_distance(g, golden_id(c), name, golden_distance(got, want.f32, want.n), max_abs, -1);
    free(got);
    sampler_free(&s);
    npy_free(&want);
}

static void sampling_case(struct golden *g, const js_value *c)
{
    struct npy logits;
    const js_value *configs = golden_value(c, "configs");
    if (!golden_array(g, c, "logits", &logits, NULL, NULL) || js_size(configs) == 0) {
        report_result(g, golden_id(c), "logits", false, "the stored logits cannot be read");
        return;
    }
    for (size_t i = 0; i < js_size(configs); i++)
        warp_config(g, c, js_at(configs, i), &logits);
    npy_free(&logits);
}

bool text_case(struct golden *g, const js_value *c)
{
    const char *id = golden_id(c);
    struct text_run r = {0};
    char path[4400];
    struct err e;
    if (!strncmp(id, "sampling/", 9)) {
        sampling_case(g, c);
        return true;
    }
    bool prompt = !strncmp(id, "prompt/", 7), internlm = strstr(id, "internlm") != NULL;
    if (!prompt && strncmp(id, "tokenizer/", 10) != 0)
        return false;
    r.variant = internlm ? VARIANT_INTERNLM : strstr(id, "8b") ? VARIANT_8B : VARIANT_HD;
    bool open = !strcmp(id, "tokenizer/bert_encode")
                    ? wordpiece_open(golden_path(g, "tiny-hd", path, sizeof path), &r.bert, &e) == 0
                    : open_lm(g, &r, internlm);
    if (!open)
        report_result(g, id, "open", false, "tokenizer");
    else
        compare_rows(g, c,
                     prompt                 ? prompt_row
                     : strstr(id, "decode") ? decode_row
                                            : encode_row,
                     &r);
    tokenizer_close(r.lm);
    wordpiece_close(r.bert);
    return true;
}
