// SPDX-License-Identifier: MIT
// xoshiro256**: 256 bits of state, result = rotl(s1 * 5, 7) * 9. Written from the published
// description. An all-zero state would stay zero for ever; SplitMix64's four consecutive outputs
// cannot all be zero.
#include "chat/random.h"

static uint64_t rotl(uint64_t x, unsigned k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void random_seed(struct random *r, uint64_t seed, uint64_t stream)
{
    // The stream is hashed before it is mixed in: seed 1 stream 2 must not equal seed 2 stream 1.
    uint64_t mix = stream, state = stream ? seed ^ splitmix(&mix) : seed;
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&state);
}

uint64_t random_next(struct random *r)
{
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double random_unit(struct random *r)
{
    return (double)(random_next(r) >> 11) * 0x1p-53;
}
