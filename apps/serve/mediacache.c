// SPDX-License-Identifier: MIT
// One entry for the bytes of some media and all numbers of their preprocessing. The first job that asks makes it, in
// the decoding process; others wait for it.
//
// Easy to get wrong: the limits (frames, tiles, memory) are looked at before anything is decoded; a job that gives up
// while it decodes must not fail those that wait, so they try themselves; the callbacks of a media live as long as it
// does, but a job does not: they look at whichever job is working on the media now.

#include "mediacache.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heap.h"

enum { CLIP_FLOATS = 3 * 224 * 224, ENTRIES = 64 };

enum entry_state { ENTRY_MAKING, ENTRY_READY, ENTRY_FAILED };

struct media_entry {
    struct mediacache *cache;
    char key[DIGEST_TEXT];
    enum entry_state state;
    unsigned n_holder; // the cache's own included; under the cache's lock, as are state and used
    uint64_t used, bytes;
    bool listed;
    iv_media *media;
    _Atomic(struct job *) job;
    pthread_mutex_t stage_lock;
    uint8_t *thumb;
    size_t n_thumb, width, height;
    double decode_ms;
};

struct mediacache {
    struct server *server;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct media_entry *entry[ENTRIES];
    uint64_t max, bytes, clock;
};

struct mediacache *mediacache_open(struct server *s, uint64_t max_bytes)
{
    struct mediacache *c = heap_calloc(1, sizeof *c);
    if (!c || pthread_mutex_init(&c->lock, NULL) != 0 || tick_open(&c->changed) != 0) {
        heap_free(c);
        return NULL;
    }
    c->server = s;
    c->max = max_bytes;
    return c;
}

static void entry_free(struct media_entry *e)
{
    iv_media_close(e->media);
    (void)pthread_mutex_destroy(&e->stage_lock);
    heap_free(e->thumb);
    heap_free(e);
}

// Caller holds the lock; the entry is to be freed outside of it when that returns true.
static bool let_go(struct media_entry *e)
{
    return --e->n_holder == 0;
}

void mediacache_drop(struct media_entry *e)
{
    if (!e)
        return;
    (void)pthread_mutex_lock(&e->cache->lock);
    bool last = let_go(e);
    (void)pthread_mutex_unlock(&e->cache->lock);
    if (last)
        entry_free(e);
}

// Takes entry i out of the list. Caller holds the lock; frees are collected in dead.
static void unlist(struct mediacache *c, size_t i, struct media_entry **dead, size_t *n_dead)
{
    struct media_entry *e = c->entry[i];
    c->entry[i] = NULL;
    e->listed = false;
    c->bytes -= e->bytes;
    if (let_go(e))
        dead[(*n_dead)++] = e;
}

static void free_all(struct media_entry **dead, size_t n)
{
    for (size_t i = 0; i < n; i++)
        entry_free(dead[i]);
}

void mediacache_close(struct mediacache *c)
{
    struct media_entry *dead[ENTRIES];
    size_t n = 0;
    if (!c)
        return;
    (void)pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < ENTRIES; i++) {
        if (c->entry[i])
            unlist(c, i, dead, &n);
    }
    (void)pthread_mutex_unlock(&c->lock);
    free_all(dead, n);
    (void)pthread_cond_destroy(&c->changed);
    (void)pthread_mutex_destroy(&c->lock);
    heap_free(c);
}

// The entry used longest ago that nobody is making; ENTRIES = none.
static size_t oldest(const struct mediacache *c)
{
    size_t found = ENTRIES;
    for (size_t i = 0; i < ENTRIES; i++) {
        const struct media_entry *e = c->entry[i];
        if (e && e->state == ENTRY_READY && (found == ENTRIES || e->used < c->entry[found]->used))
            found = i;
    }
    return found;
}

// Makes room for bytes more and a place. Caller holds the lock.
static void shrink(struct mediacache *c, uint64_t bytes, struct media_entry **dead, size_t *n_dead)
{
    for (;;) {
        size_t n = 0, i;
        for (i = 0; i < ENTRIES; i++)
            n += c->entry[i] != NULL;
        if ((c->bytes + bytes <= c->max && n < ENTRIES) || (i = oldest(c)) == ENTRIES)
            return;
        unlist(c, i, dead, n_dead);
    }
}

static bool on_abort(void *user)
{
    struct media_entry *e = user;
    struct job *j = atomic_load(&e->job);
    return j && job_stopped(j);
}

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct media_entry *e = user;
    struct job *j = atomic_load(&e->job);
    if (j)
        job_progress(j, stage, done, total);
}

