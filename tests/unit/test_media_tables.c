// SPDX-License-Identifier: MIT
// MP4 files of a few hundred bytes whose tables speak of millions of samples: refused before a demuxer makes an index
// of them, wherever the number stands; honest ones pass.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "media/mov_tables.h"
#include "media_fixture.h"

enum { MOST = 1 << 24 };

struct bytes {
    uint8_t b[8192];
    size_t n;
};

static void u32(struct bytes *f, uint64_t v)
{
    for (int i = 24; i >= 0; i -= 8)
        f->b[f->n++] = (uint8_t)(v >> i);
}

static size_t begin(struct bytes *f, const char *type)
{
    size_t at = f->n;
    u32(f, 0);
    memcpy(f->b + f->n, type, 4);
    f->n += 4;
    return at;
}

static void end(struct bytes *f, size_t at)
{
    size_t n = f->n;
    f->n = at;
    u32(f, n - at);
    f->n = n;
}

// A box of numbers, -1 = no more.
static void box(struct bytes *f, const char *type, const int64_t *v)
{
    size_t at = begin(f, type);
    for (; *v >= 0; v++)
        u32(f, (uint64_t)*v);
    end(f, at);
}
#define BOX(f, type, ...) box(f, type, (const int64_t[]){__VA_ARGS__, -1})

static void handler(struct bytes *f, const char *type)
{
    size_t at = begin(f, "hdlr");
    u32(f, 0);
    u32(f, 0);
    memcpy(f->b + f->n, type, 4);
    f->n += 4;
    end(f, at);
}

struct lie {
    const char *kinds[2]; // of handlers
    const char *word;     // type of a box in the description, of zeros
    uint32_t filling;     // bytes in front of it
    uint32_t edits;
    uint32_t n, duration;   // samples of one byte
    uint32_t chunk, chunks; // samples a chunk, chunks
};

static void track(struct bytes *f, const struct lie *x, bool open)
{
    size_t trak = begin(f, "trak");
    if (x->edits) {
        size_t edts = begin(f, "edts");
        BOX(f, "elst", 0, x->edits);
        end(f, edts);
    }
    size_t mdia = begin(f, "mdia");
    for (int i = 0; i < 2 && x->kinds[i]; i++)
        handler(f, x->kinds[i]);
    size_t minf = begin(f, "minf"), stbl = begin(f, "stbl");
    if (x->word) {
        size_t stsd = begin(f, "stsd");
        memset(f->b + f->n, 0, x->filling);
        f->n += x->filling;
        BOX(f, x->word, 0, 0, 0, 0);
        end(f, stsd);
    }
    BOX(f, "stts", 0, 1, x->n, x->duration);
    BOX(f, "stsc", 0, 2, 1, x->chunk / 2, 1, 2, x->chunk, 1);
    BOX(f, "stsz", 0, 1, x->n);
    BOX(f, "stco", 0, x->chunks, 48);
    end(f, stbl);
    end(f, minf);
    end(f, mdia);
    if (!open)
        end(f, trak);
}

static int check(const struct bytes *f, struct err *e)
{
    const struct deadline never = {0};
    struct source s;
    source_open_memory(&s, f->b, f->n);
    return mov_tables_check(&s, &never, NULL, "input", MOST, e);
}

static void refused(const struct bytes *f, int line)
{
    struct err e = {0};
    if (check(f, &e) != ERR_LIMIT || !strstr(e.msg, "input: its tables speak of "))
        fail_msg("line %d: %s", line, e.msg);
}

static void passes(const struct bytes *f, int line)
{
    struct err e = {0};
    if (check(f, &e) != 0)
        fail_msg("line %d: %s", line, e.msg);
}
#define REFUSED(f) refused(f, __LINE__)
#define PASSES(f)  passes(f, __LINE__)

static void movie(struct bytes *f, const struct lie *x, size_t n)
{
    *f = (struct bytes){.n = 0};
    BOX(f, "ftyp", 0x69736f6d, 512, 0x69736f6d);
    size_t moov = begin(f, "moov");
    for (size_t i = 0; i < n; i++)
        track(f, x, false);
    end(f, moov);
}

