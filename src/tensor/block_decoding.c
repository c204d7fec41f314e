// SPDX-License-Identifier: MIT
// Blocks to f32, one weight after the other; formulas and layouts in tensor/blocks.h.
//
// The order of the roundings is part of the format in use: first d times the group's scale in f32, then that
// times q, then the difference with dmin times the group's minimum. (-ffp-contract=off keeps it.)
// Easy to get wrong: a row may start at any even or odd address of a file, so blocks are copied out first.
#include <assert.h>

#include "tensor/blocks.h"
#include "tensor/block_coding.h"

static void from_q4_0(float *y, const struct block_q4_0 *b)
{
    float d = f16_to_f32(b->d);
    for (size_t i = 0; i < 16; i++) {
        y[i] = (float)((b->qs[i] & 15) - 8) * d;
        y[i + 16] = (float)((b->qs[i] >> 4) - 8) * d;
    }
}

static void from_q4_1(float *y, const struct block_q4_1 *b)
{
    float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
    for (size_t i = 0; i < 16; i++) {
        y[i] = (float)(b->qs[i] & 15) * d + m;
        y[i + 16] = (float)(b->qs[i] >> 4) * d + m;
    }
}

static void from_q5_0(float *y, const struct block_q5_0 *b)
{
    float d = f16_to_f32(b->d);
    uint32_t high;
    memcpy(&high, b->qh, sizeof high);
    for (size_t i = 0; i < 16; i++) {
        int lo = (b->qs[i] & 15) | (int)(high >> i & 1) << 4;
        int hi = b->qs[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        y[i] = (float)(lo - 16) * d;
        y[i + 16] = (float)(hi - 16) * d;
    }
}

static void from_q8_0(float *y, const struct block_q8_0 *b)
{
    float d = f16_to_f32(b->d);
    for (size_t i = 0; i < 32; i++)
        y[i] = (float)b->qs[i] * d;
}

// Scale and minimum of group g of a Q4_K or Q5_K block.
static void group_scale(const uint8_t *s, size_t g, unsigned *scale, unsigned *min)
{
    if (g < 4) {
        *scale = s[g] & 63;
        *min = s[g + 4] & 63;
    } else {
        *scale = (unsigned)(s[g + 4] & 15) | (unsigned)(s[g - 4] >> 6) << 4;
        *min = (unsigned)(s[g + 4] >> 4) | (unsigned)(s[g] >> 6) << 4;
    }
}

// qh NULL: Q4_K.
static void from_q45_k(float *y, uint16_t d16, uint16_t min16, const uint8_t *scales,
                       const uint8_t *qh, const uint8_t *qs)
{
    float d = f16_to_f32(d16), dmin = f16_to_f32(min16);
    for (size_t g = 0; g < 8; g++, y += 32) {
        unsigned scale, min;
        group_scale(scales, g, &scale, &min);
        float step = d * (float)scale, from = dmin * (float)min;
        for (size_t i = 0; i < 32; i++) {
            int q = qs[g / 2 * 32 + i] >> (g & 1) * 4 & 15;
            if (qh)
                q |= (qh[i] >> g & 1) << 4;
            y[i] = step * (float)q - from;
        }
    }
}

static void from_q6_k(float *y, const struct block_q6_k *b)
{
    float d = f16_to_f32(b->d);
    for (size_t h = 0; h < 2; h++)
        for (size_t c = 0; c < 4; c++)
            for (size_t i = 0; i < 32; i++) {
                int low = b->ql[64 * h + 32 * (c & 1) + i] >> (c < 2 ? 0 : 4) & 15;
                int q = low | (b->qh[32 * h + i] >> 2 * c & 3) << 4;
                y[128 * h + 32 * c + i] =
                    d * (float)b->scales[8 * h + 2 * c + i / 16] * (float)(q - 32);
            }
}

void blocks_to_f32(float *dst, const void *src, enum dtype t, size_t n)
{
    union {
        struct block_q4_0 q4_0;
        struct block_q4_1 q4_1;
        struct block_q5_0 q5_0;
        struct block_q8_0 q8_0;
        struct block_q4_k q4_k;
        struct block_q5_k q5_k;
        struct block_q6_k q6_k;
    } b;
    size_t block = dtype_block(t), bytes = dtype_block_bytes(t);
    assert(dtype_is_block(t) && n % block == 0 && bytes <= sizeof b);
    const uint8_t *from = src;
    for (; n > 0; n -= block, dst += block, from += bytes) {
        memcpy(&b, from, bytes);
        switch (t) {
        case DT_Q4_0:
            from_q4_0(dst, &b.q4_0);
            break;
        case DT_Q4_1:
            from_q4_1(dst, &b.q4_1);
            break;
        case DT_Q5_0:
            from_q5_0(dst, &b.q5_0);
            break;
        case DT_Q8_0:
            from_q8_0(dst, &b.q8_0);
            break;
        case DT_Q4_K:
            from_q45_k(dst, b.q4_k.d, b.q4_k.dmin, b.q4_k.scales, NULL, b.q4_k.qs);
            break;
        case DT_Q5_K:
            from_q45_k(dst, b.q5_k.d, b.q5_k.dmin, b.q5_k.scales, b.q5_k.qh, b.q5_k.qs);
            break;
        default:
            from_q6_k(dst, &b.q6_k);
        }
    }
}
