// SPDX-License-Identifier: MIT
// Reads weights from disk ahead of the computation, in the order of their first use.
#ifndef IV_ENGINE_PREFETCH_H
#define IV_ENGINE_PREFETCH_H

#include <stddef.h>

#include "model/model.h"

struct prefetch;

// A thread that waits for orders. NULL when the machine's memory does not hold the whole model (reading ahead
// would push out what is in use) or no thread can be had: everything works without. m must outlive it.
struct prefetch *prefetch_open(const struct model *m);
// Stops within one piece (some ten milliseconds of reading). NULL is allowed.
void prefetch_close(struct prefetch *p);
// Wants the first n tensors of m->order in memory soon; never lowers an earlier wish. Any thread; p may be
// NULL.
void prefetch_until(struct prefetch *p, size_t n);

#endif
