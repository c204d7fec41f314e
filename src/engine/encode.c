// SPDX-License-Identifier: MIT
// pixels -> video transformer -> Q-Former -> rows for the language model, kept in the media object so
// that every later question finds them, and in the engine's cache. (SPEC 7.6: rows depend only on media
// and instruction)
//
//   for each part (the whole media, or a segment):  cache, or decode -> vision -> Q-Former -> cache
//   rows of all parts, one behind the other
//
// The same code runs first on the planner, which says how large the scratch arena must be, then on the
// real backend; nothing is allocated while it runs.
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "engine/gate.h"
#include "engine/identity.h"
#include "ops/op_profile.h"
#include "text/ids.h"

struct encode_job {
    const iv_engine *engine;
    struct hooks hooks;    // of the part: progress counts through all of them
    struct gate_pass pass; // through which the forwards report to them
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

// f32 [n_clip * n_tok, d] on the arena
static struct mat vision(struct ops *o, const struct encode_job *j)
{
    const struct model *m = &j->engine->model;
    struct mat x = ops_mat(o, j->n_clip * j->n_tok, m->vit.c.d_model);
    ops_profile_stage(o, STAGE_VISION);
    vit_forward(o, &m->vit,
                &(struct vit_input){.pixels = j->pixels,
                                    .n_clip = j->n_clip,
                                    .n_frame = j->n_frame,
                                    .position = j->position,
                                    .hooks = &j->pass.hooks},
                x);
    return x;
}

// out, host: f32 [n_clip * n_tok, d]
static void run_vision(struct ops *o, const struct encode_job *j, float *out)
{
    op_download(o, out, vision(o, j));
}

// queries, rows, host: f32 [n_row, d_qformer], [n_row, d_llm]
static void qformer(struct ops *o, const struct encode_job *j, struct mat x, float *queries,
                    float *rows)
{
    const struct model *m = &j->engine->model;
    struct mat q = ops_mat(o, j->n_row, m->qformer.c.d_model);
    struct mat r = ops_mat(o, j->n_row, m->llm.c.d_model);
    ops_profile_stage(o, STAGE_QFORMER);
    qformer_forward(o, &m->qformer,
                    &(struct qformer_input){.vision = x,
                                            .n_clip = j->n_clip,
                                            .text = j->text,
                                            .n_text = j->n_text,
                                            .hooks = &j->pass.hooks},
                    q);
    qformer_project(o, &m->qformer, q, r);
    op_download(o, queries, q);
    op_download(o, rows, r);
}

static void run_qformer(struct ops *o, const struct encode_job *j, const float *vit, float *queries,
                        float *rows)
{
    struct mat x = ops_mat(o, j->n_clip * j->n_tok, j->engine->model.vit.c.d_model);
    op_upload(o, x, vit);
    qformer(o, j, x, queries, rows);
}

// Both, without the host in between; *vision_ms is the time of the first.
static void run_both(struct ops *o, const struct encode_job *j, float *queries, float *rows,
                     double *vision_ms)
{
    double start = clock_ms();
    float last;
    struct mat x = vision(o, j);
    op_download(o, &last, mat_cols(mat_rows(x, x.rows - 1, 1), 0, 1)); // waits
    *vision_ms += clock_ms() - start;
    qformer(o, j, x, queries, rows);
}

static int plan_job(const struct encode_job *j, struct ops_plan *vision, struct ops_plan *qformer,
                    struct err *e)
{
    struct encode_job dry = *j;
    struct hooks none = {0};
    struct ops *o = NULL;
    int rc;
    dry.hooks = none;
    dry.pass = (struct gate_pass){0};
    TRY(engine_open_plan(j->engine, &none, &o, e));
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

// Scratch of run_both.
static int plan_both(const struct encode_job *j, size_t *bytes, struct err *e)
{
    struct encode_job dry = *j;
    struct hooks none = {0};
    struct ops *o = NULL;
    double ms = 0;
    int rc;
    dry.hooks = none;
    dry.pass = (struct gate_pass){0};
    TRY(engine_open_plan(j->engine, &none, &o, e));
    run_both(o, &dry, NULL, NULL, &ms);
    *bytes = ops_plan_result(o).arena_bytes;
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
    int rc = plan_job(&j, vision, qformer, e);
    if (rc == 0 && engine->gpu) // without the host in between
        rc = plan_both(&j, &vision->arena_bytes, e);
    return rc;
}

// New host array of rows x cols f32.
static int host_rows(float **out, size_t rows, size_t cols, const char *what, struct err *e)
{
    size_t n;
    *out = mul_size(rows, cols, &n) ? mem_calloc(n, sizeof **out) : NULL;
    return *out ? 0 : err_set(e, ERR_LIMIT, "%s: out of memory for [%zu,%zu]", what, rows, cols);
}

// ---- progress of several parts as that of one

struct part_progress {
    const struct iv_callbacks *cb;
    size_t part, n_part;
};

static void report_part(void *user, const char *stage, size_t done, size_t total)
{
    const struct part_progress *p = user;
    if (p->cb->progress)
        p->cb->progress(p->cb->user, stage, p->part * total + done, p->n_part * total);
}

static bool abort_part(void *user)
{
    const struct part_progress *p = user;
    return p->cb->abort && p->cb->abort(p->cb->user);
}

// ---- one part

struct encode {
    iv_media *media;
    const struct encode_request *r;
    struct encode_times *times;
    struct encode_job job;
    struct part_progress progress;
    struct ops *ops;
    struct ids text;
    float *queries;    // of all parts
    size_t n_computed; // parts that were not in the cache
    struct shared_rows *rows;
};

// On a GPU the video transformer's rows stay there: another instruction computes them anew, which is sooner
// done than they are fetched and sent back.
static bool joined(const struct encode *x)
{
    return x->media->engine->gpu && !x->media->vit && !x->r->vit;
}

static int open_stream(struct encode *x, struct err *e)
{
    struct ops_plan vision, qformer;
    size_t bytes;
    int rc = 0;
    if (!x->ops) {
        TRY(engine_open_ops(x->media->engine, &x->job.hooks, &x->ops, e));
        TRY(plan_job(&x->job, &vision, &qformer, e));
        bytes = max_size(x->media->vit ? 0 : vision.arena_bytes, qformer.arena_bytes);
        if (joined(x))
            TRY(plan_both(&x->job, &bytes, e));
        TRY(ops_reserve(x->ops, bytes, e));
    }
    ops_clear(x->ops);
    ops_set_tap(x->ops, callback_tap(x->r->cb));
fail:
    return rc;
}

// vit: the rows, the caller's; or NULL and queries and rows (see encode_part) at once.
static int encode_vision(struct encode *x, const float *pixels, float **vit, float *queries,
                         float *rows, struct err *e)
{
    int rc;
    struct encode_job *j = &x->job;
    double start = clock_ms();
    size_t side = j->engine->config.vit.image_size;
    const struct vit *v = &j->engine->model.vit;
    callback_stage(x->r->cb, "pixels", "f32", pixels,
                   (const size_t[]){1, j->n_clip, j->n_frame, 3, side, side}, 6);
    if (vit)
        TRY(host_rows(vit, j->n_clip * j->n_tok, v->c.d_model, "vision rows", e));
    if (!j->engine->gpu || !vit_stored_position(v, j->n_frame)) {
        TRY(host_rows(&j->position, j->n_tok, v->c.d_model, "position table", e));
        vit_position(v, j->n_frame, j->position);
    }
    j->pixels = pixels;
    double before = x->times->vision_ms;
    TRY(gate_enter(j->engine->gate, &j->pass, &j->hooks, e));
    if (vit)
        run_vision(x->ops, j, *vit);
    else
        run_both(x->ops, j, queries, rows, &x->times->vision_ms);
    TRY(ops_status(x->ops, e));
    ops_clear(x->ops);
    if (vit)
        x->times->vision_ms += clock_ms() - start;
    else
        x->times->qformer_ms += clock_ms() - start - (x->times->vision_ms - before);
fail:
    gate_leave(&j->pass);
    mem_free(j->position);
    j->position = NULL;
    return rc;
}

// Decodes the frames if that is not done and runs the video transformer; vit, queries, rows as encode_vision.
static int part_vision(struct encode *x, size_t i, float **vit, float *queries, float *rows,
                       struct err *e)
{
    struct clips clips = {0};
    iv_media *m = x->media;
    int rc = 0;
    const float *pixels = m->pixels;
    if (!pixels) {
        double start = clock_ms(), ms = 0;
        m->decode_cb = *x->r->cb;
        TRY(segments_read(m, i, &clips, &ms, e));
        pixels = clips.pixels;
        m->info.preprocess_ms += ms;
        m->info.decode_ms += clock_ms() - start - ms;
    }
    TRY(encode_vision(x, pixels, vit, queries, rows, e));
fail:
    clips_free(&clips);
    return rc;
}

// rows, queries: where the part's go.
static int encode_part(struct encode *x, size_t i, float *queries, float *rows, struct err *e)
{
    int rc;
    float *vit = NULL;
    bool whole = x->media->n_part == 1;
    TRY(open_stream(x, e));
    if (joined(x)) {
        TRY(part_vision(x, i, NULL, queries, rows, e));
        x->times->cached = false;
        x->n_computed++;
        return 0;
    }
    if (!x->media->vit) {
        TRY(part_vision(x, i, &vit, NULL, NULL, e));
        if (whole && x->media->pixels) { // another instruction will want it
            x->media->vit = vit;
            vit = NULL;
        }
    }
    double start = clock_ms();
    TRY(gate_enter(x->job.engine->gate, &x->job.pass, &x->job.hooks, e));
    run_qformer(x->ops, &x->job, x->media->vit ? x->media->vit : vit, queries, rows);
    TRY(ops_status(x->ops, e));
    x->times->qformer_ms += clock_ms() - start;
    x->times->cached = false;
    x->n_computed++;
fail:
    gate_leave(&x->job.pass);
    mem_free(vit);
    return rc;
}

static int part_key(struct encode *x, size_t i, struct cache_key *key, struct err *e)
{
    iv_media *m = x->media;
    int rc = 0;
    if (!m->content_known) {
        size_t n = m->info.n_clip * m->clip_frames * 3, side = x->job.engine->config.vit.image_size;
        TRY(identity_of_floats(m->pixels, n * side * side, &x->job.hooks, m->content, e));
        m->content_known = m->content_of_pixels = true;
    }
    struct rows_source s = {.content = m->content,
                            .options = &m->options,
                            .image = m->info.image,
                            .pixels = m->content_of_pixels,
                            .n_clip = m->part_clips,
                            .n_frame = m->clip_frames,
                            .frame_index = m->frame_index + i * m->clip_frames,
                            .text = x->text.v,
                            .n_text = x->text.n};
    rc = identity_of_rows(m->engine, &s, &x->job.hooks, key, e);
fail:
    return rc;
}

static int make_rows(struct encode *x, size_t i, struct shared_rows **out, struct err *e)
{
    const struct model_config *c = &x->media->engine->config;
    struct shared_rows *r = NULL;
    int rc;
    TRY(shared_rows_new(x->job.n_row, c->llm.d_model, &r, e));
    TRY(encode_part(x, i, x->queries + i * x->job.n_row * c->qformer.d_model, r->v, e));
    *out = r;
    return 0;
fail:
    shared_rows_drop(&r);
    return rc;
}

// The part's rows: from the cache or from another thread that makes the same, else made and kept there.
static int part_rows(struct encode *x, size_t i, struct shared_rows **out, struct err *e)
{
    struct cache *cache = x->media->engine->cache;
    struct flight *work = NULL;
    struct cache_key key;
    bool stages = x->r->cb->stage || x->r->vit || x->r->queries; // want the work itself
    bool use = x->r->use_cache && cache_on(cache);
    int rc = 0;
    *out = NULL;
    x->progress.part = i;
    if (use)
        TRY(part_key(x, i, &key, e));
    if (use && !stages)
        TRY(cache_want(cache, &key, x->job.n_row, x->media->engine->config.llm.d_model,
                       &x->job.hooks, &work, out, e));
    if (*out)
        return 0;
    rc = make_rows(x, i, out, e);
    if (work)
        cache_made(cache, &key, work, *out, &x->job.hooks);
    else if (use && rc == 0)
        cache_keep(cache, &key, *out, &x->job.hooks);
fail:
    return rc;
}

// ---- all parts

static int all_rows(struct encode *x, struct err *e)
{
    const struct model_config *c = &x->media->engine->config;
    size_t n = x->media->n_part, part = x->job.n_row * c->llm.d_model;
    int rc;
    TRY(host_rows(&x->queries, n * x->job.n_row, c->qformer.d_model, "Q-Former rows", e));
    if (n == 1)
        return part_rows(x, 0, &x->rows, e);
    TRY(shared_rows_new(n * x->job.n_row, c->llm.d_model, &x->rows, e));
    for (size_t i = 0; i < n; i++) {
        struct shared_rows *r;
        TRY(part_rows(x, i, &r, e));
        memcpy(x->rows->v + i * part, r->v, shared_rows_bytes(r));
        shared_rows_drop(&r);
    }
fail:
    return rc;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

// The ids that the Q-Former reads of the instruction.
static int instruction_ids(struct encode *x, const char *instruction, struct err *e)
{
    const iv_engine *g = x->media->engine;
    struct text_span span = {instruction, instruction ? strlen(instruction) : 0, false};
    int rc = 0;
    if (!instruction)
        return 0;
    x->text.hooks = &x->job.hooks;
    TRY(wordpiece_encode(g->wordpiece, &span, 1, &x->text, e));
    if (x->text.n > g->config.qformer.n_pos)
        TRY(err_set(e, ERR_USAGE, "instruction: %zu tokens, the Q-Former has %zu positions",
                    x->text.n, g->config.qformer.n_pos));
    x->job.text = x->text.v;
    x->job.n_text = x->text.n;
fail:
    return rc;
}

static int encode(struct encode *x, const char *instruction, struct err *e)
{
    iv_media *m = x->media;
    char *copy = NULL;
    int rc;
    job_init(&x->job, m->engine, m->part_clips, m->clip_frames);
    x->job.hooks = callback_hooks(x->r->cb);
    if (m->n_part > 1) {
        x->progress = (struct part_progress){.cb = x->r->cb, .n_part = m->n_part};
        x->job.hooks.user = &x->progress;
        x->job.hooks.progress = report_part;
        x->job.hooks.abort = x->job.hooks.abort ? abort_part : NULL;
        x->job.hooks.log = NULL;
    }
    if (instruction) {
        copy = mem_strndup(instruction, strlen(instruction));
        if (!copy)
            TRY(err_set(e, ERR_LIMIT, "out of memory for the instruction"));
    }
    TRY(instruction_ids(x, instruction, e));
    prefetch_until(m->engine->prefetch, m->engine->model.n_order_vision);
    TRY(all_rows(x, e));
    shared_rows_drop(&m->rows);
    mem_free(m->queries);
    mem_free(m->instruction);
    m->rows = shared_rows_hold(x->rows);
    m->queries = NULL;
    if (x->n_computed == m->n_part) {
        m->queries = x->queries;
        x->queries = NULL;
    }
    m->instruction = copy;
    copy = NULL;
    m->info.vision_ms += x->times->vision_ms;
    m->info.qformer_ms += x->times->qformer_ms;
fail:
    mem_free(copy);
    return rc;
}

const char *media_instruction(const iv_engine *g, const char *instruction)
{
    bool reads = template_of(g->config.variant)->qformer_instruction;
    return reads && instruction && *instruction ? instruction : NULL;
}

int media_encode(iv_media *m, const struct encode_request *r, struct encode_times *t, struct err *e)
{
    const char *instruction = media_instruction(m->engine, r->instruction);
    struct encode x = {.media = m, .r = r, .times = t};
    *t = (struct encode_times){.cached = true};
    int rc = engine_check_computes(m->engine, e);
    if (rc != 0)
        return rc;
    if (m->rows && same_text(m->instruction, instruction) && (m->queries || !r->queries) &&
        (m->vit || !r->vit))
        return 0;
    if (m->restored)
        return err_set(e, ERR_USAGE,
                       "%s: restored without its frames, so it cannot be encoded anew",
                       m->path ? m->path : "the media");
    rc = encode(&x, instruction, e);
    ops_close(x.ops);
    ids_free(&x.text);
    mem_free(x.queries);
    shared_rows_drop(&x.rows);
    return rc;
}

void media_forget(iv_media *m)
{
    if (m->restored)
        return;
    mem_free(m->vit);
    mem_free(m->queries);
    mem_free(m->instruction);
    shared_rows_drop(&m->rows);
    m->vit = m->queries = NULL;
    m->instruction = NULL;
}
