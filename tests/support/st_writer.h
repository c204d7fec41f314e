// SPDX-License-Identifier: MIT
// Small safetensors files, right or wrong on purpose.
#ifndef IV_TESTS_ST_WRITER_H
#define IV_TESTS_ST_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "tempdir.h"

// Writes u64 length + header text + n_data bytes 0, 1, 2, ... (mod 256) as `name`; the header as given,
// whatever it says. Returns the path as tempdir_write does.
const char *st_write(const struct tempdir *d, const char *name, const char *header, size_t n_data);

// The same for n tensors of one dtype ("F32" ...), back to back in the given order.
struct st_spec {
    const char *name, *dtype;
    unsigned rank;
    size_t dim[6];
};
const char *st_write_specs(const struct tempdir *d, const char *name, const struct st_spec *t,
                           size_t n);

#endif
