// SPDX-License-Identifier: MIT
// Media whose decoding and use lie in two processes: iv_decode turns bytes into frames for callbacks,
// iv_media_from_frames makes a media of frames that come one at a time.
//
//   bytes -> begin(video's numbers), frame(slot, rgb) ...      process A: FFmpeg, no engine
//   next() ... -> clips -> media                               process B: engine, no FFmpeg
//
// Easy to get wrong: process A may be in a stranger's hands, so that B believes nothing: each slot comes once, a
// repeated picture needs the one in front of it, which images do not have, sizes go through clips_plan; the key of
// the caches must be the one that media.c makes, or the same video would be encoded twice.
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "media/frames.h"
#include "media/video.h"

struct iv_decode_options iv_decode_options_default(void)
{
    return (struct iv_decode_options){.n_frame = 8, .n_thread = 1};
}

static const char name[] = "media";

// A callback of the caller's failed: its status and message, as ours.
static int from_caller(int rc, const struct iv_error *given, struct err *e)
{
    return rc >= 0 ? 0 : err_set(e, rc, "%s", given->message[0] ? given->message : "stopped");
}

static int put_frame(void *user, size_t slot, const uint8_t *rgb, struct err *e)
{
    const struct iv_decode_options *o = user;
    struct iv_error given = {0};
    return from_caller(o->frame(o->user, &(struct iv_frame){.slot = slot, .rgb = rgb}, &given),
                       &given, e);
}

static struct video_options video_settings(const struct iv_decode_options *o)
{
    return (struct video_options){.hooks = callback_hooks(&o->callbacks),
                                  .n_thread = o->n_thread > 0 ? (unsigned)o->n_thread : 1,
                                  .max_seconds = o->max_seconds,
                                  .max_frames = o->max_frame_count,
                                  .max_side = o->max_side,
                                  .max_pixels = o->max_pixels};
}

// How many frames are sampled from n frames of a video.
static size_t sample_count(const struct iv_decode_options *o, const struct video_stats *s, size_t n)
{
    size_t most = (size_t)o->n_frame;
    if (!(o->rate > 0) || !(s->fps > 0))
        return most;
    double wanted = rint((double)n / s->fps * o->rate);
    return !(wanted >= 1) ? 1 : wanted > (double)most ? most : (size_t)wanted;
}

static int check_duration(const struct iv_decode_options *o, double seconds, struct err *e)
{
    if (!(o->max_duration_s > 0) || !(seconds > o->max_duration_s))
        return 0;
    return err_set(e, ERR_LIMIT, "the video lasts %.3f s, at most %g s are accepted", seconds,
                   o->max_duration_s);
}

static int decode_video(const void *bytes, size_t n_byte, const struct iv_decode_options *o,
                        struct err *e)
{
    int rc;
    struct video *v = NULL;
    struct video_options vo = video_settings(o);
    struct iv_error given = {0};
    char sha256[SHA256_TEXT];
    size_t first, window;
    int32_t *index = NULL;
    TRY(video_open_memory(&v, bytes, n_byte, name, &vo, e));
    const struct video_stats *s = video_stats(v);
    TRY(check_duration(o, s->duration_s, e));
    TRY(video_window(v, o->start_s, o->end_s, &first, &window, e));
    TRY(video_sha256(v, sha256, e));
    size_t n = sample_count(o, s, window);
    index = mem_calloc(n, sizeof *index);
    if (!index)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu frames", name, n));
    TRY(frames_sample(first, window, n, index, e));
    TRY(from_caller(o->begin(o->user,
                             &(struct iv_frames){.n_frame = n,
                                                 .width = s->width,
                                                 .height = s->height,
                                                 .frame_index = index,
                                                 .frame_count = s->n_frame,
                                                 .fps = s->fps,
                                                 .duration_s = s->duration_s,
                                                 .sha256 = sha256},
                             &given),
                    &given, e));
    struct iv_decode_options copy = *o;
    TRY(video_read(v, index, n, &(struct frame_sink){.user = &copy, .put = put_frame}, e));
fail:
    mem_free(index);
    video_close(v);
    return rc;
}

static int decode_image(const void *bytes, size_t n, const struct iv_decode_options *o,
                        struct err *e)
{
    int rc;
    struct video_options vo = video_settings(o);
    struct iv_error given = {0};
    struct image image = {0};
    TRY(image_read_memory(&image, bytes, n, name, &vo, e));
    TRY(from_caller(o->frame(o->user,
                             &(struct iv_frame){.rgb = image.rgb,
                                                .width = image.width,
                                                .height = image.height,
                                                .sha256 = image.sha256},
                             &given),
                    &given, e));
fail:
    image_free(&image);
    return rc;
}

int iv_decode(const void *bytes, size_t n, const struct iv_decode_options *o,
              struct iv_error *error)
{
    struct err e = {0};
    int rc;
    if (o->n_frame < 1 || o->n_frame > FRAMES_SEGMENT_MAX)
        TRY(err_set(&e, ERR_USAGE, "n_frame: %d is not in 1..%d", o->n_frame, FRAMES_SEGMENT_MAX));
    TRY(o->image ? decode_image(bytes, n, o, &e) : decode_video(bytes, n, o, &e));
fail:
    return status_out(rc, &e, error);
}

// ---- the other side

struct incoming {
    iv_media *media;
    size_t n;
    int (*next)(void *user, struct iv_frame *frame, struct iv_error *e);
    void *user;
    struct buf content; // what the frames' bytes are known by
    bool unknown;       // one has no name
    uint8_t *seen;      // [n]
};

