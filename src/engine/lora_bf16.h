// SPDX-License-Identifier: MIT
// The LoRA pairs of the language model in bf16. Products in bf16 round both factors (SPEC 2.4), so results stay the same
// to the bit, and a step reads half the bytes of a file's f32.
//
// Easy to get wrong: kernels that lay weights out anew add f32 and bf16 in different orders, so not for those; and the
// conversion of AVX512-BF16 takes f32 below 2^-126 as zero, of which the largest would be rounded to that here.
#ifndef IV_ENGINE_LORA_BF16_H
#define IV_ENGINE_LORA_BF16_H

#include <stddef.h>

#include "base/log.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "model/llm.h"

struct lora_bf16 {
    void *data; // NULL = none
    size_t bytes;
};

// Bytes of the copies that lora_bf16_open makes.
size_t lora_bf16_bytes(const struct llm *m);
// Copies of all that are not in bf16 already; m's layers name the copies from then on, also after a failure. Without
// memory for them all stays as it is. Nobody uses m yet. ERR_ABORT when told to stop.
int lora_bf16_open(struct llm *m, const struct kernels *k, struct pool *pool,
                   const struct hooks *hooks, struct lora_bf16 *c, struct err *e);
// m is not used any more.
void lora_bf16_close(struct lora_bf16 *c);

#endif
