// SPDX-License-Identifier: MIT
// From options to an open engine and media.
//
//   work_check   contradictions and what this version lacks   exit 2 or 3, before any file is read
//   work_open    engine                                       -m, IVCHAT_MODEL, else what ships with us
//   work_media   video or images
//
// Easy to get wrong: warnings about options without effect are given only for options that a person
// named, never for defaults; --video - takes standard input away from the questions.

#include "work.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "jsontext.h"
#include "savefile.h"
#include "signals.h"
#include "wallclock.h"

enum { TILES_MAX = 64 }; // of the library, as the next
static const double SEGMENT_MIN = 0.001;

static void on_log(void *user, enum iv_log_level level, const char *line)
{
    struct work *w = user;
    console_line(w->con, level, line);
}

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct work *w = user;
    console_progress(w->con, stage, done, total);
}

static bool on_abort(void *user)
{
    struct work *w = user;
    if (atomic_load(&w->finishing))
        return false;
    return signals_caught() || atomic_load(&w->halt) || atomic_load(&w->con->output_lost) ||
           atomic_load(&w->dump.failed);
}

static void on_stage(void *user, const char *name, const char *dtype, const void *data,
                     const size_t *dim, unsigned n_dim)
{
    struct work *w = user;
    if (w->watch)
        w->watch(w->watch_user, name, dtype, data, dim, n_dim);
    dump_stage(&w->dump, name, dtype, data, dim, n_dim);
}

struct iv_callbacks work_callbacks(struct work *w)
{
    return (struct iv_callbacks){
        .user = w,
        .log = on_log,
        .progress = on_progress,
        .abort = on_abort,
        .stage = w->dump.dir || w->watch ? on_stage : NULL,
    };
}

static bool given(const struct work *w, const char *option)
{
    return options_given(w->verb->groups, w->s, option);
}

static int check_device(struct work *w)
{
    const char *device = w->s->device;
    bool cuda = device && strncmp(device, "cuda", 4) == 0 && (device[4] == 0 || device[4] == ':');
    if (device && !cuda && strcmp(device, "cpu") != 0 && strcmp(device, "auto") != 0)
        return app_error(&w->error, IV_ERR_USAGE,
                         "--device: expected cpu, cuda[:N] or auto, got \"%.60s\"", device);
    return IV_OK;
}

static void warn_of_media(const struct work *w)
{
    static const char *const of_video[] = {"num-frames", "start", "end", "time-text", "segments"};
    static const char *const of_media[][2] = {{"hd-num", "hd-num"},
                                              {"padding", "padding"},
                                              {"fix-ratio", "fix-ratio"},
                                              {"antialias", "no-antialias"},
                                              {"msg", "msg"}};
    const struct settings *s = w->s;
    bool media = s->video || s->image.n > 0 || s->plan;
    if (w->of_others)
        return;
    for (size_t i = 0; i < 5 && !s->video && !s->plan; i++) {
        if (given(w, of_video[i]))
            console_warn(w->con, "--%s has no effect without --video", of_video[i]);
    }
    for (size_t i = 0; i < 5 && !media; i++) {
        if (given(w, of_media[i][0]))
            console_warn(w->con, "--%s has no effect without --video or --image", of_media[i][1]);
    }
    if (media && given(w, "hd-num") && !s->padding && s->fix_ratio.cols > 0)
        console_warn(w->con, "--hd-num has no effect without --padding or --fix-ratio auto");
}

