// SPDX-License-Identifier: MIT
// The container of saved conversations: whatever the bytes, a refusal with a reason or sections that lie
// inside the file. The header's checksum is made to fit, since no mutation would.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checkedfile.h"
#include "engine/saved.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { SUMMED = 1056, HEADER = 1088 };

static const char *input_file(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    uint8_t digest[SHA256_BYTES];
    struct sha256 s = {0};
    struct err e;
    if (fd < 0) {
        fd = memfd_create("checkedfile", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    if (n >= HEADER) {
        require(sha256_begin(&s, &e) == 0 && sha256_add(&s, data, SUMMED, &e) == 0 &&
                sha256_end(&s, digest, &e) == 0);
        require(pwrite(fd, digest, sizeof digest, SUMMED) == (ssize_t)sizeof digest);
    }
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct checked_reader r;
    struct err e = {0};
    int rc = checked_open(&r, input_file(data, n), &saved_kind, NULL, &e);
    if (rc != 0) {
        require(rc == ERR_FAIL && e.msg[0] && r.fd == -1);
        return 0;
    }
    require(r.n >= 1 && r.n <= CHECKED_SECTIONS_MAX);
    for (size_t i = 0; i < r.n; i++) {
        const struct checked_section *s = &r.section[i];
        require(s->offset >= HEADER && s->offset <= n && s->size <= n - s->offset);
        char *bytes = malloc(s->size ? s->size : 1);
        require(bytes != NULL);
        rc = checked_read(&r, s->name, bytes, s->size, &e);
        require(rc == 0 || rc == ERR_FAIL);
        free(bytes);
    }
    checked_close(&r);
    return 0;
}
