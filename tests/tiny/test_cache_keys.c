// SPDX-License-Identifier: MIT
// What tells one piece of visual rows from another: every parameter that matters is part of the key.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "tempdir.h"

static struct tempdir dir;

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

struct look {
    struct iv_media_options o;
    const char *path, *instruction;
    bool image;
};

// Whether the rows for these options were there already.
static bool was_kept(const iv_engine *g, const struct look *l)
{
    struct iv_session_options so = iv_session_options_default();
    struct iv_error e;
    struct reply r;
    iv_media *m;
    int rc = l->image ? iv_media_open_images(g, &l->path, 1, &l->o, &m, &e)
                      : iv_media_open_video(g, l->path, &l->o, &m, &e);
    if (rc != IV_OK)
        fail_msg("%s", e.message);
    so.instruction = l->instruction;
    iv_session *s = session_fixture(g, m, &so);
    ask_fixture(s, "Hi", NULL, &r);
    iv_session_close(s);
    iv_media_close(m);
    return r.media_cached;
}

static void every_parameter_is_in_the_key(void **state)
{
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    struct look l[10];
    (void)state;
    for (size_t i = 0; i < 10; i++)
        l[i] = (struct look){.o = iv_media_options_default(),
                             .path = TEST_ROOT "/fixtures/media/bframes.mp4"};
    for (size_t i = 0; i < 10; i++)
        l[i].o.n_frame = 2;
    l[1].o.n_frame = 1;
    l[2].o.start_s = 1;
    l[3].o.padding = true;
    l[4].o.fix_cols = 1;
    l[5].instruction = "Look.";
    l[6].instruction = "Look!";
    l[7].path = TEST_ROOT "/fixtures/media/bframes.mkv"; // the same pictures in other bytes
    l[8].o.padding = true;
    l[8].o.hd_num = 2;
    l[9].image = true;
    for (size_t i = 0; i < 10; i++)
        if (was_kept(g, &l[i]))
            fail_msg("option %zu is not in the key", i);
    for (size_t i = 0; i < 10; i++)
        assert_true(was_kept(g, &l[i]));
    // segments share what a media of the same part made
    struct look part = l[0];
    part.o.end_s = 1.5;
    assert_false(was_kept(g, &part));
    part.o.end_s = 0;
    part.o.segment_s = 1.5;
    assert_false(was_kept(g, &part)); // not all of them
    part.o.segment_s = 0;
    part.o.start_s = 1.5;
    part.o.end_s = 3;
    assert_true(was_kept(g, &part));
    iv_engine_close(g);
}

// One folder for engines of another precision, tier, variant: none takes what another left, and each finds its own.
static void engines_of_one_folder(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *cpu, *variant;
    } kind[] = {
        {"bf16", NULL, "hd"}, {"f32", NULL, "hd"}, {"bf16", "ref", "hd"}, {"bf16", NULL, "8b"}};
    const char *golden = engine_fixture_golden();
    struct look l = {.o = iv_media_options_default(),
                     .path = TEST_ROOT "/fixtures/media/photo.jpg",
                     .image = true};
    char cache_path[300];
    snprintf(cache_path, sizeof cache_path, "%s/rows", dir.path);
    for (size_t i = 0; i < 2 * sizeof kind / sizeof *kind + 2; i++) {
        size_t k = i / 2;
        struct iv_engine_options o = engine_fixture_options();
        o.cache_dir = cache_path;
        if (k < sizeof kind / sizeof *kind) {
            o.dtype = kind[k].dtype;
            o.cpu = kind[k].cpu;
            o.variant = kind[k].variant;
        } else if (golden) {
            o.model = golden;
        } else {
            break;
        }
        iv_engine *g = engine_fixture_open(&o);
        bool kept = was_kept(g, &l);
        iv_engine_close(g);
        if (kept != (i % 2 == 1))
            fail_msg("engine %zu: rows of another or not its own", k);
    }
}

// The 8b variant looks at antialias, others at the grid; images in another order are another media, and so are RGB
// frames of other bytes.
static void more_of_the_key(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    struct iv_media_options mo = iv_media_options_default();
    struct look l = {.o = mo, .path = TEST_ROOT "/fixtures/media/photo.jpg", .image = true};
    const char *two[2] = {TEST_ROOT "/fixtures/media/photo.jpg",
                          TEST_ROOT "/fixtures/media/palette.png"};
    static uint8_t rgb[2][32 * 32 * 3];
    struct iv_error e;
    struct reply r;
    eo.variant = "8b";
    iv_engine *g = engine_fixture_open(&eo);
    assert_false(was_kept(g, &l));
    l.o.antialias = false;
    assert_false(was_kept(g, &l));
    assert_true(was_kept(g, &l));
    iv_engine_close(g);
    eo.variant = NULL;
    g = engine_fixture_open(&eo);
    l.o = mo;
    assert_false(was_kept(g, &l));
    l.o.fix_rows = 2;
    assert_false(was_kept(g, &l));
    for (int i = 0; i < 3; i++) { // one order, the other, the first again
        const char *names[2] = {two[i % 2], two[1 - i % 2]};
        iv_media *m;
        if (iv_media_open_images(g, names, 2, &mo, &m, &e) != IV_OK)
            fail_msg("%s", e.message);
        iv_session *s = session_fixture(g, m, NULL);
        ask_fixture(s, "Hi", NULL, &r);
        assert_int_equal(r.media_cached, i == 2);
        iv_session_close(s);
        iv_media_close(m);
    }
    memset(rgb[1], 9, sizeof rgb[1]);
    for (int i = 0; i < 3; i++) {
        iv_media *m;
        if (iv_media_from_rgb(g, rgb[i % 2], 1, 32, 32, 1, &mo, &m, &e) != IV_OK)
            fail_msg("%s", e.message);
        iv_session *s = session_fixture(g, m, NULL);
        ask_fixture(s, "Hi", NULL, &r);
        assert_int_equal(r.media_cached, i == 2);
        iv_session_close(s);
        iv_media_close(m);
    }
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_is_in_the_key),
        cmocka_unit_test_setup_teardown(engines_of_one_folder, setup, teardown),
        cmocka_unit_test(more_of_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
