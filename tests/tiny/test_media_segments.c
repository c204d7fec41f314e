// SPDX-License-Identifier: MIT
// Long videos in segments: each is what the part of the video by itself would be, all of them join in
// one prompt, and memory does not grow with their number.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "tempdir.h"

static const char video[] = TEST_ROOT "/fixtures/media/bframes.mp4"; // 48 frames in 4 seconds

static iv_engine *engine;

static int setup(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    o.cache_mib = 0; // everything is computed
    engine = engine_fixture_open(&o);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    iv_engine_close(engine);
    return 0;
}

static iv_media *open_video(const char *path, double start, double end, double segment)
{
    struct iv_media_options o = iv_media_options_default();
    struct iv_error e;
    iv_media *m;
    o.n_frame = 2;
    o.start_s = start;
    o.end_s = end;
    o.segment_s = segment;
    if (iv_media_open_video(engine, path, &o, &m, &e) != IV_OK)
        fail_msg("%s", e.message);
    return m;
}

static float *stage(iv_media *m, enum iv_stage which, size_t *n)
{
    float *v;
    size_t dim[6];
    unsigned rank;
    struct iv_error e;
    if (iv_media_stage(m, which, "Look.", &v, dim, &rank, &e) != IV_OK)
        fail_msg("%s", e.message);
    *n = 1;
    for (unsigned i = 0; i < rank; i++)
        *n *= dim[i];
    return v;
}

static void expect_part(iv_media *all, size_t i, const float *rows, size_t n_rows, double start,
                        double end)
{
    iv_media *part = open_video(video, start, end, 0), *own;
    const struct iv_media_info *a = iv_media_info(all), *p = iv_media_info(part), *o;
    struct iv_error e;
    size_t n, n_own;
    if (iv_media_segment(all, i, &own, &e) != IV_OK)
        fail_msg("%s", e.message);
    o = iv_media_info(own);
    assert_true(a->segment_s[i] == start);
    assert_memory_equal(a->frame_index + 2 * i, p->frame_index, 2 * sizeof *p->frame_index);
    assert_memory_equal(o->frame_index, p->frame_index, 2 * sizeof *p->frame_index);
    assert_string_equal(o->time_text, p->time_text);
    assert_string_equal(o->sha256, p->sha256);
    float *want = stage(part, IV_STAGE_PROJECTED, &n), *got;
    assert_int_equal(n, n_rows);
    assert_memory_equal(rows + i * n_rows, want, n * sizeof *want);
    got = stage(own, IV_STAGE_PROJECTED, &n_own);
    assert_int_equal(n_own, n);
    assert_memory_equal(got, want, n * sizeof *want);
    iv_free(got);
    iv_free(want);
    iv_media_close(own);
    iv_media_close(part);
}

static void segments_are_parts(void **state)
{
    (void)state;
    iv_media *all = open_video(video, 0.5, 3.4, 1);
    const struct iv_media_info *a = iv_media_info(all);
    size_t n, n_queries;
    assert_int_equal(a->n_segment, 3); // 0.5, 1.5 and a short one from 2.5 s
    assert_int_equal(a->n_frame, 6);
    assert_int_equal(a->n_clip, 9);
    assert_non_null(strstr(a->time_text, "contains 6 frames sampled at 0.7"));
    float *rows = stage(all, IV_STAGE_PROJECTED, &n);
    expect_part(all, 0, rows, n / 3, 0.5, 1.5);
    expect_part(all, 1, rows, n / 3, 1.5, 2.5);
    expect_part(all, 2, rows, n / 3, 2.5, 3.4);
    float *queries = stage(all, IV_STAGE_QFORMER, &n_queries);
    assert_true(n_queries > 0 && isfinite(queries[n_queries - 1]) && queries[0] != 0);
    iv_free(queries);
    iv_free(rows);
    iv_media_close(all);
}

static void edges(void **state)
{
    (void)state;
    struct iv_media_options o = iv_media_options_default();
    struct iv_error e;
    iv_media *m, *part;
    float *v;
    size_t dim[6];
    unsigned rank;
    m = open_video(video, 0, 0, 1000); // one piece
    assert_int_equal(iv_media_info(m)->n_segment, 1);
    assert_int_equal(iv_media_segment(m, 1, &part, &e), IV_ERR_USAGE);
    assert_null(part);
    assert_int_equal(iv_media_stage(m, IV_STAGE_VIT, NULL, &v, dim, &rank, &e), IV_ERR_USAGE);
    // what comes from a file has rows, but no frames to cut
    struct tempdir dir;
    iv_media *again;
    tempdir_make(&dir);
    char path[512];
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "rows.ivchat"));
    assert_int_equal(iv_media_save(m, NULL, path, &e), IV_OK);
    assert_int_equal(iv_media_load(engine, path, NULL, &again, &e), IV_OK);
    assert_int_equal(iv_media_info(again)->n_segment, 1);
    assert_int_equal(iv_media_segment(again, 0, &part, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "without its frames"));
    iv_media_close(again);
    tempdir_remove(&dir);
    iv_media_close(m);
    m = open_video(video, 0, 0, 0);
    assert_int_equal(iv_media_info(m)->n_segment, 0);
    assert_int_equal(iv_media_segment(m, 0, &part, &e), IV_ERR_USAGE);
    iv_media_close(m);
    m = open_video(TEST_ROOT "/fixtures/media/one.mp4", 0, 0, 1);
    assert_int_equal(iv_media_info(m)->n_segment, 1);
    iv_media_close(m);
    m = open_video(video, 0, 0, 0.001); // shorter than frames are apart: one each, gaps left out
    assert_int_equal(iv_media_info(m)->n_segment, iv_media_info(m)->frame_count);
    iv_media_close(m);
    static const double bad[] = {-1, 0.0001, INFINITY, NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.segment_s = bad[i];
        assert_int_equal(iv_media_open_video(engine, video, &o, &m, &e), IV_ERR_USAGE);
        assert_non_null(strstr(e.message, "segments"));
    }
}

