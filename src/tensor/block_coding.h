// SPDX-License-Identifier: MIT
// Blocks to numbers and numbers to blocks, in plain C: the witness of every faster reader, and the only
// writer. Layouts: tensor/blocks.h.
#ifndef IV_TENSOR_BLOCK_CODING_H
#define IV_TENSOR_BLOCK_CODING_H

#include "tensor/dtype.h"

// n elements of the block type t at src (any address), n a multiple of its block.
void blocks_to_f32(float *dst, const void *src, enum dtype t, size_t n);

// Whether blocks_from_f32 writes t: Q4_0, Q5_0, Q8_0, Q4_K, Q6_K.
bool blocks_writable(enum dtype t);
// The largest magnitude that blocks of t can hold: that of its f16 scale times its steps. Weights beyond it,
// or not finite, must not be given to blocks_from_f32; but in Q8_0 a block with one that is not finite reads back as NaN.
float blocks_limit(enum dtype t);
// dst = n numbers as blocks of t, n a multiple of its block. importance [n] (all >= 0, at most 1e20): how much
// an error in that place counts; NULL = by magnitude in the K types, all alike in the others.
void blocks_from_f32(void *dst, enum dtype t, const float *src, size_t n, const float *importance);

#endif
