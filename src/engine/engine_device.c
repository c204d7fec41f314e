// SPDX-License-Identifier: MIT
// Where the engine computes: the CPU, or a GPU whose memory then holds a copy of the weights.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "ops/op_profile.h"

int engine_open_ops(const iv_engine *engine, const struct hooks *hooks, struct ops **out,
                    struct err *e)
{
    struct ops_options opt = engine_ops_options(engine, hooks);
    if (engine->gpu)
        return ops_open_gpu(engine->gpu, &opt, out, e);
    int rc = ops_open_cpu(&opt, out, e);
    if (rc == 0)
        ops_profile(*out, engine->profile);
    return rc;
}

int engine_open_plan(const iv_engine *engine, const struct hooks *hooks, struct ops **out,
                     struct err *e)
{
    struct ops_options opt = engine_ops_options(engine, hooks);
    return engine->gpu ? ops_open_gpu_plan(engine->gpu, &opt, false, out, e)
                       : ops_open_plan(&opt, out, e);
}

// A failure to have what was asked for by name.
static int refuse(const char *device, struct err *e)
{
    struct err cause = *e;
    return err_set(e, cause.code == ERR_FAIL ? ERR_USAGE : cause.code, "device \"%s\": %s", device,
                   cause.msg);
}

int engine_check_device(const char *device, bool plan_only, struct err *e)
{
    int index;
    bool must;
    int rc = gpu_parse(device, &index, &must, e);
    if (rc == 0 && must && !plan_only && index != GPU_NONE && gpu_probe(index, e) != 0)
        rc = refuse(device, e);
    return rc;
}

static void name_cpu(iv_engine *g)
{
    snprintf(g->device, sizeof g->device, "cpu");
    snprintf(g->tier, sizeof g->tier, "%s", cpu_tier_name(g->kernels.tier));
}

// Asked for by name, to plan only, and not there.
static int plan_without(iv_engine *g, const struct gpu_options *opt, struct err *e)
{
    snprintf(g->gpu_lacks, sizeof g->gpu_lacks, "%.255s", e->msg);
    snprintf(g->gpu_name, sizeof g->gpu_name, "cuda:%d", opt->index);
    e->code = 0;
    if (gpu_is_built())
        return gpu_open_plan(opt, &g->gpu, e);
    return 0;
}

bool engine_in_blocks(const iv_engine *g)
{
    const struct model *m = &g->model;
    bool blocks = false;
    for (size_t i = m->n_order_vision; i < m->n_order; i++)
        blocks = blocks || dtype_is_block(m->order[i]->dtype);
    return blocks;
}

// For a GPU that computes; the processor takes no notice of w. By name at once, else when it is known that the GPU is large
// enough.
static int check_weights(const iv_engine *g, enum gpu_weights w, struct err *e)
{
    if (w == GPU_WEIGHTS_PLAIN || !engine_in_blocks(g))
        return 0;
    return err_set(e, ERR_USAGE,
                   "gpu weights \"%s\": %s is quantised already; use \"plain\" with it",
                   gpu_weights_name(w), g->name);
}

int engine_open_device(iv_engine *g, const char *device, const char *weights, struct err *e)
{
    struct gpu_options opt = {.compute = g->compute,
                              .n_layer = g->config.llm.n_layer,
                              .pool = g->pool,
                              .kernels = &g->kernels};
    struct gpu_info info;
    bool must;
    int rc;
    name_cpu(g);
    TRY(gpu_parse(device, &opt.index, &must, e));
    if (weights && !gpu_weights_from_name(weights, &opt.weights))
        TRY(err_set(e, ERR_USAGE, "gpu weights \"%s\": expected plain, q8_0, q4_0, q4_k_m or q6_k",
                    weights));
    if (opt.weights != GPU_WEIGHTS_PLAIN && g->compute != COMPUTE_BF16)
        TRY(err_set(e, ERR_USAGE, "gpu weights \"%s\": only with dtype bf16", weights));
    if (opt.index == GPU_NONE || g->tokenizer_only)
        return 0;
    if (must)
        TRY(check_weights(g, opt.weights, e));
    if (g->compute == COMPUTE_INT8 && must)
        return err_set(e, ERR_USAGE,
                       "device \"%s\": dtype int8 runs on the CPU; use bf16 or f32 on a GPU",
                       device);
    if (g->compute == COMPUTE_INT8) {
        if (gpu_is_built())
            log_line(&g->hooks, LOG_INFO, "dtype int8: running on the CPU");
        return 0;
    }
    if (g->observer && must)
        return err_set(e, ERR_USAGE,
                       "device \"%s\": an importance matrix is gathered on the CPU in this version",
                       device);
    if (g->observer)
        return 0;
    struct kv_types own = kv_types_of(g->compute);
    if (g->kv_types.k != own.k || g->kv_types.v != own.v) {
        if (must)
            return err_set(e, ERR_USAGE,
                           "device \"%s\": cache types %s and %s; a GPU that computes in %s keeps "
                           "keys and values in %s",
                           device, kv_type_name(g->kv_types.k), kv_type_name(g->kv_types.v),
                           kv_type_name(own.k), kv_type_name(own.k));
        if (gpu_is_built())
            log_line(&g->hooks, LOG_INFO, "cache types %s and %s: running on the CPU",
                     kv_type_name(g->kv_types.k), kv_type_name(g->kv_types.v));
        return 0;
    }
    g->gpu_options = opt;
    g->gpu_must = must;
    rc = gpu_open(&opt, &g->gpu, e);
    if (rc != 0 && must && g->plan_only)
        return plan_without(g, &opt, e);
    if (rc != 0 && must)
        return refuse(device, e);
    if (rc != 0) {
        if (gpu_is_built())
            log_line(&g->hooks, LOG_INFO, "%s; running on the CPU", e->msg);
        e->code = 0;
        return 0;
    }
    gpu_get_info(g->gpu, &info);
    snprintf(g->device, sizeof g->device, "cuda:%d (%s)", opt.index, info.name);
    // in bf16 LoRA and LayerScale are in the weights, which has other bits than beside them
    snprintf(g->tier, sizeof g->tier, "%s %s%s", info.name, gpu_weights_name(opt.weights),
             g->compute == COMPUTE_BF16 ? " merged" : "");
    return 0;
fail:
    return rc;
}