// All segments in one prompt, with the time sentence; too many for the context is told before any work.
static void join_in_one_prompt(void **state)
{
    (void)state;
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_error e;
    struct iv_answer a;
    struct reply r;
    int32_t *ids;
    size_t n, n_visual = 0;
    iv_media *m = open_video(video, 0, 0, 1);
    so.time_text = true;
    iv_session *s = session_fixture(engine, m, &so);
    assert_int_equal(iv_session_prompt_ids(s, "Hi", NULL, &ids, &n, &e), IV_OK);
    for (size_t i = 0; i < n; i++)
        n_visual += ids[i] < 0;
    assert_int_equal(n_visual, 4 * 3 * 96);
    iv_free(ids);
    ask_fixture(s, "Hi", NULL, &r);
    assert_int_equal(r.prompt, n);
    iv_session_close(s);
    so.n_ctx = 1000;
    s = session_fixture(engine, m, &so);
    assert_int_equal(iv_session_ask(s, "Hi", &ask, &a, &e), IV_ERR_LIMIT);
    assert_non_null(strstr(e.message, "1152"));
    assert_true(iv_media_info(m)->vision_ms >= 0);
    iv_session_close(s);
    iv_media_close(m);
}

static void count_vision(void *user, const char *name, uint64_t done, uint64_t total)
{
    (void)done, (void)total;
    *(size_t *)user += strcmp(name, "vision") == 0;
}

// Nothing is encoded that no conversation can hold, and nothing twice for a file, though caches are off.
static void encoded_ahead(void **state)
{
    (void)state;
    struct iv_media_options o = iv_media_options_default();
    struct tempdir dir;
    struct iv_error e;
    size_t n_vision = 0, before;
    char path[512];
    iv_media *m;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "rows.ivchat"));
    o.callbacks = (struct iv_callbacks){.user = &n_vision, .progress = count_vision};
    o.n_frame = 1;
    o.segment_s = 0.001;
    o.fix_cols = o.fix_rows = 4;
    assert_int_equal(iv_media_open_video(engine, video, &o, &m, &e), IV_OK);
    assert_int_equal(iv_media_encode(m, NULL, &e), IV_ERR_LIMIT);
    assert_non_null(strstr(e.message, "816 clips of 96 rows"));
    assert_int_equal(iv_media_save(m, NULL, path, &e), IV_ERR_LIMIT);
    assert_int_equal(n_vision, 0);
    iv_media_close(m);
    o.segment_s = 2;
    o.fix_cols = o.fix_rows = 1;
    assert_int_equal(iv_media_open_video(engine, video, &o, &m, &e), IV_OK);
    assert_int_equal(iv_media_encode(m, NULL, &e), IV_OK);
    before = n_vision;
    assert_true(before > 0);
    assert_int_equal(iv_media_save(m, NULL, path, &e), IV_OK);
    assert_int_equal(n_vision, before);
    iv_media_close(m);
    tempdir_remove(&dir);
}

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

// 48 segments of 3 clips: their pixels would take 174 MB, their vision rows 9 MB.
static void memory_is_bounded(void **state)
{
    (void)state;
    iv_media *m = open_video(video, 0, 0, 4), *many;
    size_t n;
    iv_free(stage(m, IV_STAGE_PROJECTED, &n));
    iv_media_close(m);
    long before = resident_kib();
    many = open_video(video, 0, 0, 0.01);
    assert_int_equal(iv_media_info(many)->n_segment, 48);
    iv_free(stage(many, IV_STAGE_PROJECTED, &n));
    assert_int_equal(n / 48 % (3 * 96), 0);
    long after = resident_kib();
    print_message("# peak %ld KiB with one segment, %ld with 48\n", before, after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(after - before < 40 << 10);
#endif
    iv_media_close(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_parts), cmocka_unit_test(edges),
        cmocka_unit_test(join_in_one_prompt), cmocka_unit_test(encoded_ahead),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
