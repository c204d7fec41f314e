// SPDX-License-Identifier: MIT
// Element types of stored tensors, and the scalar conversions everybody needs.
#ifndef IV_TENSOR_DTYPE_H
#define IV_TENSOR_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Quantised block formats join here when the files that hold them are read.
enum dtype { DT_F32, DT_F16, DT_BF16, DT_I64, DT_I32, DT_U8, DT_N };

// Name as safetensors spells it ("F32", "BF16", ...).
const char *dtype_name(enum dtype t);
// Bytes of one element.
size_t dtype_bytes(enum dtype t);
// true and *out set when `name` is a safetensors dtype that we store.
int dtype_from_name(const char *name, size_t n, enum dtype *out);

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

// n elements of type t at src, as f32. t must be F32, F16 or BF16; src need not be aligned.
void dtype_to_f32(float *dst, const void *src, enum dtype t, size_t n);

#endif