static void test_samples(void **state)
{
    static struct bytes f;
    struct lie x = {.kinds = {"vide"}, .n = MOST, .duration = 1, .chunk = 1, .chunks = 1};
    (void)state;
    movie(&f, &x, 1);
    PASSES(&f);
    x.n++;
    movie(&f, &x, 1);
    REFUSED(&f);
    x.n = MOST / 16;
    movie(&f, &x, 16);
    PASSES(&f);
    movie(&f, &x, 17);
    REFUSED(&f);
}

static void test_sound(void **state)
{
    static struct bytes f;
    // single samples: their number means nothing, pieces do
    struct lie x = {
        .kinds = {"soun"}, .n = 4000000000, .duration = 1, .chunk = 48000, .chunks = 10000};
    (void)state;
    movie(&f, &x, 1);
    PASSES(&f);
    x.chunk = 0xffffffff;
    movie(&f, &x, 1);
    REFUSED(&f);
    x = (struct lie){.kinds = {"soun"}, .n = 80000000, .duration = 2, .chunk = 1, .chunks = 1};
    movie(&f, &x, 1);
    REFUSED(&f);
    x = (struct lie){
        .kinds = {"soun", "vide"}, .n = 80000000, .duration = 1, .chunk = 1, .chunks = 1};
    movie(&f, &x, 1);
    REFUSED(&f);
}

// A track in a track, a table in a description, a fragment, sizes that pass the end, "meta" of both kinds.
static void test_places(void **state)
{
    static struct bytes f;
    const struct lie big = {.kinds = {"vide"}, .n = 80000000, .duration = 1},
                     small = {.kinds = {"vide"}, .n = 10, .duration = 1};
    (void)state;
    f = (struct bytes){.n = 0};
    size_t moov = begin(&f, "moov"), outer = f.n;
    track(&f, &big, true);
    track(&f, &small, false);
    end(&f, outer);
    end(&f, moov);
    REFUSED(&f);
    f = (struct bytes){.n = 0};
    moov = begin(&f, "moov");
    size_t trak = begin(&f, "trak");
    BOX(&f, "stsd", 0, 1, 50, 0x61766331, 0, 0, 1, 20, 0x7374737a, 0, 1, 80000000);
    end(&f, trak);
    end(&f, moov);
    REFUSED(&f);
    for (int64_t flags = 0; flags < 0x1000; flags += 0x100) {
        f = (struct bytes){.n = 0};
        size_t moof = begin(&f, "moof"), traf = begin(&f, "traf");
        BOX(&f, "trun", flags, 80000000);
        end(&f, traf);
        end(&f, moof);
        if (flags == 0)
            REFUSED(&f);
        else
            PASSES(&f);
    }
    for (int kind = 0; kind < 2; kind++) {
        f = (struct bytes){.n = 0};
        size_t meta = begin(&f, "meta");
        if (kind)
            u32(&f, 0);
        handler(&f, "mdir");
        track(&f, &big, false);
        end(&f, meta);
        REFUSED(&f);
    }
    movie(&f, &big, 1);
    f.b[f.n - 1] = 0; // the last offset
    f.n -= 4;         // boxes end behind the file
    REFUSED(&f);
}

static void test_honest_files(void **state)
{
    static const char *const names[] = {"bframes.mp4",   "fragmented.mp4", "cover.mp4",
                                        "start.mp4",     "prores.mov",     "qtrle.mov",
                                        "half_moov.mp4", "audio.m4a",      "no_moov.mp4",
                                        "encrypted.mp4", "rotate90.mp4",   "cover.m4a"};
    const struct deadline never = {0};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *bytes;
        size_t n;
        struct source s;
        struct err e = {0};
        assert_int_equal(file_read(media_fixture(names[i]), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                         0);
        for (size_t cut = n; cut > 0; cut -= cut > 997 ? 997 : cut) {
            source_open_memory(&s, bytes, cut);
            if (mov_tables_check(&s, &never, NULL, names[i], 100, &e) != 0)
                fail_msg("%s", e.msg);
        }
        mem_free(bytes);
    }
}

