// SPDX-License-Identifier: MIT
// A pool of threads that runs batches of independent tasks. The caller takes part, so a pool of one
// thread is the caller alone, and a batch ends even if no other thread gets a processor.
#ifndef IV_BASE_POOL_H
#define IV_BASE_POOL_H

#include <stddef.h>

#include "base/err.h"

struct pool;

enum { POOL_MAX_THREADS = 1024 };

// What a batch runs. task < n_task, each exactly once, started in increasing order;
// thread < pool_threads(pool), 0 = the caller; two tasks of a batch with equal `thread` never overlap.
typedef void pool_fn(void *ctx, size_t task, unsigned thread);

// n_threads counts the caller; 0 = cpu_count(). ERR_USAGE above POOL_MAX_THREADS, ERR_LIMIT when
// threads cannot be had. Workers block every signal. Caller closes.
int pool_open(unsigned n_threads, struct pool **out, struct err *e);
// NULL is allowed. No pool_run may be under way.
void pool_close(struct pool *p);
// 1 for NULL.
unsigned pool_threads(const struct pool *p);

// Runs fn for every task below n_task and returns when all are done; what they wrote is then visible
// to the caller. NULL = the calling thread alone. Any thread; a caller that finds the workers busy with
// another's batch works alone until they are free. fn must not call pool_run on the same pool.
void pool_run(struct pool *p, pool_fn *fn, void *ctx, size_t n_task);

#endif
