// SPDX-License-Identifier: MIT
// `ivchat info --plan`: memory, tokens and time before any work.
//
//   frame size: --size, else of the video when the grid depends on it (--padding, --fix-ratio auto)
//   prompt:     the tokens of -p (else of a question of QUESTION_TOKENS) and of the template:
//               TEMPLATE_TOKENS around the media, TURN_TOKENS around every question (SPEC 6.6)
//   time:       vision + prefill + new tokens, from iv_plan's probe of this machine's processor
//   GPU:        where one computes, its memory apart from the host's
//
// Easy to get wrong: only the modes whose grid depends on the frame size have to know it; the
// default grid is planned without touching the file, with frames of 1280x720.

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "info.h"
#include "savefile.h"

enum { QUESTION_TOKENS = 16, TEMPLATE_TOKENS = 24, TURN_TOKENS = 6 };

static int count_tokens(struct work *w, size_t *n)
{
    const struct settings *s = w->s;
    *n = TEMPLATE_TOKENS + TURN_TOKENS;
    for (size_t i = 0; i < s->prompt.n; i++) {
        int32_t *ids;
        size_t n_id;
        const char *text = s->prompt.item[i];
        int rc = iv_tokenize(w->engine, IV_TOKENIZER_LM, text, strlen(text), false, &ids, &n_id,
                             &w->error);
        if (rc != IV_OK)
            return rc;
        iv_free(ids);
        *n += n_id + (i > 0 ? TURN_TOKENS : 0);
    }
    if (s->prompt.n == 0)
        *n += QUESTION_TOKENS;
    return IV_OK;
}

static bool needs_size(const struct settings *s)
{
    return s->padding || s->fix_ratio.cols == 0;
}

int info_plan_check(struct work *w)
{
    const struct settings *s = w->s;
    if (s->segments > 0 && s->end_s <= 0 && !s->video)
        return app_error(&w->error, IV_ERR_USAGE,
                         "--plan: the number of segments depends on the length; give --end or "
                         "--video");
    if (needs_size(s) && s->size.cols == 0 && !s->video && s->image.n == 0)
        return app_error(&w->error, IV_ERR_USAGE,
                         "--plan: the grid depends on the frame size; give --size WxH or --video");
    return IV_OK;
}

static int frame_size(struct work *w, size_t *width, size_t *height)
{
    const struct settings *s = w->s;
    *width = (size_t)s->size.cols;
    *height = (size_t)s->size.rows;
    if (*width > 0 || !needs_size(s))
        return IV_OK;
    int rc = w->media ? IV_OK : work_media(w);
    if (rc != IV_OK)
        return rc;
    *width = (size_t)iv_media_info(w->media)->width;
    *height = (size_t)iv_media_info(w->media)->height;
    return IV_OK;
}

static double machine_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (double)pages * (double)size : 0;
}

static const char *amount(char out[24], double bytes)
{
    if (bytes >= ldexp(1, 30))
        (void)snprintf(out, 24, "%.2f GiB", ldexp(bytes, -30));
    else
        (void)snprintf(out, 24, "%.1f MiB", ldexp(bytes, -20));
    return out;
}

