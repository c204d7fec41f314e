// SPDX-License-Identifier: MIT
// A .safetensors file with one tensor, written.
#ifndef IV_APPS_STFILE_H
#define IV_APPS_STFILE_H

#include <stddef.h>

#include "ivchat.h"

// A line of the file's metadata; value NULL = left out.
struct stfile_note {
    const char *key, *value;
};

// data f32 in C order, dim[n_dim], as tensor `name`. Durable and atomic. IV_ERR_FAIL for file
// errors, IV_ERR_LIMIT without memory.
int stfile_save(const char *path, const char *name, const float *data, const size_t *dim,
                unsigned n_dim, const struct stfile_note *notes, size_t n_note, struct iv_error *e);

#endif
