// SPDX-License-Identifier: MIT
// iv_plan: memory, tokens and time of a turn before anything is decoded or allocated. Sizes come from
// the planner running the very forward code; times from a probe of this machine (one product of many
// rows for arithmetic, one of a single row for memory).
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "engine/frame_batch.h"
#include "engine/runner.h"

// Code, libraries, threads; FFmpeg's, which the first medium opens; an entry of a vocabulary with its look-up; a
// decoder's code and buffers, and what of them stays when it is closed: measured on the tiny models.
static const uint64_t PROCESS_BYTES = (uint64_t)10 << 20, FFMPEG_BYTES = (uint64_t)15 << 20,
                      PIECE_BYTES = 170, DECODER_BYTES = (uint64_t)16 << 20,
                      DECODED_BYTES = (uint64_t)8 << 20;

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
    opt.watch = NULL;
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

// What a media takes, and the scratch of encoding it. The three numbers of bytes are of three moments: while frames
// become pixels (and a decoder is open), while they are encoded, and for as long as the media is open.
struct media_plan {
    struct clips_plan clips; // of a part
    size_t n_part, n_clip, n_visual, n_frame;
    struct ops_plan vision, qformer; // of a part
    uint64_t decode, encode, kept;
};

// Segments of a video from start_s to end_s.
static int plan_parts(const struct iv_media_options *o, size_t *n, struct err *e)
{
    *n = 1;
    if (o->segment_s == 0)
        return 0;
    double length = o->end_s - (o->start_s > 0 ? o->start_s : 0);
    if (!(o->segment_s >= 0.001) || !(length > 0) || !(length / o->segment_s < 1e9))
        return err_set(e, ERR_USAGE, "plan: segments of %g s of a video until %g s", o->segment_s,
                       o->end_s);
    *n = (size_t)ceil(length / o->segment_s);
    return 0;
}

static int plan_media(const iv_engine *g, const struct iv_media_options *o, size_t width,
                      size_t height, struct media_plan *p, struct err *e)
{
    const struct model_config *c = &g->config;
    size_t n_frame = o->n_frame > 0 ? (size_t)o->n_frame : c->n_frame, rows;
    uint64_t vit, made, cached;
    int rc;
    p->n_frame = n_frame;
    TRY(media_check_options(o, e));
    TRY(plan_parts(o, &p->n_part, e));
    TRY(media_clips_plan(g, o, n_frame, width, height, &p->clips, e));
    TRY(media_encode_plan(g, p->clips.n_clip, n_frame, 0, &p->vision, &p->qformer, e));
    if (!mul_size(p->clips.n_clip, p->n_part, &p->n_clip) ||
        !mul_size(p->n_clip, c->qformer.n_query, &p->n_visual) ||
        !mul_size(p->n_visual, 4 * (c->qformer.d_model + 2 * c->llm.d_model), &rows))
        TRY(err_set(e, ERR_LIMIT, "plan: %zu segments of %zu clips", p->n_part, p->clips.n_clip));
    vit = 4 * p->clips.n_clip * vit_tokens(&c->vit, n_frame) * c->vit.d_model;
    rows = 4 * p->n_visual * c->llm.d_model;
    // one copy of rows; the cache keeps those of segments one by one beside it
    cached = p->n_part > 1 ? cache_limit(g->cache) : 0;
    made = 4 * p->n_visual * c->qformer.d_model + rows + (cached < rows ? cached : rows);
    p->decode = p->clips.frame_bytes + p->clips.pixel_bytes + frame_batch_bytes(&p->clips, g->pool);
    p->encode = p->clips.pixel_bytes + vit + made;
    p->kept = p->n_part > 1 ? made : p->encode;
    if (p->n_part > 1) { // the video stays open, and its last frame with it
        p->decode += made;
        p->encode += p->clips.frame_bytes;
        p->kept += p->clips.frame_bytes;
    }
fail:
    return rc;
}

