// SPDX-License-Identifier: MIT
// Conversations on disk: going on after loading is as if one had never left; what is damaged, foreign or
// cut short is refused with the reason.
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine_fixture.h"
#include "tempdir.h"

static struct tempdir dir;
static char path[512];

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s", tempdir_path(&dir, "talk.ivchat"));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

static void save(iv_session *s)
{
    struct iv_error e;
    if (iv_session_save(s, path, &e) != IV_OK)
        fail_msg("%s", e.message);
}

static void load(const iv_engine *g, iv_media **m, iv_session **s)
{
    struct iv_session_options o = iv_session_options_default();
    struct iv_error e;
    if (iv_session_load(g, path, &o, m, s, &e) != IV_OK)
        fail_msg("%s", e.message);
}

static iv_session *talk(const iv_engine *g, iv_media *m, struct reply *first)
{
    struct iv_session_options o = iv_session_options_default();
    o.instruction = "Look closely.";
    o.msg = "Taken at night.";
    iv_session *s = session_fixture(g, m, &o);
    ask_fixture(s, "What happens?", NULL, first);
    return s;
}

static void *read_all(const char *file, size_t *n)
{
    FILE *f = fopen(file, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static void write_all(const char *file, const void *p, size_t n)
{
    FILE *f = fopen(file, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

// Sampling too: the seed and the other numbers come back with the file.
static void goes_on_with_the_same_tokens(void **state)
{
    static const char *const dtypes[] = {"bf16", "f32"};
    (void)state;
    for (size_t d = 0; d < 2; d++) {
        struct iv_engine_options eo = engine_fixture_options();
        eo.dtype = dtypes[d];
        iv_engine *g = engine_fixture_open(&eo);
        iv_media *m = media_fixture_noise(g, 5), *m2;
        struct reply first, stayed, came_back;
        struct iv_ask_options hot = iv_ask_options_default();
        hot.temperature = 1.5;
        hot.seed = 99;
        iv_session *s = talk(g, m, &first), *s2;
        ask_fixture(s, "And \xe5\xa4\x9c?", &hot, &first);
        save(s);
        struct iv_ask_options last = iv_session_last_options(s);
        ask_fixture(s, "Then?", &last, &stayed);
        iv_session_close(s);
        iv_media_close(m);
        iv_engine_close(g);

        g = engine_fixture_open(&eo);
        load(g, &m2, &s2);
        struct iv_turn turn;
        assert_int_equal(iv_session_n_turn(s2), 2);
        assert_int_equal(iv_session_turn(s2, 1, &turn), IV_OK);
        assert_string_equal(turn.prompt, "And \xe5\xa4\x9c?");
        assert_string_equal(turn.answer, first.text);
        last = iv_session_last_options(s2);
        assert_true(last.temperature == 1.5 && last.seed == 99);
        ask_fixture(s2, "Then?", &last, &came_back);
        assert_same_reply(&stayed, &came_back);
        assert_int_equal(came_back.cached, stayed.cached); // the KV came too
        assert_true(came_back.cached > FIXTURE_CLIPS * 96 && came_back.media_cached);
        assert_int_equal(iv_media_info(m2)->n_clip, FIXTURE_CLIPS);
        iv_session_close(s2);
        iv_media_close(m2);
        iv_engine_close(g);
    }
}

// The process that saved is gone without ceremony.
static void survives_a_killed_process(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct reply r;
        iv_engine *g = engine_fixture_open(&eo);
        save(talk(g, media_fixture_noise(g, 6), &r));
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 6), *m2;
    struct reply first, stayed, came_back;
    iv_session *s = talk(g, m, &first), *s2;
    ask_fixture(s, "Then?", NULL, &stayed);
    load(g, &m2, &s2);
    ask_fixture(s2, "Then?", NULL, &came_back);
    assert_same_reply(&stayed, &came_back);
    iv_session_close(s);
    iv_session_close(s2);
    iv_media_close(m);
    iv_media_close(m2);
    iv_engine_close(g);
}

// KV of another precision is left aside; the answers are those of the engine that reads the file.
static void other_precision_starts_from_the_rows(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 7), *m2;
    struct reply r;
    iv_session *s = talk(g, m, &r), *s2;
    save(s);
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
    eo.dtype = "f32";
    g = engine_fixture_open(&eo);
    load(g, &m2, &s2);
    ask_fixture(s2, "Then?", NULL, &r);
    assert_int_equal(r.cached, 0);
    assert_int_equal(iv_session_n_turn(s2), 2);
    iv_session_close(s2);
    iv_media_close(m2);
    iv_engine_close(g);
}

static void text_only_and_empty(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_session *s = session_fixture(g, NULL, NULL), *s2;
    iv_media *m;
    struct reply a, b;
    save(s);
    load(g, &m, &s2);
    assert_null(m);
    assert_int_equal(iv_session_n_turn(s2), 0);
    ask_fixture(s, "Hi", NULL, &a);
    ask_fixture(s2, "Hi", NULL, &b);
    assert_same_reply(&a, &b);
    iv_session_close(s);
    iv_session_close(s2);
    iv_engine_close(g);
}

// A media that came from a file has its rows and its facts, and says so when more is asked of it.
static void restored_media_tells_what_it_cannot(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    struct reply r;
    iv_media *m = media_fixture_noise(g, 8), *m2;
    iv_session *s = talk(g, m, &r), *s2, *other;
    struct iv_error e;
    float *rows[2], *none;
    size_t dim[6];
    unsigned rank;
    save(s);
    load(g, &m2, &s2);
    iv_media *const both[2] = {m, m2};
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            iv_media_stage(both[i], IV_STAGE_PROJECTED, "Look closely.", &rows[i], dim, &rank, &e),
            IV_OK);
    assert_memory_equal(rows[0], rows[1], dim[0] * dim[1] * sizeof(float));
    iv_free(rows[0]);
    iv_free(rows[1]);
    assert_int_equal(iv_media_stage(m2, IV_STAGE_VIT, NULL, &none, dim, &rank, &e), IV_ERR_USAGE);
    struct iv_session_options o = iv_session_options_default();
    o.instruction = "Another one.";
    other = session_fixture(g, m2, &o);
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer a;
    assert_int_equal(iv_session_ask(other, "Hi", &ask, &a, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "without its frames"));
    iv_session_close(other);
    // saving again writes the same bytes
    size_t n1, n2;
    void *f1 = read_all(path, &n1);
    save(s2);
    void *f2 = read_all(path, &n2);
    assert_int_equal(n1, n2);
    assert_memory_equal(f1, f2, n1);
    free(f1);
    free(f2);
    iv_session_close(s);
    iv_session_close(s2);
    iv_media_close(m);
    iv_media_close(m2);
    iv_engine_close(g);
}

// A media encoded and saved by itself, asked about in another life.
static void media_by_itself(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 3), *m2;
    struct iv_session_options o = iv_session_options_default();
    struct reply want, got;
    struct iv_error e;
    o.instruction = "Look.";
    assert_int_equal(iv_media_encode(m, "Look.", &e), IV_OK);
    iv_session *s = session_fixture(g, m, &o);
    ask_fixture(s, "Hi", NULL, &want);
    assert_true(want.media_cached);
    iv_session_close(s);
    assert_int_equal(iv_media_save(m, "Look.", path, &e), IV_OK);
    iv_media_close(m);
    assert_int_equal(iv_media_load(g, path, NULL, &m2, &e), IV_OK);
    s = session_fixture(g, m2, &o);
    ask_fixture(s, "Hi", NULL, &got);
    assert_same_reply(&want, &got);
    iv_session_close(s);
    iv_media_close(m2);
    s = session_fixture(g, NULL, NULL);
    save(s);
    iv_session_close(s);
    assert_int_equal(iv_media_load(g, path, NULL, &m2, &e), IV_ERR_USAGE);
    assert_null(m2);
    iv_engine_close(g);
}

