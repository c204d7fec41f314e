// SPDX-License-Identifier: MIT
// config.json: the release's defaults, every extension key, limits with their messages, variants.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "model/config.h"
#include "tempdir.h"

static int parse(struct model_config *c, const char *json, const char *dir_name, struct err *e)
{
    memset(c, 0xaa, sizeof *c);
    return config_parse(c, json, strlen(json), "config.json", dir_name, e);
}

static void parse_good(struct model_config *c, const char *json, const char *dir_name)
{
    struct err e = {0};
    if (parse(c, json, dir_name, &e) != 0)
        fail_msg("%s\n%s", e.msg, json);
}

#define MISTRAL(more) "{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\"}" more "}}"

static void check_release_vision(const struct model_config *c)
{
    assert_int_equal(c->vit.d_model, 1408);
    assert_int_equal(c->vit.n_head, 16);
    assert_int_equal(c->vit.d_head, 88);
    assert_int_equal(c->vit.d_ffn, 6144);
    assert_int_equal(c->vit.n_layer, 39);
    assert_int_equal(c->vit.image_size, 224);
    assert_int_equal(c->vit.patch, 14);
    assert_int_equal(c->vit.n_patch, 256);
    assert_int_equal(c->qformer.d_model, 768);
    assert_int_equal(c->qformer.n_head, 12);
    assert_int_equal(c->qformer.d_ffn, 3072);
    assert_int_equal(c->qformer.n_layer, 12);
    assert_int_equal(c->qformer.n_query_base, 32);
    assert_int_equal(c->qformer.n_query_extra, 64);
    assert_int_equal(c->qformer.n_query, 96);
    assert_int_equal(c->qformer.n_vocab, 30523);
    assert_int_equal(c->qformer.n_pos, 512);
    assert_int_equal(c->qformer.cross_every, 2);
    assert_true(c->qformer.eps == 1e-12f);
    assert_int_equal(c->n_frame, 8);
}

static void check_7b(const struct llm_config *c)
{
    assert_int_equal(c->d_model, 4096);
    assert_int_equal(c->n_layer, 32);
    assert_int_equal(c->n_head, 32);
    assert_int_equal(c->n_kv, 8);
    assert_int_equal(c->d_head, 128);
    assert_int_equal(c->d_ffn, 14336);
    assert_true(c->eps == 1e-5f);
    assert_int_equal(c->bos, 1);
    assert_int_equal(c->eos[0], 2);
    assert_int_equal(c->lora_r, 16);
    assert_true(c->lora_alpha == 32.0f);
}

static void check_mistral(const struct model_config *c)
{
    check_7b(&c->llm);
    assert_int_equal(c->llm.kind, LLM_MISTRAL);
    assert_int_equal(c->llm.n_vocab, 32768);
    assert_int_equal(c->llm.n_ctx_max, 32768);
    assert_true(c->llm.rope_theta == 1e6);
    assert_true(c->llm.ntk_factor == 0 && c->llm.ntk_from == 0);
    assert_int_equal(c->llm.n_eos, 1);
    assert_string_equal(c->llm.base_name, "mistralai/Mistral-7B-Instruct-v0.3");
}

static void test_defaults(void **state)
{
    struct model_config c;
    (void)state;
    parse_good(&c, MISTRAL(""), NULL);
    check_release_vision(&c);
    check_mistral(&c);
    assert_int_equal(c.variant, VARIANT_HD);
    // null is as good as absent
    parse_good(&c, MISTRAL(",\"vision_encoder\":null,\"llm_config\":{\"hidden_size\":null}"), NULL);
    check_release_vision(&c);
    check_mistral(&c);
    parse_good(&c, "{\"model_config\":{\"llm\":{\"name\":\"internlm2_5_7b\"}}}", "x_8B_HD_F16");
    check_release_vision(&c);
    check_7b(&c.llm);
    assert_int_equal(c.llm.kind, LLM_INTERNLM2);
    assert_int_equal(c.llm.n_vocab, 92544);
    assert_int_equal(c.llm.n_ctx_max, 262144);
    assert_true(c.llm.rope_theta == 5e7);
    assert_true(c.llm.ntk_factor == 2.5);
    assert_int_equal(c.llm.ntk_from, 262144);
    assert_int_equal(c.llm.n_eos, 2);
    assert_int_equal(c.llm.eos[1], 92542);
    assert_int_equal(c.variant, VARIANT_INTERNLM);
}

