// SPDX-License-Identifier: MIT
// Which tensors the two files hold, and in which type.
//
//   vectors and tables of rank 3 and more   F32
//   matrices                                the mix's type; output.weight Q6_K unless the mix is of 8 bits or
//                                           more; in Q4_K_M also attn_v and ffn_down of a half of the layers
//   rows no multiple of the type's block    Q4_K -> Q5_0, Q6_K -> Q8_0, then F16
//
// Source: the choices of llama.cpp's quantiser for these mixes, so that files of both are alike: the layers with
// more bits are the first and last eighth and every third between. A person's rules come first, the first
// that matches wins; the fallback holds for them too.
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "engine/quantizing.h"
#include "tensor/block_coding.h"

static const struct quant_mix mixes[] = {
    {"F32", DT_F32, false, 0, DT_F32},      {"F16", DT_F16, false, 1, DT_F16},
    {"BF16", DT_BF16, false, 32, DT_BF16},  {"Q8_0", DT_Q8_0, false, 7, DT_Q8_0},
    {"Q6_K", DT_Q6_K, false, 18, DT_Q8_0},  {"Q4_0", DT_Q4_0, false, 2, DT_Q8_0},
    {"Q4_K_M", DT_Q4_K, true, 15, DT_Q8_0},
};

const struct quant_mix *quant_mix_find(const char *name)
{
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++)
        if (strcmp(mixes[i].name, name) == 0)
            return &mixes[i];
    return NULL;
}

bool quant_type_find(const char *name, enum dtype *t)
{
    for (unsigned i = 0; i < DT_N; i++) {
        *t = (enum dtype)i;
        bool plain = *t == DT_F32 || *t == DT_F16 || *t == DT_BF16;
        if ((plain || blocks_writable(*t)) && strcmp(dtype_name(*t), name) == 0)
            return true;
    }
    return false;
}

static enum dtype fitting(enum dtype t, size_t cols)
{
    if (cols % dtype_block(t) != 0)
        t = t == DT_Q4_K ? DT_Q5_0 : t == DT_Q6_K ? DT_Q8_0 : DT_F16;
    return cols % dtype_block(t) == 0 ? t : DT_F16;
}

static bool more_bits(size_t layer, size_t n_layer)
{
    size_t eighth = n_layer / 8;
    return layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2;
}

static void choose_type(struct quant_tensor *t, enum dtype wanted, const struct quant_rule *rule,
                        size_t n_rule)
{
    t->type = t->rank == 2 ? wanted : DT_F32;
    for (size_t i = 0; t->rank == 2 && i < n_rule; i++)
        if (regexec(&rule[i].regex, t->name, 0, NULL, 0) == 0) {
            t->type = rule[i].type;
            break;
        }
    t->type = fitting(t->type, t->cols);
}

struct quant_tensor *quant_list_add(struct quant_list *l)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 512;
        struct quant_tensor *t = mem_realloc(l->t, cap, sizeof *t);
        if (!t)
            return NULL;
        l->t = t;
        l->cap = cap;
    }
    struct quant_tensor *t = &l->t[l->n++];
    memset(t, 0, sizeof *t);
    return t;
}

void quant_tensor_shape(struct quant_tensor *t, const size_t *dim, unsigned rank)
{
    t->rank = rank;
    t->rows = 1;
    for (unsigned i = 0; i < rank; i++) {
        t->dim[i] = dim[i];
        t->rows *= i + 1 < rank ? dim[i] : 1;
    }
    t->cols = dim[rank - 1];
}

// ---- language

static size_t rows_of(const struct llm_config *c, enum gguf_rows order, size_t all)
{
    if (order == GGUF_ROWS_Q)
        return c->n_head * c->d_head;
    return order == GGUF_ROWS_SAME ? all : c->n_kv * c->d_head;
}

static int add_language(struct quant_list *l, const struct llm_config *c,
                        const struct gguf_row *row, const void *base, const struct linear *wqkv,
                        const char *prefix, struct err *e)
{
    struct quant_tensor *t = quant_list_add(l);
    if (!t)
        return err_set(e, ERR_LIMIT, "quantize: out of memory for the list of tensors");
    const void *field = (const char *)base + row->offset;
    const struct linear *linear = row->linear ? field : NULL;
    snprintf(t->name, sizeof t->name, "%s%s", prefix, row->name);
    t->packed = linear && !tensor_present(&linear->w);
    if (t->packed)
        linear = wqkv;
    t->from = linear ? &linear->w : field;
    t->lora = linear && tensor_present(&linear->lora_a) ? linear : NULL;
    t->order = row->rows;
    size_t dim[2] = {rows_of(c, row->rows, t->from->dim[0]), 0};
    if (t->from->rank == 2)
        dim[1] = t->from->dim[1];
    quant_tensor_shape(t, dim, t->from->rank);
    return 0;
}

