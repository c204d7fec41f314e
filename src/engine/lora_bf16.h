// SPDX-License-Identifier: MIT
// The LoRA pairs of the language model in bf16. Products in bf16 round both factors (SPEC 2.4), so every result is the
// same to the bit, and a step reads half the bytes of a file's f32.
#ifndef IV_ENGINE_LORA_BF16_H
#define IV_ENGINE_LORA_BF16_H

#include <stddef.h>

#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/llm.h"

struct lora_bf16 {
    void *data; // NULL = none
    size_t bytes;
};

// Bytes of the copies that lora_bf16_open makes.
size_t lora_bf16_bytes(const struct llm *m);
// Copies of all that are not in bf16 already; m's layers name the copies from then on. Without memory for them all stays
// as it is. Nobody uses m yet.
void lora_bf16_open(struct llm *m, const struct kernels *k, struct pool *pool, struct lora_bf16 *c);
// m is not used any more.
void lora_bf16_close(struct lora_bf16 *c);

#endif
