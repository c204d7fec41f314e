// SPDX-License-Identifier: MIT
// What the kernels for few rows and weights in blocks share: how a row lies when it is prepared for them.
//
//   x = step * level               16 inputs share a step, level in [-32512, 32512], rounded to nearest even
//   level = 256 * high + low       high in [-127, 127] is also what 8 bits have for x, with a step 256 times as large
//
// In a block of 256 inputs, vector j of `high` and of `low` has in bytes 4 l .. 4 l + 3 inputs 16 l + 4 j ..
// 16 l + 4 j + 3: lane l of every vector belongs to the same 16 inputs, hence to one group of any type of weights.
#ifndef IV_KERNELS_DOTS_PARTS_H
#define IV_KERNELS_DOTS_PARTS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

enum {
    DOTS_BLOCK = 256,
    DOTS_LANES = 16, // and as many inputs in each
    DOTS_TOP = 127 * 256,
};

struct dots_block {
    int8_t high[DOTS_BLOCK], low[DOTS_BLOCK];
    float step[DOTS_LANES]; // of the levels
    float sum[DOTS_LANES];  // step * 256 * sum of high
    int32_t base
        [DOTS_LANES]; // -128 * sum of the levels, for levels of weights that are stored 128 too large
};

struct dots_scale {
    float step;
    float inverse; // 0: all levels are 0, whatever the values
};

// From the bits of the largest |x|. Steps below 2^-125 are left out: no step and no inverse leaves the range of f32.
static inline struct dots_scale dots_scale_of(uint32_t top)
{
    const uint32_t infinite = 0x7f800000, small = 17u << 23; // 2^-110
    if (top >= infinite)
        return (struct dots_scale){.step = NAN};
    if (top < small)
        return (struct dots_scale){0};
    float most;
    memcpy(&most, &top, sizeof most);
    return (struct dots_scale){most / DOTS_TOP, DOTS_TOP / most};
}

// Whether weights of that type meet the levels of 8 bits: where 4 or 5 bits of their own are the coarser ones.
static inline bool dots_in_bytes(enum dtype t)
{
    return t != DT_Q8_0 && t != DT_Q6_K;
}

#endif
