// SPDX-License-Identifier: MIT
// Golden cases that run a model: chat turns, stages, beams, bf16.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "ivchat.h"

enum { SIDE = 224, FRAME = 3 * SIDE * SIDE, MAX_STAGE = 64 };

// What the stage callback saw last under each name.
struct stage {
    char name[32];
    size_t n, dim[8];
    unsigned rank;
    void *data;
};
struct capture {
    struct stage stage[MAX_STAGE];
    size_t n;
};

static void capture_stage(void *user, const char *name, const char *dtype, const void *data,
                          const size_t *dim, unsigned rank)
{
    struct capture *c = user;
    size_t i = 0, n = 1;
    while (i < c->n && strcmp(c->stage[i].name, name) != 0)
        i++;
    if (i == MAX_STAGE || strlen(name) >= sizeof c->stage[i].name)
        return;
    if (i == c->n)
        c->n++;
    struct stage *s = &c->stage[i];
    for (unsigned r = 0; r < rank; r++)
        n *= s->dim[r] = dim[r];
    snprintf(s->name, sizeof s->name, "%s", name);
    s->rank = rank;
    s->n = n;
    free(s->data);
    s->data = malloc(n * 4 + 1); // f32 and int32 alike
    memcpy(s->data, data, n * 4);
    (void)dtype;
}

static const struct stage *captured(const struct capture *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->stage[i].name, name))
            return &c->stage[i];
    return NULL;
}

static void capture_free(struct capture *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->stage[i].data);
    free(c);
}

// One engine at a time: opening is cheap, memory is not.
static iv_engine *engine;
static char engine_key[256];

static iv_engine *open_engine(struct golden *g, const char *checkpoint, const char *dtype,
                              const char *variant)
{
    char key[256], path[4400];
    struct iv_error e;
    snprintf(key, sizeof key, "%s/%s/%s", checkpoint, dtype, variant);
    if (engine && !strcmp(key, engine_key))
        return engine;
    iv_engine_close(engine);
    engine = NULL;
    struct iv_engine_options o = iv_engine_options_default();
    o.model = golden_path(g, checkpoint, path, sizeof path);
    o.dtype = dtype;
    o.variant = variant;
    o.cpu = g->cpu;
    if (g->device)
        o.device = g->device;
    if (iv_engine_open(&o, &engine, &e) != 0)
        fprintf(stderr, "%s\n", e.message);
    snprintf(engine_key, sizeof engine_key, "%s", key);
    return engine;
}

void model_cases_end(void)
{
    iv_engine_close(engine);
    engine = NULL;
}

// A medium made of frames of media/yoga_hd: clip and frame lists into [3,8] frames.
struct recipe {
    const char *words; // inputs.media begins with this
    size_t n_clip, n_frame;
    int clip[3];
    int frame[16];
};

static const struct recipe recipes[] = {
    {"media/yoga_hd pixels", 3, 8, {0, 1, 2}, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"clip 2, frame 0 of media/yoga_hd", 1, 1, {2}, {0}},
    {"clip 0 of media/yoga_hd", 1, 8, {0}, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"clip 2 of media/yoga_hd", 1, 8, {2}, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"every frame of media/yoga_hd twice",
     3,
     16,
     {0, 1, 2},
     {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7}},
    {"frames 0,2,4,6 of media/yoga_hd", 3, 4, {0, 1, 2}, {0, 2, 4, 6}},
    {"frame 0 of media/yoga_hd", 3, 1, {0, 1, 2}, {0}},
    {"clips 0,1, frame 0 of media/yoga_hd", 2, 1, {0, 1}, {0}},
};

