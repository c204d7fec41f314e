// SPDX-License-Identifier: MIT
// The row and element kernels in Advanced SIMD, and the tier's entry into the table.
#include "kernels/arm/lanes_neon.h"

#include "kernels/rows_lanes.h"

void kernels_set_neon(struct kernels *k)
{
    k->tier = CPU_NEON;
    rows_set_lanes(k);
    product_set_neon(&k->f32, &k->bf16);
    int8_set_neon(&k->int8);
    k->f32.scale = k->bf16.scale = k->scale;
}
