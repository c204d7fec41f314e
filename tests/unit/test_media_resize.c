// SPDX-License-Identifier: MIT
// Taps and weights of both bicubic kernels, and whole resizes against the formula in double.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/resize.h"

static void axis(struct resize_axis *a, enum resize_kernel k, size_t n_in, size_t n_out)
{
    assert_int_equal(resize_axis_init(a, k, n_in, n_out, 0, n_out, NULL), 0);
}

static void test_weights(void **state)
{
    // SPEC 3.3: t = 0.5 when halving or doubling by two taps, t = 0.25 and 0.75 when doubling
    static const float half[] = {-0.09375F, 0.59375F, 0.59375F, -0.09375F};
    static const float quarter[] = {-0.10546875F, 0.87890625F, 0.26171875F, -0.03515625F};
    struct resize_axis a;
    (void)state;
    axis(&a, RESIZE_CUBIC, 8, 4);
    assert_int_equal(a.n_tap, 4);
    for (size_t d = 0; d < 4; d++)
        assert_memory_equal(a.w + 4 * d, half, sizeof half);
    static const int32_t first[] = {0, 0, 1, 2}, last[] = {5, 6, 7, 7};
    assert_memory_equal(a.at, first, sizeof first); // -1 clamped
    assert_memory_equal(a.at + 12, last, sizeof last);
    resize_axis_free(&a);
    axis(&a, RESIZE_CUBIC, 4, 8);
    static const int32_t left[] = {0, 0, 0, 1}; // x = -0.25: floor is -1
    assert_memory_equal(a.at, left, sizeof left);
    for (size_t k = 0; k < 4; k++) {
        assert_true(fabsf(a.w[4 + k] - quarter[k]) < 1e-7F);
        assert_true(fabsf(a.w[k] - quarter[3 - k]) < 1e-7F);
    }
    resize_axis_free(&a);
}

static void test_identity(void **state)
{
    struct resize_axis a;
    (void)state;
    axis(&a, RESIZE_CUBIC, 224, 224);
    for (size_t d = 0; d < 224; d++) {
        assert_int_equal(a.at[4 * d + 1], d);
        assert_true(a.w[4 * d] == 0 && a.w[4 * d + 1] == 1 && a.w[4 * d + 2] == 0 &&
                    a.w[4 * d + 3] == 0);
    }
    resize_axis_free(&a);
}

static void test_antialias_weights(void **state)
{
    static const size_t sizes[][2] = {{568, 397}, {320, 224},  {10, 224},
                                      {1, 224},   {5000, 224}, {224, 224}};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct resize_axis a;
        axis(&a, RESIZE_CUBIC_AA, sizes[i][0], sizes[i][1]);
        for (size_t d = 0; d < a.n_out; d++) {
            double sum = 0;
            for (size_t k = 0; k < a.n_tap; k++) {
                sum += (double)a.w[d * a.n_tap + k];
                assert_true(a.at[d * a.n_tap + k] >= 0 &&
                            (size_t)a.at[d * a.n_tap + k] < sizes[i][0]);
            }
            assert_true(fabs(sum - 1) < 1e-5);
        }
        assert_int_equal(resize_axis_bytes(RESIZE_CUBIC_AA, sizes[i][0], sizes[i][1], a.n_out),
                         a.n_out * a.n_tap * 8);
        resize_axis_free(&a);
    }
}

// A window of the outputs has the same taps as the whole.
static void test_window(void **state)
{
    struct resize_axis whole, part;
    (void)state;
    for (int k = RESIZE_CUBIC; k <= RESIZE_CUBIC_AA; k++) {
        axis(&whole, (enum resize_kernel)k, 568, 397);
        assert_int_equal(resize_axis_init(&part, (enum resize_kernel)k, 568, 397, 86, 224, NULL),
                         0);
        assert_memory_equal(part.w, whole.w + 86 * whole.n_tap, 224 * part.n_tap * sizeof(float));
        assert_memory_equal(part.at, whole.at + 86 * whole.n_tap,
                            224 * part.n_tap * sizeof(int32_t));
        resize_axis_free(&whole);
        resize_axis_free(&part);
    }
}

static double kernel(double u, double a)
{
    u = fabs(u);
    if (u <= 1)
        return ((a + 2) * u - (a + 3)) * u * u + 1;
    return u < 2 ? ((a * u - 5 * a) * u + 8 * a) * u - 4 * a : 0;
}

// One axis of the formula in double: weights[n_in] of output d.
static void weights_of(double *w, enum resize_kernel k, size_t n_in, size_t n_out, size_t d)
{
    double scale = (double)n_in / (double)n_out, sum = 0;
    memset(w, 0, n_in * sizeof *w);
    if (k == RESIZE_CUBIC) {
        double x = scale * ((double)d + 0.5) - 0.5;
        for (int i = (int)floor(x) - 1; i <= (int)floor(x) + 2; i++)
            w[i < 0 ? 0 : i >= (int)n_in ? (int)n_in - 1 : i] += kernel(x - i, -0.75);
        return;
    }
    double center = scale * ((double)d + 0.5), stretch = fmax(scale, 1), reach = 2 * stretch;
    int lo = (int)fmax(trunc(center - reach + 0.5), 0),
        hi = (int)fmin(trunc(center + reach + 0.5), (double)n_in);
    for (int i = lo; i < hi; i++)
        sum += w[i] = kernel((i - center + 0.5) / stretch, -0.5);
    for (int i = lo; i < hi; i++)
        w[i] /= sum;
}