// The most at one moment of what a turn takes beside weights and process. The decoder of a video in segments stays
// open, and the scratch of vision is there while the next segment is decoded; it is given back before the KV cache is
// made.
static uint64_t peak_of(const struct media_plan *m, bool media, uint64_t vision, uint64_t text)
{
    uint64_t decoder = media ? DECODER_BYTES : 0;
    uint64_t stays = m->n_part > 1 || !media ? decoder : DECODED_BYTES;
    uint64_t peak = m->decode + decoder + (m->n_part > 1 ? vision : 0);
    uint64_t encode = m->encode + stays + vision, turn = m->kept + stays + text;
    peak = encode > peak ? encode : peak;
    return turn > peak ? turn : peak;
}

static uint64_t process_bytes(const iv_engine *g, bool media)
{
    return PROCESS_BYTES + (media ? FFMPEG_BYTES : 0) + g->lora.bytes + engine_lora_bytes(g) +
           PIECE_BYTES * (tokenizer_size(g->tokenizer) + wordpiece_size(g->wordpiece));
}

// What of a turn is on the GPU; with its memory out->peak_bytes is the host's.
static int plan_gpu(const iv_engine *g, const struct device_turn *t, uint64_t host_peak,
                    struct iv_plan *out, struct err *e)
{
    struct device_plan p = {0};
    struct gpu_info info = {0};
    struct iv_gpu_plan *u = &out->gpu;
    int rc = 0;
    bool lacks = g->gpu_lacks[0] != 0;
    if (!g->gpu && !lacks)
        return 0;
    u->kind = !g->gpu ? IV_GPU_PLAN_UNKNOWN : lacks ? IV_GPU_PLAN_ESTIMATE : IV_GPU_PLAN_DEVICE;
    u->device = lacks ? g->gpu_name : g->device;
    u->reason = lacks ? g->gpu_lacks : NULL;
    if (!g->gpu)
        return 0;
    TRY(engine_device_plan(g, t, &p, e));
    gpu_get_info(g->gpu, &info);
    u->weight_bytes = gpu_memory_weights(p.weights);
    u->plain_bytes = p.weights[GPU_MEM_PLAIN];
    u->q8_0_bytes = p.weights[GPU_MEM_Q8_0];
    u->q6_k_bytes = p.weights[GPU_MEM_Q6_K];
    u->q4_k_bytes = p.weights[GPU_MEM_Q4_K];
    u->q4_0_bytes = p.weights[GPU_MEM_Q4_0];
    u->lora_bytes = p.weights[GPU_MEM_LORA];
    u->vector_bytes = p.weights[GPU_MEM_VECTORS];
    u->table_bytes = p.weights[GPU_MEM_TABLES];
    u->kv_bytes = p.kv;
    u->work_bytes = p.scratch;
    u->stream_bytes = p.streams;
    u->load_bytes = p.load;
    u->pinned_bytes = p.pinned;
    u->peak_bytes = p.peak;
    u->free_bytes = lacks ? 0 : engine_device_room(g);
    u->memory_bytes = info.memory_bytes;
    out->peak_bytes = host_peak + p.pinned;
fail:
    return rc;
}

static int check_request(const iv_engine *g, const struct iv_ask_options *ask, struct err *e)
{
    if (g->tokenizer_only)
        return err_set(e, ERR_USAGE, "the engine was opened without weights");
    if (ask->max_new_tokens < 1 || ask->num_beams < 1 || ask->num_beams > RUNNER_MAX_BEAM)
        return err_set(e, ERR_USAGE, "plan: max_new_tokens %d, num_beams %d", ask->max_new_tokens,
                       ask->num_beams);
    return 0;
}

