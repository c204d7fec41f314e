// SPDX-License-Identifier: MIT
#ifndef IV_APPS_WELLFORMED_H
#define IV_APPS_WELLFORMED_H

#include <stddef.h>

// Bytes of the well-formed sequence at s (1..4), 0 = ill-formed; n > 0 bytes are there.
size_t wellformed_sequence(const char *s, size_t n);
// Bytes before the first ill-formed one; n = all are well-formed.
size_t wellformed_length(const char *s, size_t n);

#endif
