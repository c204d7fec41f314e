// SPDX-License-Identifier: MIT
// One GGUF file. Whatever it holds, it is refused with a message or gives tensors that lie inside
// it: every byte of every tensor is read. Its values are taken for those of both files of a pair: a configuration
// that is accepted must hold all that the rest of the program relies on.
#define _GNU_SOURCE // memfd_create
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config_rules.h"
#include "model/gguf_names.h"
#include "weights/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint8_t sink; // so that reads are not optimised away

// The input as a file without touching a disk.
static const char *input_file(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("gguf", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gguf_file f;
    struct err e = {0};
    int rc = gguf_open(&f, input_file(data, n), &e);
    if (rc != 0) {
        require(rc == ERR_MODEL && e.code == rc && e.msg[0] && !f.map.data && !f.tensor);
        return 0;
    }
    for (size_t i = 0; i < f.n_value; i++) {
        const struct gguf_value *v = &f.value[i];
        const uint8_t *at = v->data;
        for (size_t k = 0; v->item == GGUF_STRING && k < v->n; k++) {
            struct gguf_text t = gguf_next_text(&at);
            for (size_t c = 0; c < t.n; c++)
                sink ^= (uint8_t)t.p[c];
        }
        char key[GGUF_KEY_MAX + 1];
        snprintf(key, sizeof key, "%.*s", (int)v->key.n, v->key.p);
        require(gguf_find(&f, key) == v);
        double x;
        size_t u;
        gguf_get_real(&f, key, true, -1e300, 1e300, &x, &e);
        gguf_get_size(&f, key, true, 0, SIZE_MAX, &u, &e);
    }
    struct model_config c;
    if (gguf_config(&c, &f, &f, &e) == 0) {
        require_llm(&c.llm);
        require_vision(&c);
    }
    for (size_t i = 0; i < f.n_tensor; i++) {
        const struct tensor *t = &f.tensor[i];
        require(t->data && t->name[0] && strlen(t->name) <= GGUF_NAME_MAX);
        require((uintptr_t)t->data % 8 == 0 && t->rank >= 1 && t->rank <= GGUF_RANK_MAX);
        size_t count = 1, bytes;
        for (unsigned k = 0; k < t->rank; k++)
            count *= t->dim[k];
        require(dtype_size(t->dtype, count, &bytes) && bytes == t->bytes);
        for (size_t k = 0; k < t->bytes; k++)
            sink ^= ((const uint8_t *)t->data)[k];
    }
    gguf_close(&f);
    return 0;
}