static void test_names(void **state)
{
    static const char *const same[] = {"InternLM2.5-7B", "internlm2_5_7b", "internlm_2_5_7b"};
    struct model_config c;
    char json[256];
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        snprintf(json, sizeof json, "{\"model_config\":{\"llm\":{\"name\":\"%s\"}}}", same[i]);
        parse_good(&c, json, NULL);
        assert_int_equal(c.llm.kind, LLM_INTERNLM2);
    }
    parse_good(&c, "{\"model_config\":{\"llm\":{\"name\":\"Mistral-7B\"}}}", NULL);
    assert_int_equal(c.llm.kind, LLM_MISTRAL);
    parse_good(&c, "{\"model_config\":{\"llm_config\":{\"model_type\":\"internlm2\"}}}", NULL);
    assert_int_equal(c.llm.kind, LLM_INTERNLM2);
    parse_good(&c,
               "{\"model_config\":{\"llm\":{\"name\":\"my_own\",\"pretrained_llm_path\":\"a/b\"},"
               "\"llm_config\":{\"model_type\":\"mistral\"}}}",
               NULL);
    assert_int_equal(c.llm.kind, LLM_MISTRAL);
    assert_string_equal(c.llm.base_name, "a/b");
}

static void test_vision_keys(void **state)
{
    struct model_config c;
    (void)state;
    // without depth, num_heads or mlp_ratio the patch size is not read
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"patch_size\":16,\"num_frames\":4}"), NULL);
    assert_int_equal(c.vit.patch, 14);
    assert_int_equal(c.vit.n_patch, 256);
    assert_int_equal(c.n_frame, 4);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"patch_size\":16,\"depth\":7}"), NULL);
    assert_int_equal(c.vit.patch, 16);
    assert_int_equal(c.vit.n_patch, 196);
    assert_int_equal(c.vit.n_layer, 6);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"patch_size\":28,\"num_heads\":8}"), NULL);
    assert_int_equal(c.vit.patch, 28);
    assert_int_equal(c.vit.d_head, 176);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"patch_size\":28,\"mlp_ratio\":1.999}"), NULL);
    assert_int_equal(c.vit.patch, 28);
    assert_int_equal(c.vit.d_ffn, 2814); // 2814.592 truncated
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"x_vis_return_idx\":-1,\"depth\":3}"), NULL);
    assert_int_equal(c.vit.n_layer, 3);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"x_vis_return_idx\":-3,\"depth\":3}"), NULL);
    assert_int_equal(c.vit.n_layer, 1);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"x_vis_return_idx\":-1,\"depth\":1}"), NULL);
    assert_int_equal(c.vit.n_layer, 1);
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"encoder_embed_dim\":176,\"num_heads\":2}"),
               NULL);
    assert_int_equal(c.vit.d_model, 176);
    assert_int_equal(c.vit.d_ffn, 768);
    // 48/11 as a double is below 48/11: most products round up to the integer, some stay below it and
    // are truncated, as in the reference
    static const size_t hidden[][3] = {{22, 1, 96}, {110, 1, 479}, {176, 1, 768}, {704, 4, 3072}};
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        char json[200];
        snprintf(json, sizeof json,
                 MISTRAL(",\"vision_encoder\":{\"d_model\":%zu,\"num_heads\":%zu,"
                         "\"mlp_ratio\":4.363636363636363}"),
                 hidden[i][0], hidden[i][1]);
        parse_good(&c, json, NULL);
        assert_int_equal(c.vit.d_ffn, hidden[i][2]);
    }
}

