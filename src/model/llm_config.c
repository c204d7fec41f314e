// SPDX-License-Identifier: MIT
// The language model's part of config.json: which base model, its sizes, LoRA.
//
//   model_config.llm         name, pretrained_llm_path, use_lora, lora_r, lora_alpha
//   model_config.llm_config  extension: the base model's own config.json (Hugging Face names)
//
// Without llm_config the sizes are those of the base model that `name` means. Source: SPEC 1.2, 2.4, 7.3,
// 8. Easy to get wrong: a head_dim that is not stated follows from hidden_size, not from the base model;
// rope_scaling null means none, absent means the base model's.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "model/config_parts.h"
#include "model/heads.h"

// What the base model's own config.json says.
struct llm_base {
    const char *name;       // in model_config.llm.name
    const char *model_type; // in llm_config
    struct llm_config c;
};

static const struct llm_base bases[] = {
    {"mistral_7b",
     "mistral",
     {.kind = LLM_MISTRAL,
      .d_model = 4096,
      .n_layer = 32,
      .n_head = 32,
      .n_kv = 8,
      .d_head = 128,
      .d_ffn = 14336,
      .n_vocab = 32768,
      .n_ctx_max = 32768,
      .rope_theta = 1e6,
      .eps = 1e-5f,
      .bos = 1,
      .eos = {2},
      .n_eos = 1,
      .lora_r = 16,
      .lora_alpha = 32.0f,
      .base_name = "mistralai/Mistral-7B-Instruct-v0.3"}},
    {"internlm2_5_7b",
     "internlm2",
     {.kind = LLM_INTERNLM2,
      .d_model = 4096,
      .n_layer = 32,
      .n_head = 32,
      .n_kv = 8,
      .d_head = 128,
      .d_ffn = 14336,
      .n_vocab = 92544,
      .n_ctx_max = 262144,
      .rope_theta = 5e7,
      .ntk_factor = 2.5,
      .ntk_from = 262144,
      .eps = 1e-5f,
      .bos = 1,
      .eos = {2, 92542},
      .n_eos = 2,
      .lora_r = 16,
      .lora_alpha = 32.0f,
      .base_name = "internlm/internlm2_5-7b-chat-1m"}},
};
enum { N_BASE = sizeof bases / sizeof bases[0] };

// Letters, digits: "InternLM2_5-7B" and "internlm2.5_7b" are one name.
static bool same_name(const char *a, const char *b)
{
    for (;; a++, b++) {
        while (*a && !isalnum((unsigned char)*a))
            a++;
        while (*b && !isalnum((unsigned char)*b))
            b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
            return false;
        if (!*a)
            return true;
    }
}

static int unknown_llm(const struct section *s, const char *key, bool by_type, struct err *e)
{
    char known[128] = "one of";
    for (size_t i = 0, n = strlen(known); i < N_BASE && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s %s", i ? "," : "",
                              by_type ? bases[i].model_type : bases[i].name);
    return section_bad(s, key, known, e);
}

// llm_config.model_type decides, else llm.name. Beside a type any name will do, except that of another
// base model.
static int llm_find_base(const struct section *llm, const struct section *s,
                         const struct llm_base **out, struct err *e)
{
    int rc;
    const char *type = NULL, *name = NULL;
    const struct llm_base *by_type = NULL, *by_name = NULL;
    *out = NULL;
    TRY(section_str(s, "model_type", &type, e));
    TRY(section_str(llm, "name", &name, e));
    for (size_t i = 0; i < N_BASE; i++) {
        if (type && strcmp(type, bases[i].model_type) == 0)
            by_type = &bases[i];
        if (name && same_name(name, bases[i].name))
            by_name = &bases[i];
    }
    if (type && !by_type)
        return unknown_llm(s, "model_type", true, e);
    if (!by_type && !by_name)
        return unknown_llm(llm, "name", false, e);
    if (by_type && by_name && by_type != by_name)
        return err_set(e, ERR_MODEL, "%s: %s.name is \"%s\" but %s.model_type is \"%s\"", s->file,
                       llm->path, name, s->path, type);
    *out = by_type ? by_type : by_name;
fail:
    return rc;
}

static int lora_parse(struct llm_config *c, const struct section *llm, struct err *e)
{
    int rc;
    bool use = true;
    size_t r = c->lora_r;
    double alpha = (double)c->lora_alpha;
    TRY(section_bool(llm, "use_lora", &use, e));
    if (use) {
        TRY(section_size(llm, "lora_r", 1, CONFIG_LORA_MAX, &r, e));
        TRY(section_num(llm, "lora_alpha", 0, 65536, &alpha, e));
    }
    c->lora_r = use ? (unsigned)r : 0;
    c->lora_alpha = use ? (float)alpha : 0.0f;
fail:
    return rc;
}

