// SPDX-License-Identifier: MIT
// What the kernel checks share: the tiers to go through, reproducible data, timing.
#ifndef IV_TESTS_KERNEL_CHECK_H
#define IV_TESTS_KERNEL_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#define EPS 5.9604644775390625e-8 // 2^-24, half a unit of 1.0f

struct tiers {
    struct kernels k[CPU_TIER_N]; // one per tier of this processor, ref first
    size_t n;
};
struct tiers tiers_all(void);

// Small reproducible generator; seed it with anything but 0.
struct rng {
    uint64_t s;
};
uint32_t rng_next(struct rng *r);
float rng_unit(struct rng *r); // in [-1, 1)

enum data { DATA_RANDOM, DATA_POSITIVE, DATA_HUGE, DATA_TINY, DATA_ZERO, DATA_N };
const char *data_name(enum data d);
void data_fill(struct rng *r, enum data d, float *x, size_t n);

// Elements of type t at any address, from and to f32 through tensor/dtype.h.
void weights_store(void *w, enum dtype t, const float *x, size_t n);

// Random blocks with sane scales: f16 numbers of up to 0.03.
void blocks_fill(struct rng *r, uint8_t *w, enum dtype t, size_t n_block);

// Best seconds of a few runs of fn; for --bench.
double time_best(void (*fn)(void *), void *arg);

#endif
