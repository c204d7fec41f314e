// SPDX-License-Identifier: MIT
// Levels of weights in blocks for a tier with dot products of bytes but no kernel of its own for them, in the vector
// vocabulary of int8_lanes.h, which the including file has included first: the blocks become f32 in plain C, and
// are rounded to levels by vectors. The roundings are those of int8.c.
#ifndef IV_KERNELS_INT8_BLOCKS_LANES_H
#define IV_KERNELS_INT8_BLOCKS_LANES_H

// Blocks are whole vectors.
static float int8_levels_unpacked(int8_t *q, const void *w, enum dtype t, size_t n)
{
    float v[KERNEL_INT8_BLOCK];
    struct int8_scale s = int8_scale_of(int8_top_of_blocks(w, t, n));
    if (s.inverse == 0) {
        memset(q, 0, n);
        return s.step;
    }
    const lanes inverse = lanes_set(s.inverse);
    dtype_to_f32(v, w, t, n);
    for (size_t i = 0; i < n; i += LANES)
        levels_store(q + i, sums_round(lanes_mul(lanes_load(v + i), inverse)));
    return s.step;
}

#endif