static struct media_entry *entry_new(struct mediacache *c, const char *key)
{
    struct media_entry *e = heap_calloc(1, sizeof *e);
    if (!e || pthread_mutex_init(&e->stage_lock, NULL) != 0) {
        heap_free(e);
        return NULL;
    }
    e->cache = c;
    e->n_holder = 1;
    memcpy(e->key, key, sizeof e->key);
    return e;
}

// ---- numbers

struct plan {
    struct iv_media_options media;
    struct decoder_order order;
};

static bool is_plain(const struct server *s)
{
    return strcmp(iv_engine_info(s->engine)->variant, "8b") == 0;
}

static int make_plan(struct mediacache *c, const struct sources *from, const struct chatreq *q,
                     struct plan *p, struct refusal *r)
{
    struct server *s = c->server;
    const struct iv_engine_info *info = iv_engine_info(s->engine);
    size_t pieces = from->item[0]->n_piece;
    int most = s->s->max_frames;
    p->media = iv_media_options_default();
    p->media.hd_num = q->hd_num ? q->hd_num : s->s->hd_num;
    p->media.padding = q->padding || (s->s->padding && !q->fix_ratio);
    p->media.fix_cols = q->fix_ratio ? q->fix_cols : s->s->fix_ratio.cols;
    p->media.fix_rows = q->fix_ratio ? q->fix_rows : s->s->fix_ratio.rows;
    int usual = info->default_n_frame < (uint64_t)most ? (int)info->default_n_frame : most;
    int n = q->n_frame         ? q->n_frame
            : q->rate > 0      ? most
            : s->s->num_frames ? s->s->num_frames
                               : usual;
    n = pieces > 0 && !q->n_frame ? (int)pieces : n;
    n = from->image ? 1 : n;
    if (n > most)
        return refuse(r, 413, "too_many_frames", "num_frames",
                      "num_frames: %d, at most %d are accepted", n, most);
    int tiles = p->media.padding || p->media.fix_cols == 0 ? p->media.hd_num
                                                           : p->media.fix_cols * p->media.fix_rows;
    uint64_t clips = is_plain(s) ? 1 : (uint64_t)tiles + 1;
    uint64_t bytes = clips * (uint64_t)n * from->n * CLIP_FLOATS * sizeof(float);
    if (bytes > s->max_media_bytes)
        return refuse(r, 413, "media_too_large", "num_frames",
                      "%d frames in %llu tiles would take %llu bytes, at most %llu are accepted", n,
                      (unsigned long long)clips, (unsigned long long)bytes,
                      (unsigned long long)s->max_media_bytes);
    p->order = (struct decoder_order){.image = from->image,
                                      .n_frame = n,
                                      .rate = q->rate,
                                      .start_s = q->start_s,
                                      .end_s = q->end_s,
                                      .limits = s->limits};
    return 0;
}

static bool make_key(const struct sources *from, const struct plan *p, char key[DIGEST_TEXT])
{
    struct textbuf b = {0};
    uint8_t digest[DIGEST_BYTES];
    textbuf_printf(&b, "%d %d %.17g %.17g %.17g %d %d %d %d", from->image, p->order.n_frame,
                   p->order.rate, p->order.start_s, p->order.end_s, p->media.hd_num,
                   p->media.padding, p->media.fix_cols, p->media.fix_rows);
    for (size_t i = 0; i < from->n; i++) {
        textbuf_printf(&b, "|%s", from->item[i]->sha256);
        for (size_t k = 0; k < from->item[i]->n_piece; k++)
            textbuf_printf(&b, ",%llu", (unsigned long long)from->item[i]->piece[k].n);
    }
    bool ok = !b.failed && digest_bytes(b.data, b.len, digest);
    textbuf_free(&b);
    if (ok)
        digest_text(digest, key);
    return ok;
}

// ---- making

// Frames on their way from the decoding process into the media, with small copies for people.
struct stream {
    struct media_entry *entry;
    const struct sources *from;
    struct plan *plan;
    struct decoder decoder;
    size_t n, at;           // images: which one
    int status;             // of the decoder
    bool list;              // frames of a data URL
    size_t *pick;           // [n] which pictures of a list are frames
    char name[DIGEST_TEXT]; // of a list: of its bytes and where they are cut
    size_t width, height;   // of its first one
};

static bool job_stop(void *user)
{
    return job_stopped(user);
}

