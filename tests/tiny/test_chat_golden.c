// SPDX-License-Identifier: MIT
// The tiny checkpoint under the generation loop: every stored hypothesis of the golden beam searches, and
// the best four scores of each greedy step after the processors. ivchat.h shows neither.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "chat/generate.h"
#include "chat_fixture.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "npy.h"

static const char MODEL[] = TEST_SHARED "/golden/tiny-hd";

enum { MAX_BEAM = 8, N_CLIP = 3 };

struct bench {
    struct js_doc manifest;
    iv_engine *engine;
    float *rows; // f32 [N_CLIP * N_QUERY, d_model] of media/yoga_hd
    struct runner runner;
    struct iv_callbacks callbacks;
    float *logits; // f32 [MAX_BEAM, n_vocab]
};

static struct bench bench;

static int open_bench(void **state)
{
    (void)state;
    if (access(TEST_SHARED "/golden/manifest.json", R_OK) != 0)
        return 0;
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error ie;
    struct err e = {0};
    struct npy pixels;
    iv_media *media = NULL;
    size_t dim[6];
    unsigned rank;
    o.model = MODEL;
    o.dtype = "f32";
    if (js_load(&bench.manifest, TEST_SHARED "/golden/manifest.json", 64 << 20, ERR_FAIL, &e) !=
            0 ||
        !npy_read(&pixels, TEST_SHARED "/golden/cases/media/yoga_hd.pixels.npy") ||
        iv_engine_open(&o, &bench.engine, &ie) != IV_OK ||
        iv_media_from_pixels(bench.engine, pixels.f32, N_CLIP, 8, false, &media, &ie) != IV_OK ||
        iv_media_stage(media, IV_STAGE_PROJECTED, NULL, &bench.rows, dim, &rank, &ie) != IV_OK ||
        runner_init(&bench.runner, bench.engine, &bench.callbacks, 0, &e) != 0)
        return -1;
    bench.logits = mem_calloc(MAX_BEAM * bench.engine->config.llm.n_vocab, sizeof *bench.logits);
    iv_media_close(media);
    npy_free(&pixels);
    return bench.logits ? 0 : -1;
}

static int close_bench(void **state)
{
    (void)state;
    if (!bench.engine)
        return 0;
    runner_free(&bench.runner);
    mem_free(bench.logits);
    iv_free(bench.rows);
    iv_engine_close(bench.engine);
    js_free(&bench.manifest);
    return 0;
}

static void need_bench(void)
{
    if (bench.engine)
        return;
    printf("SKIP no golden data\n");
    skip();
}

static double number_or(const js_value *o, const char *key, double otherwise)
{
    js_num(js_get(o, key), &otherwise);
    return otherwise;
}

static struct generate_model model_of_bench(void)
{
    const struct llm_config *c = &bench.engine->config.llm;
    return (struct generate_model){bench.engine->tokenizer, c->n_vocab, c->eos, c->n_eos};
}

static int step(void *self, const int32_t *ids, size_t n_row, float *logits, struct err *e)
{
    return runner_step(self, ids, n_row, logits, e);
}

static int reorder(void *self, const size_t *parent, size_t n_row, struct err *e)
{
    return runner_reorder(self, parent, n_row, e);
}

// Options of a case; its prompt goes through the model.
static struct generate_options begin_case(const js_value *in)
{
    struct generate_options o = generate_options_default();
    o.max_new_tokens = (int)number_or(in, "max_new_tokens", 200);
    o.n_beam = (int)number_or(in, "num_beams", 1);
    o.length_penalty = number_or(in, "length_penalty", 1);
    o.sampler.repetition_penalty = number_or(in, "repetition_penalty", 1);
    assert_in_range(o.n_beam, 1, MAX_BEAM);
    struct prompt_request r =
        prompt_request_of(VARIANT_HD, PROMPT_VIDEO, N_CLIP, js_str(js_get(in, "prompt"), NULL));
    r.answer_prefix = prompt_text_of(js_str(js_get(in, "answer_prompt"), NULL));
    struct prompt p;
    struct err e = {0};
    if (prompt_build(&p, bench.engine->tokenizer, &r, &e) != 0 ||
        runner_prefill(&bench.runner,
                       &(struct runner_prompt){.ids = p.ids.v,
                                               .n = p.ids.n,
                                               .rows = bench.rows,
                                               .max_new = (size_t)o.max_new_tokens},
                       bench.logits, &e) != 0)
        fail_msg("%s", e.msg);
    prompt_free(&p);
    return o;
}

