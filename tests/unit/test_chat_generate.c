// SPDX-License-Identifier: MIT
// The decode loop on scripted models: ends, limits, stop texts, callbacks, log-probabilities, beams, abort,
// failures; and with golden data that each stored answer's ids give its text through the whole loop.
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

#include "base/json.h"
#include "base/mem.h"
#include "chat/generate.h"
#include "chat_fixture.h"

static const int32_t eos[] = {SMALL_END};

static struct generate_model model_of(const struct tokenizer *t)
{
    return (struct generate_model){
        .tokenizer = t, .n_vocab = tokenizer_size(t), .eos = eos, .n_eos = 1};
}

// ---- a model that says a fixed sequence of ids

struct script {
    const int32_t *ids;
    size_t n, at, n_vocab;
    size_t fail_at; // step that fails; 0 = none
    int32_t fed[64];
    size_t n_fed;
};

static void say(const struct script *s, float *logits)
{
    for (size_t i = 0; i < s->n_vocab; i++)
        logits[i] = -(float)(i % 7);
    logits[s->ids[s->at < s->n ? s->at : s->n - 1]] = 9;
}

static int script_step(void *self, const int32_t *ids, size_t n_row, float *logits, struct err *e)
{
    struct script *s = self;
    assert_int_equal(n_row, 1);
    if (s->n_fed < 64)
        s->fed[s->n_fed++] = ids[0];
    if (++s->at == s->fail_at)
        return err_set(e, ERR_LIMIT, "context is full");
    say(s, logits);
    return 0;
}

struct heard {
    struct buf text;
    size_t n_piece;
    int32_t token[64];
    size_t n_token;
};

static void hear_text(void *user, const char *piece, size_t n)
{
    struct heard *h = user;
    assert_true(n > 0 && utf8_valid(piece, n));
    buf_add(&h->text, piece, n);
    h->n_piece++;
}

static void hear_token(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct heard *h = user;
    assert_true(id >= 0 && (size_t)id < n_vocab && logits[id] > 0);
    if (h->n_token < 64)
        h->token[h->n_token++] = id;
}

// Runs the script; *h must be zeroed; its text equals the answer's unless the run fails.
static int run_script(const struct tokenizer *t, struct script *s, struct generate_options *o,
                      struct generation *out, struct heard *h, struct err *e)
{
    static float logits[100000];
    struct generate_model m = model_of(t);
    struct decoder d = {.self = s, .step = script_step};
    assert_true(m.n_vocab <= 100000);
    s->n_vocab = m.n_vocab;
    o->user = h;
    o->text = hear_text;
    o->token = hear_token;
    say(s, logits);
    int rc = generate_run(&m, &d, o, logits, out, e);
    if (rc == 0) {
        assert_int_equal(h->text.len, out->text.len);
        assert_memory_equal(h->text.data ? h->text.data : "", out->text.data ? out->text.data : "",
                            out->text.len);
    }
    return rc;
}

static void expect_text(const struct generation *a, const char *want)
{
    assert_string_equal(a->text.data ? a->text.data : "", want);
}

static void ends_at_eos_or_limit(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t ids[] = {SMALL_WORD + WORD_SPACE_THE, SMALL_BYTE + '!', SMALL_BYTE + '\n',
                                  SMALL_END};
    struct generate_options o = generate_options_default();
    struct generation a;
    struct heard h = {0};
    struct script s = {.ids = ids, .n = 4};
    assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
    expect_text(&a, "The!\n");
    assert_int_equal(a.ids.n, 4);
    assert_memory_equal(a.ids.v, ids, sizeof ids);
    assert_string_equal(finish_reason_name(a.finish), "stop");
    assert_false(a.has_control);
    assert_true(a.logprob == NULL && a.beam == NULL);
    // The end of sequence is not fed back; every other token is, once.
    assert_int_equal(s.n_fed, 3);
    assert_memory_equal(s.fed, ids, 3 * sizeof *ids);
    assert_int_equal(h.n_token, 4);
    generation_free(&a);
    buf_free(&h.text);

    for (int max = 1; max <= 4; max++) {
        struct heard again = {0};
        s = (struct script){.ids = ids, .n = 4};
        o.max_new_tokens = max;
        assert_int_equal(run_script(t, &s, &o, &a, &again, NULL), 0);
        assert_int_equal(a.ids.n, max);
        assert_int_equal(a.finish, max == 4 ? FINISH_STOP : FINISH_LENGTH);
        assert_int_equal(s.n_fed, max - 1);
        generation_free(&a);
        buf_free(&again.text);
    }
    tokenizer_close(t);
}

