// SPDX-License-Identifier: MIT
// Bytes for people.
#ifndef IV_APPS_BYTESIZE_H
#define IV_APPS_BYTESIZE_H

#include <stdint.h>

// "519 B", "19.4 GB": powers of 1000, as file managers and the hub show them. Returns out.
const char *bytesize(uint64_t bytes, char out[16]);

#endif
