// SPDX-License-Identifier: MIT
// Scratch of a kernel, laid out part after part.
#ifndef IV_KERNELS_SCRATCH_PART_H
#define IV_KERNELS_SCRATCH_PART_H

#include <stdint.h>

#include "base/size.h"
#include "kernels/kernels.h"

// The next n * size bytes of scratch behind *used, which moves on (SIZE_MAX for good once it overflows). base NULL: only
// counts.
static inline void *scratch_part(uint8_t *base, size_t *used, size_t n, size_t size)
{
    size_t bytes, at = *used;
    if (!mul_size(n, size, &bytes) || !add_size(at, round_up(bytes, KERNEL_SCRATCH_ALIGN), used))
        *used = SIZE_MAX;
    return base && *used != SIZE_MAX ? base + at : NULL;
}

#endif