// The model's favourite is the end from the first step on.
static void min_length_and_ignore_eos(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t ids[] = {SMALL_END};
    struct generate_options o = generate_options_default();
    o.max_new_tokens = 10;
    for (int min = 0; min <= 3; min++) {
        struct generation a;
        struct heard h = {0};
        struct script s = {.ids = ids, .n = 1};
        struct generate_model m = model_of(t);
        struct decoder d = {.self = &s, .step = script_step};
        static float logits[SMALL_N_VOCAB];
        s.n_vocab = m.n_vocab;
        say(&s, logits);
        o.sampler.min_length = min;
        assert_int_equal(generate_run(&m, &d, &o, logits, &a, NULL), 0);
        assert_int_equal(a.ids.n, min + 1);
        assert_int_equal(a.ids.v[min], SMALL_END);
        generation_free(&a);
        buf_free(&h.text);
        s.at = 0;
        o.sampler.ignore_eos = true;
        assert_int_equal(generate_run(&m, &d, &o, logits, &a, NULL), 0);
        assert_int_equal(a.ids.n, 10);
        assert_int_equal(a.finish, FINISH_LENGTH);
        for (size_t i = 0; i < a.ids.n; i++)
            assert_true(a.ids.v[i] != SMALL_END);
        generation_free(&a);
        o.sampler.ignore_eos = false;
    }
    tokenizer_close(t);
}

static void control_tokens_are_noted(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t shown[] = {SMALL_WORD + WORD_THE, SMALL_INST, SMALL_WORD + WORD_AB,
                                    SMALL_END},
                         dropped[] = {SMALL_WORD + WORD_THE, 1, SMALL_END};
    static const int32_t typed[] = {SMALL_BYTE + '[', SMALL_BYTE + 'I', SMALL_BYTE + 'N',
                                    SMALL_BYTE + 'S', SMALL_BYTE + 'T', SMALL_BYTE + ']',
                                    SMALL_END};
    const struct {
        const int32_t *ids;
        size_t n;
        bool control;
    } row[] = {{shown, 4, true}, {dropped, 3, false}, {typed, 7, false}};
    for (size_t i = 0; i < 3; i++) {
        struct generate_options o = generate_options_default();
        struct generation a;
        struct heard h = {0};
        struct script s = {.ids = row[i].ids, .n = row[i].n};
        assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
        assert_int_equal(a.has_control, row[i].control);
        assert_int_equal(strstr(a.text.data, "[INST]") != NULL, i != 1);
        generation_free(&a);
        buf_free(&h.text);
    }
    tokenizer_close(t);
}

// ---- stop texts

static void answer_is_cut_at_a_stop(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t ids[] = {SMALL_WORD + WORD_THE,   SMALL_BYTE + '.',
                                  SMALL_WORD + WORD_SPACE, SMALL_WORD + WORD_AB,
                                  SMALL_WORD + WORD_AB,    SMALL_END};
    static const char *const stop[] = {" ab"}, *const tail[] = {"abab?"};
    struct generate_options o = generate_options_default();
    struct generation a;
    struct heard h = {0};
    struct script s = {.ids = ids, .n = 6};
    o.stop = stop;
    o.n_stop = 1;
    assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
    expect_text(&a, "The.");
    assert_int_equal(a.ids.n, 4); // up to the token that completed the stop
    assert_int_equal(a.finish, FINISH_STOP);
    generation_free(&a);
    buf_free(&h.text);
    // Held back until the end, then let go.
    h = (struct heard){0};
    s = (struct script){.ids = ids, .n = 6};
    o.stop = tail;
    assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
    expect_text(&a, "The. abab");
    assert_int_equal(a.finish, FINISH_STOP);
    generation_free(&a);
    buf_free(&h.text);
    // What the detokeniser held back completes a stop after the last token.
    static const int32_t torn[] = {SMALL_WORD + WORD_THE, SMALL_BYTE + 0xC3};
    static const char *const replacement[] = {"e\xEF\xBF\xBD"};
    h = (struct heard){0};
    s = (struct script){.ids = torn, .n = 2};
    o.stop = replacement;
    o.max_new_tokens = 2;
    assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
    expect_text(&a, "Th");
    assert_int_equal(a.finish, FINISH_STOP);
    generation_free(&a);
    buf_free(&h.text);
    tokenizer_close(t);
}

