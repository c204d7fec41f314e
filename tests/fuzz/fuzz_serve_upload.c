// SPDX-License-Identifier: MIT
// A multipart body behind the line of its Content-Type.
#include <stdlib.h>
#include <string.h>

#include "heap.h"
#include "multipart.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct multipart_file f;
    const uint8_t *line = memchr(data, '\n', n);
    if (!line)
        return 0;
    size_t head = (size_t)(line - data);
    char *type = heap_calloc(head + 1, 1), *body = heap_calloc(n - head, 1);
    if (type && body) {
        memcpy(type, data, head);
        memcpy(body, line + 1, n - head - 1);
        if (multipart_type(type) && multipart_read(&f, type, body, n - head - 1) &&
            (f.bytes < body || f.bytes + f.n > body + n - head - 1 || strchr(f.name, '/')))
            abort();
    }
    heap_free(type);
    heap_free(body);
    return 0;
}