static void thumb(struct media_entry *e, size_t slot, const struct iv_frame *f)
{
    size_t w = f->width, h = f->height, most = w > h ? w : h;
    if (slot < e->n_thumb && !f->rgb && e->thumb && slot > 0) { // the one in front again
        size_t n = e->width * e->height * 3;
        memcpy(e->thumb + slot * n, e->thumb + (slot - 1) * n, n);
    }
    if (slot >= e->n_thumb || !f->rgb || most == 0)
        return;
    if (!e->thumb) {
        e->width = most > THUMB_SIDE ? w * THUMB_SIDE / most : w;
        e->height = most > THUMB_SIDE ? h * THUMB_SIDE / most : h;
        e->width += e->width == 0;
        e->height += e->height == 0;
        e->thumb = heap_calloc(e->n_thumb * e->width * e->height, 3);
        if (!e->thumb) // a reply without pictures
            return;
    }
    uint8_t *to = e->thumb + slot * e->width * e->height * 3;
    for (size_t y = 0; y < e->height; y++) { // the mean of the pixels that lie in a cell
        size_t y0 = y * h / e->height, y1 = (y + 1) * h / e->height;
        for (size_t x = 0; x < e->width; x++) {
            size_t x0 = x * w / e->width, x1 = (x + 1) * w / e->width, sum[3] = {0}, n = 0;
            for (size_t v = y0; v < (y1 > y0 ? y1 : y0 + 1); v++) {
                for (size_t u = x0; u < (x1 > x0 ? x1 : x0 + 1); u++, n++) {
                    for (size_t k = 0; k < 3; k++)
                        sum[k] += f->rgb[(v * w + u) * 3 + k];
                }
            }
            for (size_t k = 0; k < 3; k++)
                *to++ = (uint8_t)(sum[k] / n);
        }
    }
}

static int open_decoder(struct stream *s, size_t i)
{
    s->plan->order.item = s->from->item[i];
    decoder_close(&s->decoder);
    s->status = decoder_open(&s->decoder, &s->plan->order);
    return s->status;
}

static int next_image(struct stream *s, struct iv_frame *f, struct iv_error *e)
{
    if (s->at > 0 && open_decoder(s, s->at) != IV_OK)
        return s->status;
    s->status = decoder_next(&s->decoder, f, e);
    // others' features are kept under such names
    if (s->status == IV_OK && (!f->sha256 || strcmp(f->sha256, s->from->item[s->at]->sha256) != 0))
        s->status = IV_ERR_MEDIA; // the file changed, or the process was taken over
    f->slot = s->at++;
    return s->status;
}

// The next picture of a list that is wanted, as a frame.
static int next_of_list(struct stream *s, struct iv_frame *f, struct iv_error *e)
{
    if (s->at > 0 && s->pick[s->at] == s->pick[s->at - 1]) { // a short list repeats its pictures
        *f = (struct iv_frame){.slot = s->at++};
        return IV_OK;
    }
    do {
        s->status = decoder_next(&s->decoder, f, e);
    } while (s->status == IV_OK && f->slot < s->pick[s->at]);
    if (s->status == IV_OK && !f->rgb)
        s->status = IV_ERR_MEDIA;
    if (s->status == IV_OK && (f->width != s->width || f->height != s->height))
        s->status = IV_ERR_USAGE;
    f->sha256 = NULL;
    f->slot = s->at++;
    return s->status;
}

static int on_next(void *user, struct iv_frame *f, struct iv_error *e)
{
    struct stream *s = user;
    int rc = s->from->image ? next_image(s, f, e)
             : s->list      ? next_of_list(s, f, e)
                            : (s->status = decoder_next(&s->decoder, f, e));
    if (rc == IV_OK)
        thumb(s->entry, f->slot, f);
    return rc;
}

static bool name_list(const struct item *item, char name[DIGEST_TEXT])
{
    struct textbuf b = {0};
    uint8_t digest[DIGEST_BYTES];
    textbuf_printf(&b, "list %s", item->sha256);
    for (size_t i = 0; i < item->n_piece; i++)
        textbuf_printf(&b, ",%llu", (unsigned long long)item->piece[i].n);
    bool ok = !b.failed && digest_bytes(b.data, b.len, digest);
    textbuf_free(&b);
    if (ok)
        digest_text(digest, name);
    return ok;
}

// Which of n pictures are looked at when s are wanted (SPEC 3.1).
static size_t *choose(size_t n, size_t s)
{
    size_t *pick = heap_calloc(s, sizeof *pick);
    double step = (double)(n - 1) / (double)s;
    for (size_t i = 0; pick && i < s; i++) {
        pick[i] = s == n ? i : (size_t)(floor(step / 2) + rint(step * (double)i));
        pick[i] = pick[i] < n ? pick[i] : n - 1;
    }
    return pick;
}

