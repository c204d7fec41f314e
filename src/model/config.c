// SPDX-License-Identifier: MIT
// config.json -> sizes. The releases' file says little: widths of the vision encoder, query counts, LoRA
// rank and the name of the base language model; the rest was fixed in the published modules or came from
// other repositories, and stands here as defaults. Three extensions, present in our own and in test
// checkpoints, override them: vision_encoder.{depth,num_heads,mlp_ratio}, qformer_config, llm_config.
//
//   model_config.vision_encoder   model_config.qformer_config (Hugging Face BERT names)
//   model_config.bridge           model_config.llm_config (Hugging Face Mistral / InternLM2 names)
//   model_config.llm
//
// Source: SPEC 1.2, 8; INTERFACES 1. Easy to get wrong: patch_size is only read beside depth, num_heads
// or mlp_ratio (a release states 16 but is 14); the last of `depth` blocks is not built (x_vis_return_idx
// -2); the word table has one row more than vocab_size; a hub snapshot's directory is named by a hash.
#include "model/config.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/json.h"
#include "base/mem.h"

// Limits keep every product of sizes far below 2^64 and refuse what no model of this family has.
enum {
    FILE_MAX = 1 << 20,  // bytes of config.json; the release has 1.5 KB
    WIDTH_MAX = 1 << 16, // d_model
    FFN_MAX = 1 << 18,   // d_ffn
    HEAD_MAX = 1 << 10,  // heads
    LAYER_MAX = 1 << 10, // layers
    VOCAB_MAX = 1 << 22, // rows of an embedding
    CTX_MAX = 1 << 24,   // positions
    QUERY_MAX = 1 << 12, // learned queries of each kind
    FRAME_MAX = 1 << 10, // frames of a clip
    LORA_MAX = 1 << 10,  // LoRA rank
};

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

static const struct vit_config vit_release = {
    .d_model = 1408, .n_head = 16, .n_layer = 39, .image_size = 224, .patch = 14};
enum { VIT_DEPTH = 40, N_FRAME = 8, N_FRAME_F16 = 16 };
static const double vit_mlp_ratio = 48.0 / 11.0;

// BERT base.
static const struct qformer_config qformer_release = {.d_model = 768,
                                                      .n_head = 12,
                                                      .d_ffn = 3072,
                                                      .n_layer = 12,
                                                      .n_query_base = 32,
                                                      .n_query_extra = 64,
                                                      .n_vocab = 30522,
                                                      .n_pos = 512,
                                                      .cross_every = 2,
                                                      .eps = 1e-12f};

// ---- values of one JSON object; o may be NULL (absent): every getter then leaves its default alone

struct section {
    const char *file, *path; // for messages
    const js_value *o;
};

// What a value is, for messages.
static const char *value_text(const js_value *v, char *out, size_t cap)
{
    double x;
    bool b;
    if (js_is_string(v))
        snprintf(out, cap, "\"%.60s\"", js_str(v, NULL));
    else if (js_num(v, &x))
        snprintf(out, cap, "%.15g", x);
    else if (js_bool(v, &b))
        snprintf(out, cap, "%s", b ? "true" : "false");
    else
        snprintf(out, cap, "%s",
                 js_is_array(v)    ? "an array"
                 : js_is_object(v) ? "an object"
                                   : "null");
    return out;
}

static int bad_value(const struct section *s, const char *key, const char *expected, struct err *e)
{
    char have[80];
    return err_set(e, ERR_MODEL, "%s: %s.%s is %s, expected %s", s->file, s->path, key,
                   value_text(js_get(s->o, key), have, sizeof have), expected);
}

static int section_get(const struct section *in, const char *key, const char *path,
                       struct section *out, struct err *e)
{
    const js_value *v = js_get(in->o, key);
    *out = (struct section){in->file, path, NULL};
    if (js_is_null(v))
        return 0;
    if (!js_is_object(v))
        return bad_value(in, key, "an object", e);
    out->o = v;
    return 0;
}

static int get_size(const struct section *s, const char *key, size_t lo, size_t hi, size_t *x,
                    struct err *e)
{
    const js_value *v = js_get(s->o, key);
    uint64_t u;
    char want[64];
    if (js_is_null(v))
        return 0;
    snprintf(want, sizeof want, "an integer from %zu to %zu", lo, hi);
    if (!js_u64(v, &u) || u < lo || u > hi)
        return bad_value(s, key, want, e);
    *x = (size_t)u;
    return 0;
}

