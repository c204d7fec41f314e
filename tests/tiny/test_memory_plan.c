// SPDX-License-Identifier: MIT
// iv_plan against the peak memory of a process that does what was planned: within 6 % or 6 MiB, whichever is
// larger. Each part (pixels, scratch of decoding, visual rows, KV of one and of many sequences, weights) is
// larger than that in one of the cases.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_fixture.h"

struct work {
    const char *name, *model, *dtype;
    const char *video; // NULL = text only
    int n_frame, num_beams, max_new;
    int grid; // columns and rows of tiles, 0 = padding
    double segment_s, end_s;
    size_t width, height, n_word; // n_word: length of the question
};

static struct iv_media_options media_options(const struct work *w)
{
    struct iv_media_options o = iv_media_options_default();
    o.n_frame = w->n_frame;
    o.padding = w->grid == 0;
    o.fix_cols = o.fix_rows = w->grid;
    o.segment_s = w->segment_s;
    o.end_s = w->end_s;
    return o;
}

static struct iv_ask_options ask_options(const struct work *w)
{
    struct iv_ask_options o = iv_ask_options_default();
    o.num_beams = w->num_beams;
    o.max_new_tokens = w->max_new;
    o.ignore_eos = true;
    return o;
}

static iv_engine *open_engine(const struct work *w)
{
    struct iv_engine_options o = engine_fixture_options();
    o.model = w->model;
    o.dtype = w->dtype;
    return engine_fixture_open(&o);
}

static uint64_t peak_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return (uint64_t)kib << 10;
}

struct result {
    uint64_t peak, prompt_tokens, visual_tokens;
};

static void ignore_line(void *user, const char *line)
{
    (void)user, (void)line;
}

// The work itself; text tokens are what the plan asks for.
static struct result do_it(const struct work *w)
{
    static char question[1 << 16];
    struct iv_media_options mo = media_options(w);
    struct iv_ask_options ao = ask_options(w);
    struct iv_session_options so = iv_session_options_default();
    iv_engine *g = open_engine(w);
    iv_media *m = NULL;
    iv_session *s = NULL;
    struct iv_answer a;
    struct iv_error e;
    for (size_t i = 0; i < w->n_word; i++)
        memcpy(question + 2 * i, " x", 3);
    (void)iv_engine_verify(g, ignore_line, NULL, &e); // every weight is resident from here on
    int rc = w->video ? iv_media_open_video(g, w->video, &mo, &m, &e) : IV_OK;
    if (rc == IV_OK)
        rc = iv_session_open(g, m, &so, &s, &e);
    if (rc == IV_OK)
        rc = iv_session_ask(s, question, &ao, &a, &e);
    if (rc != IV_OK) {
        fprintf(stderr, "%s\n", e.message);
        return (struct result){0};
    }
    return (struct result){peak_bytes(), a.prompt_tokens,
                           m ? iv_media_info(m)->n_clip * iv_engine_info(g)->n_query : 0};
}

static struct result measure(const struct work *w)
{
    struct result r = {0};
    int pipes[2], status;
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        r = do_it(w);
        _exit(write(pipes[1], &r, sizeof r) == (ssize_t)sizeof r ? 0 : 1);
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], &r, sizeof r), sizeof r);
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0 && r.peak > 0);
    return r;
}

