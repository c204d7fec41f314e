// SPDX-License-Identifier: MIT
// What the files of kernels/ share: each tier's entry into the table, and the drivers that cut large
// products and attention into the blocks that a tier's small kernels take.
#ifndef IV_KERNELS_TIERS_H
#define IV_KERNELS_TIERS_H

#include "kernels/kernels.h"

// Each sets the pointers for which the tier has something of its own; the others stay as the weaker
// tiers left them. ref sets all.
void kernels_set_ref(struct kernels *k);
void kernels_set_avx2(struct kernels *k);
void kernels_set_avxvnni(struct kernels *k);
void kernels_set_avx512(struct kernels *k);
void kernels_set_avx512vnni(struct kernels *k);
void kernels_set_avx512bf16(struct kernels *k);
void kernels_set_onednn(struct kernels *k); // in a build with it
void kernels_set_neon(struct kernels *k);
void kernels_set_neondotprod(struct kernels *k);
void kernels_set_neonbf16(struct kernels *k);

// The plain C tier.
void product_set_ref(struct product_kernels *p, bool round);
void rows_set_ref(struct kernels *k);

// The products of the other tiers, both precisions.
void product_set_avx2(struct product_kernels *f32, struct product_kernels *bf16);
void product_set_avx512(struct product_kernels *f32, struct product_kernels *bf16);
void product_set_neon(struct product_kernels *f32, struct product_kernels *bf16);

// The int8 products.
void int8_set_ref(struct product_kernels *p);
void int8_set_avx2(struct product_kernels *p);
void int8_set_neon(struct product_kernels *p);

// The products of few rows with weights in blocks.
void dots_set_ref(struct product_kernels *p);

// `few` of weights in blocks, plain C on both forms of prepared rows.
void product_few_blocks(const struct product_kernels *p, const struct product_job *j);

// `many` and `attention` on top of pack, pack_t, tile, soft_step, few and mix.
void product_many_blocked(const struct product_kernels *p, const struct product_job *j,
                          void *scratch);
void attention_blocked(const struct product_kernels *p, const struct attention_job *j,
                       void *scratch);
size_t attention_blocked_scratch(const struct product_kernels *p, const struct attention_job *j);
// The plain C attention, for a whole row of keys at once.
void attention_ref(const struct product_kernels *p, const struct attention_job *j, void *scratch);
size_t attention_ref_scratch(const struct product_kernels *p, const struct attention_job *j);

// The plain C attention of int8, and the scratch of that and of every tier's.
void attention_int8_ref(const struct product_kernels *p, const struct attention_job *j,
                        void *scratch);
size_t attention_int8_scratch(const struct product_kernels *p, const struct attention_job *j);

#endif
