// SPDX-License-Identifier: MIT
// The configuration of a pair of GGUF files: the language file's keys are llama.cpp's, those of the vision
// file ours (docs/FORMATS.md).
//
// What llama.cpp has no key for stands in the language file under "ivchat.": the ids that end an answer and
// dynamic NTK. A file of somebody else's lacks them: then the one eos id counts, and no NTK.
// Easy to get wrong: a key's prefix is the architecture; head widths are only written when somebody wrote
// them; rope_scaling of another kind would be silently wrong positions, so it is refused.
#include <stdio.h>
#include <string.h>

#include "model/config_parts.h"
#include "model/gguf_names.h"
#include "model/heads.h"

enum { VOCAB_LEAST = 3 }; // ids 0, 1, 2: unknown, begin, end

struct keys {
    const struct gguf_file *f;
    const char *prefix;
    char name[96];
};

static const char *key(struct keys *k, const char *rest)
{
    snprintf(k->name, sizeof k->name, "%s.%s", k->prefix, rest);
    return k->name;
}

static int get_size(struct keys *k, const char *rest, size_t low, size_t high, size_t *out,
                    struct err *e)
{
    return gguf_get_size(k->f, key(k, rest), true, low, high, out, e);
}

static int get_eps(struct keys *k, const char *rest, float *out, struct err *e)
{
    double x = 0;
    int rc = gguf_get_real(k->f, key(k, rest), true, 1e-30, 0.1, &x, e);
    *out = (float)x;
    return rc;
}

int gguf_kind(const struct gguf_file *f, bool *vision, struct err *e)
{
    int rc;
    struct gguf_text arch = {"", 0};
    *vision = false;
    TRY(gguf_get_text(f, "general.architecture", true, &arch, e));
    *vision = gguf_text_is(arch, GGUF_VISION_ARCHITECTURE);
    if (*vision || gguf_text_is(arch, gguf_architecture(LLM_MISTRAL)) ||
        gguf_text_is(arch, gguf_architecture(LLM_INTERNLM2)))
        return 0;
    return err_set(
        e, ERR_MODEL,
        "%s: general.architecture is \"%.*s\", expected \"llama\", \"internlm2\" or, of a "
        "vision file, \"" GGUF_VISION_ARCHITECTURE "\"",
        f->path, (int)(arch.n < 60 ? arch.n : 60), arch.p);
fail:
    return rc;
}

// ---- language

static int refuse_scaling(struct keys *k, struct err *e)
{
    int rc;
    struct gguf_text type = {"none", 4};
    const struct gguf_value *v;
    TRY(gguf_get_text(k->f, key(k, "rope.scaling.type"), false, &type, e));
    if (!gguf_text_is(type, "none"))
        return err_set(e, ERR_MODEL, "%s: %s is \"%.*s\", only \"none\" is supported", k->f->path,
                       key(k, "rope.scaling.type"), (int)(type.n < 60 ? type.n : 60), type.p);
    v = gguf_find(k->f, key(k, "expert_count"));
    if (v) {
        size_t n = 0;
        TRY(gguf_get_size(k->f, key(k, "expert_count"), true, 0, 0, &n, e));
    }
    return 0;
fail:
    return rc;
}

