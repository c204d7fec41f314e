// SPDX-License-Identifier: MIT
// iv_media: a video, images, frames or finished pixels, preprocessed for the engine's variant. Decoded
// frames are released as soon as they have become pixels; encoded stages are made by encode.c.
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/size.h"
#include "engine/engine.h"
#include "media/video.h"
#include "media/frames.h"

struct iv_media_options iv_media_options_default(void)
{
    return (struct iv_media_options){.hd_num = 6, .fix_cols = 2, .fix_rows = 1, .antialias = true};
}

struct clips_options media_clip_options(const iv_engine *g, const struct iv_media_options *o)
{
    struct clips_options c = clips_options_default();
    c.mode = g->config.variant == VARIANT_8B ? CLIPS_PLAIN : CLIPS_HD;
    c.hd_num = o->hd_num;
    c.padding = o->padding;
    c.fix_cols = o->fix_cols;
    c.fix_rows = o->fix_rows;
    c.antialias = o->antialias;
    return c;
}

static int check_vision(const iv_engine *g, struct err *e)
{
    if (!g->config.text_only)
        return 0;
    return err_set(e, ERR_MODEL,
                   "%s has no vision part: no mmproj-*.gguf is beside it, name one with --mmproj",
                   g->name);
}

int media_clips_plan(const iv_engine *g, const struct iv_media_options *o, size_t n_frame,
                     size_t width, size_t height, struct clips_plan *out, struct err *e)
{
    int rc = check_vision(g, e);
    if (rc != 0)
        return rc;
    struct clips_options c = media_clip_options(g, o);
    // an unknown size matters to the transforms that keep the shape, and to the memory of frames while they become
    // pixels: a usual one stands for it
    return clips_plan(out, &c, n_frame, width ? width : 1280, height ? height : 720, e);
}

int media_check_options(const struct iv_media_options *o, struct err *e)
{
    if (o->n_frame < 0 || o->n_frame > FRAMES_SEGMENT_MAX)
        return err_set(e, ERR_USAGE, "num-frames: %d is not in 1..%d", o->n_frame,
                       FRAMES_SEGMENT_MAX);
    if (!isfinite(o->segment_s) || o->segment_s < 0 || (o->segment_s > 0 && o->segment_s < 0.001))
        return err_set(e, ERR_USAGE, "segments: %g s; at least 0.001 s are accepted", o->segment_s);
    return 0;
}

int media_new(const iv_engine *g, const struct iv_callbacks *cb, iv_media **out, struct err *e)
{
    int rc = check_vision(g, e);
    if (rc != 0)
        return rc;
    iv_media *m = mem_calloc(1, sizeof *m);
    if (!m)
        return err_set(e, ERR_LIMIT, "media: out of memory");
    if (pthread_mutex_init(&m->lock, NULL) != 0) {
        mem_free(m);
        return err_set(e, ERR_LIMIT, "media: no mutex");
    }
    m->engine = g;
    m->callbacks = m->decode_cb = *cb;
    m->n_part = 1;
    *out = m;
    return 0;
}

void iv_media_close(iv_media *m)
{
    if (!m)
        return;
    m->restored = false;
    media_forget(m);
    video_close(m->video);
    mem_free(m->path);
    mem_free(m->time_text);
    mem_free(m->frame_index);
    mem_free(m->frame_s);
    mem_free(m->segment_s);
    mem_free(m->given);
    clips_free(&m->clips);
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
}

const struct iv_media_info *iv_media_info(const iv_media *m)
{
    return &m->info;
}

int media_lock(iv_media *m, const struct iv_callbacks *cb, struct err *e)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    if (!cb->abort) {
        pthread_mutex_lock(&m->lock);
        return 0;
    }
    while (pthread_mutex_trylock(&m->lock) != 0) {
        if (cb->abort(cb->user))
            return err_set(e, ERR_ABORT, "stopped while another call encodes the media");
        nanosleep(&pause, NULL);
    }
    return 0;
}

int media_set_path(iv_media *m, const char *path, struct err *e)
{
    m->path = mem_strndup(path, strlen(path));
    m->info.path = m->path;
    return m->path ? 0 : err_set(e, ERR_LIMIT, "media: out of memory");
}

