// SPDX-License-Identifier: MIT
// Times of the model's stages on a GPU: vision of 3 clips of 8 frames, prefill of a prompt, decoding of one
// sequence and of many at once, and of as many conversations with a thread each. Medians; the profiles are sums of
// device time by launch.
//   bench_model MODEL [DEVICE [N_CLIP [N_PROMPT [N_SEQUENCE [GPU_WEIGHTS]]]]]; N_CLIP 0 = no vision
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "median.h"

enum { REPEAT = 10, STEPS = 48, N_TIME = 96 };

static int by_time(const void *a, const void *b)
{
    const struct gpu_time *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

// A stream of the CPU has no profile of launches.
static void profile_start(const iv_engine *g, struct ops *o)
{
    if (g->gpu)
        ops_gpu_profile_start(o);
}

static void print_profile(const iv_engine *g, struct ops *o, const char *title)
{
    struct gpu_time t[N_TIME];
    if (!g->gpu)
        return;
    size_t n = ops_gpu_profile_stop(o, t, N_TIME);
    double all = 0;
    qsort(t, n, sizeof t[0], by_time);
    for (size_t i = 0; i < n; i++)
        all += t[i].ms;
    printf("%s: %.3f ms of device time by launch\n", title, all);
    for (size_t i = 0; i < n && i < 16; i++)
        printf("  %9.3f ms %6zu x  %s\n", t[i].ms, t[i].n, t[i].name);
}

static void die(const struct err *e)
{
    fprintf(stderr, "bench_model: %s\n", e->msg);
    exit(1);
}

static void run_vision(struct ops *o, const struct vit *v, const struct vit_input *in, struct mat x)
{
    float last;
    vit_forward(o, v, in, x);
    op_download(o, &last, mat_cols(mat_rows(x, x.rows - 1, 1), 0, 1)); // waits
}

static void bench_vision(const iv_engine *g, size_t n_clip)
{
    const struct vit *v = &g->model.vit;
    static const struct hooks none = {0};
    struct ops *o, *plan;
    struct err e = {0};
    size_t n_frame = 8, n_tok = vit_tokens(&v->c, n_frame), d = v->c.d_model;
    size_t n_pixel = n_clip * n_frame * 3 * v->c.image_size * v->c.image_size;
    float *pixels = mem_calloc(n_pixel, sizeof *pixels);
    float *position = mem_calloc(n_tok * d, sizeof *position);
    double ms[REPEAT], flop;
    if (!pixels || !position || engine_open_plan(g, &none, &plan, &e) != 0 ||
        engine_open_ops(g, &none, &o, &e) != 0)
        die(&e);
    for (size_t i = 0; i < n_pixel; i++)
        pixels[i] = (float)(rand() % 2000) / 1000.0f - 1.0f;
    vit_position(v, n_frame, position);
    struct vit_input in = {.pixels = pixels,
                           .n_clip = n_clip,
                           .n_frame = n_frame,
                           .position = position,
                           .hooks = &none};
    run_vision(plan, v, &in, ops_mat(plan, n_clip * n_tok, d));
    flop = ops_plan_result(plan).flops;
    if (ops_reserve(o, ops_plan_result(plan).arena_bytes, &e) != 0)
        die(&e);
    struct mat x = ops_mat(o, n_clip * n_tok, d);
    run_vision(o, v, &in, x);
    for (size_t i = 0; i < REPEAT; i++) {
        double start = clock_ms();
        run_vision(o, v, &in, x);
        ms[i] = clock_ms() - start;
    }
    double t = median(ms, REPEAT);
    printf("vision, %zu clips of %zu frames: %.2f ms, %.2f TFLOP, %.0f TFLOP/s\n", n_clip, n_frame,
           t, flop * 1e-12, flop / t * 1e-9);
    profile_start(g, o);
    run_vision(o, v, &in, x);
    print_profile(g, o, "vision");
    if (ops_status(o, &e) != 0)
        die(&e);
    ops_close(o);
    ops_close(plan);
    mem_free(pixels);
    mem_free(position);
}

static double prefill(struct runner *r, const int32_t *ids, size_t n, size_t max_new, float *logits)
{
    struct err e = {0};
    double start = clock_ms();
    if (runner_prefill(r, &(struct runner_prompt){.ids = ids, .n = n, .max_new = max_new}, logits,
                       &e) != 0)
        die(&e);
    return clock_ms() - start;
}

static double step(struct runner *r, const int32_t *ids, size_t n, float *logits)
{
    struct err e = {0};
    double start = clock_ms();
    if (runner_step(r, ids, n, logits, &e) != 0)
        die(&e);
    return clock_ms() - start;
}

static void bench_text(const iv_engine *g, size_t n_prompt, size_t n_seq)
{
    const struct llm_config *c = &g->config.llm;
    struct iv_callbacks none = {0};
    struct err e = {0};
    struct runner r;
    struct ops_plan plan, plan_step;
    size_t parent[RUNNER_MAX_BEAM] = {0}, counts[] = {8, 16, n_seq};
    int32_t *ids = mem_calloc(n_prompt + RUNNER_MAX_BEAM, sizeof *ids);
    float *logits = mem_calloc(RUNNER_MAX_BEAM * c->n_vocab, sizeof *logits);
    double ms[STEPS];
    if (!ids || !logits || runner_init(&r, g, &none, 0, &e) != 0 ||
        runner_plan(g, 0, n_prompt, 1, &plan, &plan_step, &e) != 0)
        die(&e);
    for (size_t i = 0; i < n_prompt + RUNNER_MAX_BEAM; i++)
        ids[i] = (int32_t)((size_t)rand() % c->n_vocab);
    prefill(&r, ids, n_prompt, 4 * STEPS, logits);
    for (size_t i = 0; i < REPEAT; i++)
        ms[i] = prefill(&r, ids, n_prompt, 4 * STEPS, logits);
    double t = median(ms, REPEAT);
    printf("prefill, %zu tokens: %.2f ms, %.2f TFLOP, %.0f TFLOP/s\n", n_prompt, t,
           plan.flops * 1e-12, plan.flops / t * 1e-9);
    profile_start(g, r.ops);
    prefill(&r, ids, n_prompt, 4 * STEPS, logits);
    print_profile(g, r.ops, "prefill");
    double first = step(&r, ids, 1, logits);
    for (size_t i = 0; i < STEPS; i++)
        ms[i] = step(&r, ids + i % n_prompt, 1, logits);
    t = median(ms, STEPS);
    double one = t;
    printf("decode, 1 sequence: %.3f ms (the first, recorded: %.1f), %.0f tokens/s, %.0f GB/s of "
           "weights\n",
           t, first, 1000 / t, plan_step.weight_bytes / t * 1e-6);
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        size_t n = counts[k];
        prefill(&r, ids, n_prompt, 4 * STEPS, logits);
        if (runner_reorder(&r, parent, n, &e) != 0)
            die(&e);
        step(&r, ids, n, logits);
        for (size_t i = 0; i < STEPS; i++)
            ms[i] = step(&r, ids + i, n, logits);
        t = median(ms, STEPS);
        printf("decode, %zu sequences: %.3f ms, %.0f tokens/s, %.1f x one\n", n, t,
               1000 * (double)n / t, (double)n * one / t);
    }
    runner_free(&r);
    mem_free(ids);
    mem_free(logits);
}

