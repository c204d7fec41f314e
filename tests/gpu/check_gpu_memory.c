// SPDX-License-Identifier: MIT
// What iv_plan says of a GPU's memory against what the backend takes, by purpose:
//   - weights, as plain bf16 and f32 and in each type of blocks: the same bytes, and the same peak of loading;
//   - a turn about clips: streams and scratch the same bytes, keys and values too, the whole peak at most what was planned
//     and less by no more than the matrix of a cache that is there twice where a cache grows;
//   - where the device is emulated: what is counted is what the runtime has handed out, but for its rounding to 16 bytes.
// The models are the test's own and the one that ships with ivchat, whose layers are wide enough for super-blocks; and
// GGUF files made of both, with the vision part and without.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device_matrix.h"
#include "engine/engine.h"
#include "model/kv.h"

static const char tiny[] = TEST_ROOT "/fixtures/tiny-model";
static const char small[] = TEST_ROOT "/../models/ivchat-small";

// A pair of GGUF files, made in `folder`.
struct pair {
    char folder[32];
    struct iv_quantize_result files;
};

enum { CLIPS = 2, FRAMES = 2, SIDE = 224, BLOCKS_MOST = 4096 };

struct setting {
    const char *model, *dtype, *weights;
};

static iv_engine *open_engine(const struct setting *s, bool plan_only)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    iv_engine *g = NULL;
    o.model = s->model;
    o.dtype = s->dtype;
    o.gpu_weights = s->weights;
    o.device = "cuda:0";
    o.n_threads = 2;
    o.cache_mib = 0;
    o.plan_only = plan_only;
    if (iv_engine_open(&o, &g, &e) != IV_OK) {
        report(false, "%s, %s, %s: %s", s->model, s->dtype, s->weights, e.message);
        exit(report_end());
    }
    return g;
}

static void pair_make(struct pair *p, const char *source, const char *type, const char *rule)
{
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_error e = {.message = "no folder for it"};
    o.type = type;
    o.vision_type = rule ? type : NULL;
    o.tensor_type = &rule;
    o.n_tensor_type = rule ? 1 : 0;
    o.n_threads = 2;
    snprintf(p->folder, sizeof p->folder, "/tmp/gpu-memory-XXXXXX");
    if (!mkdtemp(p->folder) || iv_quantize(source, p->folder, &o, &p->files, &e) != IV_OK) {
        report(false, "%s of %s: %s", type, source, e.message);
        exit(report_end());
    }
}

static void pair_delete(struct pair *p)
{
    unlink(p->files.language);
    unlink(p->files.vision);
    rmdir(p->folder);
    iv_quantize_result_free(&p->files);
}

// Of GGUF files their name, which has the type.
static const char *label(const struct setting *s)
{
    const char *slash = strrchr(s->model, '/');
    return strstr(s->model, ".gguf") ? slash + 1 : s->weights;
}

static struct gpu_memory memory_of(const iv_engine *g)
{
    struct gpu_memory m;
    gpu_get_memory(g->gpu, &m);
    return m;
}

// Emulated it has nothing but what is ours; a GPU may have others' between two looks.
static bool is_emulated(const iv_engine *g)
{
    struct gpu_info info;
    gpu_get_info(g->gpu, &info);
    return !strcmp(info.name, "emulated");
}

static struct iv_gpu_plan plan_of(const iv_engine *g, bool media, size_t text,
                                  const struct iv_ask_options *ask)
{
    struct iv_media_options mo = iv_media_options_default();
    struct iv_plan p;
    struct iv_error e;
    mo.n_frame = FRAMES;
    mo.fix_cols = CLIPS - 1;
    mo.fix_rows = 1;
    if (iv_plan(g, media ? &mo : NULL, 0, 0, text, ask, &p, &e) != IV_OK) {
        report(false, "iv_plan: %s", e.message);
        exit(report_end());
    }
    return p.gpu;
}

