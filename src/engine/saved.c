// SPDX-License-Identifier: MIT
// Sections "model", "talk" and "media" of a saved conversation. Writers and readers stand side by side in the
// order of the bytes.
//
// Easy to get wrong: a count is compared with the bytes that are left before memory is taken for it, so a
// small file cannot ask for much.
#include "engine/saved.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "media/frames.h"

const struct checked_kind saved_kind = {"IVCHCONV", 2, "a saved conversation"};

static int malformed(const char *name, const char *section, struct err *e)
{
    return err_set(e, ERR_FAIL, "%s: damaged: section %s does not hold what it should", name,
                   section);
}

// ---- model

void saved_precision(const iv_engine *g, char text[SAVED_PRECISION])
{
    const char *dtype = g->info.dtype, *k = g->info.cache_type_k, *v = g->info.cache_type_v;
    if (strcmp(k, dtype) == 0 && strcmp(v, dtype) == 0)
        snprintf(text, SAVED_PRECISION, "%s", dtype);
    else
        snprintf(text, SAVED_PRECISION, "%s k %s v %s", dtype, k, v);
}

// The next word of a text that single spaces part.
static struct fields_text next_word(struct fields_text *left)
{
    struct fields_text word = {left->p, 0};
    while (word.n < left->n && left->p[word.n] != ' ')
        word.n++;
    size_t used = word.n < left->n ? word.n + 1 : word.n;
    left->p += used;
    left->n -= used;
    return word;
}

static bool is_letter(struct fields_text t, char c)
{
    return t.n == 1 && t.p[0] == c;
}

bool saved_kv_types(struct fields_text left, struct kv_types *types)
{
    struct fields_text dtype = next_word(&left);
    types->k = DT_F32;
    bool alone =
        kv_type_from_name(dtype.p, dtype.n, &types->k); // of another precision both are named
    types->v = types->k;
    if (left.n == 0)
        return alone;
    if (!is_letter(next_word(&left), 'k'))
        return false;
    struct fields_text k = next_word(&left);
    return kv_type_from_name(k.p, k.n, &types->k) && is_letter(next_word(&left), 'v') &&
           kv_type_from_name(left.p, left.n, &types->v);
}

void saved_put_model(struct buf *b, const struct saved_model *m)
{
    fields_put_bytes(b, m->identity, sizeof m->identity);
    fields_put_text(b, m->name);
    fields_put_text(b, m->variant);
    fields_put_text(b, m->version);
    fields_put_text(b, m->precision);
    fields_put_text(b, m->tier);
    fields_put_u64(b, m->n_query);
    fields_put_u64(b, m->d_model);
    fields_put_u64(b, m->n_layer);
    fields_put_u64(b, m->d_kv);
}

int saved_get_model(struct saved_model *m, const void *bytes, size_t n, const char *name,
                    struct err *e)
{
    struct fields f = {.p = bytes, .left = n};
    memset(m, 0, sizeof *m);
    const uint8_t *identity = fields_bytes(&f, sizeof m->identity);
    if (identity)
        memcpy(m->identity, identity, sizeof m->identity);
    m->name = fields_text(&f, true);
    m->variant = fields_text(&f, true);
    m->version = fields_text(&f, true);
    m->precision = fields_text(&f, true);
    m->tier = fields_text(&f, true);
    m->n_query = fields_u64(&f);
    m->d_model = fields_u64(&f);
    m->n_layer = fields_u64(&f);
    m->d_kv = fields_u64(&f);
    bool there = m->name.p && m->variant.p && m->version.p && m->precision.p && m->tier.p;
    return fields_end(&f) && there ? 0 : malformed(name, "model", e);
}

// ---- talk

static void put_options(struct buf *b, const struct iv_ask_options *o)
{
    fields_put_u32(b, (uint32_t)o->max_new_tokens);
    fields_put_f64(b, o->temperature);
    fields_put_f64(b, o->top_p);
    fields_put_u32(b, (uint32_t)o->top_k);
    fields_put_u64(b, o->seed);
    fields_put_u32(b, (uint32_t)o->num_beams);
    fields_put_f64(b, o->length_penalty);
    fields_put_f64(b, o->repetition_penalty);
    fields_put_u32(b, (uint32_t)o->min_length);
    fields_put_u32(b, o->ignore_eos);
}