static int media_of_recipe(struct golden *g, const struct recipe *r, bool image, iv_media **out,
                           struct iv_error *e)
{
    struct npy base;
    if (!golden_array(g, golden_find(g, "media/yoga_hd"), "pixels", &base, NULL, NULL))
        return IV_ERR_FAIL;
    float *px = malloc(r->n_clip * r->n_frame * FRAME * sizeof *px);
    for (size_t c = 0; c < r->n_clip; c++)
        for (size_t t = 0; t < r->n_frame; t++)
            memcpy(px + (c * r->n_frame + t) * FRAME,
                   base.f32 + (r->clip[c] * 8 + r->frame[t]) * FRAME, FRAME * sizeof *px);
    int rc = iv_media_from_pixels(engine, px, r->n_clip, r->n_frame, image, out, e);
    free(px);
    npy_free(&base);
    return rc;
}

static int open_media(struct golden *g, const js_value *c, iv_media **out, struct iv_error *e)
{
    const char *words = golden_input(c, "media", "");
    bool image = !strcmp(golden_input(c, "media_type", "video"), "image");
    char yoga[4200];
    snprintf(yoga, sizeof yoga, "%s/upstream/yoga.mp4", g->data);
    struct iv_media_options o = iv_media_options_default();
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        if (!strncmp(words, recipes[i].words, strlen(recipes[i].words)))
            return media_of_recipe(g, &recipes[i], image, out, e);
    if (!strncmp(words, "zeros", 5)) {
        float *px = calloc((size_t)3 * 8 * FRAME, sizeof *px);
        int rc = iv_media_from_pixels(engine, px, 3, 8, false, out, e);
        free(px);
        return rc;
    }
    if (!strncmp(words, "yoga.mp4, 16 segments", 21)) {
        o.n_frame = 16;
    } else if (!strncmp(words, "yoga.mp4, 8 segments, hd_num 4, padding", 39)) {
        o.hd_num = 4;
        o.padding = true;
    } else if (strcmp(words, "media/yoga_8b") != 0) {
        snprintf(e->message, sizeof e->message, "no recipe for \"%s\"", words);
        return IV_ERR_FAIL;
    }
    return iv_media_open_video(engine, yoga, &o, out, e);
}

// Rows of a stage as golden stores them: one clip, or the later ones, every stride-th token.
static float *take_rows(const struct stage *s, size_t first_clip, size_t n_clip, size_t skip,
                        size_t n_row, size_t *n)
{
    size_t tok = s->dim[1] - skip, d = s->dim[2], stride = (tok + n_row - 1) / n_row;
    float *out = malloc(n_clip * n_row * d * sizeof *out);
    *n = 0;
    for (size_t c = first_clip; c < first_clip + n_clip; c++)
        for (size_t r = 0; r < tok; r += stride, *n += d)
            memcpy(out + *n, (const float *)s->data + (c * s->dim[1] + skip + r) * d,
                   d * sizeof *out);
    return out;
}

// The captured stage in the form of the golden array `name`; *n = 0 when it does not fit.
static float *like_golden(const struct capture *c, const char *name, const struct npy *want,
                          size_t *n)
{
    char stage[32];
    unsigned block;
    size_t d = want->dim[want->rank - 1];
    const struct stage *s;
    *n = 0;
    if (sscanf(name, "block%u_clip0", &block) == 1)
        snprintf(stage, sizeof stage, "vit_block_%u", block);
    else
        snprintf(stage, sizeof stage, "%s",
                 !strncmp(name, "vit", 3)       ? "vit"
                 : !strcmp(name, "patch_clip0") ? "vit_patch"
                                                : name);
    s = captured(c, stage);
    if (!s || s->dim[s->rank - 1] != d)
        return NULL;
    if (!strcmp(stage, name) && strcmp(name, "vit") != 0) { // logits, qformer, projected
        float *out = malloc(s->n * sizeof *out);
        memcpy(out, s->data, s->n * sizeof *out);
        *n = s->n;
        return out;
    }
    if (!strcmp(name, "vit_rest"))
        return take_rows(s, 1, s->dim[0] - 1, 0, want->n / d / (s->dim[0] - 1), n);
    return take_rows(s, 0, 1, !strcmp(name, "patch_clip0"), want->n / d, n);
}

