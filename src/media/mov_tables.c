// SPDX-License-Identifier: MIT
// MP4 and QuickTime (ISO/IEC 14496-12): nested boxes of u32 size | type | bytes, all big-endian. A demuxer makes 24 bytes
// of index for each sample, so that a file of a few hundred bytes can ask for gigabytes:
//
//   stsz  u32 flags | u32 size of every sample, 0 = a table follows | u32 samples
//   trun  u32 flags | u32 samples; flags & 0xf00 tell what a sample has in the table, perhaps nothing
//   stsc  u32 flags | u32 n | n times (u32 first chunk | u32 samples a chunk | u32 description); stco, co64: their number
//   elst  u32 flags | u32 n | n edits, each of which may take all samples once more
//
// Sound whose samples are single ones (stts: one row, duration 1) is cut in pieces of 160 and more from chunk to chunk, and
// its stsz means nothing then. Everything else is counted by stsz.
//
// Easy to get wrong: sizes are cut to those of the box around, as demuxers do; descriptions (stsd) hold boxes behind
// fields whose length depends on the codec, so they are searched, and what says there that the rule for sound does not
// hold is believed; compressed headers (cmov) hold all of this unseen, and are refused.
#include "media/mov_tables.h"

#include <stdbool.h>
#include <string.h>

#include "base/size.h"

enum {
    DEPTH_MAX = 10,       // libavformat's own limit
    SEARCH_MAX = 1 << 20, // bytes of descriptions
    PIECE_SAMPLES = 160,  // at least, of sound
    ROWS = 256,
};

struct tables {
    const struct source *source;
    const struct deadline *deadline;
    const struct hooks *hooks;
    const char *name;
    uint64_t max, sum;
    struct track {
        bool is_sound, is_single;
        bool is_doubtful; // a description may say otherwise
        uint64_t n_sample, n_chunk, chunk_samples, n_edit;
    } track; // at hand
};

#define TYPE(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

static uint32_t get_u32(const uint8_t *p)
{
    return TYPE(p[0], p[1], p[2], p[3]);
}

// What is there of n bytes; zeros behind them.
static size_t get(const struct tables *t, uint64_t at, uint8_t *to, size_t n)
{
    size_t have = 0;
    memset(to, 0, n);
    while (have < n) {
        ptrdiff_t k = source_read(t->source, at + have, to + have, n - have);
        if (k <= 0)
            break;
        have += (size_t)k;
    }
    return have;
}

static int add(struct tables *t, uint64_t n, struct err *e)
{
    t->sum += n; // each far below 2^63 / max
    if (t->sum <= t->max)
        return 0;
    return err_set(e, ERR_LIMIT, "%s: its tables speak of %llu samples, at most %llu are accepted",
                   t->name, (unsigned long long)t->sum, (unsigned long long)t->max);
}

static int fragment(struct tables *t, uint64_t at, struct err *e)
{
    uint8_t b[8];
    get(t, at, b, sizeof b);
    return get_u32(b) & 0xf00 ? 0 : add(t, get_u32(b + 4), e);
}

static void sizes(struct tables *t, uint64_t at)
{
    uint8_t b[12];
    get(t, at, b, sizeof b);
    if (get_u32(b + 4) != 0)
        t->track.n_sample = max_size(t->track.n_sample, get_u32(b + 8));
}

static void durations(struct tables *t, uint64_t at)
{
    uint8_t b[16];
    get(t, at, b, sizeof b);
    t->track.is_single = get_u32(b + 4) == 1 && get_u32(b + 12) == 1;
}

// The most samples that a chunk has.
static int chunks(struct tables *t, uint64_t at, uint64_t end, struct err *e)
{
    uint8_t b[12 * ROWS];
    int rc = 0;
    for (at += 8; at < end && rc == 0; at += sizeof b) {
        size_t have = get(t, at, b, (size_t)(end - at < sizeof b ? end - at : sizeof b));
        for (size_t i = 0; i + 12 <= have; i += 12)
            t->track.chunk_samples = max_size(t->track.chunk_samples, get_u32(b + i + 4));
        if (have < sizeof b)
            break;
        rc = deadline_check(t->deadline, t->hooks, t->name, e);
    }
    return rc;
}

static void edits(struct tables *t, uint64_t at)
{
    uint8_t b[8];
    get(t, at, b, sizeof b);
    t->track.n_edit += get_u32(b + 4);
}

static int refuse_compressed(const struct tables *t, struct err *e)
{
    return err_set(e, ERR_MEDIA, "%s: an MP4 with a compressed header is not accepted", t->name);
}

