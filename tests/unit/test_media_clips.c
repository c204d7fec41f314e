// SPDX-License-Identifier: MIT
// Grids, padding, tiles, global view and normalisation: the tables of SPEC 3.4 - 3.8.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/clips.h"

enum { N = CLIPS_SIZE };
static const float MEAN[3] = {0.485F, 0.456F, 0.406F}, STD[3] = {0.229F, 0.224F, 0.225F};

static void test_padding_sizes(void **state)
{
    static const struct {
        size_t w, h;
        int hd_num;
        bool turned;
        size_t new_w, new_h, top, rows, cols;
    } rows[] = {
        {1920, 1080, 4, false, 448, 252, 98, 2, 2}, {1920, 1080, 6, false, 672, 378, 35, 2, 3},
        {640, 360, 4, false, 448, 252, 98, 2, 2},   {640, 360, 6, false, 672, 378, 35, 2, 3},
        {568, 320, 4, false, 448, 252, 98, 2, 2},   {568, 320, 6, false, 672, 378, 35, 2, 3},
        {1080, 1920, 4, true, 448, 252, 98, 2, 2},  {1080, 1920, 6, true, 672, 378, 35, 2, 3},
        {224, 224, 4, false, 448, 448, 0, 2, 2},    {224, 224, 6, false, 448, 448, 0, 2, 2},
        {100, 400, 4, true, 896, 224, 0, 1, 4},     {100, 400, 6, true, 896, 224, 0, 1, 4},
        {640, 480, 4, false, 448, 336, 56, 2, 2},   {2000, 100, 6, false, 1344, 67, 78, 1, 6},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct clips_options o = clips_options_default();
        struct clips_plan p;
        o.padding = true;
        o.hd_num = rows[i].hd_num;
        assert_int_equal(clips_plan(&p, &o, 8, rows[i].w, rows[i].h, NULL), 0);
        assert_true(p.turned == rows[i].turned && p.top == rows[i].top);
        assert_true(p.resized_width == rows[i].new_w && p.resized_height == rows[i].new_h);
        assert_true(p.rows == rows[i].rows && p.cols == rows[i].cols);
        assert_int_equal(p.n_clip, p.rows * p.cols + 1);
    }
}

static void test_grids(void **state)
{
    static const struct {
        size_t w, h, grid[3][2]; // hd_num 4, 6, 12
    } rows[] = {
        {1920, 1080, {{2, 1}, {2, 1}, {4, 2}}}, {640, 360, {{2, 1}, {2, 1}, {4, 2}}},
        {568, 320, {{2, 1}, {2, 1}, {2, 1}}},   {1080, 1920, {{1, 2}, {1, 2}, {2, 4}}},
        {224, 224, {{1, 1}, {1, 1}, {1, 1}}},   {100, 400, {{1, 4}, {1, 4}, {1, 4}}},
        {640, 480, {{2, 2}, {3, 2}, {4, 3}}},
    };
    static const int hd_num[] = {4, 6, 12};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            struct clips_options o = clips_options_default();
            struct clips_plan p;
            o.fix_cols = o.fix_rows = 0;
            o.hd_num = hd_num[k];
            assert_int_equal(clips_plan(&p, &o, 1, rows[i].w, rows[i].h, NULL), 0);
            assert_true(p.cols == rows[i].grid[k][0] && p.rows == rows[i].grid[k][1]);
        }
    }
}

// The reference's loop over candidates of equal tile count in the other order: same grid for all sizes.
static void reversed_grid(size_t hd_num, size_t w, size_t h, size_t *cols, size_t *rows)
{
    double best = INFINITY, ratio = (double)w / (double)h;
    for (size_t n = 1; n <= hd_num; n++) {
        for (size_t i = n; i >= 1; i--) {
            if (n % i)
                continue;
            double d = fabs(ratio - (double)i / (double)(n / i));
            if (d < best || (d == best && (double)(w * h) > 0.5 * N * N * (double)n)) {
                best = d;
                *cols = i;
                *rows = n / i;
            }
        }
    }
}

