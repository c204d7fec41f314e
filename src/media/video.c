// SPDX-License-Identifier: MIT
// Which packets and pictures of a video there are, and how the chosen ones are reached (SPEC 3.2).
//
// One pass counts the packets and sorts their timestamps. A second one decodes: packets before the last
// usable key packet are read and dropped, or jumped over by a seek; the packet after a seek is looked up in
// the list of the first pass, and if it is not there the file is read from the beginning. So the result
// is always that of decoding everything and taking picture i.
//
// Easy to get wrong: the decoder holds pictures back, so a picture is given up only LAG packets after
// its own; a drained decoder takes nothing more until it is emptied; counts in headers are not to be
// believed, and neither is a seek.
#include "media/video.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "media/decode.h"
#include "media/packets.h"
#include "media/source.h"

enum {
    // More packets than any decoder holds back (reordering is at most 16, plus one per thread)
    LAG = 64,
    THREAD_MAX = 16,
};

struct video {
    struct video_options o;
    char *name;
    struct source source;
    struct deadline deadline;
    struct video_stats stats;
    double time_base;
    struct packets packets;
    struct decode *decode;
    uint8_t *rgb; // u8 [height, width, 3], what sinks get
    size_t rgb_bytes;

    size_t next;  // file-order index of the packet that the demuxer gives next
    bool lost;    // nobody knows which one it is: rewind
    bool held;    // it has been given and not been used yet
    size_t run;   // the decoder got packets run .. next - 1 ...
    bool running; // ... and is ready for more
};

// ---- second pass: the chosen pictures

struct pick {
    uint32_t rank, slot;
    bool done;
};

struct job {
    struct pick *pick; // [n] by rank, then slot
    size_t n, n_done;
    const struct frame_sink *sink;
    uint32_t n_given;     // pictures that the decoder gave, for streams without timestamps
    size_t n_fed, n_plan; // packets decoded, of about so many
};

