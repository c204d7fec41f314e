// SPDX-License-Identifier: MIT
// What the rest of the program relies on in a configuration that was accepted, from whichever file it came.
#ifndef IV_TESTS_CONFIG_RULES_H
#define IV_TESTS_CONFIG_RULES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"
#include "ops/ops.h"
#include "require.h"

static inline void require_head(size_t d_head, size_t least)
{
    require(d_head >= least && d_head <= OPS_HEAD_MAX && d_head % 2 == 0);
}

static inline void require_llm(const struct llm_config *c)
{
    size_t bytes;
    require(c->n_layer && c->n_head && c->n_kv && c->n_head % c->n_kv == 0);
    require(c->d_model && c->d_ffn && c->n_ctx_max);
    require_head(c->d_head, 4);
    require(!__builtin_mul_overflow(c->n_vocab, c->d_model * 8, &bytes));
    require(!__builtin_mul_overflow(c->n_ctx_max * c->n_layer, c->n_kv * c->d_head * 8, &bytes));
    require(c->n_eos >= 1 && c->n_eos <= CONFIG_MAX_EOS);
    for (size_t i = 0; i < c->n_eos; i++)
        require(c->eos[i] >= 0 && (size_t)c->eos[i] < c->n_vocab);
    require(c->bos >= 0 && (size_t)c->bos < c->n_vocab);
    require(isfinite(c->rope_theta) && c->rope_theta >= 1 && c->eps > 0 && c->eps < 1);
    require((c->ntk_factor >= 1 && c->ntk_from > 0) || (c->ntk_factor == 0 && c->ntk_from == 0));
    require(isfinite(c->lora_alpha) && c->lora_r <= 1024);
    require(memchr(c->base_name, 0, sizeof c->base_name) != NULL);
}

// Both vision parts, and what no part has: the frames of a clip and the variant.
static inline void require_vision(const struct model_config *c)
{
    const struct vit_config *v = &c->vit;
    require(v->n_head && v->n_head * v->d_head == v->d_model && v->d_ffn && v->n_layer);
    require_head(v->d_head, 2);
    require(v->patch && v->image_size == 224 && v->image_size % v->patch == 0);
    require(v->n_patch == (224 / v->patch) * (224 / v->patch));
    const struct qformer_config *q = &c->qformer;
    require(q->n_head && q->d_model % q->n_head == 0 && q->d_ffn && q->n_layer && q->cross_every);
    require_head(q->d_model / q->n_head, 2);
    require(q->n_query == q->n_query_base + q->n_query_extra && q->n_query_base && q->n_vocab > 1);
    require(q->n_pos && q->eps > 0 && q->eps < 1);
    require(c->n_frame >= 1 && c->n_frame <= 1024 && c->variant <= VARIANT_INTERNLM);
}

#endif