static void test_grid_order_is_free(void **state)
{
    (void)state;
    for (int hd_num = 1; hd_num <= CLIPS_TILE_MAX; hd_num++) {
        for (size_t w = 5; w < 2000; w = w * 3 / 2) {
            for (size_t h = 4; h < 2000; h = h * 5 / 4 + 1) {
                struct clips_options o = clips_options_default();
                struct clips_plan p;
                size_t cols = 0, rows = 0;
                o.fix_cols = o.fix_rows = 0;
                o.hd_num = hd_num;
                assert_int_equal(clips_plan(&p, &o, 1, w, h, NULL), 0);
                reversed_grid((size_t)hd_num, w, h, &cols, &rows);
                assert_true(p.cols == cols && p.rows == rows);
            }
        }
    }
}

static void test_refused(void **state)
{
    static const struct {
        int hd_num, cols, rows;
        bool padding;
        size_t n, w, h;
        int code;
        const char *text;
    } rows[] = {
        {0, 0, 0, false, 8, 10, 10, ERR_USAGE, "hd_num 0"},
        {65, 0, 0, true, 8, 10, 10, ERR_USAGE, "hd_num 65: 1 to 64"},
        {6, -1, 1, false, 8, 10, 10, ERR_USAGE, "grid -1x1"},
        {6, 0, 1, false, 8, 10, 10, ERR_USAGE, "grid 0x1"},
        {6, 13, 5, false, 8, 10, 10, ERR_USAGE, "grid 13x5: 1 to 64 tiles"},
        {6, 65536, 65536, false, 8, 10, 10, ERR_USAGE, "grid 65536x65536"},
        {6, 2, 1, false, 0, 10, 10, ERR_USAGE, "0 frames"},
        {6, 2, 1, false, 8, 0, 10, ERR_MEDIA, "0x10"},
        {6, 2, 1, false, 8, 10, (size_t)1 << 40, ERR_LIMIT, "at most 1048576 a side"},
        {6, 2, 1, false, SIZE_MAX / 2, 10, 10, ERR_LIMIT, "would pass 16 GiB"},
        {6, 2, 1, true, 8, 10000, 1, ERR_MEDIA, "10000x1: too narrow for padding"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct clips_options o = clips_options_default();
        struct clips_plan p, zero;
        struct err e = {0};
        memset(&zero, 0, sizeof zero);
        o.hd_num = rows[i].hd_num;
        o.fix_cols = rows[i].cols;
        o.fix_rows = rows[i].rows;
        o.padding = rows[i].padding;
        assert_int_equal(clips_plan(&p, &o, rows[i].n, rows[i].w, rows[i].h, &e), rows[i].code);
        assert_non_null(strstr(e.msg, rows[i].text));
        assert_memory_equal(&p, &zero, sizeof p);
    }
}

// What colour a pixel of a clip was, 0..255.
static float colour(const struct clips *c, size_t clip, size_t frame, size_t ch, size_t y, size_t x)
{
    float v = c->pixels[(((clip * c->n_frame + frame) * 3 + ch) * N + y) * N + x];
    return (v * STD[ch] + MEAN[ch]) * 255;
}

static bool near(float a, float b)
{
    return fabsf(a - b) < 0.01F;
}

// 448 x 448 with a colour of its own in each quarter and frame needs no resampling with a 2x2 grid.
static void test_tiles(void **state)
{
    enum { W = 2 * N, H = 2 * N, T = 2 };
    uint8_t *rgb = mem_calloc((size_t)T * W * H, 3);
    struct clips_options o = clips_options_default();
    struct clips c;
    (void)state;
    for (size_t i = 0; i < (size_t)T * W * H; i++) {
        size_t t = i / (W * H), y = i / W % H, x = i % W, quarter = y / N * 2 + x / N;
        for (size_t ch = 0; ch < 3; ch++)
            rgb[3 * i + ch] = (uint8_t)(10 + 50 * quarter + 20 * t + ch);
    }
    o.fix_cols = o.fix_rows = 2;
    assert_int_equal(clips_from_rgb(&c, &o, rgb, T, W, H, NULL), 0);
    assert_true(c.n_clip == 5 && c.n_frame == T && c.cols == 2 && c.rows == 2);
    for (size_t clip = 0; clip < 4; clip++) {
        for (size_t t = 0; t < T; t++) {
            for (size_t ch = 0; ch < 3; ch++) {
                float want = (float)(10 + 50 * clip + 20 * t + ch);
                assert_true(near(colour(&c, clip, t, ch, 0, 0), want));
                assert_true(near(colour(&c, clip, t, ch, N - 1, N - 1), want));
                // global view, last: the quarter in small
                assert_true(
                    near(colour(&c, 4, t, ch, clip / 2 * N / 2 + 50, clip % 2 * N / 2 + 50), want));
            }
        }
    }
    clips_free(&c);
    mem_free(rgb);
}

// White is 255 before normalisation, the picture is upright and its padding exchanged after the turn.
static void test_padding_pixels(void **state)
{
    enum {
        W = 100,
        H = 2000
    }; // turned: 1344 x 67 in 224 rows, 78 above and 79 below before the turn
    uint8_t *rgb = mem_calloc((size_t)W * H, 3);
    struct clips_options o = clips_options_default();
    struct clips c;
    (void)state;
    for (size_t i = 0; i < (size_t)W * H; i++)
        rgb[3 * i] = (uint8_t)(i / W < H / 2 ? 200 : 20); // red above, dark below
    o.padding = true;
    assert_int_equal(clips_from_rgb(&c, &o, rgb, 1, W, H, NULL), 0);
    assert_true(c.cols == 6 && c.rows == 1 && c.plan.turned);
    for (size_t ch = 0; ch < 3; ch++) {
        assert_true(near(colour(&c, 0, 0, ch, 78, 100), 255)); // 79 rows above now
        assert_false(near(colour(&c, 0, 0, ch, 79, 100), 255));
        assert_false(near(colour(&c, 0, 0, ch, 79 + 66, 100), 255));
        assert_true(near(colour(&c, 0, 0, ch, 79 + 67, 100), 255)); // 78 below
    }
    assert_true(near(colour(&c, 0, 0, 0, 79 + 5, 100), 200));
    assert_true(near(colour(&c, 5, 0, 0, 79 + 60, 100), 20));
    clips_free(&c);
    mem_free(rgb);
}

static void test_plain(void **state)
{
    enum { W = 568, H = 320 };
    uint8_t *rgb = mem_calloc((size_t)W * H, 3);
    struct clips_options o = clips_options_default();
    struct clips c;
    struct clips_plan p;
    (void)state;
    for (size_t i = 0; i < (size_t)W * H; i++)
        rgb[3 * i + 1] = (uint8_t)(i % W * 255 / (W - 1)); // green ramp
    o.mode = CLIPS_PLAIN;
    assert_int_equal(clips_from_rgb(&c, &o, rgb, 1, W, H, NULL), 0);
    assert_true(c.n_clip == 1 && c.plan.resized_width == 397 && c.plan.resized_height == 224);
    assert_true(c.plan.crop_left == 86 && c.plan.crop_top == 0); // 86.5 to even
    // output 0 is column 86 of 397, at 86.5 * 568 / 397 - 0.5 of 568
    float want = (86.5F * 568 / 397 - 0.5F) * 255 / 567;
    assert_true(fabsf(colour(&c, 0, 0, 1, 100, 0) - want) < 0.6F);
    assert_true(near(colour(&c, 0, 0, 0, 100, 0), 0));
    clips_free(&c);
    mem_free(rgb);
    assert_int_equal(clips_plan(&p, &o, 1, 1, 16384, NULL), 0); // only the crop is computed
    assert_true(p.resized_height == 224 * 16384 && p.work_bytes < 16 << 20);
}

static void test_repeated_frame(void **state)
{
    uint8_t rgb[12 * 10 * 3];
    struct clips_options o = clips_options_default();
    struct clips_plan p;
    struct clips c;
    (void)state;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 37);
    assert_int_equal(clips_plan(&p, &o, 3, 12, 10, NULL), 0);
    assert_int_equal(clips_init(&c, &p, NULL), 0);
    clips_put(&c, 1, rgb);
    clips_put(&c, 2, NULL);
    clips_put(&c, 0, rgb);
    clips_done(&c);
    assert_null(c.work);
    for (size_t clip = 0; clip < 3; clip++) {
        const float *f = c.pixels + clip * 3 * 3 * N * N;
        assert_memory_equal(f, f + 3 * N * N, 3 * N * N * sizeof *f);
        assert_memory_equal(f, f + 2 * 3 * N * N, 3 * N * N * sizeof *f);
    }
    clips_free(&c);
}

