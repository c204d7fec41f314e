// SPDX-License-Identifier: MIT
// config.json. What is accepted must hold all that the rest of the program relies on.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check_llm(const struct llm_config *c)
{
    size_t bytes;
    require(c->n_layer && c->n_head && c->n_kv && c->n_head % c->n_kv == 0);
    require(c->d_head >= 4 && c->d_head % 2 == 0 && c->d_model && c->d_ffn && c->n_ctx_max);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct model_config zero;
    struct model_config c;
    struct err e = {0};
    int rc = config_parse(&c, (const char *)data, n, "config.json", "some-8B", &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && memcmp(&c, &zero, sizeof c) == 0);
        return 0;
    }
    const struct vit_config *v = &c.vit;
    require(v->n_head && v->d_head && v->n_head * v->d_head == v->d_model && v->d_ffn &&
            v->n_layer);
    require(v->patch && v->image_size == 224 && v->image_size % v->patch == 0);
    require(v->n_patch == (224 / v->patch) * (224 / v->patch));
    const struct qformer_config *q = &c.qformer;
    require(q->n_head && q->d_model % q->n_head == 0 && q->d_ffn && q->n_layer && q->cross_every);
    require(q->n_query == q->n_query_base + q->n_query_extra && q->n_query_base && q->n_vocab > 1);
    require(q->n_pos && q->eps > 0 && q->eps < 1);
    require(c.n_frame >= 1 && c.n_frame <= 1024 && c.variant <= VARIANT_INTERNLM);
    check_llm(&c.llm);
    return 0;
}