int media_set_frames(iv_media *m, const int32_t *index, size_t n, double fps, struct err *e)
{
    fps = fps > 0 && isfinite(fps) ? fps : 0; // unknown
    m->frame_index = mem_calloc(n, sizeof *m->frame_index);
    m->frame_s = mem_calloc(n, sizeof *m->frame_s);
    if (!m->frame_index || !m->frame_s)
        return err_set(e, ERR_LIMIT, "media: out of memory for %zu frames", n);
    for (size_t i = 0; i < n; i++) {
        m->frame_index[i] = index ? index[i] : (int32_t)i;
        if (m->frame_index[i] < 0)
            return err_set(e, ERR_USAGE, "frame %zu: its number is %d", i, (int)m->frame_index[i]);
        m->frame_s[i] = fps > 0 ? (double)m->frame_index[i] / fps : 0;
    }
    m->info.frame_index = m->frame_index;
    m->info.frame_s = m->frame_s;
    m->info.n_frame = n;
    m->info.fps = fps;
    if (m->info.image)
        return 0;
    callback_stage(&m->callbacks, "frame_indices", "i32", m->frame_index, &n, 1);
    int rc = frames_time_text(m->frame_index, n, fps, &m->time_text, e);
    m->info.time_text = m->time_text;
    return rc;
}

void media_take_clips(iv_media *m, struct clips *c)
{
    m->clips = *c;
    *c = (struct clips){0};
    m->pixels = m->clips.pixels;
    m->info.n_clip = m->part_clips = m->clips.n_clip;
    m->info.n_frame = m->clip_frames = m->clips.n_frame;
    m->info.cols = m->clips.cols;
    m->info.rows = m->clips.rows;
}

int media_content(iv_media *m, const char *texts, struct err *e)
{
    struct sha256 s = {0};
    int rc;
    TRY(sha256_begin(&s, e));
    TRY(sha256_add(&s, texts, strlen(texts), e));
    TRY(sha256_end(&s, m->content, e));
    m->content_known = true;
fail:
    sha256_drop(&s);
    return rc;
}

static int put_frame(void *user, size_t slot, const uint8_t *rgb, struct err *e)
{
    (void)e;
    frame_batch_put(user, slot, rgb);
    return 0;
}

int media_read_clips(struct video *v, struct pool *pool, const struct clips_plan *plan,
                     const int32_t *index, size_t n, struct clips *out, double *ms, struct err *e)
{
    struct frame_batch b = {0};
    int rc;
    TRY(clips_init(out, plan, e));
    TRY(frame_batch_open(&b, out, pool, e));
    TRY(video_read(v, index, n, &(struct frame_sink){.user = &b, .put = put_frame}, e));
    frame_batch_flush(&b);
    *ms += b.ms;
    frame_batch_close(&b);
    clips_done(out);
    return 0;
fail:
    frame_batch_close(&b);
    clips_free(out);
    return rc;
}

// Pixels of the whole video, or of the part between start_s and end_s.
static int read_whole(iv_media *m, const struct clips_plan *plan, size_t first, size_t n_window,
                      struct err *e)
{
    size_t n = m->clip_frames;
    struct clips clips = {0};
    int rc;
    int32_t *index = mem_calloc(n, sizeof *index);
    if (!index)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu frames", m->path, n));
    TRY(frames_sample(first, n_window, n, index, e));
    TRY(media_read_clips(m->video, m->engine->pool, plan, index, n, &clips, &m->info.preprocess_ms,
                         e));
    TRY(media_set_frames(m, index, n, video_stats(m->video)->fps, e));
    media_take_clips(m, &clips);
    video_close(m->video);
    m->video = NULL;
fail:
    clips_free(&clips);
    mem_free(index);
    return rc;
}