static void check_weights(const struct setting *s, const char *must)
{
    struct iv_ask_options ask = iv_ask_options_default();
    iv_engine *g = open_engine(s, true);
    struct iv_gpu_plan p = plan_of(g, false, 16, &ask);
    size_t before = memory_of(g).peak_all;
    iv_engine_close(g);
    g = open_engine(s, false);
    struct gpu_memory m = memory_of(g);
    const size_t have[] = {p.plain_bytes, p.q8_0_bytes, p.q6_k_bytes,   p.q4_k_bytes,
                           p.q4_0_bytes,  p.lora_bytes, p.vector_bytes, p.table_bytes};
    struct iv_gpu_plan again = plan_of(g, false, 16, &ask);
    report(p.kind == IV_GPU_PLAN_DEVICE && before == 0 && memcmp(have, m.used, sizeof have) == 0,
           "%s, %s: %zu bytes of weights, each type as planned", s->dtype, label(s),
           gpu_memory_weights(m.used));
    report(p.weight_bytes == m.used_all && p.load_bytes == m.peak_all &&
               m.used[GPU_MEM_LOADING] == 0,
           "%s, %s: all of them, and %zu at the peak of loading", s->dtype, label(s), m.peak_all);
    report(again.weight_bytes == p.weight_bytes && again.peak_bytes == p.peak_bytes &&
               (!is_emulated(g) || again.free_bytes <= p.free_bytes) &&
               p.free_bytes <= p.memory_bytes,
           "%s, %s: the same plan with the weights there", s->dtype, label(s));
    bool there = (strstr(must, "Q4_K") ? p.q4_k_bytes > 0 : true) &&
                 (strstr(must, "Q6_K") ? p.q6_k_bytes > 0 : true) &&
                 (strstr(must, "Q8_0") ? p.q8_0_bytes > 0 : true) &&
                 (strstr(must, "Q4_0") ? p.q4_0_bytes > 0 : true) &&
                 (!strcmp(must, "LoRA beside") ? p.lora_bytes > 0 : true) && p.plain_bytes > 0;
    if (!strcmp(must, "plain ones"))
        there = there && p.q8_0_bytes + p.q6_k_bytes + p.q4_k_bytes + p.q4_0_bytes == 0;
    report(there, "%s, %s: with %s", s->dtype, label(s), must);
    iv_engine_close(g);
}

static iv_media *noise(const iv_engine *g)
{
    size_t n = (size_t)CLIPS * FRAMES * 3 * SIDE * SIDE;
    float *px = malloc(n * sizeof *px);
    iv_media *m = NULL;
    struct iv_error e;
    for (size_t i = 0; i < n; i++)
        px[i] = (float)random_signed();
    if (iv_media_from_pixels(g, px, CLIPS, FRAMES, false, &m, &e) != IV_OK)
        report(false, "pixels: %s", e.message);
    free(px);
    return m;
}

// The runtime's own account, where it is emulated.
static void check_account(const iv_engine *g, const struct gpu_memory *m, const char *what)
{
    struct gpu_info info;
    if (!is_emulated(g))
        return;
    gpu_get_info(g->gpu, &info);
    size_t taken = info.memory_bytes - gpu_free_bytes(g->gpu);
    report(taken >= m->used_all && taken - m->used_all <= (size_t)BLOCKS_MOST * 15,
           "%s: the runtime has handed out %zu bytes, %zu are counted", what, taken, m->used_all);
}

