// SPDX-License-Identifier: MIT
// The values of both files: of the language file what llama.cpp's converter writes for a Mistral or InternLM2
// checkpoint, and two of our own that it has no key for; of the vision file ours (docs/FORMATS.md).
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/filemap.h"
#include "base/mem.h"
#include "chat/template.h"
#include "engine/quantizing.h"
#include "text/bert_vocab.h"
#include "text/tokenizer_pieces.h"

struct put {
    struct gguf_writer *w;
    const char *prefix;
};

static void put_size(const struct put *p, const char *rest, size_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", p->prefix, rest);
    gguf_put_u32(p->w, key, (uint32_t)v); // config.h's limits are below 2^32
}

static void put_real(const struct put *p, const char *rest, double v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", p->prefix, rest);
    gguf_put_f32(p->w, key, (float)v);
}

static void put_text(const struct put *p, const char *rest, const char *v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", p->prefix, rest);
    gguf_put_text(p->w, key, v);
}

// ---- language

static void put_pieces(struct gguf_writer *w, const struct piece_list *l, float *score,
                       int32_t *type)
{
    for (size_t i = 0; i < l->n; i++) {
        score[i] = l->piece[i].score;
        type[i] = (int32_t)l->piece[i].type;
    }
    gguf_put_text(w, "tokenizer.ggml.model", "llama");
    gguf_put_text(w, "tokenizer.ggml.pre", "default");
    gguf_put_texts(w, "tokenizer.ggml.tokens", l->n);
    for (size_t i = 0; i < l->n; i++)
        gguf_add_text(w, l->piece[i].p, l->piece[i].n);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, score, l->n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, type, l->n);
}

static int put_tokenizer(struct gguf_writer *w, const struct llm_config *c, const char *dir,
                         struct err *e)
{
    int rc;
    struct piece_list l = {0};
    float *score = NULL;
    int32_t *type = NULL;
    bool internlm = c->kind == LLM_INTERNLM2;
    TRY(piece_list_open(&l, dir, internlm ? TOKENIZER_INTERNLM2 : TOKENIZER_MISTRAL, c->n_vocab,
                        e));
    score = mem_calloc(l.n, sizeof *score);
    type = mem_calloc(l.n, sizeof *type);
    if (!score || !type)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", dir, l.n));
    put_pieces(w, &l, score, type);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
    // of a chat model the id that ends a turn, as the converter chooses it
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)c->eos[c->n_eos - 1]);
    gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    if (l.pad >= 0)
        gguf_put_u32(w, "tokenizer.ggml.padding_token_id", (uint32_t)l.pad);
    if (l.add_prefix >= 0)
        gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", l.add_prefix);
    if (l.add_bos >= 0)
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", l.add_bos);
    if (l.add_eos >= 0)
        gguf_put_bool(w, "tokenizer.ggml.add_eos_token", l.add_eos);
    if (l.n_merge > 0)
        gguf_put_array(w, "ivchat.tokenizer.merges", GGUF_I32, l.merge, 2 * l.n_merge);
    if (l.chat_template)
        gguf_put_bytes(w, "tokenizer.chat_template", l.chat_template, l.n_chat_template);
fail:
    mem_free(score);
    mem_free(type);
    piece_list_free(&l);
    return rc;
}

int quant_keys_language(struct gguf_writer *w, const struct model_config *c, const char *dir,
                        const char *name, const struct quant_mix *mix, struct err *e)
{
    const struct llm_config *l = &c->llm;
    struct put p = {w, gguf_architecture(l->kind)};
    gguf_put_text(w, "general.architecture", p.prefix);
    gguf_put_text(w, "general.type", "model");
    gguf_put_text(w, "general.name", name);
    gguf_put_u32(w, "general.file_type", mix->number);
    gguf_put_u32(w, "general.quantization_version", 2);
    put_size(&p, "block_count", l->n_layer);
    put_size(&p, "context_length", l->n_ctx_max);
    put_size(&p, "embedding_length", l->d_model);
    put_size(&p, "feed_forward_length", l->d_ffn);
    put_size(&p, "attention.head_count", l->n_head);
    put_size(&p, "attention.head_count_kv", l->n_kv);
    put_size(&p, "attention.key_length", l->d_head);
    put_size(&p, "attention.value_length", l->d_head);
    put_real(&p, "attention.layer_norm_rms_epsilon", (double)l->eps);
    put_real(&p, "rope.freq_base", l->rope_theta);
    put_size(&p, "rope.dimension_count", l->d_head);
    put_size(&p, "vocab_size", l->n_vocab);
    gguf_put_array(w, "ivchat.eos_token_ids", GGUF_I32, l->eos, l->n_eos);
    if (l->ntk_factor > 0)
        gguf_put_f64(w, "ivchat.rope.dynamic_ntk_factor", l->ntk_factor);
    return put_tokenizer(w, l, dir, e);
}

