// SPDX-License-Identifier: MIT
// What the kernels for few rows and weights in blocks share: how a row lies when it is prepared for them.
//
//   x = step * level, rounded to nearest even, level in [-127, 127]
//
// 32 inputs share a step, as the weights of a block of Q8_0 do; in prompts 256 inputs do.
//
// A lane of a vector belongs to inputs whose weights share a scale: four of a dword's after the other, the rest in the
// next vectors. Which lane that is lets weights come into theirs almost without moves between the quarters of a vector,
// which compete with products for the same units. A row is there in two orders: as parts, with 32 inputs in a lane, for
// weights of 4 and 5 bits, and as halves, with 16, for Q6_K and Q8_0. All parts come first, then all halves.
#ifndef IV_KERNELS_DOTS_PARTS_H
#define IV_KERNELS_DOTS_PARTS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/size.h"
#include "kernels/kernels.h"

enum {
    DOTS_LANES = 16,
    DOTS_PART = 512, // inputs of a struct dots_part: 32 in each lane
    DOTS_HALF = 256, // inputs of a struct dots_half: 16 in each lane
    DOTS_TOP = 127,  // of the levels
};

struct dots_part {
    int8_t level[DOTS_PART]; // byte 64 (4 h + j) + 4 lane + i: input 16 h + 4 j + i of the lane's
    float step[DOTS_LANES];
    float sum[DOTS_LANES]; // of what the levels stand for
};

struct dots_half {
    int8_t level[DOTS_HALF]; // byte 64 j + 4 lane + i: input 4 j + i of the lane's
    float step[DOTS_LANES];
    int32_t base[DOTS_LANES]; // -128 * sum of the levels: those of weights are stored 128 too large
};

enum { DOTS_PART_BYTES = sizeof(struct dots_part) + 2 * sizeof(struct dots_half) };

// Where a row of k inputs has its first struct dots_half.
static inline size_t dots_halves_at(size_t k)
{
    return div_up(k, DOTS_PART) * sizeof(struct dots_part);
}

// The lane of inputs 32 g .. 32 g + 31 of a part.
static inline size_t dots_lane(size_t g)
{
    return (g & 7) << 1 | g >> 3;
}

// The lane of inputs 16 i .. 16 i + 15 of a half.
static inline size_t dots_lane_half(size_t i)
{
    return (i & 3) << 2 | (i >> 1 & 2) | i >> 3;
}

struct dots_scale {
    float step;
    float inverse; // 0: all levels are 0, whatever the values
};

// From the bits of the largest |x|, which gets level DOTS_TOP. Steps below 2^-117 are left out: no step and no inverse
// leaves the range of f32.
static inline struct dots_scale dots_scale_of(uint32_t top)
{
    const uint32_t infinite = 0x7f800000, small = 17u << 23; // 2^-110
    if (top >= infinite)
        return (struct dots_scale){.step = NAN};
    if (top < small)
        return (struct dots_scale){0};
    float size;
    memcpy(&size, &top, sizeof size);
    return (struct dots_scale){size / DOTS_TOP, DOTS_TOP / size};
}

// Whether weights of that type meet parts, else halves.
static inline bool dots_by_parts(enum dtype t)
{
    return t != DT_Q8_0 && t != DT_Q6_K;
}

#endif
