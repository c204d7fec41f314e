// SPDX-License-Identifier: MIT
// `ivchat info`: what a model is; --verify and --plan add their parts.
//
//   text: label and value, a line each        --json: one object on one line with all parts
//
// Opening the engine has already compared every tensor's name, shape and type with what the model
// needs, so arriving here means that they fit.
//
// Easy to get wrong: a failed --verify still prints what was found before it exits with 3.

#include "info.h"

#include <math.h>
#include <string.h>

#include "heap.h"
#include "savefile.h"

// A release is told in GiB and G, a small model in MiB and M.
static void describe_files(struct work *w)
{
    const struct iv_engine_info *i = iv_engine_info(w->engine);
    bool small = i->n_param < 1000000000;
    (void)console_print(w->con, "files         %llu, %.2f %s, %llu tensors, %.3f %s parameters\n",
                        (unsigned long long)i->n_file,
                        ldexp((double)i->file_bytes, small ? -20 : -30), small ? "MiB" : "GiB",
                        (unsigned long long)i->n_tensor, (double)i->n_param * (small ? 1e-6 : 1e-9),
                        small ? "M" : "G");
}

static void describe_text(struct work *w)
{
    const struct iv_engine_info *i = iv_engine_info(w->engine);
    const struct published *p = published_find(i->variant, i->name);
    struct console *c = w->con;

    (void)console_print(c, "name          %s\n", i->name);
    (void)console_print(c, "variant       %s%s%s%s\n", i->variant, p ? " (" : "", p ? p->name : "",
                        p ? ")" : "");
    (void)console_print(
        c, "vision        %llu blocks, width %llu, %llu heads, patch %llu, %llu frames\n",
        (unsigned long long)i->vit_n_layer, (unsigned long long)i->vit_d_model,
        (unsigned long long)i->vit_n_head, (unsigned long long)i->vit_patch,
        (unsigned long long)i->vit_n_frame);
    (void)console_print(c, "Q-Former      %llu layers, width %llu, %llu heads, %llu queries\n",
                        (unsigned long long)i->qformer_n_layer,
                        (unsigned long long)i->qformer_d_model,
                        (unsigned long long)i->qformer_n_head, (unsigned long long)i->n_query);
    (void)console_print(
        c,
        "language      %s, %llu layers, width %llu, %llu heads (%llu kv) of %llu, ffn "
        "%llu, vocabulary %llu, context %llu\n",
        i->family, (unsigned long long)i->llm_n_layer, (unsigned long long)i->llm_d_model,
        (unsigned long long)i->llm_n_head, (unsigned long long)i->llm_n_kv,
        (unsigned long long)i->llm_d_head, (unsigned long long)i->llm_d_ffn,
        (unsigned long long)i->llm_n_vocab, (unsigned long long)i->llm_n_ctx_max);
    (void)console_print(c, "LoRA rank     %llu\n", (unsigned long long)i->lora_r);
    (void)console_print(c, "frames        %llu by default\n",
                        (unsigned long long)i->default_n_frame);
    describe_files(w);
    (void)console_print(c, "computes      %s on %s (%s), %d threads\n", i->dtype, i->device, i->cpu,
                        i->n_threads);
    if (!p)
        return;
    (void)console_print(c, "published as  %s\n",
                        p->repository ? p->repository
                        : p->base     ? "(not published)"
                                      : "part of ivchat");
    (void)console_print(c, "  licence     %s; access: %s\n", p->licence, p->access);
    if (p->base)
        (void)console_print(c, "  made from   %s: %s\n", p->base, p->base_licence);
}

