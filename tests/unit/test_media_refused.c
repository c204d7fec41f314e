// SPDX-License-Identifier: MIT
// Files that are no videos, damaged ones and limits: each ends with its code and message, soon, with
// nothing left behind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "media/frames.h"
#include "media/video.h"
#include "media_fixture.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Opens and samples 8 frames.
static int use(const char *path, const struct video_options *o, struct err *e)
{
    struct video *v;
    int32_t index[8];
    int rc = video_open(&v, path, o, e);
    if (rc != 0) {
        assert_null(v);
        return rc;
    }
    const struct video_stats *s = video_stats(v);
    uint8_t *rgb = mem_calloc(8 * s->width * s->height, 3);
    rc = frames_sample(0, s->n_frame, 8, index, e);
    if (rc == 0)
        rc = video_read_rgb(v, index, 8, rgb, e);
    mem_free(rgb);
    video_close(v);
    return rc;
}

static void check(const char *name, const struct video_options *o, int code, const char *text)
{
    struct err e = {0};
    char want[1200];
    int before = dup(0);
    double start = seconds();
    const char *path = name[0] == '/' ? name : media_fixture(name);
    snprintf(want, sizeof want, "%s: %s", path, text);
    int rc = use(path, o, &e);
    if (rc != code || strncmp(e.msg, want, strlen(want)) != 0)
        fail_msg("%s: code %d, %s", name, rc, e.msg);
    assert_true(seconds() - start < 30);
    int after = dup(0);
    assert_int_equal(before, after - 1); // no descriptor is left open
    close(before);
    close(after);
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *name;
        const char *text;
    } rows[] = {
        {"empty.mp4", "empty"},
        {"text.mp4", "not a video or image that is known here"},
        {"page.mp4", "not a video or image that is known here"},
        {"no_moov.mp4", "damaged: the container's header cannot be read"},
        {"half_moov.mp4", "damaged: the container's header cannot be read"},
        {"audio.m4a", "no video stream"},
        {"encrypted.mp4", "the video is encrypted"},
        {"list.m3u8", "'hls' refers to other files and is refused"},
        {"list.ffconcat", "'concat' refers to other files and is refused"},
        {"list.mpd", "'dash' refers to other files and is refused"},
        {"list.sdp", "'sdp' refers to other files and is refused"},
        {"corrupt_first.mp4", "frame 2 of 48 cannot be decoded"},
        {"", "a directory, not a video or image file"},
        {"no_such_file.mp4", "No such file or directory"},
        {"/dev/zero", "a character device, not a video or image file"},
    };
    struct video_options o = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(rows[i].name, &o, ERR_MEDIA, rows[i].text);
}

static void test_limits(void **state)
{
    struct video_options o = {.max_bytes = 1000};
    (void)state;
    check("bframes.mp4", &o, ERR_LIMIT, "17444 bytes, at most 1000 are accepted");
    o = (struct video_options){.max_frames = 47};
    check("bframes.mp4", &o, ERR_LIMIT, "more than 47 frames");
    o = (struct video_options){.max_side = 95};
    check("bframes.mp4", &o, ERR_LIMIT, "pictures of 96x64, at most 95 a side");
    o = (struct video_options){.max_pixels = 96 * 64 - 1};
    check("bframes.mp4", &o, ERR_LIMIT, "pictures of 96x64, at most 16384 a side and 6143 in all");
    o = (struct video_options){.max_seconds = 1e-9};
    check("bframes.mp4", &o, ERR_LIMIT, "not done after 1e-09 s");
    o = (struct video_options){
        .max_bytes = 17444, .max_frames = 48, .max_side = 96, .max_pixels = 96 * 64};
    assert_int_equal(use(media_fixture("bframes.mp4"), &o, NULL), 0);
}

// Cut at many places, from the end and through the middle: an answer or an error, never a hang.
static void test_cut_anywhere(void **state)
{
    static const char *const names[] = {"start.mp4", "bframes.mkv", "bframes.ts", "vp9.webm",
                                        "anim.gif",  "anim.png",    "photo.jpg",  "lossy.webp",
                                        "mpeg4.avi", "raw.y4m",     "av1.mp4"};
    size_t n_good = 0, n_bad = 0;
    double start = seconds();
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *bytes;
        size_t n;
        assert_int_equal(file_read(media_fixture(names[i]), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                         0);
        for (size_t cut = 1; cut < n; cut += n / 12) {
            struct video_options o = {.n_thread = 1, .max_seconds = 60};
            struct err e = {0};
            struct image image;
            int rc = image_read_memory(&image, bytes, cut, "cut", &o, &e);
            assert_true(rc == 0 || rc == ERR_MEDIA);
            assert_int_equal(strncmp(e.msg, "cut: ", rc ? 5 : 0), 0);
            n_good += rc == 0;
            n_bad += rc != 0;
            image_free(&image);
        }
        mem_free(bytes);
    }
    assert_true(n_good > 20 && n_bad > 10);
    assert_true(seconds() - start < 90);
}

// Every allocation of ours that fails ends in an error and leaves nothing behind.
static void test_no_memory(void **state)
{
    struct video_options o = {.n_thread = 1};
    struct err e = {0};
    (void)state;
    for (uint64_t k = 1;; k++) {
        struct image image;
        mem_fail_after(k);
        int rc = image_read(&image, media_fixture("anim.gif"), &o, &e);
        mem_fail_after(0);
        if (rc == 0) {
            image_free(&image);
            assert_true(k > 8);
            return;
        }
        if (rc != ERR_LIMIT || !strstr(e.msg, "out of memory"))
            fail_msg("allocation %d: code %d, %s", (int)k, rc, e.msg);
        assert_null(image.rgb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
