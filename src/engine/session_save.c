// SPDX-License-Identifier: MIT
// iv_session_save: sections "model", "talk", "media" and "rows" (with media), "ids", "kv" of a checked file
// (docs/FORMATS.md).
//
// Easy to get wrong: the stream may still hold the failure of a stopped question, with which it would copy
// nothing; keys behind the ids are not the prompt's.
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/identity.h"
#include "engine/saved.h"
#include "engine/session.h"

enum { KV_ROWS = 64 }; // positions that are copied at a time

static struct fields_text text_of(const char *s)
{
    return (struct fields_text){s, s ? strlen(s) : 0};
}

static int put_section(struct checked_writer *w, const char *name, struct buf *b, struct err *e)
{
    int rc;
    if (b->failed)
        TRY(err_set(e, ERR_LIMIT, "section %s: out of memory or more than %d bytes", name,
                    SAVED_SECTION_MAX));
    TRY(checked_begin(w, name, e));
    TRY(checked_add(w, b->data, b->len, e));
fail:
    buf_free(b);
    return rc;
}

static int save_model(const iv_session *s, struct checked_writer *w, struct err *e)
{
    const iv_engine *g = s->engine;
    struct buf b = {.max = SAVED_SECTION_MAX};
    char precision[SAVED_PRECISION];
    saved_precision(g, precision);
    struct saved_model m = {.name = text_of(g->info.name),
                            .variant = text_of(g->info.variant),
                            .version = text_of(iv_version()),
                            .precision = text_of(precision),
                            .tier = text_of(g->tier),
                            .n_query = g->config.qformer.n_query,
                            .d_model = g->config.llm.d_model,
                            .n_layer = g->config.llm.n_layer,
                            .d_kv = g->config.llm.n_kv * g->config.llm.d_head};
    int rc = engine_identity(g, &s->runner.hooks, m.identity, e);
    if (rc != 0)
        return rc;
    saved_put_model(&b, &m);
    return put_section(w, "model", &b, e);
}

static int save_talk(const iv_session *s, struct checked_writer *w, struct err *e)
{
    struct buf b = {.max = SAVED_SECTION_MAX};
    struct saved_talk t = {.allow_special = s->allow_special,
                           .time_text = s->time_text,
                           .instruction = text_of(s->instruction),
                           .msg = text_of(s->msg),
                           .last = s->last,
                           .n_turn = s->n_turn};
    t.turn = mem_calloc(s->n_turn, sizeof *t.turn);
    if (!t.turn)
        return err_set(e, ERR_LIMIT, "session: out of memory for %zu turns", s->n_turn);
    for (size_t i = 0; i < s->n_turn; i++)
        t.turn[i] = (struct saved_turn){.question = text_of(s->turn[i].question),
                                        .answer = {s->turn[i].answer, s->turn[i].answer_len},
                                        .special = s->turn[i].answer_special};
    saved_put_talk(&b, &t);
    saved_talk_free(&t);
    return put_section(w, "talk", &b, e);
}

static int save_media(const iv_media *m, struct checked_writer *w, struct err *e)
{
    struct buf b = {.max = SAVED_SECTION_MAX};
    const struct iv_media_info *i = &m->info;
    struct saved_media x = {.image = i->image,
                            .of_pixels = m->content_of_pixels,
                            .path = text_of(i->path),
                            .sha256 = text_of(i->sha256),
                            .time_text = text_of(m->time_text),
                            .frame_count = i->frame_count,
                            .width = i->width,
                            .height = i->height,
                            .cols = i->cols,
                            .rows = i->rows,
                            .clip_frames = m->clip_frames,
                            .part_clips = m->part_clips,
                            .n_part = m->n_part,
                            .n_segment = i->n_segment,
                            .fps = i->fps,
                            .duration_s = i->duration_s,
                            .options = m->options,
                            .index = m->frame_index,
                            .frame_s = m->frame_s,
                            .segment_s = m->segment_s};
    memcpy(x.content, m->content, sizeof x.content);
    saved_put_media(&b, &x);
    return put_section(w, "media", &b, e);
}

static int save_ids(const iv_session *s, size_t n, struct checked_writer *w, struct err *e)
{
    struct buf b = {.max = SAVED_SECTION_MAX};
    for (size_t i = 0; i < n; i++)
        fields_put_u32(&b, (uint32_t)s->cached.v[i]);
    return put_section(w, "ids", &b, e);
}

// Positions [0, n) of one layer's keys or values.
static int save_matrix(iv_session *s, size_t layer, bool values, size_t n, char *rows,
                       float *scratch, struct checked_writer *w, struct err *e)
{
    const struct kv *kv = &s->runner.cache[0];
    int rc = 0;
    for (size_t i = 0; i < n; i += KV_ROWS) {
        size_t part = min_size(KV_ROWS, n - i);
        kv_export(kv, layer, values, i, part, scratch, rows);
        TRY(ops_status(s->runner.ops, e));
        TRY(checked_add(w, rows, part * kv_row_bytes(kv, values), e));
    }
fail:
    return rc;
}

static int save_kv(iv_session *s, size_t n, struct checked_writer *w, struct err *e)
{
    const struct kv *kv = &s->runner.cache[0];
    struct buf b = {0};
    char *rows = mem_calloc(KV_ROWS, max_size(kv_row_bytes(kv, false), kv_row_bytes(kv, true)));
    float *scratch = mem_calloc(kv->d, sizeof *scratch);
    int rc;
    if (!rows || !scratch)
        TRY(err_set(e, ERR_LIMIT, "session: out of memory"));
    fields_put_u64(&b, s->runner.n_prompt);
    TRY(put_section(w, "kv", &b, e));
    ops_clear(s->runner.ops);
    for (size_t l = 0; l < kv->n_layer; l++) {
        TRY(save_matrix(s, l, false, n, rows, scratch, w, e));
        TRY(save_matrix(s, l, true, n, rows, scratch, w, e));
    }
fail:
    mem_free(rows);
    mem_free(scratch);
    return rc;
}

// The media's strings are fixed, but what names its bytes may be worked out by another session meanwhile.
static int save_media_locked(const iv_session *s, struct checked_writer *w, struct err *e)
{
    int rc = media_lock(s->media, &s->callbacks, e);
    if (rc != 0)
        return rc;
    rc = save_media(s->media, w, e);
    pthread_mutex_unlock(&s->media->lock);
    return rc;
}

static int save(iv_session *s, struct checked_writer *w, struct err *e)
{
    int rc;
    size_t n = s->keep_cache ? min_size(s->cached.n, s->runner.cache[0].n) : 0;
    TRY(session_rows(s, e));
    TRY(save_model(s, w, e));
    TRY(save_talk(s, w, e));
    if (s->media) {
        TRY(save_media_locked(s, w, e));
        TRY(checked_begin(w, "rows", e));
        TRY(checked_add(w, s->rows->v, shared_rows_bytes(s->rows), e));
    }
    TRY(save_ids(s, n, w, e));
    TRY(save_kv(s, n, w, e));
    TRY(checked_commit(w, true, e));
fail:
    return rc;
}

int iv_session_save(iv_session *s, const char *path, struct iv_error *error)
{
    struct err e = {0};
    struct checked_writer w = {.fd = -1};
    int rc = session_wake(s, &e);
    if (rc == 0) {
        rc = checked_create(&w, path, &saved_kind, &s->runner.hooks, &e);
        if (rc == 0)
            rc = save(s, &w, &e);
        checked_abandon(&w);
        session_rest(s);
    }
    return status_out(rc, &e, error);
}
