// SPDX-License-Identifier: MIT
// Decoder-only transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU, every linear
// layer optionally with LoRA. (SPEC 7.1, 7.2, 2.6; Mistral 7B, arXiv 2310.06825; InternLM2, arXiv 2403.17297)
//
//   h += o(attention(rope(q(n)), rope(k(n)), v(n)))    n = rms(h)
//   h += down(silu(gate(n)) * up(n))                   n = rms(h)
//   logits = head(rms(h))
//
// Easy to get wrong: RoPE rotates split halves, or interleaved pairs where the config says `pairs`;
// InternLM2 packs wqkv per key head (4 queries, key, value), not [Q|K|V]; LoRA also sits on Mistral's head.
#include "model/llm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "model/dims.h"

#define LLM(f)      offsetof(struct llm, f)
#define LAYER(f)    offsetof(struct llm_layer, f)
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const char PREFIX[] = "lm.base_model.model.";

static const struct bind_row mistral_rows[] = {
    {"model.embed_tokens.weight", BIND_TENSOR, 0, LLM(embed), 2, {DIM_LLM_VOCAB, DIM_LLM}},
    {"model.norm.weight", BIND_TENSOR, 0, LLM(norm), 1, {DIM_LLM}},
    {"lm_head", BIND_LINEAR, BIND_LORA, LLM(head), 2, {DIM_LLM_VOCAB, DIM_LLM}},
};
static const struct bind_row mistral_layer_rows[] = {
    {"input_layernorm.weight", BIND_TENSOR, 0, LAYER(attn_norm), 1, {DIM_LLM}},
    {"self_attn.q_proj", BIND_LINEAR, BIND_LORA, LAYER(q), 2, {DIM_LLM_Q, DIM_LLM}},
    {"self_attn.k_proj", BIND_LINEAR, BIND_LORA, LAYER(k), 2, {DIM_LLM_KV, DIM_LLM}},
    {"self_attn.v_proj", BIND_LINEAR, BIND_LORA, LAYER(v), 2, {DIM_LLM_KV, DIM_LLM}},
    {"self_attn.o_proj", BIND_LINEAR, BIND_LORA, LAYER(o), 2, {DIM_LLM, DIM_LLM_Q}},
    {"post_attention_layernorm.weight", BIND_TENSOR, 0, LAYER(ffn_norm), 1, {DIM_LLM}},
    {"mlp.gate_proj", BIND_LINEAR, BIND_LORA, LAYER(gate), 2, {DIM_LLM_FFN, DIM_LLM}},
    {"mlp.up_proj", BIND_LINEAR, BIND_LORA, LAYER(up), 2, {DIM_LLM_FFN, DIM_LLM}},
    {"mlp.down_proj", BIND_LINEAR, BIND_LORA, LAYER(down), 2, {DIM_LLM, DIM_LLM_FFN}},
};

static const struct bind_row internlm2_rows[] = {
    {"model.tok_embeddings.weight", BIND_TENSOR, 0, LLM(embed), 2, {DIM_LLM_VOCAB, DIM_LLM}},
    {"model.norm.weight", BIND_TENSOR, 0, LLM(norm), 1, {DIM_LLM}},
    {"output", BIND_LINEAR, BIND_LORA, LLM(head), 2, {DIM_LLM_VOCAB, DIM_LLM}},
};
static const struct bind_row internlm2_layer_rows[] = {
    {"attention_norm.weight", BIND_TENSOR, 0, LAYER(attn_norm), 1, {DIM_LLM}},
    {"attention.wqkv", BIND_LINEAR, BIND_LORA, LAYER(wqkv), 2, {DIM_LLM_WQKV, DIM_LLM}},
    {"attention.wo", BIND_LINEAR, BIND_LORA, LAYER(o), 2, {DIM_LLM, DIM_LLM_Q}},
    {"ffn_norm.weight", BIND_TENSOR, 0, LAYER(ffn_norm), 1, {DIM_LLM}},
    {"feed_forward.w1", BIND_LINEAR, BIND_LORA, LAYER(gate), 2, {DIM_LLM_FFN, DIM_LLM}},
    {"feed_forward.w3", BIND_LINEAR, BIND_LORA, LAYER(up), 2, {DIM_LLM_FFN, DIM_LLM}},
    {"feed_forward.w2", BIND_LINEAR, BIND_LORA, LAYER(down), 2, {DIM_LLM, DIM_LLM_FFN}},
};

