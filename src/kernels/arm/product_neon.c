// SPDX-License-Identifier: MIT
// Products in Advanced SIMD: f32 panels and fused multiply-adds, 6 rows by 4 vectors of sums. In bf16
// mode the same kernels run on factors rounded to bf16 and kept as f32.
#include "kernels/arm/lanes_neon.h"

#include "kernels/product_lanes.h"

void product_set_neon(struct product_kernels *f32, struct product_kernels *bf16)
{
    products_set_lanes(f32, bf16);
}