struct run {
    struct capture *capture;
    struct iv_answer answer;
    int32_t *prompt;
    size_t n_prompt;
};

static bool run_case(struct golden *g, const js_value *c, const char *dtype, struct run *r)
{
    const char *id = golden_id(c), *checkpoint = golden_input(c, "checkpoint", "tiny-hd");
    const char *variant = !strncmp(id, "8b/", 3)                 ? "8b"
                          : !strcmp(checkpoint, "tiny-internlm") ? "internlm"
                                                                 : "hd";
    struct iv_error e = {0};
    iv_media *media = NULL;
    iv_session *s = NULL;
    bool ok = false;
    memset(r, 0, sizeof *r);
    r->capture = calloc(1, sizeof *r->capture);
    if (!open_engine(g, checkpoint, dtype, variant) || open_media(g, c, &media, &e) != 0)
        goto done;
    struct iv_session_options so = iv_session_options_default();
    so.allow_special = true; // as the reference
    so.instruction = golden_input(c, "instruction", NULL);
    so.msg = golden_input(c, "msg", NULL);
    so.callbacks.user = r->capture;
    so.callbacks.stage = capture_stage;
    if (iv_session_open(engine, media, &so, &s, &e) != 0)
        goto done;
    const js_value *history = js_get(js_get(c, "inputs"), "history");
    for (size_t i = 0; i < js_size(history); i++) {
        struct iv_turn turn = {.prompt = js_str(js_at(js_at(history, i), 0), NULL),
                               .answer = js_str(js_at(js_at(history, i), 1), NULL)};
        if (iv_session_add_turn(s, &turn, &e) != 0)
            goto done;
    }
    struct iv_ask_options a = iv_ask_options_default();
    a.max_new_tokens = (int)golden_input_num(c, "max_new_tokens", 32);
    a.answer_prefix = golden_input(c, "answer_prompt", NULL);
    a.num_beams = (int)golden_input_num(c, "num_beams", 1);
    a.length_penalty = golden_input_num(c, "length_penalty", 1);
    a.repetition_penalty = golden_input_num(c, "repetition_penalty", 1);
    const char *prompt = golden_input(c, "prompt", "");
    if (iv_session_prompt_ids(s, prompt, a.answer_prefix, &r->prompt, &r->n_prompt, &e) != 0 ||
        iv_session_ask(s, prompt, &a, &r->answer, &e) != 0)
        goto done;
    ok = true;
done:
    if (!ok)
        report_result(g, id, "run", false, "%s", e.message);
    iv_session_close(s);
    iv_media_close(media);
    return ok;
}

static void run_free(struct run *r)
{
    capture_free(r->capture);
    iv_answer_free(&r->answer);
    iv_free(r->prompt);
}

static void compare_arrays(struct golden *g, const js_value *c, const struct run *r)
{
    const js_value *arrays = js_get(c, "arrays");
    for (size_t i = 0; i < js_size(arrays); i++) {
        const char *name = js_str(js_get(js_at(arrays, i), "name"), NULL);
        struct npy want;
        double max_abs, cosine;
        size_t n;
        if (!golden_array(g, c, name, &want, &max_abs, &cosine)) {
            report_result(g, golden_id(c), name, false, "the stored array cannot be read");
            continue;
        }
        if (max_abs < 0 && cosine < 0) {
            report_result(g, golden_id(c), name, false, "no tolerance is stored");
            npy_free(&want);
            continue;
        }
        float *got = like_golden(r->capture, name, &want, &n);
        if (!got || n != want.n)
            report_result(g, golden_id(c), name, false, "%zu values, expected %zu", n, want.n);
        else
            report_distance(g, golden_id(c), name, golden_distance(got, want.f32, n), max_abs,
                            cosine);
        free(got);
        npy_free(&want);
    }
}

