// SPDX-License-Identifier: MIT
// Memory of the command line: the only file of apps/ that names malloc and free.
//
// What is taken here is small (lists of arguments, input lines, output lines); weights, frames and
// features belong to the library and are released with iv_free.
//
// Easy to get wrong: a size is a product, and a file or a person chooses one of its factors, so it
// is checked for overflow here rather than by every caller. Zero bytes are one byte, so that NULL
// always means that memory ran out.

#include "heap.h"

#include <stdbool.h>
#include <stdlib.h>

static bool product(size_t n, size_t size, size_t *out)
{
    if (__builtin_mul_overflow(n, size, out))
        return false;
    if (*out == 0)
        *out = 1;
    return true;
}

void *heap_calloc(size_t n, size_t size)
{
    size_t bytes;
    return product(n, size, &bytes) ? calloc(1, bytes) : NULL;
}

void *heap_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    return product(n, size, &bytes) ? realloc(p, bytes) : NULL;
}

void heap_free(void *p)
{
    free(p);
}
