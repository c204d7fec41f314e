// SPDX-License-Identifier: MIT
// What the kernel tells in small files, a line each (/sys, control groups).
#ifndef IV_BASE_FIRST_LINE_H
#define IV_BASE_FIRST_LINE_H

#include <stdbool.h>

enum { FIRST_LINE = 4096 }; // room for it

// First line of dir/name without its newline, cut if it is longer; false when there is none.
bool first_line(const char *dir, const char *name, char line[FIRST_LINE]);

#endif
