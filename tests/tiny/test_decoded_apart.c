// SPDX-License-Identifier: MIT
// iv_decode and iv_media_from_frames together are iv_media_open_*: same pixels, same numbers, same key of the caches;
// and what a broken other side says is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "engine_fixture.h"

enum { FRAMES = 64 };

// What came out of iv_decode, to be handed over again.
struct tape {
    struct iv_frames head;
    int32_t index[FRAMES];
    char sha256[65];
    struct iv_frame frame[FRAMES];
    char names[FRAMES][65];
    size_t n, at;
};

static int begin(void *user, const struct iv_frames *f, struct iv_error *e)
{
    struct tape *t = user;
    (void)e;
    assert_true(f->n_frame <= FRAMES);
    t->head = *f;
    memcpy(t->index, f->frame_index, f->n_frame * sizeof *t->index);
    memcpy(t->sha256, f->sha256, sizeof t->sha256);
    t->head.frame_index = t->index;
    t->head.sha256 = t->sha256;
    return 0;
}

static int record(void *user, const struct iv_frame *f, struct iv_error *e)
{
    struct tape *t = user;
    struct iv_frame *to = &t->frame[t->n];
    size_t width = f->width ? f->width : t->head.width,
           height = f->height ? f->height : t->head.height;
    (void)e;
    *to = *f;
    if (f->rgb) {
        uint8_t *copy = mem_calloc(width * height, 3);
        assert_non_null(copy);
        memcpy(copy, f->rgb, width * height * 3);
        to->rgb = copy;
    }
    if (f->sha256) {
        memcpy(t->names[t->n], f->sha256, 65);
        to->sha256 = t->names[t->n];
    }
    t->n++;
    return 0;
}

static int replay(void *user, struct iv_frame *f, struct iv_error *e)
{
    struct tape *t = user;
    (void)e;
    if (t->at == t->n)
        return IV_ERR_MEDIA;
    *f = t->frame[t->at++];
    return 0;
}

static void erase(struct tape *t)
{
    for (size_t i = 0; i < t->n; i++)
        mem_free((void *)(uintptr_t)t->frame[i].rgb);
    memset(t, 0, sizeof *t);
}

static int decode_file(struct tape *t, const char *path, bool image, double rate)
{
    struct err e = {0};
    struct iv_error error;
    struct filemap map;
    struct iv_decode_options o = iv_decode_options_default();
    o.n_frame = 4;
    o.rate = rate;
    o.image = image;
    o.user = t;
    o.begin = begin;
    o.frame = record;
    assert_int_equal(filemap_open(&map, path, ERR_MEDIA, &e), 0);
    int rc = iv_decode(map.data, map.size, &o, &error);
    filemap_close(&map);
    return rc;
}

static void same_stage(iv_media *a, iv_media *b)
{
    float *x, *y;
    size_t dim_x[6], dim_y[6];
    unsigned n_x, n_y;
    assert_int_equal(iv_media_stage(a, IV_STAGE_PIXELS, NULL, &x, dim_x, &n_x, NULL), IV_OK);
    assert_int_equal(iv_media_stage(b, IV_STAGE_PIXELS, NULL, &y, dim_y, &n_y, NULL), IV_OK);
    size_t n = sizeof *x;
    assert_int_equal(n_x, n_y);
    for (unsigned i = 0; i < n_x; i++) {
        assert_int_equal(dim_x[i], dim_y[i]);
        n *= dim_x[i];
    }
    assert_memory_equal(x, y, n);
    iv_free(x);
    iv_free(y);
}

// The second of two media of the same key finds the rows of the first.
static void same_key(const iv_engine *g, iv_media *a, iv_media *b)
{
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer answer;
    iv_session *s;
    ask.max_new_tokens = 1;
    assert_int_equal(iv_media_encode(a, NULL, NULL), IV_OK);
    assert_int_equal(iv_session_open(g, b, &so, &s, NULL), IV_OK);
    assert_int_equal(iv_session_ask(s, "What?", &ask, &answer, NULL), IV_OK);
    assert_true(answer.media_cached);
    iv_answer_free(&answer);
    iv_session_close(s);
}

static void test_video(void **state)
{
    static const char *const files[] = {"bframes.mp4", "vfr.mkv", "rotate90.mp4", "corrupt.mp4",
                                        "two.mp4"};
    iv_engine *g = *state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct tape t = {0};
        struct iv_media_options o = iv_media_options_default();
        iv_media *whole, *apart;
        char path[512];
        o.n_frame = 4;
        snprintf(path, sizeof path, TEST_ROOT "/fixtures/media/%s", files[i]);
        assert_int_equal(decode_file(&t, path, false, 0), IV_OK);
        assert_int_equal(iv_media_open_video(g, path, &o, &whole, NULL), IV_OK);
        assert_int_equal(iv_media_from_frames(g, &t.head, t.n, replay, &t, &o, &apart, NULL),
                         IV_OK);
        const struct iv_media_info *a = iv_media_info(whole), *b = iv_media_info(apart);
        assert_string_equal(a->sha256, b->sha256);
        assert_int_equal(a->frame_count, b->frame_count);
        assert_int_equal(a->n_frame, b->n_frame);
        assert_memory_equal(a->frame_index, b->frame_index, a->n_frame * sizeof *a->frame_index);
        assert_memory_equal(a->frame_s, b->frame_s, a->n_frame * sizeof *a->frame_s);
        assert_true(a->fps == b->fps && a->duration_s == b->duration_s);
        assert_int_equal(a->cols, b->cols);
        assert_string_equal(a->time_text, b->time_text);
        same_stage(whole, apart);
        same_key(g, whole, apart);
        iv_media_close(whole);
        iv_media_close(apart);
        erase(&t);
    }
}

