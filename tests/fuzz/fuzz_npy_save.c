// SPDX-License-Identifier: MIT
// The .npy writer and the tests' reader: whatever is written comes back with its type, shape and bytes, and
// what cannot be written is refused without a file.
//
// Input: byte 0 the type, byte 1 the rank, then one byte a dim, then the elements (repeated as needed).
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "npy.h"
#include "npy_save.h"

enum { BYTES_MAX = 1 << 16 };

static void round_trip(const char *path, const char *dtype, const uint8_t *bytes, size_t n_bytes,
                       const size_t *dim, unsigned rank, size_t total)
{
    static uint8_t data[BYTES_MAX];
    struct iv_error e;
    struct npy back;
    for (size_t i = 0; i < total; i++)
        data[i] = n_bytes ? bytes[i % n_bytes] : 0;
    assert(npy_save(path, dtype, data, dim, rank, false, &e) == IV_OK);
    bool read = npy_read(&back, path);
    assert(read && back.rank == rank && back.n * npy_bytes(dtype, (size_t[]){1}, 1, &e) == total);
    for (unsigned i = 0; i < rank; i++)
        assert(back.dim[i] == dim[i]);
    assert(memcmp(back.data, data, total) == 0);
    assert((dtype[0] == 'f') == (back.kind == NPY_F32) &&
           (dtype[0] == 'u') == (back.kind == NPY_U8));
    npy_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const types[] = {"f32", "i32", "u8", "f64"};
    char path[64];
    struct iv_error e = {0};
    size_t dim[16], total;
    if (n < 2)
        return 0;
    const char *dtype = types[p[0] % 4];
    unsigned rank = p[1] % 10;
    if (n < 2 + rank)
        return 0;
    for (unsigned i = 0; i < rank; i++) // the odd byte asks for a dim that overflows
        dim[i] = p[2 + i] == 255 ? SIZE_MAX / 3 : p[2 + i] % 32;
    snprintf(path, sizeof path, "/tmp/fuzz_npy.%ld", (long)getpid());
    unlink(path);
    bool known = strcmp(dtype, "f64") != 0 && rank <= NPY_MAX_RANK;
    total = known ? npy_bytes(dtype, dim, rank, &e) : 0;
    if (known && e.code == 0 && total <= BYTES_MAX) {
        round_trip(path, dtype, p + 2 + rank, n - 2 - rank, dim, rank, total);
    } else if (!known) {
        int rc = npy_save(path, dtype, p, dim, rank, false, &e);
        assert(rc == IV_ERR_USAGE && access(path, F_OK) != 0);
    }
    unlink(path);
    return 0;
}
