// SPDX-License-Identifier: MIT
// Models written as GGUF pairs and opened again: unquantised ones answer as their source does, the others do
// not depend on threads; what belongs together is found, what does not is refused; a stopped or failed run
// leaves no file.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_fixture.h"
#include "model/gguf_names.h"
#include "tempdir.h"

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

static struct iv_quantize_result quantize(const char *model, const char *type,
                                          const char *vision_type)
{
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct iv_error e;
    o.type = type;
    o.vision_type = vision_type;
    o.n_threads = 2;
    if (iv_quantize(model, dir.path, &o, &r, &e) != IV_OK)
        fail_msg("%s", e.message);
    return r;
}

// What a model says about noise, and without any media.
struct said {
    struct reply media, text;
};

static struct said ask(const char *model, const char *dtype, int threads)
{
    struct iv_engine_options o = engine_fixture_options();
    struct iv_session_options so = iv_session_options_default();
    struct said said;
    o.model = model;
    o.dtype = dtype;
    o.n_threads = threads;
    iv_engine *g = engine_fixture_open(&o);
    iv_media *m = media_fixture_noise(g, 3);
    so.instruction = "Look closely.";
    iv_session *s = session_fixture(g, m, &so);
    ask_fixture(s, "What happens?", NULL, &said.media);
    iv_session_close(s);
    so.instruction = NULL;
    s = session_fixture(g, NULL, &so);
    ask_fixture(s, "Who are you?", NULL, &said.text);
    iv_session_close(s);
    iv_media_close(m);
    iv_engine_close(g);
    return said;
}

static void same_tokens(const struct reply *a, const struct reply *b)
{
    assert_int_equal(a->prompt, b->prompt);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof a->ids[0]);
    assert_string_equal(a->text, b->text);
}

static void check_plain(const char *model)
{
    struct iv_quantize_result r = quantize(model, "F32", NULL);
    struct said source = ask(model, "f32", 2), pair = ask(r.language, "f32", 2);
    same_tokens(&source.media, &pair.media);
    same_tokens(&source.text, &pair.text);
    iv_quantize_result_free(&r);
}

static void test_plain(void **state)
{
    (void)state;
    check_plain(engine_fixture_model);
    const char *golden = engine_fixture_golden();
    if (golden)
        check_plain(golden);
}

// The other form: a snapshot whose LoRA is merged.
static void check_merged(const char *model)
{
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct iv_error e;
    char folder[600];
    snprintf(folder, sizeof folder, "%s/merged", dir.path);
    o.format = "safetensors";
    o.type = "F32";
    if (iv_quantize(model, folder, &o, &r, &e) != IV_OK)
        fail_msg("%s", e.message);
    assert_null(r.vision);
    struct said source = ask(model, "f32", 2), merged = ask(folder, "f32", 2);
    same_tokens(&source.media, &merged.media);
    same_tokens(&source.text, &merged.text);
    struct iv_engine_options eo = engine_fixture_options();
    eo.model = folder;
    iv_engine *g = engine_fixture_open(&eo);
    assert_int_equal(iv_engine_info(g)->lora_r, 0);
    iv_engine_close(g);
    iv_quantize_result_free(&r);
    assert_int_equal(iv_quantize(folder, folder, &o, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "the source cannot be the target"));
    o.type = "Q8_0";
    assert_int_equal(iv_quantize(model, folder, &o, &r, &e), IV_ERR_USAGE);
    o.format = "zip";
    assert_int_equal(iv_quantize(model, folder, &o, &r, &e), IV_ERR_USAGE);
}

static void test_merged(void **state)
{
    (void)state;
    check_merged(engine_fixture_model);
    const char *golden = engine_fixture_golden();
    if (golden)
        check_merged(golden);
}

static void test_threads(void **state)
{
    static const char *const types[] = {"Q8_0", "Q6_K", "Q4_0", "Q4_K_M"};
    (void)state;
    const char *model = engine_fixture_golden();
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct iv_quantize_result r =
            quantize(model ? model : engine_fixture_model, types[i], NULL);
        struct said one = ask(r.language, "bf16", 1), two = ask(r.language, "bf16", 2);
        assert_same_reply(&one.media, &two.media);
        assert_same_reply(&one.text, &two.text);
        iv_quantize_result_free(&r);
    }
}

