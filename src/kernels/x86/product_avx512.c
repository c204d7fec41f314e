// SPDX-License-Identifier: MIT
// Products in AVX-512 without bf16 instructions: f32 panels and fused multiply-adds. In bf16 mode the
// same kernels run on factors rounded to bf16 and kept as f32.
#include "kernels/x86/lanes_avx512.h"

#include "kernels/product_lanes.h"
#include "kernels/x86/tiers_blocks.h"

void product_set_avx512(struct product_kernels *f32, struct product_kernels *bf16)
{
    products_set_lanes(f32, bf16);
    f32->unpack = bf16->unpack = unpack_avx512;
}
