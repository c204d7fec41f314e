// SPDX-License-Identifier: MIT
// An importance matrix in either form. Whatever the file holds, it is refused with a message or gives sorted
// entries of finite numbers.
#define _GNU_SOURCE // memfd_create
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/imatrix.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("imatrix", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    struct imatrix m;
    struct err e = {0};
    int rc = imatrix_open(&m, path, &e);
    if (rc != 0) {
        require((rc == ERR_MODEL || rc == ERR_LIMIT) && e.code == rc && e.msg[0] && !m.entry &&
                m.n == 0);
        return 0;
    }
    require(m.n > 0);
    for (size_t i = 0; i < m.n; i++) {
        const struct imatrix_entry *x = &m.entry[i];
        require(x->name[0] && x->n > 0 && imatrix_find(&m, x->name) == x);
        require(i == 0 || strcmp(m.entry[i - 1].name, x->name) < 0);
        for (size_t k = 0; k < x->n; k++)
            require(x->mean[k] >= 0);
    }
    imatrix_close(&m);
    return 0;
}
