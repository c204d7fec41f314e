// SPDX-License-Identifier: MIT
// The runs of `ivchat bench`, each stage through the public interface as a program would use it.
//
//   video, preprocess    media opened again and again: times that the media tells
//   vision, qformer      one clip's pixels, a new media each time, so that nothing is reused
//   prefill, decode      text alone: a prompt of a chosen number of tokens; steps are timed from token to token
//   first-turn ...       an engine opened anew each time, since its cache would know the video
//
// A first run of each, except of turns, is not counted: it maps weights and memory. Without --video the frames are
// made here, and there is no decoding to measure.
//
// Easy to get wrong: the first token comes with the prefill, so n tokens are n - 1 steps; what is counted of a
// turn's arithmetic is what has to be done, not what is done.

#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "heap.h"
#include "savefile.h"
#include "wallclock.h"

enum { FRAME_WIDTH = 568, FRAME_HEIGHT = 320, FRAMES_MAX = 512 };

const char *const bench_stage_name[BENCH_STAGE_N] = {
    "video",  "preprocess", "vision",     "qformer",     "prefill",
    "decode", "sessions",   "first-turn", "second-turn", "second-turn-warm"};

static double now_ms(void)
{
    return 1e3 * clock_seconds();
}

static int add(struct bench *b, enum bench_stage stage, double ms)
{
    if (!b->row[stage].wanted || samples_add(&b->row[stage].time, ms))
        return IV_OK;
    return app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for the times of %s",
                     bench_stage_name[stage]);
}

static void part(struct bench *b, enum bench_stage stage, double flop, double bytes)
{
    struct bench_row *r = &b->row[stage];
    if (r->n_part < BENCH_PARTS)
        r->part[r->n_part++] = (struct bench_part){flop, bytes};
}

int bench_peaks(struct bench *b)
{
    if (!b->settings.peaks)
        return IV_OK;
    b->measured = true;
    return iv_peaks_measure(b->settings.cpu, b->settings.threads, &b->peaks, &b->work.error);
}

// Around a group of stages that are measured together.
static int measure(struct bench *b, enum bench_stage first, enum bench_stage last,
                   int (*run)(struct bench *b))
{
    bool any = false;
    for (int i = (int)first; i <= (int)last; i++) {
        any = any || b->row[i].wanted;
        b->row[i].before = b->peaks;
    }
    if (!any)
        return IV_OK;
    int rc = run(b);
    if (rc == IV_OK)
        rc = bench_peaks(b);
    for (int i = (int)first; i <= (int)last; i++)
        b->row[i].after = b->peaks;
    return rc;
}

// ---- media

static size_t frame_count(const struct bench *b)
{
    int n = b->settings.num_frames;
    size_t given = n > 0 ? (size_t)n : iv_engine_info(b->work.engine)->default_n_frame;
    return given < FRAMES_MAX ? given : FRAMES_MAX;
}

// Grey noise under a moving bar, the same each time.
static int made_frames(struct bench *b, iv_media **out, double *ms)
{
    size_t n = frame_count(b), size = (size_t)FRAME_WIDTH * FRAME_HEIGHT * 3;
    uint8_t *rgb = heap_calloc(n, size);
    uint32_t state = 1;
    if (!rgb)
        return app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for %zu frames", n);
    for (size_t i = 0; i < n * size; i++) {
        state = state * 1664525u + 1013904223u;
        bool bar = i % (FRAME_WIDTH * 3) / 96 == i / size % 18;
        rgb[i] = (uint8_t)((bar ? 160 : 64) + (state >> 28));
    }
    struct iv_media_options o = work_media_options(&b->work);
    double begun = now_ms();
    int rc = iv_media_from_rgb(b->work.engine, rgb, n, FRAME_WIDTH, FRAME_HEIGHT, 30, &o, out,
                               &b->work.error);
    *ms = now_ms() - begun;
    heap_free(rgb);
    return rc;
}

int bench_media(struct bench *b, iv_media **out, double *ms)
{
    return b->settings.video ? work_media_open(&b->work, out, ms) : made_frames(b, out, ms);
}

static int run_media(struct bench *b)
{
    int rc = IV_OK;
    for (int i = 0; i <= b->settings.repeat && rc == IV_OK; i++) {
        iv_media *media;
        double ms;
        rc = bench_media(b, &media, &ms);
        if (rc != IV_OK)
            return rc;
        const struct iv_media_info *info = iv_media_info(media);
        if (i > 0 && b->settings.video)
            rc = add(b, BENCH_VIDEO, info->decode_ms);
        if (i > 0 && rc == IV_OK)
            rc = add(b, BENCH_PREPROCESS, info->preprocess_ms);
        iv_media_close(media);
    }
    return rc;
}