static int make_media(struct stream *s, struct iv_error *error)
{
    struct media_entry *e = s->entry;
    const struct item *item = s->from->item[0];
    int rc = open_decoder(s, 0);
    if (rc != IV_OK)
        return rc;
    const struct decode_msg *m = &s->decoder.head;
    struct iv_frames frames = {.n_frame = (size_t)m->count,
                               .width = (size_t)m->width,
                               .height = (size_t)m->height,
                               .frame_index = s->decoder.index,
                               .frame_count = m->frame_count,
                               .fps = m->fps,
                               .duration_s = m->duration_s,
                               .sha256 = m->sha256};
    s->n = s->from->image ? s->from->n : frames.n_frame;
    s->list = item->piece != NULL;
    if (s->list) {
        s->n = (size_t)s->plan->order.n_frame;
        s->pick = choose(item->n_piece, s->n);
        if (!s->pick || !name_list(item, s->name))
            return IV_ERR_LIMIT;
        s->width = (size_t)s->decoder.msg.width;
        s->height = (size_t)s->decoder.msg.height;
        frames = (struct iv_frames){.n_frame = s->n,
                                    .width = s->width,
                                    .height = s->height,
                                    .frame_count = item->n_piece,
                                    .fps = s->plan->order.rate,
                                    .sha256 = s->name};
    } else if (!s->from->image && (!s->decoder.index || strcmp(m->sha256, item->sha256) != 0)) {
        return IV_ERR_MEDIA; // the file changed, or the process was taken over
    }
    e->n_thumb = s->n < THUMBS_MAX ? s->n : THUMBS_MAX;
    return iv_media_from_frames(s->entry->cache->server->engine, s->from->image ? NULL : &frames,
                                s->n, on_next, s, &s->plan->media, &e->media, error);
}

// An answer for the client; what the decoder or the library said stays here.
static int refused(struct stream *s, int rc, struct job *job, const char *where, struct refusal *r)
{
    static const char *const kinds[] = {"a video", "an image"};
    rc = s->status != IV_OK ? s->status : rc;
    switch (rc) {
    case IV_ERR_ABORT:
        return job_late(job) ? refuse(r, 503, "timeout", "", "the request took too long")
                             : refuse(r, 503, "stopped", "", "stopped");
    case IV_ERR_LIMIT:
        return refuse(
            r, 413, "media_too_large", where,
            "the media are beyond a limit of this server: size of frames, length, or time "
            "of decoding");
    case IV_ERR_USAGE:
        return refuse(r, 400, "invalid_media", where,
                      "the media do not fit the request: number, sizes or part");
    case IV_ERR_MODEL:
        return refuse(r, 400, "media_not_supported", where,
                      "this server has only the language part of a model: it takes no media");
    case IV_ERR_FAIL:
        server_note(s->entry->cache->server,
                    "no decoding: a process could not be started, or FFmpeg's "
                    "libraries are missing (`ivchat --version` tells)");
        return refuse(r, 503, "overloaded", "", "no process for decoding could be started");
    default:
        return refuse(r, 415, "not_a_video", where, "the bytes are not %s that can be decoded",
                      kinds[s->from->image]);
    }
}

static double milliseconds(void)
{
    return (double)clock_now_ns() * 1e-6;
}

static int make(struct media_entry *e, const struct sources *from, struct plan *p, struct job *job,
                struct refusal *r)
{
    struct iv_error error = {0};
    struct stream s = {.entry = e, .from = from, .plan = p, .decoder = {.from = -1}};
    double start = milliseconds();
    p->media.callbacks =
        (struct iv_callbacks){.user = e, .abort = on_abort, .progress = on_progress};
    p->order.stop = job_stop;
    p->order.stop_user = job;
    atomic_store(&e->job, job);
    job_progress(job, "decode", 0, 0);
    int rc = make_media(&s, &error);
    atomic_store(&e->job, NULL);
    decoder_close(&s.decoder);
    heap_free(s.pick);
    counters_media(&e->cache->server->counters, false, rc == IV_ERR_MEDIA, milliseconds() - start);
    if (rc != IV_OK)
        return refused(&s, rc, job, "messages", r);
    const struct iv_media_info *m = iv_media_info(e->media);
    e->decode_ms = milliseconds() - start - m->preprocess_ms;
    e->bytes = (uint64_t)m->n_clip * m->n_frame * CLIP_FLOATS * sizeof(float);
    e->bytes += (uint64_t)e->n_thumb * e->width * e->height * 3;
    return 0;
}

