// SPDX-License-Identifier: MIT
// What the readers of config.json's parts share.
#ifndef IV_MODEL_CONFIG_PARTS_H
#define IV_MODEL_CONFIG_PARTS_H

#include "model/config.h"
#include "model/section.h"

// Limits keep every product of sizes far below 2^64 and refuse what no model of this family has.
enum {
    CONFIG_WIDTH_MAX = 1 << 16, // d_model
    CONFIG_FFN_MAX = 1 << 18,   // d_ffn
    CONFIG_HEAD_MAX = 1 << 10,  // heads
    CONFIG_LAYER_MAX = 1 << 10, // layers
    CONFIG_VOCAB_MAX = 1 << 22, // rows of an embedding
    CONFIG_CTX_MAX = 1 << 24,   // positions
    CONFIG_QUERY_MAX = 1 << 12, // learned queries of each kind
    CONFIG_FRAME_MAX = 1 << 10, // frames of a clip
    CONFIG_LORA_MAX = 1 << 10,  // LoRA rank
};

enum { CONFIG_N_FRAME = 8 }; // of every release but F16

// llm: model_config.llm, s: model_config.llm_config.
int llm_config_parse(struct llm_config *c, const struct section *llm, const struct section *s,
                     struct err *e);
// From the language model, c->n_frame and names in order of trust (any may be NULL); see config_load.
enum variant variant_guess(const struct model_config *c, const char *const *name, size_t n);

#endif
