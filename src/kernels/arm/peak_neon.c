// SPDX-License-Identifier: MIT
// Peak loops of arm64: fmla, and where the system says that they are there bfmmla (16 products of bf16) and
// smmla (32 of int8) or sdot (16).
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "kernels/peak.h"

// Beside the sums v0-v23, v24 and v25 hold the factors. subs counts down and sets the flags.
// clang-format off
#define STEP(op, to, shape, from) op " v" #to "." shape ", v24." from ", v25." from "\n\t"
#define EIGHT(op, a, b, c, d, e, f, g, h, shape, from) \
    STEP(op, a, shape, from) STEP(op, b, shape, from) STEP(op, c, shape, from) STEP(op, d, shape, from) \
    STEP(op, e, shape, from) STEP(op, f, shape, from) STEP(op, g, shape, from) STEP(op, h, shape, from)
#define LOOP(arch, op, shape, from, left) \
    __asm__ volatile(arch "dup v24.4s, %w1\n\t" \
                     "dup v25.4s, %w1\n\t" \
                     "1:\n\t" \
                     EIGHT(op, 0, 1, 2, 3, 4, 5, 6, 7, shape, from) \
                     EIGHT(op, 8, 9, 10, 11, 12, 13, 14, 15, shape, from) \
                     EIGHT(op, 16, 17, 18, 19, 20, 21, 22, 23, shape, from) \
                     "subs %0, %0, #1\n\t" \
                     "b.ne 1b" \
                     : "+r"(left) \
                     : "r"(0x3f803f80u) \
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", \
                       "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25")
// clang-format on
enum { SUMS = 24 };

static double f32_neon(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP("", "fmla", "4s", "4s", left);
    return (double)n * SUMS * 4 * 2;
}

static double bf16_neon(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP(".arch armv8.2-a+bf16\n\t", "bfmmla", "4s", "8h", left);
    return (double)n * SUMS * 16 * 2;
}

static double sdot_neon(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP(".arch armv8.2-a+dotprod\n\t", "sdot", "4s", "16b", left);
    return (double)n * SUMS * 16 * 2;
}

static double smmla_neon(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP(".arch armv8.2-a+i8mm\n\t", "smmla", "4s", "16b", left);
    return (double)n * SUMS * 32 * 2;
}

void peak_set_neon(struct peak_kernels *k)
{
    k->f32 = f32_neon;
    if (getauxval(AT_HWCAP2) & HWCAP2_BF16)
        k->bf16 = bf16_neon;
    if (getauxval(AT_HWCAP2) & HWCAP2_I8MM)
        k->int8 = smmla_neon;
    else if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        k->int8 = sdot_neon;
}
