// SPDX-License-Identifier: MIT
// Memory for kernel checks: a read or write one byte beyond a buffer's end faults, and the bytes in
// front of it (and in the gap that alignment leaves behind it) are watched.
#ifndef IV_TESTS_GUARDED_H
#define IV_TESTS_GUARDED_H

#include <stddef.h>
#include <stdint.h>

struct guarded {
    uint8_t *map;
    size_t map_bytes;
    void *data; // bytes long, ends at the guard page or less than `align` bytes before it
    size_t bytes;
};

// Exits the test program when memory cannot be had. align is a power of two, 1 for "as close as can be".
// The data are filled with 0xff, a NaN in every float type.
struct guarded guarded_new(size_t bytes, size_t align);
// 1 when no byte around the data was written.
int guarded_intact(const struct guarded *g);
// Kept for the next of its size: a touch of freed data faults no more than in a heap.
void guarded_free(struct guarded *g);

#endif
