// SPDX-License-Identifier: MIT
// Element types of stored tensors, and the scalar conversions everybody needs.
#ifndef IV_TENSOR_DTYPE_H
#define IV_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Plain types, one element after the other; then those made of blocks (tensor/blocks.h).
enum dtype {
    DT_F32,
    DT_F16,
    DT_BF16,
    DT_I64,
    DT_I32,
    DT_U8,
    DT_Q4_0,
    DT_Q4_1,
    DT_Q5_0,
    DT_Q8_0,
    DT_Q4_K,
    DT_Q5_K,
    DT_Q6_K,
    DT_N
};

// Name as safetensors ("F32", "BF16", ...) or GGUF ("Q4_K") spells it.
const char *dtype_name(enum dtype t);
// Bytes of one element; 0 for a type of blocks.
size_t dtype_bytes(enum dtype t);
// Elements of a block, 1 for a plain type; its bytes.
size_t dtype_block(enum dtype t);
size_t dtype_block_bytes(enum dtype t);
static inline bool dtype_is_block(enum dtype t)
{
    return t >= DT_Q4_0 && t < DT_N;
}
// *bytes = what n elements take. false (and 0): n is no multiple of the block, or the product overflows.
bool dtype_size(enum dtype t, size_t n, size_t *bytes);
// The same where that was checked before.
size_t dtype_span(enum dtype t, size_t n);
// true and *out set when `name` is a safetensors dtype that we store: a plain type.
bool dtype_from_name(const char *name, size_t n, enum dtype *out);

static inline float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

// Round to nearest, ties to even; NaN stays a (quiet) NaN.
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// The value that f has after being stored as bf16.
static inline float bf16_round(float f)
{
    return bf16_to_f32(f32_to_bf16(f));
}

float f16_to_f32(uint16_t h); // exact
uint16_t f32_to_f16(float f); // round to nearest even; overflow gives infinity

// n elements of type t at src, as f32. t must be F32, F16, BF16 or a type of blocks (whole ones); src
// need not be aligned.
void dtype_to_f32(float *dst, const void *src, enum dtype t, size_t n);

#endif
