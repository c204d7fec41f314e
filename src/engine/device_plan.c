// SPDX-License-Identifier: MIT
// Memory of a GPU before any is taken: weights and their staging from the placing code itself on a gpu that only
// counts, scratch from the forwards on the device's planner, and the refusal of a device that is too small.
//
//   peak = max(loading,  weights + streams + max(encoding's scratch,  keys and values + scratch of text))
//
// Streams: of the conversation and of encoding, whose buffers stay. Another conversation has its own, and steps that
// several share have one more.
//
// Easy to get wrong: one matrix of a cache is there twice while it grows.
#include <stdio.h>

#include "base/size.h"
#include "engine/engine.h"
#include "engine/runner.h"

// Weights of g on its GPU, and the most that is taken until they are there.
static int plan_weights(const iv_engine *g, struct device_plan *out, struct err *e)
{
    struct ops_options opt = engine_ops_options(g, &g->hooks);
    struct gpu_memory memory;
    struct gpu *counter = NULL;
    struct ops *o = NULL;
    int rc;
    TRY(gpu_open_plan(&g->gpu_options, &counter, e));
    TRY(ops_open_gpu_plan(counter, &opt, true, &o, e));
    TRY(engine_name_weights(g, o, e));
    gpu_get_memory(counter, &memory);
    for (size_t i = 0; i < GPU_MEM_WEIGHTS; i++)
        out->weights[i] = memory.used[i];
    out->load = memory.peak_all;
fail:
    ops_close(o);
    gpu_close(counter);
    return rc;
}

int engine_device_plan(const iv_engine *g, const struct device_turn *t, struct device_plan *out,
                       struct err *e)
{
    struct ops_plan vision = {0}, qformer = {0}, prefill, step, none;
    const struct llm_config *c = &g->config.llm;
    size_t encode = 0, text, n_cache = t->n_beam > 1 ? 2 * t->n_beam : 1;
    size_t n_stream = t->n_clip > 0 ? 2 : 1;
    int rc;
    *out = (struct device_plan){0};
    TRY(plan_weights(g, out, e));
    if (t->n_clip > 0) {
        TRY(media_encode_plan(g, t->n_clip, t->n_frame, 0, &vision, &qformer, e));
        encode = max_size(vision.arena_bytes, qformer.arena_bytes);
    }
    TRY(runner_plan(g, 0, t->n_prompt, t->n_beam, &prefill, &step, e));
    TRY(runner_plan(g, t->n_pos - 1, t->n_pos - 1, t->n_beam, &none, &step, e));
    text = max_size(prefill.arena_bytes, step.arena_bytes);
    out->kv = n_cache * kv_bytes(c, g->kv_types, t->n_pos);
    out->scratch = max_size(encode, text);
    out->streams = n_stream * gpu_stream_bytes();
    out->pinned = gpu_pinned_bytes(n_stream);
    text += out->kv + kv_growth_bytes(c, g->kv_types, t->n_pos);
    out->peak = max_size(out->load,
                         gpu_memory_weights(out->weights) + out->streams + max_size(encode, text));
fail:
    return rc;
}

size_t engine_device_room(const iv_engine *g)
{
    struct gpu_memory memory;
    gpu_get_memory(g->gpu, &memory);
    return gpu_free_bytes(g->gpu) + memory.used_all;
}

// A short question about a clip, or about nothing.
static struct device_turn small_turn(const iv_engine *g)
{
    enum { TEXT = 64, ANSWER = 64 };
    const struct model_config *c = &g->config;
    struct device_turn t = {.n_clip = c->text_only ? 0 : 1, .n_frame = c->n_frame, .n_beam = 1};
    t.n_prompt = min_size(t.n_clip * c->qformer.n_query + TEXT, c->llm.n_ctx_max);
    t.n_pos = min_size(t.n_prompt + ANSWER, c->llm.n_ctx_max);
    return t;
}

