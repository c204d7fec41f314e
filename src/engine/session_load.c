// SPDX-License-Identifier: MIT
// iv_session_load: a saved conversation back into a media made of rows and a session with its KV.
//
// Easy to get wrong: the file is a stranger's. Sizes are compared with what the model at hand demands before
// memory is taken, each section's checksum before anything of it is used, and KV that another precision
// or instruction set computed is checked and left aside: its bits are not those that this engine
// would compute.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/identity.h"
#include "engine/saved.h"
#include "engine/session.h"

enum { KV_ROWS = 64 }; // positions that are copied at a time

struct load {
    const iv_engine *engine;
    struct checked_reader file;
    struct saved_model model;
    struct saved_talk talk;
    struct saved_media of_media;
    void *model_bytes, *talk_bytes, *media_bytes; // what the texts point into
    bool has_media;
    iv_media *media;
    iv_session *session;
};

// All bytes of a small section, to mem_free.
static int read_small(struct load *x, const char *name, void **bytes, size_t *n, struct err *e)
{
    uint64_t size;
    int rc;
    *bytes = NULL;
    *n = 0;
    TRY(checked_size(&x->file, name, &size, e));
    if (size > SAVED_SECTION_MAX)
        TRY(err_set(e, ERR_FAIL, "%s: section %s has %" PRIu64 " bytes, at most %d are read",
                    x->file.path, name, size, SAVED_SECTION_MAX));
    *n = (size_t)size;
    *bytes = mem_calloc(*n, 1);
    if (!*bytes)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu bytes", x->file.path, *n));
    TRY(checked_read(&x->file, name, *bytes, *n, e));
fail:
    return rc;
}

static bool is_text(struct fields_text t, const char *s)
{
    return t.n == strlen(s) && memcmp(t.p, s, t.n) == 0;
}

// As a zero-terminated copy; NULL stays NULL.
static int copy_text(char **out, struct fields_text t, struct err *e)
{
    *out = t.p ? mem_strndup(t.p, t.n) : NULL;
    return *out || !t.p ? 0 : err_set(e, ERR_LIMIT, "session: out of memory for %zu bytes", t.n);
}

static int check_model(struct load *x, struct err *e)
{
    const iv_engine *g = x->engine;
    const struct saved_model *m = &x->model;
    uint8_t identity[SHA256_BYTES];
    int rc;
    TRY(engine_identity(g, x->file.hooks, identity, e));
    bool same = memcmp(identity, m->identity, sizeof identity) == 0;
    if (!same || !is_text(m->variant, g->info.variant))
        TRY(err_set(
            e, ERR_MODEL,
            "%s: made with %.*s as variant %.*s; this model, %s as variant %s, is another%s",
            x->file.path, (int)min_size(m->name.n, 100), m->name.p, (int)min_size(m->variant.n, 20),
            m->variant.p, g->info.name, g->info.variant, same ? " variant of it" : ""));
    if (m->n_query != g->config.qformer.n_query || m->d_model != g->config.llm.d_model ||
        m->n_layer != g->config.llm.n_layer || m->d_kv != g->config.llm.n_kv * g->config.llm.d_head)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: its sizes are not those of its model",
                    x->file.path));
fail:
    return rc;
}

static int read_head(struct load *x, struct err *e)
{
    const char *name = x->file.path;
    size_t n;
    uint64_t size;
    int rc;
    TRY(read_small(x, "model", &x->model_bytes, &n, e));
    TRY(saved_get_model(&x->model, x->model_bytes, n, name, e));
    TRY(check_model(x, e));
    TRY(read_small(x, "talk", &x->talk_bytes, &n, e));
    TRY(saved_get_talk(&x->talk, x->talk_bytes, n, name, e));
    x->has_media = checked_size(&x->file, "media", &size, NULL) == 0;
    if (x->has_media) {
        TRY(read_small(x, "media", &x->media_bytes, &n, e));
        TRY(saved_get_media(&x->of_media, x->media_bytes, n, name, e));
    }
    if (x->talk.time_text && x->has_media && !x->of_media.image && !x->of_media.time_text.p)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: the time sentence lacks", name));
fail:
    return rc;
}

// ---- media

static int read_rows(struct load *x, iv_media *m, struct err *e)
{
    const struct model_config *c = &x->engine->config;
    size_t n, d = c->llm.d_model, bytes = 0;
    uint64_t size;
    int rc;
    TRY(checked_size(&x->file, "rows", &size, e));
    if (!mul_size(m->info.n_clip, c->qformer.n_query, &n) || !mul_size(n, d, &bytes) ||
        !mul_size(bytes, sizeof(float), &bytes) || size != bytes)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: %" PRIu64 " bytes of rows for %zu clips",
                    x->file.path, size, m->info.n_clip));
    TRY(shared_rows_new(n, d, &m->rows, e));
    TRY(checked_read(&x->file, "rows", m->rows->v, bytes, e));
    for (size_t i = 0; i < n * d; i++)
        if (!isfinite(m->rows->v[i]))
            TRY(err_set(e, ERR_FAIL, "%s: damaged: row value %zu is not finite", x->file.path, i));
