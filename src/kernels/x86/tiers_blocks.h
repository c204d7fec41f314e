// SPDX-License-Identifier: MIT
// Kernels of the x86 tiers that lie in files of their own: several rows, weights in blocks, attention.
#ifndef IV_KERNELS_X86_TIERS_BLOCKS_H
#define IV_KERNELS_X86_TIERS_BLOCKS_H

#include "kernels/kernels.h"

// `few` on rows prepared in bf16 and weights in Q8_0.
void few_q8_0_avx512bf16(const struct product_kernels *p, const struct product_job *j);
enum { FEW_STRETCHED = 3, FEW_STRETCHED_INPUTS = 512, FEW_GROUP_AVX512BF16 = 48 };
// `few` with weights in BF16 whose rows lie one behind the other, from FEW_STRETCHED rows of x on; worth it with
// FEW_STRETCHED_INPUTS, best with a multiple of FEW_GROUP_AVX512BF16 outputs.
void few_rows_avx512bf16(const struct product_kernels *p, const struct product_job *j);
// The kernels for few rows and weights in blocks.
void dots_set_avx512vnni(struct product_kernels *p);
// As `levels` of struct product_kernels, of every type of blocks.
float block_levels_avx512vnni(int8_t *q, const void *w, enum dtype t, size_t n);
// As `unpack` of struct product_kernels.
void unpack_avx512(float *dst, const void *w, enum dtype t, size_t n);

// As `attention` of struct product_kernels in int8.
void attention_avx512vnni(const struct product_kernels *p, const struct attention_job *j,
                          void *scratch);
// As `attention` and `attention_scratch` of struct product_kernels in bf16.
void attention_avx512bf16(const struct product_kernels *p, const struct attention_job *j,
                          void *scratch);
size_t attention_avx512bf16_scratch(const struct product_kernels *p, const struct attention_job *j);

// As `mix` of struct product_kernels in bf16, V in BF16.
void mix_pairs_avx512bf16(const struct mix_job *j);

#endif