// Whether they can be used is checked when they are.
static void get_options(struct fields *f, struct iv_ask_options *o)
{
    *o = iv_ask_options_default();
    o->max_new_tokens = (int)(fields_u32(f) & INT32_MAX);
    o->temperature = fields_f64(f);
    o->top_p = fields_f64(f);
    o->top_k = (int)(fields_u32(f) & INT32_MAX);
    o->seed = fields_u64(f);
    o->num_beams = (int)(fields_u32(f) & INT32_MAX);
    o->length_penalty = fields_f64(f);
    o->repetition_penalty = fields_f64(f);
    o->min_length = (int)(fields_u32(f) & INT32_MAX);
    o->ignore_eos = fields_flag(f);
}

void saved_put_talk(struct buf *b, const struct saved_talk *t)
{
    fields_put_u32(b, t->allow_special);
    fields_put_u32(b, t->time_text);
    fields_put_text(b, t->instruction);
    fields_put_text(b, t->msg);
    put_options(b, &t->last);
    fields_put_u32(b, (uint32_t)t->n_turn);
    for (size_t i = 0; i < t->n_turn; i++) {
        fields_put_text(b, t->turn[i].question);
        fields_put_text(b, t->turn[i].answer);
        fields_put_u32(b, t->turn[i].special);
    }
}

int saved_get_talk(struct saved_talk *t, const void *bytes, size_t n, const char *name,
                   struct err *e)
{
    enum { TURN_BYTES = 12 }; // the least
    struct fields f = {.p = bytes, .left = n};
    bool sound = true;
    memset(t, 0, sizeof *t);
    t->allow_special = fields_flag(&f);
    t->time_text = fields_flag(&f);
    t->instruction = fields_text(&f, true);
    t->msg = fields_text(&f, true);
    get_options(&f, &t->last);
    t->n_turn = fields_u32(&f);
    if (f.failed || t->n_turn > SAVED_TURNS_MAX || t->n_turn > f.left / TURN_BYTES) {
        memset(t, 0, sizeof *t);
        return malformed(name, "talk", e);
    }
    t->turn = mem_calloc(t->n_turn, sizeof *t->turn);
    if (!t->turn)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu turns", name, t->n_turn);
    for (size_t i = 0; i < t->n_turn; i++) {
        t->turn[i].question = fields_text(&f, true);
        t->turn[i].answer = fields_text(&f, false);
        t->turn[i].special = fields_flag(&f);
        sound = sound && t->turn[i].question.p && t->turn[i].answer.p;
    }
    if (fields_end(&f) && sound)
        return 0;
    saved_talk_free(t);
    return malformed(name, "talk", e);
}

void saved_talk_free(struct saved_talk *t)
{
    mem_free(t->turn);
    memset(t, 0, sizeof *t);
}

// ---- media

static void put_numbers(struct buf *b, const double *v, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        fields_put_f64(b, v[i]);
}

void saved_put_media(struct buf *b, const struct saved_media *m)
{
    uint64_t n = m->n_part * m->clip_frames;
    fields_put_u32(b, m->image);
    fields_put_u32(b, m->of_pixels);
    fields_put_text(b, m->path);
    fields_put_text(b, m->sha256);
    fields_put_text(b, m->time_text);
    fields_put_bytes(b, m->content, sizeof m->content);
    fields_put_u64(b, m->frame_count);
    fields_put_u64(b, m->width);
    fields_put_u64(b, m->height);
    fields_put_f64(b, m->fps);
    fields_put_f64(b, m->duration_s);
    fields_put_u64(b, m->cols);
    fields_put_u64(b, m->rows);
    fields_put_u32(b, (uint32_t)m->options.mode);
    fields_put_u32(b, (uint32_t)m->options.hd_num);
    fields_put_u32(b, m->options.padding);
    fields_put_u32(b, (uint32_t)m->options.fix_cols);
    fields_put_u32(b, (uint32_t)m->options.fix_rows);
    fields_put_u32(b, m->options.antialias);
    fields_put_u64(b, m->clip_frames);
    fields_put_u64(b, m->part_clips);
    fields_put_u64(b, m->n_part);
    fields_put_u64(b, m->n_segment);
    for (uint64_t i = 0; i < n; i++)
        fields_put_u32(b, (uint32_t)m->index[i]);
    put_numbers(b, m->frame_s, n);
    put_numbers(b, m->segment_s, m->n_segment);
}