static int get_num(const struct section *s, const char *key, double lo, double hi, double *x,
                   struct err *e)
{
    const js_value *v = js_get(s->o, key);
    double d;
    char want[64];
    if (js_is_null(v))
        return 0;
    snprintf(want, sizeof want, "a number from %g to %g", lo, hi);
    if (!js_num(v, &d) || !(d >= lo && d <= hi))
        return bad_value(s, key, want, e);
    *x = d;
    return 0;
}

static int get_eps(const struct section *s, const char *key, float *x, struct err *e)
{
    double d = (double)*x;
    int rc = get_num(s, key, 1e-30, 0.1, &d, e);
    *x = (float)d;
    return rc;
}

static int get_bool(const struct section *s, const char *key, bool *x, struct err *e)
{
    const js_value *v = js_get(s->o, key);
    return js_is_null(v) || js_bool(v, x) ? 0 : bad_value(s, key, "true or false", e);
}

// A switch that the code has only one position of.
static int require_bool(const struct section *s, const char *key, bool want, struct err *e)
{
    bool x = want;
    int rc = get_bool(s, key, &x, e);
    return rc != 0 || x == want ? rc : bad_value(s, key, want ? "true" : "false", e);
}

// *x borrowed from the document.
static int get_str(const struct section *s, const char *key, const char **x, struct err *e)
{
    const js_value *v = js_get(s->o, key);
    size_t n;
    const char *p = js_str(v, &n);
    if (js_is_null(v))
        return 0;
    if (!p || strlen(p) != n)
        return bad_value(s, key, "a string", e);
    *x = p;
    return 0;
}

static int require_str(const struct section *s, const char *key, const char *want, struct err *e)
{
    const char *x = want;
    char text[64];
    int rc = get_str(s, key, &x, e);
    snprintf(text, sizeof text, "\"%s\"", want);
    return rc != 0 || strcmp(x, want) == 0 ? rc : bad_value(s, key, text, e);
}

static int check_divides(const struct section *s, const char *what, size_t a, const char *by,
                         size_t b, struct err *e)
{
    if (a % b == 0)
        return 0;
    return err_set(e, ERR_MODEL, "%s: %s: %s %zu is not divisible by %s %zu", s->file, s->path,
                   what, a, by, b);
}

// ---- vision encoder

static bool has(const struct section *s, const char *key)
{
    return !js_is_null(js_get(s->o, key));
}

// Width under its two names, which must agree.
static int vit_width(const struct section *s, size_t *d_model, struct err *e)
{
    int rc;
    size_t embed;
    TRY(get_size(s, "encoder_embed_dim", 1, WIDTH_MAX, d_model, e));
    embed = *d_model;
    TRY(get_size(s, "d_model", 1, WIDTH_MAX, d_model, e));
    if (has(s, "encoder_embed_dim") && embed != *d_model)
        return err_set(e, ERR_MODEL, "%s: %s: d_model %zu and encoder_embed_dim %zu differ",
                       s->file, s->path, *d_model, embed);
fail:
    return rc;
}

static int vit_parse(struct vit_config *c, size_t *n_frame, const struct section *s, struct err *e)
{
    int rc;
    double ratio = vit_mlp_ratio, last = -2;
    size_t depth = VIT_DEPTH, tubelet = 1;
    *c = vit_release;
    TRY(vit_width(s, &c->d_model, e));
    TRY(get_size(s, "depth", 1, LAYER_MAX, &depth, e));
    TRY(get_size(s, "num_heads", 1, HEAD_MAX, &c->n_head, e));
    TRY(get_num(s, "mlp_ratio", 1.0 / 1024, 64, &ratio, e));
    if (has(s, "depth") || has(s, "num_heads") || has(s, "mlp_ratio"))
        TRY(get_size(s, "patch_size", 1, 224, &c->patch, e));
    TRY(get_num(s, "x_vis_return_idx", -(double)depth, -1, &last, e));
    if (last != floor(last))
        return bad_value(s, "x_vis_return_idx", "an integer", e);
    TRY(get_size(s, "num_frames", 1, FRAME_MAX, n_frame, e));
    TRY(get_size(s, "img_size", 224, 224, &c->image_size, e)); // what preprocessing makes
    TRY(get_size(s, "tubelet_size", 1, 1, &tubelet, e));
    TRY(require_bool(s, "sep_image_video_pos_embed", true, e));
    TRY(require_bool(s, "vit_add_ln", true, e));
    TRY(require_bool(s, "x_vis_only", true, e));
    TRY(check_divides(s, "d_model", c->d_model, "num_heads", c->n_head, e));
    TRY(check_divides(s, "img_size", c->image_size, "patch_size", c->patch, e));
    c->n_layer = (size_t)((double)depth + last + 1);
    if (c->n_layer == 0)
        return err_set(e, ERR_MODEL, "%s: %s: depth %zu with x_vis_return_idx %g leaves no block",
                       s->file, s->path, depth, last);
    c->d_head = c->d_model / c->n_head;
    c->d_ffn = (size_t)((double)c->d_model * ratio);
    if (c->d_ffn < 1 || c->d_ffn > FFN_MAX)
        return err_set(e, ERR_MODEL,
                       "%s: %s: d_model %zu x mlp_ratio %g gives a hidden size of %zu, 1..%d"
                       " are accepted",
                       s->file, s->path, c->d_model, ratio, c->d_ffn, FFN_MAX);
    c->n_patch = (c->image_size / c->patch) * (c->image_size / c->patch);
fail:
    return rc;
}

