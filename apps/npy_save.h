// SPDX-License-Identifier: MIT
// NumPy .npy files, written.
#ifndef IV_APPS_NPY_SAVE_H
#define IV_APPS_NPY_SAVE_H

#include <stdbool.h>
#include <stddef.h>

#include "ivchat.h"

// One array in C order, in the machine's byte order. dtype: "f32", "i32", "u8". dim[n_dim],
// n_dim <= 8; data has their product of elements. IV_ERR_FAIL for file errors, IV_ERR_USAGE for
// a dtype or rank it cannot write; the file is then as it was.
int npy_save(const char *path, const char *dtype, const void *data, const size_t *dim,
             unsigned n_dim, bool durable, struct iv_error *e);

// Bytes of the elements; 0 and a message in e when the type is unknown or the product overflows.
size_t npy_bytes(const char *dtype, const size_t *dim, unsigned n_dim, struct iv_error *e);

#endif