static int check_media(struct work *w)
{
    const struct settings *s = w->s;
    if (s->video && s->image.n > 0)
        return app_error(&w->error, IV_ERR_USAGE, "--video and --image exclude each other");
    if (s->padding && given(w, "fix-ratio"))
        return app_error(&w->error, IV_ERR_USAGE, "--padding and --fix-ratio exclude each other");
    if (s->end_s > 0 && s->end_s <= s->start_s)
        return app_error(&w->error, IV_ERR_USAGE, "--end: %g s is not after --start, %g s",
                         s->end_s, s->start_s);
    if (s->fix_ratio.cols * s->fix_ratio.rows > TILES_MAX)
        return app_error(
            &w->error, IV_ERR_USAGE, "--fix-ratio: %dx%d are %d tiles, at most %d are accepted",
            s->fix_ratio.cols, s->fix_ratio.rows, s->fix_ratio.cols * s->fix_ratio.rows, TILES_MAX);
    if (s->segments > 0 && s->segments < SEGMENT_MIN)
        return app_error(&w->error, IV_ERR_USAGE, "--segments: %g s; at least %g s are accepted",
                         s->segments, SEGMENT_MIN);
    if (s->segments > 0 && s->dump)
        return app_error(&w->error, IV_ERR_USAGE, "--segments and --dump exclude each other");
    warn_of_media(w);
    return IV_OK;
}

int work_check(struct work *w)
{
    int rc = check_device(w);
    return rc == IV_OK ? check_media(w) : rc;
}

// The library knows where the model that ships with it should be, but not our options.
static int without_model(struct work *w)
{
    char why[sizeof w->error.message];
    memcpy(why, w->error.message, sizeof why);
    return app_error(&w->error, IV_ERR_MODEL, "without -m DIR or IVCHAT_MODEL: %s", why);
}

int work_open(struct work *w, bool tokenizer_only)
{
    const struct settings *s = w->s;
    int rc = dump_open(&w->dump, s->dump, &w->error);
    if (rc != IV_OK)
        return rc;
    struct iv_engine_options o = iv_engine_options_default();
    o.model = s->model;
    o.variant = s->variant;
    o.mmproj = s->mmproj;
    o.device = s->device;
    o.gpu_weights = s->gpu_weights;
    o.weights = s->weights ? s->weights : w->lasting ? "auto" : "mapped";
    o.dtype = s->dtype;
    o.cache_type_k = s->cache_type_k;
    o.cache_type_v = s->cache_type_v;
    o.cpu = s->cpu;
    o.n_threads = s->threads;
    o.tokenizer_only = tokenizer_only;
    o.plan_only = w->plan_only;
    o.profile = s->profile;
    o.cache_mib = s->cache_mib;
    o.cache_dir = s->cache_dir;
    o.cache_dir_mib = s->cache_dir_mib;
    o.callbacks = work_callbacks(w);
    rc = iv_engine_open(&o, &w->engine, &w->error);
    if (rc != IV_OK)
        return rc == IV_ERR_MODEL && !s->model ? without_model(w) : rc;
    const struct iv_engine_info *info = iv_engine_info(w->engine);
    if (!tokenizer_only)
        console_note(w->con, "model %s: variant %s, %s on %s (%s), %d threads, loaded in %.0f ms",
                     info->name, info->variant, info->dtype, info->device, info->cpu,
                     info->n_threads, info->load_ms);
    return IV_OK;
}

struct iv_media_options work_media_options(struct work *w)
{
    const struct settings *s = w->s;
    struct iv_media_options o = iv_media_options_default();
    o.n_frame = s->num_frames;
    o.hd_num = s->hd_num;
    o.padding = s->padding;
    o.fix_cols = s->fix_ratio.cols;
    o.fix_rows = s->fix_ratio.rows;
    o.antialias = s->antialias;
    o.start_s = s->start_s;
    o.end_s = s->end_s;
    o.segment_s = s->segments;
    o.callbacks = work_callbacks(w);
    return o;
}

static void warn_of_variant(const struct work *w)
{
    static const char *const of_hd[] = {"hd-num", "padding", "fix-ratio"};
    bool plain = strcmp(iv_engine_info(w->engine)->variant, "8b") == 0;
    for (size_t i = 0; i < 3 && plain; i++) {
        if (given(w, of_hd[i]))
            console_warn(w->con, "--%s has no effect with variant 8b", of_hd[i]);
    }
    if (!plain && !w->s->antialias)
        console_warn(w->con, "--no-antialias has no effect with variant %s",
                     iv_engine_info(w->engine)->variant);
}