// Boxes among the bytes of a description.
static int search(struct tables *t, uint64_t at, uint64_t end, struct err *e)
{
    uint8_t b[4096 + 3];
    int rc = 0;
    if (end - at > SEARCH_MAX)
        return err_set(e, ERR_LIMIT, "%s: a description of %llu bytes, at most %d are accepted",
                       t->name, (unsigned long long)(end - at), (int)SEARCH_MAX);
    for (; at < end && rc == 0; at += 4096) {
        size_t have = get(t, at, b, (size_t)(end - at < sizeof b ? end - at : sizeof b));
        for (size_t i = 0; i + 4 <= have && rc == 0; i++) {
            switch (get_u32(b + i)) {
            case TYPE('s', 't', 's', 'z'):
                sizes(t, at + i + 4);
                break;
            case TYPE('t', 'r', 'u', 'n'):
                rc = fragment(t, at + i + 4, e);
                break;
            case TYPE('e', 'l', 's', 't'):
                edits(t, at + i + 4);
                break;
            case TYPE('c', 'm', 'o', 'v'):
                rc = refuse_compressed(t, e);
                break;
            case TYPE('h', 'd', 'l', 'r'):
            case TYPE('s', 't', 't', 's'):
            case TYPE('s', 't', 's', 'c'):
            case TYPE('s', 't', 'c', 'o'):
            case TYPE('c', 'o', '6', '4'):
                t->track.is_doubtful = true;
                break;
            }
        }
        if (rc == 0)
            rc = deadline_check(t->deadline, t->hooks, t->name, e);
    }
    return rc;
}

static bool holds_boxes(uint32_t type)
{
    static const char types[] =
        "moovtrakmdiaminfstbledtsdinfmvexmooftraftrefudtasinfschiwavemetailsthoov"
        "freermrarmdaedts";
    for (size_t i = 0; i + 4 < sizeof types; i += 4)
        if (type == get_u32((const uint8_t *)types + i))
            return true;
    return false;
}

static int boxes(struct tables *t, uint64_t at, uint64_t end, unsigned depth, struct err *e);

static int track(struct tables *t, uint64_t at, uint64_t end, unsigned depth, struct err *e)
{
    int rc;
    const struct track around = t->track, *k = &t->track;
    t->track = (struct track){0};
    TRY(boxes(t, at, end, depth, e));
    bool pieces = k->is_sound && k->is_single && !k->is_doubtful;
    uint64_t n = pieces ? k->n_chunk * div_up(k->chunk_samples, PIECE_SAMPLES) : k->n_sample;
    if (k->n_edit > 1)
        n = n > t->max / k->n_edit ? t->max + 1 : n * k->n_edit;
    TRY(add(t, n, e));
    t->track = around;
fail:
    return rc;
}

// As in libavformat the last word counts, and only about what it knows.
static void handler(struct tables *t, uint64_t at)
{
    uint8_t b[12];
    get(t, at, b, sizeof b);
    uint32_t type = get_u32(b + 8);
    if (type == TYPE('s', 'o', 'u', 'n'))
        t->track.is_sound = true;
    else if (type == TYPE('v', 'i', 'd', 'e') || type == TYPE('s', 'u', 'b', 'p') ||
             type == TYPE('c', 'l', 'c', 'p'))
        t->track.is_sound = false;
}

static int box(struct tables *t, uint32_t type, uint64_t at, uint64_t end, unsigned depth,
               struct err *e)
{
    uint8_t b[12];
    switch (type) {
    case TYPE('t', 'r', 'a', 'k'):
        return depth ? track(t, at, end, depth - 1, e) : 0;
    case TYPE('s', 't', 's', 'z'):
        sizes(t, at);
        return 0;
    case TYPE('s', 't', 't', 's'):
        durations(t, at);
        return 0;
    case TYPE('s', 't', 's', 'c'):
        return chunks(t, at, end, e);
    case TYPE('s', 't', 'c', 'o'):
    case TYPE('c', 'o', '6', '4'):
        get(t, at, b, 8);
        t->track.n_chunk = max_size(t->track.n_chunk, get_u32(b + 4));
        return 0;
    case TYPE('h', 'd', 'l', 'r'):
        handler(t, at);
        return 0;
    case TYPE('t', 'r', 'u', 'n'):
        return fragment(t, at, e);
    case TYPE('s', 't', 's', 'd'):
        return search(t, at, end, e);
    case TYPE('e', 'l', 's', 't'):
        edits(t, at);
        return 0;
    case TYPE('c', 'm', 'o', 'v'):
        return refuse_compressed(t, e);
    default:
        // the first four bytes of a "meta" are flags in one of the two formats
        if (type == TYPE('m', 'e', 't', 'a') && get(t, at, b, 12) == 12 &&
            get_u32(b + 8) == TYPE('h', 'd', 'l', 'r'))
            at += 4;
        return depth && holds_boxes(type) ? boxes(t, at, end, depth - 1, e) : 0;
    }
}

static int boxes(struct tables *t, uint64_t at, uint64_t end, unsigned depth, struct err *e)
{
    uint8_t b[16];
    int rc = 0;
    while (end > at && end - at >= 8) {
        TRY(deadline_check(t->deadline, t->hooks, t->name, e));
        if (get(t, at, b, sizeof b) < 8)
            break;
        uint64_t size = get_u32(b), head = 8;
        if (size == 1) {
            size = (uint64_t)get_u32(b + 8) << 32 | get_u32(b + 12);
            head = 16;
        }
        if (size == 0 || size > end - at)
            size = end - at;
        if (size < head)
            break;
        TRY(box(t, get_u32(b + 4), at + head, at + size, depth, e));
        at += size;
    }
fail:
    return rc;
}

int mov_tables_check(const struct source *s, const struct deadline *deadline,
                     const struct hooks *hooks, const char *name, size_t max, struct err *e)
{
    struct tables t = {.source = s, .deadline = deadline, .hooks = hooks, .name = name, .max = max};
    return boxes(&t, 0, s->size, DEPTH_MAX, e);
}