static void describe_json(struct work *w, struct json_writer *json)
{
    const struct iv_engine_info *i = iv_engine_info(w->engine);
    const struct published *p = published_find(i->variant, i->name);

    jw_text(json, "name", i->name);
    jw_text(json, "variant", i->variant);
    jw_text(json, "family", i->family);
    jw_text(json, "type", i->dtype);
    jw_text(json, "device", i->device);
    jw_text(json, "cpu", i->cpu);
    jw_int(json, "threads", i->n_threads);
    jw_count(json, "files", i->n_file);
    jw_count(json, "file_bytes", i->file_bytes);
    jw_count(json, "tensors", i->n_tensor);
    jw_count(json, "parameters", i->n_param);
    jw_object(json, "vision");
    jw_count(json, "layers", i->vit_n_layer);
    jw_count(json, "width", i->vit_d_model);
    jw_count(json, "heads", i->vit_n_head);
    jw_count(json, "patch", i->vit_patch);
    jw_count(json, "frames", i->vit_n_frame);
    jw_end(json);
    jw_object(json, "qformer");
    jw_count(json, "layers", i->qformer_n_layer);
    jw_count(json, "width", i->qformer_d_model);
    jw_count(json, "heads", i->qformer_n_head);
    jw_count(json, "queries", i->n_query);
    jw_end(json);
    jw_object(json, "llm");
    jw_count(json, "layers", i->llm_n_layer);
    jw_count(json, "width", i->llm_d_model);
    jw_count(json, "heads", i->llm_n_head);
    jw_count(json, "kv_heads", i->llm_n_kv);
    jw_count(json, "head_width", i->llm_d_head);
    jw_count(json, "ffn_width", i->llm_d_ffn);
    jw_count(json, "vocabulary", i->llm_n_vocab);
    jw_count(json, "context", i->llm_n_ctx_max);
    jw_count(json, "lora_rank", i->lora_r);
    jw_end(json);
    jw_count(json, "default_num_frames", i->default_n_frame);
    jw_ms(json, "load_ms", i->load_ms);
    if (p) {
        jw_object(json, "published");
        jw_text(json, "name", p->name);
        jw_text(json, "repository", p->repository);
        jw_text(json, "licence", p->licence);
        jw_text(json, "access", p->access);
        jw_text(json, "base_model", p->base);
        jw_text(json, "base_licence", p->base_licence);
        jw_end(json);
    }
    jw_text(json, "version", iv_version());
}

static int finish_json(struct work *w, struct json_writer *json, int rc)
{
    char *line = jw_take(json);
    if (!line)
        return rc != IV_OK ? rc
                           : app_error(&w->error, IV_ERR_LIMIT, "out of memory for the JSON line");
    (void)(console_write(w->con, line, strlen(line)) && console_write(w->con, "\n", 1));
    heap_free(line);
    return rc;
}

static int tell(struct work *w)
{
    const struct settings *s = w->s;
    struct json_writer writer, *json = s->json ? &writer : NULL;
    int rc = IV_OK;
    if (json) {
        jw_begin(json);
        describe_json(w, json);
    } else {
        describe_text(w);
    }
    if (s->verify)
        rc = info_verify(w, json);
    if (s->verify && w->media && rc == IV_OK)
        rc = info_ask(w, json);
    if (s->plan && rc == IV_OK)
        rc = info_plan(w, json);
    return json ? finish_json(w, json, rc) : rc;
}

static int check(struct work *w)
{
    static const char *const of_session[] = {"ctx", "cache-mib", "cache-dir", "cache-dir-mib"};
    const struct settings *s = w->s;
    bool media = s->video || s->image.n > 0;
    if (media && !s->verify && !s->plan)
        return app_error(&w->error, IV_ERR_USAGE, "--video and --image need --verify or --plan");
    if (s->verify && s->image.n > 0)
        return app_error(&w->error, IV_ERR_USAGE,
                         "--verify: the published questions are about a video, not an image");
    int rc = s->plan ? info_plan_check(w) : IV_OK;
    for (size_t i = 0; i < sizeof of_session / sizeof *of_session; i++) {
        if (options_given(w->verb->groups, s, of_session[i]))
            console_warn(w->con, "--%s has no effect on info", of_session[i]);
    }
    return rc == IV_OK ? work_check(w) : rc;
}

int info_run(const struct verb *verb, const struct settings *s, struct console *con)
{
    struct stage_hashes hashes = {0};
    struct work w = {.verb = verb, .s = s, .con = con};
    if (s->verify && s->video) {
        w.watch = stage_hashes_watch;
        w.watch_user = &hashes;
    }
    w.plan_only = s->plan && !(s->verify && s->video);
    int rc = check(&w);
    if (rc == IV_OK)
        rc = work_open(&w, false);
    if (rc == IV_OK && s->verify)
        rc = work_media(&w);
    if (rc == IV_OK)
        rc = tell(&w);
    int exit_code = rc == IV_OK ? 0 : work_fail(&w, rc);
    work_close(&w);
    return exit_code;
}
