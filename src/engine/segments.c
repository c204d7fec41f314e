// SPDX-License-Identifier: MIT
// Long videos cut in pieces of so many seconds: each piece is sampled by the rule for whole videos
// (SPEC 3.1) and becomes clips of its own. The video stays open, and a piece's frames are decoded when they
// are encoded and released again, so memory does not grow with the length.
//
// Easy to get wrong: a frame belongs to the segment that its time lies in, compared with the same
// products start + k * length that tell where segments begin; segments without a frame are left out; the
// last one may be short, and repeats frames as any short video does.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "engine/engine.h"
#include "media/frames.h"
#include "media/video.h"

enum { SAMPLED_MAX = 1 << 24 }; // frames of all segments

struct cut {
    const struct video *video;
    double start, length;
    size_t first, n; // frames of the part
};

// The segment of frame i (of the part), by its time.
static double segment_of(const struct cut *c, size_t i)
{
    double t = video_frame_seconds(c->video, c->first + i);
    double k = floor((t - c->start) / c->length);
    if (t < c->start + k * c->length) // the quotient was rounded up
        k--;
    else if (t >= c->start + (k + 1) * c->length)
        k++;
    return k;
}

// Frames of the run of equal segment that begins with frame i.
static size_t run_length(const struct cut *c, size_t i)
{
    double k = segment_of(c, i);
    size_t end = i + 1;
    while (end < c->n && !(segment_of(c, end) > k))
        end++;
    return end - i;
}

static size_t count_segments(const struct cut *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i += run_length(c, i))
        n++;
    return n;
}

static int fill(const struct cut *c, size_t n_sample, int32_t *index, double *begin, struct err *e)
{
    int rc = 0;
    for (size_t i = 0, run; i < c->n; i += run) {
        run = run_length(c, i);
        *begin++ = c->start + segment_of(c, i) * c->length;
        TRY(frames_sample(c->first + i, run, n_sample, index, e));
        index += n_sample;
    }
fail:
    return rc;
}

int segments_cut(iv_media *m, const struct iv_media_options *o, size_t first, size_t n,
                 struct err *e)
{
    const struct video_stats *s = video_stats(m->video);
    struct cut c = {.video = m->video,
                    .start = o->start_s > 0 ? o->start_s : 0,
                    .length = o->segment_s,
                    .first = first,
                    .n = n};
    size_t n_sample = m->clip_frames;
    int32_t *index = NULL;
    int rc = 0;
    if (!isfinite(video_frame_seconds(m->video, first + n - 1)) ||
        (n > 1 &&
         !(video_frame_seconds(m->video, first + n - 1) > video_frame_seconds(m->video, first))))
        return err_set(e, ERR_MEDIA, "%s: has no frame times, so it cannot be cut in segments",
                       m->path);
    size_t n_segment = count_segments(&c);
    if (n_segment > SAMPLED_MAX / n_sample)
        return err_set(e, ERR_LIMIT, "%s: %zu segments of %zu frames, at most %d frames in all",
                       m->path, n_segment, n_sample, SAMPLED_MAX);
    index = mem_calloc(n_segment * n_sample, sizeof *index);
    m->segment_s = mem_calloc(n_segment, sizeof *m->segment_s);
    if (!index || !m->segment_s)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu segments", m->path, n_segment));
    TRY(fill(&c, n_sample, index, m->segment_s, e));
    m->info.segment_s = m->segment_s;
    m->info.n_segment = m->n_part = n_segment;
    TRY(media_set_frames(m, index, n_segment * n_sample, s->fps, e));
fail:
    mem_free(index);
    return rc;
}

int segments_read(iv_media *m, size_t i, struct clips *out, double *ms, struct err *e)
{
    struct clips_plan plan;
    const struct video_stats *s = video_stats(m->video);
    int rc = clips_plan(&plan, &m->options, m->clip_frames, s->width, s->height, e);
    if (rc != 0)
        return rc;
    return media_read_clips(m->video, m->engine->pool, &plan, m->frame_index + i * m->clip_frames,
                            m->clip_frames, out, ms, e);
}

static int take_segment(iv_media *from, size_t i, iv_media *m, struct err *e)
{
    struct clips clips = {0};
    double start = clock_ms(), ms = 0;
    int rc;
    m->options = from->options;
    TRY(media_set_path(m, from->path, e));
    memcpy(m->sha256, from->sha256, sizeof m->sha256);
    m->info.sha256 = m->sha256;
    memcpy(m->content, from->content, sizeof m->content);
    m->content_known = from->content_known;
    m->info.frame_count = from->info.frame_count;
    m->info.duration_s = from->info.duration_s;
    m->info.width = from->info.width;
    m->info.height = from->info.height;
    from->decode_cb = from->callbacks;
    TRY(segments_read(from, i, &clips, &ms, e));
    media_take_clips(m, &clips);
    TRY(media_set_frames(m, from->frame_index + i * from->clip_frames, from->clip_frames,
                         from->info.fps, e));
    m->info.preprocess_ms = ms;
    m->info.decode_ms = clock_ms() - start - ms;
fail:
    clips_free(&clips);
    return rc;
}

int iv_media_segment(iv_media *media, size_t i, iv_media **out, struct iv_error *error)
{
    struct err e = {0};
    iv_media *m = NULL;
    int rc;
    *out = NULL;
    if (i >= media->info.n_segment)
        TRY(err_set(&e, ERR_USAGE, "segment %zu: the media has %zu", i, media->info.n_segment));
    if (media->restored)
        TRY(err_set(&e, ERR_USAGE, "the media was restored without its frames"));
    TRY(media_new(media->engine, &media->callbacks, &m, &e));
    TRY(media_lock(media, &media->callbacks, &e));
    rc = take_segment(media, i, m, &e);
    pthread_mutex_unlock(&media->lock);
    TRY(rc);
    *out = m;
    return IV_OK;
fail:
    iv_media_close(m);
    return status_out(rc, &e, error);
}
