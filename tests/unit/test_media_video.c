// SPDX-License-Identifier: MIT
// Pictures of whole videos: as decord reads them, the same however they are reached and wherever the
// bytes come from.
#define _GNU_SOURCE // memmem
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/json.h"
#include "base/mem.h"
#include "media/decode.h"
#include "media/frames.h"
#include "media/rotate.h"
#include "media_fixture.h"
#include "tempdir.h"

static void test_same_as_decord(void **state)
{
    struct js_doc doc;
    struct err e = {0};
    (void)state;
    if (js_load(&doc, media_fixture("frames.json"), 1 << 20, ERR_FAIL, &e) != 0)
        fail_msg("%s", e.msg);
    assert_true(js_size(doc.root) > 30);
    for (size_t i = 0; i < js_size(doc.root); i++) {
        const js_value *row = js_at(doc.root, i);
        const char *name = js_str(js_get(row, "file"), NULL);
        uint64_t n, width, height;
        double fps;
        char sha256[SHA256_TEXT];
        struct frames f;
        assert_true(js_u64(js_get(row, "frames"), &n) && js_u64(js_get(row, "width"), &width) &&
                    js_u64(js_get(row, "height"), &height) && js_num(js_get(row, "fps"), &fps));
        struct video *v = open_fixture(name, NULL);
        read_video(&f, v, NULL, 0);
        sha256_of(f.rgb, f.n * f.frame_bytes, sha256);
        if (f.n != n || f.width != width || f.height != height || video_stats(v)->fps != fps)
            fail_msg("%s: %zu frames of %zux%zu at %g", name, f.n, f.width, f.height,
                     video_stats(v)->fps);
#if defined(                                                                                       \
    __x86_64__) // the recorded bytes are those of swscale's x86 code; other code rounds otherwise
        if (strcmp(sha256, js_str(js_get(row, "sha256"), NULL)) != 0)
            fail_msg("%s: other pictures than decord's", name);
#endif
        frames_free(&f);
        video_close(v);
    }
    js_free(&doc);
}

// Containers without timestamps, with odd ones, or that decord cannot read: compared with a twin.
static void test_same_packets_same_pictures(void **state)
{
    static const char *const twins[][2] = {
        {"bframes.mp4", "bframes.ts"},   {"bframes.mp4", "bframes.avi"},
        {"bframes.mp4", "bframes.h264"}, {"bframes.mp4", "bframes.mkv"},
        {"bframes.mp4", "start.mp4"},    {"bframes.mp4", "fragmented.mp4"},
        {"opengop.mkv", "opengop.ts"},   {"bframes.mp4", "cover.mp4"},
        {"bframes.mp4", "streams.mkv"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++) {
        struct frames a, b;
        read_fixture(&a, twins[i][0], NULL);
        read_fixture(&b, twins[i][1], NULL);
        if (a.n != b.n || memcmp(a.rgb, b.rgb, a.n * a.frame_bytes) != 0)
            fail_msg("%s and %s differ", twins[i][0], twins[i][1]);
        frames_free(&a);
        frames_free(&b);
    }
}

static int32_t pseudo_random(uint32_t *seed, size_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (int32_t)((*seed >> 8) % n);
}

static bool same_read(const char *name, const struct video_options *o, const int32_t *index,
                      size_t n, const struct frames *want, int want_rc, const char *want_msg)
{
    struct err e = {0};
    struct video *v = open_fixture(name, o);
    uint8_t *rgb = mem_calloc(n, want->frame_bytes);
    assert_non_null(rgb);
    int rc = video_read_rgb(v, index, n, rgb, &e);
    bool same = rc == want_rc && (rc == 0 ? memcmp(rgb, want->rgb, n * want->frame_bytes) == 0
                                          : strcmp(e.msg, want_msg) == 0);
    mem_free(rgb);
    video_close(v);
    return same;
}

// Skipping, seeking and threads give what decoding everything from the beginning gives.
static void compare_ways(const char *name, const int32_t *index, size_t n)
{
    const struct video_options ways[] = {
        {.n_thread = 1}, {.n_thread = 4}, {.n_thread = 1, .seek_bytes = 1}, {.seek_bytes = 2000}};
    struct video_options sequential = {.sequential = true, .n_thread = 1};
    struct err e = {0};
    struct video *v = open_fixture(name, &sequential);
    const struct video_stats *s = video_stats(v);
    struct frames want = {.n = n, .width = s->width, .height = s->height};
    want.frame_bytes = want.width * want.height * 3;
    want.rgb = mem_calloc(n, want.frame_bytes);
    assert_non_null(want.rgb);
    int rc = video_read_rgb(v, index, n, want.rgb, &e);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (!same_read(name, &ways[i], index, n, &want, rc, e.msg))
            fail_msg("%s: way %zu differs from decoding everything", name, i);
    }
    frames_free(&want);
    video_close(v);
}