static int open_media(struct work *w, iv_media **out, double *ms)
{
    const struct settings *s = w->s;
    *out = NULL;
    *ms = 0;
    if (!s->video && s->image.n == 0)
        return IV_OK;
    warn_of_variant(w);
    struct iv_media_options o = work_media_options(w);
    double begun = clock_seconds();
    int rc = s->video
                 ? iv_media_open_video(w->engine, s->video, &o, out, &w->error)
                 : iv_media_open_images(w->engine, s->image.item, s->image.n, &o, out, &w->error);
    *ms = 1e3 * (clock_seconds() - begun);
    return rc;
}

int work_media_open(struct work *w, iv_media **out, double *ms)
{
    *out = NULL;
    int rc = check_media(w);
    return rc == IV_OK ? open_media(w, out, ms) : rc;
}

int work_media(struct work *w)
{
    int rc = open_media(w, &w->media, &w->media_ms);
    if (rc == IV_OK && w->media)
        work_media_note(w);
    return rc;
}

void work_close(struct work *w)
{
    iv_media_close(w->media);
    iv_engine_close(w->engine);
    w->media = NULL;
    w->engine = NULL;
}

int work_fail(struct work *w, int status)
{
    if (atomic_load(&w->dump.failed) && !signals_caught()) {
        w->error = w->dump.error;
        status = w->error.code;
    }
    return console_fail(w->con, status, &w->error);
}

void work_media_members(const iv_media *media, const char *path, struct json_writer *json)
{
    const struct iv_media_info *m = iv_media_info(media);
    jw_text(json, "path", path);
    jw_text(json, "sha256", m->sha256);
    jw_count(json, "frame_count", m->frame_count);
    jw_real(json, "fps", m->fps);
    jw_array(json, "frame_indices");
    for (size_t i = 0; i < m->n_frame; i++)
        jw_int(json, NULL, m->frame_index[i]);
    jw_end(json);
    jw_array(json, "frame_seconds");
    for (size_t i = 0; i < m->n_frame; i++)
        jw_ms(json, NULL, m->frame_s[i]);
    jw_end(json);
    jw_count(json, "width", m->width);
    jw_count(json, "height", m->height);
    jw_array(json, "tiles");
    jw_count(json, NULL, m->cols);
    jw_count(json, NULL, m->rows);
    jw_end(json);
    jw_count(json, "clips", m->n_clip);
    if (m->n_segment > 0) {
        jw_array(json, "segments");
        for (size_t i = 0; i < m->n_segment; i++)
            jw_ms(json, NULL, m->segment_s[i]);
        jw_end(json);
    }
    if (m->image)
        jw_flag(json, "image", true);
}

void work_media_json(const struct work *w, struct json_writer *json, const char *key)
{
    if (!w->media) {
        jw_null(json, key);
        return;
    }
    jw_object(json, key);
    work_media_members(w->media, iv_media_info(w->media)->path, json);
    jw_end(json);
}

void work_media_note(const struct work *w)
{
    const struct iv_media_info *m = iv_media_info(w->media);
    char frames[512];
    size_t n = 0;
    frames[0] = 0;
    for (size_t i = 0; i < m->n_frame && n + 40 < sizeof frames; i++)
        n += (size_t)snprintf(frames + n, sizeof frames - n, " %d", (int)m->frame_index[i]);
    if (!m->image) {
        console_note(w->con, "video %s: %llu frames, %g fps, %llux%llu", m->path ? m->path : "-",
                     (unsigned long long)m->frame_count, m->fps, (unsigned long long)m->width,
                     (unsigned long long)m->height);
        console_note(w->con, "frame indices:%s", frames);
    }
    console_note(w->con, "tiles: %zux%zu, %zu clips of %zu frames", m->cols, m->rows, m->n_clip,
                 m->n_frame);
    if (m->time_text && w->s->time_text)
        console_note(w->con, "%s", m->time_text);
}
