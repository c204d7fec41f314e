// SPDX-License-Identifier: MIT
// The monotonic clock: a correction of the time of day does not move it.
#include "base/clock.h"

#include <time.h>

int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); // cannot fail for this clock
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double clock_ms(void)
{
    return (double)clock_ns() * 1e-6;
}

double clock_s(void)
{
    return (double)clock_ns() * 1e-9;
}
