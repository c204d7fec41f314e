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

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/config_parts.h"
#include "model/heads.h"

static const struct vit_config vit_release = {
    .d_model = 1408, .n_head = 16, .n_layer = 39, .image_size = 224, .patch = 14};
enum {
    VIT_DEPTH = 40,
    FILE_MAX = 1 << 20, // bytes of config.json; the release has 1.5 KB
};
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

// Width under its two names, which must agree.
static int vit_width(const struct section *s, size_t *d_model, struct err *e)
{
    int rc;
    size_t embed;
    TRY(section_size(s, "encoder_embed_dim", 1, CONFIG_WIDTH_MAX, d_model, e));
    embed = *d_model;
    TRY(section_size(s, "d_model", 1, CONFIG_WIDTH_MAX, d_model, e));
    if (section_has(s, "encoder_embed_dim") && embed != *d_model)
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
    const struct heads_keys heads = {s->file, s->path, .width = "d_model", .n_head = "num_heads"};
    *c = vit_release;
    TRY(vit_width(s, &c->d_model, e));
    TRY(section_size(s, "depth", 1, CONFIG_LAYER_MAX, &depth, e));
    TRY(section_size(s, "num_heads", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    TRY(section_num(s, "mlp_ratio", 1.0 / 1024, 64, &ratio, e));
    if (section_has(s, "depth") || section_has(s, "num_heads") || section_has(s, "mlp_ratio"))
        TRY(section_size(s, "patch_size", 4, 224, &c->patch, e));
    TRY(section_num(s, "x_vis_return_idx", -(double)depth, -1, &last, e));
    if (last != floor(last))
        return section_bad(s, "x_vis_return_idx", "an integer", e);
    if (last < -(double)depth) // where it is not given
        return err_set(e, ERR_MODEL,
                       "%s: %s: depth %zu leaves no block: x_vis_return_idx is %g"
                       " unless it is given",
                       s->file, s->path, depth, last);
    TRY(section_size(s, "num_frames", 1, CONFIG_FRAME_MAX, n_frame, e));
    TRY(section_size(s, "img_size", 224, 224, &c->image_size, e)); // what preprocessing makes
    TRY(section_size(s, "tubelet_size", 1, 1, &tubelet, e));
    TRY(section_want_bool(s, "sep_image_video_pos_embed", true, e));
    TRY(section_want_bool(s, "vit_add_ln", true, e));
    TRY(section_want_bool(s, "x_vis_only", true, e));
    TRY(heads_of_width(&heads, c->d_model, c->n_head, HEADS_SIZE_LEAST, &c->d_head, e));
    TRY(section_divides(s, "img_size", c->image_size, "patch_size", c->patch, e));
    c->n_layer = (size_t)((double)depth + last + 1); // from 1
    c->d_ffn = (size_t)((double)c->d_model * ratio);
    if (c->d_ffn < 1 || c->d_ffn > CONFIG_FFN_MAX)
        return err_set(e, ERR_MODEL,
                       "%s: %s: d_model %zu x mlp_ratio %g gives a hidden size of %zu, 1..%d"
                       " are accepted",
                       s->file, s->path, c->d_model, ratio, c->d_ffn, CONFIG_FFN_MAX);
    c->n_patch = (c->image_size / c->patch) * (c->image_size / c->patch);
fail:
    return rc;
}

static int qformer_parse(struct qformer_config *c, const struct section *bridge,
                         const struct section *s, size_t d_vit, struct err *e)
{
    int rc;
    size_t width = d_vit, d_head;
    const struct heads_keys heads = {s->file, s->path, .width = "hidden_size",
                                     .n_head = "num_attention_heads"};
    *c = qformer_release;
    TRY(section_want_str(bridge, "name", "qformer", e));
    TRY(section_size(bridge, "num_query_token", 1, CONFIG_QUERY_MAX, &c->n_query_base, e));
    TRY(section_size(bridge, "extra_num_query_token", 0, CONFIG_QUERY_MAX, &c->n_query_extra, e));
    TRY(section_want_str(s, "model_type", "bert", e));
    TRY(section_want_str(s, "hidden_act", "gelu", e));
    TRY(section_size(s, "hidden_size", 1, CONFIG_WIDTH_MAX, &c->d_model, e));
    TRY(section_size(s, "num_attention_heads", 1, CONFIG_HEAD_MAX, &c->n_head, e));
    TRY(section_size(s, "num_hidden_layers", 1, CONFIG_LAYER_MAX, &c->n_layer, e));
    TRY(section_size(s, "intermediate_size", 1, CONFIG_FFN_MAX, &c->d_ffn, e));
    TRY(section_size(s, "vocab_size", 1, CONFIG_VOCAB_MAX, &c->n_vocab, e));
    TRY(section_size(s, "max_position_embeddings", 1, CONFIG_CTX_MAX, &c->n_pos, e));
    TRY(section_size(s, "cross_attention_freq", 1, CONFIG_LAYER_MAX, &c->cross_every, e));
    TRY(section_eps(s, "layer_norm_eps", &c->eps, e));
    TRY(section_size(s, "encoder_width", 1, CONFIG_WIDTH_MAX, &width, e));
    if (width != d_vit)
        return err_set(e, ERR_MODEL,
                       "%s: %s: encoder_width %zu, the vision encoder's d_model is %zu", s->file,
                       s->path, width, d_vit);
    TRY(heads_of_width(&heads, c->d_model, c->n_head, HEADS_SIZE_LEAST, &d_head, e));
    c->n_query = c->n_query_base + c->n_query_extra;
    c->n_vocab += 1; // [DEC]
fail:
    return rc;
}

static int document_parse(struct model_config *c, const js_value *root, const char *file,
                          const char *dir_name, struct err *e)
{
    int rc;
    struct section top = {file, "config", root}, model, vit, bridge, qformer, llm, llm_config;
    const char *name[3] = {dir_name};
    c->n_frame = CONFIG_N_FRAME;
    if (!js_is_object(root))
        return err_set(e, ERR_MODEL, "%s: no JSON object", file);
    TRY(section_open(&top, "model_config", "model_config", &model, e));
    if (!model.o)
        return err_set(e, ERR_MODEL, "%s: model_config is missing: no InternVideo2-Chat model",
                       file);
    TRY(section_open(&model, "vision_encoder", "model_config.vision_encoder", &vit, e));
    TRY(section_open(&model, "bridge", "model_config.bridge", &bridge, e));
    TRY(section_open(&model, "qformer_config", "model_config.qformer_config", &qformer, e));
    TRY(section_open(&model, "llm", "model_config.llm", &llm, e));
    TRY(section_open(&model, "llm_config", "model_config.llm_config", &llm_config, e));
    TRY(section_str(&top, "_name_or_path", &name[1], e));
    TRY(section_str(&top, "model_cls", &name[2], e));
    TRY(vit_parse(&c->vit, &c->n_frame, &vit, e));
    TRY(qformer_parse(&c->qformer, &bridge, &qformer, c->vit.d_model, e));
    TRY(llm_config_parse(&c->llm, &llm, &llm_config, e));
    config_set_variant(c, variant_guess(c, name, 3));
fail:
    return rc;
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