struct talker {
    const iv_engine *engine;
    pthread_t thread;
    size_t n_token;
    double ms;
};

static void *talk(void *user)
{
    struct talker *t = user;
    struct iv_session_options so = iv_session_options_default();
    struct iv_ask_options o = iv_ask_options_default();
    struct iv_answer a;
    iv_session *s;
    o.max_new_tokens = 4 * STEPS;
    o.ignore_eos = true;
    if (iv_session_open(t->engine, NULL, &so, &s, NULL) != IV_OK)
        return NULL;
    if (iv_session_ask(s, "What is the person in the video doing, and where?", &o, &a, NULL) ==
        IV_OK) {
        t->n_token = a.n_token;
        t->ms = a.generate_ms;
        iv_answer_free(&a);
    }
    iv_session_close(s);
    return NULL;
}

// As a server has them: their steps meet in the engine.
static void bench_talks(const iv_engine *g, size_t n)
{
    struct talker t[RUNNER_MAX_BEAM] = {0};
    struct batch_counts before = batch_counts(g->batch), after;
    double sum = 0;
    size_t n_done = 0;
    for (size_t i = 0; i < n; i++) {
        t[i].engine = g;
        if (pthread_create(&t[i].thread, NULL, talk, &t[i]) != 0) {
            fprintf(stderr, "bench_model: no thread\n");
            exit(1);
        }
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(t[i].thread, NULL);
        sum += t[i].ms > 0 ? (double)t[i].n_token * 1000 / t[i].ms : 0;
        n_done += t[i].n_token > 0;
    }
    after = batch_counts(g->batch);
    printf("decode, %zu conversations (%zu answered): %.0f tokens/s in all, %.1f rows a pass\n", n,
           n_done, sum,
           (double)(after.n_row - before.n_row) /
               (double)(after.n_pass > before.n_pass ? after.n_pass - before.n_pass : 1));
}

int main(int argc, char **argv)
{
    struct iv_engine_options opt = iv_engine_options_default();
    struct iv_error error;
    iv_engine *g;
    if (argc < 2) {
        fprintf(
            stderr,
            "usage: bench_model MODEL [DEVICE [N_CLIP [N_PROMPT [N_SEQUENCE [GPU_WEIGHTS]]]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    opt.model = argv[1];
    opt.device = argc > 2 ? argv[2] : "cuda:0";
    size_t n_clip = argc > 3 ? strtoul(argv[3], NULL, 10) : 3;
    size_t n_prompt = argc > 4 ? strtoul(argv[4], NULL, 10) : 322;
    size_t n_seq = argc > 5 ? strtoul(argv[5], NULL, 10) : 32;
    opt.gpu_weights = argc > 6 ? argv[6] : NULL;
    if (iv_engine_open(&opt, &g, &error) != IV_OK) {
        fprintf(stderr, "bench_model: %s\n", error.message);
        return 1;
    }
    printf("%s on %s, %s, opened in %.0f ms\n", iv_engine_info(g)->name, iv_engine_info(g)->device,
           iv_engine_info(g)->dtype, iv_engine_info(g)->load_ms);
    if (n_clip > 0)
        bench_vision(g, n_clip);
    bench_text(g, n_prompt, n_seq);
    if (n_seq > 0 && n_seq <= RUNNER_MAX_BEAM)
        bench_talks(g, n_seq);
    iv_engine_close(g);
    return 0;
}
