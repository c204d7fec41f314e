// SPDX-License-Identifier: MIT
// A tensor as it stands in a file: name, type, shape, bytes. No maths.
#ifndef IV_TENSOR_TENSOR_H
#define IV_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>

#include "tensor/dtype.h"

enum { TENSOR_MAX_RANK = 5 };

// Row-major, last dim contiguous. data points into a mapped file (read-only, any alignment that the
// file gives) or into the loader's arena; NULL = the tensor is absent (optional ones).
struct tensor {
    const void *data;
    enum dtype dtype;
    unsigned rank;
    size_t dim[TENSOR_MAX_RANK];
    size_t bytes;
    const char *name; // owned by the weights it came from
};

// A linear layer y = x W^T + b [+ scale * (x A^T) B^T], as PyTorch stores it.
struct linear {
    struct tensor w;      // [d_out, d_in]
    struct tensor b;      // [d_out] or absent
    struct tensor lora_a; // [r, d_in] or absent
    struct tensor lora_b; // [d_out, r] or absent
    float lora_scale;     // alpha / r; 0 without LoRA
    bool fine;            // not to be computed in 8 bits
};

static inline bool tensor_present(const struct tensor *t)
{
    return t->data != NULL;
}

// [1, rows, cols] -> [rows, cols]: drops PyTorch's batch dimension.
void tensor_drop_batch(struct tensor *t);

// Writes "[a,b,c]" (truncated to cap bytes with the zero) and returns out.
const char *shape_text(const size_t *dim, unsigned rank, char *out, size_t cap);

#endif
