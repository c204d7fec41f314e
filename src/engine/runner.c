// SPDX-License-Identifier: MIT
// Prompt -> embeddings -> language model -> logits, over KV caches.
//
// A prompt is fed in chunks so that scratch memory does not grow with its length. Chunks and the part
// recomputed behind a reused prefix always have more than ops_few_rows() rows (unless the whole prompt is
// that short), so a row is computed by the same kernels however the prompt is cut: caching is exact.
#include "engine/runner.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/gate.h"
#include "ops/op_profile.h"

enum {
    CHUNK = 512, // rows: the weights are read once a chunk, scratch is about 250 KB a row at 7B
    GROW =
        256, // positions of room ahead; copying what is there is nothing beside computing so many
};

size_t runner_reusable(const struct runner *r, size_t n_same, size_t n_prompt)
{
    const struct llm_config *c = &r->engine->config.llm;
    size_t tail = ops_few_rows(r->ops) + 1;
    if (llm_rope_theta(c, r->n_prompt) != llm_rope_theta(c, n_prompt))
        return 0;
    if (n_same < tail) // perhaps a whole short prompt, which took the kernels for few rows
        return 0;
    return n_prompt < tail ? 0 : min_size(n_same, n_prompt - tail);
}

// Rows of the next chunk when n are left: never leaves a remainder of ops_few_rows() or less.
static size_t chunk_rows(const struct ops *o, size_t n)
{
    size_t few = ops_few_rows(o);
    if (n <= CHUNK)
        return n;
    return n - CHUNK <= few ? CHUNK - few : CHUNK;
}

// x = embeddings of x.rows ids, visual positions (-1) taken from *rows, which moves on.
static void embed(struct ops *o, const struct llm *m, const int32_t *ids, const float **rows,
                  struct mat x)
{
    for (size_t i = 0; i < x.rows;) {
        bool visual = ids[i] < 0;
        size_t end = i;
        while (end < x.rows && (ids[end] < 0) == visual)
            end++;
        struct mat part = mat_rows(x, i, end - i);
        if (visual) {
            op_upload(o, part, *rows);
            *rows += *rows ? (end - i) * m->c.d_model : 0;
        } else {
            op_embed(o, part, &m->embed, ids + i);
        }
        i = end;
    }
}

