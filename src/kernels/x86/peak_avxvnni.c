// SPDX-License-Identifier: MIT
// Peak loop of AVX-VNNI.
#include "kernels/peak.h"

// 12 sums: more than latency times units of any processor, and room for the factors.
#define STEP(to) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #to "\n\t"

static double int8_avxvnni(size_t n)
{
    size_t left = n;
    if (n == 0)
        return 0;
    __asm__ volatile("vmovd %k1, %%xmm12\n\t"
                     "vpbroadcastd %%xmm12, %%ymm12\n\t"
                     "vmovdqa %%ymm12, %%ymm13\n\t"
                     "1:\n\t" STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
                         STEP(8) STEP(9) STEP(10) STEP(11) "dec %0\n\t"
                                                           "jnz 1b\n\t"
                                                           "vzeroupper"
                     : "+r"(left)
                     : "r"(0x3f803f80u)
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
    return (double)n * 12 * 32 * 2;
}

void peak_set_avxvnni(struct peak_kernels *k)
{
    k->int8 = int8_avxvnni;
}