static int heads(struct llm_config *c, struct keys *k, struct err *e)
{
    int rc;
    size_t rope, value;
    bool stated = gguf_find(k->f, key(k, "attention.key_length")) != NULL;
    const struct heads_keys names = {k->f->path,
                                     k->prefix,
                                     .width = "embedding_length",
                                     .n_head = "attention.head_count",
                                     .n_kv = "attention.head_count_kv",
                                     .d_head = "attention.key_length"};
    TRY(get_size(k, "attention.head_count", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    c->n_kv = c->n_head;
    TRY(gguf_get_size(k->f, key(k, "attention.head_count_kv"), false, 1, CONFIG_HEAD_MAX, &c->n_kv,
                      e));
    if (!stated)
        TRY(heads_of_width(&names, c->d_model, c->n_head, HEADS_ROTARY_LEAST, &c->d_head, e));
    TRY(gguf_get_size(k->f, key(k, "attention.key_length"), false, 1, CONFIG_WIDTH_MAX, &c->d_head,
                      e));
    TRY(heads_of_size(&names, c->d_head, HEADS_ROTARY_LEAST, e));
    TRY(heads_of_groups(&names, c->n_head, c->n_kv, c->d_head, CONFIG_WIDTH_MAX, e));
    rope = value = c->d_head;
    TRY(gguf_get_size(k->f, key(k, "attention.value_length"), false, c->d_head, c->d_head, &value,
                      e));
    TRY(gguf_get_size(k->f, key(k, "rope.dimension_count"), false, c->d_head, c->d_head, &rope, e));
fail:
    return rc;
}

static int end_ids(struct llm_config *c, const struct gguf_file *f, struct err *e)
{
    int rc;
    size_t id = (size_t)c->eos[0];
    const struct gguf_value *v;
    TRY(gguf_get_array(f, "ivchat.eos_token_ids", false, GGUF_I32, &v, e));
    if (!v) {
        if (c->kind == LLM_INTERNLM2) { // </s> and <|im_end|> both, as the release does
            c->eos[0] = 2;
            c->n_eos = 1;
        }
        TRY(gguf_get_size(f, "tokenizer.ggml.eos_token_id", false, 0, c->n_vocab - 1, &id, e));
        if (c->kind == LLM_INTERNLM2 && id != 2)
            c->eos[c->n_eos++] = (int32_t)id;
        else
            c->eos[0] = (int32_t)id;
        return 0;
    }
    if (v->n < 1 || v->n > CONFIG_MAX_EOS)
        return err_set(e, ERR_MODEL, "%s: ivchat.eos_token_ids has %zu ids, 1 to %d are accepted",
                       f->path, v->n, CONFIG_MAX_EOS);
    memcpy(c->eos, v->data, v->n * sizeof c->eos[0]);
    c->n_eos = v->n;
    for (size_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] < 0 || (size_t)c->eos[i] >= c->n_vocab)
            return err_set(e, ERR_MODEL, "%s: ivchat.eos_token_ids: %d is no id below %zu", f->path,
                           (int)c->eos[i], c->n_vocab);
fail:
    return rc;
}

static int language_config(struct llm_config *c, const struct gguf_file *f, struct err *e)
{
    int rc;
    struct gguf_text arch, base = {"", 0};
    size_t bos = 1;
    const struct gguf_value *tokens;
    TRY(gguf_get_text(f, "general.architecture", true, &arch, e));
    c->kind = gguf_text_is(arch, gguf_architecture(LLM_INTERNLM2)) ? LLM_INTERNLM2 : LLM_MISTRAL;
    struct keys k = {.f = f, .prefix = gguf_architecture(c->kind)};
    c->pairs = true;
    c->rope_theta = 1e4;
    TRY(get_size(&k, "embedding_length", 1, CONFIG_WIDTH_MAX, &c->d_model, e));
    TRY(get_size(&k, "block_count", 1, CONFIG_LAYER_MAX, &c->n_layer, e));
    TRY(get_size(&k, "feed_forward_length", 1, CONFIG_FFN_MAX, &c->d_ffn, e));
    TRY(get_size(&k, "context_length", 1, CONFIG_CTX_MAX, &c->n_ctx_max, e));
    TRY(heads(c, &k, e));
    TRY(get_eps(&k, "attention.layer_norm_rms_epsilon", &c->eps, e));
    TRY(gguf_get_real(f, key(&k, "rope.freq_base"), false, 1, 1e15, &c->rope_theta, e));
    TRY(refuse_scaling(&k, e));
    TRY(gguf_get_array(f, "tokenizer.ggml.tokens", true, GGUF_STRING, &tokens, e));
    c->n_vocab = tokens->n;
    TRY(gguf_get_size(f, key(&k, "vocab_size"), false, VOCAB_LEAST, CONFIG_VOCAB_MAX, &c->n_vocab,
                      e));
    if (c->n_vocab < VOCAB_LEAST || c->n_vocab > CONFIG_VOCAB_MAX)
        return err_set(e, ERR_MODEL, "%s: a vocabulary of %zu, %d to %d are accepted", f->path,
                       c->n_vocab, VOCAB_LEAST, CONFIG_VOCAB_MAX);
    TRY(gguf_get_size(f, "tokenizer.ggml.bos_token_id", false, 0, c->n_vocab - 1, &bos, e));
    c->bos = (int32_t)bos;
    c->eos[0] = 2;
    c->n_eos = 1;
    TRY(end_ids(c, f, e));
    TRY(gguf_get_real(f, "ivchat.rope.dynamic_ntk_factor", false, 1, 1024, &c->ntk_factor, e));
    c->ntk_from = c->ntk_factor > 0 ? c->n_ctx_max : 0;
    TRY(gguf_get_text(f, "general.name", false, &base, e));
    snprintf(c->base_name, sizeof c->base_name, "%.*s", (int)(base.n < 255 ? base.n : 255), base.p);
fail:
    return rc;
}

// ---- vision

static int vit_keys(struct vit_config *c, struct keys *k, struct err *e)
{
    int rc;
    const struct heads_keys names = {k->f->path, k->prefix, .width = "vision.embedding_length",
                                     .n_head = "vision.head_count"};
    TRY(get_size(k, "vision.embedding_length", 1, CONFIG_WIDTH_MAX, &c->d_model, e));
    TRY(get_size(k, "vision.head_count", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    TRY(get_size(k, "vision.feed_forward_length", 1, CONFIG_FFN_MAX, &c->d_ffn, e));
    TRY(get_size(k, "vision.block_count", 1, CONFIG_LAYER_MAX, &c->n_layer, e));
    TRY(get_size(k, "vision.image_size", 224, 224, &c->image_size, e));
    TRY(get_size(k, "vision.patch_size", 4, 224, &c->patch, e));
    TRY(heads_of_width(&names, c->d_model, c->n_head, HEADS_SIZE_LEAST, &c->d_head, e));
    if (c->image_size % c->patch != 0)
        return err_set(e, ERR_MODEL,
                       "%s: %s.vision.image_size %zu is not divisible by "
                       "vision.patch_size %zu",
                       k->f->path, k->prefix, c->image_size, c->patch);
    c->n_patch = (c->image_size / c->patch) * (c->image_size / c->patch);
fail:
    return rc;
}

static int qformer_keys(struct qformer_config *c, struct keys *k, struct err *e)
{
    int rc;
    size_t d_head;
    const struct heads_keys names = {k->f->path, k->prefix, .width = "qformer.embedding_length",
                                     .n_head = "qformer.head_count"};
    TRY(get_size(k, "qformer.embedding_length", 1, CONFIG_WIDTH_MAX, &c->d_model, e));
    TRY(get_size(k, "qformer.head_count", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    TRY(get_size(k, "qformer.feed_forward_length", 1, CONFIG_FFN_MAX, &c->d_ffn, e));
    TRY(get_size(k, "qformer.block_count", 1, CONFIG_LAYER_MAX, &c->n_layer, e));
    TRY(get_size(k, "qformer.cross_every", 1, CONFIG_LAYER_MAX, &c->cross_every, e));
    TRY(get_size(k, "qformer.query_count", 1, CONFIG_QUERY_MAX, &c->n_query_base, e));
    TRY(get_size(k, "qformer.extra_query_count", 0, CONFIG_QUERY_MAX, &c->n_query_extra, e));
    TRY(get_size(k, "qformer.vocab_size", 2, CONFIG_VOCAB_MAX, &c->n_vocab, e));
    TRY(get_size(k, "qformer.context_length", 1, CONFIG_CTX_MAX, &c->n_pos, e));
    TRY(get_eps(k, "qformer.layer_norm_epsilon", &c->eps, e));
    TRY(heads_of_width(&names, c->d_model, c->n_head, HEADS_SIZE_LEAST, &d_head, e));
    c->n_query = c->n_query_base + c->n_query_extra;
fail:
    return rc;
}

static int vision_config(struct model_config *c, const struct gguf_file *f, struct err *e)
{
    int rc;
    struct keys k = {.f = f, .prefix = GGUF_VISION_ARCHITECTURE};
    struct gguf_text variant = {"", 0};
    size_t version = 0, n_frame = CONFIG_N_FRAME;
    char name[16];
    enum variant v;
    TRY(get_size(&k, "version", 1, 1, &version, e));
    TRY(vit_keys(&c->vit, &k, e));
    TRY(qformer_keys(&c->qformer, &k, e));
    TRY(get_size(&k, "frame_count", 1, CONFIG_FRAME_MAX, &n_frame, e));
    TRY(gguf_get_text(f, key(&k, "variant"), true, &variant, e));
    snprintf(name, sizeof name, "%.*s", (int)(variant.n < 15 ? variant.n : 15), variant.p);
    if (!variant_from_name(name, &v) || (v == VARIANT_INTERNLM) != (c->llm.kind == LLM_INTERNLM2))
        return err_set(e, ERR_MODEL, "%s: %s is \"%s\", the language part is %s", f->path,
                       key(&k, "variant"), name,
                       c->llm.kind == LLM_INTERNLM2 ? "InternLM2" : "Mistral");
    c->variant = v;
    c->n_frame = n_frame;
fail:
    return rc;
}

int gguf_config(struct model_config *c, const struct gguf_file *language,
                const struct gguf_file *vision, struct err *e)
{
    int rc;
    memset(c, 0, sizeof *c);
    TRY(language_config(&c->llm, language, e));
    c->n_frame = CONFIG_N_FRAME;
    c->variant = c->llm.kind == LLM_INTERNLM2 ? VARIANT_INTERNLM : VARIANT_HD;
    c->text_only = !vision;
    if (vision)
        TRY(vision_config(c, vision, e));
    return 0;
fail:
    memset(c, 0, sizeof *c);
    return rc;
}