static int eos_parse(struct llm_config *c, const struct section *s, struct err *e)
{
    const js_value *v = js_get(s->o, "eos_token_id");
    bool many = js_is_array(v);
    size_t n = many ? js_size(v) : 1;
    char want[80];
    snprintf(want, sizeof want, "an id below vocab_size %zu or 1..%d such ids", c->n_vocab,
             CONFIG_MAX_EOS);
    if (js_is_null(v)) {
        for (size_t i = 0; i < c->n_eos; i++) {
            if ((size_t)c->eos[i] >= c->n_vocab)
                return err_set(e, ERR_MODEL,
                               "%s: %s: vocab_size %zu leaves no place for the end id %d", s->file,
                               s->path, c->n_vocab, (int)c->eos[i]);
        }
        return 0;
    }
    if (n < 1 || n > CONFIG_MAX_EOS)
        return section_bad(s, "eos_token_id", want, e);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        if (!js_u64(many ? js_at(v, i) : v, &id) || id >= c->n_vocab)
            return section_bad(s, "eos_token_id", want, e);
        c->eos[i] = (int32_t)id;
    }
    c->n_eos = n;
    return 0;
}

// rope_scaling: absent = the base model's, null = none.
static int rope_parse(struct llm_config *c, const struct section *s, struct err *e)
{
    int rc;
    struct section scaling;
    const char *type = "dynamic";
    TRY(section_num(s, "rope_theta", 1, 1e15, &c->rope_theta, e));
    TRY(section_open(s, "rope_scaling", "model_config.llm_config.rope_scaling", &scaling, e));
    if (js_get(s->o, "rope_scaling"))
        c->ntk_factor = 0;
    if (scaling.o) {
        TRY(section_str(&scaling, "type", &type, e));
        TRY(section_str(&scaling, "rope_type", &type, e));
        if (strcmp(type, "dynamic") != 0)
            return section_bad(&scaling, section_has(&scaling, "rope_type") ? "rope_type" : "type",
                               "\"dynamic\"", e);
        if (!section_has(&scaling, "factor"))
            return section_bad(&scaling, "factor", "a number", e);
        TRY(section_num(&scaling, "factor", 1, 1024, &c->ntk_factor, e));
    }
    c->ntk_from = c->ntk_factor > 0 ? c->n_ctx_max : 0;
fail:
    return rc;
}

static int llm_sizes(struct llm_config *c, const struct section *s, struct err *e)
{
    int rc;
    bool follows = (section_has(s, "hidden_size") || section_has(s, "num_attention_heads")) &&
                   !section_has(s, "head_dim");
    const struct heads_keys heads = {s->file,
                                     s->path,
                                     .width = "hidden_size",
                                     .n_head = "num_attention_heads",
                                     .n_kv = "num_key_value_heads",
                                     .d_head = "head_dim"};
    TRY(section_size(s, "hidden_size", 1, CONFIG_WIDTH_MAX, &c->d_model, e));
    TRY(section_size(s, "num_hidden_layers", 1, CONFIG_LAYER_MAX, &c->n_layer, e));
    TRY(section_size(s, "num_attention_heads", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    TRY(section_size(s, "num_key_value_heads", 1, CONFIG_HEAD_MAX, &c->n_kv, e));
    TRY(section_size(s, "intermediate_size", 1, CONFIG_FFN_MAX, &c->d_ffn, e));
    TRY(section_size(s, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->n_vocab, e));
    TRY(section_size(s, "max_position_embeddings", 1, CONFIG_CTX_MAX, &c->n_ctx_max, e));
    if (follows)
        TRY(heads_of_width(&heads, c->d_model, c->n_head, HEADS_ROTARY_LEAST, &c->d_head, e));
    TRY(section_size(s, "head_dim", 1, CONFIG_WIDTH_MAX, &c->d_head, e));
    TRY(heads_of_size(&heads, c->d_head, HEADS_ROTARY_LEAST, e));
    TRY(heads_of_groups(&heads, c->n_head, c->n_kv, c->d_head, CONFIG_WIDTH_MAX, e));
fail:
    return rc;
}

int llm_config_parse(struct llm_config *c, const struct section *llm, const struct section *s,
                     struct err *e)
{
    int rc;
    const struct llm_base *base;
    const char *base_name;
    size_t bos, window = CONFIG_CTX_MAX;
    TRY(llm_find_base(llm, s, &base, e));
    *c = base->c;
    base_name = c->base_name;
    TRY(section_str(llm, "pretrained_llm_path", &base_name, e));
    if (base_name != c->base_name)
        snprintf(c->base_name, sizeof c->base_name, "%s", base_name);
    TRY(lora_parse(c, llm, e));
    TRY(llm_sizes(c, s, e));
    TRY(rope_parse(c, s, e));
    TRY(section_eps(s, "rms_norm_eps", &c->eps, e));
    TRY(section_want_str(s, "hidden_act", "silu", e));
    TRY(section_want_bool(s, "tie_word_embeddings", false, e));
    TRY(section_want_bool(s, "bias", false, e));
    TRY(section_want_bool(s, "attention_bias", false, e));
    // a window no shorter than the context never hides anything
    TRY(section_size(s, "sliding_window", c->n_ctx_max, CONFIG_CTX_MAX, &window, e));
    bos = (size_t)c->bos;
    TRY(section_size(s, "bos_token_id", 0, c->n_vocab - 1, &bos, e));
    if (bos >= c->n_vocab) // the base model's
        return err_set(e, ERR_MODEL, "%s: %s: bos_token_id %zu is not below vocab_size %zu",
                       s->file, s->path, bos, c->n_vocab);
    c->bos = (int32_t)bos;
    TRY(eos_parse(c, s, e));
fail:
    return rc;
}