static void tell_gpu_text(struct console *c, const struct iv_gpu_plan *g)
{
    char b[6][24];
    const struct {
        const char *name;
        uint64_t bytes;
    } part[] = {{"bf16 or f32", g->plain_bytes}, {"Q8_0", g->q8_0_bytes},   {"Q6_K", g->q6_k_bytes},
                {"Q4_K", g->q4_k_bytes},         {"Q4_0", g->q4_0_bytes},   {"LoRA", g->lora_bytes},
                {"vectors", g->vector_bytes},    {"tables", g->table_bytes}};
    const char *comma = "";
    if (g->kind == IV_GPU_PLAN_UNKNOWN) {
        (void)console_print(c, "GPU memory    cannot be told: %s; what stands above is the CPU's\n",
                            g->reason);
        return;
    }
    (void)console_print(
        c, "GPU memory    %s at the peak: weights %s, work %s, KV cache %s, streams %s\n",
        amount(b[0], (double)g->peak_bytes), amount(b[1], (double)g->weight_bytes),
        amount(b[2], (double)g->work_bytes), amount(b[3], (double)g->kv_bytes),
        amount(b[4], (double)g->stream_bytes));
    (void)console_print(c, "  weights     ");
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (part[i].bytes == 0)
            continue;
        (void)console_print(c, "%s%s %s", comma, part[i].name, amount(b[0], (double)part[i].bytes));
        comma = ", ";
    }
    (void)console_print(c, "; %s at the peak of loading\n", amount(b[0], (double)g->load_bytes));
    (void)console_print(c, "  host        %s pinned\n", amount(b[0], (double)g->pinned_bytes));
    if (g->kind == IV_GPU_PLAN_ESTIMATE)
        (void)console_print(c, "  device      not here, so estimated: %s\n", g->reason);
    else
        (void)console_print(c, "  device      %s: %s free of %s%s\n", g->device,
                            amount(b[0], (double)g->free_bytes),
                            amount(b[1], (double)g->memory_bytes),
                            g->peak_bytes > g->free_bytes ? ", TOO LITTLE" : "");
}

static void tell_text(struct console *c, const struct iv_plan *p, double total_s)
{
    bool on_gpu = p->gpu.kind == IV_GPU_PLAN_DEVICE || p->gpu.kind == IV_GPU_PLAN_ESTIMATE;
    char b[6][24];
    (void)console_print(c, "\nplan\n");
    (void)console_print(
        c, "tokens        %llu clips, %llu visual, %llu in the prompt, up to %llu new\n",
        (unsigned long long)p->n_clip, (unsigned long long)p->visual_tokens,
        (unsigned long long)p->prompt_tokens, (unsigned long long)p->max_new_tokens);
    if (on_gpu)
        (void)console_print(c, "memory        %s at the peak: weights %s, media %s\n",
                            amount(b[0], (double)p->peak_bytes),
                            amount(b[1], (double)p->weight_bytes),
                            amount(b[4], (double)p->media_bytes));
    else
        (void)console_print(
            c, "memory        %s at the peak: weights %s, work %s, KV cache %s, media %s\n",
            amount(b[0], (double)p->peak_bytes), amount(b[1], (double)p->weight_bytes),
            amount(b[2], (double)p->work_bytes), amount(b[3], (double)p->kv_bytes),
            amount(b[4], (double)p->media_bytes));
    (void)console_print(c, "this machine  %s\n", amount(b[5], machine_bytes()));
    if (p->gpu.kind != IV_GPU_PLAN_NONE)
        tell_gpu_text(c, &p->gpu);
    (void)console_print(c,
                        "%s vision %.3g s, prefill %.3g s, %.3g s a token; about %.3g s in all\n",
                        on_gpu ? "time, on CPU " : "time         ", p->vision_s, p->prefill_s,
                        p->decode_s_per_token, total_s);
}

