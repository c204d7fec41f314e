// SPDX-License-Identifier: MIT
// What must hold, in fuzz targets and their rules: says what does not, and aborts.
#ifndef IV_TESTS_REQUIRE_H
#define IV_TESTS_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define require(holds) require_named(holds, #holds, __func__)

static inline void require_named(int holds, const char *rule, const char *where)
{
    if (holds)
        return;
    fprintf(stderr, "%s: broken: %s\n", where, rule);
    abort();
}

#endif