// ---- log-probabilities

static void logprobs_are_those_of_the_model(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static int32_t ids[100];
    for (size_t i = 0; i < 100; i++)
        ids[i] = SMALL_BYTE + 'a' + (int32_t)(i % 5);
    struct generate_options o = generate_options_default();
    o.max_new_tokens = 100; // more than one block of rows
    o.n_logprob = 3;
    o.sampler.repetition_penalty = 1.5; // does not show
    struct generation a;
    struct heard h = {0};
    struct script s = {.ids = ids, .n = 100};
    assert_int_equal(run_script(t, &s, &o, &a, &h, NULL), 0);
    static float logits[SMALL_N_VOCAB];
    s.at = 42;
    say(&s, logits);
    double total = 0;
    for (size_t i = 0; i < SMALL_N_VOCAB; i++)
        total += exp((double)logits[i]);
    const struct token_logprob *row = a.logprob + 42 * 4;
    assert_int_equal(row[0].id, a.ids.v[42]);
    assert_true(fabs((double)row[0].logprob - ((double)logits[row[0].id] - log(total))) < 1e-5);
    assert_int_equal(row[1].id, ids[42]);
    assert_true(row[1].logprob >= row[2].logprob && row[2].logprob >= row[3].logprob);
    generation_free(&a);
    buf_free(&h.text);
    tokenizer_close(t);
}

// ---- sampling

static void sampling_depends_on_the_seed_alone(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t ids[] = {SMALL_BYTE + 'x'};
    struct ids run[3] = {{0}, {0}, {0}};
    for (size_t i = 0; i < 3; i++) {
        struct generate_options o = generate_options_default();
        o.sampler.do_sample = true;
        o.sampler.temperature = 4;
        o.sampler.seed = 5;
        o.sampler.stream = i == 2;
        o.sampler.ignore_eos = true;
        o.max_new_tokens = 30;
        struct generation a;
        struct script s = {.ids = ids, .n = 1};
        struct generate_model m = model_of(t);
        struct decoder d = {.self = &s, .step = script_step};
        static float logits[SMALL_N_VOCAB];
        s.n_vocab = m.n_vocab;
        say(&s, logits);
        assert_int_equal(generate_run(&m, &d, &o, logits, &a, NULL), 0);
        assert_int_equal(ids_append(&run[i], a.ids.v, a.ids.n, NULL), 0);
        generation_free(&a);
    }
    assert_true(run[0].n == 30 && run[1].n == 30 && run[2].n == 30);
    assert_memory_equal(run[0].v, run[1].v, 30 * sizeof *run[0].v);
    assert_memory_not_equal(run[0].v, run[2].v, 30 * sizeof *run[0].v);
    for (size_t i = 0; i < 3; i++)
        ids_free(&run[i]);
    tokenizer_close(t);
}

// ---- beams: a model that depends on the last two tokens of each timeline

enum { N_BEAM = 3 };

struct lines {
    int32_t last[N_BEAM][2];
    size_t n_row, n_reorder, n_vocab;
};

static void lines_say(const struct lines *l, size_t row, float *logits)
{
    for (size_t i = 0; i < l->n_vocab; i++) {
        uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)l->last[row][0] * 97u +
                     (uint32_t)l->last[row][1] * 31337u;
        x = (x ^ (x >> 15)) * 2246822519u;
        logits[i] = (float)((x >> 8) % 1000) / 100.0f;
    }
    logits[SMALL_END] += 4;
}

