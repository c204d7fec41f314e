// SPDX-License-Identifier: MIT
// Image files to RGB: formats, alpha, EXIF rotation, first pictures of animations.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "media/rotate.h"
#include "media/video.h"
#include "media_fixture.h"

static void read_image(struct image *i, const char *name)
{
    struct video_options o = {0};
    struct err e = {0};
    if (image_read(i, media_fixture(name), &o, &e) != 0)
        fail_msg("%s", e.msg);
}

static void test_formats(void **state)
{
    static const struct {
        const char *name;
        size_t width, height;
    } rows[] = {{"photo.jpg", 120, 80},  {"rgba.png", 40, 30},    {"palette.png", 40, 30},
                {"gray16.png", 40, 30},  {"lossy.webp", 40, 30},  {"lossless.webp", 40, 30},
                {"picture.bmp", 40, 30}, {"anim.gif", 64, 48},    {"anim.png", 64, 48},
                {"exif6.jpg", 80, 120},  {"bframes.mp4", 96, 64}, {"rotate90.mp4", 64, 96}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct image image;
        char want[SHA256_TEXT];
        read_image(&image, rows[i].name);
        if (image.width != rows[i].width || image.height != rows[i].height)
            fail_msg("%s: %zux%zu", rows[i].name, image.width, image.height);
        assert_int_equal(sha256_file(media_fixture(rows[i].name), ERR_FAIL, NULL, want, NULL), 0);
        assert_string_equal(image.sha256, want);
        image_free(&image);
        assert_null(image.rgb);
    }
}

// Lossless files of one picture: the same bytes whatever the container; alpha is dropped, not blended.
static void test_lossless(void **state)
{
    static const char *const names[] = {"rgba.png", "lossless.webp", "palette.png"};
    struct image bmp;
    (void)state;
    read_image(&bmp, "picture.bmp");
    for (size_t i = 0; i < 3; i++) {
        struct image other;
        size_t n_far = 0;
        read_image(&other, names[i]);
        for (size_t k = 0; k < bmp.width * bmp.height * 3; k++)
            n_far += abs(bmp.rgb[k] - other.rgb[k]) > (i == 2 ? 24 : 4);
        if (n_far > 40) // edges of another conversion
            fail_msg("%s: %zu values differ from picture.bmp", names[i], n_far);
        image_free(&other);
    }
    image_free(&bmp);
}

static void test_gray16(void **state)
{
    struct image i;
    (void)state;
    read_image(&i, "gray16.png");
    for (size_t x = 0; x < i.width; x++) { // ramp in row 0, three equal channels
        const uint8_t *p = i.rgb + 3 * x;
        int want = (int)(x * 255 / (i.width - 1));
        assert_true(abs(p[0] - want) <= 2 && p[0] == p[1] && p[1] == p[2]);
    }
    image_free(&i);
}

static void test_exif(void **state)
{
    struct image plain, turned;
    (void)state;
    read_image(&plain, "photo.jpg");
    read_image(&turned, "exif6.jpg");
    uint8_t *want = mem_calloc(plain.width * plain.height, 3);
    rotate_rgb(want, plain.rgb, plain.width, plain.height, plain.width * 3, 90);
    assert_memory_equal(want, turned.rgb, plain.width * plain.height * 3);
    mem_free(want);
    image_free(&plain);
    image_free(&turned);
}

static void test_memory(void **state)
{
    struct image a, b;
    struct video_options o = {0};
    char *bytes;
    size_t n;
    (void)state;
    assert_int_equal(file_read(media_fixture("lossy.webp"), 1 << 20, ERR_FAIL, &bytes, &n, NULL),
                     0);
    assert_int_equal(image_read_memory(&a, bytes, n, "bytes", &o, NULL), 0);
    read_image(&b, "lossy.webp");
    assert_memory_equal(a.rgb, b.rgb, a.width * a.height * 3);
    image_free(&a);
    image_free(&b);
    mem_free(bytes);
}

static void test_refused(void **state)
{
    static const char *const names[] = {"text.mp4", "empty.mp4", "audio.m4a", "no_moov.mp4"};
    struct video_options o = {0};
    struct image i;
    struct err e = {0};
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        memset(&i, 0x55, sizeof i);
        assert_int_equal(image_read(&i, media_fixture(names[k]), &o, &e), ERR_MEDIA);
        assert_null(i.rgb);
        assert_int_equal(i.width, 0);
    }
    o.max_pixels = 120 * 80 - 1;
    assert_int_equal(image_read(&i, media_fixture("photo.jpg"), &o, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "pictures of 120x80"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats), cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_gray16),  cmocka_unit_test(test_exif),
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
