// SPDX-License-Identifier: MIT
// The row and element kernels in AVX2, and the tier's entry into the table.
#include "kernels/x86/lanes_avx2.h"

#include "kernels/rows_lanes.h"

void kernels_set_avx2(struct kernels *k)
{
    k->tier = CPU_AVX2;
    rows_set_lanes(k);
    product_set_avx2(&k->f32, &k->bf16);
    int8_set_avx2(&k->int8);
    k->f32.scale = k->bf16.scale = k->scale;
}
