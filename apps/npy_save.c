// SPDX-License-Identifier: MIT
// The .npy format, version 1.0 (NumPy's format specification, numpy.lib.format):
//
//   OFFSET  SIZE  MEANING
//   0       6     93 'N' 'U' 'M' 'P' 'Y'
//   6       2     version 1, 0
//   8       2     n, bytes of the header, little-endian
//   10      n     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 96, 128), } padded with
//                 blanks to a multiple of 64 bytes from the file's start, newline last
//   10 + n        the elements, C order
//
// Easy to get wrong: a shape of one dimension needs its comma, "(5,)"; the padding counts from
// the file's start, not from the header's.

#include "npy_save.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "savefile.h"

enum { RANK_MAX = 8 };

static const struct {
    const char *name, *descr;
    size_t bytes;
} types[] = {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    {"f32", "<f4", 4}, {"float32", "<f4", 4}, {"i32", "<i4", 4}, {"int32", "<i4", 4},
#else
    {"f32", ">f4", 4}, {"float32", ">f4", 4}, {"i32", ">i4", 4}, {"int32", ">i4", 4},
#endif
    {"u8", "|u1", 1},
};

static size_t type_index(const char *dtype)
{
    size_t i = 0;
    while (i < sizeof types / sizeof *types && strcmp(types[i].name, dtype) != 0)
        i++;
    return i;
}

size_t npy_bytes(const char *dtype, const size_t *dim, unsigned n_dim, struct iv_error *e)
{
    size_t type = type_index(dtype), bytes;
    if (type == sizeof types / sizeof *types || n_dim > RANK_MAX) {
        (void)app_error(e, IV_ERR_USAGE, "cannot write %u dimensions of type \"%s\"", n_dim, dtype);
        return 0;
    }
    bytes = types[type].bytes;
    for (unsigned i = 0; i < n_dim; i++) {
        if (dim[i] == 0 || __builtin_mul_overflow(bytes, dim[i], &bytes)) {
            (void)app_error(e, IV_ERR_USAGE, "dimension %u of an array is %zu", i, dim[i]);
            return 0;
        }
    }
    return bytes;
}

// Header with magic and padding in out; its length.
static size_t header(char out[512], const char *descr, const size_t *dim, unsigned n_dim)
{
    size_t n = 10;
    n += (size_t)snprintf(out + n, 512 - n, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                          descr);
    for (unsigned i = 0; i < n_dim; i++)
        n += (size_t)snprintf(out + n, 512 - n, "%s%zu", i ? ", " : "", dim[i]);
    n += (size_t)snprintf(out + n, 512 - n, "%s), }", n_dim == 1 ? "," : "");
    size_t all = (n + 1 + 63) / 64 * 64;
    memset(out + n, ' ', all - n);
    out[all - 1] = '\n';
    size_t rest = all - 10;
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)(rest & 0xff);
    out[9] = (char)(rest >> 8);
    return all;
}

int npy_save(const char *path, const char *dtype, const void *data, const size_t *dim,
             unsigned n_dim, bool durable, struct iv_error *e)
{
    struct savefile f;
    char head[512];
    size_t bytes = npy_bytes(dtype, dim, n_dim, e);
    if (bytes == 0)
        return e->code;
    size_t n = header(head, types[type_index(dtype)].descr, dim, n_dim);

    int rc = savefile_open(&f, path, e);
    if (rc != IV_OK)
        return rc;
    rc = savefile_write(&f, head, n, e);
    if (rc == IV_OK)
        rc = savefile_write(&f, data, bytes, e);
    if (rc == IV_OK)
        return savefile_commit(&f, durable, e);
    savefile_abandon(&f);
    return rc;
}
