// SPDX-License-Identifier: MIT
// Golden files of one JSON object a line.
#ifndef IV_PARITY_GOLDEN_ROWS_H
#define IV_PARITY_GOLDEN_ROWS_H

#include "golden.h"

// Calls fn for every row of the case's first file and reports how many hold; the first failure's reason
// is shown.
void compare_rows(struct golden *g, const js_value *c,
                  bool (*fn)(void *user, const js_value *row, char *why, size_t cap), void *user);

#endif