static void test_every_way_is_sequential(void **state)
{
    DIR *d = opendir(media_fixture(""));
    size_t n_read = 0;
    uint32_t seed = 1;
    (void)state;
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        struct video_options o = {0};
        struct video *v;
        int32_t index[12];
        if (video_open(&v, media_fixture(entry->d_name), &o, NULL) != 0)
            continue; // test_media_refused.c
        size_t n = video_stats(v)->n_frame;
        video_close(v);
        n_read++;
        assert_int_equal(frames_sample(0, n, 8, index, NULL), 0);
        compare_ways(entry->d_name, index, 8);
        for (size_t i = 0; i < 12; i++) // any order, repetitions
            index[i] = pseudo_random(&seed, n);
        compare_ways(entry->d_name, index, 12);
    }
    closedir(d);
    assert_true(n_read > 55);
}

static void test_read_again(void **state)
{
    static const char *const names[] = {"bframes.mp4", "bframes.h264", "opengop.ts", "vp9.webm"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const int32_t late[] = {40, 41, 44}, early[] = {3, 3, 0, 25};
        struct frames all, a, b, c;
        struct video *v = open_fixture(names[i], NULL);
        read_video(&a, v, late, 3);
        read_video(&b, v, early, 4);
        read_video(&c, v, late, 3);
        read_video(&all, v, NULL, 0);
        assert_memory_equal(a.rgb, c.rgb, 3 * a.frame_bytes);
        for (size_t k = 0; k < 3; k++)
            assert_memory_equal(frames_at(&a, k), frames_at(&all, (size_t)late[k]), a.frame_bytes);
        for (size_t k = 0; k < 4; k++)
            assert_memory_equal(frames_at(&b, k), frames_at(&all, (size_t)early[k]), a.frame_bytes);
        frames_free(&a);
        frames_free(&b);
        frames_free(&c);
        frames_free(&all);
        video_close(v);
    }
}

static void test_rotation(void **state)
{
    // ffmpeg stores rotate=90 as a counter-clockwise matrix; decord turns by minus that
    static const struct {
        const char *name;
        int degrees;
    } rows[] = {{"rotate90.mp4", 270}, {"rotate180.mp4", 180}, {"rotate270.mp4", 90}};
    struct frames plain;
    (void)state;
    read_fixture(&plain, "bframes.mp4", NULL);
    uint8_t *turned = mem_calloc(1, plain.frame_bytes);
    assert_non_null(turned);
    for (size_t i = 0; i < 3; i++) {
        struct frames f;
        struct video *v = open_fixture(rows[i].name, NULL);
        assert_int_equal(video_stats(v)->rotation, rows[i].degrees);
        read_video(&f, v, NULL, 0);
        assert_int_equal(f.width, rows[i].degrees == 180 ? 96 : 64);
        rotate_rgb(turned, frames_at(&plain, 7), plain.width, plain.height, plain.width * 3,
                   rows[i].degrees);
        assert_memory_equal(turned, frames_at(&f, 7), f.frame_bytes);
        frames_free(&f);
        video_close(v);
    }
    mem_free(turned);
    frames_free(&plain);
}

