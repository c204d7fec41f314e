// SPDX-License-Identifier: MIT
// The Q-Former ("video BLIP"): 96 learned queries read a clip through cross-attention, optionally
// together with an instruction; and the projection into the language model. (SPEC 5)
#ifndef IV_MODEL_QFORMER_H
#define IV_MODEL_QFORMER_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "model/config.h"
#include "ops/ops.h"
#include "weights/bind.h"

struct qformer_norm {
    struct tensor w, b; // [d_model]
};

struct qformer_attention {
    struct linear query, key,
        value;           // [d_model, d_model]; cross: key and value read the vision width
    struct linear dense; // [d_model, d_model]
    struct qformer_norm norm;
};

struct qformer_ffn {
    struct linear up, down; // [d_ffn, d_model], [d_model, d_ffn]
    struct qformer_norm norm;
};

struct qformer_layer {
    struct qformer_attention self;
    struct qformer_attention cross; // present when layer % cross_every == 0
    struct qformer_ffn query;       // for the query rows
    struct qformer_ffn text;        // for the instruction's rows
};

// Weights, read-only after qformer_bind.
struct qformer {
    struct qformer_config c;
    struct tensor query_tokens, extra_query_tokens; // [n_query_base, d], [n_query_extra, d]
    struct tensor word, position;                   // [n_vocab, d], [n_pos, d]
    struct qformer_norm norm;                       // embeddings
    struct qformer_layer *layer;                    // [c.n_layer]
    struct linear project_up;                       // [d_llm, d] + bias
};

int qformer_bind(struct qformer *q, const struct qformer_config *c, struct binder *b,
                 struct err *e);
void qformer_free(struct qformer *q);

struct qformer_input {
    struct mat vision; // [n_clip * n_tok, d_vision] after vision_layernorm
    size_t n_clip;
    const int32_t *text;       // ids of the instruction, [CLS] .. [SEP]; the same for every clip
    size_t n_text;             // 0 = no instruction; at most n_pos
    const struct hooks *hooks; // progress "qformer": one unit per clip
};

// queries: f32 [n_clip * n_query, d_model]; tap "qformer".
void qformer_forward(struct ops *o, const struct qformer *q, const struct qformer_input *in,
                     struct mat queries);
// rows: f32 [n_clip * n_query, d_llm] = project_up of queries; tap "projected".
void qformer_project(struct ops *o, const struct qformer *q, struct mat queries, struct mat rows);

#endif
