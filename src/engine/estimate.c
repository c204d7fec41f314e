// SPDX-License-Identifier: MIT
// iv_plan: memory, tokens and time of a turn before anything is decoded or allocated. Sizes come from
// the planner running the very forward code; times from a probe of this machine (one product of many
// rows for arithmetic, one of a single row for memory).
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "engine/runner.h"

// Code, libraries, tokenizers and the decoder's own buffers, measured on the tiny models.
static const uint64_t PROCESS_BYTES = (uint64_t)48 << 20;

enum {
    PROBE_OUT = 8192, // 64 MiB of bf16 weights: past every cache
    PROBE_IN = 4096,
    PROBE_ROWS = 64,
    PROBE_MANY_OUT = 1024,
};

struct probe {
    double flops_per_s, bytes_per_s;
};

// Seconds of y = x W^T, the better of two runs.
static double time_linear(struct ops *o, size_t rows, const struct linear *w)
{
    double best = 0;
    for (int i = 0; i < 2; i++) {
        size_t mark = ops_mark(o);
        struct mat x = ops_mat(o, rows, w->w.dim[1]), y = ops_mat(o, rows, w->w.dim[0]);
        op_gelu(o, x); // touches the pages
        double start = clock_ms();
        op_linear(o, y, x, w);
        double t = (clock_ms() - start) * 1e-3;
        best = i == 0 || t < best ? t : best;
        ops_pop(o, mark);
    }
    return best > 1e-9 ? best : 1e-9;
}

// w is [PROBE_OUT, PROBE_IN].
static void time_products(struct ops *o, const struct linear *w, struct probe *out)
{
    struct linear part = *w;
    out->bytes_per_s = (double)w->w.bytes / time_linear(o, 1, w);
    part.w.dim[0] = PROBE_MANY_OUT;
    out->flops_per_s =
        2.0 * PROBE_MANY_OUT * PROBE_IN * PROBE_ROWS / time_linear(o, PROBE_ROWS, &part);
}

static int probe_machine(const iv_engine *g, struct probe *out, struct err *e)
{
    int rc;
    struct hooks none = {0};
    struct ops *o = NULL;
    struct ops_options opt = engine_ops_options(g, &none);
    size_t bytes = (size_t)PROBE_OUT * PROBE_IN * 2;
    char *data = mem_alloc_big(bytes);
    if (!data)
        return err_set(e, ERR_LIMIT, "plan: out of memory for a probe of %zu bytes", bytes);
    memset(data, 0x3c, bytes); // 0.0115 in bf16; written so that the pages are real
    struct linear w = {.w = {.data = data,
                             .dtype = DT_BF16,
                             .rank = 2,
                             .dim = {PROBE_OUT, PROBE_IN},
                             .bytes = bytes,
                             .name = "probe"}};
    TRY(ops_open_plan(&opt, &o, e)); // how much scratch: it grows with the threads
    time_products(o, &w, out);
    size_t scratch = ops_plan_result(o).arena_bytes;
    ops_close(o);
    TRY(ops_open_cpu(&opt, &o, e));
    TRY(ops_reserve(o, scratch, e));
    time_products(o, &w, out);
    TRY(ops_status(o, e));
fail:
    ops_close(o);
    mem_free_big(data, bytes);
    return rc;
}

int iv_plan(const iv_engine *g, const struct iv_media_options *mo, size_t width, size_t height,
            size_t prompt_tokens, const struct iv_ask_options *ask, struct iv_plan *out,
            struct iv_error *error)
{
    struct err e = {0};
    struct ops_plan vision = {0}, qformer = {0}, prefill = {0}, step = {0};
    struct clips_plan clips = {0};
    struct probe probe = {0};
    int rc;
    memset(out, 0, sizeof *out);
    if (g->tokenizer_only)
        TRY(err_set(&e, ERR_USAGE, "the engine was opened without weights"));
    if (ask->max_new_tokens < 1 || ask->num_beams < 1 || ask->num_beams > RUNNER_MAX_BEAM)
        TRY(err_set(&e, ERR_USAGE, "plan: max_new_tokens %d, num_beams %d", ask->max_new_tokens,
                    ask->num_beams));
    size_t n_frame = 0, n_beam = (size_t)ask->num_beams;
    if (mo) {
        n_frame = mo->n_frame > 0 ? (size_t)mo->n_frame : g->config.n_frame;
        TRY(media_clips_plan(g, mo, n_frame, width, height, &clips, &e));
        TRY(media_encode_plan(g, clips.n_clip, n_frame, 0, &vision, &qformer, &e));
    }
    size_t n_visual = clips.n_clip * g->config.qformer.n_query, n_prompt = n_visual + prompt_tokens;
    if (prompt_tokens > g->config.llm.n_ctx_max || n_prompt > g->config.llm.n_ctx_max)
        TRY(err_set(&e, ERR_LIMIT, "plan: %zu visual and %zu text tokens, the model holds %zu",
                    n_visual, prompt_tokens, g->config.llm.n_ctx_max));
    TRY(runner_plan(g, 0, n_prompt, n_beam, &prefill, &step, &e));
    TRY(probe_machine(g, &probe, &e));

    size_t n_pos = n_prompt + (size_t)ask->max_new_tokens;
    size_t n_cache = n_beam > 1 ? 2 * n_beam : 1;
    size_t n_tok = n_frame ? vit_tokens(&g->config.vit, n_frame) : 0;
    out->weight_bytes = g->info.file_bytes;
    out->kv_bytes = n_cache * kv_bytes(&g->config.llm, g->compute, n_pos);
    out->media_bytes = clips.frame_bytes + clips.pixel_bytes +
                       4 * (clips.n_clip * n_tok * g->config.vit.d_model +
                            n_visual * (g->config.qformer.d_model + 2 * g->config.llm.d_model));
    out->work_bytes = max_size(max_size(vision.arena_bytes, qformer.arena_bytes),
                               max_size(prefill.arena_bytes, step.arena_bytes));
    // scratch of vision is given back before the KV cache is made
    out->peak_bytes = out->weight_bytes + out->media_bytes + PROCESS_BYTES +
                      max_size(max_size(vision.arena_bytes, qformer.arena_bytes),
                               max_size(prefill.arena_bytes, step.arena_bytes) + out->kv_bytes);
    out->n_clip = clips.n_clip;
    out->visual_tokens = n_visual;
    out->prompt_tokens = n_prompt;
    out->max_new_tokens = (uint64_t)ask->max_new_tokens;
    out->vision_flop = vision.flops + qformer.flops;
    out->prefill_flop = prefill.flops;
    out->decode_bytes_per_token = step.weight_bytes;
    out->vision_s = out->vision_flop / probe.flops_per_s;
    out->prefill_s = out->prefill_flop / probe.flops_per_s;
    out->decode_s_per_token = step.weight_bytes / probe.bytes_per_s;
fail:
    return status_out(rc, &e, error);
}