static void test_rotate_rgb(void **state)
{
    // 1 2 3 / 4 5 6, rows 10 bytes apart
    const uint8_t src[20] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 4, 4, 4, 5, 5, 5, 6, 6, 6, 0};
    static const struct {
        int degrees;
        uint8_t want[6];
    } rows[] = {{0, {1, 2, 3, 4, 5, 6}},
                {90, {4, 1, 5, 2, 6, 3}},
                {180, {6, 5, 4, 3, 2, 1}},
                {270, {3, 6, 2, 5, 1, 4}}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        uint8_t dst[18];
        rotate_rgb(dst, src, 3, 2, 10, rows[i].degrees);
        for (size_t k = 0; k < 18; k++)
            assert_int_equal(dst[k], rows[i].want[k / 3]);
    }
}

static void test_stats(void **state)
{
    (void)state;
    struct video *v = open_fixture("bframes.mp4", NULL);
    assert_string_equal(video_stats(v)->codec, "h264");
    assert_int_equal(video_stats(v)->duration_s * 1000, 4000);
    char sha256[SHA256_TEXT], want[SHA256_TEXT];
    assert_int_equal(video_sha256(v, sha256, NULL), 0);
    assert_int_equal(sha256_file(media_fixture("bframes.mp4"), ERR_FAIL, NULL, want, NULL), 0);
    assert_string_equal(sha256, want);
    video_close(v);
    v = open_fixture("cover.m4a", NULL); // one picture: no rate
    assert_int_equal(video_stats(v)->n_frame, 1);
    assert_true(video_stats(v)->fps == 0);
    video_close(v);
}

static void test_window(void **state)
{
    struct video *v = open_fixture("bframes.mp4", NULL); // frame i at i / 12 s
    struct err e = {0};
    size_t first, n;
    (void)state;
    assert_int_equal(video_window(v, 0, 0, &first, &n, &e), 0);
    assert_true(first == 0 && n == 48);
    assert_int_equal(video_window(v, 1, 2, &first, &n, &e), 0);
    assert_true(first == 12 && n == 12);
    assert_int_equal(video_window(v, 3.5, 0, &first, &n, &e), 0);
    assert_true(first == 42 && n == 6);
    assert_int_equal(video_window(v, 0, 1e9, &first, &n, &e), 0);
    assert_true(first == 0 && n == 48);
    assert_int_equal(video_window(v, 2, 1, &first, &n, &e), ERR_USAGE);
    assert_int_equal(video_window(v, 0.0 / 0.0, 0, &first, &n, &e), ERR_USAGE);
    assert_int_equal(video_window(v, 5, 0, &first, &n, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "the last one is at 3.91667 s"));
    assert_true(first == 0 && n == 0);
    video_close(v);
    v = open_fixture("vfr.mkv", NULL); // by timestamps, not by rate
    assert_int_equal(video_window(v, 1, 1.3, &first, &n, &e), 0);
    assert_true(video_frame_seconds(v, first) >= 1 && video_frame_seconds(v, first - 1) < 1);
    assert_true(video_frame_seconds(v, first + n) >= 1.3);
    video_close(v);
    v = open_fixture("bframes.h264", NULL); // no timestamps: by rate
    assert_int_equal(video_window(v, 1, 2, &first, &n, &e), 0);
    assert_true(first == 12 && n == 12);
    video_close(v);
}

static void test_memory(void **state)
{
    static const char *const names[] = {"bframes.mp4", "vp9.webm", "anim.gif"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *bytes;
        size_t n;
        struct video *v;
        struct video_options o = {0};
        struct frames a, b;
        assert_int_equal(file_read(media_fixture(names[i]), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                         0);
        assert_int_equal(video_open_memory(&v, bytes, n, "bytes", &o, NULL), 0);
        read_video(&a, v, NULL, 0);
        video_close(v);
        read_fixture(&b, names[i], NULL);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.rgb, b.rgb, a.n * a.frame_bytes);
        frames_free(&a);
        frames_free(&b);
        mem_free(bytes);
    }
}