int llm_bind(struct llm *m, const struct llm_config *c, struct binder *b, struct err *e)
{
    int rc;
    bool packed = c->kind == LLM_INTERNLM2 && !c->pairs;
    memset(m, 0, sizeof *m);
    m->c = *c;
    m->layer = mem_calloc(c->n_layer, sizeof *m->layer);
    if (!m->layer)
        return err_set(e, ERR_LIMIT, "language model: out of memory for %zu layers", c->n_layer);
    if (packed)
        TRY(bind_rows(b, internlm2_rows, COUNT(internlm2_rows), PREFIX, m, e));
    else
        TRY(bind_rows(b, mistral_rows, COUNT(mistral_rows), PREFIX, m, e));
    for (size_t i = 0; i < c->n_layer; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%smodel.layers.%zu.", PREFIX, i);
        if (packed)
            TRY(bind_rows(b, internlm2_layer_rows, COUNT(internlm2_layer_rows), prefix,
                          &m->layer[i], e));
        else
            TRY(bind_rows(b, mistral_layer_rows, COUNT(mistral_layer_rows), prefix, &m->layer[i],
                          e));
    }
    return 0;
fail:
    llm_free(m);
    return rc;
}

void llm_free(struct llm *m)
{
    mem_free(m->layer);
    memset(m, 0, sizeof *m);
}

double llm_rope_theta(const struct llm_config *c, size_t n_pos)
{
    if (c->ntk_factor <= 0 || n_pos <= c->ntk_from)
        return c->rope_theta;
    double stretch = c->ntk_factor * (double)n_pos / (double)c->ntk_from - (c->ntk_factor - 1);
    return c->rope_theta * pow(stretch, (double)c->d_head / (double)(c->d_head - 2));
}

// q, k, v [rows, heads * d_head] of the rows of h, pushed onto the arena.
static void qkv_forward(struct ops *o, const struct llm *m, const struct llm_layer *w, struct mat h,
                        struct mat *q, struct mat *k, struct mat *v)
{
    const struct llm_config *c = &m->c;
    size_t d_q = c->n_head * c->d_head, d_kv = c->n_kv * c->d_head;
    struct linear_input in = {.kind = INPUT_RMS_NORM, .x = h, .norm = &w->attn_norm, .eps = c->eps};
    struct mat all = ops_act(o, h.rows, d_q + 2 * d_kv);
    *q = mat_cols(all, 0, d_q);
    *k = mat_cols(all, d_q, d_kv);
    *v = mat_cols(all, d_q + d_kv, d_kv);
    if (!tensor_present(&w->wqkv.w)) {
        op_linears(o, all, &in, (const struct linear *[]){&w->q, &w->k, &w->v}, 3);
        return;
    }
    size_t mark = ops_mark(o);
    struct mat packed = ops_act(o, h.rows, d_q + 2 * d_kv);
    op_linears(o, packed, &in, (const struct linear *[]){&w->wqkv}, 1);
    op_split_wqkv(o, *q, *k, *v, packed, c->n_head, c->n_kv, c->d_head);
    ops_pop(o, mark);
}

// The spans that are still wanted.
struct llm_live {
    size_t span[OPS_STEP_ROWS], n;
};

static void weed(struct llm_live *live, const struct llm_batch *b)
{
    size_t n = 0;
    for (size_t i = 0; i < live->n; i++)
        if (!b->unwanted || !b->unwanted(b->user, live->span[i]))
            live->span[n++] = live->span[i];
    live->n = n;
}

