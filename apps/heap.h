// SPDX-License-Identifier: MIT
// The command line's one door to the heap. The programs see only ivchat.h, so they cannot use the
// library's own.
#ifndef IV_APPS_HEAP_H
#define IV_APPS_HEAP_H

#include <stddef.h>

// n * size zeroed bytes or NULL (overflow included). Release with heap_free.
void *heap_calloc(size_t n, size_t size);
// Grows or shrinks to n * size bytes; on failure NULL and the old block stays valid.
void *heap_realloc(void *p, size_t n, size_t size);
// NULL is allowed.
void heap_free(void *p);

#endif
