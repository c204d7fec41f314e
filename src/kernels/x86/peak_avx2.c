// SPDX-License-Identifier: MIT
// Peak loops of AVX2 and FMA. There is no dot product of bf16 or int8 among these instructions.
#include <immintrin.h>

#include "kernels/peak.h"

// 12 sums: more than latency times units of any processor, and room for the factors.
static double f32_avx2(size_t n)
{
    size_t left = n;
    if (n == 0)
        return 0;
    __asm__ volatile("vmovd %k1, %%xmm12\n\t"
                     "vpbroadcastd %%xmm12, %%ymm12\n\t"
                     "vmovdqa %%ymm12, %%ymm13\n\t"
                     "1:\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm0\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm1\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm2\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm3\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm4\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm5\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm6\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm7\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm8\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm9\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm10\n\t"
                     "vfmadd231ps %%ymm12, %%ymm13, %%ymm11\n\t"
                     "dec %0\n\t"
                     "jnz 1b\n\t"
                     "vzeroupper"
                     : "+r"(left)
                     : "r"(0x3f803f80u)
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    return (double)n * 12 * 8 * 2;
}

static uint64_t read_avx2(const void *p, size_t bytes)
{
    const char *at = p;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t all[4];
    for (size_t i = 0; i < bytes; i += 128) {
        a = _mm256_or_si256(a, _mm256_loadu_si256((const void *)(at + i)));
        b = _mm256_or_si256(b, _mm256_loadu_si256((const void *)(at + i + 32)));
        c = _mm256_or_si256(c, _mm256_loadu_si256((const void *)(at + i + 64)));
        d = _mm256_or_si256(d, _mm256_loadu_si256((const void *)(at + i + 96)));
    }
    a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    _mm256_storeu_si256((void *)all, a);
    return all[0] | all[1] | all[2] | all[3];
}

void peak_set_avx2(struct peak_kernels *k)
{
    k->f32 = f32_avx2;
    k->read = read_avx2;
}