// What g would need if its weights lay on the GPU as w.
static int plan_other(const iv_engine *g, enum gpu_weights w, struct device_plan *out,
                      struct err *e)
{
    iv_engine other = *g;
    struct device_turn turn = small_turn(g);
    int rc;
    other.gpu = NULL;
    other.compute = COMPUTE_BF16;
    other.kv_types = kv_types_of(COMPUTE_BF16);
    other.gpu_options.compute = COMPUTE_BF16;
    other.gpu_options.weights = w;
    TRY(gpu_open_plan(&other.gpu_options, &other.gpu, e));
    TRY(engine_device_plan(&other, &turn, out, e));
fail:
    gpu_close(other.gpu);
    return rc;
}

// Whether most of the language model's layers in blocks would be unpacked: in f32 all are, in bf16 those of types without
// kernels. Tables of rows to look up do not count.
static int plan_unpacked(const iv_engine *g, bool *out, struct err *e)
{
    iv_engine text = *g;
    struct device_plan p = {0};
    int rc;
    text.config.text_only = true;
    TRY(plan_weights(&text, &p, e));
    const size_t *w = p.weights;
    *out = w[GPU_MEM_PLAIN] > w[GPU_MEM_Q8_0] + w[GPU_MEM_Q6_K] + w[GPU_MEM_Q4_K] + w[GPU_MEM_Q4_0];
fail:
    return rc;
}

// Of a quantised model, which comes as it is or unpacked.
static int find_fitting_blocks(const iv_engine *g, bool unpacked, size_t room, char *text,
                               size_t cap, struct err *e)
{
    struct device_plan p = {0};
    int rc = 0;
    if (g->compute == COMPUTE_BF16) {
        snprintf(text, cap, "%s",
                 unpacked ? "Q8_0, Q6_K, Q4_K and Q4_0 are not unpacked and need less"
                          : "a model of fewer bits needs less");
        return 0;
    }
    TRY(plan_other(g, GPU_WEIGHTS_PLAIN, &p, e));
    snprintf(text, cap, "dtype bf16 needs %zu%s", p.peak,
             p.peak <= room ? " and would fit" : " and would not fit");
fail:
    return rc;
}

// What fits into `room`, for a message: the first, and so the most exact, that takes less than what was asked for. Of a
// model that is not quantised.
static int find_fitting(const iv_engine *g, size_t room, char *text, size_t cap, struct err *e)
{
    static const enum gpu_weights order[] = {GPU_WEIGHTS_PLAIN, GPU_WEIGHTS_Q8_0, GPU_WEIGHTS_Q6_K,
                                             GPU_WEIGHTS_Q4_K_M, GPU_WEIGHTS_Q4_0};
    struct device_plan p;
    size_t least = SIZE_MAX;
    int rc = 0;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        TRY(plan_other(g, order[i], &p, e));
        least = min_size(least, p.peak);
        if (p.peak > room)
            continue;
        snprintf(text, cap, "%sgpu weights %s need %zu and would fit",
                 g->compute == COMPUTE_BF16 ? "" : "dtype bf16 with ", gpu_weights_name(order[i]),
                 p.peak);
        return 0;
    }
    snprintf(text, cap, "no type of gpu weights fits, the smallest needs %zu", least);
fail:
    return rc;
}

int engine_check_room(const iv_engine *g, struct err *e)
{
    struct device_turn turn = small_turn(g);
    struct device_plan p;
    char weights[64], fitting[128];
    bool unpacked = false;
    size_t room = engine_device_room(g);
    int rc;
    TRY(engine_device_plan(g, &turn, &p, e));
    if (p.peak <= room)
        return 0;
    const char *type = g->compute == COMPUTE_BF16 ? "bf16" : "f32";
    if (!engine_in_blocks(g)) {
        TRY(find_fitting(g, room, fitting, sizeof fitting, e));
        snprintf(weights, sizeof weights, "%s weights in %s",
                 gpu_weights_name(g->gpu_options.weights), type);
    } else {
        TRY(plan_unpacked(g, &unpacked, e));
        TRY(find_fitting_blocks(g, unpacked, room, fitting, sizeof fitting, e));
        snprintf(weights, sizeof weights, "quantised weights %s%s",
                 unpacked ? "unpacked to " : "as they are", unpacked ? type : "");
    }
    rc = err_set(e, ERR_LIMIT,
                 "%s: too little memory: %s and a question%s need %zu bytes, %zu are free; %s",
                 g->device, weights, turn.n_clip > 0 ? " about a clip" : "", p.peak, room, fitting);
fail:
    return rc;
}
