// SPDX-License-Identifier: MIT
// What config.json says about a model, with the release's hard-coded sizes where it says nothing.
// (SPEC 1.2, 8; INTERFACES 1)
#ifndef IV_MODEL_CONFIG_H
#define IV_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Chooses preprocessing and prompt template.
enum variant { VARIANT_8B, VARIANT_HD, VARIANT_F16, VARIANT_INTERNLM };
enum llm_kind { LLM_MISTRAL, LLM_INTERNLM2 };

enum { CONFIG_MAX_EOS = 8 };

struct vit_config {
    size_t d_model, n_head, d_head, d_ffn;
    size_t n_layer;    // blocks built: depth + x_vis_return_idx + 1
    size_t image_size; // 224
    size_t patch;      // 14
    size_t n_patch;    // (image_size / patch)^2: tokens of one frame
};

struct qformer_config {
    size_t d_model, n_head, d_ffn, n_layer;
    size_t n_query_base, n_query_extra, n_query; // 32 + 64
    size_t n_vocab;     // rows of word_embeddings: config's vocab_size + 1 for [DEC]
    size_t n_pos;       // 512
    size_t cross_every; // cross-attention in layers l % cross_every == 0
    float eps;          // 1e-12
};

struct llm_config {
    enum llm_kind kind;
    size_t d_model, n_layer, n_head, n_kv, d_head, d_ffn, n_vocab;
    size_t n_ctx_max; // max_position_embeddings
    double rope_theta;
    double ntk_factor; // dynamic NTK scaling; 0 = none
    size_t ntk_from;   // positions beyond which it acts
    float eps;
    int32_t bos;
    int32_t eos[CONFIG_MAX_EOS];
    size_t n_eos;
    unsigned lora_r;
    float lora_alpha;
    char base_name[256]; // pretrained_llm_path
    // As llama.cpp's files have it: q, k and v are apart also in InternLM2, and the rows of q and k are so
    // ordered that rotary positions turn neighbouring pairs instead of split halves.
    bool pairs;
};

struct model_config {
    enum variant variant; // guessed; the caller may override it with config_set_variant
    bool text_only;       // a GGUF language model without its vision part: vit and qformer are zero
    struct vit_config vit;
    struct qformer_config qformer;
    struct llm_config llm;
    size_t
        n_frame; // frames the variant samples by default: 16 for F16, else config's num_frames (8)
};

// Reads dir/config.json. Anything malformed, unsupported or outside sane limits is ERR_MODEL naming the
// key, its value and what was expected; *c is then zeroed. Within the limits no product of two sizes
// with an element size overflows. Any thread.
//
// The variant: InternLM2 by its language model; F16 when num_frames is 16; otherwise by the first name
// that holds one of the words f16, hd, 8b (in this order, any case): dir (for a hub snapshot its
// repository), then _name_or_path, then model_cls. Without any it is HD.
int config_load(struct model_config *c, const char *dir, struct err *e);
// The same from n bytes already read. name: the file, for messages. dir_name: the name that helps to
// tell the 8B, HD and F16 releases apart, whose config.json are alike; may be NULL.
int config_parse(struct model_config *c, const char *json, size_t n, const char *name,
                 const char *dir_name, struct err *e);
// Sets variant and n_frame.
void config_set_variant(struct model_config *c, enum variant v);
// "8b", "hd", "f16", "internlm" <-> enum; variant_from_name returns false for other strings.
const char *variant_name(enum variant v);
bool variant_from_name(const char *s, enum variant *out);

#endif