static int compare_pick(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static size_t first_pick(const struct job *j, int64_t rank)
{
    size_t lo = 0, hi = j->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if ((int64_t)j->pick[mid].rank < rank)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

// A picture came: converts it if it was asked for and hands it to its slots.
static int take_picture(struct video *v, struct job *j, int64_t rank, struct err *e)
{
    size_t i = first_pick(j, rank);
    while (i < j->n && (int64_t)j->pick[i].rank == rank && j->pick[i].done)
        i++;
    if (i == j->n || (int64_t)j->pick[i].rank != rank)
        return 0;
    int rc = decode_rgb(v->decode, v->rgb, e);
    for (; rc == 0 && i < j->n && (int64_t)j->pick[i].rank == rank; i++) {
        if (j->pick[i].done)
            continue;
        rc = j->sink->put(j->sink->user, j->pick[i].slot, v->rgb, e);
        j->pick[i].done = true;
        j->n_done++;
    }
    return rc;
}

// Decodes the packet at hand, or the end, and takes what comes out.
static int feed(struct video *v, struct job *j, bool end, struct err *e)
{
    int rc, k;
    int64_t rank;
    if (end) {
        TRY(decode_send_end(v->decode, e));
    } else {
        TRY(decode_send(v->decode, v->packets.at[v->next - 1].rank, e));
    }
    while ((k = decode_picture(v->decode, &rank, e)) > 0)
        TRY(take_picture(v, j, v->packets.timed ? rank : (int64_t)j->n_given++, e));
    if (k < 0)
        return k;
    j->n_fed += !end;
    hooks_progress(&v->o.hooks, "decode", min_size(j->n_fed, j->n_plan), j->n_plan);
    return deadline_check(&v->deadline, &v->o.hooks, v->name, e);
fail:
    return rc;
}

// dts is left out: demuxers make it up from earlier packets, of which there are none after a seek.
static bool same_packet(const struct packet *a, const struct packet *b)
{
    return a->pts == b->pts && a->pos == b->pos && a->size == b->size;
}

// Next packet of the list: 1, 0 at the end.
static int next_packet(struct video *v, struct err *e)
{
    struct packet p;
    int k = 1;
    if (v->held)
        v->held = false;
    else
        k = v->next < v->packets.n ? decode_packet(v->decode, &p, e) : 0;
    if (k > 0)
        v->next++;
    else if (v->next < v->packets.n)
        v->lost =
            true; // stopped or failed in the middle of a packet: the demuxer stands somewhere behind it
    return k;
}

// Jumps to packet `to` or one before it; on success that one is held.
static bool try_seek(struct video *v, size_t to)
{
    struct packet p;
    const struct packet *target = &v->packets.at[to];
    // not later than the key packet in any container; one key packet too early costs little
    int64_t when = target->dts == PACKET_NO_TIME ? target->pts : target->dts;
    v->lost = true;
    if (!v->packets.timed || target->pos < 0 || !decode_seek(v->decode, when) ||
        decode_packet(v->decode, &p, NULL) <= 0)
        return false;
    for (size_t i = to + 1; i-- > 0;) {
        if (same_packet(&p, &v->packets.at[i])) {
            v->next = i;
            v->held = true;
            v->lost = false;
            return true;
        }
    }
    return false;
}

// Is it worth a seek to come from packet v->next to `to`?
static bool far_away(const struct video *v, size_t to)
{
    if (v->o.sequential)
        return false;
    if (to < v->next || v->lost)
        return v->source.size > v->o.seek_bytes;
    if (v->next == v->packets.n)
        return false;
    int64_t a = v->packets.at[v->next].pos, b = v->packets.at[to].pos;
    return a >= 0 && b > a && (uint64_t)(b - a) > v->o.seek_bytes;
}

// Makes packet `to` the next one and the decoder empty.
static int run_from(struct video *v, size_t to, struct err *e)
{
    int rc;
    v->running = false;
    if (far_away(v, to)) {
        v->held = false;
        (void)try_seek(v, to); // without luck the position is lost, which is seen to below
    }
    if (v->lost || v->next > to) {
        v->held = false;
        v->lost = true;
        TRY(decode_rewind(v->decode, e));
        v->lost = false;
        v->next = 0;
    }
    for (int k = 1; k > 0 && v->next < to;) {
        k = next_packet(v, e);
        if (k < 0)
            return k;
    }
    if (v->next < to)
        return err_set(e, ERR_MEDIA, "%s: had %zu frames, now %zu", v->name, v->packets.n, v->next);
    TRY(to == 0 ? decode_restart(v->decode, e) : decode_flush(v->decode, e));
    v->run = to;
    v->running = true;
    return 0;
fail:
    return rc;
}

// Decodes until the picture of pick i came or cannot come any more.
static int read_pick(struct video *v, struct job *j, size_t i, struct err *e)
{
    int rc;
    size_t at = v->packets.order[j->pick[i].rank];
    size_t entry = v->o.sequential ? 0 : packets_entry(&v->packets, j->pick[i].rank);
    if (!v->running || at < v->run || entry > v->next)
        TRY(run_from(v, entry, e));
    while (!j->pick[i].done && v->next <= at + LAG) {
        int k = next_packet(v, e);
        if (k < 0)
            return k;
        TRY(feed(v, j, k == 0, e));
        if (k == 0) { // drained: needs a new start before it takes more
            v->running = false;
            break;
        }
    }
    return 0;
fail:
    return rc;
}

// A recording cut out of a broadcast begins with pictures that refer to what is not there. They are shown
// as the first whole one; in other containers a broken beginning is damage.
static int read_timed(struct video *v, struct job *j, struct err *e)
{
    int rc = 0;
    size_t first = decode_info(v->decode)->broadcast ? packets_first_whole(&v->packets) : 0;
    bool again = false;
    for (size_t i = 0; i < j->n; i++)
        TRY(read_pick(v, j, i, e));
    for (size_t i = 0; i < j->n; i++) {
        if (!j->pick[i].done && j->pick[i].rank < first) {
            j->pick[i].rank = (uint32_t)first;
            again = true;
        }
    }
    if (again) {
        log_line(&v->o.hooks, LOG_WARN,
                 "%s: begins in the middle: the first whole picture is frame %zu", v->name, first);
        v->running = false;
        qsort(j->pick, j->n, sizeof *j->pick, compare_pick);
        for (size_t i = 0; i < j->n; i++)
            TRY(read_pick(v, j, i, e));
    }
fail:
    return rc;
}

// Streams without timestamps: pictures are numbered as they come.
static int read_untimed(struct video *v, struct job *j, struct err *e)
{
    int rc, k = 1;
    TRY(run_from(v, 0, e));
    while (k > 0 && j->n_done < j->n) {
        k = next_packet(v, e);
        if (k < 0)
            return k;
        TRY(feed(v, j, k == 0, e));
    }
fail:
    v->running = false;
    return rc;
}

// Packets that will be decoded, nearly: what the decoder holds back is not known.
static size_t estimate(const struct video *v, const struct job *j)
{
    size_t at = 0, sum = 0;
    if (!v->packets.timed)
        return j->pick[j->n - 1].rank + (size_t)1;
    for (size_t i = 0; i < j->n; i++) {
        size_t entry = v->o.sequential ? 0 : packets_entry(&v->packets, j->pick[i].rank);
        size_t end = v->packets.order[j->pick[i].rank] + (size_t)1;
        at = max_size(at, entry);
        sum += end > at ? end - at : 0;
        at = max_size(at, end);
    }
    return sum;
}

static int job_init(struct video *v, struct job *j, const int32_t *index, size_t n, struct err *e)
{
    if (n == 0 || n > UINT32_MAX)
        return err_set(e, ERR_USAGE, "%s: %zu frames asked for", v->name, n);
    j->pick = mem_calloc(n, sizeof *j->pick);
    if (!j->pick)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu frames", v->name, n);
    j->n = n;
    for (size_t i = 0; i < n; i++) {
        if (index[i] < 0 || (size_t)index[i] >= v->packets.n)
            return err_set(e, ERR_USAGE, "%s: frame %d asked for, there are %zu", v->name,
                           (int)index[i], v->packets.n);
        j->pick[i] = (struct pick){.rank = (uint32_t)index[i], .slot = (uint32_t)i};
    }
    qsort(j->pick, n, sizeof *j->pick, compare_pick);
    j->n_plan = estimate(v, j);
    return 0;
}

// Slots whose picture could not be decoded repeat the one before (SPEC 3.2).
static int fill_gaps(struct video *v, struct job *j, const int32_t *index, struct err *e)
{
    int rc = 0;
    bool *done = mem_calloc(j->n, sizeof *done);
    if (!done)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu frames", v->name, j->n);
    for (size_t i = 0; i < j->n; i++)
        done[j->pick[i].slot] = j->pick[i].done;
    for (size_t s = 0; s < j->n && rc == 0; s++) {
        if (done[s])
            continue;
        if (s == 0) {
            rc = err_set(e, ERR_MEDIA, "%s: frame %d of %zu cannot be decoded", v->name,
                         (int)index[0], v->packets.n);
        } else {
            log_line(&v->o.hooks, LOG_WARN,
                     "%s: frame %d of %zu cannot be decoded; frame %d is used", v->name,
                     (int)index[s], v->packets.n, (int)index[s - 1]);
            rc = j->sink->put(j->sink->user, s, NULL, e);
        }
    }
    mem_free(done);
    return rc;
}

static int rgb_buffer(struct video *v, struct err *e)
{
    if (v->rgb)
        return 0;
    v->rgb_bytes = v->stats.width * v->stats.height * 3;
    v->rgb = mem_alloc_big(v->rgb_bytes);
    return v->rgb ? 0
                  : err_set(e, ERR_LIMIT, "%s: out of memory for a picture of %zu bytes", v->name,
                            v->rgb_bytes);
}

// The result rc of reading, unless the file was written to meanwhile: what was read then belongs to no checksum,
// and what could not be read is no damage.
static int settled(const struct video *v, int rc, struct err *e)
{
    int changed = rc == 0 || rc == ERR_MEDIA ? source_unchanged(&v->source, v->name, e) : 0;
    return changed != 0 ? changed : rc;
}

int video_read(struct video *v, const int32_t *index, size_t n, const struct frame_sink *sink,
               struct err *e)
{
    struct job j = {.sink = sink};
    int rc;
    v->deadline = deadline_in(v->o.max_seconds);
    v->running = false;
    TRY(job_init(v, &j, index, n, e));
    TRY(rgb_buffer(v, e));
    if (!v->packets.timed)
        TRY(read_untimed(v, &j, e));
    else
        TRY(read_timed(v, &j, e));
    TRY(fill_gaps(v, &j, index, e));
fail:
    mem_free(j.pick);
    return settled(v, rc, e);
}

struct rgb_out {
    uint8_t *rgb;
    size_t bytes;
};

static int put_rgb(void *user, size_t slot, const uint8_t *rgb, struct err *e)
{
    const struct rgb_out *o = user;
    uint8_t *to = o->rgb + slot * o->bytes;
    (void)e;
    memcpy(to, rgb ? rgb : to - o->bytes, o->bytes);
    return 0;
}

int video_read_rgb(struct video *v, const int32_t *index, size_t n, uint8_t *rgb, struct err *e)
{
    struct rgb_out o = {rgb, v->stats.width * v->stats.height * 3};
    struct frame_sink sink = {&o, put_rgb};
    return video_read(v, index, n, &sink, e);
}

// ---- first pass: what is in the file

static int scan(struct video *v, struct err *e)
{
    int k, rc;
    struct packet one;
    while ((k = decode_packet(v->decode, &one, e)) > 0) {
        TRY(packets_add(&v->packets, one, v->o.max_frames, v->name, e));
        if (v->packets.n % 256 == 0)
            hooks_progress(&v->o.hooks, "decode", v->packets.n, 0);
    }
    if (k < 0)
        return k;
    if (v->packets.n == 0)
        return err_set(e, ERR_MEDIA, "%s: the video stream holds no frame", v->name);
    v->next = v->packets.n;
    TRY(packets_sort(&v->packets, v->name, e));
fail:
    return rc;
}

static void fill_stats(struct video *v)
{
    const struct decode_info *i = decode_info(v->decode);
    v->time_base = i->time_base;
    v->stats = (struct video_stats){.n_frame = v->packets.n,
                                    .width = i->width,
                                    .height = i->height,
                                    .rotation = i->rotation,
                                    .fps = i->fps,
                                    .duration_s = i->duration_s,
                                    .format = i->format,
                                    .codec = i->codec};
    if (v->stats.duration_s <= 0 && i->fps > 0)
        v->stats.duration_s = (double)v->packets.n / i->fps;
    if (i->fps <= 0 && v->stats.duration_s > 0 && v->packets.n > 1)
        v->stats.fps = (double)v->packets.n / v->stats.duration_s;
}

static struct video_options with_defaults(const struct video_options *given, bool image)
{
    struct video_options o = *given;
    o.n_thread = o.n_thread == 0 ? 2 : o.n_thread > THREAD_MAX ? THREAD_MAX : o.n_thread;
    o.max_seconds = o.max_seconds > 0 ? o.max_seconds : 1800;
    o.max_bytes = o.max_bytes ? o.max_bytes : (uint64_t)1 << 40;
    o.max_stored = o.max_stored ? o.max_stored : (uint64_t)1 << 33;
    o.max_frames = o.max_frames ? o.max_frames : (size_t)1 << 22;
    o.max_side = o.max_side ? o.max_side : 16384;
    o.max_pixels = o.max_pixels ? o.max_pixels : (size_t)1 << (image ? 28 : 26);
    o.seek_bytes = o.seek_bytes ? o.seek_bytes : (uint64_t)1 << 23;
    o.tmp_dir = NULL; // used while opening only
    return o;
}

// Where the bytes come from: path, or mem when that is NULL.
struct origin {
    const char *path, *name;
    const void *mem;
    size_t n;
};

static struct origin origin_of_path(const char *path)
{
    return (struct origin){.path = path, .name = strcmp(path, "-") == 0 ? "standard input" : path};
}

static const double writer_s = 10; // of a FIFO: a forgotten one shall not look like work

static int open_source(struct video *v, const struct origin *from, const char *tmp_dir,
                       struct err *e)
{
    struct source_options o = {.hooks = &v->o.hooks,
                               .deadline = v->deadline,
                               .max_bytes = v->o.max_bytes,
                               .max_stored = v->o.max_stored,
                               .writer_s = writer_s,
                               .tmp_dir = tmp_dir ? tmp_dir : "/tmp"};
    if (from->path)
        return source_open(&v->source, from->path, &o, e);
    source_open_memory(&v->source, from->mem, from->n);
    return from->n ? 0 : err_set(e, ERR_MEDIA, "%s: empty", from->name);
}

static int open_any(struct video **out, const struct origin *from, const struct video_options *o,
                    bool image, struct err *e)
{
    int rc;
    *out = NULL;
    struct video *v = mem_calloc(1, sizeof *v);
    if (!v)
        return err_set(e, ERR_LIMIT, "%s: out of memory", from->name);
    v->source.fd = -1;
    v->o = with_defaults(o, image);
    v->deadline = deadline_in(v->o.max_seconds);
    v->name = mem_strndup(from->name, strlen(from->name));
    if (!v->name) {
        rc = err_set(e, ERR_LIMIT, "%s: out of memory", from->name);
        goto fail;
    }
    TRY(open_source(v, from, o->tmp_dir, e));
    struct decode_options d = {.name = v->name,
                               .source = &v->source,
                               .deadline = &v->deadline,
                               .hooks = &v->o.hooks,
                               .n_thread = v->o.n_thread,
                               .max_side = v->o.max_side,
                               .max_pixels = v->o.max_pixels,
                               .image = image};
    TRY(decode_open(&v->decode, &d, e));
    TRY(scan(v, e));
    fill_stats(v);
    *out = v;
    return 0;
fail:
    video_close(v);
    return rc;
}

int video_open(struct video **out, const char *path, const struct video_options *o, struct err *e)
{
    struct origin from = origin_of_path(path);
    return open_any(out, &from, o, false, e);
}

int video_open_memory(struct video **out, const void *bytes, size_t n, const char *name,
                      const struct video_options *o, struct err *e)
{
    struct origin from = {.name = name, .mem = bytes, .n = n};
    return open_any(out, &from, o, false, e);
}

void video_close(struct video *v)
{
    if (!v)
        return;
    decode_close(v->decode);
    source_close(&v->source);
    packets_free(&v->packets);
    mem_free_big(v->rgb, v->rgb_bytes);
    mem_free(v->name);
    mem_free(v);
}

// ---- questions

const struct video_stats *video_stats(const struct video *v)
{
    return &v->stats;
}

int video_sha256(struct video *v, char text[SHA256_TEXT], struct err *e)
{
    return source_sha256(&v->source, v->name, &v->o.hooks, text, e);
}

double video_frame_seconds(const struct video *v, size_t i)
{
    return packets_seconds(&v->packets, i, v->time_base, v->stats.fps);
}

int video_window(const struct video *v, double start_s, double end_s, size_t *first, size_t *n,
                 struct err *e)
{
    *first = *n = 0;
    if (!isfinite(start_s) || isnan(end_s) || (end_s > 0 && start_s >= end_s))
        return err_set(e, ERR_USAGE, "%s: from %g s to %g s is no span of time", v->name, start_s,
                       end_s);
    if (start_s <= 0 && end_s <= 0) {
        *n = v->packets.n;
        return 0;
    }
    if (!v->packets.timed && v->stats.fps <= 0)
        return err_set(e, ERR_MEDIA, "%s: has no frame times, so no part can be chosen", v->name);
    size_t i = 0;
    while (i < v->packets.n && video_frame_seconds(v, i) < start_s)
        i++;
    *first = i;
    while (i < v->packets.n && (end_s <= 0 || video_frame_seconds(v, i) < end_s))
        i++;
    *n = i - *first;
    if (*n == 0) {
        double last = video_frame_seconds(v, v->packets.n - 1);
        *first = 0;
        if (end_s <= 0)
            return err_set(e, ERR_MEDIA, "%s: no frame after %g s; the last one is at %g s",
                           v->name, start_s, last);
        return err_set(e, ERR_MEDIA, "%s: no frame between %g s and %g s; the last one is at %g s",
                       v->name, start_s, end_s, last);
    }
    return 0;
}

// ---- images

static int image_take(struct video *v, struct image *out, struct err *e)
{
    int rc;
    int32_t first = 0;
    size_t bytes = v->stats.width * v->stats.height * 3;
    out->rgb = mem_calloc(bytes, 1);
    if (!out->rgb)
        return err_set(e, ERR_LIMIT, "%s: out of memory for a picture of %zu bytes", v->name,
                       bytes);
    TRY(video_read_rgb(v, &first, 1, out->rgb, e));
    TRY(video_sha256(v, out->sha256, e));
    TRY(source_unchanged(&v->source, v->name, e));
    out->width =
        decode_info(v->decode)->width; // known now: the picture may have brought a rotation
    out->height = decode_info(v->decode)->height;
    return 0;
fail:
    image_free(out);
    return rc;
}

static int image_any(struct image *out, const struct origin *from, const struct video_options *o,
                     struct err *e)
{
    struct video *v;
    memset(out, 0, sizeof *out);
    int rc = open_any(&v, from, o, true, e);
    if (rc == 0)
        rc = image_take(v, out, e);
    video_close(v);
    return rc;
}

int image_read(struct image *out, const char *path, const struct video_options *o, struct err *e)
{
    struct origin from = origin_of_path(path);
    return image_any(out, &from, o, e);
}

int image_read_memory(struct image *out, const void *bytes, size_t n, const char *name,
                      const struct video_options *o, struct err *e)
{
    struct origin from = {.name = name, .mem = bytes, .n = n};
    return image_any(out, &from, o, e);
}

void image_free(struct image *i)
{
    mem_free(i->rgb);
    memset(i, 0, sizeof *i);
}
