// SPDX-License-Identifier: MIT
// The clock that only moves forward, for durations and time limits.
#ifndef IV_BASE_CLOCK_H
#define IV_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);
double clock_ms(void);
double clock_s(void);

#endif
