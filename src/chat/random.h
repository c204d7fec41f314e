// SPDX-License-Identifier: MIT
// The sampler's random numbers: xoshiro256** seeded through SplitMix64 (Blackman and Vigna, "Scrambled
// linear pseudorandom number generators", 2018). The same seed gives the same numbers everywhere.
#ifndef IV_CHAT_RANDOM_H
#define IV_CHAT_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t s[4];
};

// stream tells several answers of one seed apart (0 = the first); every value is allowed.
void random_seed(struct random *r, uint64_t seed, uint64_t stream);
uint64_t random_next(struct random *r);
// Uniform in [0, 1), a multiple of 2^-53.
double random_unit(struct random *r);

#endif
