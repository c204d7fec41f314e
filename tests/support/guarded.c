// SPDX-License-Identifier: MIT
// Guarded buffers: one mapping, its last page without access, the data pushed against that page and
// everything else of the mapping filled with a known byte.
#include "guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0x5c, FRONT = 256 };

struct guarded guarded_new(size_t bytes, size_t align)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (bytes + align + FRONT + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + page, .bytes = bytes};
    void *map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect((uint8_t *)map + body, page, PROT_NONE) != 0) {
        perror("guarded_new");
        exit(1);
    }
    g.map = map;
    g.data = g.map + (body - bytes) / align * align;
    memset(g.map, CANARY, body);
    memset(g.data, 0xff, bytes);
    return g;
}

int guarded_intact(const struct guarded *g)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint8_t *end = g->map + g->map_bytes - page, *data = g->data;
    for (const uint8_t *p = data - FRONT; p < data; p++)
        if (*p != CANARY)
            return 0;
    for (const uint8_t *p = data + g->bytes; p < end; p++)
        if (*p != CANARY)
            return 0;
    return 1;
}

void guarded_free(struct guarded *g)
{
    if (g->map)
        munmap(g->map, g->map_bytes);
    *g = (struct guarded){0};
}