static void test_images(void **state)
{
    uint8_t a[30 * 20 * 3], b[20 * 40 * 3];
    struct clips_options o = clips_options_default();
    struct clips c = {0}, one;
    (void)state;
    memset(a, 77, sizeof a);
    memset(b, 133, sizeof b);
    assert_int_equal(clips_add_image(&c, &o, a, 30, 20, NULL), 0);
    assert_true(c.n_clip == 3 && c.n_frame == 1 && c.cols == 2);
    o.fix_cols = o.fix_rows = 1;
    assert_int_equal(clips_add_image(&c, &o, b, 20, 40, NULL), 0);
    assert_true(c.n_clip == 5 && c.n_frame == 1 && c.cols == 1 && c.rows == 1);
    assert_true(c.plan.pixel_floats == (size_t)5 * 3 * N * N);
    assert_int_equal(clips_from_rgb(&one, &o, b, 1, 20, 40, NULL), 0);
    assert_memory_equal(c.pixels + 3 * 3 * N * N, one.pixels, one.plan.pixel_bytes);
    assert_true(near(colour(&c, 2, 0, 1, 9, 9), 77) && near(colour(&c, 4, 0, 1, 9, 9), 133));
    // a failure leaves what was there
    const float *before = c.pixels;
    assert_int_equal(clips_add_image(&c, &o, b, 0, 40, NULL), ERR_MEDIA);
    assert_true(c.pixels == before && c.n_clip == 5);
    clips_free(&one);
    clips_free(&c);
}