static void expect_refused(const iv_engine *g, int code, const char *why)
{
    struct iv_session_options o = iv_session_options_default();
    struct iv_error e = {0};
    iv_media *m = (iv_media *)&o;
    iv_session *s = (iv_session *)&o;
    assert_int_equal(iv_session_load(g, path, &o, &m, &s, &e), code);
    assert_null(m);
    assert_null(s);
    if (!strstr(e.message, why) || !strstr(e.message, path))
        fail_msg("\"%s\" does not say \"%s\"", e.message, why);
}

// One bit of any byte of the header, and of bytes all over the file, padding included.
static int next_black(void *user, struct iv_frame *f, struct iv_error *e)
{
    static const uint8_t black[32 * 32 * 3];
    size_t *n = user;
    (void)e;
    *f = (struct iv_frame){.slot = (*n)++, .rgb = black};
    return 0;
}

// What a caller says of frames that no number can be is unknown, and does not spoil the file.
static void odd_rates_can_be_saved(void **state)
{
    static uint8_t rgb[2][32][32][3];
    static const int32_t index[2] = {0, 7};
    static const double odd[] = {INFINITY, NAN, -2};
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    struct iv_media_options o = iv_media_options_default();
    struct iv_error e;
    iv_media *m, *again;
    (void)state;
    for (size_t i = 0; i < 2 * sizeof odd / sizeof *odd; i++) {
        double x = odd[i / 2];
        size_t n = 0;
        struct iv_frames f = {.n_frame = 2,
                              .width = 32,
                              .height = 32,
                              .frame_index = index,
                              .fps = x,
                              .duration_s = x};
        assert_int_equal(i % 2 ? iv_media_from_frames(g, &f, 2, next_black, &n, &o, &m, &e)
                               : iv_media_from_rgb(g, &rgb[0][0][0][0], 2, 32, 32, x, &o, &m, &e),
                         IV_OK);
        assert_true(iv_media_info(m)->fps == 0 && iv_media_info(m)->duration_s == 0);
        assert_int_equal(iv_media_save(m, NULL, path, &e), IV_OK);
        assert_int_equal(iv_media_load(g, path, NULL, &again, &e), IV_OK);
        iv_media_close(again);
        iv_media_close(m);
    }
    iv_engine_close(g);
}