static void f32_case(struct golden *g, const js_value *c)
{
    const char *id = golden_id(c);
    struct run r;
    size_t n;
    if (run_case(g, c, "f32", &r)) {
        int32_t *want = golden_prompt_ids(golden_value(c, "prompt_ids"), &n);
        report_ids(g, id, "prompt", r.prompt, r.n_prompt, want, n);
        free(want);
        compare_arrays(g, c, &r);
        want = golden_ints(golden_value(c, "generated_ids"), &n);
        report_ids(g, id, "ids", r.answer.token_ids, r.answer.n_token, want, n);
        free(want);
        report_text(g, id, "response", r.answer.text, js_str(golden_value(c, "response"), NULL));
        const js_value *best = js_at(golden_value(c, "hypotheses"), 0);
        double score, tolerance = 1e-3;
        if (js_num(js_get(best, "score"), &score)) {
            js_num(golden_value(c, "score_tolerance"), &tolerance);
            double d = r.answer.score - score;
            report_result(g, id, "score", d <= tolerance && d >= -tolerance, "%.6f, expected %.6f",
                          r.answer.score, score);
        }
    }
    run_free(&r);
}

// bf16: not further from float32 than the reference's own bf16 run. For turn1 float32 is golden's; for
// turn2, which has no stored float32 logits, it is our own.
static void bf16_case(struct golden *g, const js_value *c)
{
    static const char *const stages[] = {"vit", "qformer", "projected", "logits"};
    const char *id = golden_id(c);
    const js_value *f32 = golden_find(g, "hd/turn1");
    bool first = !strcmp(id, "bf16/turn1");
    struct run r, own;
    memset(&own, 0, sizeof own);
    if (!first && !run_case(g, c, "f32", &own)) {
        run_free(&own);
        return;
    }
    if (run_case(g, c, "bf16", &r)) {
        for (size_t i = 0; i < 4; i++) {
            char key[40];
            struct npy want, shape;
            size_t n, n_own;
            double max_abs = 0, cosine = 0;
            snprintf(key, sizeof key, "%s_distance_to_f32", stages[i]);
            const js_value *limit = golden_value(c, key);
            if (!limit || !golden_array(g, c, stages[i], &shape, NULL, NULL))
                continue;
            js_num(js_get(limit, "max_abs"), &max_abs);
            js_num(js_get(limit, "cosine"), &cosine);
            float *got = like_golden(r.capture, stages[i], &shape, &n), *ref = NULL;
            if (first) {
                const char *name = !strcmp(stages[i], "vit") ? "vit_clip0" : stages[i];
                if (golden_array(g, f32, name, &want, NULL, NULL)) {
                    // golden's bf16 rows are strided more widely than the float32 ones
                    size_t d = want.dim[want.rank - 1],
                           step = want.n > n ? (want.n / d + n / d - 1) / (n / d) : 1;
                    ref = malloc(n * sizeof *ref);
                    for (size_t k = 0; k < n / d; k++)
                        memcpy(ref + k * d, want.f32 + k * step * d, d * sizeof *ref);
                    npy_free(&want);
                }
            } else {
                ref = like_golden(own.capture, stages[i], &shape, &n_own);
            }
            if (got && ref)
                report_distance(g, id, stages[i], golden_distance(got, ref, n), 1.25 * max_abs,
                                cosine);
            else
                report_result(g, id, stages[i], false, "stage not seen");
            free(got);
            free(ref);
            npy_free(&shape);
        }
    }
    run_free(&r);
    if (!first)
        run_free(&own);
}

bool model_case(struct golden *g, const js_value *c)
{
    const char *id = golden_id(c);
    if (!strncmp(id, "bf16/", 5))
        bf16_case(g, c);
    else if (!strncmp(id, "hd/", 3) || !strncmp(id, "8b/", 3) || !strncmp(id, "internlm/", 9) ||
             !strncmp(id, "beams/", 6))
        f32_case(g, c);
    else
        return false;
    return true;
}
