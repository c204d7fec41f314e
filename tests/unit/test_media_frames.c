// SPDX-License-Identifier: MIT
// Frame choice and the time sentence: the tables of SPEC 3.1 and 3.9.
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/frames.h"

static void test_sample(void **state)
{
    static const struct {
        size_t n, s;
        int32_t want[16];
    } rows[] = {
        {300, 8, {18, 55, 93, 130, 168, 205, 242, 280}},
        {300, 16, {9, 28, 46, 65, 84, 102, 121, 140, 159, 177, 196, 215, 233, 252, 271, 289}},
        {250, 8, {15, 46, 77, 108, 139, 171, 202, 233}},
        {8, 8, {0, 1, 2, 3, 4, 4, 5, 6}},
        {5, 8, {0, 0, 1, 2, 2, 2, 3, 4}},
        {2, 8, {0, 0, 0, 0, 0, 1, 1, 1}},
        {1, 8, {0}},
        {16, 16, {0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14}},
        {17, 8, {1, 3, 5, 7, 9, 11, 13, 15}},
    };
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        int32_t index[16], shifted[16];
        assert_int_equal(frames_sample(0, rows[r].n, rows[r].s, index, NULL), 0);
        assert_memory_equal(index, rows[r].want, rows[r].s * sizeof *index);
        assert_int_equal(frames_sample(1000, rows[r].n, rows[r].s, shifted, NULL), 0);
        for (size_t i = 0; i < rows[r].s; i++)
            assert_int_equal(shifted[i], index[i] + 1000);
    }
}

static void test_sample_inside(void **state)
{
    int32_t index[FRAMES_SEGMENT_MAX];
    static const size_t n[] = {1, 2, 3, 7, 100, 4095, 4096, 4097, 1000000, INT32_MAX};
    (void)state;
    for (size_t k = 0; k < sizeof n / sizeof n[0]; k++) {
        for (size_t s = 1; s <= FRAMES_SEGMENT_MAX; s = s * 2 + 1) {
            assert_int_equal(frames_sample(0, n[k], s, index, NULL), 0);
            for (size_t i = 0; i < s; i++)
                assert_true(index[i] >= (i ? index[i - 1] : 0) && (size_t)index[i] < n[k]);
        }
    }
}

static void test_sample_refuses(void **state)
{
    int32_t index[8];
    struct err e = {0};
    (void)state;
    assert_int_equal(frames_sample(0, 10, 0, index, &e), ERR_USAGE);
    assert_int_equal(frames_sample(0, 0, 8, index, &e), ERR_MEDIA);
    assert_int_equal(frames_sample(0, 10, FRAMES_SEGMENT_MAX + 1, index, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "4097 frames asked for, at most 4096"));
    assert_int_equal(frames_sample(0, (size_t)INT32_MAX + 1, 8, index, &e), ERR_LIMIT);
    assert_int_equal(frames_sample(SIZE_MAX, 8, 8, index, &e), ERR_LIMIT);
}

static void check_text(const int32_t *index, size_t n, double fps, const char *want)
{
    char *text;
    assert_int_equal(frames_time_text(index, n, fps, &text, NULL), 0);
    assert_string_equal(text, want);
    mem_free(text);
}

static void test_time_text(void **state)
{
    static const int32_t yoga[] = {18, 55, 93, 130, 168, 205, 242, 280};
    static const int32_t halves[] = {35, 105, 45, 25, 300, 0}; // 0.35 1.05 0.45 0.25 3 0 at 100 fps
    (void)state;
    check_text(
        yoga, 8, 30,
        "The video contains 8 frames sampled at 0.6, 1.8, 3.1, 4.3, 5.6, 6.8, 8.1, 9.3 seconds.");
    check_text(halves, 6, 100,
               "The video contains 6 frames sampled at 0.4, 1.0, 0.4, 0.2, 3.0, 0.0 seconds.");
    check_text(yoga, 1, 30, "The video contains 1 frames sampled at 0.6 seconds.");
    if (setlocale(LC_ALL, "de_DE.UTF-8"))
        check_text(yoga, 1, 30, "The video contains 1 frames sampled at 0.6 seconds.");
    setlocale(LC_ALL, "C");
}

static void test_time_text_unknown(void **state)
{
    static const double rates[] = {0, -1, 0.0 / 0.0, 1.0 / 0.0};
    static const int32_t last = INT32_MAX;
    char *text;
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        text = (char *)1;
        assert_int_equal(frames_time_text(&last, 1, rates[i], &text, &e), 0);
        assert_null(text);
    }
    assert_int_equal(frames_time_text(&last, 1, 1e-300, &text, &e), ERR_MEDIA);
    assert_null(text);
    for (uint64_t k = 1; k < 10; k++) {
        mem_fail_after(k);
        int rc = frames_time_text(&last, 1, 30, &text, &e);
        mem_fail_after(0);
        if (rc == 0) {
            assert_true(k > 1);
            mem_free(text);
            return;
        }
        assert_int_equal(rc, ERR_LIMIT);
        assert_null(text);
    }
    fail_msg("never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_sample_inside),
        cmocka_unit_test(test_sample_refuses),
        cmocka_unit_test(test_time_text),
        cmocka_unit_test(test_time_text_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
