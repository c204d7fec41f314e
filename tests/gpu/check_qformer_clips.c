// SPDX-License-Identifier: MIT
// The Q-Former of several clips on a GPU: side by side, in fewer launches, and the same bits as of each clip alone; with
// an instruction whose rows are few for some clips and would be many for all; and the planner knows the scratch of it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"
#include "engine/engine.h"
#include "gpu/cuda/stream.h"

static const char tiny[] = TEST_ROOT "/fixtures/tiny-model";

enum { CLIPS = 5, TOKENS = 65, TEXT_MOST = 40 };

struct result {
    float *queries; // [n_clip, n_query, d]
    size_t n_launch, arena, n_pass;
};

static void count_pass(void *user, const char *stage, size_t done, size_t total)
{
    (void)stage, (void)done, (void)total;
    ++*(size_t *)user;
}

static void must(int rc, const struct err *e, const char *what)
{
    if (rc == 0)
        return;
    report(false, "%s: %s", what, e->msg);
    exit(report_end());
}

static void forward(const iv_engine *g, struct ops *o, const float *vision, size_t n_clip,
                    size_t n_text, float *queries, size_t *n_pass)
{
    static int32_t text[TEXT_MOST];
    struct hooks hooks = {.user = n_pass, .progress = count_pass};
    const struct qformer *q = &g->model.qformer;
    for (size_t i = 0; i < TEXT_MOST; i++)
        text[i] = (int32_t)(i * 7 % 100);
    struct mat x = ops_mat(o, n_clip * TOKENS, g->model.vit.c.d_model);
    struct mat y = ops_mat(o, n_clip * q->c.n_query, q->c.d_model);
    op_upload(o, x, vision);
    qformer_forward(
        o, q,
        &(struct qformer_input){
            .vision = x, .n_clip = n_clip, .text = text, .n_text = n_text, .hooks = &hooks},
        y);
    op_download(o, queries, y);
}

// Clips [first, first + n_clip) of vision.
static struct result run(const iv_engine *g, const float *vision, size_t first, size_t n_clip,
                         size_t n_text)
{
    const struct qformer_config *c = &g->model.qformer.c;
    struct hooks none = {0};
    struct ops *plan, *o;
    struct err e = {0};
    struct result r = {.queries = calloc(n_clip * c->n_query * c->d_model, sizeof(float))};
    must(engine_open_plan(g, &none, &plan, &e), &e, "a planner");
    forward(g, plan, NULL, n_clip, n_text, NULL, &r.n_pass);
    r.n_pass = 0;
    r.arena = ops_plan_result(plan).arena_bytes;
    ops_close(plan);
    must(engine_open_ops(g, &none, &o, &e), &e, "a stream");
    must(ops_reserve(o, r.arena, &e), &e, "scratch");
    forward(g, o, vision + first * TOKENS * g->model.vit.c.d_model, n_clip, n_text, r.queries,
            &r.n_pass);
    must(ops_status(o, &e), &e, "the Q-Former");
    report(ops_plan_result(o).arena_bytes == r.arena,
           "%zu clips, %zu tokens: %zu bytes of scratch, as planned", n_clip, n_text, r.arena);
    r.n_launch = stream_of(o)->n_launch;
    ops_close(o);
    return r;
}

static void check(const iv_engine *g, const float *vision, size_t n_clip, size_t n_text,
                  size_t n_pass)
{
    const struct qformer_config *c = &g->model.qformer.c;
    const char *dtype = iv_engine_info(g)->dtype;
    size_t n = c->n_query * c->d_model, launches = 0, wrong = 0;
    struct result all = run(g, vision, 0, n_clip, n_text);
    for (size_t i = 0; i < n_clip; i++) {
        struct result one = run(g, vision, i, 1, n_text);
        wrong += memcmp(one.queries, all.queries + i * n, n * sizeof(float)) != 0;
        launches += one.n_launch;
        free(one.queries);
    }
    report(wrong == 0, "%s, %zu clips, %zu tokens: the same bits as clip by clip", dtype, n_clip,
           n_text);
    report(all.n_pass == n_pass, "%s, %zu clips, %zu tokens: %zu passes", dtype, n_clip, n_text,
           all.n_pass);
    report(all.n_launch < launches, "%s, %zu clips, %zu tokens: %zu launches instead of %zu", dtype,
           n_clip, n_text, all.n_launch, launches);
    free(all.queries);
}

int main(void)
{
    static const char *const dtypes[] = {"bf16", "f32"};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!device_present())
        return 77;
    for (size_t i = 0; i < 2; i++) {
        struct iv_engine_options o = iv_engine_options_default();
        struct iv_error e;
        iv_engine *g;
        o.model = tiny;
        o.dtype = dtypes[i];
        o.device = "cuda:0";
        o.n_threads = 2;
        if (iv_engine_open(&o, &g, &e) != IV_OK) {
            report(false, "%s", e.message);
            return report_end();
        }
        size_t n = (size_t)CLIPS * TOKENS * g->model.vit.c.d_model;
        float *vision = malloc(n * sizeof *vision);
        for (size_t k = 0; k < n; k++)
            vision[k] = (float)random_signed();
        check(g, vision, 3, 0, 1);
        check(g, vision, 3, 9, 1);
        check(g, vision, CLIPS, 30, 3); // 30 rows of text are few, 3 times 30 are many
        free(vision);
        iv_engine_close(g);
    }
    return report_end();
}