static enum dtype wanted(const struct quant_mix *mix, const char *name, bool more)
{
    bool small = mix->type == DT_Q4_0 || mix->type == DT_Q4_K;
    if (small && strcmp(name, "output.weight") == 0)
        return DT_Q6_K;
    bool sensitive = strcmp(name, "attn_v.weight") == 0 || strcmp(name, "ffn_down.weight") == 0;
    return mix->mixed && more && sensitive ? DT_Q6_K : mix->type;
}

int quant_list_language(struct quant_list *l, const struct model *m, const struct quant_mix *mix,
                        const struct quant_rule *rule, size_t n_rule, struct err *e)
{
    int rc = 0;
    const struct llm *llm = &m->llm;
    for (size_t i = 0; i < gguf_llm_n_row; i++) {
        TRY(add_language(l, &llm->c, &gguf_llm_rows[i], llm, NULL, "", e));
        choose_type(&l->t[l->n - 1], wanted(mix, gguf_llm_rows[i].name, false), rule, n_rule);
    }
    for (size_t k = 0; k < llm->c.n_layer; k++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "blk.%zu.", k);
        for (size_t i = 0; i < gguf_llm_layer_n_row; i++) {
            const struct gguf_row *row = &gguf_llm_layer_rows[i];
            TRY(add_language(l, &llm->c, row, &llm->layer[k], &llm->layer[k].wqkv, prefix, e));
            choose_type(&l->t[l->n - 1], wanted(mix, row->name, more_bits(k, llm->c.n_layer)), rule,
                        n_rule);
        }
    }
fail:
    return rc;
}

// ---- vision

static int add_vision(struct quant_list *l, const struct tensor *from, struct err *e)
{
    struct quant_tensor *t = quant_list_add(l);
    if (!t)
        return err_set(e, ERR_LIMIT, "quantize: out of memory for the list of tensors");
    if (!gguf_vision_name(from->name, t->name, GGUF_NAME_MAX + 1))
        return err_set(e, ERR_MODEL, "%s: the name is too long for a GGUF file", from->name);
    t->from = from;
    size_t dim[TENSOR_MAX_RANK];
    unsigned rank = 0;
    for (unsigned i = 0; i < from->rank; i++)
        if (from->rank <= GGUF_RANK_MAX || i != 2) // the patch convolution's depth of 1
            dim[rank++] = from->dim[i];
    quant_tensor_shape(t, dim, rank);
    return 0;
}

int quant_list_vision(struct quant_list *l, const struct model *m, const struct quant_mix *mix,
                      const struct quant_rule *rule, size_t n_rule, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_order_vision; i++) {
        TRY(add_vision(l, m->order[i], e));
        // positions are added to activations, not multiplied
        bool table =
            strcmp(l->t[l->n - 1].name, "qformer.embeddings.position_embeddings.weight") == 0;
        choose_type(&l->t[l->n - 1], table ? DT_F32 : mix->type, rule, n_rule);
    }
fail:
    return rc;
}

void quant_list_free(struct quant_list *l)
{
    mem_free(l->t);
    memset(l, 0, sizeof *l);
}

size_t quant_list_bytes(const struct quant_list *l)
{
    size_t sum = 0;
    for (size_t i = 0; i < l->n; i++)
        sum += dtype_span(l->t[i].from->dtype, l->t[i].rows * l->t[i].cols);
    return sum;
}

int quant_list_weigh(struct quant_list *l, const struct imatrix *m, const char *path,
                     size_t *n_weighed, struct err *e)
{
    for (size_t i = 0; i < l->n; i++) {
        struct quant_tensor *t = &l->t[i];
        const struct imatrix_entry *x = t->rank == 2 ? imatrix_find(m, t->name) : NULL;
        if (x && x->n != t->cols)
            return err_set(e, ERR_MODEL, "%s: %s has %zu inputs, the model's has %zu", path,
                           t->name, x->n, t->cols);
        t->importance = x ? x->mean : NULL;
        *n_weighed += x != NULL;
    }
    return 0;
}