// n positions of kv from kv->n on, of a prompt of n_prompt.
static void prefill_chunk(struct ops *o, const struct llm *m, const int32_t *ids,
                          const float **rows, struct kv *kv, size_t n, size_t n_prompt,
                          const struct hooks *hooks, float *logits)
{
    uint32_t pos[CHUNK];
    size_t mark = ops_mark(o);
    ops_profile_stage(o, STAGE_PREFILL);
    for (size_t i = 0; i < n; i++)
        pos[i] = (uint32_t)(kv->n + i);
    struct llm_span span = {.kv = kv, .first_row = 0, .n_row = n};
    struct llm_batch b = {.x = ops_mat(o, n, m->c.d_model),
                          .span = &span,
                          .n_span = 1,
                          .pos = pos,
                          .hooks = hooks,
                          .report = true,
                          .n_pos = n_prompt};
    struct mat out = ops_mat(o, 1, m->c.n_vocab);
    embed(o, m, ids, rows, b.x);
    llm_forward(o, m, &b, out);
    op_download(o, logits, out);
    ops_pop(o, mark);
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

// Names what the calls of a step depend on besides ids and positions (ops_step_begin). 0 where dynamic NTK has another
// rotary base for each step: no step comes again, and one that is recorded may not meet a base for the first time.
static uint64_t step_key(const struct llm *m, const struct kv *cache, size_t n, struct mat out)
{
    uint64_t key = mix(n, (uintptr_t)out.data);
    double theta = 0;
    for (size_t i = 0; i < n; i++) {
        theta = fmax(theta, llm_rope_theta(&m->c, cache[i].n + 1));
        key = mix(key, cache[i].cap);
        for (size_t l = 0; l < m->c.n_layer; l++)
            key = mix(mix(key, (uintptr_t)cache[i].layer[l].k.data),
                      (uintptr_t)cache[i].layer[l].v.data);
    }
    return theta > m->c.rope_theta ? 0 : key;
}

// Caches that grew, moved or were freed since the last step have other addresses or sizes: another key.
static void step_rows(struct ops *o, const struct llm *m, struct kv *cache, const int32_t *ids,
                      size_t n, float *logits)
{
    struct llm_span span[RUNNER_MAX_BEAM];
    uint32_t pos[RUNNER_MAX_BEAM];
    size_t mark = ops_mark(o);
    ops_profile_stage(o, STAGE_DECODE);
    for (size_t i = 0; i < n; i++) {
        span[i] = (struct llm_span){.kv = &cache[i], .first_row = i, .n_row = 1};
        pos[i] = (uint32_t)cache[i].n;
    }
    struct mat out = ops_mat(o, n, m->c.n_vocab);
    struct llm_batch b = {.x = ops_mat(o, n, m->c.d_model), .span = span, .n_span = n, .pos = pos};
    if (ops_step_begin(o, step_key(m, cache, n, out), ids, pos, n)) {
        for (size_t i = 0; i < n; i++)
            cache[i].n++;
    } else {
        op_embed(o, b.x, &m->embed, ids);
        llm_forward(o, m, &b, out);
        ops_step_end(o);
    }
    op_download(o, logits, out);
    ops_pop(o, mark);
}

// The same calls on the planner. Caches have shapes but no memory: planned ops do not look inside.
int runner_plan(const iv_engine *engine, size_t n_reused, size_t n_prompt, size_t n_beam,
                struct ops_plan *prefill, struct ops_plan *step, struct err *e)
{
    int rc;
    struct hooks none = {0};
    struct ops *o = NULL;
    const struct llm *m = &engine->model.llm;
    struct kv_layer *layer = mem_calloc(m->c.n_layer, sizeof *layer);
    struct kv cache[RUNNER_MAX_BEAM];
    int32_t ids[CHUNK] = {0};
    memset(prefill, 0, sizeof *prefill);
    memset(step, 0, sizeof *step);
    if (!layer)
        return err_set(e, ERR_LIMIT, "plan: out of memory");
    TRY(engine_open_plan(engine, &none, &o, e));
    for (size_t l = 0; l < m->c.n_layer; l++)
        layer[l] = kv_shape(&m->c, engine->kv_types, n_prompt + 1);
    for (size_t i = 0; i < RUNNER_MAX_BEAM; i++)
        cache[i] =
            (struct kv){.ops = o, .layer = layer, .n_layer = m->c.n_layer, .cap = n_prompt + 1};
    cache[0].n = n_reused;
    while (cache[0].n < n_prompt) {
        const float *rows = NULL;
        size_t before = cache[0].n;
        prefill_chunk(o, m, ids, &rows, &cache[0], chunk_rows(o, n_prompt - before), n_prompt,
                      &none, NULL);
        TRY(ops_status(o, e));
    }
    *prefill = ops_plan_result(o);
    ops_plan_reset(o);
    for (size_t i = 0; i < n_beam; i++)
        cache[i].n = n_prompt;
    step_rows(o, m, cache, ids, n_beam, NULL);
    *step = ops_plan_result(o);
    TRY(ops_status(o, e));
fail:
    ops_close(o);
    mem_free(layer);
    return rc;
}

size_t runner_ctx_most(const iv_engine *engine)
{
    const struct llm_config *c = &engine->config.llm;
    return c->ntk_factor > 1 ? (size_t)(c->ntk_factor * (double)c->n_ctx_max) : c->n_ctx_max;
}

int runner_init(struct runner *r, const iv_engine *engine, const struct iv_callbacks *cb,
                size_t n_ctx, struct err *e)
{
    int rc;
    const struct llm_config *c = &engine->config.llm;
    memset(r, 0, sizeof *r);
    r->engine = engine;
    r->hooks = callback_hooks(cb);
    r->ctx_limit = n_ctx ? n_ctx : c->n_ctx_max;
    size_t most = runner_ctx_most(engine);
    if (n_ctx > most)
        return err_set(e, ERR_USAGE, "ctx: %zu positions, the model has %zu", n_ctx, most);
    TRY(engine_open_ops(engine, &r->hooks, &r->ops, e));
    r->cache = mem_calloc(RUNNER_MAX_BEAM, sizeof *r->cache);
    r->spare = mem_calloc(RUNNER_MAX_BEAM, sizeof *r->spare);
    if (!r->cache || !r->spare)
        TRY(err_set(e, ERR_LIMIT, "session: out of memory"));
    TRY(kv_init(&r->cache[0], r->ops, c, engine->kv_types, e));
    return 0;
fail:
    runner_free(r);
    return rc;
}

// Everything but cache[0].
static void beams_free(struct runner *r)
{
    r->n_beam = 0;
    for (size_t i = 0; i < RUNNER_MAX_BEAM; i++) {
        if (i > 0)
            kv_free(&r->cache[i]);
        kv_free(&r->spare[i]);
    }
}

void runner_free(struct runner *r)
{
    if (r->engine)
        prefix_end(r->engine->prefixes, &r->prefix);
    if (r->cache && r->spare) {
        beams_free(r);
        kv_free(&r->cache[0]);
    }
    mem_free(r->cache);
    mem_free(r->spare);
    ops_close(r->ops);
    memset(r, 0, sizeof *r);
}

struct kv *runner_rest(struct runner *r, size_t n)
{
    struct kv *kv = &r->cache[0];
    prefix_end(r->engine->prefixes, &r->prefix);
    beams_free(r);
    kv_truncate(kv, n);
    ops_clear(r->ops);
    (void)ops_reserve(r->ops, 0, NULL);
    if (kv->n > 0 && kv->cap - kv->n > 2 * GROW) { // the next turn has use for a little room
        kv_shrink(kv);
        ops_clear(r->ops);
    }
    return kv;
}

// Ready for work that plans to take `bytes`.
static int begin(struct runner *r, size_t bytes, struct err *e)
{
    ops_clear(r->ops);
    return ops_reserve(r->ops, bytes, e);
}

// The last step sees most keys and takes most.
int runner_plan_step(const iv_engine *engine, size_t n_pos, size_t n_row, size_t *bytes,
                     struct err *e)
{
    struct ops_plan prefill, step;
    int rc = runner_plan(engine, n_pos - 1, n_pos - 1, n_row, &prefill, &step, e);
    *bytes = step.arena_bytes;
    return rc;
}

// Room in kv for n_pos positions and some of those that are still to come.
static int make_room(struct runner *r, struct kv *kv, size_t n_pos, struct err *e)
{
    size_t most = min_size(r->n_prompt + r->max_new, r->ctx_limit);
    if (n_pos <= kv->cap)
        return 0;
    n_pos = max_size(n_pos, min_size(n_pos + GROW, most));
    if (r->prefix.kv == kv)
        return prefix_reserve(r->engine->prefixes, &r->prefix, n_pos, e);
    return kv_reserve(kv, n_pos, e);
}

int runner_prefill(struct runner *r, const struct runner_prompt *p, float *logits, struct err *e)
{
    int rc;
    struct ops_plan prefill, step;
    struct kv *kv = &r->cache[0];
    const float *rows = p->rows;
    size_t want, step_bytes;
    struct gate_pass pass = {0};
    prefix_end(r->engine->prefixes, &r->prefix);
    beams_free(r);
    kv_truncate(kv, p->n_reused);
    r->n_reused = kv->n;
    if (!add_size(p->n, p->max_new, &want) || p->n > r->ctx_limit)
        return err_set(e, ERR_LIMIT, "the prompt has %zu tokens, the context holds %zu", p->n,
                       r->ctx_limit);
    want = min_size(want, r->ctx_limit);
    r->n_prompt = p->n;
    r->max_new = p->max_new;
    TRY(runner_plan(r->engine, kv->n, p->n, 1, &prefill, &step, e));
    TRY(runner_plan_step(r->engine, want, 1, &step_bytes, e));
    TRY(begin(r, max_size(prefill.arena_bytes, step_bytes), e));
    TRY(make_room(r, kv, p->n, e));
    r->prefix = (struct prefix){.ids = p->ids,
                                .n = p->n,
                                .rows = p->rows,
                                .theta = llm_rope_theta(&r->engine->config.llm, p->n),
                                .tail = ops_few_rows(r->ops) + 1,
                                .kv = kv};
    if (p->share)
        TRY(prefix_begin(r->engine->prefixes, &r->prefix, &r->hooks, e));
    r->n_reused = kv->n;
    TRY(gate_enter(r->engine->gate, &pass, &r->hooks, e));
    for (size_t i = 0; i < kv->n; i++) // visual rows of the part that is kept
        if (p->ids[i] < 0 && rows)
            rows += r->engine->config.llm.d_model;
    while (kv->n < p->n) {
        size_t n = chunk_rows(r->ops, p->n - kv->n);
        prefill_chunk(r->ops, &r->engine->model.llm, p->ids + kv->n, &rows, kv, n, p->n,
                      &pass.hooks, logits);
        TRY(ops_status(r->ops, e));
    }
    prefix_ready(r->engine->prefixes, &r->prefix);
fail:
    gate_leave(&pass);
    if (rc != 0)
        prefix_end(r->engine->prefixes, &r->prefix);
    return rc;
}

// Makes n_beam sequences of cache[0].
static int fork_beams(struct runner *r, size_t n_beam, struct err *e)
{
    int rc;
    size_t want = min_size(r->n_prompt + r->max_new, r->ctx_limit), step_bytes;
    const struct llm_config *c = &r->engine->config.llm;
    prefix_end(r->engine->prefixes, &r->prefix); // the caches will change places
    if (n_beam > RUNNER_MAX_BEAM)
        return err_set(e, ERR_USAGE, "%zu beams: at most %d", n_beam, RUNNER_MAX_BEAM);
    TRY(runner_plan_step(r->engine, want, n_beam, &step_bytes, e));
    TRY(begin(r, step_bytes, e));
    for (size_t i = 0; i < n_beam; i++) {
        TRY(kv_init(&r->spare[i], r->ops, c, r->engine->kv_types, e));
        if (i > 0)
            TRY(kv_init(&r->cache[i], r->ops, c, r->engine->kv_types, e));
        TRY(make_room(r, &r->spare[i], r->n_prompt + 1, e));
        TRY(make_room(r, &r->cache[i], r->n_prompt + 1, e));
        kv_copy_tail(&r->spare[i], &r->cache[0], 0);
        if (i > 0)
            kv_copy_tail(&r->cache[i], &r->cache[0], 0);
    }
    r->n_beam = n_beam;
    return ops_status(r->ops, e);
fail:
    beams_free(r);
    return rc;
}

void runner_sit(struct runner *r)
{
    batch_sit(r->engine->batch, &r->seat);
}

void runner_rise(struct runner *r)
{
    batch_rise(r->engine->batch, &r->seat);
}

int runner_step(struct runner *r, const int32_t *ids, size_t n_beam, float *logits, struct err *e)
{
    int rc;
    size_t cap = r->cache[0].cap;
    for (size_t i = 0; i < n_beam; i++) {
        if (r->cache[i].n >= r->ctx_limit)
            return err_set(e, ERR_LIMIT, "the context of %zu positions is full", r->ctx_limit);
        TRY(make_room(r, &r->cache[i], r->cache[i].n + 1, e));
    }
    if (r->n_beam == 0) {
        struct batch_step s = {&r->cache[0], ids[0], logits, &r->hooks};
        if (r->cache[0].cap != cap)
            ops_wait(r->ops); // others are to use the cache that has just moved
        rc = batch_step(r->engine->batch, &r->seat, &s, e);
        if (rc != BATCH_ALONE)
            return rc;
    }
    step_rows(r->ops, &r->engine->model.llm, r->cache, ids, n_beam, logits);
    return ops_status(r->ops, e);
fail:
    return rc;
}

int runner_reorder(struct runner *r, const size_t *parent, size_t n_beam, struct err *e)
{
    bool same = true;
    int rc = 0;
    if (r->n_beam == 0)
        return fork_beams(r, n_beam, e); // every parent is the one sequence
    for (size_t i = 0; i < n_beam; i++)
        same = same && parent[i] == i;
    if (same)
        return 0;
    for (size_t i = 0; i < n_beam; i++) {
        TRY(make_room(r, &r->spare[i], r->cache[parent[i]].n, e));
        kv_copy_tail(&r->spare[i], &r->cache[parent[i]], r->n_prompt);
    }
    struct kv *t = r->cache;
    r->cache = r->spare;
    r->spare = t;
    TRY(ops_status(r->ops, e));
fail:
    return rc;
}
