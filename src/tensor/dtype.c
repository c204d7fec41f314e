// SPDX-License-Identifier: MIT
// Names, sizes and scalar conversions of element types.
//
// f16 -> f32 is exact: a normal number only moves its exponent bias from 15 to 127, a subnormal
// m * 2^-24 is computed as such, infinities and NaN payloads are kept. f32 -> f16 rounds to nearest,
// ties to even, on the integer: adding half of the last kept bit (minus one, plus the bit itself)
// carries into the exponent by itself, up to infinity. (IEEE 754-2008 4.3.1)
// Easy to get wrong: the results below 2^-14, which are rounded at a fixed bit, and NaN, which the
// rounding carry would turn into infinity.
#include "tensor/dtype.h"

#include <assert.h>

#include "base/size.h"
#include "tensor/blocks.h"
#include "tensor/block_coding.h"

static const struct {
    const char *name;
    size_t bytes, block; // of a block, in one
} info[DT_N] = {
    [DT_F32] = {"F32", 4, 1},
    [DT_F16] = {"F16", 2, 1},
    [DT_BF16] = {"BF16", 2, 1},
    [DT_I64] = {"I64", 8, 1},
    [DT_I32] = {"I32", 4, 1},
    [DT_U8] = {"U8", 1, 1},
    [DT_Q4_0] = {"Q4_0", sizeof(struct block_q4_0), BLOCK_SMALL},
    [DT_Q4_1] = {"Q4_1", sizeof(struct block_q4_1), BLOCK_SMALL},
    [DT_Q5_0] = {"Q5_0", sizeof(struct block_q5_0), BLOCK_SMALL},
    [DT_Q8_0] = {"Q8_0", sizeof(struct block_q8_0), BLOCK_SMALL},
    [DT_Q4_K] = {"Q4_K", sizeof(struct block_q4_k), BLOCK_SUPER},
    [DT_Q5_K] = {"Q5_K", sizeof(struct block_q5_k), BLOCK_SUPER},
    [DT_Q6_K] = {"Q6_K", sizeof(struct block_q6_k), BLOCK_SUPER},
};

const char *dtype_name(enum dtype t)
{
    return (unsigned)t < DT_N ? info[t].name : "?";
}

size_t dtype_bytes(enum dtype t)
{
    return (unsigned)t < DT_N && info[t].block == 1 ? info[t].bytes : 0;
}

size_t dtype_block(enum dtype t)
{
    return (unsigned)t < DT_N ? info[t].block : 1;
}

size_t dtype_block_bytes(enum dtype t)
{
    return (unsigned)t < DT_N ? info[t].bytes : 0;
}

bool dtype_size(enum dtype t, size_t n, size_t *bytes)
{
    *bytes = 0;
    return n % dtype_block(t) == 0 && mul_size(n / dtype_block(t), dtype_block_bytes(t), bytes);
}

size_t dtype_span(enum dtype t, size_t n)
{
    assert(n % dtype_block(t) == 0);
    return n / dtype_block(t) * dtype_block_bytes(t);
}

bool dtype_from_name(const char *name, size_t n, enum dtype *out)
{
    for (unsigned t = 0; t < DT_N && !dtype_is_block((enum dtype)t); t++) {
        if (strlen(info[t].name) == n && memcmp(info[t].name, name, n) == 0) {
            *out = (enum dtype)t;
            return true;
        }
    }
    return false;
}

static float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) {
        float m = (float)mantissa * 0x1p-24f; // both factors and the product are exact
        return sign ? -m : m;
    }
    if (exponent == 31)
        return f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) // NaN: quiet, upper payload kept
        return (uint16_t)(sign | 0x7e00u | ((u >> 13) & 0x1ffu));
    if (u >= 0x47800000u) // 2^16 and more, infinity
        return (uint16_t)(sign | 0x7c00u);
    if (u >= 0x38800000u) { // 2^-14: normal in f16
        uint32_t r = u + 0xfffu + ((u >> 13) & 1u);
        return (uint16_t)(sign | (r - (112u << 23)) >> 13);
    }
    if (u <= 0x33000000u) // 2^-25, half of the smallest subnormal: ties to zero
        return (uint16_t)sign;
    uint32_t shift = 126 - (u >> 23); // 14..24: bits of the 24-bit mantissa below 2^-24
    uint32_t mantissa = (u & 0x7fffffu) | 0x800000u;
    uint32_t half = 1u << (shift - 1);
    return (uint16_t)(sign | (mantissa + half - 1 + ((mantissa >> shift) & 1u)) >> shift);
}

void dtype_to_f32(float *dst, const void *src, enum dtype t, size_t n)
{
    const unsigned char *p = src;
    uint16_t h;
    assert(t == DT_F32 || t == DT_F16 || t == DT_BF16 || dtype_is_block(t));
    if (dtype_is_block(t)) {
        blocks_to_f32(dst, src, t, n);
    } else if (t == DT_F32) {
        if (n) // src of an empty tensor may be NULL
            memcpy(dst, src, n * sizeof *dst);
    } else if (t == DT_BF16) {
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, p + i * sizeof h, sizeof h);
            dst[i] = bf16_to_f32(h);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            memcpy(&h, p + i * sizeof h, sizeof h);
            dst[i] = f16_to_f32(h);
        }
    }
}
