// SPDX-License-Identifier: MIT
// Reads the .npy files of the golden data.
#ifndef IV_TEST_NPY_H
#define IV_TEST_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum npy_kind { NPY_F32, NPY_F64, NPY_I32, NPY_I64, NPY_U8 };
enum { NPY_MAX_RANK = 8 };

// C-order, little-endian array. data has n elements of `kind`; f32/i32/... view the same bytes.
struct npy {
    enum npy_kind kind;
    unsigned rank;
    size_t dim[NPY_MAX_RANK];
    size_t n; // product of dim; 1 for rank 0
    union {
        void *data;
        float *f32;
        double *f64;
        int32_t *i32;
        int64_t *i64;
        uint8_t *u8;
    };
};

// false (and *a zeroed, one line on standard error) when the file is absent, not a .npy of version
// 1-3, big-endian, Fortran-ordered, of another type, or shorter or longer than its header says.
// npy_free releases it.
bool npy_read(struct npy *a, const char *path);
void npy_free(struct npy *a);

#endif
