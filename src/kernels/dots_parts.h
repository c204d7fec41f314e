// SPDX-License-Identifier: MIT
// What the kernels for few rows and weights in blocks share: how a row lies when it is prepared for them.
//
//   x = step * level, rounded to nearest even
//
// A row is there twice. In 8 bits, for weights of 4 and 5 bits: level in [-127, 127], 16 inputs share a step. In 12 bits,
// for Q6_K and Q8_0: level in [-2032, 2032] = 16 * high + low, where 64 inputs share a step, so that it is multiplied
// once in 1024. (16 bits leave W too little of L1, and 12 are sixteen times as fine as Q8_0 itself.)
// All of the row's struct dots_bytes come first, then its struct dots_wide, then steps of the latter.
//
// A lane of a vector belongs to inputs whose weights share a scale in every type: four of a dword's after the other, the
// rest in the next vectors. Which lane that is lets weights come into theirs almost without moves between the quarters
// of a vector, which compete with products for the same units.
#ifndef IV_KERNELS_DOTS_PARTS_H
#define IV_KERNELS_DOTS_PARTS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/size.h"
#include "kernels/kernels.h"

enum {
    DOTS_LANES = 16,
    DOTS_BYTES = 512, // inputs of a struct dots_bytes: 32 in each lane
    DOTS_WIDE = 256,  // inputs of a struct dots_wide: 16 in each lane
    DOTS_RUN = 1024,  // inputs for which the wide levels of a lane share a step
    DOTS_TOP = 127,   // levels of 8 bits
    DOTS_TOP_WIDE = 127 * 16,
};

struct dots_bytes {
    int8_t level[DOTS_BYTES];  // byte 64 (4 h + j) + 4 lane + i: input 16 h + 4 j + i of the lane's
    float step[2][DOTS_LANES]; // of each h
    float sum[DOTS_LANES];     // of what the levels stand for
};

struct dots_wide {
    // byte 64 j + 4 lane + i: input 4 j + i of the lane's
    int8_t high[DOTS_WIDE];
    // byte 64 j + 4 lane + i: in its lower half input 8 j + i, in its upper 8 j + 4 + i
    uint8_t low[DOTS_WIDE / 2];
    // -128 * sum of the levels, for levels of weights that are stored 128 too large
    int32_t base[DOTS_LANES];
};

enum {
    DOTS_RUN_BYTES = DOTS_RUN / DOTS_BYTES * sizeof(struct dots_bytes) +
                     DOTS_RUN / DOTS_WIDE * sizeof(struct dots_wide) + DOTS_LANES * sizeof(float),
};

// Where a row of k inputs has its first struct dots_wide and its first step of those.
static inline size_t dots_wide_at(size_t k)
{
    return div_up(k, DOTS_RUN) * (DOTS_RUN / DOTS_BYTES) * sizeof(struct dots_bytes);
}

static inline size_t dots_steps_at(size_t k)
{
    return dots_wide_at(k) +
           div_up(k, DOTS_RUN) * (DOTS_RUN / DOTS_WIDE) * sizeof(struct dots_wide);
}

// The lane of inputs 32 g .. 32 g + 31 of a struct dots_bytes.
static inline size_t dots_lane(size_t g)
{
    return (g & 7) << 1 | g >> 3;
}

// The lane of inputs 16 i .. 16 i + 15 of a struct dots_wide.
static inline size_t dots_lane_wide(size_t i)
{
    return (i & 3) << 2 | (i >> 1 & 2) | i >> 3;
}

struct dots_scale {
    float step;
    float inverse; // 0: all levels are 0, whatever the values
};

// From the bits of the largest |x|, which gets level `most`. Steps below 2^-125 are left out: no step and no inverse
// leaves the range of f32.
static inline struct dots_scale dots_scale_of(uint32_t top, float most)
{
    const uint32_t infinite = 0x7f800000, small = 17u << 23; // 2^-110
    if (top >= infinite)
        return (struct dots_scale){.step = NAN};
    if (top < small)
        return (struct dots_scale){0};
    float size;
    memcpy(&size, &top, sizeof size);
    return (struct dots_scale){size / most, most / size};
}

// Whether weights of that type meet the levels of 8 bits: where 4 or 5 bits of their own are the coarser ones.
static inline bool dots_in_bytes(enum dtype t)
{
    return t != DT_Q8_0 && t != DT_Q6_K;
}

#endif
