// SPDX-License-Identifier: MIT
// The numbers of a pair of GGUF files: good ones arrive, each limit is taken, and one beyond it is refused with
// the file's key, its value and what was expected. The files hold values only.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config_rules.h"
#include "model/gguf_names.h"
#include "tempdir.h"
#include "weights/gguf_write.h"

static struct tempdir dir;

static int setup(void **state)
{
    (void)state;
    tempdir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tempdir_remove(&dir);
    return 0;
}

struct number {
    const char *key;
    double v;
    bool real; // f32, else u32
};

static const struct number language[] = {
    {"llama.embedding_length", 64, false},
    {"llama.block_count", 2, false},
    {"llama.feed_forward_length", 160, false},
    {"llama.context_length", 4096, false},
    {"llama.attention.head_count", 4, false},
    {"llama.attention.head_count_kv", 2, false},
    {"llama.attention.key_length", 0, false}, // 0 = the file lacks it, here and below
    {"llama.attention.value_length", 0, false},
    {"llama.rope.dimension_count", 0, false},
    {"llama.attention.layer_norm_rms_epsilon", 1e-5, true},
    {"llama.rope.freq_base", 1e6, true},
    {"llama.vocab_size", 5, false},
    {"llama.expert_count", 0, false},
    {"tokenizer.ggml.bos_token_id", 1, false},
    {"tokenizer.ggml.eos_token_id", 2, false},
    {"ivchat.rope.dynamic_ntk_factor", 0, true},
};
static const struct number vision[] = {
    {"ivchat.version", 1, false},
    {"ivchat.frame_count", 4, false},
    {"ivchat.vision.embedding_length", 32, false},
    {"ivchat.vision.head_count", 2, false},
    {"ivchat.vision.feed_forward_length", 64, false},
    {"ivchat.vision.block_count", 2, false},
    {"ivchat.vision.image_size", 224, false},
    {"ivchat.vision.patch_size", 14, false},
    {"ivchat.qformer.embedding_length", 24, false},
    {"ivchat.qformer.head_count", 2, false},
    {"ivchat.qformer.feed_forward_length", 96, false},
    {"ivchat.qformer.block_count", 2, false},
    {"ivchat.qformer.cross_every", 2, false},
    {"ivchat.qformer.query_count", 3, false},
    {"ivchat.qformer.extra_query_count", 1, false},
    {"ivchat.qformer.vocab_size", 100, false},
    {"ivchat.qformer.context_length", 64, false},
    {"ivchat.qformer.layer_norm_epsilon", 1e-12, true},
};
enum {
    N_LANGUAGE = sizeof language / sizeof *language,
    N_VISION = sizeof vision / sizeof *vision,
    MOST = 4, // numbers that a case changes
};

// What a case changes; ends at a key of NULL.
struct change {
    const char *key;
    double v;
};

static void put(struct gguf_writer *w, const struct number *x, size_t n, const struct change *c)
{
    for (size_t i = 0; i < n; i++) {
        double v = x[i].v;
        bool changed = false;
        for (size_t k = 0; k < MOST && c[k].key; k++)
            if (strcmp(c[k].key, x[i].key) == 0) {
                v = c[k].v;
                changed = true;
            }
        if (v == 0 && !changed)
            continue;
        if (x[i].real)
            gguf_put_f32(w, x[i].key, (float)v);
        else
            gguf_put_u32(w, x[i].key, (uint32_t)v);
    }
}

static void write_file(const char *name, bool is_vision, const struct change *c)
{
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a", "b"};
    struct gguf_writer w = {0};
    struct err e = {0};
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir.path, name);
    gguf_put_text(&w, "general.architecture", is_vision ? GGUF_VISION_ARCHITECTURE : "llama");
    if (is_vision) {
        gguf_put_text(&w, "ivchat.variant", "hd");
        put(&w, vision, N_VISION, c);
    } else {
        put(&w, language, N_LANGUAGE, c);
        gguf_put_texts(&w, "tokenizer.ggml.tokens", 5);
        for (size_t i = 0; i < 5; i++)
            gguf_add_text(&w, tokens[i], strlen(tokens[i]));
    }
    if (gguf_write_begin(&w, path, NULL, &e) != 0 || gguf_write_commit(&w, &e) != 0)
        fail_msg("%s", e.msg);
    gguf_write_abandon(&w);
}