fail:
    return rc;
}

// The arrays change hands.
static int make_media(struct load *x, const struct iv_callbacks *cb, struct err *e)
{
    struct saved_media *f = &x->of_media;
    char *instruction = NULL;
    iv_media *m;
    int rc;
    TRY(media_new(x->engine, cb, &x->media, e));
    m = x->media;
    m->restored = true;
    TRY(copy_text(&m->path, f->path, e));
    TRY(copy_text(&m->time_text, f->time_text, e));
    TRY(copy_text(&instruction, x->talk.instruction, e));
    if (media_instruction(x->engine, instruction)) {
        m->instruction = instruction;
        instruction = NULL;
    }
    m->info.path = m->path;
    m->info.time_text = m->time_text;
    if (f->sha256.p) {
        memcpy(m->sha256, f->sha256.p, SHA256_TEXT - 1);
        m->info.sha256 = m->sha256;
    }
    memcpy(m->content, f->content, sizeof m->content);
    m->content_known = true;
    m->content_of_pixels = f->of_pixels;
    m->options = f->options;
    m->clip_frames = (size_t)f->clip_frames;
    m->part_clips = (size_t)f->part_clips;
    m->n_part = (size_t)f->n_part;
    m->info.image = f->image;
    m->info.frame_count = f->frame_count;
    m->info.fps = f->fps;
    m->info.duration_s = f->duration_s;
    m->info.width = f->width;
    m->info.height = f->height;
    m->info.cols = (size_t)f->cols;
    m->info.rows = (size_t)f->rows;
    m->info.n_frame = m->clip_frames * m->n_part; // within SAVED_FRAMES_MAX
    m->info.n_segment = (size_t)f->n_segment;
    if (!mul_size(m->part_clips, m->n_part, &m->info.n_clip))
        TRY(err_set(e, ERR_FAIL, "%s: damaged: too many clips", x->file.path));
    m->info.frame_index = m->frame_index = f->index;
    m->info.frame_s = m->frame_s = f->frame_s;
    m->segment_s = f->segment_s;
    m->info.segment_s = f->n_segment > 0 ? m->segment_s : NULL;
    f->index = NULL;
    f->frame_s = f->segment_s = NULL;
    TRY(read_rows(x, m, e));
fail:
    mem_free(instruction);
    return rc;
}

// ---- session

static int make_session(struct load *x, const struct iv_session_options *o, struct err *e)
{
    struct saved_talk *t = &x->talk;
    struct iv_session_options own = *o;
    struct iv_error why = {0};
    iv_session *s;
    int rc = 0;
    own.instruction = own.msg = NULL;
    own.time_text = t->time_text;
    own.allow_special = t->allow_special;
    if (iv_session_open(x->engine, x->media, &own, &x->session, &why) != IV_OK)
        TRY(err_set(e, why.code, "%s", why.message));
    s = x->session;
    TRY(copy_text(&s->instruction, t->instruction, e));
    TRY(copy_text(&s->msg, t->msg, e));
    s->last = t->last;
    for (size_t i = 0; i < t->n_turn; i++) {
        char *question = mem_strndup(t->turn[i].question.p, t->turn[i].question.n);
        if (!question)
            TRY(err_set(e, ERR_LIMIT, "session: out of memory for the history"));
        rc = session_add_turn(s, question, t->turn[i].answer.p, t->turn[i].answer.n,
                              t->turn[i].special, e);
        mem_free(question);
        TRY(rc);
    }
fail:
    return rc;
}

// The ids that the KV belongs to.
static int read_ids(struct load *x, struct ids *ids, struct err *e)
{
    const iv_session *s = x->session;
    void *bytes = NULL;
    size_t n, n_visual = 0;
    int rc;
    TRY(read_small(x, "ids", &bytes, &n, e));
    struct fields f = {.p = bytes, .left = n};
    while (f.left > 0 && !f.failed) {
        int32_t id = (int32_t)fields_u32(&f);
        n_visual += id == PROMPT_VISUAL;
        if (id < PROMPT_VISUAL || (id >= 0 && (size_t)id >= x->engine->config.llm.n_vocab) ||
            n_visual > session_n_visual(s))
            TRY(err_set(e, ERR_FAIL, "%s: damaged: %d is no token here", x->file.path, (int)id));
        TRY(ids_add(ids, id, e));
    }
    if (f.failed)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: %zu bytes of ids", x->file.path, n));
fail:
    mem_free(bytes);
    return rc;
}

