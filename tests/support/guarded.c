// SPDX-License-Identifier: MIT
// Guarded buffers: one mapping, its last page without access, the data pushed against that page, and what is near the
// data filled with a known byte. Mappings are used again: to make one, and its pages one by one, is most of what a check
// of small sizes would do. For one thread.
#include "guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 0x5c, FRONT = 256, SPARES = 32 };

static struct spare {
    uint8_t *map;
    size_t bytes;
} spares[SPARES]; // bytes == 0: none

static uint8_t *map_new(size_t body, size_t page)
{
    for (size_t i = 0; i < SPARES; i++)
        if (spares[i].bytes == body + page) {
            spares[i].bytes = 0;
            return spares[i].map;
        }
    uint8_t *map =
        mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + body, page, PROT_NONE) != 0) {
        perror("guarded_new");
        exit(1);
    }
    return map;
}

struct guarded guarded_new(size_t bytes, size_t align)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = page;
    while (body < bytes + align + FRONT) // few sizes, so that a spare one fits
        body += body < 16 * page ? page : body / 4 / page * page;
    struct guarded g = {.map_bytes = body + page, .bytes = bytes};
    g.map = map_new(body, page);
    g.data = g.map + (body - bytes) / align * align;
    memset((uint8_t *)g.data - FRONT, CANARY, (size_t)(g.map + body - (uint8_t *)g.data) + FRONT);
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
    static size_t next;
    if (g->map) {
        struct spare *to = &spares[next++ % SPARES];
        for (size_t i = 0; i < SPARES && to->bytes > 0; i++)
            to = &spares[(next + i) % SPARES];
        if (to->bytes > 0)
            munmap(to->map, to->bytes);
        *to = (struct spare){g->map, g->map_bytes};
    }
    *g = (struct guarded){0};
}