static int plan_media(struct bench *b, size_t tokens, size_t n_new, const iv_media *media,
                      struct iv_plan *plan)
{
    struct iv_media_options o = work_media_options(&b->work);
    struct iv_ask_options ask = iv_ask_options_default();
    const struct iv_media_info *info = iv_media_info(media);
    ask.max_new_tokens = (int)n_new;
    return iv_plan(b->work.engine, &o, (size_t)info->width, (size_t)info->height, tokens, &ask,
                   plan, &b->work.error);
}

static int encode_clip(struct bench *b, const float *pixels, size_t n_frame, bool count)
{
    iv_media *clip;
    float *vit = NULL;
    size_t dim[6];
    unsigned n_dim;
    struct iv_error *e = &b->work.error;
    int rc = iv_media_from_pixels(b->work.engine, pixels, 1, n_frame, n_frame == 1, &clip, e);
    if (rc != IV_OK)
        return rc;
    rc = iv_media_stage(clip, IV_STAGE_VIT, NULL, &vit, dim, &n_dim, e);
    iv_free(vit);
    if (rc == IV_OK && count)
        rc = add(b, BENCH_VISION, iv_media_info(clip)->vision_ms);
    if (rc == IV_OK && count)
        rc = add(b, BENCH_QFORMER, iv_media_info(clip)->qformer_ms);
    iv_media_close(clip);
    return rc;
}

static int run_vision(struct bench *b)
{
    iv_media *media;
    float *pixels = NULL;
    struct iv_plan plan;
    size_t dim[6];
    unsigned n_dim;
    double ms;
    int rc = bench_media(b, &media, &ms);
    if (rc != IV_OK)
        return rc;
    rc = plan_media(b, 1, 1, media, &plan);
    if (rc == IV_OK)
        rc = iv_media_stage(media, IV_STAGE_PIXELS, NULL, &pixels, dim, &n_dim, &b->work.error);
    for (int i = 0; i <= b->settings.repeat && rc == IV_OK; i++)
        rc = encode_clip(b, pixels, dim[2], i > 0);
    if (rc == IV_OK) {
        double clips = (double)plan.n_clip;
        part(b, BENCH_VISION, plan.vit_flop / clips, plan.vit_bytes / clips);
        part(b, BENCH_QFORMER, plan.qformer_flop / clips, plan.qformer_bytes);
    }
    iv_free(pixels);
    iv_media_close(media);
    return rc;
}

// ---- text

static int prompt_size(iv_session *session, const char *text, size_t *n, struct iv_error *e)
{
    int32_t *ids;
    int rc = iv_session_prompt_ids(session, text, NULL, &ids, n, e);
    if (rc == IV_OK)
        iv_free(ids);
    return rc;
}

// *n_token of word repeated n times
static int repeated(iv_session *session, const char *word, size_t n, char **text, size_t *n_token,
                    struct iv_error *e)
{
    size_t len = strlen(word) + 1;
    heap_free(*text);
    *text = heap_calloc(n * len + 1, 1);
    if (!*text)
        return app_error(e, IV_ERR_LIMIT, "out of memory for a prompt of %zu words", n);
    for (size_t i = 0; i < n; i++)
        (void)snprintf(*text + i * len, len + 1, "%s ", word);
    return prompt_size(session, *text, n_token, e);
}

int bench_prompt(struct bench *b, size_t n, char **text)
{
    static const char *const words[] = {"a", "1", "the", "and"};
    struct iv_session_options o = iv_session_options_default();
    struct iv_error *e = &b->work.error;
    iv_session *session;
    size_t got = 0;
    int rc = iv_session_open(b->work.engine, NULL, &o, &session, e);
    *text = NULL;
    if (rc != IV_OK)
        return rc;
    for (size_t w = 0; w < sizeof words / sizeof *words && rc == IV_OK && got != n; w++) {
        size_t count = n;
        for (int i = 0; i < 8 && rc == IV_OK && got != n; i++) {
            rc = repeated(session, words[w], count, text, &got, e);
            if (rc == IV_OK && got != n)
                count = count + n > got ? count + n - got : 1;
        }
    }
    iv_session_close(session);
    if (rc == IV_OK && got != n)
        rc = app_error(e, IV_ERR_USAGE,
                       "%zu tokens: no prompt of that length; the template alone takes some", n);
    if (rc != IV_OK) {
        heap_free(*text);
        *text = NULL;
    }
    return rc;
}

