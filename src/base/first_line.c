// SPDX-License-Identifier: MIT
// By fgets: what such files say their length is means nothing.
#include "base/first_line.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

bool first_line(const char *dir, const char *name, char line[FIRST_LINE])
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool got = fgets(line, FIRST_LINE, f) != NULL;
    fclose(f);
    if (got)
        line[strcspn(line, "\n")] = 0;
    return got;
}
