// SPDX-License-Identifier: MIT
#ifndef IV_APPS_WALLCLOCK_H
#define IV_APPS_WALLCLOCK_H

// Seconds of the monotonic clock, for durations.
double clock_seconds(void);
// "2026-01-31T23:59:59.123Z", for log lines.
void clock_utc(char out[32]);

#endif
