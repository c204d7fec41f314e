// SPDX-License-Identifier: MIT
// Checked size arithmetic. Every size that a file or a caller can influence goes through these.
#ifndef IV_BASE_SIZE_H
#define IV_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// *out = a * b; false (and *out = 0) on overflow.
static inline bool mul_size(size_t a, size_t b, size_t *out)
{
    if (__builtin_mul_overflow(a, b, out)) {
        *out = 0;
        return false;
    }
    return true;
}

// *out = a + b; false (and *out = 0) on overflow.
static inline bool add_size(size_t a, size_t b, size_t *out)
{
    if (__builtin_add_overflow(a, b, out)) {
        *out = 0;
        return false;
    }
    return true;
}

// a rounded up to a multiple of m (a power of two); saturates at the largest such multiple.
static inline size_t round_up(size_t a, size_t m)
{
    return a > SIZE_MAX - (m - 1) ? SIZE_MAX & ~(m - 1) : (a + (m - 1)) & ~(m - 1);
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Rows divided up: how many blocks of b cover a (b > 0).
static inline size_t div_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

#endif
