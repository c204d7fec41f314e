// SPDX-License-Identifier: MIT
// An importance matrix: for each weight matrix how much each of its inputs counts, the mean of its squares
// over what a model was shown. Names are those of the tensors in the GGUF files.
#ifndef IV_WEIGHTS_IMATRIX_H
#define IV_WEIGHTS_IMATRIX_H

#include <stddef.h>

#include "base/err.h"
#include "base/log.h"

struct imatrix_entry {
    char *name;
    size_t n;
    float *mean; // [n], finite, >= 0
};

struct imatrix {
    struct imatrix_entry *entry; // [n] by name
    size_t n;
};

// Reads a GGUF file of general.type "imatrix" or llama.cpp's older .dat. On failure (ERR_MODEL naming what is
// wrong, ERR_LIMIT) *m is zeroed.
int imatrix_open(struct imatrix *m, const char *path, struct err *e);
void imatrix_close(struct imatrix *m);
// NULL = not there.
const struct imatrix_entry *imatrix_find(const struct imatrix *m, const char *name);

// What a matrix was shown: sums of squares over `rows` rows.
struct imatrix_sums {
    const char *name;
    size_t n;
    const double *sum; // [n]
    double rows;       // > 0
};
// Writes the GGUF form, which llama.cpp's tools read too. dataset: a word on what was shown.
int imatrix_write(const char *path, const struct imatrix_sums *s, size_t n, const char *dataset,
                  const struct hooks *hooks, struct err *e);

#endif
