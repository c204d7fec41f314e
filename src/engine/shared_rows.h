// SPDX-License-Identifier: MIT
// Visual rows as media, sessions and the cache hold them together: counted, never changed once filled.
#ifndef IV_ENGINE_SHARED_ROWS_H
#define IV_ENGINE_SHARED_ROWS_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/err.h"

struct shared_rows {
    _Atomic size_t n_holder;
    size_t n, d; // rows of d values
    float v[];   // f32 [n, d]
};

// Zeroed rows with one holder. Any thread, as the next two.
int shared_rows_new(size_t n, size_t d, struct shared_rows **out, struct err *e);
// One holder more; r may be NULL. Returns r.
struct shared_rows *shared_rows_hold(struct shared_rows *r);
// One holder less; the last one frees. *r becomes NULL, and may be.
void shared_rows_drop(struct shared_rows **r);
// Bytes of the values.
size_t shared_rows_bytes(const struct shared_rows *r);

#endif