// Names that mean something to shells, URLs and image sequences are plain names here.
static void test_names(void **state)
{
    static const char *const names[] = {
        "%d.mp4",     "-i.mp4", "a b'c\"d.mp4", "a|b.mp4", "line\nbreak.mp4", "concat:x.mp4",
        "http:x.mp4", "pipe:0", "\xff\xfe.mp4", "x.jpg",   "%03d.png"};
    struct tempdir d;
    char *bytes;
    size_t n;
    char here[1024];
    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(file_read(media_fixture("two.mp4"), 1 << 20, ERR_FAIL, &bytes, &n, NULL), 0);
    tempdir_make(&d);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        tempdir_write(&d, names[i], bytes, n);
    assert_int_equal(chdir(d.path), 0); // relative: nothing in front protects the name
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct video *v;
        struct video_options o = {0};
        struct err e = {0};
        if (video_open(&v, names[i], &o, &e) != 0)
            fail_msg("%s", e.msg);
        assert_int_equal(video_stats(v)->n_frame, 2);
        video_close(v);
    }
    assert_int_equal(chdir(here), 0);
    tempdir_remove(&d);
    mem_free(bytes);
}

struct seen {
    size_t n, last_done, total, stop_at;
};

static void see_progress(void *user, const char *stage, size_t done, size_t total)
{
    struct seen *s = user;
    assert_string_equal(stage, "decode");
    assert_true(total == 0 || done <= total);
    s->last_done = done;
    s->total = total;
}

static bool stop(void *user)
{
    struct seen *s = user;
    return s->stop_at && ++s->n >= s->stop_at;
}

static void test_progress_and_abort(void **state)
{
    struct seen s = {0};
    struct video_options o = {.hooks = {.user = &s, .progress = see_progress, .abort = stop}};
    struct frames f;
    (void)state;
    struct video *v = open_fixture("bframes.mp4", &o);
    read_video(&f, v, NULL, 0);
    assert_true(s.total == 48 && s.last_done == 48);
    frames_free(&f);
    video_close(v);
    size_t n_stopped = 0;
    for (size_t at = 1;; at += 7) { // stop at every seventh question
        struct err e = {0};
        int32_t index[8];
        uint8_t rgb[8 * 96 * 64 * 3];
        s = (struct seen){.stop_at = at};
        int rc = video_open(&v, media_fixture("bframes.mp4"), &o, &e);
        if (rc == 0) {
            assert_int_equal(frames_sample(0, video_stats(v)->n_frame, 8, index, NULL), 0);
            rc = video_read_rgb(v, index, 8, rgb, &e);
            video_close(v);
        } else {
            assert_null(v);
        }
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_ABORT);
        assert_non_null(strstr(e.msg, "bframes.mp4: stopped"));
        n_stopped++;
    }
    assert_true(n_stopped > 10);
}

// Which slot got what: frame number by its pixels, or "the one before".
struct puts {
    size_t n;
    bool repeated[16];
    int fail_at;
};

static int take(void *user, size_t slot, const uint8_t *rgb, struct err *e)
{
    struct puts *p = user;
    assert_true(slot < 16);
    p->repeated[slot] = rgb == NULL;
    if ((int)++p->n == p->fail_at)
        return err_set(e, ERR_FAIL, "enough");
    return 0;
}

static void test_undecodable(void **state)
{
    struct video *v = open_fixture("corrupt.mp4", NULL);
    struct err e = {0};
    struct puts p = {0};
    struct frame_sink sink = {&p, take};
    int32_t index[16];
    size_t n_repeated = 0;
    (void)state;
    for (int32_t i = 0; i < 16; i++)
        index[i] = 10 + i;
    assert_int_equal(video_read(v, index, 16, &sink, &e), 0);
    assert_int_equal(p.n, 16);
    assert_false(p.repeated[0]);
    for (size_t i = 0; i < 16; i++)
        n_repeated += p.repeated[i];
    assert_true(n_repeated > 0);
    // the same slots through the buffer: repeated ones equal the one before
    struct frames f;
    read_video(&f, v, index, 16);
    for (size_t i = 1; i < 16; i++) {
        if (p.repeated[i])
            assert_memory_equal(frames_at(&f, i), frames_at(&f, i - 1), f.frame_bytes);
    }
    frames_free(&f);
    video_close(v);
    v = open_fixture("corrupt_first.mp4", NULL);
    assert_int_equal(video_read(v, index, 1, &sink, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "corrupt_first.mp4: frame 10 of 48 cannot be decoded"));
    index[0] = 20; // whole again from the next key picture on
    assert_int_equal(video_read(v, index, 1, &sink, &e), 0);
    video_close(v);
}

