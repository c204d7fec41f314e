// SPDX-License-Identifier: MIT
// The language model: Mistral or InternLM2 decoder with LoRA and a KV cache. One forward serves
// prefill, decoding and several sequences at once. (SPEC 7.1, 7.2)
#ifndef IV_MODEL_LLM_H
#define IV_MODEL_LLM_H

#include <stddef.h>
#include <stdint.h>

#include "model/config.h"
#include "model/kv.h"
#include "ops/ops.h"
#include "weights/bind.h"

struct llm_layer {
    struct tensor attn_norm, ffn_norm; // [d_model]
    struct linear q, k, v;             // Mistral, and all from GGUF
    struct linear wqkv;                // InternLM2: packed per key head
    struct linear o;
    struct linear gate, up, down;
};

// Weights, read-only once the engine is open, which may put others in the place of LoRA pairs (engine/lora_bf16.h).
struct llm {
    struct llm_config c;
    struct tensor embed; // [n_vocab, d_model]
    struct tensor norm;  // [d_model]
    struct linear head;  // [n_vocab, d_model]
    struct llm_layer *layer;
};

int llm_bind(struct llm *m, const struct llm_config *c, struct binder *b, struct err *e);
void llm_free(struct llm *m);

// Rows [first_row, first_row + n_row) of a batch continue the sequence of kv at position kv->n.
struct llm_span {
    struct kv *kv; // room for n_row more positions; n grows by n_row when the forward succeeds
    size_t first_row, n_row;
};

struct llm_batch {
    struct mat x; // [rows, d_model] embedded tokens and visual rows; overwritten
    const struct llm_span *span;
    size_t n_span;             // at most OPS_STEP_ROWS
    const uint32_t *pos;       // host, [rows]: position of each row in its sequence
    const struct hooks *hooks; // progress "prefill" by layers when report is set
    bool report;
    size_t
        n_pos; // positions of the whole prompt that this batch is a piece of, 0 = no more than these:
               // dynamic NTK turns all of them by the base of the last
    // Asked some times a layer: true = nobody wants span i any more. It is not asked about again, and its
    // cache, which is no longer touched, keeps its n. NULL = all are wanted.
    bool (*unwanted)(void *user, size_t i);
    void *user;
};

// Base of the rotary angles of a prompt of n_pos positions (SPEC 7.2: dynamic NTK). Keys of different
// bases do not belong together.
double llm_rope_theta(const struct llm_config *c, size_t n_pos);

// logits, f32 [n_span, n_vocab]: of the last row of each span, undefined of unwanted ones. Failure: ops_status; the caches then still
// have their old n.
void llm_forward(struct ops *o, const struct llm *m, const struct llm_batch *b, struct mat logits);

#endif
