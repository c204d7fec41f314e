// SPDX-License-Identifier: MIT
// A stream of ops on a chosen tier, with random mats and tensors whose values the test also has as
// doubles. Everything made through a fixture dies with it.
#ifndef IV_TESTS_OPS_FIXTURE_H
#define IV_TESTS_OPS_FIXTURE_H

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "ops/ops.h"

struct fixture {
    struct kernels kernels;
    struct pool *pool;
    struct ops *ops;
    enum compute compute;
    uint64_t seed;
    struct block *blocks;
};

// Any failure fails the test. hooks may be NULL.
void fixture_open(struct fixture *f, enum cpu_tier tier, unsigned threads, enum compute c,
                  const struct hooks *hooks);
void fixture_close(struct fixture *f);
// Tiers of this processor that have kernels of their own, weakest first; returns how many.
size_t fixture_tiers(enum cpu_tier out[CPU_TIER_N]);
// The first of those n to check: of a program that is built with BEST_TIER_ONLY, where everything is slow, the last;
// with OWN_TIER_ONLY, under an emulator, not the plain one.
#ifdef BEST_TIER_ONLY
#define FIRST_TIER(n) ((n)-1)
#elif defined(OWN_TIER_ONLY)
#define FIRST_TIER(n) ((n) > 1 ? 1 : 0)
#else
#define FIRST_TIER(n) 0
#endif

// Zeroed memory of the fixture.
void *fixture_alloc(struct fixture *f, size_t n, size_t size);
// Uniform in [-1, 1), from f->seed.
float fixture_random(struct fixture *f);

// Random tensor of 1 to 5 dims (0 ends the list), values times scale, at an address that is a
// multiple of 2 only.
struct tensor fixture_tensor(struct fixture *f, enum dtype t, float scale, size_t d0, size_t d1,
                             size_t d2, size_t d3, size_t d4);
// Its values; round = each rounded to bf16.
double *fixture_values(struct fixture *f, const struct tensor *t, bool round);

// Random mat with `gap` unused columns on each side; *host (if not NULL) gets its values [rows, cols].
struct mat fixture_mat(struct fixture *f, size_t rows, size_t cols, size_t gap, float **host);
// m's values [rows, cols].
float *fixture_get(struct fixture *f, struct mat m);
// Fails the test when the ops have failed.
void fixture_sound(struct fixture *f);

// true = within tol (false for NaN)
bool fixture_near(double got, double want, double tol);

// An abort hook that says stop from its poll number `at` on; user = a stopper. Thread-safe.
struct stopper {
    _Atomic long polls;
    long at;
};
bool stop_later(void *user);

#endif
