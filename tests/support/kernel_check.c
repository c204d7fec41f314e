// SPDX-License-Identifier: MIT
// Tiers, data and timing for the kernel checks.
#include "kernel_check.h"

#include <string.h>
#include <time.h>

#include "tensor/block_coding.h"

struct tiers tiers_all(void)
{
    struct tiers all = {.n = 0};
    unsigned have = cpu_detect();
    for (int t = 0; t < CPU_TIER_N; t++)
        if (have & 1u << t)
            kernels_init(&all.k[all.n++], cpu_mask(have, (enum cpu_tier)t));
    return all;
}

uint32_t rng_next(struct rng *r)
{
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return (uint32_t)(r->s >> 32);
}

float rng_unit(struct rng *r)
{
    return (float)(int32_t)rng_next(r) * 0x1p-31f;
}

const char *data_name(enum data d)
{
    static const char *const names[DATA_N] = {"random", "positive", "huge", "tiny", "zero"};
    return names[d];
}

void data_fill(struct rng *r, enum data d, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = rng_unit(r);
        switch (d) {
        case DATA_POSITIVE:
            v = v < 0 ? -v : v;
            break;
        case DATA_HUGE:
            v *= 1e15f;
            break;
        case DATA_TINY: // down to subnormal numbers
            v *= i % 3 == 0 ? 1e-39f : 1e-20f;
            break;
        case DATA_ZERO:
            v = i % 2 ? -0.0f : 0.0f;
            break;
        default:
            break;
        }
        x[i] = v;
    }
}

void weights_store(void *w, enum dtype t, const float *x, size_t n)
{
    uint8_t *to = w;
    if (dtype_is_block(t)) {
        blocks_from_f32(w, t, x, n, NULL);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (t == DT_F32) {
            memcpy(to + 4 * i, &x[i], 4);
        } else {
            uint16_t h = t == DT_BF16 ? f32_to_bf16(x[i]) : f32_to_f16(x[i]);
            memcpy(to + 2 * i, &h, 2);
        }
    }
}

void blocks_fill(struct rng *r, uint8_t *w, enum dtype t, size_t n_block)
{
    size_t bytes = dtype_block_bytes(t);
    for (size_t i = 0; i < n_block; i++, w += bytes) {
        for (size_t b = 0; b < bytes; b++)
            w[b] = (uint8_t)(rng_next(r) >> 11);
        uint16_t d = f32_to_f16(rng_unit(r) * 0.03f), m = f32_to_f16(rng_unit(r) * 0.03f);
        memcpy(w + (t == DT_Q6_K ? 208 : 0), &d, sizeof d);
        if (t == DT_Q4_1 || t == DT_Q4_K || t == DT_Q5_K)
            memcpy(w + 2, &m, sizeof m);
    }
}

double time_best(void (*fn)(void *), void *arg)
{
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        fn(arg);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        if (s < best)
            best = s;
    }
    return best;
}
