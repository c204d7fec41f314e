// SPDX-License-Identifier: MIT
// Growable array of token ids with a hard maximum.
#ifndef IV_TEXT_IDS_H
#define IV_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// Zero-initialise, optionally set max, use, ids_free.
struct ids {
    int32_t *v;
    size_t n, cap;
    size_t max; // ids; 0 = IDS_MAX_DEFAULT
};

enum { IDS_MAX_DEFAULT = 1 << 26 };

// Appends; on failure (ERR_LIMIT: memory or max) the array is as before.
int ids_add(struct ids *a, int32_t id, struct err *e);
int ids_append(struct ids *a, const int32_t *id, size_t n, struct err *e);
// Forgets the ids, keeps the memory.
void ids_reset(struct ids *a);
void ids_free(struct ids *a);

#endif