// What counts, also where a description says so.
static void test_sound_in_doubt(void **state)
{
    static const char *const words[] = {"hdlr", "stts", "stsc", "stco", "co64"};
    static struct bytes f;
    struct lie x = {.kinds = {"soun"}, .n = 80000000, .duration = 1, .chunk = 1, .chunks = 1};
    (void)state;
    x.word = "esds";
    movie(&f, &x, 1);
    PASSES(&f);
    for (size_t i = 0; i < 5 * 3; i++) { // around the end of a piece that is read at once
        x.word = words[i / 3];
        x.filling = i % 3 == 0 ? 4 : i % 3 == 1 ? 4090 : 4096;
        movie(&f, &x, 1);
        REFUSED(&f);
    }
}

static void test_edits(void **state)
{
    static struct bytes f;
    struct lie x = {.kinds = {"vide"}, .n = MOST / 64, .duration = 1, .edits = 64};
    (void)state;
    movie(&f, &x, 1);
    PASSES(&f);
    x.edits++;
    movie(&f, &x, 1);
    REFUSED(&f);
    x.edits = UINT32_MAX;
    movie(&f, &x, 1);
    REFUSED(&f);
}

// What nobody can look into; and nothing behind a description's end.
static void test_descriptions(void **state)
{
    static struct bytes f;
    struct err e = {0};
    struct lie x = {.kinds = {"vide"}, .n = 10, .duration = 1, .word = "cmov", .filling = 20};
    (void)state;
    movie(&f, &x, 1);
    assert_int_equal(check(&f, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "compressed header"));
    f = (struct bytes){.n = 0};
    size_t moov = begin(&f, "moov");
    BOX(&f, "cmov", 0);
    end(&f, moov);
    assert_int_equal(check(&f, &e), ERR_MEDIA);
    f = (struct bytes){.n = 0};
    moov = begin(&f, "moov");
    size_t trak = begin(&f, "trak");
    BOX(&f, "stsd", 0);
    BOX(&f, "free", 0x7374737a, 0, 1, 80000000);
    end(&f, trak);
    end(&f, moov);
    PASSES(&f);
    // one that says it is longer than may be searched, and is
    static uint8_t long_one[(1 << 20) + 64] = {0, 0x20, 0, 0, 't', 'r', 'a', 'k',
                                               0, 0x20, 0, 0, 's', 't', 's', 'd'};
    const struct deadline never = {0};
    struct source s;
    source_open_memory(&s, long_one, sizeof long_one);
    assert_int_equal(mov_tables_check(&s, &never, NULL, "input", MOST, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "a description of 1048624 bytes"));
}

// Nobody makes an index of them.
static void test_opening(void **state)
{
    static struct bytes f;
    const struct lie x = {
        .kinds = {"vide"}, .n = MOST + 1, .duration = 1, .chunk = MOST + 1, .chunks = 1};
    const struct video_options o = {.n_thread = 1};
    struct video *v;
    struct err e = {0};
    (void)state;
    movie(&f, &x, 1);
    assert_int_equal(video_open_memory(&v, f.b, f.n, "input", &o, &e), ERR_LIMIT);
    assert_string_equal(
        e.msg, "input: its tables speak of 16777217 samples, at most 16777216 are accepted");
}

static bool always(void *user)
{
    (void)user;
    return true;
}

static void test_stopped(void **state)
{
    static struct bytes f;
    const struct lie x = {.kinds = {"vide"}, .n = 10, .duration = 1};
    const struct deadline never = {0};
    const struct hooks hooks = {.abort = always};
    struct source s;
    (void)state;
    movie(&f, &x, 1);
    source_open_memory(&s, f.b, f.n);
    assert_int_equal(mov_tables_check(&s, &never, &hooks, "input", MOST, NULL), ERR_ABORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_places),         cmocka_unit_test(test_honest_files),
        cmocka_unit_test(test_opening),        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_sound_in_doubt), cmocka_unit_test(test_edits),
        cmocka_unit_test(test_descriptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