static void test_no_memory(void **state)
{
    uint8_t rgb[12 * 10 * 3] = {0};
    struct clips_options o = clips_options_default();
    struct err e = {0};
    uint64_t k = 1;
    (void)state;
    for (;; k++) {
        struct clips c;
        mem_fail_after(k);
        int rc = clips_from_rgb(&c, &o, rgb, 1, 12, 10, &e);
        mem_fail_after(0);
        if (rc == 0) {
            clips_free(&c);
            break;
        }
        assert_int_equal(rc, ERR_LIMIT);
        assert_non_null(strstr(e.msg, "out of memory"));
        assert_null(c.pixels);
        assert_null(c.work);
    }
    assert_true(k > 10);
    struct clips c = {0};
    assert_int_equal(clips_add_image(&c, &o, rgb, 12, 10, &e), 0);
    for (k = 1;; k++) {
        mem_fail_after(k);
        int rc = clips_add_image(&c, &o, rgb, 12, 10, &e);
        mem_fail_after(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
        assert_int_equal(c.n_clip, 3);
    }
    assert_int_equal(c.n_clip, 6);
    clips_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_padding_sizes),
        cmocka_unit_test(test_grids),
        cmocka_unit_test(test_grid_order_is_free),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_padding_pixels),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_repeated_frame),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