// Reads n positions of each matrix in turn; kv NULL = only for the checksum.
static int read_matrices(struct load *x, struct kv *kv, size_t n, const size_t row_bytes[2],
                         struct err *e)
{
    const struct llm_config *c = &x->engine->config.llm;
    size_t d = c->n_kv * c->d_head;
    char *rows = mem_calloc(KV_ROWS, max_size(row_bytes[0], row_bytes[1]));
    float *scratch = mem_calloc(d, sizeof *scratch);
    int rc = 0;
    if (!rows || !scratch)
        TRY(err_set(e, ERR_LIMIT, "session: out of memory"));
    for (size_t m = 0; m < 2 * c->n_layer; m++) {
        for (size_t i = 0; i < n; i += KV_ROWS) {
            size_t part = min_size(KV_ROWS, n - i);
            TRY(checked_next(&x->file, rows, part * row_bytes[m % 2], e));
            if (kv)
                kv_import(kv, m / 2, m % 2 != 0, i, part, scratch, rows);
        }
    }
fail:
    mem_free(rows);
    mem_free(scratch);
    return rc;
}

static int read_kv(struct load *x, size_t n, bool *usable, struct err *e)
{
    iv_session *s = x->session;
    struct kv *kv = &s->runner.cache[0];
    const struct saved_model *m = &x->model;
    size_t row_bytes[2], pair, bytes;
    struct kv_types types;
    char precision[SAVED_PRECISION];
    uint64_t size;
    uint8_t head[8];
    int rc;
    saved_precision(x->engine, precision);
    *usable = s->keep_cache && is_text(m->version, iv_version()) &&
              is_text(m->precision, precision) && is_text(m->tier, x->engine->tier) &&
              n <= s->runner.ctx_limit;
    TRY(checked_size(&x->file, "kv", &size, e));
    if (!saved_kv_types(m->precision, &types))
        TRY(err_set(e, ERR_FAIL, "%s: damaged: precision \"%.*s\" is none of this version",
                    x->file.path, (int)min_size(m->precision.n, 40), m->precision.p));
    if (!dtype_size(types.k, (size_t)m->d_kv, &row_bytes[0]) ||
        !dtype_size(types.v, (size_t)m->d_kv, &row_bytes[1]) ||
        !add_size(row_bytes[0], row_bytes[1], &pair) ||
        !mul_size(pair, (size_t)m->n_layer, &bytes) || !mul_size(bytes, n, &bytes) ||
        !add_size(bytes, sizeof head, &bytes) || size != bytes)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: %" PRIu64 " bytes of KV for %zu positions",
                    x->file.path, size, n));
    TRY(checked_start(&x->file, "kv", e));
    TRY(checked_next(&x->file, head, sizeof head, e));
    struct fields f = {.p = head, .left = sizeof head};
    uint64_t n_prompt = fields_u64(&f);
    if (*usable)
        TRY(kv_reserve(kv, n, e));
    TRY(read_matrices(x, *usable ? kv : NULL, n, row_bytes, e));
    TRY(ops_status(s->runner.ops, e));
    TRY(checked_finish(&x->file, e));
    if (n_prompt < n || n_prompt > UINT32_MAX)
        TRY(err_set(e, ERR_FAIL, "%s: damaged: KV of %zu positions of %" PRIu64, x->file.path, n,
                    n_prompt));
    s->runner.n_prompt = (size_t)n_prompt;
fail:
    return rc;
}

static int restore_kv(struct load *x, struct err *e)
{
    iv_session *s = x->session;
    struct ids ids = {0};
    bool usable = false;
    int rc;
    TRY(read_ids(x, &ids, e));
    TRY(session_wake(s, e));
    rc = read_kv(x, ids.n, &usable, e);
    if (rc == 0 && usable) {
        s->runner.cache[0].n = ids.n;
        ids_free(&s->cached);
        s->cached = ids;
        ids = (struct ids){0};
    }
    session_rest(s);
fail:
    ids_free(&ids);
    return rc;
}

static int load(struct load *x, const char *path, const struct iv_session_options *o,
                const struct hooks *hooks, struct err *e)
{
    int rc;
    TRY(engine_check_computes(x->engine, e));
    TRY(checked_open(&x->file, path, &saved_kind, hooks, e));
    TRY(read_head(x, e));
    if (x->has_media)
        TRY(make_media(x, &o->callbacks, e));
    TRY(make_session(x, o, e));
    TRY(restore_kv(x, e));
fail:
    return rc;
}

int iv_session_load(const iv_engine *engine, const char *path, const struct iv_session_options *o,
                    iv_media **media, iv_session **out, struct iv_error *error)
{
    struct err e = {0};
    struct load x = {.engine = engine, .file = {.fd = -1}};
    struct hooks hooks = callback_hooks(&o->callbacks);
    *media = NULL;
    *out = NULL;
    int rc = load(&x, path, o, &hooks, &e);
    checked_close(&x.file);
    saved_talk_free(&x.talk);
    saved_media_free(&x.of_media);
    mem_free(x.model_bytes);
    mem_free(x.talk_bytes);
    mem_free(x.media_bytes);
    if (rc != 0) {
        iv_session_close(x.session);
        iv_media_close(x.media);
        return status_out(rc, &e, error);
    }
    *media = x.media;
    *out = x.session;
    return IV_OK;
}