static void compare_one(const struct work *w, struct result r)
{
    struct iv_media_options mo = media_options(w);
    struct iv_ask_options ao = ask_options(w);
    struct iv_error e;
    struct iv_plan p;
    iv_engine *g = open_engine(w);
    size_t text = (size_t)(r.prompt_tokens - r.visual_tokens);
    if (iv_plan(g, w->video ? &mo : NULL, w->width, w->height, text, &ao, &p, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_int_equal(p.prompt_tokens, r.prompt_tokens);
    double plan = (double)p.peak_bytes, peak = (double)r.peak, off = plan - peak;
    double limit = 0.06 * peak > 6 << 20 ? 0.06 * peak : 6 << 20;
    print_message("# %-24s planned %6.1f MiB, measured %6.1f MiB\n", w->name, plan / (1 << 20),
                  peak / (1 << 20));
    if (!(off <= limit && -off <= limit))
        fail_msg("%s: planned %.1f MiB, measured %.1f MiB", w->name, plan / (1 << 20),
                 peak / (1 << 20));
    iv_engine_close(g);
}

static const char video[] = TEST_ROOT "/fixtures/media/bframes.mp4";

static void compare(const struct work *works, const struct result *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        compare_one(&works[i], r[i]);
}

// A sanitizer's own memory is many times the library's.
static void needs_true_memory(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("SKIP memory is not the library's own under a sanitizer\n");
    skip();
#endif
}

static const struct work own[] = {
    {"text", engine_fixture_model, "bf16", NULL, 0, 1, 16, 1, 0, 0, 0, 0, 20},
    {"video", engine_fixture_model, "bf16", video, 2, 1, 16, 2, 0, 0, 96, 64, 20},
    {"video, int8", engine_fixture_model, "int8", video, 2, 1, 16, 2, 0, 0, 96, 64, 20},
    {"65 clips", engine_fixture_model, "bf16", video, 2, 1, 16, 8, 0, 0, 96, 64, 20},
    {"segments", engine_fixture_model, "bf16", video, 2, 1, 16, 2, 0.125, 4, 96, 64, 20},
    {"segments of 17 clips", engine_fixture_model, "bf16", video, 2, 1, 16, 4, 0.5, 4, 96, 64, 20},
    {"long text, beams", engine_fixture_model, "f32", NULL, 0, 8, 24, 1, 0, 0, 0, 0, 2000},
};
enum { N_OWN = sizeof own / sizeof *own, N_GOLDEN = 3 };
static struct work golden[N_GOLDEN]; // without a model: none
static struct result own_result[N_OWN], golden_result[N_GOLDEN];

// Everything is measured before anything is planned here: a child begins with what its parent's heap holds.
static int measure_all(void **state)
{
    const char *model = engine_fixture_golden();
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#endif
    for (size_t i = 0; i < N_OWN; i++)
        own_result[i] = measure(&own[i]);
    const struct work works[N_GOLDEN] = {
        {"golden text", model, "bf16", NULL, 0, 1, 8, 1, 0, 0, 0, 0, 20},
        {"golden video", model, "bf16", video, 4, 1, 8, 2, 0, 0, 96, 64, 20},
        {"golden f32 padding", model, "f32", video, 1, 4, 8, 0, 0, 0, 96, 64, 20},
    };
    for (size_t i = 0; model && i < N_GOLDEN; i++) {
        golden[i] = works[i];
        golden_result[i] = measure(&golden[i]);
    }
    return 0;
}

static void own_model(void **state)
{
    (void)state;
    needs_true_memory();
    compare(own, own_result, N_OWN);
}

static void golden_model(void **state)
{
    (void)state;
    needs_true_memory();
    if (!engine_fixture_golden()) // says why, right before it is skipped
        skip();
    compare(golden, golden_result, N_GOLDEN);
}

// Room that the context does not have is not planned, whatever is asked for.
static void no_more_than_the_context(void **state)
{
    (void)state;
    struct iv_engine_options o = engine_fixture_options();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_plan all, one;
    struct iv_error e;
    iv_engine *g = engine_fixture_open(&o);
    size_t n_ctx = iv_engine_info(g)->llm_n_ctx_max;
    ask.max_new_tokens = INT32_MAX;
    assert_int_equal(iv_plan(g, NULL, 0, 0, 100, &ask, &all, &e), IV_OK);
    assert_int_equal(all.max_new_tokens, n_ctx - 100 + 1);
    ask.max_new_tokens = 1;
    assert_int_equal(iv_plan(g, NULL, 0, 0, 63, &ask, &one, &e), IV_OK);
    assert_int_equal(all.kv_bytes, one.kv_bytes / 64 * n_ctx);
    assert_true(all.peak_bytes < one.peak_bytes + all.kv_bytes + all.kv_bytes / 2);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_model),
        cmocka_unit_test(golden_model),
        cmocka_unit_test(no_more_than_the_context),
    };
    return cmocka_run_group_tests(tests, measure_all, NULL);
}
