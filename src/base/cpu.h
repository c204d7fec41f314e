// SPDX-License-Identifier: MIT
// What the processor (and the operating system's saved state) lets us use, as tiers: bundles of
// instruction sets for which there are kernels.
#ifndef IV_BASE_CPU_H
#define IV_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>

enum cpu_tier {
    CPU_REF,         // plain C, double accumulators
    CPU_AVX2,        // avx2 + fma + f16c
    CPU_AVXVNNI,     // CPU_AVX2 + avx_vnni
    CPU_AVX512,      // CPU_AVX2 + avx512 f, bw, dq, vl
    CPU_AVX512VNNI,  // CPU_AVX512 + avx512_vnni
    CPU_AVX512BF16,  // CPU_AVX512VNNI + avx512_bf16
    CPU_ONEDNN,      // CPU_AVX512BF16, in a build with oneDNN, for its products
    CPU_NEON,        // arm64 baseline
    CPU_NEONDOTPROD, // CPU_NEON + dotprod
    CPU_NEONBF16,    // CPU_NEONDOTPROD + bf16
    CPU_TIER_N,
};

// Set of tiers, bit 1u << tier. CPU_REF is always in.
unsigned cpu_detect(void);
// Of the tiers of cpu_detect() those to use when none is asked for: without CPU_ONEDNN unless the processor has an
// instruction for oneDNN that our kernels do not use (AMX-BF16).
unsigned cpu_usual(unsigned have);
// Whether this build can have the tier on some processor: false for CPU_ONEDNN without oneDNN.
bool cpu_tier_built(enum cpu_tier t);
// The tiers of `have` that `top` builds on, and `top`; ref alone for CPU_REF and on another architecture.
unsigned cpu_mask(unsigned have, enum cpu_tier top);
// Bytes of a core's first-level data cache; 0 = unknown, as always where the C library does not tell (musl).
size_t cpu_l1_bytes(void);
// The best tier of a set.
enum cpu_tier cpu_best(unsigned tiers);

// "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "onednn", "neon", "neon-dotprod", "neon-bf16".
const char *cpu_tier_name(enum cpu_tier t);
// false (and *out = CPU_REF) for an unknown name.
bool cpu_tier_from_name(const char *name, enum cpu_tier *out);
// Writes the names of the tiers in the set, weakest first, separated by spaces (truncated to cap bytes
// with the zero), and returns out.
const char *cpu_tiers_text(unsigned tiers, char *out, size_t cap);

#endif