static void test_llm_keys(void **state)
{
    struct model_config c;
    (void)state;
    parse_good(&c,
               MISTRAL(",\"llm_config\":{\"hidden_size\":192,\"num_attention_heads\":6,"
                       "\"num_key_value_heads\":2,\"vocab_size\":100,\"num_hidden_layers\":3,"
                       "\"intermediate_size\":512,\"rope_theta\":10000,\"rms_norm_eps\":1e-6,"
                       "\"max_position_embeddings\":2048,\"bos_token_id\":7,"
                       "\"eos_token_id\":[99,0,5],\"sliding_window\":4096}"),
               NULL);
    assert_int_equal(c.llm.d_model, 192);
    assert_int_equal(c.llm.n_layer, 3);
    assert_int_equal(c.llm.n_head, 6);
    assert_int_equal(c.llm.n_kv, 2);
    assert_int_equal(c.llm.d_head, 32); // follows from the two
    assert_int_equal(c.llm.d_ffn, 512);
    assert_int_equal(c.llm.n_vocab, 100);
    assert_int_equal(c.llm.n_ctx_max, 2048);
    assert_true(c.llm.rope_theta == 10000 && c.llm.eps == 1e-6f);
    assert_int_equal(c.llm.bos, 7);
    assert_int_equal(c.llm.n_eos, 3);
    assert_int_equal(c.llm.eos[0], 99);
    assert_int_equal(c.llm.eos[2], 5);
    parse_good(&c, MISTRAL(",\"llm_config\":{\"head_dim\":64,\"eos_token_id\":11}"), NULL);
    assert_int_equal(c.llm.d_head, 64); // stated: need not be width / heads
    assert_int_equal(c.llm.n_eos, 1);
    assert_int_equal(c.llm.eos[0], 11);
    parse_good(&c,
               MISTRAL(",\"llm_config\":{\"max_position_embeddings\":4096,"
                       "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":3}}"),
               NULL);
    assert_true(c.llm.ntk_factor == 3.0);
    assert_int_equal(c.llm.ntk_from, 4096);
    // absent: the base model's; null: none
    parse_good(&c,
               "{\"model_config\":{\"llm_config\":{\"model_type\":\"internlm2\","
               "\"max_position_embeddings\":1000}}}",
               NULL);
    assert_true(c.llm.ntk_factor == 2.5);
    assert_int_equal(c.llm.ntk_from, 1000);
    parse_good(&c,
               "{\"model_config\":{\"llm_config\":{\"model_type\":\"internlm2\","
               "\"rope_scaling\":null}}}",
               NULL);
    assert_true(c.llm.ntk_factor == 0);
    assert_int_equal(c.llm.ntk_from, 0);
    parse_good(
        &c,
        "{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"lora_r\":4,\"lora_alpha\":2.5}}}",
        NULL);
    assert_int_equal(c.llm.lora_r, 4);
    assert_true(c.llm.lora_alpha == 2.5f);
    parse_good(
        &c,
        "{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"lora_r\":4,\"use_lora\":false}}}",
        NULL);
    assert_int_equal(c.llm.lora_r, 0);
    assert_true(c.llm.lora_alpha == 0.0f);
}