static int lines_step(void *self, const int32_t *ids, size_t n_row, float *logits, struct err *e)
{
    struct lines *l = self;
    (void)e;
    assert_int_equal(n_row, l->n_row);
    for (size_t i = 0; i < n_row; i++) {
        l->last[i][0] = l->last[i][1];
        l->last[i][1] = ids[i];
        lines_say(l, i, logits + i * l->n_vocab);
    }
    return 0;
}

static int lines_reorder(void *self, const size_t *parent, size_t n_row, struct err *e)
{
    struct lines *l = self, old = *l;
    (void)e;
    assert_int_equal(n_row, N_BEAM);
    for (size_t i = 0; i < n_row; i++) {
        assert_true(parent[i] < l->n_row);
        memcpy(l->last[i], old.last[parent[i]], sizeof l->last[i]);
    }
    l->n_row = n_row;
    l->n_reorder++;
    return 0;
}

// Sum of the model's log-probabilities of ids, each row being what the model says behind its prefix.
static double sum_of(size_t n_vocab, const struct ids *ids)
{
    struct lines l = {.n_row = 1, .n_vocab = n_vocab};
    static float row[SMALL_N_VOCAB];
    double sum = 0;
    lines_say(&l, 0, row);
    for (size_t i = 0; i < ids->n; i++) {
        double total = 0;
        for (size_t k = 0; k < n_vocab; k++)
            total += exp((double)row[k]);
        sum += (double)row[ids->v[i]] - log(total);
        assert_int_equal(lines_step(&l, &ids->v[i], 1, row, NULL), 0);
    }
    return sum;
}