static void check_turn(const struct setting *s, bool media, int num_beams, int max_new)
{
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    iv_session *session = NULL;
    char what[160];
    ask.num_beams = num_beams;
    ask.max_new_tokens = max_new;
    ask.ignore_eos = true;
    snprintf(what, sizeof what, "%s, %s, %s, %d beam%s, %d tokens", s->dtype, label(s),
             media ? "clips" : "text", num_beams, num_beams == 1 ? "" : "s", max_new);
    iv_engine *g = open_engine(s, false);
    iv_media *m = media ? noise(g) : NULL;
    if (iv_session_open(g, m, &so, &session, &e) != IV_OK ||
        iv_session_ask(session, "x", &ask, &a, &e) != IV_OK) {
        report(false, "%s: %s", what, e.message);
        exit(report_end());
    }
    size_t visual = m ? (size_t)iv_media_info(m)->n_clip * iv_engine_info(g)->n_query : 0;
    struct gpu_memory have = memory_of(g);
    struct iv_gpu_plan p = plan_of(g, media, (size_t)a.prompt_tokens - visual, &ask);
    size_t n_pos = (size_t)a.prompt_tokens + (size_t)max_new;
    size_t growth = kv_growth_bytes(&g->config.llm, g->kv_types, n_pos);
    report(have.peak[GPU_MEM_HELD] >= p.kv_bytes && have.peak[GPU_MEM_HELD] <= p.kv_bytes + growth,
           "%s: at most %zu bytes of keys and values, planned %zu and %zu to grow", what,
           have.peak[GPU_MEM_HELD], (size_t)p.kv_bytes, growth);
    report(have.peak[GPU_MEM_SCRATCH] == p.work_bytes, "%s: %zu bytes of scratch, planned %zu",
           what, have.peak[GPU_MEM_SCRATCH], (size_t)p.work_bytes);
    size_t streams = have.peak[GPU_MEM_STREAMS] / gpu_stream_bytes();
    report(have.peak[GPU_MEM_STREAMS] == p.stream_bytes,
           "%s: %zu streams, planned %zu bytes of them", what, streams, (size_t)p.stream_bytes);
    report(have.peak_all <= p.peak_bytes && p.peak_bytes - have.peak_all <= growth,
           "%s: %zu bytes at the peak, planned %zu", what, have.peak_all, (size_t)p.peak_bytes);
    check_account(g, &have, what);
    iv_answer_free(&a);
    iv_session_close(session);
    iv_media_close(m);
    iv_engine_close(g);
}

// A pair that `quantize` writes, as it is in the file.
static void check_pair(const char *source, const char *dtype, const char *type, const char *rule,
                       const char *must)
{
    struct pair p;
    pair_make(&p, source, type, rule);
    check_weights(&(struct setting){p.files.language, dtype, "plain"}, must);
    pair_delete(&p);
}

// Turns with a pair, about clips and, without its vision file, in text.
static void check_pair_turns(void)
{
    struct pair p;
    pair_make(&p, tiny, "Q8_0", "attn_v|ffn_up|fc1=Q5_0");
    struct setting s = {p.files.language, "bf16", "plain"};
    check_turn(&s, true, 1, 4);
    unlink(p.files.vision);
    check_turn(&s, false, 2, 4);
    check_weights(&s, "Q8_0");
    pair_delete(&p);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!device_present())
        return 77;
    check_weights(&(struct setting){small, "bf16", "plain"}, "merged LoRA");
    check_weights(&(struct setting){small, "f32", "plain"}, "LoRA beside");
    check_weights(&(struct setting){small, "bf16", "q8_0"}, "Q8_0");
    check_weights(&(struct setting){small, "bf16", "q6_k"}, "Q6_K and Q8_0");
    check_weights(&(struct setting){small, "bf16", "q4_k_m"}, "Q4_K, Q6_K and Q8_0");
    check_weights(&(struct setting){small, "bf16", "q4_0"}, "Q4_0");
    check_turn(&(struct setting){tiny, "bf16", "plain"}, true, 1, 4);
    check_turn(&(struct setting){tiny, "f32", "plain"}, true, 1, 4);
    check_turn(&(struct setting){tiny, "bf16", "q8_0"}, false, 1, 4);
    check_turn(&(struct setting){tiny, "bf16", "plain"}, false, 2, 4);
    check_turn(&(struct setting){tiny, "bf16", "plain"}, false, 1, 330);
    check_pair(small, "bf16", "Q4_K_M", NULL, "Q4_K, Q6_K and Q8_0");
    check_pair(small, "bf16", "Q6_K", NULL, "Q6_K and Q8_0");
    check_pair(tiny, "bf16", "Q8_0", NULL, "Q8_0");
    check_pair(tiny, "bf16", "Q4_0", "token_embd|attn_k=Q5_0", "Q4_0");
    check_pair(tiny, "bf16", "F16", NULL, "plain ones");
    check_pair(tiny, "bf16", "BF16", NULL, "plain ones");
    check_pair(tiny, "f32", "Q4_0", NULL, "plain ones");
    check_pair_turns();
    return report_end();
}
