// SPDX-License-Identifier: MIT
// The two clocks of the command line: durations come from the monotonic one, which a correction of
// the time of day does not move; log lines carry UTC.
//
// Easy to get wrong: strftime of the local zone or of a locale; the fields are printed as numbers.

#include "wallclock.h"

#include <stdio.h>
#include <time.h>

double clock_seconds(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t); // cannot fail for this clock
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void clock_utc(char out[32])
{
    struct timespec t = {0};
    struct tm d = {0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    (void)gmtime_r(&t.tv_sec, &d);
    (void)snprintf(out, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                   (unsigned)(d.tm_year + 1900) % 10000u, (unsigned)(d.tm_mon + 1) % 100u,
                   (unsigned)d.tm_mday % 100u, (unsigned)d.tm_hour % 100u,
                   (unsigned)d.tm_min % 100u, (unsigned)d.tm_sec % 100u,
                   (unsigned)(t.tv_nsec / 1000000) % 1000u);
}
