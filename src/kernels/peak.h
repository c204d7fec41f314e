// SPDX-License-Identifier: MIT
// Loops that keep one kind of unit busy and do nothing else: what a processor can do at best, to which
// the kernels are compared. One thread; who times them runs one on each.
#ifndef IV_KERNELS_PEAK_H
#define IV_KERNELS_PEAK_H

#include <stddef.h>
#include <stdint.h>

enum { PEAK_READ_STEP = 1024 }; // bytes of `read` are a multiple of this

struct peak_kernels {
    // n rounds of multiply-adds on independent sums in registers; returns how many operations that were
    // (a multiply-add is two). NULL = there is no such instruction. int8: 4 products summed into 32 bits.
    double (*f32)(size_t n);
    double (*bf16)(size_t n);
    double (*int8)(size_t n);
    // Reads all bytes, 64-byte aligned, once; what it returns hangs on each.
    uint64_t (*read)(const void *p, size_t bytes);
};

// Fills k with the widest of the tiers' instructions.
void peak_init(struct peak_kernels *k, unsigned tiers);

// ---- one for each tier that has its own
void peak_set_ref(struct peak_kernels *k);
void peak_set_avx2(struct peak_kernels *k);
void peak_set_avxvnni(struct peak_kernels *k);
void peak_set_avx512(struct peak_kernels *k, unsigned tiers);
void peak_set_neon(struct peak_kernels *k);

#endif
