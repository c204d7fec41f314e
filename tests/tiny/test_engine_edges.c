// SPDX-License-Identifier: MIT
// Edges of the engine on a tiny model: plans for any machine and any prompt, prompts too short for the
// kernels of many rows, engines without weights, waiting for another session.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tempdir.h"

static const char MODEL[] = TEST_SHARED "/golden/tiny-hd";

static void needs_model(void)
{
    if (access(MODEL, R_OK) == 0)
        return;
    print_message("SKIP no golden data beside the project\n");
    skip();
}

static iv_engine *open_engine(const char *dtype, const char *cpu, int threads, bool tokenizer_only)
{
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error e;
    iv_engine *g;
    o.model = MODEL;
    o.dtype = dtype;
    o.cpu = cpu;
    o.n_threads = threads;
    o.tokenizer_only = tokenizer_only;
    if (iv_engine_open(&o, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    return g;
}

// The probe's scratch grows with the threads.
static void plans_for_many_threads(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    (void)state;
    needs_model();
    for (size_t d = 0; d < 2; d++) {
        iv_engine *g = open_engine(dtypes[d], NULL, 64, false);
        struct iv_ask_options ask = iv_ask_options_default();
        struct iv_plan plan;
        struct iv_error e;
        if (iv_plan(g, NULL, 0, 0, 10, &ask, &plan, &e) != IV_OK)
            fail_msg("%s", e.message);
        assert_true(plan.prefill_s > 0 && plan.decode_s_per_token > 0);
        iv_engine_close(g);
    }
}

static void ask_words(iv_session *s, const char *question, int n_new, struct iv_answer *a)
{
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_error e;
    o.max_new_tokens = n_new;
    o.ignore_eos = true;
    if (iv_session_ask(s, question, &o, a, &e) != IV_OK)
        fail_msg("%s", e.message);
}

// A first prompt of at most OPS_FEW_ROWS tokens goes through other kernels than a longer one: its keys
// must not stand in for the beginning of a longer one.
static void short_prompts_are_not_reused(void **state)
{
    static const char *const dtypes[] = {"f32", "bf16"};
    (void)state;
    needs_model();
    for (size_t d = 0; d < 2; d++) {
        iv_engine *g = open_engine(dtypes[d], NULL, 2, false);
        uint64_t hash[2];
        for (int keep = 0; keep < 2; keep++) {
            struct iv_session_options o = iv_session_options_default();
            struct iv_error e;
            struct iv_answer a;
            iv_session *s;
            o.keep_cache = keep;
            assert_int_equal(iv_session_open(g, NULL, &o, &s, &e), IV_OK);
            ask_words(s, "Hi", 4, &a);
            assert_true(a.prompt_tokens <= 8);
            iv_answer_free(&a);
            ask_words(s, "And then, what happens in the end?", 1, &a);
            hash[keep] = a.logits_hash;
            iv_answer_free(&a);
            iv_session_close(s);
        }
        assert_true(hash[0] == hash[1]);
        iv_engine_close(g);
    }
}

// Refused, not counted through.
static void plans_have_an_end(void **state)
{
    (void)state;
    needs_model();
    iv_engine *g = open_engine(NULL, NULL, 1, false);
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_media_options media = iv_media_options_default();
    struct iv_plan plan;
    struct iv_error e;
    uint64_t most = iv_engine_info(g)->llm_n_ctx_max;
    assert_int_equal(iv_plan(g, NULL, 0, 0, most + 1, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(iv_plan(g, &media, 0, 0, most, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(iv_plan(g, &media, 0, 0, SIZE_MAX, &ask, &plan, &e), IV_ERR_LIMIT);
    assert_int_equal(plan.prompt_tokens, 0);
    iv_engine_close(g);
}

// An engine for plans gives them, also of a GPU that is not there, and nothing that computes.
static void plans_only(void **state)
{
    (void)state;
    needs_model();
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    float *px = calloc((size_t)3 * 224 * 224, sizeof *px);
    struct iv_plan plan;
    struct iv_error e;
    iv_media *m;
    iv_session *s;
    iv_engine *g;
    o.model = MODEL;
    o.plan_only = true;
    o.device = "cuda:99";
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_OK);
    assert_int_equal(iv_plan(g, NULL, 0, 0, 10, &ask, &plan, &e), IV_OK);
    assert_true(plan.gpu.kind == IV_GPU_PLAN_ESTIMATE || plan.gpu.kind == IV_GPU_PLAN_UNKNOWN);
    assert_true((plan.gpu.kind == IV_GPU_PLAN_ESTIMATE) == (plan.gpu.peak_bytes > 0));
    assert_string_equal(plan.gpu.device, "cuda:99");
    assert_non_null(strstr(plan.gpu.reason, "cuda:99: "));
    assert_int_equal(iv_session_open(g, NULL, &so, &s, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "plans only"));
    assert_int_equal(iv_media_from_pixels(g, px, 1, 1, true, &m, &e), IV_OK);
    assert_int_equal(iv_media_encode(m, NULL, &e), IV_ERR_USAGE);
    iv_media_close(m);
    iv_engine_close(g);
    o.plan_only = false;
    assert_int_equal(iv_engine_open(&o, &g, &e), IV_ERR_USAGE);
    free(px);
}

// Without weights pixels are all there is.
static void no_weights_no_stage(void **state)
{
    (void)state;
    needs_model();
    iv_engine *g = open_engine(NULL, NULL, 1, true);
    float *px = calloc((size_t)3 * 224 * 224, sizeof *px), *data;
    struct iv_error e;
    iv_media *m;
    size_t dim[6];
    unsigned rank;
    assert_int_equal(iv_media_from_pixels(g, px, 1, 1, true, &m, &e), IV_OK);
    for (int stage = IV_STAGE_VIT; stage <= IV_STAGE_PROJECTED; stage++) {
        memset(dim, 0xff, sizeof dim);
        assert_int_equal(iv_media_stage(m, (enum iv_stage)stage, NULL, &data, dim, &rank, &e),
                         IV_ERR_USAGE);
        assert_null(data);
        assert_int_equal(rank, 0);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(dim[i], 0);
    }
    iv_media_close(m);
    iv_engine_close(g);
    free(px);
}

static bool third_time(void *user)
{
    return ++*(int *)user == 3;
}

// A session that waits for another's encoding hears its abort. (Without: this hangs.)
static void waiting_can_be_stopped(void **state)
{
    (void)state;
    needs_model();
    iv_engine *g = open_engine(NULL, NULL, 1, false);
    float *px = calloc((size_t)3 * 224 * 224, sizeof *px);
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    iv_media *m;
    iv_session *s;
    int polls = 0;
    o.callbacks.user = &polls;
    o.callbacks.abort = third_time;
    assert_int_equal(iv_media_from_pixels(g, px, 1, 1, true, &m, &e), IV_OK);
    assert_int_equal(iv_session_open(g, m, &o, &s, &e), IV_OK);
    pthread_mutex_lock(&m->lock); // the other session
    assert_int_equal(iv_session_ask(s, "Hi", &ask, &a, &e), IV_ERR_ABORT);
    pthread_mutex_unlock(&m->lock);
    assert_int_equal(polls, 3);
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
    free(px);
}

// Another conversation asks while the file is being written.
struct talker {
    iv_session *s; // NULL = not yet, or no more
    int answers;
};

static bool ask_meanwhile(void *user)
{
    struct talker *t = user;
    iv_session *s = t->s;
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer a;
    t->s = NULL;
    ask.max_new_tokens = 1;
    if (s && iv_session_ask(s, "And now?", &ask, &a, NULL) == IV_OK) {
        t->answers++;
        iv_answer_free(&a);
    }
    return false;
}

// (With the observer's lock held: this hangs.)
static void questions_go_on_while_a_matrix_is_saved(void **state)
{
    (void)state;
    needs_model();
    struct talker t = {0};
    struct iv_engine_options eo = iv_engine_options_default();
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer a;
    struct iv_error e;
    struct tempdir dir;
    char path[512];
    iv_engine *g;
    iv_session *s;
    eo.model = MODEL;
    eo.gather_imatrix = true;
    eo.device = "cpu";
    eo.callbacks.user = &t;
    eo.callbacks.abort = ask_meanwhile;
    tempdir_make(&dir);
    snprintf(path, sizeof path, "%s/seen.gguf", dir.path);
    if (iv_engine_open(&eo, &g, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_int_equal(iv_session_open(g, NULL, &so, &s, &e), IV_OK);
    assert_int_equal(iv_imatrix_save(g, path, NULL, &e), IV_ERR_USAGE); // nothing was asked
    ask.max_new_tokens = 1;
    assert_int_equal(iv_session_ask(s, "Hi", &ask, &a, &e), IV_OK);
    iv_answer_free(&a);
    t.s = s;
    if (iv_imatrix_save(g, path, NULL, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_int_equal(t.answers, 1);
    iv_session_close(s);
    iv_engine_close(g);
    tempdir_remove(&dir);
}

// ThreadSanitizer watches each access to what is read: five seconds a time.
#if defined(__SANITIZE_THREAD__)
enum { FIRST_THREADS = 3 };
#else
enum { FIRST_THREADS = 0 }; // as many as there are
#endif

// Reading is told in bytes a second of any number of threads, again and again; what is wrong is named.
static void reading_is_told(void **state)
{
    (void)state;
    for (int threads = FIRST_THREADS; threads <= 3; threads += 3) {
        struct iv_error e;
        iv_read_probe *r;
        assert_int_equal(iv_read_probe_open("ref", threads, &r, &e), IV_OK);
        double first = iv_read_probe_rate(r), second = iv_read_probe_rate(r);
        assert_true(first > 1e6 && first < 1e13);
        assert_true(second > 1e6 && second < 1e13);
        iv_read_probe_close(r);
    }
    struct iv_error e;
    iv_read_probe *r;
    assert_int_equal(iv_read_probe_open("mmx", 0, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "mmx"));
    assert_null(r);
    assert_int_equal(iv_read_probe_open(NULL, -1, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "-1"));
    assert_null(r);
    iv_read_probe_close(r);
}

// Nothing can be released, as with free(NULL), and a verdict may be all that is wanted.
static void nothing_is_enough(void **state)
{
    (void)state;
    needs_model();
    iv_engine_close(NULL);
    iv_media_close(NULL);
    iv_session_close(NULL);
    iv_answer_free(NULL);
    iv_read_probe_close(NULL);
    iv_quantize_result_free(NULL);
    iv_hub_snapshot_free(NULL);
    iv_hub_list_free(NULL, 0);
    iv_free(NULL);
    iv_engine *g = open_engine(NULL, NULL, 1, false);
    assert_int_equal(iv_engine_verify(g, NULL, NULL, NULL), IV_OK);
    iv_engine_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_is_told),
        cmocka_unit_test(plans_for_many_threads),
        cmocka_unit_test(short_prompts_are_not_reused),
        cmocka_unit_test(plans_have_an_end),
        cmocka_unit_test(plans_only),
        cmocka_unit_test(no_weights_no_stage),
        cmocka_unit_test(nothing_is_enough),
        cmocka_unit_test(waiting_can_be_stopped),
        cmocka_unit_test(questions_go_on_while_a_matrix_is_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
