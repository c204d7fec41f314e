// SPDX-License-Identifier: MIT
// Text of shapes for messages. A shape that does not fit is cut, never overrun: dims come from files.
#include "tensor/tensor.h"

#include <assert.h>
#include <stdio.h>

const char *shape_text(const size_t *dim, unsigned rank, char *out, size_t cap)
{
    size_t n = 0;
    if (cap == 0)
        return out;
    out[0] = 0;
    for (unsigned i = 0; i <= rank && n < cap; i++) {
        int k = i < rank ? snprintf(out + n, cap - n, "%c%zu", i ? ',' : '[', dim[i])
                         : snprintf(out + n, cap - n, "%s]", rank ? "" : "[");
        n += k < 0 ? cap : (size_t)k;
    }
    return out;
}

void tensor_drop_batch(struct tensor *t)
{
    assert(t->rank == 3 && t->dim[0] == 1);
    t->dim[0] = t->dim[1];
    t->dim[1] = t->dim[2];
    t->rank = 2;
}
