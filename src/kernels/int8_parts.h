// SPDX-License-Identifier: MIT
// What the int8 kernels share: how a maximum becomes a step, where the steps of a prepared row lie, and how
// large a panel is.
#ifndef IV_KERNELS_INT8_PARTS_H
#define IV_KERNELS_INT8_PARTS_H

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "kernels/kernels.h"

enum {
    INT8_DEPTH = 16 * KERNEL_INT8_BLOCK, // inputs of a panel
    INT8_LEVEL = 127,
    F32_INFINITE = 0x7f800000, // bits; more = NaN
    F32_SMALL = 8 << 23,       // bits of 2^-119
};

// Of floats without their sign the order is that of their bits, NaN above all: the maximum is one of integers
// and the same in every tier.
static inline uint32_t int8_size_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u & 0x7fffffff;
}

struct int8_scale {
    float step;
    float inverse; // 0: all levels are 0, whatever the values
};

static inline struct int8_scale int8_scale_of(uint32_t top)
{
    if (top >= F32_INFINITE)
        return (struct int8_scale){.step = NAN};
    if (top < F32_SMALL)
        return (struct int8_scale){0};
    float most;
    memcpy(&most, &top, sizeof most);
    return (struct int8_scale){most / INT8_LEVEL, INT8_LEVEL / most};
}

// Bits of the largest size that n weights of blocks at w could have.
uint32_t int8_top_of_blocks(const void *w, enum dtype t, size_t n);

// Levels of any number of values; returns their step.
float int8_levels_of(int8_t *q, const float *v, size_t n);
// `levels` in plain C.
float int8_levels_plain(int8_t *q, const void *w, enum dtype t, size_t n);

// Byte of a prepared row where the steps begin.
static inline size_t int8_steps_at(const struct product_kernels *p, size_t k)
{
    return round_up(k, 32) * p->x_elem;
}

// Bytes of one block of a panel: its steps, and its levels in cells of 4 bytes. A cell holds 4 / x_elem.
static inline size_t int8_panel_bytes(const struct product_kernels *p)
{
    return p->panel * (sizeof(float) + KERNEL_INT8_BLOCK * p->x_elem);
}

// `many` on top of levels, pack_levels and tile.
void int8_many_blocked(const struct product_kernels *p, const struct product_job *j, void *scratch);

#endif
