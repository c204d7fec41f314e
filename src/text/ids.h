// SPDX-License-Identifier: MIT
// Growable array of token ids with a hard maximum.
#ifndef IV_TEXT_IDS_H
#define IV_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"

// Zero-initialise, optionally set max, use, ids_free.
struct ids {
    int32_t *v;
    size_t n, cap;
    size_t max;                // ids; 0 = IDS_MAX_DEFAULT
    const struct hooks *hooks; // abort is polled while a text becomes ids; NULL = none
};

enum { IDS_MAX_DEFAULT = 1 << 26 };

// Appends; on failure (ERR_LIMIT: memory or max) the array is as before.
int ids_add(struct ids *a, int32_t id, struct err *e);
int ids_append(struct ids *a, const int32_t *id, size_t n, struct err *e);
// In loops over a text: looks at abort once in some thousand steps; ERR_ABORT.
int ids_poll(const struct ids *a, size_t step, struct err *e);
// Forgets the ids, keeps the memory.
void ids_reset(struct ids *a);
void ids_free(struct ids *a);

#endif