// ---- finding

static struct media_entry *find(const struct mediacache *c, const char *key)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        if (c->entry[i] && strcmp(c->entry[i]->key, key) == 0)
            return c->entry[i];
    }
    return NULL;
}

// Until the one that is being made is ready, gone, or the job is to stop. Caller holds the lock.
static struct media_entry *await(struct mediacache *c, const char *key, struct job *job)
{
    struct media_entry *e;
    while ((e = find(c, key)) && e->state == ENTRY_MAKING && !job_stopped(job))
        tick_wait(&c->changed, &c->lock, 50);
    return e;
}

static void enlist(struct mediacache *c, struct media_entry *e)
{
    for (size_t i = 0; i < ENTRIES && !e->listed; i++) {
        if (!c->entry[i]) {
            c->entry[i] = e;
            e->listed = true;
            e->n_holder++;
        }
    }
}

// The end of making e: waiting jobs look again.
static void settle(struct mediacache *c, struct media_entry *e, bool ok)
{
    struct media_entry *dead[ENTRIES];
    size_t n = 0;
    (void)pthread_mutex_lock(&c->lock);
    e->state = ok ? ENTRY_READY : ENTRY_FAILED;
    e->used = ++c->clock;
    for (size_t i = 0; i < ENTRIES && e->listed; i++) {
        if (c->entry[i] != e)
            continue;
        uint64_t bytes = e->bytes;
        e->bytes = 0; // not counted yet
        if (ok)
            shrink(c, bytes, dead, &n);
        if (e->listed && !ok)
            unlist(c, i, dead, &n);
        if (e->listed)
            c->bytes += e->bytes = bytes;
        break;
    }
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->lock);
    free_all(dead, n);
}

int mediacache_get(struct mediacache *c, const struct sources *from, const struct chatreq *q,
                   struct job *job, struct media_entry **out, bool *found, struct refusal *r)
{
    struct plan p = {0};
    char key[DIGEST_TEXT];
    struct media_entry *dead[ENTRIES];
    size_t n_dead = 0;
    *out = NULL;
    *found = false;
    if (make_plan(c, from, q, &p, r) != 0)
        return -1;
    if (!make_key(from, &p, key))
        return refuse(r, 503, "out_of_memory", "", "out of memory");
    (void)pthread_mutex_lock(&c->lock);
    struct media_entry *e = await(c, key, job);
    if (e && e->state == ENTRY_READY) {
        e->n_holder++;
        e->used = ++c->clock;
        *found = true;
    } else if (!e && (e = entry_new(c, key))) {
        shrink(c, 0, dead, &n_dead);
        enlist(c, e);
    } else if (e) { // still being made: the job is to stop
        e = NULL;
        (void)refuse(r, 503, "timeout", "", "the request took too long");
    } else {
        (void)refuse(r, 503, "out_of_memory", "", "out of memory");
    }
    (void)pthread_mutex_unlock(&c->lock);
    free_all(dead, n_dead);
    if (!e)
        return -1;
    if (*found) {
        counters_media(&c->server->counters, true, false, 0);
    } else {
        bool ok = make(e, from, &p, job, r) == 0;
        settle(c, e, ok);
        if (!ok) {
            mediacache_drop(e);
            return -1;
        }
    }
    *out = e;
    return 0;
}

bool mediacache_kept(struct media_entry *e)
{
    (void)pthread_mutex_lock(&e->cache->lock);
    bool listed = e->listed;
    (void)pthread_mutex_unlock(&e->cache->lock);
    return listed;
}

struct media_view mediacache_view(const struct media_entry *e)
{
    return (struct media_view){.media = e->media,
                               .n_thumb = e->thumb ? e->n_thumb : 0,
                               .width = e->width,
                               .height = e->height,
                               .thumb = e->thumb,
                               .decode_ms = e->decode_ms};
}

int mediacache_stage(struct media_entry *e, enum iv_stage stage, const char *instruction,
                     struct job *job, float **data, size_t dim[6], unsigned *n_dim,
                     struct iv_error *error)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    *data = NULL;
    while (pthread_mutex_trylock(&e->stage_lock) != 0) {
        if (job_stopped(job))
            return IV_ERR_ABORT;
        (void)nanosleep(&pause, NULL);
    }
    atomic_store(&e->job, job);
    int rc = iv_media_stage(e->media, stage, instruction, data, dim, n_dim, error);
    atomic_store(&e->job, NULL);
    (void)pthread_mutex_unlock(&e->stage_lock);
    return rc;
}