static int take(struct incoming *in, struct iv_frame *f, struct err *e)
{
    struct iv_error given = {0};
    struct hooks hooks = callback_hooks(&in->media->callbacks);
    int rc;
    if (hooks_abort(&hooks))
        return err_set(e, ERR_ABORT, "%s: stopped", name);
    *f = (struct iv_frame){0};
    TRY(from_caller(in->next(in->user, f, &given), &given, e));
    if (f->slot >= in->n || in->seen[f->slot] ||
        (!f->rgb && (f->slot == 0 || !in->seen[f->slot - 1])))
        TRY(err_set(e, ERR_USAGE, "frame %zu of %zu: out of turn", f->slot, in->n));
    in->seen[f->slot] = 1;
    if (f->sha256 && strlen(f->sha256) == SHA256_TEXT - 1)
        buf_add_str(&in->content, f->sha256);
    else
        in->unknown = true;
fail:
    return rc;
}

static int take_video(struct incoming *in, const struct iv_frames *f, struct err *e)
{
    iv_media *m = in->media;
    struct clips_plan plan;
    struct clips clips = {0};
    struct iv_frame frame;
    double start;
    int rc;
    if (f->n_frame != in->n)
        TRY(err_set(e, ERR_USAGE, "%zu frames were announced, not %zu", f->n_frame, in->n));
    TRY(clips_plan(&plan, &m->options, in->n, f->width, f->height, e));
    TRY(clips_init(&clips, &plan, e));
    for (size_t i = 0; i < in->n; i++) {
        TRY(take(in, &frame, e));
        start = clock_ms();
        clips_put(&clips, frame.slot, frame.rgb);
        m->info.preprocess_ms += clock_ms() - start;
    }
    clips_done(&clips);
    m->info.frame_count = f->frame_count;
    m->info.duration_s = f->duration_s > 0 && isfinite(f->duration_s) ? f->duration_s : 0;
    m->info.width = f->width;
    m->info.height = f->height;
    TRY(media_set_frames(m, f->frame_index, in->n, f->fps, e));
    media_take_clips(m, &clips);
fail:
    clips_free(&clips);
    return rc;
}

static int take_images(struct incoming *in, struct err *e)
{
    iv_media *m = in->media;
    struct clips clips = {0};
    struct iv_frame frame;
    double start;
    int rc;
    if (m->options.mode == CLIPS_PLAIN && in->n > 1)
        TRY(err_set(e, ERR_USAGE, "the 8b variant looks at one image, not %zu", in->n));
    m->info.image = true;
    for (size_t i = 0; i < in->n; i++) {
        TRY(take(in, &frame, e));
        if (frame.slot != i || !frame.rgb) // an image repeats no other
            TRY(err_set(e, ERR_USAGE, "image %zu of %zu: out of turn", frame.slot, in->n));
        start = clock_ms();
        TRY(clips_add_image(&clips, &m->options, frame.rgb, frame.width, frame.height, e));
        m->info.preprocess_ms += clock_ms() - start;
        if (clips.n_clip > MEDIA_CLIP_MAX)
            TRY(err_set(e, ERR_LIMIT, "more than %d tiles in all", MEDIA_CLIP_MAX));
        if (i == 0) { // of several images the first one's is shown
            m->info.width = frame.width;
            m->info.height = frame.height;
        }
    }
    m->info.frame_count = in->n;
    TRY(media_set_frames(m, NULL, 1, 0, e));
    media_take_clips(m, &clips);
fail:
    clips_free(&clips);
    return rc;
}

// What the caches know the media by.
static int know(struct incoming *in, const char *sha256, struct err *e)
{
    iv_media *m = in->media;
    const char *text = sha256 ? sha256 : in->content.data;
    if (in->content.failed)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu frames", name, in->n);
    if (!sha256 && (in->unknown || !text))
        return 0;
    memcpy(m->sha256, text, SHA256_TEXT - 1);
    m->info.sha256 = m->sha256;
    return media_content(m, text, e);
}

int iv_media_from_frames(const iv_engine *g, const struct iv_frames *f, size_t n,
                         int (*next)(void *user, struct iv_frame *frame, struct iv_error *e),
                         void *user, const struct iv_media_options *o, iv_media **out,
                         struct iv_error *error)
{
    struct err e = {0};
    struct incoming in = {.n = n, .next = next, .user = user};
    int rc;
    *out = NULL;
    TRY(media_check_options(o, &e));
    TRY(media_new(g, &o->callbacks, &in.media, &e));
    in.media->options = media_clip_options(g, o);
    if (n < 1 || n > FRAMES_SEGMENT_MAX)
        TRY(err_set(&e, ERR_USAGE, "%zu frames, 1 to %d are possible", n, FRAMES_SEGMENT_MAX));
    if (f && f->sha256 && strlen(f->sha256) != SHA256_TEXT - 1)
        TRY(err_set(&e, ERR_USAGE, "sha256: %zu characters, not 64", strlen(f->sha256)));
    in.seen = mem_calloc(n, 1);
    if (!in.seen)
        TRY(err_set(&e, ERR_LIMIT, "%s: out of memory for %zu frames", name, n));
    TRY(f ? take_video(&in, f, &e) : take_images(&in, &e));
    TRY(know(&in, f ? f->sha256 : NULL, &e));
    *out = in.media;
    in.media = NULL;
fail:
    buf_free(&in.content);
    mem_free(in.seen);
    iv_media_close(in.media);
    return status_out(rc, &e, error);
}