static void layer_forward(struct ops *o, const struct llm *m, size_t l, const struct llm_batch *b,
                          struct llm_live *live, struct mat rope)
{
    const struct llm_config *c = &m->c;
    const struct llm_layer *w = &m->layer[l];
    struct mat h = b->x, q, k, v;
    size_t mark = ops_mark(o), rows = h.rows;
    struct cache_span span[OPS_STEP_ROWS];
    for (size_t i = 0; i < live->n; i++) {
        const struct llm_span *s = &b->span[live->span[i]];
        const struct kv_layer *cache = &s->kv->layer[l];
        span[i] = (struct cache_span){.k = cache->k,
                                      .v = cache->v,
                                      .first_row = s->first_row,
                                      .n_row = s->n_row,
                                      .pos = s->kv->n};
    }
    struct mat ctx = ops_act(o, rows, c->n_head * c->d_head);
    qkv_forward(o, m, w, h, &q, &k, &v);
    op_cache_attention(o, ctx,
                       &(struct cache_attention){.q = q,
                                                 .k = k,
                                                 .v = v,
                                                 .rope = rope,
                                                 .pairs = c->pairs,
                                                 .span = span,
                                                 .n_span = live->n,
                                                 .n_head = c->n_head,
                                                 .n_kv = c->n_kv,
                                                 .d_head = c->d_head,
                                                 .scale = (float)(1.0 / sqrt((double)c->d_head))});
    op_linear_add(o, h,
                  &(struct linear_input){.kind = INPUT_ROWS, .x = ctx, .next_norm = &w->ffn_norm},
                  &w->o, NULL);

    ops_pop(o, mark);
    weed(live, b); // from here on caches are not touched
    struct mat wide = ops_act(o, rows, 2 * c->d_ffn);
    op_linears(
        o, wide,
        &(struct linear_input){
            .kind = INPUT_RMS_NORM, .x = h, .norm = &w->ffn_norm, .eps = c->eps, .next_silu = true},
        (const struct linear *[]){&w->gate, &w->up}, 2);
    weed(live, b);
    op_linear_add(
        o, h,
        &(struct linear_input){.kind = INPUT_SILU_MUL,
                               .x = mat_cols(wide, 0, c->d_ffn),
                               .up = mat_cols(wide, c->d_ffn, c->d_ffn),
                               .next_norm = l + 1 < c->n_layer ? &m->layer[l + 1].attn_norm : NULL},
        &w->down, NULL);
    ops_pop(o, mark);
}

// Whether the rows are one of each span, in their order.
static bool one_each(const struct llm_batch *b)
{
    bool one = b->n_span == b->x.rows;
    for (size_t i = 0; i < b->n_span; i++)
        one = one && b->span[i].first_row == i;
    return one;
}

void llm_forward(struct ops *o, const struct llm *m, const struct llm_batch *b, struct mat logits)
{
    size_t mark = ops_mark(o), n_pos = b->n_pos;
    struct llm_live live = {.n = b->n_span};
    for (size_t i = 0; i < b->n_span; i++) {
        live.span[i] = i;
        size_t end = b->span[i].kv->n + b->span[i].n_row;
        n_pos = end > n_pos ? end : n_pos;
    }
    struct mat rope =
        op_rope_table(o, b->pos, b->x.rows, m->c.d_head, llm_rope_theta(&m->c, n_pos));
    for (size_t l = 0; l < m->c.n_layer; l++) {
        weed(&live, b);
        layer_forward(o, m, l, b, &live, rope);
        if (ops_status(o, NULL) != 0)
            return;
        if (b->report)
            hooks_progress(b->hooks, "prefill", l + 1, m->c.n_layer);
    }
    weed(&live, b);
    struct mat last = b->x;
    if (!one_each(b)) {
        last = ops_mat(o, b->n_span, m->c.d_model);
        for (size_t i = 0; i < b->n_span; i++)
            op_copy(o, mat_rows(last, i, 1),
                    mat_rows(b->x, b->span[i].first_row + b->span[i].n_row - 1, 1));
    }
    op_linears(o, logits,
               &(struct linear_input){
                   .kind = INPUT_RMS_NORM, .x = last, .norm = &m->norm, .eps = m->c.eps},
               (const struct linear *[]){&m->head}, 1);
    ops_pop(o, mark);
    if (ops_status(o, NULL) != 0)
        return;
    for (size_t i = 0; i < live.n; i++)
        b->span[live.span[i]].kv->n += b->span[live.span[i]].n_row;
}