// The video transformer, the Q-Former and its projection.
static void name_vision(const struct model *m, struct ops *o)
{
    const struct vit_config *v = &m->vit.c;
    static const struct hooks none = {0};
    static const int32_t ids[1] = {0};
    size_t n_tok = vit_tokens(v, 1);
    struct mat x = {.rows = n_tok, .cols = v->d_model, .stride = v->d_model};
    struct mat queries = ops_mat(o, m->qformer.c.n_query, m->qformer.c.d_model);
    struct mat rows = ops_mat(o, m->qformer.c.n_query, m->llm.c.d_model);
    const struct tensor *position = vit_stored_position(&m->vit, m->vit.n_frame_pos);
    if (position) { // of a clip of many frames; that of one frame is named below
        struct mat clip = {.cols = v->d_model, .stride = v->d_model};
        clip.rows = vit_tokens(v, m->vit.n_frame_pos);
        op_add_table(o, clip, NULL, clip.rows, position);
    }
    vit_forward(o, &m->vit, &(struct vit_input){.n_clip = 1, .n_frame = 1, .hooks = &none}, x);
    qformer_forward(
        o, &m->qformer,
        &(struct qformer_input){.vision = x, .n_clip = 1, .text = ids, .n_text = 1, .hooks = &none},
        queries);
    qformer_project(o, &m->qformer, queries, rows);
}

int engine_name_weights(const iv_engine *g, struct ops *o, struct err *e)
{
    const struct model *m = &g->model;
    static const int32_t ids[1] = {0};
    static const uint32_t pos[1] = {0};
    struct kv_layer *layer = mem_calloc(m->llm.c.n_layer, sizeof *layer);
    if (!layer)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    if (!g->config.text_only)
        name_vision(m, o);
    for (size_t l = 0; l < m->llm.c.n_layer; l++)
        layer[l] = kv_shape(&m->llm.c, g->kv_types, 1);
    struct kv kv = {.ops = o, .layer = layer, .n_layer = m->llm.c.n_layer, .cap = 1};
    struct llm_span span = {.kv = &kv, .n_row = 1};
    struct llm_batch b = {
        .x = ops_mat(o, 1, m->llm.c.d_model), .span = &span, .n_span = 1, .pos = pos};
    op_embed(o, b.x, &m->llm.embed, ids);
    llm_forward(o, &m->llm, &b, ops_mat(o, 1, m->llm.c.n_vocab));
    mem_free(layer);
    return ops_status(o, e);
}

int engine_place_weights(iv_engine *g, struct err *e)
{
    struct ops_options opt = engine_ops_options(g, &g->hooks);
    struct ops *o = NULL;
    struct gpu_memory memory;
    double start = clock_ms();
    int rc;
    // by name a plan is for the GPU though it be too small, or not there
    if (!g->gpu || (g->plan_only && g->gpu_must))
        return 0;
    TRY(engine_check_room(g, e));
    TRY(check_weights(g, g->gpu_options.weights, e));
    if (g->plan_only)
        return 0;
    TRY(ops_open_gpu_plan(g->gpu, &opt, true, &o, e));
    TRY(engine_name_weights(g, o, e));
    gpu_get_memory(g->gpu, &memory);
    log_line(&g->hooks, LOG_INFO, "%s: %zu MiB of weights in %.0f ms, %zu MiB free", g->device,
             gpu_memory_weights(memory.used) >> 20, clock_ms() - start,
             gpu_free_bytes(g->gpu) >> 20);
fail:
    ops_close(o);
    if (rc == ERR_LIMIT && !g->gpu_must) { // "auto" does not insist
        log_line(&g->hooks, LOG_WARN, "%s; running on the CPU", e->msg);
        gpu_close(g->gpu);
        g->gpu = NULL;
        name_cpu(g);
        e->code = rc = 0;
    }
    return rc;
}