static const struct tensor *find(const struct gguf_file *f, const char *name)
{
    for (size_t i = 0; i < f->n_tensor; i++)
        if (strcmp(f->tensor[i].name, name) == 0)
            return &f->tensor[i];
    fail_msg("no %s", name);
    return NULL;
}

static void test_types(void **state)
{
    (void)state;
    const char *golden = engine_fixture_golden();
    if (!golden)
        return;
    static const char *const rules[] = {"ffn_(up|gate)=Q8_0", "blk\\.0\\.=F16", "fc1=BF16"};
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct gguf_file f;
    struct err e = {0};
    o.tensor_type = rules;
    o.n_tensor_type = 3;
    assert_int_equal(iv_quantize(golden, dir.path, &o, &r, NULL), IV_OK);
    assert_int_equal(gguf_open(&f, r.language, &e), 0);
    static const struct {
        const char *name;
        enum dtype t;
    } want[] = {{"token_embd.weight", DT_Q5_0}, // rows of 192: no 256
                {"output.weight", DT_Q8_0},         {"output_norm.weight", DT_F32},
                {"blk.0.attn_q.weight", DT_F16},    {"blk.1.attn_q.weight", DT_Q5_0},
                {"blk.0.ffn_up.weight", DT_Q8_0},   {"blk.1.ffn_down.weight", DT_Q4_K},
                {"blk.2.ffn_down.weight", DT_Q6_K}, {"blk.1.attn_norm.weight", DT_F32}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const struct tensor *t = find(&f, want[i].name);
        if (t->dtype != want[i].t)
            fail_msg("%s is %s, expected %s", t->name, dtype_name(t->dtype), dtype_name(want[i].t));
    }
    gguf_close(&f);
    assert_int_equal(gguf_open(&f, r.vision, &e), 0);
    assert_int_equal(find(&f, "vision_encoder.blocks.0.mlp.fc1.weight")->dtype, DT_BF16);
    assert_int_equal(find(&f, "vision_encoder.blocks.0.mlp.fc2.weight")->dtype, DT_Q8_0);
    assert_int_equal(find(&f, "vision_encoder.blocks.0.attn.qkv.weight")->dtype, DT_F16); // 176
    assert_int_equal(find(&f, "vision_encoder.patch_embed.proj.weight")->rank, 4);
    assert_int_equal(find(&f, "vision_encoder.pos_embed")->dtype, DT_F32);
    gguf_close(&f);
    iv_quantize_result_free(&r);
}

static void test_row_order(void **state)
{
    // 4 heads of 4 on 2 key heads
    static const struct llm_config c = {.n_head = 4, .n_kv = 2, .d_head = 4};
    static const size_t q[] = {0, 2, 1, 3, 4, 6, 5, 7}; // separate: inside each head
    static const size_t packed_q[] = {8, 10, 9, 11};    // head 2 = first of group 1 ...
    static const size_t packed_k[] = {8, 10, 9, 11, 24, 26, 25, 27}; // behind two query heads
    static const size_t packed_v[] = {12, 13, 14, 15, 28, 29, 30, 31};
    (void)state;
    for (size_t r = 0; r < 8; r++) {
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_Q, false, r), q[r]);
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_K, false, r), q[r]);
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_V, false, r), r);
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_K, true, r), packed_k[r]);
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_V, true, r), packed_v[r]);
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_SAME, false, r), r);
    }
    for (size_t r = 0; r < 4; r++)
        assert_int_equal(gguf_source_row(&c, GGUF_ROWS_Q, true, 8 + r), packed_q[r] + 8);
}

static int open_status(const char *model, const char *mmproj, bool tokenizer_only, char *message)
{
    struct iv_engine_options o = engine_fixture_options();
    struct iv_error e = {0};
    iv_engine *g;
    o.model = model;
    o.mmproj = mmproj;
    o.tokenizer_only = tokenizer_only;
    int rc = iv_engine_open(&o, &g, &e);
    snprintf(message, 1024, "%s", e.message);
    iv_engine_close(g);
    return rc;
}

