// SPDX-License-Identifier: MIT
// The row and element kernels in AVX-512, and the tier's entry into the table.
#include "kernels/x86/lanes_avx512.h"

#include "kernels/rows_lanes.h"

void kernels_set_avx512(struct kernels *k)
{
    k->tier = CPU_AVX512;
    rows_set_lanes(k);
    product_set_avx512(&k->f32, &k->bf16);
    k->f32.scale = k->bf16.scale = k->scale;
}
