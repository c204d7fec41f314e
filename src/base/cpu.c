// SPDX-License-Identifier: MIT
// CPU tiers: cpuid says what the processor decodes, xgetbv which registers the system saves on a task
// switch; a tier needs both. And the first-level cache, of which the C library tells. (Intel SDM vol. 1, 13.3 and 14.3, 15.2; AMD64 APM vol. 3, appendix E.)
//
// Easy to get wrong: a hypervisor or a kernel option may leave the AVX-512 cpuid bits set and the
// state unsaved, so the opmask and both zmm bits of xcr0 are asked for too; leaf 7 must be within the
// maximum leaf; leaf 7 subleaf 1 exists only when subleaf 0 says so in eax. avx_vnni is a bit of its own: there are
// processors with avx_vnni alone, with avx512_vnni alone, and with both.
#include "base/cpu.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    XCR0_AVX = 0x6,     // xmm, ymm
    XCR0_AVX512 = 0xe6, // and opmask, upper halves of zmm0-15, zmm16-31
    XCR0_AMX = 0x60000, // configuration and data of tiles
};
// edx of leaf 7, subleaf 0
enum { BIT_AMX_BF16 = 1 << 22, BIT_AMX_TILE = 1 << 24 };
// eax of leaf 7, subleaf 1
enum { BIT_AVXVNNI = 1 << 4, BIT_AVX512BF16 = 1 << 5 };

static uint64_t xcr0_read(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool has_bits(uint32_t reg, uint32_t bits)
{
    return (reg & bits) == bits;
}

unsigned cpu_detect(void)
{
    unsigned tiers = 1u << CPU_REF;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has_bits(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C))
        return tiers;
    uint64_t xcr0 = xcr0_read();
    if ((xcr0 & XCR0_AVX) != XCR0_AVX || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
        !has_bits(b, bit_AVX2))
        return tiers;
    tiers |= 1u << CPU_AVX2;
    unsigned more = 0, unused;
    if (a >= 1 && !__get_cpuid_count(7, 1, &more, &unused, &unused, &d))
        more = 0;
    if (has_bits(more, BIT_AVXVNNI))
        tiers |= 1u << CPU_AVXVNNI;
    if ((xcr0 & XCR0_AVX512) != XCR0_AVX512 ||
        !has_bits(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL))
        return tiers;
    tiers |= 1u << CPU_AVX512;
    if (!has_bits(c, bit_AVX512VNNI))
        return tiers;
    tiers |= 1u << CPU_AVX512VNNI;
    if (!has_bits(more, BIT_AVX512BF16))
        return tiers;
    tiers |= 1u << CPU_AVX512BF16;
    if (cpu_tier_built(CPU_ONEDNN))
        tiers |= 1u << CPU_ONEDNN;
    return tiers;
}

// Whether a process may be given the registers is between oneDNN and the kernel: without them oneDNN uses AVX-512.
static bool has_amx_bf16(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && has_bits(c, bit_OSXSAVE) &&
           (xcr0_read() & XCR0_AMX) == XCR0_AMX && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           has_bits(d, BIT_AMX_TILE | BIT_AMX_BF16);
}
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned cpu_detect(void)
{
    unsigned tiers = 1u << CPU_REF | 1u << CPU_NEON; // Advanced SIMD is part of the arm64 baseline
    if (!(getauxval(AT_HWCAP) & HWCAP_ASIMDDP))
        return tiers;
    tiers |= 1u << CPU_NEONDOTPROD;
    if (getauxval(AT_HWCAP2) & HWCAP2_BF16)
        tiers |= 1u << CPU_NEONBF16;
    return tiers;
}
#else
unsigned cpu_detect(void)
{
    return 1u << CPU_REF;
}
#endif

#if !defined(__x86_64__)
static bool has_amx_bf16(void)
{
    return false;
}
#endif

size_t cpu_l1_bytes(void)
{
#ifdef _SC_LEVEL1_DCACHE_SIZE
    long bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : 0;
#else
    return 0;
#endif
}

bool cpu_tier_built(enum cpu_tier t)
{
#ifdef HAVE_ONEDNN
    (void)t;
    return true;
#else
    return t != CPU_ONEDNN;
#endif
}

unsigned cpu_usual(unsigned have)
{
    return has_amx_bf16() ? have : have & ~(1u << CPU_ONEDNN);
}

// What a tier builds on: itself, and what it builds on in turn.
static const enum cpu_tier below[CPU_TIER_N] = {
    [CPU_REF] = CPU_REF,           [CPU_AVX2] = CPU_REF,
    [CPU_AVXVNNI] = CPU_AVX2,      [CPU_AVX512] = CPU_AVX2,
    [CPU_AVX512VNNI] = CPU_AVX512, [CPU_AVX512BF16] = CPU_AVX512VNNI,
    [CPU_ONEDNN] = CPU_AVX512BF16, [CPU_NEON] = CPU_REF,
    [CPU_NEONDOTPROD] = CPU_NEON,  [CPU_NEONBF16] = CPU_NEONDOTPROD,
};

unsigned cpu_mask(unsigned have, enum cpu_tier top)
{
    unsigned tiers = 1u << CPU_REF;
    for (enum cpu_tier t = top; t != CPU_REF; t = below[t])
        tiers |= 1u << t;
    return have & tiers;
}

enum cpu_tier cpu_best(unsigned tiers)
{
    for (int t = CPU_TIER_N - 1; t > CPU_REF; t--)
        if (tiers & 1u << t)
            return (enum cpu_tier)t;
    return CPU_REF;
}

static const char *const tier_names[CPU_TIER_N] = {
    [CPU_REF] = "ref",
    [CPU_AVX2] = "avx2",
    [CPU_AVXVNNI] = "avxvnni",
    [CPU_AVX512] = "avx512",
    [CPU_AVX512VNNI] = "avx512vnni",
    [CPU_AVX512BF16] = "avx512bf16",
    [CPU_ONEDNN] = "onednn",
    [CPU_NEON] = "neon",
    [CPU_NEONDOTPROD] = "neon-dotprod",
    [CPU_NEONBF16] = "neon-bf16",
};

const char *cpu_tier_name(enum cpu_tier t)
{
    return (unsigned)t < CPU_TIER_N ? tier_names[t] : "unknown";
}

bool cpu_tier_from_name(const char *name, enum cpu_tier *out)
{
    for (int t = 0; t < CPU_TIER_N; t++) {
        if (strcmp(name, tier_names[t]) == 0) {
            *out = (enum cpu_tier)t;
            return true;
        }
    }
    *out = CPU_REF;
    return false;
}

const char *cpu_tiers_text(unsigned tiers, char *out, size_t cap)
{
    size_t len = 0;
    for (int t = 0; t < CPU_TIER_N; t++) {
        if (!(tiers & 1u << t))
            continue;
        if (len != 0 && len + 1 < cap)
            out[len++] = ' ';
        for (const char *s = tier_names[t]; *s != '\0' && len + 1 < cap; s++)
            out[len++] = *s;
    }
    if (cap != 0)
        out[len] = '\0';
    return out;
}