static int plan_text(struct bench *b, size_t n, struct iv_plan *plan)
{
    struct iv_ask_options ask = iv_ask_options_default();
    ask.max_new_tokens = b->settings.max_new_tokens;
    return iv_plan(b->work.engine, NULL, 0, 0, n, &ask, plan, &b->work.error);
}

int bench_ask_text(struct bench *b, const char *prompt, const struct iv_ask_options *ask,
                   double *prefill_ms)
{
    struct iv_session_options o = iv_session_options_default();
    struct iv_answer answer;
    iv_session *session;
    o.callbacks = work_callbacks(&b->work);
    int rc = iv_session_open(b->work.engine, NULL, &o, &session, &b->work.error);
    if (rc != IV_OK)
        return rc;
    rc = iv_session_ask(session, prompt, ask, &answer, &b->work.error);
    if (rc == IV_OK) {
        *prefill_ms = answer.prefill_ms;
        iv_answer_free(&answer);
    }
    iv_session_close(session);
    return rc;
}

static int run_prefill(struct bench *b)
{
    size_t n = (size_t)b->settings.prompt_tokens;
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_plan plan;
    char *prompt;
    double ms;
    int rc = bench_prompt(b, n, &prompt);
    if (rc == IV_OK)
        rc = plan_text(b, n, &plan);
    ask.max_new_tokens = 1;
    for (int i = 0; i <= b->settings.repeat && rc == IV_OK; i++) {
        rc = bench_ask_text(b, prompt, &ask, &ms);
        if (rc == IV_OK && i > 0)
            rc = add(b, BENCH_PREFILL, ms);
    }
    if (rc == IV_OK) {
        part(b, BENCH_PREFILL, plan.prefill_flop, plan.prefill_bytes);
        b->row[BENCH_PREFILL].tokens = (double)n;
    }
    heap_free(prompt);
    return rc;
}

static int run_decode(struct bench *b)
{
    struct bench_row *row = &b->row[BENCH_DECODE];
    struct iv_plan plan;
    int rc = plan_text(b, (size_t)b->settings.context, &plan);
    if (rc == IV_OK)
        rc = bench_decode(b, row);
    if (rc == IV_OK) {
        part(b, BENCH_DECODE, plan.decode_flop_per_token,
             plan.decode_bytes_per_token + plan.decode_kv_bytes);
        row->tokens = 1;
    }
    return rc;
}

static int run_sessions(struct bench *b)
{
    struct bench_row *row = &b->row[BENCH_SESSIONS];
    double n = b->settings.sessions;
    struct iv_plan plan;
    int rc = plan_text(b, (size_t)b->settings.context, &plan);
    if (rc == IV_OK)
        rc = bench_sessions(b, row);
    if (rc == IV_OK) {
        part(b, BENCH_SESSIONS, n * plan.decode_flop_per_token,
             plan.decode_bytes_per_token + n * plan.decode_kv_bytes);
        row->tokens = n;
    }
    return rc;
}

// ---- turns

// What the two turns have to do at least.
static int count_turns(struct bench *b, const iv_media *media, const struct iv_answer *first,
                       const struct iv_answer *second, const struct iv_answer *warm)
{
    struct iv_plan p = {0};
    const struct iv_engine_info *i = iv_engine_info(b->work.engine);
    size_t visual = iv_media_info(media)->n_clip * (size_t)i->n_query;
    size_t text = first->prompt_tokens > visual ? first->prompt_tokens - visual : 1;
    int rc = plan_media(b, text, first->n_token, media, &p);
    if (rc != IV_OK)
        return rc;
    double steps = (double)first->n_token - 1;
    part(b, BENCH_FIRST, p.vit_flop, p.vit_bytes);
    part(b, BENCH_FIRST, p.qformer_flop, p.qformer_bytes);
    part(b, BENCH_FIRST, p.prefill_flop, p.prefill_bytes);
    part(b, BENCH_FIRST, steps * p.decode_flop_per_token,
         steps * (p.decode_bytes_per_token + p.decode_kv_bytes));
    b->row[BENCH_FIRST].tokens = (double)first->n_token;
    double per_token = p.prefill_flop / (double)first->prompt_tokens;
    part(b, BENCH_SECOND, per_token * (double)(second->prompt_tokens - second->cached_tokens),
         p.prefill_bytes);
    part(b, BENCH_WARM, per_token * (double)(warm->prompt_tokens - warm->cached_tokens),
         p.prefill_bytes);
    return IV_OK;
}

