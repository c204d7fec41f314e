// SPDX-License-Identifier: MIT
// One safetensors file. Whatever it holds, it is refused with a message or gives tensors that lie inside
// it: every byte of every tensor is read.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/safetensors.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint8_t sink; // so that reads are not optimised away

// The input as a file without touching a disk.
static const char *input_file(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("safetensors", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct st_file f;
    struct err e = {0};
    int rc = st_open(&f, input_file(data, n), &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && !f.map.data && !f.tensor);
        return 0;
    }
    size_t sum = 0;
    require(f.n_tensor > 0);
    for (size_t i = 0; i < f.n_tensor; i++) {
        const struct tensor *t = &f.tensor[i];
        require(t->data && t->name[0] && strlen(t->name) <= ST_NAME_MAX);
        require(t->bytes == 0 || (uintptr_t)t->data % dtype_bytes(t->dtype) == 0);
        size_t count = t->rank <= TENSOR_MAX_RANK ? 1 : 0;
        for (unsigned k = 0; k < t->rank; k++)
            count *= t->dim[k];
        require(count * dtype_bytes(t->dtype) == t->bytes);
        for (size_t k = 0; k < t->bytes; k++)
            sink ^= ((const uint8_t *)t->data)[k];
        sum += t->bytes;
    }
    require(sum == f.data_bytes && sum < n);
    st_close(&f);
    return 0;
}