static void test_pairs(void **state)
{
    (void)state;
    char message[1024], moved[600], other[600];
    struct iv_quantize_result r = quantize(engine_fixture_model, "BF16", NULL);
    assert_int_equal(open_status(r.language, NULL, false, message), IV_OK);
    assert_int_equal(open_status(r.language, NULL, true, message), IV_OK);
    assert_int_equal(open_status(r.language, r.vision, false, message), IV_OK);
    assert_int_equal(open_status(r.vision, NULL, false, message), IV_ERR_MODEL);
    assert_non_null(strstr(message, "a vision file; name the language file"));
    assert_int_equal(open_status(r.language, r.language, false, message), IV_ERR_MODEL);
    assert_non_null(strstr(message, "no vision file"));
    assert_int_equal(open_status(r.language, "/absent.gguf", false, message), IV_ERR_MODEL);
    assert_int_equal(open_status(engine_fixture_model, r.vision, false, message), IV_ERR_USAGE);

    // under another name the only one there is found, of two none
    snprintf(moved, sizeof moved, "%s/mmproj-x.gguf", dir.path);
    snprintf(other, sizeof other, "%s/mmproj-y.gguf", dir.path);
    assert_int_equal(rename(r.vision, moved), 0);
    // those of the other tests
    DIR *d = opendir(dir.path);
    for (struct dirent *x; (x = readdir(d)) != NULL;)
        if (strncmp(x->d_name, "mmproj-", 7) == 0 && strcmp(x->d_name, "mmproj-x.gguf") != 0)
            tempdir_delete(&dir, x->d_name);
    closedir(d);
    assert_int_equal(open_status(r.language, NULL, false, message), IV_OK);
    assert_int_equal(link(moved, other), 0);
    assert_int_equal(open_status(r.language, NULL, false, message), IV_ERR_MODEL);
    assert_non_null(strstr(message, "several mmproj-*.gguf"));
    assert_int_equal(unlink(other), 0);
    assert_int_equal(unlink(moved), 0);

    // alone it talks, but looks at nothing
    struct iv_engine_options o = engine_fixture_options();
    struct iv_session_options so = iv_session_options_default();
    struct iv_media_options mo = iv_media_options_default();
    struct iv_error e;
    struct reply reply;
    iv_media *m;
    o.model = r.language;
    iv_engine *g = engine_fixture_open(&o);
    iv_session *s = session_fixture(g, NULL, &so);
    ask_fixture(s, "Who are you?", NULL, &reply);
    assert_true(reply.n > 0);
    assert_int_equal(iv_media_open_video(g, "x.mp4", &mo, &m, &e), IV_ERR_MODEL);
    assert_non_null(strstr(e.message, "has no vision part"));
    assert_null(m);
    iv_session_close(s);
    iv_engine_close(g);
    iv_quantize_result_free(&r);
}

static void test_same_ids(void **state)
{
    static const char *const texts[] = {
        "",
        "What happens?",
        " two  spaces ",
        "\n\ttabs",
        "[INST] </s> <s>",
        "caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd",
        "\xf0\x9f\x98\x80\xf0\x9f\x90\x89 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80",
        "1234567890",
        "x = a[i] + b;"};
    (void)state;
    const char *models[] = {engine_fixture_model, engine_fixture_golden()};
    for (int i = 0; i < 2 && models[i]; i++) {
        struct iv_quantize_result r = quantize(models[i], "Q8_0", NULL);
        struct iv_engine_options o = engine_fixture_options();
        o.tokenizer_only = true;
        o.model = models[i];
        iv_engine *source = engine_fixture_open(&o);
        o.model = r.language;
        iv_engine *pair = engine_fixture_open(&o);
        for (size_t k = 0; k < 4 * sizeof texts / sizeof texts[0]; k++) {
            const char *text = texts[k / 4];
            enum iv_tokenizer kind = k & 1 ? IV_TOKENIZER_LM : IV_TOKENIZER_BERT;
            int32_t *a, *b;
            size_t n_a, n_b;
            assert_int_equal(iv_tokenize(source, kind, text, strlen(text), k & 2, &a, &n_a, NULL),
                             0);
            assert_int_equal(iv_tokenize(pair, kind, text, strlen(text), k & 2, &b, &n_b, NULL), 0);
            assert_int_equal(n_a, n_b);
            assert_memory_equal(a, b, n_a * sizeof *a);
            iv_free(a);
            iv_free(b);
        }
        iv_engine_close(source);
        iv_engine_close(pair);
        iv_quantize_result_free(&r);
    }
}