// ---- Q-Former

static int qformer_parse(struct qformer_config *c, const struct section *bridge,
                         const struct section *s, size_t d_vit, struct err *e)
{
    int rc;
    size_t width = d_vit;
    *c = qformer_release;
    TRY(require_str(bridge, "name", "qformer", e));
    TRY(get_size(bridge, "num_query_token", 1, QUERY_MAX, &c->n_query_base, e));
    TRY(get_size(bridge, "extra_num_query_token", 0, QUERY_MAX, &c->n_query_extra, e));
    TRY(require_str(s, "model_type", "bert", e));
    TRY(require_str(s, "hidden_act", "gelu", e));
    TRY(get_size(s, "hidden_size", 1, WIDTH_MAX, &c->d_model, e));
    TRY(get_size(s, "num_attention_heads", 1, HEAD_MAX, &c->n_head, e));
    TRY(get_size(s, "num_hidden_layers", 1, LAYER_MAX, &c->n_layer, e));
    TRY(get_size(s, "intermediate_size", 1, FFN_MAX, &c->d_ffn, e));
    TRY(get_size(s, "vocab_size", 1, VOCAB_MAX, &c->n_vocab, e));
    TRY(get_size(s, "max_position_embeddings", 1, CTX_MAX, &c->n_pos, e));
    TRY(get_size(s, "cross_attention_freq", 1, LAYER_MAX, &c->cross_every, e));
    TRY(get_eps(s, "layer_norm_eps", &c->eps, e));
    TRY(get_size(s, "encoder_width", 1, WIDTH_MAX, &width, e));
    if (width != d_vit)
        return err_set(e, ERR_MODEL,
                       "%s: %s: encoder_width %zu, the vision encoder's d_model is %zu", s->file,
                       s->path, width, d_vit);
    TRY(check_divides(s, "hidden_size", c->d_model, "num_attention_heads", c->n_head, e));
    c->n_query = c->n_query_base + c->n_query_extra;
    c->n_vocab += 1; // [DEC]
fail:
    return rc;
}

// ---- language model

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
    return bad_value(s, key, known, e);
}

