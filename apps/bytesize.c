// SPDX-License-Identifier: MIT
// Sizes in words.
// Easy to get wrong: 999.96 MB rounds to "1000.0 MB" unless the next unit is taken before rounding.

#include "bytesize.h"

#include <stdio.h>

const char *bytesize(uint64_t bytes, char out[16])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    unsigned u = 0;
    for (; v >= 999.95 && u < 5; u++)
        v /= 1000;
    (void)snprintf(out, 16, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return out;
}
