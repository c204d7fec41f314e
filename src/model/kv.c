// SPDX-License-Identifier: MIT
// Cached keys (after RoPE) and values, one pair of matrices a layer. Grows by copying, matrix by matrix, so that
// only one of them is there twice; rows never move relative to their position, so position p is row p.
//
// Easy to get wrong: the copy may fail after the old matrix could have been released (a backend works later, and
// one that was stopped copies nothing); after a failure some layers have more room than cap, never less.
#include "model/kv.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "tensor/block_coding.h"

static const struct {
    const char *name;
    enum dtype type;
} types[] = {{"f32", DT_F32}, {"bf16", DT_BF16}, {"f16", DT_F16}, {"q8_0", DT_Q8_0}};

bool kv_type_from_name(const char *name, size_t n, enum dtype *t)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strlen(types[i].name) == n && memcmp(types[i].name, name, n) == 0) {
            *t = types[i].type;
            return true;
        }
    return false;
}

const char *kv_type_name(enum dtype t)
{
    size_t i = 0;
    while (types[i].type != t)
        i++;
    return types[i].name;
}

struct kv_types kv_types_of(enum compute c)
{
    enum dtype t = c == COMPUTE_F32 ? DT_F32 : DT_BF16;
    return (struct kv_types){t, t};
}

int kv_init(struct kv *kv, struct ops *o, const struct llm_config *c, struct kv_types t,
            struct err *e)
{
    memset(kv, 0, sizeof *kv);
    kv->types = t;
    kv->ops = o;
    kv->n_layer = c->n_layer;
    kv->d = c->n_kv * c->d_head;
    kv->layer = mem_calloc(c->n_layer, sizeof *kv->layer);
    return kv->layer ? 0
                     : err_set(e, ERR_LIMIT, "KV cache: out of memory for %zu layers", c->n_layer);
}

static void layers_release(struct ops *o, struct kv_layer *layer, size_t n)
{
    for (size_t l = 0; layer && l < n; l++) {
        ops_release(o, &layer[l].k);
        ops_release(o, &layer[l].v);
    }
    mem_free(layer);
}

void kv_free(struct kv *kv)
{
    layers_release(kv->ops, kv->layer, kv->n_layer);
    memset(kv, 0, sizeof *kv);
}

// m with room for cap positions; on failure as it was.
static int resize(const struct kv *kv, struct mat *m, enum dtype t, size_t cap, struct err *e)
{
    struct mat other;
    int rc;
    TRY(ops_hold(kv->ops, cap, kv->d, t, &other, e));
    if (kv->n > 0)
        op_copy(kv->ops, mat_rows(other, 0, kv->n), mat_rows(*m, 0, kv->n));
    TRY(ops_status(kv->ops, e));
    ops_release(kv->ops, m);
    *m = other;
    return 0;
fail:
    ops_release(kv->ops, &other);
    return rc;
}

size_t kv_capacity(size_t n_pos)
{
    return round_up(n_pos, 64);
}

int kv_reserve(struct kv *kv, size_t n_pos, struct err *e)
{
    int rc = 0;
    size_t cap = kv_capacity(n_pos);
    if (n_pos <= kv->cap)
        return 0;
    for (size_t l = 0; l < kv->n_layer; l++) {
        if (kv->layer[l].k.rows < cap)
            TRY(resize(kv, &kv->layer[l].k, kv->types.k, cap, e));
        if (kv->layer[l].v.rows < cap)
            TRY(resize(kv, &kv->layer[l].v, kv->types.v, cap, e));
    }
    kv->cap = cap;
fail:
    return rc;
}

void kv_shrink(struct kv *kv)
{
    size_t cap = kv_capacity(kv->n);
    if (cap >= kv->cap)
        return;
    kv->cap = cap; // even if the memory for a smaller matrix lacks
    for (size_t l = 0; l < kv->n_layer; l++)
        if (resize(kv, &kv->layer[l].k, kv->types.k, cap, NULL) != 0 ||
            resize(kv, &kv->layer[l].v, kv->types.v, cap, NULL) != 0)
            return;
}

size_t kv_held(const struct kv *kv)
{
    size_t bytes = 0;
    for (size_t l = 0; l < kv->n_layer; l++)
        bytes += kv->layer[l].k.rows * kv_row_bytes(kv, false) +
                 kv->layer[l].v.rows * kv_row_bytes(kv, true);
    return bytes;
}

void kv_truncate(struct kv *kv, size_t n)
{
    if (n < kv->n)
        kv->n = n;
}

void kv_copy_tail(struct kv *dst, const struct kv *src, size_t from)
{
    size_t n = src->n - from;
    for (size_t l = 0; l < src->n_layer && n > 0; l++) {
        op_copy(dst->ops, mat_rows(dst->layer[l].k, from, n), mat_rows(src->layer[l].k, from, n));
        op_copy(dst->ops, mat_rows(dst->layer[l].v, from, n), mat_rows(src->layer[l].v, from, n));
    }
    dst->n = src->n;
}

size_t kv_row_bytes(const struct kv *kv, bool values)
{
    return dtype_span(values ? kv->types.v : kv->types.k, kv->d);
}

void kv_export(const struct kv *kv, size_t layer, bool values, size_t from, size_t n,
               float *scratch, void *out)
{
    struct mat m = values ? kv->layer[layer].v : kv->layer[layer].k;
    char *to = out;
    for (size_t i = 0; i < n; i++, to += kv_row_bytes(kv, values)) {
        op_download(kv->ops, scratch, mat_rows(m, from + i, 1));
        if (m.dtype == DT_F32)
            memcpy(to, scratch, kv_row_bytes(kv, values));
        if (dtype_is_block(
                m.dtype)) // the largest of a block is its last level: the same blocks again
            blocks_from_f32(to, m.dtype, scratch, kv->d, NULL);
        for (size_t k = 0; dtype_bytes(m.dtype) == 2 && k < kv->d; k++) {
            uint16_t h = m.dtype == DT_F16 ? f32_to_f16(scratch[k]) : f32_to_bf16(scratch[k]);
            memcpy(to + k * sizeof h, &h, sizeof h);
        }
    }
}

void kv_import(struct kv *kv, size_t layer, bool values, size_t from, size_t n, float *scratch,
               const void *in)
{
    struct mat m = values ? kv->layer[layer].v : kv->layer[layer].k;
    const char *at = in;
    for (size_t i = 0; i < n; i++, at += kv_row_bytes(kv, values)) {
        dtype_to_f32(scratch, at, m.dtype, kv->d);
        op_upload(kv->ops, mat_rows(m, from + i, 1), scratch);
    }
}

struct kv_layer kv_shape(const struct llm_config *c, struct kv_types t, size_t n_pos)
{
    size_t d = c->n_kv * c->d_head;
    struct kv_layer l = {.k = {.dtype = t.k, .rows = n_pos, .cols = d, .stride = d}};
    l.v = l.k;
    l.v.dtype = t.v;
    return l;
}

size_t kv_bytes(const struct llm_config *c, struct kv_types t, size_t n_pos)
{
    size_t values = kv_capacity(n_pos) * c->n_kv * c->d_head;
    return c->n_layer * (dtype_span(t.k, values) + dtype_span(t.v, values));
}

size_t kv_growth_bytes(const struct llm_config *c, struct kv_types t, size_t n_pos)
{
    size_t values = kv_capacity(n_pos) * c->n_kv * c->d_head;
    return max_size(dtype_span(t.k, values), dtype_span(t.v, values));
}
