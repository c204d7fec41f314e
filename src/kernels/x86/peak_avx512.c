// SPDX-License-Identifier: MIT
// Peak loops of AVX-512 and its dot products: vdpbf16ps (32 products of bf16), vpdpbusd (64 of int8).
//
// In assembler with named registers: gcc 12 moves and spills the sums of the intrinsics' form and shows half
// the rate.
#include <immintrin.h>

#include "base/cpu.h"
#include "kernels/peak.h"

// 0x3f803f80 is about 1 as f32, twice 1 as bf16, and no zero byte as int8.
#define STEP(op, to) op " %%zmm16, %%zmm17, %%zmm" #to "\n\t"
#define LOOP(op, left)                                                                             \
    __asm__ volatile(                                                                              \
        "vpbroadcastd %k1, %%zmm16\n\t"                                                            \
        "vmovdqa64 %%zmm16, %%zmm17\n\t"                                                           \
        "1:\n\t" STEP(op, 0) STEP(op, 1) STEP(op, 2) STEP(op, 3) STEP(op, 4) STEP(op, 5)           \
            STEP(op, 6) STEP(op, 7) STEP(op, 8) STEP(op, 9) STEP(op, 10) STEP(op, 11) STEP(op, 12) \
                STEP(op, 13) STEP(op, 14) STEP(op, 15) "dec %0\n\t"                                \
                                                       "jnz 1b\n\t"                                \
                                                       "vzeroupper"                                \
        : "+r"(left)                                                                               \
        : "r"(0x3f803f80u)                                                                         \
        : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",    \
          "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17")
enum { SUMS = 16 };

static double f32_avx512(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP("vfmadd231ps", left);
    return (double)n * SUMS * 16 * 2;
}

static double bf16_avx512(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP("vdpbf16ps", left);
    return (double)n * SUMS * 32 * 2;
}

static double int8_avx512(size_t n)
{
    size_t left = n;
    if (n > 0)
        LOOP("vpdpbusd", left);
    return (double)n * SUMS * 64 * 2;
}

static uint64_t read_avx512(const void *p, size_t bytes)
{
    const char *at = p;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 256) {
        a = _mm512_or_si512(a, _mm512_load_si512(at + i));
        b = _mm512_or_si512(b, _mm512_load_si512(at + i + 64));
        c = _mm512_or_si512(c, _mm512_load_si512(at + i + 128));
        d = _mm512_or_si512(d, _mm512_load_si512(at + i + 192));
    }
    a = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
    return (uint64_t)_mm512_reduce_or_epi64(a);
}

void peak_set_avx512(struct peak_kernels *k, unsigned tiers)
{
    k->f32 = f32_avx512;
    k->read = read_avx512;
    if (tiers & 1u << CPU_AVX512BF16)
        k->bf16 = bf16_avx512;
    if (tiers & 1u << CPU_AVX512VNNI)
        k->int8 = int8_avx512;
}
