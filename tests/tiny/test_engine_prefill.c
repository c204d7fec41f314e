// SPDX-License-Identifier: MIT
// However a prompt is cut (chunks, a reused beginning), its last logits are bit for bit those of one
// forward over all its rows: within the rotary positions the model was trained for, and beyond them,
// where dynamic NTK gives the whole prompt one base.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "tempdir.h"

static const char MODEL[] = TEST_SHARED "/golden/tiny-internlm";
static const char POSITIONS[] = "\"max_position_embeddings\": 262144";

enum { N_PROMPT = 700, N_BEFORE = 300, N_TRAINED = 600 };

static void needs_model(void)
{
    if (access(MODEL, R_OK) == 0)
        return;
    print_message("SKIP no golden data beside the project\n");
    skip();
}

// A model as MODEL, but trained for n_trained positions (at most six digits).
static iv_engine *open_engine(const struct tempdir *dir, const char *cpu, int n_trained)
{
    static const char *const files[] = {"model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors",
                                        "model.safetensors.index.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "vocab.txt"};
    struct err e = {0};
    char *config, positions[sizeof POSITIONS];
    size_t n;
    if (file_read(TEST_SHARED "/golden/tiny-internlm/config.json", 1 << 20, ERR_FAIL, &config, &n,
                  &e) != 0)
        fail_msg("%s", e.msg);
    char *at = strstr(config, POSITIONS);
    assert_non_null(at);
    snprintf(positions, sizeof positions, "\"max_position_embeddings\": %6d", n_trained);
    memcpy(at, positions, sizeof positions - 1);
    tempdir_write(dir, "config.json", config, n);
    mem_free(config);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char from[4096];
        snprintf(from, sizeof from, "%s/%s", MODEL, files[i]);
        assert_int_equal(symlink(from, tempdir_path(dir, files[i])), 0);
    }
    struct iv_engine_options o = iv_engine_options_default();
    struct iv_error ie;
    iv_engine *g;
    o.model = dir->path;
    o.cpu = cpu;
    o.n_threads = 2;
    if (iv_engine_open(&o, &g, &ie) != IV_OK)
        fail_msg("%s", ie.message);
    return g;
}

// Logits of the last of n ids in one forward.
static void one_forward(const iv_engine *g, const int32_t *ids, size_t n, float *logits)
{
    const struct llm *m = &g->model.llm;
    struct hooks none = {0};
    struct ops_options opt = engine_ops_options(g, &none);
    struct ops *o;
    struct kv kv;
    struct err e = {0};
    uint32_t pos[N_PROMPT];
    assert_int_equal(ops_open_cpu(&opt, &o, &e), 0);
    assert_int_equal(ops_reserve(o, (size_t)64 << 20, &e), 0);
    assert_int_equal(kv_init(&kv, o, &m->c, g->kv_types, &e), 0);
    assert_int_equal(kv_reserve(&kv, n, &e), 0);
    for (size_t i = 0; i < n; i++)
        pos[i] = (uint32_t)i;
    struct llm_span span = {.kv = &kv, .n_row = n};
    struct llm_batch b = {.x = ops_mat(o, n, m->c.d_model), .span = &span, .n_span = 1, .pos = pos};
    struct mat out = ops_mat(o, 1, m->c.n_vocab);
    op_embed(o, b.x, &m->embed, ids);
    llm_forward(o, m, &b, out);
    op_download(o, logits, out);
    if (ops_status(o, &e) != 0)
        fail_msg("%s", e.msg);
    kv_free(&kv);
    ops_close(o);
}

static void prefill(struct runner *r, const int32_t *ids, size_t n, size_t n_reused, float *logits)
{
    struct err e = {0};
    struct runner_prompt p = {.ids = ids, .n = n, .n_reused = n_reused, .max_new = 1};
    if (runner_prefill(r, &p, logits, &e) != 0)
        fail_msg("%s", e.msg);
}

static void cuts_do_not_matter(int n_trained)
{
    needs_model();
    struct tempdir dir;
    tempdir_make(&dir);
    iv_engine *g = open_engine(&dir, NULL, n_trained);
    size_t n_vocab = g->config.llm.n_vocab;
    float *whole = mem_calloc(n_vocab, sizeof *whole), *cut = mem_calloc(n_vocab, sizeof *cut);
    struct iv_callbacks none = {0};
    struct runner r;
    struct err e = {0};
    int32_t ids[N_PROMPT];
    for (int32_t i = 0; i < N_PROMPT; i++)
        ids[i] = 1000 + i * 37 % 5000;
    assert_int_equal(runner_init(&r, g, &none, N_PROMPT + 1, &e), 0);
    one_forward(g, ids, N_PROMPT, whole);
    prefill(&r, ids, N_PROMPT, 0, cut);
    assert_memory_equal(whole, cut, n_vocab * sizeof *whole);
    prefill(&r, ids, N_BEFORE, 0, cut);
    prefill(&r, ids, N_PROMPT, runner_reusable(&r, N_BEFORE, N_PROMPT), cut);
    assert_memory_equal(whole, cut, n_vocab * sizeof *whole);
    runner_free(&r);
    mem_free(whole);
    mem_free(cut);
    iv_engine_close(g);
    tempdir_remove(&dir);
}

static void within_trained_positions(void **state)
{
    (void)state;
    cuts_do_not_matter(262144);
}

static void beyond_trained_positions(void **state)
{
    (void)state;
    cuts_do_not_matter(N_TRAINED);
}

// Attention's scratch may grow with the keys of a step, up to the last one that was asked for.
static void last_step_finds_room(void **state)
{
    enum { N_NEW = 20000 };
    (void)state;
    needs_model();
    struct tempdir dir;
    tempdir_make(&dir);
    iv_engine *g = open_engine(&dir, "ref", 262144);
    float *logits = mem_calloc(2 * g->config.llm.n_vocab, sizeof *logits);
    struct iv_callbacks none = {0};
    struct runner r;
    struct err e = {0};
    const int32_t ids[] = {1, 2, 3, 4};
    const size_t parent[2] = {0};
    assert_int_equal(runner_init(&r, g, &none, 0, &e), 0);
    struct runner_prompt p = {.ids = ids, .n = 4, .max_new = N_NEW};
    assert_int_equal(runner_prefill(&r, &p, logits, &e), 0);
    // as if that many steps had been made; the cache is zeroed
    assert_int_equal(kv_reserve(&r.cache[0], 4 + N_NEW, &e), 0);
    r.cache[0].n = 4 + N_NEW - 1;
    if (runner_step(&r, ids, 1, logits, &e) != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(runner_prefill(&r, &p, logits, &e), 0);
    assert_int_equal(runner_reorder(&r, parent, 2, &e), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kv_reserve(&r.cache[i], 4 + N_NEW, &e), 0);
        r.cache[i].n = 4 + N_NEW - 1;
    }
    if (runner_step(&r, ids, 2, logits, &e) != 0)
        fail_msg("%s", e.msg);
    runner_free(&r);
    mem_free(logits);
    iv_engine_close(g);
    tempdir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(within_trained_positions),
        cmocka_unit_test(beyond_trained_positions),
        cmocka_unit_test(last_step_finds_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