static void a_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 9);
    struct reply r;
    size_t n;
    iv_session *s = talk(g, m, &r);
    save(s);
    uint8_t *bytes = read_all(path, &n);
    for (size_t i = 0; i < n; i += i < 1600 ? 7 : 997) {
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        write_all(path, bytes, n);
        bytes[i] ^= (uint8_t)(1u << (i % 8));
        expect_refused(g, IV_ERR_FAIL, "");
    }
    for (size_t cut = 0; cut < n; cut += cut < 1600 ? 401 : n / 9) {
        write_all(path, bytes, cut);
        expect_refused(g, IV_ERR_FAIL, "");
    }
    bytes = realloc(bytes, n + 1);
    bytes[n] = 0;
    write_all(path, bytes, n + 1);
    expect_refused(g, IV_ERR_FAIL, "");
    free(bytes);
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
}

static void others_are_refused(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 9);
    struct reply r;
    iv_session *s = talk(g, m, &r);
    save(s);
    iv_session_close(s);
    iv_media_close(m);
    eo.variant = "f16";
    iv_engine *f16 = engine_fixture_open(&eo);
    expect_refused(f16, IV_ERR_MODEL, "variant f16");
    iv_engine_close(f16);
    if (engine_fixture_golden()) {
        eo = engine_fixture_options();
        eo.model = engine_fixture_golden();
        iv_engine *golden = engine_fixture_open(&eo);
        expect_refused(golden, IV_ERR_MODEL, "tiny-model");
        iv_engine_close(golden);
    }
    write_all(path, "What happens?\n", 14);
    expect_refused(g, IV_ERR_FAIL, "too few");
    unlink(path);
    expect_refused(g, IV_ERR_FAIL, "No such file");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(g, IV_ERR_FAIL, "not a regular file");
    iv_engine_close(g);
}

static bool always(void *user)
{
    return *(bool *)user;
}

// The old file stays when the new one cannot be written, and nothing else stays.
static void a_failed_save_changes_nothing(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    bool stop = false;
    struct iv_session_options o = iv_session_options_default();
    o.callbacks.user = &stop;
    o.callbacks.abort = always;
    iv_session *s = session_fixture(g, NULL, &o);
    struct iv_error e;
    struct reply r;
    size_t n1, n2;
    ask_fixture(s, "Hi", NULL, &r);
    save(s);
    void *before = read_all(path, &n1);
    ask_fixture(s, "Then?", NULL, &r);
    stop = true;
    assert_int_equal(iv_session_save(s, path, &e), IV_ERR_ABORT);
    stop = false;
    void *after = read_all(path, &n2);
    assert_int_equal(n1, n2);
    assert_memory_equal(before, after, n1);
    free(before);
    free(after);
    assert_int_equal(iv_session_save(s, dir.path, &e), IV_ERR_FAIL); // a folder
    assert_int_equal(iv_session_save(s, "/nowhere at all/x", &e), IV_ERR_FAIL);
    assert_non_null(strstr(e.message, "No such file"));
    unlink(path);
    assert_int_equal(rmdir(dir.path), 0); // empty: no temporary file is left
    assert_int_equal(mkdir(dir.path, 0700), 0);
    iv_session_close(s);
    iv_engine_close(g);
}

// Every allocation in turn fails once.
static void without_memory(void **state)
{
    (void)state;
    struct iv_engine_options eo = engine_fixture_options();
    iv_engine *g = engine_fixture_open(&eo);
    iv_media *m = media_fixture_noise(g, 4), *m2;
    struct iv_session_options o = iv_session_options_default();
    struct reply r;
    struct iv_error e;
    iv_session *s = talk(g, m, &r), *s2;
    int rc = IV_ERR_LIMIT, n;
    for (n = 1; rc == IV_ERR_LIMIT && n < 1000; n++) {
        mem_fail_after((uint64_t)n);
        rc = iv_session_save(s, path, &e);
        mem_fail_after(0);
    }
    if (rc != IV_OK)
        fail_msg("allocation %d: %s", n - 1, e.message);
    assert_true(n > 10);
    rc = IV_ERR_LIMIT;
    for (n = 1; rc == IV_ERR_LIMIT && n < 1000; n++) {
        mem_fail_after((uint64_t)n);
        rc = iv_session_load(g, path, &o, &m2, &s2, &e);
        mem_fail_after(0);
    }
    if (rc != IV_OK)
        fail_msg("allocation %d: %s", n - 1, e.message);
    assert_true(n > 20);
    iv_session_close(s);
    iv_session_close(s2);
    iv_media_close(m);
    iv_media_close(m2);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_on_with_the_same_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_killed_process, setup, teardown),
        cmocka_unit_test_setup_teardown(other_precision_starts_from_the_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(text_only_and_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(restored_media_tells_what_it_cannot, setup, teardown),
        cmocka_unit_test_setup_teardown(media_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_rates_can_be_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_save_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