static void test_sink_stops(void **state)
{
    struct video *v = open_fixture("bframes.mp4", NULL);
    struct err e = {0};
    struct puts p = {.fail_at = 3};
    struct frame_sink sink = {&p, take};
    const int32_t index[] = {1, 2, 3, 4, 5}, bad[2][2] = {{0, 48}, {-1, 0}};
    (void)state;
    assert_int_equal(video_read(v, index, 5, &sink, &e), ERR_FAIL);
    assert_string_equal(e.msg, "enough");
    assert_int_equal(p.n, 3);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(video_read(v, bad[i], 2, &sink, &e), ERR_USAGE);
        assert_non_null(
            strstr(e.msg, i ? "frame -1 asked for" : "frame 48 asked for, there are 48"));
    }
    assert_int_equal(video_read(v, index, 0, &sink, &e), ERR_USAGE);
    video_close(v);
}

// A recording that begins in the middle of a group shows its first whole picture instead.
static void test_cut_broadcast(void **state)
{
    struct frames f, whole;
    (void)state;
    read_fixture(&f, "no_key.ts", NULL);
    read_fixture(&whole, "bframes.ts", NULL);
    size_t same = 0;
    while (same + 1 < f.n && memcmp(frames_at(&f, 0), frames_at(&f, same + 1), f.frame_bytes) == 0)
        same++;
    assert_true(same > 2 && same < 12);
    for (size_t i = 0; i < 12; i++) // the last group is as in the whole recording
        assert_memory_equal(frames_at(&f, f.n - 12 + i), frames_at(&whole, whole.n - 12 + i),
                            f.frame_bytes);
    frames_free(&f);
    frames_free(&whole);
}

// Packets before the cut count and have pictures, though players do not show them.
static void test_edit_list(void **state)
{
    struct frames f, whole;
    (void)state;
    read_fixture(&f, "cut.mp4", NULL);
    read_fixture(&whole, "bframes.mp4", NULL);
    assert_int_equal(f.n, 36); // from the key picture at 1 s on
    assert_memory_equal(f.rgb, frames_at(&whole, 12), f.n * f.frame_bytes);
    frames_free(&f);
    frames_free(&whole);
}

// A stream that changes its picture size is scaled to its first one.
static void test_size_change(void **state)
{
    struct frames f, first;
    (void)state;
    read_fixture(&f, "sizes.h264", NULL);
    read_fixture(&first, "bframes.h264", NULL);
    assert_int_equal(f.n, 60);
    assert_true(f.width == 96 && f.height == 64);
    assert_memory_equal(f.rgb, first.rgb, first.n * first.frame_bytes);
    size_t n_black = 0;
    for (size_t i = 0; i < f.frame_bytes; i++)
        n_black += frames_at(&f, 59)[i] == 0;
    assert_true(n_black < f.frame_bytes / 2);
    frames_free(&f);
    frames_free(&first);
}

// From the poll on that counts *left down to 1; 0 = never.
static bool stop_from(void *user)
{
    int *left = user;
    if (*left > 1)
        --*left;
    return *left == 1;
}

// Stopped at any poll, the next reading gives the same pictures: the place in the file is known, or found again.
static void test_stopped_and_read_again(void **state)
{
    static const int32_t index[] = {5, 20, 40}, other[] = {9, 30, 47};
    int left = 0, n_stopped = 0;
    struct video_options o = {.hooks = {.user = &left, .abort = stop_from}};
    struct frames whole;
    (void)state;
    read_fixture(&whole, "bframes.mp4", NULL);
    uint8_t *rgb = mem_calloc(3, whole.frame_bytes);
    for (int k = 2;; k++, n_stopped++) {
        struct video *v = open_fixture("bframes.mp4", &o);
        left = k;
        int rc = video_read_rgb(v, index, 3, rgb, NULL);
        left = 0;
        if (rc != ERR_ABORT) {
            assert_int_equal(rc, 0);
            video_close(v);
            break;
        }
        assert_int_equal(video_read_rgb(v, other, 3, rgb, NULL), 0);
        for (size_t i = 0; i < 3; i++)
            assert_memory_equal(rgb + i * whole.frame_bytes, frames_at(&whole, (size_t)other[i]),
                                whole.frame_bytes);
        video_close(v);
    }
    assert_true(n_stopped > 20);
    mem_free(rgb);
    frames_free(&whole);
}