// llm_config.model_type decides, then llm.name; both must mean the same kind.
static int llm_find_base(const struct section *llm, const struct section *s,
                         const struct llm_base **out, struct err *e)
{
    int rc;
    const char *type = NULL, *name = NULL;
    const struct llm_base *by_type = NULL, *by_name = NULL;
    *out = NULL;
    TRY(get_str(s, "model_type", &type, e));
    TRY(get_str(llm, "name", &name, e));
    for (size_t i = 0; i < N_BASE; i++) {
        if (type && strcmp(type, bases[i].model_type) == 0)
            by_type = &bases[i];
        if (name && same_name(name, bases[i].name))
            by_name = &bases[i];
    }
    if (type && !by_type)
        return unknown_llm(s, "model_type", true, e);
    if (!by_name && (name || !by_type))
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
    TRY(get_bool(llm, "use_lora", &use, e));
    if (use) {
        TRY(get_size(llm, "lora_r", 1, LORA_MAX, &r, e));
        TRY(get_num(llm, "lora_alpha", 0, 65536, &alpha, e));
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
        return bad_value(s, "eos_token_id", want, e);
    for (size_t i = 0; i < n; i++) {
        uint64_t id;
        if (!js_u64(many ? js_at(v, i) : v, &id) || id >= c->n_vocab)
            return bad_value(s, "eos_token_id", want, e);
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
    TRY(get_num(s, "rope_theta", 1, 1e15, &c->rope_theta, e));
    TRY(section_get(s, "rope_scaling", "model_config.llm_config.rope_scaling", &scaling, e));
    if (js_get(s->o, "rope_scaling"))
        c->ntk_factor = 0;
    if (scaling.o) {
        TRY(get_str(&scaling, "type", &type, e));
        TRY(get_str(&scaling, "rope_type", &type, e));
        if (strcmp(type, "dynamic") != 0)
            return bad_value(&scaling, has(&scaling, "rope_type") ? "rope_type" : "type",
                             "\"dynamic\"", e);
        if (!has(&scaling, "factor"))
            return bad_value(&scaling, "factor", "a number", e);
        TRY(get_num(&scaling, "factor", 1, 1024, &c->ntk_factor, e));
    }
    c->ntk_from = c->ntk_factor > 0 ? c->n_ctx_max : 0;
fail:
    return rc;
}

static int llm_sizes(struct llm_config *c, const struct section *s, struct err *e)
{
    int rc;
    bool heads = has(s, "hidden_size") || has(s, "num_attention_heads");
    TRY(get_size(s, "hidden_size", 1, WIDTH_MAX, &c->d_model, e));
    TRY(get_size(s, "num_hidden_layers", 1, LAYER_MAX, &c->n_layer, e));
    TRY(get_size(s, "num_attention_heads", 1, HEAD_MAX, &c->n_head, e));
    TRY(get_size(s, "num_key_value_heads", 1, HEAD_MAX, &c->n_kv, e));
    TRY(get_size(s, "intermediate_size", 1, FFN_MAX, &c->d_ffn, e));
    TRY(get_size(s, "vocab_size", 1, VOCAB_MAX, &c->n_vocab, e));
    TRY(get_size(s, "max_position_embeddings", 1, CTX_MAX, &c->n_ctx_max, e));
    if (heads && !has(s, "head_dim")) {
        TRY(check_divides(s, "hidden_size", c->d_model, "num_attention_heads", c->n_head, e));
        c->d_head = c->d_model / c->n_head;
    }
    TRY(get_size(s, "head_dim", 1, WIDTH_MAX, &c->d_head, e));
    TRY(check_divides(s, "head_dim", c->d_head, "the halves of rotary positions,", 2, e));
    TRY(check_divides(s, "num_attention_heads", c->n_head, "num_key_value_heads", c->n_kv, e));
    if (c->n_head * c->d_head > WIDTH_MAX)
        return err_set(e, ERR_MODEL, "%s: %s: num_attention_heads %zu x head_dim %zu exceeds %d",
                       s->file, s->path, c->n_head, c->d_head, WIDTH_MAX);
fail:
    return rc;
}

static int llm_parse(struct llm_config *c, const struct section *llm, const struct section *s,
                     struct err *e)
{
    int rc;
    const struct llm_base *base;
    const char *base_name;
    size_t bos, window = CTX_MAX;
    TRY(llm_find_base(llm, s, &base, e));
    *c = base->c;
    base_name = c->base_name;
    TRY(get_str(llm, "pretrained_llm_path", &base_name, e));
    if (base_name != c->base_name)
        snprintf(c->base_name, sizeof c->base_name, "%s", base_name);
    TRY(lora_parse(c, llm, e));
    TRY(llm_sizes(c, s, e));
    TRY(rope_parse(c, s, e));
    TRY(get_eps(s, "rms_norm_eps", &c->eps, e));
    TRY(require_str(s, "hidden_act", "silu", e));
    TRY(require_bool(s, "tie_word_embeddings", false, e));
    TRY(require_bool(s, "bias", false, e));
    TRY(require_bool(s, "attention_bias", false, e));
    // a window no shorter than the context never hides anything
    TRY(get_size(s, "sliding_window", c->n_ctx_max, CTX_MAX, &window, e));
    bos = (size_t)c->bos;
    TRY(get_size(s, "bos_token_id", 0, c->n_vocab - 1, &bos, e));
    c->bos = (int32_t)bos;
    TRY(eos_parse(c, s, e));
fail:
    return rc;
}

// ---- variant

static const char *const variant_names[] = {[VARIANT_8B] = "8b",
                                            [VARIANT_HD] = "hd",
                                            [VARIANT_F16] = "f16",
                                            [VARIANT_INTERNLM] = "internlm"};
enum { N_VARIANT = sizeof variant_names / sizeof variant_names[0] };

const char *variant_name(enum variant v)
{
    return (unsigned)v < N_VARIANT ? variant_names[v] : "?";
}

bool variant_from_name(const char *s, enum variant *out)
{
    for (unsigned i = 0; i < N_VARIANT; i++) {
        if (strcmp(s, variant_names[i]) == 0) {
            *out = (enum variant)i;
            return true;
        }
    }
    return false;
}

// word (lower case) in name, in any case, with no letter before it ("bf16" is no "f16") and no letter or
// digit behind it.
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = name; *p; p++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)p[i]) == word[i])
            i++;
        if (i == n && (p == name || !isalpha((unsigned char)p[-1])) &&
            !isalnum((unsigned char)p[n]))
            return true;
    }
    return false;
}

