// SPDX-License-Identifier: MIT
// Binds a checkpoint: configuration -> sizes -> weight tables. The rows of pos_embed are the one size
// that the checkpoint decides: a release for 16 frames may carry a table for 8 (SPEC 8).
#include "model/model.h"

#include <string.h>

#include "base/mem.h"
#include "model/dims.h"
#include "model/gguf_names.h"

static const char POS_EMBED[] = "vision_encoder.pos_embed";

// Frames that pos_embed was made for, from its shape [1, 1 + T0 n_patch, d].
static int count_pos_frames(const struct model *m, size_t *n_frame, struct err *e)
{
    const struct tensor *t = weights_find(m->weights, POS_EMBED);
    size_t n_patch = m->config.vit.n_patch;
    char shape[80];
    if (!t)
        return err_set(e, ERR_MODEL, "%s: missing from the model files", POS_EMBED);
    if (t->rank != 3 || t->dim[1] < 1 + n_patch || (t->dim[1] - 1) % n_patch != 0)
        return err_set(e, ERR_MODEL, "%s: expected [1,1+%zu*frames,%zu], file has %s", POS_EMBED,
                       n_patch, m->config.vit.d_model,
                       shape_text(t->dim, t->rank, shape, sizeof shape));
    *n_frame = (t->dim[1] - 1) / n_patch;
    return 0;
}

static void set_sizes(const struct model_config *c, size_t n_frame_pos, size_t size[DIM_N])
{
    const struct llm_config *l = &c->llm;
    size[DIM_1] = 1;
    size[DIM_RGB] = 3;
    size[DIM_VIT] = c->vit.d_model;
    size[DIM_VIT_QKV] = 3 * c->vit.d_model;
    size[DIM_VIT_FFN] = c->vit.d_ffn;
    size[DIM_VIT_POS] = 1 + n_frame_pos * c->vit.n_patch;
    size[DIM_VIT_IMG_POS] = 1 + c->vit.n_patch;
    size[DIM_PATCH] = c->vit.patch;
    size[DIM_QF] = c->qformer.d_model;
    size[DIM_QF_FFN] = c->qformer.d_ffn;
    size[DIM_QF_VOCAB] = c->qformer.n_vocab;
    size[DIM_QF_POS] = c->qformer.n_pos;
    size[DIM_QUERY] = c->qformer.n_query_base;
    size[DIM_QUERY_EXTRA] = c->qformer.n_query_extra;
    size[DIM_LLM] = l->d_model;
    size[DIM_LLM_Q] = l->n_head * l->d_head;
    size[DIM_LLM_KV] = l->n_kv * l->d_head;
    size[DIM_LLM_WQKV] = (l->n_head + 2 * l->n_kv) * l->d_head;
    size[DIM_LLM_FFN] = l->d_ffn;
    size[DIM_LLM_VOCAB] = l->n_vocab;
}

// Configuration and weights are there; binds every tensor.
static int bind_all(struct model *m, struct err *e)
{
    int rc;
    size_t size[DIM_N], n_frame_pos = 0;
    struct binder b = {0};
    if (!m->config.text_only)
        TRY(count_pos_frames(m, &n_frame_pos, e));
    set_sizes(&m->config, n_frame_pos, size);
    const struct llm_config *l = &m->config.llm;
    float scale = l->lora_r ? l->lora_alpha / (float)l->lora_r : 0.0f;
    TRY(binder_init(&b, m->weights, size, l->lora_r, scale, e));
    if (!m->config.text_only) {
        TRY(vit_bind(&m->vit, &m->config.vit, n_frame_pos, &b, e));
        TRY(qformer_bind(&m->qformer, &m->config.qformer, &b, e));
    }
    m->n_order_vision = b.n_order;
    TRY(llm_bind(&m->llm, l, &b, e));
    TRY(bind_check_unused(&b, e));
    m->order = b.order;
    m->n_order = b.n_order;
    b.order = NULL;
fail:
    binder_free(&b);
    return rc;
}

int model_open(struct model *m, const char *dir, struct err *e)
{
    int rc;
    memset(m, 0, sizeof *m);
    TRY(config_load(&m->config, dir, e));
    TRY(weights_open(dir, &m->weights, e));
    TRY(bind_all(m, e));
    return 0;
fail:
    model_close(m);
    return rc;
}

int model_open_gguf(struct model *m, const char *language, const char *vision, struct err *e)
{
    int rc;
    bool is_vision;
    struct gguf_file file[2] = {0};
    memset(m, 0, sizeof *m);
    TRY(gguf_open(&file[0], language, e));
    TRY(gguf_kind(&file[0], &is_vision, e));
    if (is_vision)
        TRY(err_set(e, ERR_MODEL, "%s: a vision file; name the language file", language));
    if (vision) {
        TRY(gguf_open(&file[1], vision, e));
        TRY(gguf_kind(&file[1], &is_vision, e));
        if (!is_vision)
            TRY(err_set(e, ERR_MODEL,
                        "%s: no vision file (its architecture is not \"" GGUF_VISION_ARCHITECTURE
                        "\")",
                        vision));
    }
    TRY(gguf_config(&m->config, &file[0], vision ? &file[1] : NULL, e));
    TRY(weights_take_gguf(file, vision ? 2 : 1, gguf_adapt, NULL, &m->weights, e));
    TRY(bind_all(m, e));
    return 0;
fail:
    gguf_close(&file[0]);
    gguf_close(&file[1]);
    model_close(m);
    return rc;
}

void model_close(struct model *m)
{
    vit_free(&m->vit);
    qformer_free(&m->qformer);
    llm_free(&m->llm);
    mem_free(m->order);
    weights_close(m->weights);
    memset(m, 0, sizeof *m);
}