static void test_qformer_keys(void **state)
{
    struct model_config c;
    (void)state;
    parse_good(&c,
               MISTRAL(",\"bridge\":{\"num_query_token\":3,\"extra_num_query_token\":0},"
                       "\"qformer_config\":{\"hidden_size\":32,\"num_attention_heads\":4,"
                       "\"num_hidden_layers\":2,\"intermediate_size\":96,\"vocab_size\":500,"
                       "\"max_position_embeddings\":64,\"layer_norm_eps\":1e-5,"
                       "\"cross_attention_freq\":1,\"encoder_width\":1408}"),
               NULL);
    assert_int_equal(c.qformer.d_model, 32);
    assert_int_equal(c.qformer.n_head, 4);
    assert_int_equal(c.qformer.n_layer, 2);
    assert_int_equal(c.qformer.d_ffn, 96);
    assert_int_equal(c.qformer.n_vocab, 501);
    assert_int_equal(c.qformer.n_pos, 64);
    assert_int_equal(c.qformer.cross_every, 1);
    assert_int_equal(c.qformer.n_query, 3);
    assert_true(c.qformer.eps == 1e-5f);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *json, *message;
    } whole[] = {
        {"", "config.json: invalid JSON"},
        {"[]", "config.json: no JSON object"},
        {"{}", "config.json: model_config is missing"},
        {"{\"model_type\":\"llama\"}", "config.json: model_config is missing"},
        {"{\"model_config\":3}", "config.model_config is 3, expected an object"},
        {"{\"model_config\":{}}",
         "model_config.llm.name is null, expected one of mistral_7b, internlm2_5_7b"},
        {"{\"model_config\":{\"llm\":[]}}", "model_config.llm is an array, expected an object"},
        {"{\"model_config\":{\"llm\":{\"name\":\"vicuna_7b\"}}}",
         "model_config.llm.name is \"vicuna_7b\", expected one of mistral_7b, internlm2_5_7b"},
        {"{\"model_config\":{\"llm\":{\"name\":\"\"}}}",
         "model_config.llm.name is \"\", expected one"},
        {"{\"model_config\":{\"llm\":{\"name\":7}}}",
         "model_config.llm.name is 7, expected a string"},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\\u0000\"}}}", "expected a string"},
        {"{\"model_config\":{\"llm_config\":{\"model_type\":\"llama\"}}}",
         "model_config.llm_config.model_type is \"llama\", expected one of mistral, internlm2"},
        {MISTRAL(",\"llm_config\":{\"model_type\":\"internlm2\"}"),
         "model_config.llm.name is \"mistral_7b\" but model_config.llm_config.model_type is "
         "\"internlm2\""},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\"}},\"model_cls\":1}",
         "config.model_cls is 1, expected a string"},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"lora_r\":0}}}",
         "model_config.llm.lora_r is 0, expected an integer from 1 to 1024"},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"lora_alpha\":-1}}}",
         "model_config.llm.lora_alpha is -1, expected a number from 0 to 65536"},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"use_lora\":\"yes\"}}}",
         "model_config.llm.use_lora is \"yes\", expected true or false"},
        {"{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\",\"pretrained_llm_path\":[]}}}",
         "model_config.llm.pretrained_llm_path is an array, expected a string"},
    };
    static const struct {
        const char *section, *values, *message;
    } part[] = {
        {"vision_encoder", "\"d_model\":0", "d_model is 0, expected an integer from 1 to 65536"},
        {"vision_encoder", "\"d_model\":65537", "d_model is 65537, expected an integer from 1"},
        {"vision_encoder", "\"d_model\":-8", "d_model is -8, expected an integer"},
        {"vision_encoder", "\"d_model\":1408.0", "d_model is 1408, expected an integer"},
        {"vision_encoder", "\"d_model\":\"1408\"", "d_model is \"1408\", expected an integer"},
        {"vision_encoder", "\"d_model\":9223372036854775807", "d_model is 9.22337203685478e+18"},
        {"vision_encoder", "\"d_model\":1e999", "invalid JSON"},
        {"vision_encoder", "\"d_model\":176,\"encoder_embed_dim\":192",
         "d_model 176 and encoder_embed_dim 192 differ"},
        {"vision_encoder", "\"encoder_embed_dim\":1000",
         "d_model 1000 is not divisible by num_heads 16"},
        {"vision_encoder", "\"num_heads\":0", "num_heads is 0, expected an integer from 1"},
        {"vision_encoder", "\"depth\":0", "depth is 0, expected an integer from 1 to 1024"},
        {"vision_encoder", "\"depth\":1025", "depth is 1025"},
        {"vision_encoder", "\"depth\":3,\"x_vis_return_idx\":-4",
         "x_vis_return_idx is -4, expected a number from -3 to -1"},
        {"vision_encoder", "\"depth\":1", "depth 1 leaves no block: x_vis_return_idx is -2"},
        {"vision_encoder", "\"x_vis_return_idx\":0", "x_vis_return_idx is 0, expected"},
        {"vision_encoder", "\"x_vis_return_idx\":-1.5", "x_vis_return_idx is -1.5, expected an"},
        {"vision_encoder", "\"mlp_ratio\":0", "mlp_ratio is 0, expected a number"},
        {"vision_encoder", "\"mlp_ratio\":65", "mlp_ratio is 65, expected a number"},
        {"vision_encoder", "\"d_model\":32,\"mlp_ratio\":0.01", "gives a hidden size of 0"},
        {"vision_encoder", "\"d_model\":65536,\"num_heads\":256,\"mlp_ratio\":64",
         "gives a hidden size of 4194304"},
        {"vision_encoder", "\"d_model\":16",
         "model_config.vision_encoder.d_model 16 with num_heads 16 makes heads of 1 values, "
         "expected "
         "an even number from 2 to 256"},
        {"vision_encoder", "\"d_model\":66,\"num_heads\":2",
         "d_model 66 with num_heads 2 makes heads of 33 values, expected an even number from 2 to "
         "256"},
        {"vision_encoder", "\"d_model\":258,\"num_heads\":1",
         "d_model 258 with num_heads 1 makes heads of 258 values"},
        {"vision_encoder", "\"d_model\":8", "d_model 8 is not divisible by num_heads 16"},
        {"vision_encoder", "\"depth\":4,\"patch_size\":15",
         "img_size 224 is not divisible by patch_size 15"},
        {"vision_encoder", "\"depth\":4,\"patch_size\":2", "patch_size is 2, expected an integer"},
        {"vision_encoder", "\"img_size\":448", "img_size is 448, expected an integer from 224"},
        {"vision_encoder", "\"tubelet_size\":2", "tubelet_size is 2"},
        {"vision_encoder", "\"num_frames\":0", "num_frames is 0"},
        {"vision_encoder", "\"num_frames\":1000000", "num_frames is 1000000"},
        {"vision_encoder", "\"sep_image_video_pos_embed\":false",
         "sep_image_video_pos_embed is false, expected true"},
        {"vision_encoder", "\"vit_add_ln\":false", "vit_add_ln is false, expected true"},
        {"vision_encoder", "\"x_vis_only\":0", "x_vis_only is 0, expected true or false"},
        {"bridge", "\"name\":\"mlp\"", "bridge.name is \"mlp\", expected \"qformer\""},
        {"bridge", "\"num_query_token\":0", "num_query_token is 0"},
        {"bridge", "\"extra_num_query_token\":5000", "extra_num_query_token is 5000"},
        {"qformer_config", "\"model_type\":\"t5\"", "model_type is \"t5\", expected \"bert\""},
        {"qformer_config", "\"hidden_act\":\"relu\"", "hidden_act is \"relu\", expected \"gelu\""},
        {"qformer_config", "\"hidden_size\":770",
         "hidden_size 770 is not divisible by num_attention_heads 12"},
        {"qformer_config", "\"hidden_size\":36",
         "model_config.qformer_config.hidden_size 36 with num_attention_heads 12 makes heads of 3 "
         "values, expected an even number from 2 to 256"},
        {"qformer_config", "\"num_attention_heads\":2",
         "hidden_size 768 with num_attention_heads 2 makes heads of 384 values"},
        {"qformer_config", "\"vocab_size\":0", "vocab_size is 0"},
        {"qformer_config", "\"layer_norm_eps\":0", "layer_norm_eps is 0, expected a number from"},
        {"qformer_config", "\"cross_attention_freq\":0", "cross_attention_freq is 0"},
        {"qformer_config", "\"encoder_width\":176",
         "encoder_width 176, the vision encoder's d_model is 1408"},
        {"llm_config", "\"hidden_size\":[]", "llm_config.hidden_size is an array"},
        {"llm_config", "\"hidden_size\":{}", "llm_config.hidden_size is an object"},
        {"llm_config", "\"hidden_size\":true", "llm_config.hidden_size is true"},
        {"llm_config", "\"hidden_size\":100",
         "hidden_size 100 is not divisible by num_attention_heads 32"},
        {"llm_config", "\"num_attention_heads\":0", "num_attention_heads is 0"},
        {"llm_config", "\"num_key_value_heads\":0", "num_key_value_heads is 0"},
        {"llm_config", "\"num_key_value_heads\":5",
         "num_attention_heads 32 is not divisible by num_key_value_heads 5"},
        {"llm_config", "\"num_key_value_heads\":64",
         "num_attention_heads 32 is not divisible by num_key_value_heads 64"},
        {"llm_config", "\"head_dim\":127",
         "model_config.llm_config.head_dim is 127, expected an even number from 4 to 256"},
        {"llm_config", "\"head_dim\":2", "head_dim is 2, expected an even number from 4 to 256"},
        {"llm_config", "\"head_dim\":258",
         "head_dim is 258, expected an even number from 4 to 256"},
        {"llm_config", "\"hidden_size\":96",
         "hidden_size 96 with num_attention_heads 32 makes heads of 3 values, expected an even "
         "number "
         "from 4 to 256"},
        {"llm_config", "\"hidden_size\":64", "makes heads of 2 values"},
        {"llm_config", "\"num_attention_heads\":8",
         "hidden_size 4096 with num_attention_heads 8 makes heads of 512 values"},
        {"llm_config", "\"num_attention_heads\":1024,\"head_dim\":256",
         "num_attention_heads 1024 with heads of 256 values exceeds 65536"},
        {"llm_config", "\"vocab_size\":4194305", "vocab_size is 4194305"},
        {"llm_config", "\"vocab_size\":2", "vocab_size 2 leaves no place for the end id 2"},
        {"llm_config", "\"vocab_size\":1", "bos_token_id 1 is not below vocab_size 1"},
        {"llm_config", "\"bos_token_id\":32768", "bos_token_id is 32768"},
        {"llm_config", "\"eos_token_id\":32768",
         "eos_token_id is 32768, expected an id below vocab_size 32768 or 1..8 such ids"},
        {"llm_config", "\"eos_token_id\":[]", "eos_token_id is an array, expected an id"},
        {"llm_config", "\"eos_token_id\":[2,-1]", "eos_token_id is an array, expected an id"},
        {"llm_config", "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "eos_token_id is an array"},
        {"llm_config", "\"eos_token_id\":\"2\"", "eos_token_id is \"2\""},
        {"llm_config", "\"rope_theta\":0", "rope_theta is 0, expected a number from 1"},
        {"llm_config", "\"rms_norm_eps\":-1e-5", "rms_norm_eps is -1e-05"},
        {"llm_config", "\"hidden_act\":\"gelu\"", "hidden_act is \"gelu\", expected \"silu\""},
        {"llm_config", "\"tie_word_embeddings\":true",
         "tie_word_embeddings is true, expected false"},
        {"llm_config", "\"bias\":true", "bias is true, expected false"},
        {"llm_config", "\"attention_bias\":true", "attention_bias is true, expected false"},
        {"llm_config", "\"sliding_window\":4096",
         "sliding_window is 4096, expected an integer from 32768"},
        {"llm_config", "\"max_position_embeddings\":0", "max_position_embeddings is 0"},
        {"llm_config", "\"rope_scaling\":7", "rope_scaling is 7, expected an object"},
        {"llm_config", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}",
         "rope_scaling.type is \"linear\", expected \"dynamic\""},
        {"llm_config", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}",
         "rope_scaling.rope_type is \"yarn\", expected \"dynamic\""},
        {"llm_config", "\"rope_scaling\":{\"type\":\"dynamic\"}", "rope_scaling.factor is null"},
        {"llm_config", "\"rope_scaling\":{\"factor\":0.5}", "rope_scaling.factor is 0.5"},
    };
    enum { N_WHOLE = sizeof whole / sizeof whole[0], N_PART = sizeof part / sizeof part[0] };
    static const struct model_config zero;
    (void)state;
    for (size_t i = 0; i < N_WHOLE + N_PART; i++) {
        char json[512];
        struct model_config c;
        struct err e = {0};
        const char *message = i < N_WHOLE ? whole[i].message : part[i - N_WHOLE].message;
        if (i < N_WHOLE)
            snprintf(json, sizeof json, "%s", whole[i].json);
        else
            snprintf(json, sizeof json, MISTRAL(",\"%s\":{%s}"), part[i - N_WHOLE].section,
                     part[i - N_WHOLE].values);
        int rc = parse(&c, json, NULL, &e);
        if (rc == 0 || !strstr(e.msg, message))
            print_error("%s\ngot %d \"%s\"\nexpected \"%s\"\n", json, rc, e.msg, message);
        assert_int_equal(rc, ERR_MODEL);
        assert_non_null(strstr(e.msg, message));
        assert_int_equal(strncmp(e.msg, "config.json: ", 13), 0);
        assert_memory_equal(&c, &zero, sizeof c);
    }
}