// The 8B, HD and F16 releases have alike files, so only names tell them apart: "InternVideo2-Chat-8B",
// "InternVideo2_chat_8B_HD", "..._HD_F16". What tells nothing is taken for HD, the release that the
// published quick start is about.
static enum variant guess_variant(const struct model_config *c, const char *const *name, size_t n)
{
    if (c->llm.kind == LLM_INTERNLM2)
        return VARIANT_INTERNLM;
    if (c->n_frame == N_FRAME_F16)
        return VARIANT_F16;
    for (size_t i = 0; i < n; i++) {
        if (!name[i])
            continue;
        if (has_word(name[i], "f16"))
            return VARIANT_F16;
        if (has_word(name[i], "hd"))
            return VARIANT_HD;
        if (has_word(name[i], "8b"))
            return VARIANT_8B;
    }
    return VARIANT_HD;
}

// ---- the whole

static int document_parse(struct model_config *c, const js_value *root, const char *file,
                          const char *dir_name, struct err *e)
{
    int rc;
    struct section top = {file, "config", root}, model, vit, bridge, qformer, llm, llm_config;
    const char *name[3] = {dir_name};
    c->n_frame = N_FRAME;
    if (!js_is_object(root))
        return err_set(e, ERR_MODEL, "%s: no JSON object", file);
    TRY(section_get(&top, "model_config", "model_config", &model, e));
    if (!model.o)
        return err_set(e, ERR_MODEL, "%s: model_config is missing: no InternVideo2-Chat model",
                       file);
    TRY(section_get(&model, "vision_encoder", "model_config.vision_encoder", &vit, e));
    TRY(section_get(&model, "bridge", "model_config.bridge", &bridge, e));
    TRY(section_get(&model, "qformer_config", "model_config.qformer_config", &qformer, e));
    TRY(section_get(&model, "llm", "model_config.llm", &llm, e));
    TRY(section_get(&model, "llm_config", "model_config.llm_config", &llm_config, e));
    TRY(get_str(&top, "_name_or_path", &name[1], e));
    TRY(get_str(&top, "model_cls", &name[2], e));
    TRY(vit_parse(&c->vit, &c->n_frame, &vit, e));
    TRY(qformer_parse(&c->qformer, &bridge, &qformer, c->vit.d_model, e));
    TRY(llm_parse(&c->llm, &llm, &llm_config, e));
    config_set_variant(c, guess_variant(c, name, 3));
fail:
    return rc;
}

void config_set_variant(struct model_config *c, enum variant v)
{
    if (v == VARIANT_F16)
        c->n_frame = N_FRAME_F16;
    else if (c->variant == VARIANT_F16)
        c->n_frame = N_FRAME;
    c->variant = v;
}

int config_parse(struct model_config *c, const char *json, size_t n, const char *name,
                 const char *dir_name, struct err *e)
{
    int rc;
    struct js_doc doc = {0};
    memset(c, 0, sizeof *c);
    TRY(js_parse(&doc, json, n, name, ERR_MODEL, e));
    TRY(document_parse(c, doc.root, name, dir_name, e));
    js_free(&doc);
    return 0;
fail:
    js_free(&doc);
    memset(c, 0, sizeof *c);
    return rc;
}

// Last component of dir; for a hub snapshot (models--ORG--NAME/snapshots/HASH) that of the repository.
static const char *model_name(const char *dir, char *buf)
{
    if (!realpath(dir, buf))
        return dir;
    char *last = strrchr(buf, '/');
    if (!last)
        return buf;
    *last = 0;
    char *parent = strrchr(buf, '/');
    if (!parent || strcmp(parent + 1, "snapshots") != 0)
        return last + 1;
    *parent = 0;
    char *repo = strrchr(buf, '/');
    return repo ? repo + 1 : buf;
}

int config_load(struct model_config *c, const char *dir, struct err *e)
{
    int rc;
    size_t n, n_path = strlen(dir) + sizeof "/config.json";
    char resolved[PATH_MAX];
    char *text = NULL, *path = mem_calloc(n_path, 1);
    memset(c, 0, sizeof *c);
    if (!path)
        return err_set(e, ERR_LIMIT, "%s: out of memory", dir);
    snprintf(path, n_path, "%s/config.json", dir);
    TRY(file_read(path, FILE_MAX, ERR_MODEL, &text, &n, e));
    TRY(config_parse(c, text, n, path, model_name(dir, resolved), e));
fail:
    mem_free(text);
    mem_free(path);
    return rc;
}
