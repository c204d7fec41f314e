// SPDX-License-Identifier: MIT
// The baseline instruction set's peak loops, and the choice by tier.
//
// Easy to get wrong: a loop measures the unit only if enough sums are independent (latency times units in a
// cycle) and all stay in registers, which is why the other tiers write theirs in assembler; factors are not
// zero, since multiplying zeros takes less power and may raise the clock.
#include "kernels/peak.h"

#include "base/cpu.h"

typedef float lanes __attribute__((vector_size(16)));
typedef uint64_t words __attribute__((vector_size(16)));

// The compiler has to have done the work on six values, and to have them in registers.
#if defined(__x86_64__)
#define KEEP(a, b, c, d, e, f)                                                                     \
    __asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f))
#elif defined(__aarch64__)
#define KEEP(a, b, c, d, e, f)                                                                     \
    __asm__ volatile("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f))
#else
#define KEEP(a, b, c, d, e, f)                                                                     \
    __asm__ volatile("" : "+m"(a), "+m"(b), "+m"(c), "+m"(d), "+m"(e), "+m"(f))
#endif

// Sums and products apart: without a fused instruction they go to two units.
static double f32_ref(size_t n)
{
    volatile float one = 1.0f;
    lanes f = {one, one, one, one}, a = f, b = f, c = f, d = f, e = f, g = f;
    lanes p = f, q = f, r = f, s = f, t = f, u = f;
    for (size_t i = 0; i < n; i++) {
        a *= f, b *= f, c *= f, d *= f, e *= f, g *= f;
        p += f, q += f, r += f, s += f, t += f, u += f;
        KEEP(a, b, c, d, e, g);
        KEEP(p, q, r, s, t, u);
    }
    return (double)n * 12 * 4;
}

static uint64_t read_ref(const void *p, size_t bytes)
{
    const words *at = p;
    words a = {0}, b = a, c = a, d = a;
    for (size_t i = 0; i < bytes / sizeof *at; i += 4) {
        a |= at[i];
        b |= at[i + 1];
        c |= at[i + 2];
        d |= at[i + 3];
    }
    a |= b | c | d;
    return a[0] | a[1];
}

void peak_set_ref(struct peak_kernels *k)
{
    *k = (struct peak_kernels){.f32 = f32_ref, .read = read_ref};
}

void peak_init(struct peak_kernels *k, unsigned tiers)
{
    peak_set_ref(k);
#if defined(IV_PLAIN_KERNELS)
    (void)tiers;
#elif defined(__x86_64__)
    if (tiers & 1u << CPU_AVX2)
        peak_set_avx2(k);
    if (tiers & 1u << CPU_AVXVNNI)
        peak_set_avxvnni(k);
    if (tiers & 1u << CPU_AVX512)
        peak_set_avx512(k, tiers);
#elif defined(__aarch64__)
    if (tiers & 1u << CPU_NEON)
        peak_set_neon(k);
#else
    (void)tiers;
#endif
}