// The limits themselves are taken.
static void test_head_limits(void **state)
{
    struct model_config c;
    (void)state;
    parse_good(&c,
               MISTRAL(",\"vision_encoder\":{\"d_model\":256,\"num_heads\":1},"
                       "\"qformer_config\":{\"hidden_size\":512,\"num_attention_heads\":2},"
                       "\"llm_config\":{\"head_dim\":256}"),
               NULL);
    assert_int_equal(c.vit.d_head, 256);
    assert_int_equal(c.qformer.d_model / c.qformer.n_head, 256);
    assert_int_equal(c.llm.d_head, 256);
    parse_good(&c,
               MISTRAL(",\"vision_encoder\":{\"d_model\":32},"
                       "\"qformer_config\":{\"hidden_size\":24},\"llm_config\":{\"head_dim\":4}"),
               NULL);
    assert_int_equal(c.vit.d_head, 2);
    assert_int_equal(c.qformer.d_model / c.qformer.n_head, 2);
    assert_int_equal(c.llm.d_head, 4);
}

// The largest sizes that pass must not overflow any product of two with an element size.
static void test_largest(void **state)
{
    struct model_config c;
    size_t bytes;
    (void)state;
    parse_good(&c,
               MISTRAL(",\"vision_encoder\":{\"d_model\":65536,\"num_heads\":1024,\"depth\":1024,"
                       "\"mlp_ratio\":4,\"patch_size\":4},"
                       "\"llm_config\":{\"hidden_size\":65536,\"num_attention_heads\":1024,"
                       "\"num_key_value_heads\":1024,\"vocab_size\":4194304,"
                       "\"intermediate_size\":262144,\"num_hidden_layers\":1024,"
                       "\"max_position_embeddings\":16777216}"),
               NULL);
    assert_false(__builtin_mul_overflow(c.llm.n_vocab, c.llm.d_model * 8, &bytes));
    assert_false(__builtin_mul_overflow(c.llm.n_ctx_max * c.llm.n_layer,
                                        c.llm.n_kv * c.llm.d_head * 8, &bytes));
    assert_false(__builtin_mul_overflow(c.vit.d_ffn, c.vit.d_model * 8, &bytes));
    assert_int_equal(c.vit.n_patch, 56 * 56);
}