static void tell_gpu_json(struct json_writer *j, const struct iv_gpu_plan *g)
{
    static const char *const kinds[] = {[IV_GPU_PLAN_DEVICE] = "device",
                                        [IV_GPU_PLAN_ESTIMATE] = "estimate",
                                        [IV_GPU_PLAN_UNKNOWN] = "unknown"};
    jw_object(j, "gpu");
    jw_text(j, "device", g->device);
    jw_text(j, "kind", kinds[g->kind]);
    jw_text(j, "reason", g->reason);
    if (g->kind != IV_GPU_PLAN_UNKNOWN) {
        jw_count(j, "weight_bytes", g->weight_bytes);
        jw_object(j, "weights");
        jw_count(j, "plain", g->plain_bytes);
        jw_count(j, "q8_0", g->q8_0_bytes);
        jw_count(j, "q6_k", g->q6_k_bytes);
        jw_count(j, "q4_k", g->q4_k_bytes);
        jw_count(j, "q4_0", g->q4_0_bytes);
        jw_count(j, "lora", g->lora_bytes);
        jw_count(j, "vectors", g->vector_bytes);
        jw_count(j, "tables", g->table_bytes);
        jw_end(j);
        jw_count(j, "kv_bytes", g->kv_bytes);
        jw_count(j, "work_bytes", g->work_bytes);
        jw_count(j, "stream_bytes", g->stream_bytes);
        jw_count(j, "load_bytes", g->load_bytes);
        jw_count(j, "pinned_bytes", g->pinned_bytes);
        jw_count(j, "peak_bytes", g->peak_bytes);
    }
    if (g->kind == IV_GPU_PLAN_DEVICE) {
        jw_count(j, "free_bytes", g->free_bytes);
        jw_count(j, "memory_bytes", g->memory_bytes);
    }
    jw_end(j);
}

static void tell_json(struct json_writer *j, const struct iv_plan *p, double total_s)
{
    jw_object(j, "plan");
    jw_count(j, "clips", p->n_clip);
    jw_count(j, "visual_tokens", p->visual_tokens);
    jw_count(j, "prompt_tokens", p->prompt_tokens);
    jw_count(j, "max_new_tokens", p->max_new_tokens);
    jw_count(j, "weight_bytes", p->weight_bytes);
    jw_count(j, "work_bytes", p->work_bytes);
    jw_count(j, "kv_bytes", p->kv_bytes);
    jw_count(j, "media_bytes", p->media_bytes);
    jw_count(j, "peak_bytes", p->peak_bytes);
    jw_count(j, "machine_bytes", (uint64_t)machine_bytes());
    jw_real(j, "vision_flop", p->vision_flop);
    jw_real(j, "prefill_flop", p->prefill_flop);
    jw_real(j, "decode_bytes_per_token", p->decode_bytes_per_token);
    jw_real(j, "vision_s", p->vision_s);
    jw_real(j, "prefill_s", p->prefill_s);
    jw_real(j, "decode_s_per_token", p->decode_s_per_token);
    jw_real(j, "total_s", total_s);
    if (p->gpu.kind != IV_GPU_PLAN_NONE)
        tell_gpu_json(j, &p->gpu);
    jw_end(j);
}

// With segments the plan must know where the video ends.
static int length(struct work *w, struct iv_media_options *o)
{
    if (o->segment_s <= 0 || o->end_s > 0)
        return IV_OK;
    int rc = w->media ? IV_OK : work_media(w);
    if (rc == IV_OK)
        o->end_s = iv_media_info(w->media)->duration_s;
    return rc;
}

int info_plan(struct work *w, struct json_writer *json)
{
    const struct settings *s = w->s;
    struct iv_media_options media = work_media_options(w);
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_plan plan = {0};
    size_t tokens, width, height;

    if (s->image.n > 0 && !s->video)
        media.n_frame = 1;
    if (s->image.n > 1)
        console_warn(w->con, "--plan: counts one of the %zu images", s->image.n);
    ask.max_new_tokens = s->max_new_tokens;
    ask.num_beams = s->num_beams;
    int rc = count_tokens(w, &tokens);
    if (rc == IV_OK)
        rc = frame_size(w, &width, &height);
    if (rc == IV_OK)
        rc = length(w, &media);
    if (rc == IV_OK)
        rc = iv_plan(w->engine, &media, width, height, tokens, &ask, &plan, &w->error);
    if (rc != IV_OK)
        return rc;
    double total_s =
        plan.vision_s + plan.prefill_s + (double)plan.max_new_tokens * plan.decode_s_per_token;
    if (json)
        tell_json(json, &plan, total_s);
    else
        tell_text(w->con, &plan, total_s);
    return IV_OK;
}
