// SPDX-License-Identifier: MIT
// What frames take on their way to the pixels (frame_batch_bytes) is what a batch makes: of any size of frame and
// number of threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/frame_batch.h"

static void check(unsigned threads, size_t n_frame, size_t width, size_t height, size_t n_lane)
{
    struct clips_options o = clips_options_default();
    struct clips_plan p;
    struct clips c;
    struct frame_batch b;
    struct pool *pool;
    assert_int_equal(pool_open(threads, &pool, NULL), 0);
    assert_int_equal(clips_plan(&p, &o, n_frame, width, height, NULL), 0);
    assert_int_equal(clips_init(&c, &p, NULL), 0);
    assert_int_equal(frame_batch_open(&b, &c, pool, NULL), 0);
    assert_int_equal(b.n_lane, n_lane);
    assert_int_equal(frame_batch_bytes(&p, pool),
                     n_lane ? n_lane * (p.frame_bytes + p.work_bytes) : p.work_bytes);
    assert_true(frame_batch_bytes(&p, pool) <= (size_t)64 << 20 || n_lane == 0);
    frame_batch_close(&b);
    clips_free(&c);
    pool_close(pool);
}

static void sizes(void **state)
{
    (void)state;
    check(1, 8, 1280, 720, 0); // nothing is gathered
    check(2, 8, 1280, 720, 2);
    check(8, 8, 96, 64, 8);
    check(8, 3, 96, 64, 3);
    check(20, 40, 96, 64, FRAME_BATCH_MAX);
    check(8, 8, 3840, 2160, 2); // no more fit
    check(8, 8, 7680, 4320, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