static void test_variants(void **state)
{
    static const struct {
        const char *dir, *more; // more: members beside model_config, and num_frames
        enum variant v;
        size_t n_frame;
    } rows[] = {
        {NULL, "", VARIANT_HD, 8},
        {"", "", VARIANT_HD, 8},
        {"model", "", VARIANT_HD, 8},
        {"InternVideo2-Chat-8B", "", VARIANT_8B, 8},
        {"InternVideo2_chat_8b", "", VARIANT_8B, 8},
        {"models--OpenGVLab--InternVideo2-Chat-8B", "", VARIANT_8B, 8},
        {"InternVideo2_chat_8B_HD", "", VARIANT_HD, 8},
        {"InternVideo2-Chat-8B-HD-F16", "", VARIANT_F16, 16},
        {"internvideo2_chat_8b_hdf16", "", VARIANT_F16, 16},
        {"tiny-f16", "", VARIANT_F16, 16},
        {"InternVideo2-Chat-8B-bf16", "", VARIANT_8B, 8},
        {"InternVideo2-Chat-18B", "", VARIANT_HD, 8},
        {"withdrawn-8b", "", VARIANT_8B, 8},
        {"x", ",\"_name_or_path\":\"OpenGVLab/InternVideo2-Chat-8B\"", VARIANT_8B, 8},
        {"x", ",\"model_cls\":\"VideoChat2_HD\"", VARIANT_HD, 8},
        {"x_8b", ",\"_name_or_path\":\"InternVideo2_chat_8B_HD_F16\"", VARIANT_8B, 8},
    };
    struct model_config c;
    enum variant v;
    char json[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(json, sizeof json, "{\"model_config\":{\"llm\":{\"name\":\"mistral_7b\"}}%s}",
                 rows[i].more);
        parse_good(&c, json, rows[i].dir);
        if (c.variant != rows[i].v)
            print_error("%s: %s\n", rows[i].dir ? rows[i].dir : "NULL", variant_name(c.variant));
        assert_int_equal(c.variant, rows[i].v);
        assert_int_equal(c.n_frame, rows[i].n_frame);
    }
    parse_good(&c, MISTRAL(",\"vision_encoder\":{\"num_frames\":16}"), "InternVideo2-Chat-8B");
    assert_int_equal(c.variant, VARIANT_F16);
    assert_int_equal(c.n_frame, 16);
    config_set_variant(&c, VARIANT_HD);
    assert_int_equal(c.variant, VARIANT_HD);
    assert_int_equal(c.n_frame, 8);
    config_set_variant(&c, VARIANT_F16);
    assert_int_equal(c.n_frame, 16);
    c.n_frame = 4;
    c.variant = VARIANT_HD;
    config_set_variant(&c, VARIANT_8B);
    assert_int_equal(c.n_frame, 4); // what the configuration says stays
    for (v = VARIANT_8B; v <= VARIANT_INTERNLM; v++) {
        enum variant back;
        assert_true(variant_from_name(variant_name(v), &back));
        assert_int_equal(back, v);
    }
    assert_false(variant_from_name("HD", &v));
    assert_false(variant_from_name("", &v));
    assert_string_equal(variant_name((enum variant)9), "?");
}