int iv_plan(const iv_engine *g, const struct iv_media_options *mo, size_t width, size_t height,
            size_t prompt_tokens, const struct iv_ask_options *ask, struct iv_plan *out,
            struct iv_error *error)
{
    struct err e = {0};
    struct ops_plan prefill = {0}, step = {0}, none, last_step = {0};
    struct media_plan m = {0};
    struct probe probe = {0};
    int rc;
    memset(out, 0, sizeof *out);
    TRY(check_request(g, ask, &e));
    if (mo)
        TRY(plan_media(g, mo, width, height, &m, &e));
    size_t n_beam = (size_t)ask->num_beams, n_prompt = m.n_visual + prompt_tokens;
    if (prompt_tokens > g->config.llm.n_ctx_max || m.n_visual > g->config.llm.n_ctx_max ||
        n_prompt > g->config.llm.n_ctx_max)
        TRY(err_set(&e, ERR_LIMIT, "plan: %zu visual and %zu text tokens, the model holds %zu",
                    m.n_visual, prompt_tokens, g->config.llm.n_ctx_max));
    TRY(runner_plan(g, 0, n_prompt, n_beam, &prefill, &step, &e));
    // what does not fit in the context is not generated; the last token is not fed back
    size_t n_ctx = g->config.llm.n_ctx_max, room = n_ctx - n_prompt + 1;
    size_t n_new = min_size((size_t)ask->max_new_tokens, room);
    size_t n_pos = min_size(n_prompt + n_new, n_ctx);
    TRY(runner_plan(g, n_pos - 1, n_pos - 1, n_beam, &none, &last_step, &e));
    TRY(probe_machine(g, &probe, &e));

    size_t n_cache = n_beam > 1 ? 2 * n_beam : 1;
    size_t vision_bytes = max_size(m.vision.arena_bytes, m.qformer.arena_bytes);
    size_t text_bytes = max_size(prefill.arena_bytes, last_step.arena_bytes);
    out->weight_bytes = g->info.file_bytes;
    out->kv_bytes = n_cache * kv_bytes(&g->config.llm, g->kv_types, n_pos);
    // a cache grows matrix by matrix: one of one layer is there twice meanwhile
    size_t growth = kv_growth_bytes(&g->config.llm, g->kv_types, n_pos);
    out->media_bytes = max_size(m.decode, m.encode);
    out->work_bytes = max_size(vision_bytes, text_bytes);
    out->peak_bytes = out->weight_bytes + process_bytes(g, mo != NULL) +
                      peak_of(&m, mo != NULL, vision_bytes, text_bytes + out->kv_bytes + growth);
    struct device_turn turn = {.n_clip = m.clips.n_clip,
                               .n_frame = m.n_frame,
                               .n_prompt = n_prompt,
                               .n_pos = n_pos,
                               .n_beam = n_beam};
    TRY(plan_gpu(g, &turn,
                 out->weight_bytes + process_bytes(g, mo != NULL) + peak_of(&m, mo != NULL, 0, 0),
                 out, &e));
    out->n_clip = m.n_clip;
    out->visual_tokens = m.n_visual;
    out->prompt_tokens = n_prompt;
    out->max_new_tokens = n_new;
    out->vision_flop = (double)m.n_part * (m.vision.flops + m.qformer.flops);
    out->prefill_flop = prefill.flops;
    out->decode_bytes_per_token = step.weight_bytes;
    out->vit_flop = (double)m.n_part * m.vision.flops;
    out->qformer_flop = (double)m.n_part * m.qformer.flops;
    out->decode_flop_per_token = step.flops;
    out->vit_bytes = (double)m.n_part * m.vision.weight_bytes;
    out->qformer_bytes = (double)m.n_part * m.qformer.weight_bytes;
    out->prefill_bytes = prefill.weight_bytes;
    out->decode_kv_bytes =
        (double)(out->kv_bytes / n_cache * n_beam) * (double)n_prompt / (double)n_pos;
    out->vision_s = out->vision_flop / probe.flops_per_s;
    out->prefill_s = out->prefill_flop / probe.flops_per_s;
    out->decode_s_per_token = step.weight_bytes / probe.bytes_per_s;
fail:
    return status_out(rc, &e, error);
}