static void expect_ids(const struct ids *got, const js_value *want, const char *name)
{
    if (got->n != js_size(want))
        fail_msg("%s: %zu ids, expected %zu", name, got->n, js_size(want));
    for (size_t i = 0; i < got->n; i++) {
        uint64_t id = 0;
        assert_true(js_u64(js_at(want, i), &id));
        if (got->v[i] != (int32_t)id)
            fail_msg("%s: id %zu is %d, expected %d", name, i, got->v[i], (int)id);
    }
}

static void all_hypotheses(void **state)
{
    (void)state;
    need_bench();
    const js_value *cases = js_get(bench.manifest.root, "cases");
    struct generate_model m = model_of_bench();
    struct decoder d = {.self = &bench.runner, .step = step, .reorder = reorder};
    size_t n_case = 0;
    for (size_t i = 0; i < js_size(cases); i++) {
        const js_value *c = js_at(cases, i), *values = js_get(c, "values");
        const js_value *hypotheses = js_get(values, "hypotheses");
        const char *name = js_str(js_get(c, "id"), NULL);
        if (!hypotheses)
            continue;
        struct generate_options o = begin_case(js_get(c, "inputs"));
        struct generation a;
        struct err e = {0};
        if (generate_run(&m, &d, &o, bench.logits, &a, &e) != 0)
            fail_msg("%s: %s", name, e.msg);
        assert_int_equal(a.n_beam, js_size(hypotheses));
        for (size_t k = 0; k < a.n_beam; k++) {
            const js_value *h = js_at(hypotheses, k);
            double score = number_or(h, "score", NAN);
            expect_ids(&a.beam[k].ids, js_get(h, "ids"), name);
            if (!(fabs(a.beam[k].score - score) <= number_or(values, "score_tolerance", 0)))
                fail_msg("%s: score %zu is %g, expected %g", name, k, a.beam[k].score, score);
        }
        generation_free(&a);
        n_case++;
    }
    assert_int_equal(n_case, 7);
}

// The scores a token was chosen from, against the four best [id, score] of the case.
static void expect_top4(const float *scores, size_t n_vocab, const js_value *want, const char *name)
{
    struct token_logprob top[4];
    assert_int_equal(logprob_top(scores, n_vocab, top, 4), 4);
    for (size_t k = 0; k < 4; k++) {
        uint64_t id = 0;
        double score = NAN;
        assert_true(js_u64(js_at(js_at(want, k), 0), &id));
        assert_true(js_num(js_at(js_at(want, k), 1), &score));
        // 5e-5 is the golden tolerance of logits. Ranks two to four may be too close to tell apart.
        if (!(fabs((double)scores[id] - score) <= 5e-5) || (k == 0 && top[0].id != (int32_t)id))
            fail_msg("%s: rank %zu: score of %d is %g, expected %g", name, k, (int)id,
                     (double)scores[id], score);
    }
}

static void greedy_scores(void **state)
{
    (void)state;
    static const char *const names[] = {"hd/repetition_penalty", "hd/eos_first", "hd/eos_stop"};
    need_bench();
    const js_value *cases = js_get(bench.manifest.root, "cases");
    struct generate_model m = model_of_bench();
    size_t n_case = 0;
    for (size_t i = 0; i < js_size(cases); i++) {
        const js_value *c = js_at(cases, i), *values = js_get(c, "values");
        const js_value *top4 = js_get(values, "top4_per_step");
        const char *name = js_str(js_get(c, "id"), NULL);
        if (strcmp(name, names[0]) && strcmp(name, names[1]) && strcmp(name, names[2]))
            continue;
        struct generate_options o = begin_case(js_get(c, "inputs"));
        struct generator g;
        struct err e = {0};
        assert_int_equal(generator_init(&g, &m, &o, &e), 0);
        for (size_t t = 0; !g.done; t++) {
            if (t > 0 && runner_step(&bench.runner, &g.next, 1, bench.logits, &e) != 0)
                fail_msg("%s: %s", name, e.msg);
            assert_int_equal(generator_push(&g, bench.logits, &e), 0);
            expect_top4(g.sampler.scores, m.n_vocab, js_at(top4, t), name);
        }
        assert_int_equal(g.answer.ids.n, js_size(top4));
        expect_ids(&g.answer.ids, js_get(values, "generated_ids"), name);
        generator_free(&g);
        n_case++;
    }
    assert_int_equal(n_case, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_hypotheses),
        cmocka_unit_test(greedy_scores),
    };
    return cmocka_run_group_tests(tests, open_bench, close_bench);
}
