// SPDX-License-Identifier: MIT
// Presentation order, where decoding may start, and the H.264 framing that decides it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "media/nal.h"
#include "media/packets.h"

static void fill(struct packets *p, const int64_t *pts, const char *entries)
{
    memset(p, 0, sizeof *p);
    for (size_t i = 0; entries[i]; i++) {
        struct packet one = {.pts = pts ? pts[i] : (int64_t)i,
                             .pos = -1,
                             .entry = entries[i] == 'K'   ? ENTRY_EXACT
                                      : entries[i] == 's' ? ENTRY_SOON
                                                          : ENTRY_NO};
        assert_int_equal(packets_add(p, one, 100, "list", NULL), 0);
    }
    assert_int_equal(packets_sort(p, "list", NULL), 0);
}

static void test_order(void **state)
{
    // I P B B, then two of equal time, then one far back
    static const int64_t pts[] = {0, 30, 10, 20, 50, 50, -7};
    static const uint32_t order[] = {6, 0, 2, 3, 1, 4, 5};
    struct packets p;
    (void)state;
    fill(&p, pts, "K......");
    assert_true(p.timed);
    assert_memory_equal(p.order, order, sizeof order);
    for (uint32_t r = 0; r < 7; r++)
        assert_int_equal(p.at[p.order[r]].rank, r);
    assert_true(packets_seconds(&p, 2, 0.1, 0) > 1.69 && packets_seconds(&p, 2, 0.1, 0) < 1.71);
    packets_free(&p);
}

static void test_extreme_times(void **state)
{
    static const int64_t pts[] = {INT64_MAX, INT64_MIN + 1, 0};
    struct packets p;
    (void)state;
    fill(&p, pts, "K..");
    assert_int_equal(p.order[0], 1);
    assert_int_equal(p.order[2], 0);
    assert_true(packets_seconds(&p, 2, 1, 0) > 1.8e19); // no overflow
    packets_free(&p);
}

static void test_untimed(void **state)
{
    static const int64_t pts[] = {5, PACKET_NO_TIME, 1};
    struct packets p;
    (void)state;
    fill(&p, pts, "K..");
    assert_false(p.timed);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(p.order[i], i);
    assert_true(packets_seconds(&p, 2, 1, 4) == 0.5);
    assert_true(packets_seconds(&p, 2, 1, 0) == 0);
    assert_int_equal(packets_first_whole(&p), 0);
    packets_free(&p);
}

static void test_entry(void **state)
{
    // file order; the pictures 4, 5 come after key 6 in the file and before it on the screen
    static const int64_t pts[] = {0, 3, 1, 2, 6, 4, 5, 7, 8};
    static const size_t want[] = {0, 0, 0, 0, 0, 0, 4, 4, 4};
    struct packets p;
    (void)state;
    fill(&p, pts, "K...K....");
    for (size_t r = 0; r < 9; r++)
        assert_int_equal(packets_entry(&p, r), want[r]);
    packets_free(&p);
    fill(&p, NULL, "K..s..s..s..K..");
    static const size_t soon[] = {0, 0, 0, 0, 0, 0, 3, 3, 3, 6, 6, 6, 12, 12, 12};
    for (size_t r = 0; r < 15; r++)
        assert_int_equal(packets_entry(&p, r), soon[r]);
    packets_free(&p);
    fill(&p, NULL, "....s...");
    assert_int_equal(packets_entry(&p, 7), 0);
    assert_int_equal(packets_first_whole(&p), 4);
    packets_free(&p);
}

static void test_limits(void **state)
{
    struct packets p = {0};
    struct packet one = {.pts = 1};
    struct err e = {0};
    (void)state;
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(packets_add(&p, one, 300, "list", &e), 0);
    assert_int_equal(packets_add(&p, one, 300, "list", &e), ERR_LIMIT);
    assert_string_equal(e.msg, "list: more than 300 frames");
    for (uint64_t k = 1; k <= 2; k++) {
        mem_fail_after(k);
        assert_int_equal(packets_sort(&p, "list", &e), ERR_LIMIT);
        mem_fail_after(0);
    }
    assert_int_equal(packets_sort(&p, "list", &e), 0);
    packets_free(&p);
    mem_fail_after(1);
    assert_int_equal(packets_add(&p, one, 300, "list", &e), ERR_LIMIT);
    mem_fail_after(0);
    assert_int_equal(p.n, 0);
}

static void test_nal(void **state)
{
    static const uint8_t avcc[] = {1, 100, 0, 30, 0xff, 0xe1, 0, 0};  // 4-byte lengths
    static const uint8_t avcc2[] = {1, 100, 0, 30, 0xfd, 0xe1, 0, 0}; // 2-byte lengths
    static const uint8_t idr4[] = {0, 0, 0, 2, 6, 9, 0, 0, 0, 3, 0x65, 1, 2};
    static const uint8_t slice4[] = {0, 0, 0, 2, 6, 9, 0, 0, 0, 3, 0x41, 0x65, 2};
    static const uint8_t idr2[] = {0, 2, 6, 9, 0, 1, 0x25};
    static const uint8_t annexb[] = {0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 8};
    static const uint8_t lies[] = {0xff, 0xff, 0xff, 0xff, 6, 0x65};
    (void)state;
    assert_true(nal_has_idr(idr4, sizeof idr4, avcc, sizeof avcc));
    assert_false(nal_has_idr(slice4, sizeof slice4, avcc, sizeof avcc));
    assert_true(nal_has_idr(idr2, sizeof idr2, avcc2, sizeof avcc2));
    assert_true(nal_has_idr(annexb, sizeof annexb, NULL, 0));
    assert_false(nal_has_idr(slice4, sizeof slice4, NULL, 0));
    assert_false(nal_has_idr(lies, sizeof lies, avcc, sizeof avcc));
    for (size_t n = 0; n < sizeof idr4; n++) // cut anywhere: no read past the end
        assert_int_equal(nal_has_idr(idr4, n, avcc, sizeof avcc), n > 10);
    for (size_t n = 0; n < 10; n++)
        assert_false(nal_has_idr(annexb, n, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),   cmocka_unit_test(test_extreme_times),
        cmocka_unit_test(test_untimed), cmocka_unit_test(test_entry),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_nal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