static int read_video(iv_media *m, const char *path, const struct iv_media_options *o,
                      struct err *e)
{
    int rc;
    struct video_options vo = {.hooks = callback_hooks(&m->decode_cb),
                               .n_thread = pool_threads(m->engine->pool)};
    struct clips_plan plan;
    size_t first, n_window;
    double start = clock_ms();
    m->options = media_clip_options(m->engine, o);
    m->clip_frames = o->n_frame > 0 ? (size_t)o->n_frame : m->engine->config.n_frame;
    TRY(video_open(&m->video, path, &vo, e));
    const struct video_stats *s = video_stats(m->video);
    m->info.frame_count = s->n_frame;
    m->info.duration_s = s->duration_s;
    m->info.width = s->width;
    m->info.height = s->height;
    TRY(video_window(m->video, o->start_s, o->end_s, &first, &n_window, e));
    TRY(clips_plan(&plan, &m->options, m->clip_frames, s->width, s->height, e));
    TRY(video_sha256(m->video, m->sha256, e));
    m->info.sha256 = m->sha256;
    TRY(media_content(m, m->sha256, e));
    if (o->segment_s > 0) {
        TRY(segments_cut(m, o, first, n_window, e));
        m->part_clips = plan.n_clip;
        m->info.n_clip = plan.n_clip * m->n_part;
        m->info.cols = plan.cols;
        m->info.rows = plan.rows;
    } else {
        TRY(read_whole(m, &plan, first, n_window, e));
    }
    m->info.decode_ms = clock_ms() - start - m->info.preprocess_ms;
fail:
    return rc;
}

int iv_media_open_video(const iv_engine *g, const char *path, const struct iv_media_options *o,
                        iv_media **out, struct iv_error *error)
{
    struct err e = {0};
    iv_media *m = NULL;
    int rc;
    *out = NULL;
    TRY(media_check_options(o, &e));
    TRY(media_new(g, &o->callbacks, &m, &e));
    TRY(media_set_path(m, path, &e));
    TRY(read_video(m, path, o, &e));
    *out = m;
    return IV_OK;
fail:
    iv_media_close(m);
    return status_out(rc, &e, error);
}

static int read_image(iv_media *m, const char *path, struct clips *clips, struct buf *content,
                      struct err *e)
{
    struct video_options vo = {.hooks = callback_hooks(&m->callbacks),
                               .n_thread = pool_threads(m->engine->pool)};
    struct image image = {0};
    double start = clock_ms(), decoded;
    int rc;
    TRY(image_read(&image, path, &vo, e));
    decoded = clock_ms();
    TRY(clips_add_image(clips, &m->options, image.rgb, image.width, image.height, e));
    buf_add_str(content, image.sha256);
    if (clips->n_clip > MEDIA_CLIP_MAX)
        TRY(err_set(e, ERR_LIMIT, "%s: more than %d tiles in all", path, MEDIA_CLIP_MAX));
    if (!m->info.sha256) { // of several images the first one's is shown
        memcpy(m->sha256, image.sha256, sizeof m->sha256);
        m->info.sha256 = m->sha256;
        m->info.width = image.width;
        m->info.height = image.height;
    }
    m->info.decode_ms += decoded - start;
    m->info.preprocess_ms += clock_ms() - decoded;
fail:
    image_free(&image);
    return rc;
}

int iv_media_open_images(const iv_engine *g, const char *const *paths, size_t n,
                         const struct iv_media_options *o, iv_media **out, struct iv_error *error)
{
    struct err e = {0};
    struct clips clips = {0};
    struct buf content = {0};
    iv_media *m = NULL;
    int rc;
    *out = NULL;
    TRY(media_check_options(o, &e));
    TRY(media_new(g, &o->callbacks, &m, &e));
    m->options = media_clip_options(g, o);
    if (n < 1)
        TRY(err_set(&e, ERR_USAGE, "no image given"));
    if (m->options.mode == CLIPS_PLAIN && n > 1)
        TRY(err_set(&e, ERR_USAGE, "the 8b variant looks at one image, not %zu", n));
    TRY(media_set_path(m, paths[0], &e));
    m->info.image = true;
    for (size_t i = 0; i < n; i++)
        TRY(read_image(m, paths[i], &clips, &content, &e));
    if (content.failed)
        TRY(err_set(&e, ERR_LIMIT, "media: out of memory for %zu images", n));
    TRY(media_content(m, content.data, &e));
    TRY(media_set_frames(m, NULL, 1, 0, &e));
    m->info.frame_count = n;
    media_take_clips(m, &clips);
    buf_free(&content);
    *out = m;
    return IV_OK;
fail:
    buf_free(&content);
    clips_free(&clips);
    iv_media_close(m);
    return status_out(rc, &e, error);
}