static void compare(enum resize_kernel k, size_t w, size_t h, size_t to_w, size_t to_h)
{
    struct resize_axis x, y;
    uint8_t *rgb = mem_calloc(w * h, 3);
    double *wx = mem_calloc(w, sizeof *wx), *wy = mem_calloc(h, sizeof *wy);
    float *out = mem_calloc(to_w * to_h, 3 * sizeof *out),
          *out2 = mem_calloc(to_w * to_h, 3 * sizeof *out2);
    float *planes = mem_calloc(w * h, 3 * sizeof *planes);
    double worst = 0;
    for (size_t i = 0; i < w * h * 3; i++) {
        rgb[i] = (uint8_t)((i * 2654435761u) >> 11);
        planes[i % 3 * w * h + i / 3] = (float)rgb[i] / 255;
    }
    axis(&x, k, w, to_w);
    axis(&y, k, h, to_h);
    float *scratch = mem_calloc(resize_scratch(&x, &y), sizeof *scratch);
    resize_rgb(&x, &y, (struct rgb_view){rgb, (ptrdiff_t)(3 * w), 3}, 255, out, to_w * to_h, to_w,
               scratch);
    resize_planes(&x, &y, planes, w * h, w, out2, to_w * to_h, to_w, scratch);
    assert_memory_equal(out, out2, to_w * to_h * 3 * sizeof *out);
    for (size_t r = 0; r < to_h; r++) {
        weights_of(wy, k, h, to_h, r);
        for (size_t c = 0; c < to_w; c++) {
            weights_of(wx, k, w, to_w, c);
            for (size_t ch = 0; ch < 3; ch++) {
                double sum = 0;
                for (size_t i = 0; i < h; i++) {
                    for (size_t j = 0; j < w && wy[i] != 0; j++)
                        sum += wy[i] * wx[j] * rgb[(i * w + j) * 3 + ch] / 255;
                }
                worst = fmax(worst, fabs(sum - (double)out[(ch * to_h + r) * to_w + c]));
            }
        }
    }
    if (!(worst < 4e-5)) // t carries the rounding of x, up to w * 2^-24
        fail_msg("%zux%zu to %zux%zu: off by %g", w, h, to_w, to_h, worst);
    resize_axis_free(&x);
    resize_axis_free(&y);
    mem_free(scratch);
    mem_free(planes);
    mem_free(out);
    mem_free(out2);
    mem_free(wx);
    mem_free(wy);
    mem_free(rgb);
}

static void test_formula(void **state)
{
    static const size_t sizes[][4] = {{1, 1, 5, 7},     {2, 3, 8, 8},    {7, 5, 3, 2},
                                      {53, 37, 40, 24}, {40, 30, 9, 9},  {16, 16, 16, 16},
                                      {3, 100, 20, 11}, {100, 3, 11, 20}};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t *s = sizes[i];
        compare(RESIZE_CUBIC, s[0], s[1], s[2], s[3]);
        compare(RESIZE_CUBIC_AA, s[0], s[1], s[2], s[3]);
    }
}

// Walking a picture backwards equals resizing the turned picture.
static void test_backwards(void **state)
{
    enum { W = 13, H = 9, N = W * H * 3, TO = 6 };
    uint8_t rgb[N], turned[N];
    float a[3 * TO * TO], b[3 * TO * TO];
    struct resize_axis x, y;
    (void)state;
    for (size_t i = 0; i < W * H; i++) {
        for (size_t c = 0; c < 3; c++) {
            rgb[3 * i + c] = (uint8_t)(i * 7 + c * 31);
            turned[3 * (W * H - 1 - i) + c] = rgb[3 * i + c];
        }
    }
    axis(&x, RESIZE_CUBIC, W, TO);
    axis(&y, RESIZE_CUBIC, H, TO);
    float *scratch = mem_calloc(resize_scratch(&x, &y), sizeof *scratch);
    resize_rgb(&x, &y, (struct rgb_view){turned, 3 * W, 3}, 1, a, TO * TO, TO, scratch);
    resize_rgb(&x, &y, (struct rgb_view){rgb + N - 3, -3 * W, -3}, 1, b, TO * TO, TO, scratch);
    assert_memory_equal(a, b, sizeof a);
    mem_free(scratch);
    resize_axis_free(&x);
    resize_axis_free(&y);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (uint64_t k = 1; k <= 2; k++) {
        struct resize_axis a;
        struct err e = {0};
        mem_fail_after(k);
        assert_int_equal(resize_axis_init(&a, RESIZE_CUBIC, 10, 20, 0, 20, &e), ERR_LIMIT);
        mem_fail_after(0);
        assert_null(a.at);
        assert_null(a.w);
        resize_axis_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),           cmocka_unit_test(test_identity),
        cmocka_unit_test(test_antialias_weights), cmocka_unit_test(test_window),
        cmocka_unit_test(test_formula),           cmocka_unit_test(test_backwards),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
