// SPDX-License-Identifier: MIT
// The only door to the heap (make lint bans malloc elsewhere), so that tests can make each k-th
// allocation fail, and arenas: one block, pushed and reset, never freed piecewise.
#ifndef IV_BASE_MEM_H
#define IV_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

// n * size zeroed bytes or NULL (overflow included). Release with mem_free.
void *mem_calloc(size_t n, size_t size);
// Grows or shrinks; on failure the old block stays valid. New bytes are not initialised.
void *mem_realloc(void *p, size_t n, size_t size);
// Copy of n bytes plus a terminating zero, or NULL.
char *mem_strndup(const char *s, size_t n);
void mem_free(void *p);
// Large zeroed block, 64-byte aligned, huge pages asked for when it pays. Release with
// mem_free_big(p, bytes).
void *mem_alloc_big(size_t bytes);
void mem_free_big(void *p, size_t bytes);

// Test hook: the k-th allocation from now fails (1 = the next one), then all work again; 0 = off.
// Process-wide; set it while no other thread allocates.
void mem_fail_after(uint64_t k);

// An arena of fixed capacity. Failure is sticky: push returns NULL from then on and arena_failed()
// tells, so a run of pushes is checked once. Under AddressSanitizer there is a poisoned gap between
// pushes. One thread at a time.
struct arena {
    uint8_t *base;
    size_t cap, used, peak;
    bool failed;
};

// ERR_LIMIT when bytes cannot be had; `what` names the owner in the message.
int arena_init(struct arena *a, size_t bytes, const char *what, struct err *e);
void arena_free(struct arena *a);
// bytes, 64-byte aligned, not zeroed; NULL when it does not fit.
void *arena_push(struct arena *a, size_t bytes);
// n items of size bytes; NULL on overflow too.
void *arena_push_n(struct arena *a, size_t n, size_t size);
// Bytes that one push of `bytes` takes; sums of this give the capacity to ask for.
size_t arena_cost(size_t bytes);
// A mark to which arena_pop returns; pops everything pushed since and clears `failed`: ask for it before.
size_t arena_mark(const struct arena *a);
void arena_pop(struct arena *a, size_t mark);
static inline bool arena_failed(const struct arena *a)
{
    return a->failed;
}

#endif