static void test_images(void **state)
{
    iv_engine *g = *state;
    static const char *const paths[] = {TEST_ROOT "/fixtures/media/exif6.jpg",
                                        TEST_ROOT "/fixtures/media/rgba.png"};
    struct tape t = {0};
    struct iv_media_options o = iv_media_options_default();
    iv_media *whole, *apart;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(decode_file(&t, paths[i], true, 0), IV_OK);
        t.frame[i].slot = i;
    }
    assert_int_equal(iv_media_open_images(g, paths, 2, &o, &whole, NULL), IV_OK);
    assert_int_equal(iv_media_from_frames(g, NULL, 2, replay, &t, &o, &apart, NULL), IV_OK);
    assert_string_equal(iv_media_info(whole)->sha256, iv_media_info(apart)->sha256);
    same_stage(whole, apart);
    same_key(g, whole, apart);
    iv_media_close(whole);
    iv_media_close(apart);
    for (size_t i = 0; i < 2; i++) { // of images none is the one in front again
        const uint8_t *rgb = t.frame[i].rgb;
        t.frame[i].rgb = NULL;
        t.at = 0;
        assert_int_equal(iv_media_from_frames(g, NULL, 2, replay, &t, &o, &apart, NULL),
                         IV_ERR_USAGE);
        assert_null(apart);
        t.frame[i].rgb = rgb;
    }
    erase(&t);
}

static void test_rate(void **state)
{
    struct tape t = {0};
    (void)state;
    assert_int_equal(decode_file(&t, TEST_ROOT "/fixtures/media/bframes.mp4", false, 1), IV_OK);
    size_t wanted = (size_t)((double)t.head.frame_count / t.head.fps + 0.5);
    assert_int_equal(t.head.n_frame, wanted < 1 ? 1 : wanted > 4 ? 4 : wanted);
    erase(&t);
    assert_int_equal(decode_file(&t, TEST_ROOT "/fixtures/media/bframes.mp4", false, 1000), IV_OK);
    assert_int_equal(t.head.n_frame, 4);
    erase(&t);
}

static int from(iv_engine *g, struct tape *t)
{
    struct iv_media_options o = iv_media_options_default();
    iv_media *m;
    int rc = iv_media_from_frames(g, &t->head, t->head.n_frame, replay, t, &o, &m, NULL);
    iv_media_close(m);
    t->at = 0;
    return rc;
}

// A decoder that does not keep to the rules.
static void test_distrust(void **state)
{
    iv_engine *g = *state;
    struct tape t = {0};
    assert_int_equal(decode_file(&t, TEST_ROOT "/fixtures/media/bframes.mp4", false, 0), IV_OK);
    assert_int_equal(from(g, &t), IV_OK);
    t.frame[1].slot = 0; // twice
    assert_int_equal(from(g, &t), IV_ERR_USAGE);
    t.frame[1].slot = 4; // beyond the last
    assert_int_equal(from(g, &t), IV_ERR_USAGE);
    t.frame[1].slot = 1;
    const uint8_t *rgb = t.frame[0].rgb;
    t.frame[0].rgb = NULL; // nothing to repeat
    assert_int_equal(from(g, &t), IV_ERR_USAGE);
    t.frame[0].rgb = rgb;
    const int32_t *index = t.head.frame_index;
    t.head.frame_index = (const int32_t[]){0, -1, 2, 3};
    assert_int_equal(from(g, &t), IV_ERR_USAGE);
    t.head.frame_index = index;
    t.head.sha256 = "0123";
    assert_int_equal(from(g, &t), IV_ERR_USAGE);
    t.head.sha256 = t.sha256;
    t.head.width = 0;
    assert_int_equal(from(g, &t), IV_ERR_MEDIA);
    t.head.width = SIZE_MAX / 2;
    assert_int_equal(from(g, &t), IV_ERR_LIMIT);
    t.head.width = 96;
    // an image without pixels repeats no other
    struct iv_media_options o = iv_media_options_default();
    iv_media *m;
    for (size_t i = 0; i < 2; i++) {
        t.frame[i].width = 96;
        t.frame[i].height = 64;
    }
    rgb = t.frame[1].rgb;
    t.frame[1].rgb = NULL;
    assert_int_equal(iv_media_from_frames(g, NULL, 2, replay, &t, &o, &m, NULL), IV_ERR_USAGE);
    t.frame[1].rgb = rgb;
    t.at = 0;
    size_t n = t.n;
    t.n = 2; // ends early
    assert_int_equal(from(g, &t), IV_ERR_MEDIA);
    t.n = n; // all of them are ours to free
    erase(&t);
}

static void test_limits(void **state)
{
    struct tape t = {0};
    struct iv_error error;
    struct iv_decode_options o = iv_decode_options_default();
    (void)state;
    assert_int_equal(iv_decode("", 0, &o, &error), IV_ERR_MEDIA);
    o.n_frame = 0;
    assert_int_equal(iv_decode("x", 1, &o, &error), IV_ERR_USAGE);
    assert_int_equal(decode_file(&t, TEST_ROOT "/fixtures/media/list.m3u8", false, 0),
                     IV_ERR_MEDIA);
    assert_int_equal(decode_file(&t, TEST_ROOT "/fixtures/media/text.mp4", true, 0), IV_ERR_MEDIA);
    erase(&t);
}

static int open_model(void **state)
{
    struct iv_engine_options o = engine_fixture_options();
    *state = engine_fixture_open(&o);
    return 0;
}

static int close_model(void **state)
{
    iv_engine_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_video),    cmocka_unit_test(test_images), cmocka_unit_test(test_rate),
        cmocka_unit_test(test_distrust), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
