// SPDX-License-Identifier: MIT
// attention_step.cu, as attention_few.cu sees it. r NULL: q is rotated and the row's key and value are in the cache.
#ifndef IV_GPU_CUDA_ATTENTION_STEP_CUH
#define IV_GPU_CUDA_ATTENTION_STEP_CUH

#include "gpu/cuda/device_kernels.h"

bool attention_step_serves(const struct cuda_attention_few *a, const struct cuda_rope *r,
                           const struct cuda_cache_rows *c);
size_t attention_step_scratch(int n_row, int n_head, int d_head, int n_k_max);
int attention_step(const struct cuda_attention_few *a, const struct cuda_rope *r, const struct cuda_cache_rows *c,
                   void *stream);

#endif
