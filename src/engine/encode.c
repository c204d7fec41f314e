// SPDX-License-Identifier: MIT
// pixels -> video transformer -> Q-Former -> rows for the language model, kept in the media object so
// that every later question finds them. (SPEC 7.6: rows depend only on media and instruction)
//
// The same code runs first on the planner, which says how large the scratch arena must be, then on the
// real backend; nothing is allocated while it runs.
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "text/ids.h"

struct encode_job {
    const iv_engine *engine;
    struct hooks hooks;
    size_t n_clip, n_frame, n_tok, n_row;
    const float *pixels; // NULL when planning
    float *position;     // [n_tok, d_vit]
    const int32_t *text; // instruction ids, NULL when planning
    size_t n_text;
};

static void job_init(struct encode_job *j, const iv_engine *engine, size_t n_clip, size_t n_frame)
{
    memset(j, 0, sizeof *j);
    j->engine = engine;
    j->n_clip = n_clip;
    j->n_frame = n_frame;
    j->n_tok = vit_tokens(&engine->config.vit, n_frame);
    j->n_row = n_clip * engine->config.qformer.n_query;
}

// out, host: f32 [n_clip * n_tok, d]
static void run_vision(struct ops *o, const struct encode_job *j, float *out)
{
    const struct model *m = &j->engine->model;
    struct mat x = ops_mat(o, j->n_clip * j->n_tok, m->vit.c.d_model);
    vit_forward(o, &m->vit,
                &(struct vit_input){.pixels = j->pixels,
                                    .n_clip = j->n_clip,
                                    .n_frame = j->n_frame,
                                    .position = j->position,
                                    .hooks = &j->hooks},
                x);
    op_download(o, out, x);
}

// queries, rows, host: f32 [n_row, d_qformer], [n_row, d_llm]
static void run_qformer(struct ops *o, const struct encode_job *j, const float *vit, float *queries,
                        float *rows)
{
    const struct model *m = &j->engine->model;
    struct mat x = ops_mat(o, j->n_clip * j->n_tok, m->vit.c.d_model);
    struct mat q = ops_mat(o, j->n_row, m->qformer.c.d_model);
    struct mat r = ops_mat(o, j->n_row, m->llm.c.d_model);
    op_upload(o, x, vit);
    qformer_forward(o, &m->qformer,
                    &(struct qformer_input){.vision = x,
                                            .n_clip = j->n_clip,
                                            .text = j->text,
                                            .n_text = j->n_text,
                                            .hooks = &j->hooks},
                    q);
    qformer_project(o, &m->qformer, q, r);
    op_download(o, queries, q);
    op_download(o, rows, r);
}

static int plan_job(const struct encode_job *j, struct ops_plan *vision, struct ops_plan *qformer,
                    struct err *e)
{
    struct encode_job dry = *j;
    struct hooks none = {0};
    struct ops *o = NULL;
    struct ops_options opt = engine_ops_options(j->engine, &none);
    int rc;
    dry.hooks = none;
    TRY(ops_open_plan(&opt, &o, e));
    run_vision(o, &dry, NULL);
    *vision = ops_plan_result(o);
    ops_clear(o);
    ops_plan_reset(o);
    run_qformer(o, &dry, NULL, NULL, NULL);
    *qformer = ops_plan_result(o);
    TRY(ops_status(o, e));
fail:
    ops_close(o);
    return rc;
}

int media_encode_plan(const iv_engine *engine, size_t n_clip, size_t n_frame, size_t n_text,
                      struct ops_plan *vision, struct ops_plan *qformer, struct err *e)
{
    struct encode_job j;
    job_init(&j, engine, n_clip, n_frame);
    j.n_text = n_text;
    return plan_job(&j, vision, qformer, e);
}

// New host array of rows x cols f32.
static int host_rows(float **out, size_t rows, size_t cols, const char *what, struct err *e)
{
    size_t n;
    *out = mul_size(rows, cols, &n) ? mem_calloc(n, sizeof **out) : NULL;
    return *out ? 0 : err_set(e, ERR_LIMIT, "%s: out of memory for [%zu,%zu]", what, rows, cols);
}

static int encode_vision(iv_media *media, struct encode_job *j, struct ops *o, double *ms,
                         struct err *e)
{
    int rc;
    double start = clock_ms();
    float *vit = NULL;
    const struct vit *v = &media->engine->model.vit;
    TRY(host_rows(&vit, j->n_clip * j->n_tok, v->c.d_model, "vision rows", e));
    TRY(host_rows(&j->position, j->n_tok, v->c.d_model, "position table", e));
    vit_position(v, j->n_frame, j->position);
    run_vision(o, j, vit);
    TRY(ops_status(o, e));
    media->vit = vit;
    vit = NULL;
    *ms += clock_ms() - start;
fail:
    mem_free(j->position);
    j->position = NULL;
    mem_free(vit);
    return rc;
}