// Memory for n values of `size` bytes, which the bytes that are left must hold.
static int take_array(struct fields *f, size_t n, size_t size, void *out, const char *name,
                      struct err *e)
{
    if (n > f->left / size)
        return malformed(name, "media", e);
    void *p = mem_calloc(n, size);
    if (!p)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu values", name, n);
    memcpy(out, &p, sizeof p);
    return 0;
}

// n numbers that are finite and not negative.
static int get_numbers(struct fields *f, size_t n, double **out, const char *name, struct err *e)
{
    int rc = take_array(f, n, sizeof **out, out, name, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        (*out)[i] = fields_f64(f);
        f->failed = f->failed || !isfinite((*out)[i]) || (*out)[i] < 0;
    }
    return rc;
}

static int get_indices(struct fields *f, size_t n, int32_t **out, const char *name, struct err *e)
{
    int rc = take_array(f, n, sizeof **out, out, name, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        (*out)[i] = (int32_t)fields_u32(f);
        f->failed = f->failed || (*out)[i] < 0;
    }
    return rc;
}

static void get_preprocessing(struct fields *f, struct clips_options *o)
{
    uint32_t mode = fields_u32(f);
    f->failed = f->failed || mode > CLIPS_PLAIN;
    o->mode = (enum clips_mode)mode;
    o->hd_num = (int)(fields_u32(f) & INT32_MAX);
    o->padding = fields_flag(f);
    o->fix_cols = (int)(fields_u32(f) & INT32_MAX);
    o->fix_rows = (int)(fields_u32(f) & INT32_MAX);
    o->antialias = fields_flag(f);
}

static void get_scalars(struct fields *f, struct saved_media *m)
{
    m->image = fields_flag(f);
    m->of_pixels = fields_flag(f);
    m->path = fields_text(f, true);
    m->sha256 = fields_text(f, true);
    m->time_text = fields_text(f, true);
    const uint8_t *content = fields_bytes(f, sizeof m->content);
    if (content)
        memcpy(m->content, content, sizeof m->content);
    m->frame_count = fields_u64(f);
    m->width = fields_u64(f);
    m->height = fields_u64(f);
    m->fps = fields_f64(f);
    m->duration_s = fields_f64(f);
    m->cols = fields_u64(f);
    m->rows = fields_u64(f);
    get_preprocessing(f, &m->options);
    m->clip_frames = fields_u64(f);
    m->part_clips = fields_u64(f);
    m->n_part = fields_u64(f);
    m->n_segment = fields_u64(f);
}

static bool is_sha256(struct fields_text t)
{
    return t.n == SHA256_TEXT - 1 && strspn(t.p, "0123456789abcdef") >= t.n;
}

static bool scalars_sound(const struct saved_media *m)
{
    return isfinite(m->fps) && m->fps >= 0 && isfinite(m->duration_s) && m->duration_s >= 0 &&
           m->clip_frames >= 1 && m->clip_frames <= FRAMES_SEGMENT_MAX && m->part_clips >= 1 &&
           m->part_clips <= FRAMES_SEGMENT_MAX && m->n_part >= 1 &&
           m->n_part <= SAVED_FRAMES_MAX / m->clip_frames &&
           (m->n_segment == 0 ? m->n_part == 1 : m->n_segment == m->n_part) &&
           (!m->sha256.p || is_sha256(m->sha256));
}

int saved_get_media(struct saved_media *m, const void *bytes, size_t n, const char *name,
                    struct err *e)
{
    struct fields f = {.p = bytes, .left = n};
    memset(m, 0, sizeof *m);
    get_scalars(&f, m);
    if (f.failed || !scalars_sound(m)) {
        memset(m, 0, sizeof *m);
        return malformed(name, "media", e);
    }
    size_t n_frame = (size_t)(m->n_part * m->clip_frames);
    int rc;
    TRY(get_indices(&f, n_frame, &m->index, name, e));
    TRY(get_numbers(&f, n_frame, &m->frame_s, name, e));
    TRY(get_numbers(&f, (size_t)m->n_segment, &m->segment_s, name, e));
    if (!fields_end(&f))
        TRY(malformed(name, "media", e));
    return 0;
fail:
    saved_media_free(m);
    return rc;
}

void saved_media_free(struct saved_media *m)
{
    mem_free(m->index);
    mem_free(m->frame_s);
    mem_free(m->segment_s);
    memset(m, 0, sizeof *m);
}