static void test_load(void **state)
{
    struct tempdir dir;
    struct model_config c;
    struct err e = {0};
    char path[400], old[256];
    (void)state;
    tempdir_make(&dir);
    assert_int_equal(config_load(&c, dir.path, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "/config.json: No such file"));
    tempdir_write_text(&dir, "config.json", "");
    assert_int_equal(config_load(&c, dir.path, &e), ERR_MODEL);
    tempdir_write_text(&dir, "config.json", MISTRAL(""));
    assert_int_equal(config_load(&c, dir.path, &e), 0);
    assert_int_equal(c.variant, VARIANT_HD);

    // a hub snapshot is named by a hash, its repository two levels up; seen from inside too
    static const char *const part[] = {"/models--A--B-Chat-8B", "/snapshots", "/0f1e2d"};
    snprintf(path, sizeof path, "%s", dir.path);
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(path);
        snprintf(path + n, sizeof path - n, "%s", part[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    size_t n = strlen(path);
    snprintf(path + n, sizeof path - n, "/config.json");
    assert_int_equal(symlink("../../../config.json", path), 0);
    path[n] = 0;
    assert_int_equal(config_load(&c, path, &e), 0);
    assert_int_equal(c.variant, VARIANT_8B);
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(path), 0);
    assert_int_equal(config_load(&c, ".", &e), 0);
    assert_int_equal(c.variant, VARIANT_8B);
    assert_int_equal(chdir(old), 0);

    char *big = calloc((1 << 20) + 1, 1);
    assert_non_null(big);
    memset(big, ' ', (1 << 20) + 1);
    tempdir_write(&dir, "config.json", big, (1 << 20) + 1);
    free(big);
    assert_int_equal(config_load(&c, dir.path, &e), ERR_MODEL);
    assert_non_null(strstr(e.msg, "1048577 bytes, at most 1048576 are accepted"));
    tempdir_remove(&dir);
}

static void test_allocation_failure(void **state)
{
    struct tempdir dir;
    struct model_config c;
    uint64_t k;
    (void)state;
    tempdir_make(&dir);
    tempdir_write_text(&dir, "config.json", MISTRAL(""));
    for (k = 1;; k++) {
        struct err e = {0};
        mem_fail_after(k);
        int rc = config_load(&c, dir.path, &e);
        mem_fail_after(0);
        if (rc == 0)
            break;
        assert_int_equal(rc, ERR_LIMIT);
        assert_non_null(strstr(e.msg, "out of memory"));
    }
    assert_int_equal(k, 3); // path, text
    tempdir_remove(&dir);
}

static void load_shared(struct model_config *c, const char *name)
{
    char path[1024];
    struct err e = {0};
    snprintf(path, sizeof path, "%s/%s", TEST_SHARED, name);
    if (access(path, R_OK) != 0) {
        printf("SKIP no %s\n", path);
        skip();
    }
    if (config_load(c, path, &e) != 0)
        fail_msg("%s", e.msg);
}

static void test_release(void **state)
{
    struct model_config c;
    (void)state;
    load_shared(&c, "data/upstream");
    check_release_vision(&c);
    check_mistral(&c);
    assert_int_equal(c.variant, VARIANT_HD);
}

static void test_golden_hd(void **state)
{
    struct model_config c;
    (void)state;
    load_shared(&c, "golden/tiny-hd");
    assert_int_equal(c.variant, VARIANT_HD);
    assert_int_equal(c.vit.d_model, 176);
    assert_int_equal(c.vit.n_head, 2);
    assert_int_equal(c.vit.n_layer, 4);
    assert_int_equal(c.vit.d_ffn, 768);
    assert_int_equal(c.qformer.d_model, 128);
    assert_int_equal(c.qformer.n_vocab, 30523);
    assert_int_equal(c.llm.d_model, 192);
    assert_int_equal(c.llm.n_layer, 3);
    assert_int_equal(c.llm.d_head, 32);
    assert_int_equal(c.llm.n_vocab, 32768);
    assert_int_equal(c.llm.n_eos, 1);
}

static void test_golden_internlm(void **state)
{
    struct model_config c;
    (void)state;
    load_shared(&c, "golden/tiny-internlm");
    assert_int_equal(c.variant, VARIANT_INTERNLM);
    assert_int_equal(c.vit.n_layer, 2);
    assert_int_equal(c.qformer.n_layer, 2);
    assert_int_equal(c.llm.kind, LLM_INTERNLM2);
    assert_int_equal(c.llm.d_head, 16);
    assert_int_equal(c.llm.n_vocab, 92544);
    assert_true(c.llm.rope_theta == 5e7 && c.llm.ntk_factor == 2.5);
    assert_int_equal(c.llm.ntk_from, 262144);
    assert_int_equal(c.llm.n_eos, 2);
    assert_int_equal(c.llm.eos[1], 92542);
    assert_string_equal(c.llm.base_name, "internlm/internlm2_5-7b-chat-1m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),           cmocka_unit_test(test_names),
        cmocka_unit_test(test_vision_keys),        cmocka_unit_test(test_llm_keys),
        cmocka_unit_test(test_qformer_keys),       cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_head_limits),        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_variants),           cmocka_unit_test(test_load),
        cmocka_unit_test(test_allocation_failure), cmocka_unit_test(test_release),
        cmocka_unit_test(test_golden_hd),          cmocka_unit_test(test_golden_internlm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