static int encode_rows(iv_media *media, struct encode_job *j, struct ops *o, double *ms,
                       struct err *e)
{
    int rc;
    double start = clock_ms();
    const struct model *m = &media->engine->model;
    float *queries = NULL, *rows = NULL;
    TRY(host_rows(&queries, j->n_row, m->qformer.c.d_model, "Q-Former rows", e));
    TRY(host_rows(&rows, j->n_row, m->llm.c.d_model, "projected rows", e));
    run_qformer(o, j, media->vit, queries, rows);
    TRY(ops_status(o, e));
    mem_free(media->queries);
    mem_free(media->rows);
    media->queries = queries;
    media->rows = rows;
    queries = rows = NULL;
    *ms += clock_ms() - start;
fail:
    mem_free(queries);
    mem_free(rows);
    return rc;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

int media_encode(iv_media *media, const char *instruction, const struct iv_callbacks *cb,
                 double *vision_ms, double *qformer_ms, struct err *e)
{
    const iv_engine *engine = media->engine;
    struct ids text = {0};
    struct ops *o = NULL;
    struct ops_plan vision, qformer;
    struct encode_job j;
    char *copy = NULL;
    int rc = 0;

    if (engine->tokenizer_only)
        return err_set(e, ERR_USAGE, "the engine was opened without weights");
    if (!template_of(engine->config.variant)->qformer_instruction || (instruction && !*instruction))
        instruction = NULL; // an empty instruction is none (SPEC trap 18)
    if (media->rows && same_text(media->instruction, instruction))
        return 0;
    prefetch_until(engine->prefetch, engine->model.n_order_vision);
    job_init(&j, engine, media->info.n_clip, media->info.n_frame);
    j.hooks = callback_hooks(cb);
    j.pixels = media->pixels;
    if (instruction) {
        copy = mem_strndup(instruction, strlen(instruction));
        if (!copy)
            return err_set(e, ERR_LIMIT, "out of memory for the instruction");
        struct text_span span = {instruction, strlen(instruction), false};
        TRY(wordpiece_encode(engine->wordpiece, &span, 1, &text, e));
        if (text.n > engine->config.qformer.n_pos)
            TRY(err_set(e, ERR_USAGE, "instruction: %zu tokens, the Q-Former has %zu positions",
                        text.n, engine->config.qformer.n_pos));
        j.text = text.v;
        j.n_text = text.n;
    }
    struct ops_options opt = engine_ops_options(engine, &j.hooks);
    TRY(ops_open_cpu(&opt, &o, e));
    TRY(plan_job(&j, &vision, &qformer, e));
    TRY(ops_reserve(o, max_size(media->vit ? 0 : vision.arena_bytes, qformer.arena_bytes), e));
    ops_set_tap(o, callback_tap(cb));
    if (!media->vit) {
        callback_stage(cb, "pixels", "f32", media->pixels,
                       (const size_t[]){1, j.n_clip, j.n_frame, 3, engine->config.vit.image_size,
                                        engine->config.vit.image_size},
                       6);
        TRY(encode_vision(media, &j, o, vision_ms, e));
        ops_clear(o);
    }
    TRY(encode_rows(media, &j, o, qformer_ms, e));
    mem_free(media->instruction);
    media->instruction = copy;
    copy = NULL;
    media->info.vision_ms += *vision_ms;
    media->info.qformer_ms += *qformer_ms;
fail:
    ops_close(o);
    ids_free(&text);
    mem_free(copy);
    return rc;
}

void media_forget(iv_media *media)
{
    mem_free(media->vit);
    mem_free(media->queries);
    mem_free(media->rows);
    mem_free(media->instruction);
    media->vit = media->queries = media->rows = NULL;
    media->instruction = NULL;
}

// A copy of n floats for the caller.
static int copy_stage(const float *src, size_t n, float **out, struct err *e)
{
    size_t bytes;
    *out = mul_size(n, sizeof *src, &bytes) ? mem_calloc(n, sizeof *src) : NULL;
    if (!*out)
        return err_set(e, ERR_LIMIT, "stage: out of memory for %zu values", n);
    memcpy(*out, src, bytes);
    return 0;
}

int iv_media_stage(iv_media *media, enum iv_stage stage, const char *instruction, float **data,
                   size_t dim[6], unsigned *n_dim, struct iv_error *error)
{
    struct err e = {0};
    const struct model_config *c = &media->engine->config;
    const struct iv_media_info *info = &media->info;
    size_t n_query = c->qformer.n_query, side = c->vit.image_size, n = 1;
    size_t shape[4][6] = {{1, info->n_clip, info->n_frame, 3, side, side},
                          {info->n_clip, vit_tokens(&c->vit, info->n_frame), c->vit.d_model},
                          {info->n_clip, n_query, c->qformer.d_model},
                          {info->n_clip * n_query, c->llm.d_model}};
    static const unsigned rank[4] = {6, 3, 3, 2};
    double vision_ms = 0, qformer_ms = 0;
    int rc = 0;
    *data = NULL;
    *n_dim = 0;
    memset(dim, 0, sizeof shape[0]);
    if ((unsigned)stage > IV_STAGE_PROJECTED)
        return status_out(err_set(&e, ERR_USAGE, "stage %d is unknown", (int)stage), &e, error);
    for (unsigned i = 0; i < rank[stage]; i++)
        n *= shape[stage][i];
    rc = media_lock(media, &media->callbacks, &e);
    if (rc != 0)
        return status_out(rc, &e, error);
    if (stage != IV_STAGE_PIXELS)
        TRY(media_encode(media, instruction, &media->callbacks, &vision_ms, &qformer_ms, &e));
    const float *src[4] = {media->pixels, media->vit, media->queries, media->rows};
    TRY(copy_stage(src[stage], n, data, &e));
    memcpy(dim, shape[stage], sizeof shape[stage]);
    *n_dim = rank[stage];
fail:
    pthread_mutex_unlock(&media->lock);
    return status_out(rc, &e, error);
}