// ---- runs that do not end well

static atomic_int looks;

static bool stop_later(void *user)
{
    return atomic_fetch_add(&looks, 1) >= *(int *)user;
}

static size_t count_files(const char *folder)
{
    size_t n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *x; d && (x = readdir(d)) != NULL;)
        n += x->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void test_stopped(void **state)
{
    (void)state;
    char folder[600];
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct iv_error e;
    int after;
    o.callbacks.user = &after;
    o.callbacks.abort = stop_later;
    snprintf(folder, sizeof folder, "%s/stopped", dir.path);
    for (after = 0; after < 40; after += 13) {
        atomic_store(&looks, 0);
        assert_int_equal(iv_quantize(engine_fixture_model, folder, &o, &r, &e), IV_ERR_ABORT);
        assert_null(r.language);
        assert_int_equal(count_files(folder), 0);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct iv_error e;
    const char *rule[] = {"a=Q3_K"};
    o.type = "Q3_K";
    assert_int_equal(iv_quantize(engine_fixture_model, dir.path, &o, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "type \"Q3_K\": expected one of F32, F16"));
    o = iv_quantize_options_default();
    o.tensor_type = rule;
    o.n_tensor_type = 1;
    assert_int_equal(iv_quantize(engine_fixture_model, dir.path, &o, &r, &e), IV_ERR_USAGE);
    rule[0] = "a(=Q8_0";
    assert_int_equal(iv_quantize(engine_fixture_model, dir.path, &o, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "no regular expression"));
    rule[0] = "Q8_0";
    assert_int_equal(iv_quantize(engine_fixture_model, dir.path, &o, &r, &e), IV_ERR_USAGE);
    assert_non_null(strstr(e.message, "expected REGEX=TYPE"));
    o = iv_quantize_options_default();
    assert_int_equal(iv_quantize("/absent", dir.path, &o, &r, &e), IV_ERR_MODEL);
    assert_int_equal(iv_quantize(engine_fixture_model, "/absent/below", &o, &r, &e), IV_ERR_FAIL);
    struct iv_quantize_result made = quantize(engine_fixture_model, "F16", NULL);
    assert_int_equal(iv_quantize(made.language, dir.path, &o, &r, &e), IV_ERR_MODEL);
    assert_non_null(strstr(e.message, "a file; quantize reads the folder"));
    iv_quantize_result_free(&made);
}

static void copy(const char *from, const char *to, bool damage)
{
    static char bytes[4 << 20];
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    assert_true(n > 8 && n < sizeof bytes);
    fclose(f);
    if (damage)
        memset(bytes + n - 2, 0xff, 2); // the last tensor's last weight, bf16
    f = fopen(to, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void test_not_finite(void **state)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "vocab.txt"};
    (void)state;
    char folder[600], from[800], to[800];
    struct iv_quantize_options o = iv_quantize_options_default();
    struct iv_quantize_result r;
    struct iv_error e;
    snprintf(folder, sizeof folder, "%s/nan", dir.path);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (size_t i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s", engine_fixture_model, names[i]);
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        copy(from, to, i == 1);
    }
    assert_int_equal(iv_quantize(folder, dir.path, &o, &r, &e), IV_ERR_MODEL);
    assert_non_null(strstr(e.message, "is not finite or too large for"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_order),  cmocka_unit_test(test_plain),
        cmocka_unit_test(test_merged),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_types),      cmocka_unit_test(test_same_ids),
        cmocka_unit_test(test_stopped),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_pairs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