static int read_pair(struct model_config *out, const struct change *c, struct err *e)
{
    struct gguf_file f[2];
    char path[2][400];
    snprintf(path[0], sizeof path[0], "%s/x.gguf", dir.path);
    snprintf(path[1], sizeof path[1], "%s/mmproj-x.gguf", dir.path);
    write_file("x.gguf", false, c);
    write_file("mmproj-x.gguf", true, c);
    for (int i = 0; i < 2; i++)
        if (gguf_open(&f[i], path[i], e) != 0)
            fail_msg("%s", e->msg);
    memset(out, 0xaa, sizeof *out);
    int rc = gguf_config(out, &f[0], &f[1], e);
    gguf_close(&f[0]);
    gguf_close(&f[1]);
    return rc;
}

static void read_good(struct model_config *out, const struct change *c)
{
    struct err e = {0};
    if (read_pair(out, c, &e) != 0)
        fail_msg("%s", e.msg);
    require_llm(&out->llm);
    require_vision(out);
}

static void test_good(void **state)
{
    struct model_config c;
    (void)state;
    read_good(&c, (const struct change[MOST]){{0}});
    assert_int_equal(c.llm.d_model, 64);
    assert_int_equal(c.llm.d_head, 16);
    assert_int_equal(c.llm.n_kv, 2);
    assert_int_equal(c.llm.n_vocab, 5);
    assert_true(c.llm.rope_theta == 1e6 && c.llm.eps == 1e-5f);
    assert_int_equal(c.vit.d_head, 16);
    assert_int_equal(c.qformer.n_query, 4);
    assert_false(c.text_only);
}

static void test_limits(void **state)
{
    static const struct {
        struct change c[MOST];
        size_t llm, vit, qformer; // heads
    } rows[] = {
        {{{"llama.attention.key_length", 256}}, 256, 16, 12},
        {{{"llama.attention.key_length", 4}}, 4, 16, 12},
        {{{"llama.embedding_length", 1024}}, 256, 16, 12},
        {{{"llama.embedding_length", 16}}, 4, 16, 12},
        {{{"ivchat.vision.embedding_length", 512}}, 16, 256, 12},
        {{{"ivchat.vision.head_count", 16}}, 16, 2, 12},
        {{{"ivchat.qformer.embedding_length", 512}}, 16, 16, 256},
        {{{"ivchat.qformer.head_count", 12}}, 16, 16, 2},
        {{{"llama.attention.head_count", 256},
          {"llama.attention.head_count_kv", 256},
          {"llama.attention.key_length", 256}},
         256,
         16,
         12},
        {{{"llama.attention.head_count_kv", 1}}, 16, 16, 12},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_config c;
        read_good(&c, rows[i].c);
        assert_int_equal(c.llm.d_head, rows[i].llm);
        assert_int_equal(c.vit.d_head, rows[i].vit);
        assert_int_equal(c.qformer.d_model / c.qformer.n_head, rows[i].qformer);
    }
}

