// SPDX-License-Identifier: MIT
// One safetensors file, mapped and checked.
#ifndef IV_WEIGHTS_SAFETENSORS_H
#define IV_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/filemap.h"
#include "tensor/tensor.h"

// What a file may ask for; beyond these it is refused.
enum {
    ST_HEADER_MAX = 100 * 1000 * 1000, // bytes of JSON; the format's own limit
    ST_NAME_MAX = 512,                 // bytes of a tensor name
    ST_TENSOR_MAX = 1 << 17,           // tensors in a file
    ST_COPY_MAX = 1 << 30,             // bytes of misaligned tensors copied in one file
};

struct st_file {
    struct filemap map;
    struct tensor *tensor; // [n_tensor] in the order of their bytes in the file
    size_t n_tensor;
    uint64_t data_bytes; // sum of the tensors' bytes; checked to be all that follows the header
    char *names;         // storage of the tensors' names
    void *copy;          // aligned copies of tensors that the file stores misaligned; usually NULL
    size_t copy_bytes;
};

// Maps path and checks everything its header claims. Tensor data points into the map and is aligned to
// its element size; it lives until st_close. On failure (ERR_MODEL; ERR_LIMIT without memory) *f is
// zeroed and needs no st_close. Any thread.
int st_open(struct st_file *f, const char *path, struct err *e);
void st_close(struct st_file *f);

#endif