struct turns {
    struct iv_answer first, second, warm;
};

static int ask_turns(struct bench *b, iv_session *session, double begun, struct turns *t)
{
    struct iv_error *e = &b->work.error;
    struct iv_ask_options ask = iv_ask_options_default();
    ask.ignore_eos = true;
    ask.max_new_tokens = b->settings.max_new_tokens;
    int rc = iv_session_ask(session, "Describe the action step by step.", &ask, &t->first, e);
    double first_ms = now_ms() - begun;
    ask.max_new_tokens = 1;
    if (rc == IV_OK)
        rc = iv_session_ask(session, "What is she wearing?", &ask, &t->second, e);
    if (rc == IV_OK)
        rc = iv_session_drop_turn(session, e);
    if (rc == IV_OK)
        rc = iv_session_warm(session, e);
    if (rc == IV_OK)
        rc = iv_session_ask(session, "How does it end?", &ask, &t->warm, e);
    if (rc == IV_OK)
        rc = add(b, BENCH_FIRST, first_ms);
    if (rc == IV_OK)
        rc = add(b, BENCH_SECOND, t->second.ttft_ms);
    return rc == IV_OK ? add(b, BENCH_WARM, t->warm.ttft_ms) : rc;
}

static int run_turn(struct bench *b, bool last)
{
    struct iv_session_options o = iv_session_options_default();
    struct turns t = {0};
    iv_session *session = NULL;
    iv_media *media = NULL;
    double ms, begun = now_ms();
    o.callbacks = work_callbacks(&b->work);
    o.keep_cache = true;
    int rc = bench_media(b, &media, &ms);
    if (rc == IV_OK && !b->settings.video)
        begun = now_ms() - ms; // making the frames is no part of it
    if (rc == IV_OK)
        rc = iv_session_open(b->work.engine, media, &o, &session, &b->work.error);
    if (rc == IV_OK)
        rc = ask_turns(b, session, begun, &t);
    if (rc == IV_OK)
        console_note(b->work.con,
                     "first turn: decode %.0f, preprocess %.0f, vision %.0f, Q-Former %.0f, "
                     "prefill %.0f ms of %zu tokens, %.0f ms for %zu tokens; second: %zu of %zu "
                     "kept; warm: %zu of %zu",
                     iv_media_info(media)->decode_ms, iv_media_info(media)->preprocess_ms,
                     t.first.vision_ms, t.first.qformer_ms, t.first.prefill_ms,
                     t.first.prompt_tokens, t.first.generate_ms, t.first.n_token,
                     t.second.cached_tokens, t.second.prompt_tokens, t.warm.cached_tokens,
                     t.warm.prompt_tokens);
    if (rc == IV_OK && last)
        rc = count_turns(b, media, &t.first, &t.second, &t.warm);
    iv_answer_free(&t.first);
    iv_answer_free(&t.second);
    iv_answer_free(&t.warm);
    iv_session_close(session);
    iv_media_close(media);
    return rc;
}

static int run_turns(struct bench *b)
{
    int rc = IV_OK;
    b->work.lasting = false; // as in a chat
    for (int i = 0; i < b->settings.repeat && rc == IV_OK; i++) {
        work_close(&b->work);
        rc = work_open(&b->work, false);
        if (rc == IV_OK)
            rc = run_turn(b, i + 1 == b->settings.repeat);
    }
    return rc;
}

int bench_stages(struct bench *b)
{
    int rc = bench_peaks(b);
    if (rc == IV_OK)
        rc = measure(b, BENCH_VIDEO, BENCH_PREPROCESS, run_media);
    if (rc == IV_OK)
        rc = measure(b, BENCH_VISION, BENCH_QFORMER, run_vision);
    if (rc == IV_OK)
        rc = measure(b, BENCH_PREFILL, BENCH_PREFILL, run_prefill);
    if (rc == IV_OK)
        rc = measure(b, BENCH_DECODE, BENCH_DECODE, run_decode);
    if (rc == IV_OK)
        rc = measure(b, BENCH_SESSIONS, BENCH_SESSIONS, run_sessions);
    return rc == IV_OK ? measure(b, BENCH_FIRST, BENCH_WARM, run_turns) : rc;
}