// ---- vision

static int put_vocabulary(struct gguf_writer *w, const char *dir, struct err *e)
{
    enum { VOCABULARY_MAX = 32 << 20 };
    int rc = 0;
    struct buf path = {0};
    char *text = NULL;
    size_t n = 0;
    if (!buf_printf(&path, "%s/vocab.txt", dir))
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", dir));
    if (access(path.data, F_OK) == 0) {
        TRY(file_read(path.data, VOCABULARY_MAX, ERR_MODEL, &text, &n, e));
        gguf_put_bytes(w, "ivchat.qformer.vocabulary", text, n);
    } else {
        const char *own = bert_vocab_text(&n);
        gguf_put_bytes(w, "ivchat.qformer.vocabulary", own, n);
    }
fail:
    mem_free(text);
    buf_free(&path);
    return rc;
}

static void put_template(const struct put *p, const struct chat_template *t)
{
    put_text(p, "template.name", t->name);
    put_text(p, "template.instruction_open", t->instruction_open);
    put_text(p, "template.instruction_close", t->instruction_close);
    put_text(p, "template.media_open", t->media_open);
    put_text(p, "template.media_close", t->media_close);
    put_text(p, "template.image_open", t->image_open);
    put_text(p, "template.image_close", t->image_close);
    put_text(p, "template.video_open", t->video_open);
    put_text(p, "template.video_close", t->video_close);
    put_text(p, "template.turn_gap", t->turn_gap);
    put_text(p, "template.user_open", t->user_open);
    put_text(p, "template.user_close", t->user_close);
    put_text(p, "template.answer_open", t->answer_open);
    put_text(p, "template.answer_close", t->answer_close);
}

int quant_keys_vision(struct gguf_writer *w, const struct model_config *c, const char *dir,
                      const char *name, struct err *e)
{
    // of SPEC 3.6, what preprocessing divides by
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    struct put p = {w, GGUF_VISION_ARCHITECTURE};
    gguf_put_text(w, "general.architecture", p.prefix);
    gguf_put_text(w, "general.type", "mmproj");
    gguf_put_text(w, "general.name", name);
    gguf_put_u32(w, "general.quantization_version", 2);
    put_size(&p, "version", 1);
    put_text(&p, "variant", variant_name(c->variant));
    put_size(&p, "frame_count", c->n_frame);
    put_size(&p, "vision.embedding_length", c->vit.d_model);
    put_size(&p, "vision.head_count", c->vit.n_head);
    put_size(&p, "vision.feed_forward_length", c->vit.d_ffn);
    put_size(&p, "vision.block_count", c->vit.n_layer);
    put_size(&p, "vision.image_size", c->vit.image_size);
    put_size(&p, "vision.patch_size", c->vit.patch);
    gguf_put_array(w, "ivchat.vision.image_mean", GGUF_F32, mean, 3);
    gguf_put_array(w, "ivchat.vision.image_std", GGUF_F32, std, 3);
    put_size(&p, "qformer.embedding_length", c->qformer.d_model);
    put_size(&p, "qformer.head_count", c->qformer.n_head);
    put_size(&p, "qformer.feed_forward_length", c->qformer.d_ffn);
    put_size(&p, "qformer.block_count", c->qformer.n_layer);
    put_size(&p, "qformer.cross_every", c->qformer.cross_every);
    put_size(&p, "qformer.query_count", c->qformer.n_query_base);
    put_size(&p, "qformer.extra_query_count", c->qformer.n_query_extra);
    put_size(&p, "qformer.vocab_size", c->qformer.n_vocab);
    put_size(&p, "qformer.context_length", c->qformer.n_pos);
    put_real(&p, "qformer.layer_norm_epsilon", (double)c->qformer.eps);
    put_template(&p, template_of(c->variant));
    return put_vocabulary(w, dir, e);
}
