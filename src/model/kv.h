// SPDX-License-Identifier: MIT
// Keys and values of one sequence in every layer of the language model.
#ifndef IV_MODEL_KV_H
#define IV_MODEL_KV_H

#include <stdbool.h>
#include <stddef.h>

#include "model/config.h"
#include "ops/ops.h"

// How keys and values are stored: F32, BF16, F16 or Q8_0, which needs d_head to be a multiple of its block.
struct kv_types {
    enum dtype k, v;
};
// Both as the products are computed, the only ones that a GPU has.
struct kv_types kv_types_of(enum compute c);
// "f32", "bf16", "f16", "q8_0".
bool kv_type_from_name(const char *name, size_t n, enum dtype *t);
const char *kv_type_name(enum dtype t);

struct kv_layer {
    struct mat k, v; // [cap, n_kv * d_head], backend memory
};

// n of cap positions are filled. One thread; belongs to one struct ops (its backend's memory).
struct kv {
    struct ops *ops;
    struct kv_types types;
    size_t n, cap, n_layer, d;
    struct kv_layer *layer; // [n_layer]
};

// Empty cache, nothing held yet.
int kv_init(struct kv *kv, struct ops *o, const struct llm_config *c, struct kv_types types,
            struct err *e);
void kv_free(struct kv *kv);
// Positions that are held for n_pos.
size_t kv_capacity(size_t n_pos);
// Room for n_pos positions (a multiple of 64 is held); keeps what is there. While it grows, one matrix of one layer is
// there twice. On failure what can be read and written is as before.
int kv_reserve(struct kv *kv, size_t n_pos, struct err *e);
// Gives back the room behind the filled positions, as far as memory and the stream allow.
void kv_shrink(struct kv *kv);
// Bytes it holds now.
size_t kv_held(const struct kv *kv);
// Forgets positions from n on (n <= kv->n).
void kv_truncate(struct kv *kv, size_t n);
// dst = positions [from, src->n) of src; positions below `from` are equal already (beams share a prompt).
// dst must have room.
void kv_copy_tail(struct kv *dst, const struct kv *src, size_t from);
// Bytes of one position's keys (or values) in one layer.
size_t kv_row_bytes(const struct kv *kv, bool values);
// Positions [from, from + n) of a layer's keys or values, from < kv->cap, out of or into host memory, in the
// cache's own type: exactly the values that are read there. scratch: f32 [kv->d]. Failure: ops_status.
void kv_export(const struct kv *kv, size_t layer, bool values, size_t from, size_t n,
               float *scratch, void *out);
void kv_import(struct kv *kv, size_t layer, bool values, size_t from, size_t n, float *scratch,
               const void *in);
// Shape of one layer's keys and values for n_pos positions, without memory: for planning.
struct kv_layer kv_shape(const struct llm_config *c, struct kv_types types, size_t n_pos);
// Bytes that a cache with room for n_pos positions holds.
size_t kv_bytes(const struct llm_config *c, struct kv_types types, size_t n_pos);
// The larger one of a layer's two matrices: while it grows it is there twice.
size_t kv_growth_bytes(const struct llm_config *c, struct kv_types types, size_t n_pos);

#endif