static void beams_through_the_loop(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct generate_model m = model_of(t);
    static float logits[N_BEAM * SMALL_N_VOCAB];
    struct lines l = {.n_row = 1, .n_vocab = m.n_vocab};
    struct decoder d = {.self = &l, .step = lines_step, .reorder = lines_reorder};
    struct generate_options o = generate_options_default();
    o.n_beam = N_BEAM;
    o.max_new_tokens = 12;
    struct heard h = {0};
    o.user = &h;
    o.text = hear_text;
    struct generation a;
    struct err e = {0};
    lines_say(&l, 0, logits);
    if (generate_run(&m, &d, &o, logits, &a, &e) != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(a.n_beam, N_BEAM);
    assert_true(l.n_reorder > 0);
    assert_int_equal(a.ids.n, a.beam[0].ids.n);
    assert_memory_equal(a.ids.v, a.beam[0].ids.v, a.ids.n * sizeof *a.ids.v);
    for (size_t i = 0; i < a.n_beam; i++) {
        const struct ids *ids = &a.beam[i].ids;
        assert_true(fabs(sum_of(m.n_vocab, ids) / (double)ids->n - a.beam[i].score) < 1e-4);
        assert_true(i == 0 || a.beam[i - 1].score >= a.beam[i].score);
    }
    assert_int_equal(a.finish, a.ids.v[a.ids.n - 1] == SMALL_END ? FINISH_STOP : FINISH_LENGTH);
    struct buf text = {0};
    assert_int_equal(tokenizer_decode(t, a.ids.v, a.ids.n, &text, NULL), 0);
    expect_text(&a, text.data ? text.data : "");
    assert_int_equal(h.text.len, a.text.len);
    buf_free(&text);
    buf_free(&h.text);
    generation_free(&a);

    d.reorder = NULL;
    assert_int_equal(generate_run(&m, &d, &o, logits, &a, &e), ERR_USAGE);
    assert_non_null(strstr(e.msg, "num_beams"));
    tokenizer_close(t);
}

// ---- failures

static bool abort_now(void *user)
{
    size_t *left = user;
    return (*left)-- == 0;
}

static size_t n_progress;

static void count_progress(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    assert_string_equal(stage, "generate");
    assert_true(done <= total);
    n_progress++;
}

static void failures_end_the_run(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    static const int32_t ids[] = {SMALL_WORD + WORD_THE, SMALL_WORD + WORD_AB, SMALL_WORD + WORD_AB,
                                  SMALL_END};
    struct generate_options o = generate_options_default();
    struct generation a;
    struct err e = {0};
    struct heard h = {0};
    struct script s = {.ids = ids, .n = 4, .fail_at = 2};
    memset(&a, 1, sizeof a);
    assert_int_equal(run_script(t, &s, &o, &a, &h, &e), ERR_LIMIT);
    assert_string_equal(e.msg, "context is full");
    assert_true(a.ids.v == NULL && a.text.data == NULL && a.n_beam == 0);
    for (size_t left = 0; left < 4; left++) {
        size_t n = left;
        struct hooks hooks = {.user = &n, .abort = abort_now};
        o.hooks = &hooks;
        s = (struct script){.ids = ids, .n = 4};
        assert_int_equal(run_script(t, &s, &o, &a, &h, &e), ERR_ABORT);
    }
    struct hooks watch = {.progress = count_progress};
    buf_free(&h.text);
    h = (struct heard){0};
    o.hooks = &watch;
    s = (struct script){.ids = ids, .n = 4};
    assert_int_equal(run_script(t, &s, &o, &a, &h, &e), 0);
    assert_int_equal(n_progress, 5);
    generation_free(&a);
    buf_free(&h.text);
    tokenizer_close(t);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct generate_options ok = generate_options_default(), bad[8];
    static const char *const name[] = {"max_new_tokens", "num_beams", "length_penalty", "logprobs",
                                       "logprobs",       "logprobs",  "stop",           "top_p"};
    for (size_t i = 0; i < 8; i++)
        bad[i] = ok;
    bad[0].max_new_tokens = 0;
    bad[1].n_beam = 0;
    bad[2].length_penalty = NAN;
    bad[3].n_logprob = -2;
    bad[4].n_logprob = GENERATE_LOGPROB_MAX + 1;
    bad[5].n_logprob = 0;
    bad[5].n_beam = 2;
    bad[6].n_stop = 1;
    bad[6].stop = (const char *const[]){""};
    bad[7].sampler.do_sample = true;
    bad[7].sampler.top_p = 0;
    assert_int_equal(generate_options_check(&ok, NULL), 0);
    for (size_t i = 0; i < 8; i++) {
        struct err e = {0};
        assert_int_equal(generate_options_check(&bad[i], &e), ERR_USAGE);
        assert_non_null(strstr(e.msg, name[i]));
    }
}

static void allocation_failures(void **state)
{
    (void)state;
    struct tokenizer *t = small_tokenizer();
    struct generate_model m = model_of(t);
    static const int32_t ids[] = {SMALL_WORD + WORD_THE, SMALL_INST,           SMALL_BYTE + 0xC3,
                                  SMALL_BYTE + 0xA9,     SMALL_WORD + WORD_AB, SMALL_END};
    static const char *const stop[] = {"abc"};
    for (int beams = 0; beams < 2; beams++) {
        int n_failed = 0;
        for (uint64_t k = 1;; k++, n_failed++) {
            static float logits[N_BEAM * SMALL_N_VOCAB];
            struct script s = {.ids = ids, .n = 6, .n_vocab = m.n_vocab};
            struct lines l = {.n_row = 1, .n_vocab = m.n_vocab};
            struct decoder script = {.self = &s, .step = script_step};
            struct decoder lines = {.self = &l, .step = lines_step, .reorder = lines_reorder};
            struct generate_options o = generate_options_default();
            o.stop = stop;
            o.n_stop = 1;
            o.max_new_tokens = 8;
            o.n_logprob = beams ? -1 : 2;
            o.n_beam = beams ? N_BEAM : 1;
            struct generation a;
            struct err e = {0};
            if (beams)
                lines_say(&l, 0, logits);
            else
                say(&s, logits);
            mem_fail_after(k);
            int rc = generate_run(&m, beams ? &lines : &script, &o, logits, &a, &e);
            mem_fail_after(0);
            if (rc == 0) {
                generation_free(&a);
                break;
            }
            assert_int_equal(rc, ERR_LIMIT);
            assert_true(a.ids.v == NULL && a.text.data == NULL && a.logprob == NULL && e.msg[0]);
        }
        assert_true(n_failed >= 8);
    }
    tokenizer_close(t);
}

// ---- golden answers: their ids through the loop give their text

static void check_answer(const struct tokenizer *t, const js_value *values, const char *name)
{
    static int32_t ids[256];
    const js_value *list = js_get(values, "generated_ids");
    size_t n = js_size(list);
    assert_in_range(n, 1, 256);
    for (size_t i = 0; i < n; i++) {
        uint64_t id = 0;
        assert_true(js_u64(js_at(list, i), &id));
        ids[i] = (int32_t)id;
    }
    size_t n_eos = 0;
    const int32_t *ends = tokenizer_eos(t, &n_eos);
    struct generate_model m = {
        .tokenizer = t, .n_vocab = tokenizer_size(t), .eos = ends, .n_eos = n_eos};
    static float logits[100000];
    struct script s = {.ids = ids, .n = n, .n_vocab = m.n_vocab};
    struct decoder d = {.self = &s, .step = script_step};
    struct generate_options o = generate_options_default();
    struct generation a;
    struct err e = {0};
    o.max_new_tokens = 32;
    assert_true(m.n_vocab <= 100000);
    say(&s, logits);
    if (generate_run(&m, &d, &o, logits, &a, &e) != 0)
        fail_msg("%s: %s", name, e.msg);
    if (a.ids.n != n || memcmp(a.ids.v, ids, n * sizeof *ids) != 0)
        fail_msg("%s: %zu ids, expected %zu", name, a.ids.n, n);
    assert_int_equal(a.finish,
                     n < 32 || tokenizer_is_added(t, ids[31]) ? FINISH_STOP : FINISH_LENGTH);
    expect_text(&a, js_str(js_get(values, "response"), NULL));
    bool control = false;
    for (size_t i = 0; i < n; i++)
        control |= tokenizer_kind_of(t) == TOKENIZER_MISTRAL && ids[i] > SMALL_END && ids[i] < 771;
    assert_int_equal(a.has_control, control);
    generation_free(&a);
}

static void golden_answers(void **state)
{
    (void)state;
    if (access(TEST_SHARED "/golden/manifest.json", R_OK) != 0) {
        printf("SKIP no golden data\n");
        skip();
    }
    struct js_doc d;
    struct err e = {0};
    struct tokenizer *mistral = NULL, *internlm2 = NULL;
    assert_int_equal(js_load(&d, TEST_SHARED "/golden/manifest.json", 64 << 20, ERR_FAIL, &e), 0);
    assert_int_equal(tokenizer_open(TEST_SHARED "/golden/tiny-hd", TOKENIZER_MISTRAL, &mistral, &e),
                     0);
    assert_int_equal(
        tokenizer_open(TEST_SHARED "/golden/tiny-internlm", TOKENIZER_INTERNLM2, &internlm2, &e),
        0);
    const js_value *cases = js_get(d.root, "cases");
    size_t n = 0;
    for (size_t i = 0; i < js_size(cases); i++) {
        const js_value *c = js_at(cases, i), *values = js_get(c, "values");
        const char *name = js_str(js_get(c, "id"), NULL);
        if (!js_get(values, "generated_ids") || !js_get(values, "response"))
            continue;
        const char *checkpoint = js_str(js_get(js_get(c, "inputs"), "checkpoint"), NULL);
        check_answer(!strcmp(checkpoint, "tiny-hd") ? mistral : internlm2, values, name);
        n++;
    }
    assert_true(n >= 30);
    tokenizer_close(mistral);
    tokenizer_close(internlm2);
    js_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_at_eos_or_limit),
        cmocka_unit_test(min_length_and_ignore_eos),
        cmocka_unit_test(control_tokens_are_noted),
        cmocka_unit_test(answer_is_cut_at_a_stop),
        cmocka_unit_test(logprobs_are_those_of_the_model),
        cmocka_unit_test(sampling_depends_on_the_seed_alone),
        cmocka_unit_test(beams_through_the_loop),
        cmocka_unit_test(failures_end_the_run),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(allocation_failures),
        cmocka_unit_test(golden_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
