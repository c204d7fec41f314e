// SPDX-License-Identifier: MIT
// The names of GGUF files and ours.
//
// Source: llama.cpp's names for its "llama" and "internlm2" architectures, and the row order its converter
// gives q and k: a head's rows (half, j) are stored as (j, half), so that rotating neighbouring elements is
// what rotating the two halves was. InternLM2's wqkv is taken apart.
// Easy to get wrong: k has the key heads' count, but the same order inside a head; v is not reordered.
#include "model/gguf_names.h"

#include <stdio.h>
#include <string.h>

#define LLM(f)   offsetof(struct llm, f)
#define LAYER(f) offsetof(struct llm_layer, f)

const struct gguf_row gguf_llm_rows[] = {
    {"token_embd.weight", "model.embed_tokens.weight", false, LLM(embed), GGUF_ROWS_SAME},
    {"output_norm.weight", "model.norm.weight", false, LLM(norm), GGUF_ROWS_SAME},
    {"output.weight", "lm_head.weight", true, LLM(head), GGUF_ROWS_SAME},
};
const size_t gguf_llm_n_row = sizeof gguf_llm_rows / sizeof gguf_llm_rows[0];

const struct gguf_row gguf_llm_layer_rows[] = {
    {"attn_norm.weight", "input_layernorm.weight", false, LAYER(attn_norm), GGUF_ROWS_SAME},
    {"attn_q.weight", "self_attn.q_proj.weight", true, LAYER(q), GGUF_ROWS_Q},
    {"attn_k.weight", "self_attn.k_proj.weight", true, LAYER(k), GGUF_ROWS_K},
    {"attn_v.weight", "self_attn.v_proj.weight", true, LAYER(v), GGUF_ROWS_V},
    {"attn_output.weight", "self_attn.o_proj.weight", true, LAYER(o), GGUF_ROWS_SAME},
    {"ffn_norm.weight", "post_attention_layernorm.weight", false, LAYER(ffn_norm), GGUF_ROWS_SAME},
    {"ffn_gate.weight", "mlp.gate_proj.weight", true, LAYER(gate), GGUF_ROWS_SAME},
    {"ffn_up.weight", "mlp.up_proj.weight", true, LAYER(up), GGUF_ROWS_SAME},
    {"ffn_down.weight", "mlp.down_proj.weight", true, LAYER(down), GGUF_ROWS_SAME},
};
const size_t gguf_llm_layer_n_row = sizeof gguf_llm_layer_rows / sizeof gguf_llm_layer_rows[0];

const char *gguf_architecture(enum llm_kind kind)
{
    return kind == LLM_INTERNLM2 ? "internlm2" : "llama";
}

size_t gguf_source_row(const struct llm_config *c, enum gguf_rows rows, bool packed, size_t r)
{
    size_t d = c->d_head, head = r / d, at = r % d, per_kv = c->n_head / c->n_kv;
    if (rows == GGUF_ROWS_SAME)
        return r;
    if (rows != GGUF_ROWS_V)
        at = at % 2 * (d / 2) + at / 2;
    if (!packed)
        return head * d + at;
    size_t group = rows == GGUF_ROWS_Q ? head / per_kv : head;
    size_t place = rows == GGUF_ROWS_Q ? head % per_kv : rows == GGUF_ROWS_K ? per_kv : per_kv + 1;
    return (group * (per_kv + 2) + place) * d + at;
}

// ---- names

static const struct {
    const char *own, *name;
} shortened[] = {
    {"qformer.bert.encoder.layer.", "qformer.layer."},
    {"qformer.bert.embeddings.", "qformer.embeddings."},
};

static bool replaced(const char *from, const char *to, const char *name, char *out, size_t cap,
                     bool *done)
{
    size_t n = strlen(from);
    *done = strncmp(name, from, n) == 0;
    int k = *done ? snprintf(out, cap, "%s%s", to, name + n) : snprintf(out, cap, "%s", name);
    return k >= 0 && (size_t)k < cap;
}

bool gguf_vision_name(const char *own, char *name, size_t cap)
{
    bool fits = true, done = false;
    for (size_t i = 0; !done && i < sizeof shortened / sizeof shortened[0]; i++)
        fits = replaced(shortened[i].own, shortened[i].name, own, name, cap, &done);
    return fits;
}

bool gguf_vision_own(const char *name, char *own, size_t cap)
{
    bool fits = true, done = false;
    for (size_t i = 0; !done && i < sizeof shortened / sizeof shortened[0]; i++)
        fits = replaced(shortened[i].name, shortened[i].own, name, own, cap, &done);
    return fits;
}

static const char *find_own(const struct gguf_row *row, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(row[i].name, name) == 0)
            return row[i].own;
    return NULL;
}

// The patch convolution has rank 5 with a depth of 1, which GGUF's four dimensions leave out.
static void add_depth(struct tensor *t)
{
    if (strcmp(t->name, "vision_encoder.patch_embed.proj.weight") != 0 || t->rank != 4)
        return;
    t->dim[4] = t->dim[3];
    t->dim[3] = t->dim[2];
    t->dim[2] = 1;
    t->rank = 5;
}

int gguf_adapt(void *user, struct tensor *t, char *name, size_t cap, struct err *e)
{
    static const char prefix[] = "lm.base_model.model.";
    size_t layer;
    int used = 0;
    (void)user;
    const char *own = find_own(gguf_llm_rows, gguf_llm_n_row, t->name);
    add_depth(t);
    if (own) {
        snprintf(name, cap, "%s%s", prefix, own);
        return 0;
    }
    // strictly blk.<number>.: %zu would take a sign or spaces
    if (strncmp(t->name, "blk.", 4) == 0 && t->name[4] >= '0' && t->name[4] <= '9' &&
        sscanf(t->name, "blk.%5zu.%n", &layer, &used) == 1 && used > 0) {
        own = find_own(gguf_llm_layer_rows, gguf_llm_layer_n_row, t->name + used);
        if (own) {
            snprintf(name, cap, "%smodel.layers.%zu.%s", prefix, layer, own);
            return 0;
        }
    }
    if (!gguf_vision_own(t->name, name, cap))
        return err_set(e, ERR_MODEL, "%s: a name too long", t->name);
    return 0;
}