// Decodes nothing: the packets there are, or the code of what went wrong.
static int count_packets(const struct source *s, size_t *n, struct err *e)
{
    const struct deadline never = {0};
    const struct decode_options o = {.name = "input",
                                     .source = s,
                                     .deadline = &never,
                                     .n_thread = 1,
                                     .max_side = 1000,
                                     .max_pixels = 1 << 20};
    struct decode *d;
    struct packet p;
    *n = 0;
    int k = decode_open(&d, &o, e);
    if (k != 0)
        return k;
    while ((k = decode_packet(d, &p, e)) > 0)
        ++*n;
    decode_close(d);
    return k;
}

// A disk that fails in the middle: no shorter video.
static void test_unreadable(void **state)
{
    static const char *const names[] = {"bframes.ts", "start.mp4", "bframes.mkv", "mpeg4.avi"};
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 1 << 20;
    int fd = open("/proc/self/mem", O_RDONLY);
    (void)state;
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *bytes;
        size_t n, n_whole, n_packet;
        struct err e = {0};
        assert_int_equal(file_read(media_fixture(names[i]), room, ERR_FAIL, &bytes, &n, NULL), 0);
        char *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(map != MAP_FAILED);
        memcpy(map, bytes, n);
        // reading where nothing is mapped is an I/O error
        struct source s = {.fd = fd, .base = (uintptr_t)map, .size = n};
        assert_int_equal(count_packets(&s, &n_whole, &e), 0);
        size_t there = n / page * page;
        assert_true(n_whole > 10 && there < n && munmap(map + there, room - there) == 0);
        int rc = count_packets(&s, &n_packet, &e);
        if (rc != ERR_MEDIA || !strstr(e.msg, "Input/output error"))
            fail_msg("%s: code %d, %zu of %zu packets, %s", names[i], rc, n_packet, n_whole, e.msg);
        munmap(map, there);
        mem_free(bytes);
    }
    close(fd);
}

// Bytes that are another codec's for a while: errors, and no crash afterwards.
static void test_codec_changes(void **state)
{
    struct video_options o = {.n_thread = 1};
    struct video *v;
    struct err e = {0};
    char *bytes;
    size_t n;
    (void)state;
    assert_int_equal(file_read(media_fixture("bframes.mkv"), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                     0);
    assert_int_equal(video_open_memory(&v, bytes, n, "input", &o, &e), 0);
    const struct video_stats *s = video_stats(v);
    uint8_t *rgb = mem_calloc(s->width * s->height, 3);
    int32_t first = 0, last = (int32_t)s->n_frame - 1;
    char *codec = memmem(bytes, n, "V_MPEG4/ISO/AVC", 15);
    assert_true(rgb && codec);
    codec[14] = 'X';
    assert_int_equal(video_read_rgb(v, &first, 1, rgb, &e), ERR_MEDIA);
    assert_non_null(strstr(e.msg, "is not accepted"));
    codec[14] = 'C';
    assert_int_equal(video_read_rgb(v, &last, 1, rgb, &e), ERR_MEDIA);
    video_close(v);
    mem_free(rgb);
    mem_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_decord),
        cmocka_unit_test(test_same_packets_same_pictures),
        cmocka_unit_test(test_every_way_is_sequential),
        cmocka_unit_test(test_read_again),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_rotate_rgb),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_progress_and_abort),
        cmocka_unit_test(test_undecodable),
        cmocka_unit_test(test_sink_stops),
        cmocka_unit_test(test_cut_broadcast),
        cmocka_unit_test(test_edit_list),
        cmocka_unit_test(test_stopped_and_read_again),
        cmocka_unit_test(test_size_change),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_codec_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