// As clips_from_rgb; abort is polled between frames.
static int put_rgb(struct clips *c, const iv_media *m, const uint8_t *rgb, size_t n_frame,
                   size_t width, size_t height, struct err *e)
{
    struct hooks hooks = callback_hooks(&m->callbacks);
    struct clips_plan plan;
    int rc;
    TRY(clips_plan(&plan, &m->options, n_frame, width, height, e));
    TRY(clips_init(c, &plan, e));
    for (size_t i = 0; i < n_frame; i++) {
        if (hooks_abort(&hooks))
            TRY(err_set(e, ERR_ABORT, "stopped at frame %zu of %zu", i, n_frame));
        clips_put(c, i, rgb + i * plan.frame_bytes);
    }
    clips_done(c);
fail:
    return rc;
}

int iv_media_from_rgb(const iv_engine *g, const uint8_t *rgb, size_t n_frame, size_t width,
                      size_t height, double fps, const struct iv_media_options *o, iv_media **out,
                      struct iv_error *error)
{
    struct err e = {0};
    struct clips clips = {0};
    iv_media *m = NULL;
    int rc;
    *out = NULL;
    double start = clock_ms();
    TRY(media_check_options(o, &e));
    TRY(media_new(g, &o->callbacks, &m, &e));
    m->options = media_clip_options(g, o);
    TRY(put_rgb(&clips, m, rgb, n_frame, width, height, &e));
    media_take_clips(m, &clips);
    TRY(media_set_frames(m, NULL, n_frame, fps, &e));
    m->info.frame_count = n_frame;
    m->info.duration_s = m->info.fps > 0 ? (double)n_frame / fps : 0;
    m->info.width = width;
    m->info.height = height;
    m->info.preprocess_ms = clock_ms() - start;
    *out = m;
    return IV_OK;
fail:
    clips_free(&clips);
    iv_media_close(m);
    return status_out(rc, &e, error);
}

int iv_media_from_pixels(const iv_engine *g, const float *pixels, size_t n_clip, size_t n_frame,
                         bool image, iv_media **out, struct iv_error *error)
{
    struct err e = {0};
    struct iv_callbacks none = {0};
    iv_media *m = NULL;
    size_t side = g->config.vit.image_size, n;
    int rc;
    *out = NULL;
    TRY(media_new(g, &none, &m, &e));
    if (n_clip < 1 || n_frame < 1 || n_clip > MEDIA_CLIP_MAX || n_frame > FRAMES_SEGMENT_MAX)
        TRY(err_set(&e, ERR_USAGE, "pixels: %zu clips of %zu frames (1..%d and 1..%d are possible)",
                    n_clip, n_frame, MEDIA_CLIP_MAX, FRAMES_SEGMENT_MAX));
    if (image && n_frame != 1)
        TRY(err_set(&e, ERR_USAGE, "pixels: an image has one frame, not %zu", n_frame));
    n = n_clip * n_frame * 3 * side * side; // below 2^24 * 2^18 by the limits above
    m->given = mem_calloc(n, sizeof *m->given);
    if (!m->given)
        TRY(err_set(&e, ERR_LIMIT, "pixels: out of memory for %zu values", n));
    memcpy(m->given, pixels, n * sizeof *pixels);
    m->pixels = m->given;
    m->info.image = image;
    m->clip_frames = n_frame;
    m->info.n_clip = m->part_clips = n_clip;
    m->info.cols = m->info.rows = 1;
    m->info.frame_count = n_frame;
    m->info.width = m->info.height = side;
    TRY(media_set_frames(m, NULL, n_frame, 0, &e));
    *out = m;
    return IV_OK;
fail:
    iv_media_close(m);
    return status_out(rc, &e, error);
}