static void test_refused(void **state)
{
    static const struct {
        struct change c[MOST];
        const char *message; // behind the file's name
    } rows[] = {
        {{{"llama.attention.key_length", 258}},
         "/x.gguf: llama.attention.key_length is 258, expected an even number from 4 to 256"},
        {{{"llama.attention.key_length", 15}}, "key_length is 15, expected an even number from 4"},
        {{{"llama.attention.key_length", 2}}, "key_length is 2, expected an even number from 4"},
        {{{"llama.attention.key_length", 4e9}}, "key_length is 4000000000, expected an integer"},
        {{{"llama.embedding_length", 2048}},
         "/x.gguf: llama.embedding_length 2048 with attention.head_count 4 makes heads of 512 "
         "values, expected an even number from 4 to 256"},
        {{{"llama.embedding_length", 60}}, "embedding_length 60 with attention.head_count 4 makes"},
        {{{"llama.embedding_length", 8}}, "makes heads of 2 values"},
        {{{"llama.embedding_length", 3}},
         "llama.embedding_length 3 is not divisible by attention.head_count 4"},
        {{{"llama.attention.head_count", 0}}, "llama.attention.head_count is 0, expected"},
        {{{"llama.attention.head_count", 3}, {"llama.attention.key_length", 16}},
         "/x.gguf: llama.attention.head_count 3 is not divisible by attention.head_count_kv 2"},
        {{{"llama.attention.head_count_kv", 0}}, "head_count_kv is 0, expected"},
        {{{"llama.attention.head_count_kv", 8}},
         "head_count 4 is not divisible by attention.head_count_kv 8"},
        {{{"llama.attention.head_count", 512}, {"llama.attention.key_length", 256}},
         "llama.attention.head_count 512 with heads of 256 values exceeds 65536"},
        {{{"llama.attention.value_length", 8}}, "value_length is 8, expected"},
        {{{"llama.rope.dimension_count", 8}}, "dimension_count is 8, expected"},
        {{{"llama.block_count", 0}}, "llama.block_count is 0, expected an integer from 1 to 1024"},
        {{{"llama.block_count", 1025}}, "block_count is 1025"},
        {{{"llama.feed_forward_length", 0}}, "feed_forward_length is 0"},
        {{{"llama.context_length", 0}}, "context_length is 0"},
        {{{"llama.context_length", 4294967295}}, "context_length is 4294967295"},
        {{{"llama.vocab_size", 0}}, "vocab_size is 0"},
        {{{"llama.vocab_size", 2}}, "/x.gguf: llama.vocab_size is 2, expected an integer from 3"},
        {{{"llama.vocab_size", 4294967295}}, "vocab_size is 4294967295"},
        {{{"llama.attention.layer_norm_rms_epsilon", NAN}}, "rms_epsilon is nan, expected"},
        {{{"llama.attention.layer_norm_rms_epsilon", 0}}, "rms_epsilon is 0, expected"},
        {{{"llama.attention.layer_norm_rms_epsilon", INFINITY}}, "rms_epsilon is inf"},
        {{{"llama.rope.freq_base", 0}}, "rope.freq_base is 0, expected a number from 1"},
        {{{"llama.rope.freq_base", NAN}}, "rope.freq_base is nan"},
        {{{"llama.rope.freq_base", INFINITY}}, "rope.freq_base is inf"},
        {{{"llama.expert_count", 8}}, "llama.expert_count is 8"},
        {{{"ivchat.rope.dynamic_ntk_factor", NAN}}, "dynamic_ntk_factor is nan"},
        {{{"ivchat.rope.dynamic_ntk_factor", 0.5}}, "dynamic_ntk_factor is 0.5"},
        {{{"tokenizer.ggml.bos_token_id", 5}}, "bos_token_id is 5"},
        {{{"tokenizer.ggml.eos_token_id", 5}}, "eos_token_id is 5"},
        {{{"ivchat.vision.head_count", 32}},
         "/mmproj-x.gguf: ivchat.vision.embedding_length 32 with vision.head_count 32 makes heads "
         "of 1 values, expected an even number from 2 to 256"},
        {{{"ivchat.vision.embedding_length", 516}}, "makes heads of 258 values"},
        {{{"ivchat.vision.head_count", 3}}, "32 is not divisible by vision.head_count 3"},
        {{{"ivchat.vision.head_count", 0}}, "vision.head_count is 0"},
        {{{"ivchat.vision.patch_size", 13}},
         "/mmproj-x.gguf: ivchat.vision.image_size 224 is not divisible by vision.patch_size 13"},
        {{{"ivchat.vision.patch_size", 0}}, "vision.patch_size is 0"},
        {{{"ivchat.vision.image_size", 448}}, "vision.image_size is 448"},
        {{{"ivchat.vision.block_count", 0}}, "vision.block_count is 0"},
        {{{"ivchat.qformer.head_count", 8}},
         "/mmproj-x.gguf: ivchat.qformer.embedding_length 24 with qformer.head_count 8 makes heads "
         "of 3 values, expected an even number from 2 to 256"},
        {{{"ivchat.qformer.embedding_length", 768}}, "makes heads of 384 values"},
        {{{"ivchat.qformer.head_count", 7}}, "24 is not divisible by qformer.head_count 7"},
        {{{"ivchat.qformer.cross_every", 0}}, "cross_every is 0"},
        {{{"ivchat.qformer.query_count", 4097}}, "query_count is 4097"},
        {{{"ivchat.qformer.vocab_size", 1}}, "vocab_size is 1"},
        {{{"ivchat.qformer.layer_norm_epsilon", NAN}}, "layer_norm_epsilon is nan"},
        {{{"ivchat.frame_count", 0}}, "frame_count is 0"},
        {{{"ivchat.frame_count", 1025}}, "frame_count is 1025"},
        {{{"ivchat.version", 2}}, "version is 2"},
    };
    static const struct model_config zero;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_config c;
        struct err e = {0};
        int rc = read_pair(&c, rows[i].c, &e);
        if (rc != ERR_MODEL || !strstr(e.msg, rows[i].message))
            fail_msg("got %d \"%s\", expected \"%s\"", rc, e.msg, rows[i].message);
        assert_memory_equal(&c, &zero, sizeof c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
