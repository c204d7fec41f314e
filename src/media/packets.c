// SPDX-License-Identifier: MIT
// Presentation order is the order of pts (SPEC 3.2); packets of equal pts keep their file order.
//
// Easy to get wrong: a key packet serves a picture only if it also precedes it in presentation order.
// After an open-GOP key picture in the file come leading pictures that are shown before it and refer
// to the group before; for those decoding must start one key earlier.
#include "media/packets.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

int packets_add(struct packets *p, struct packet one, size_t max, const char *name, struct err *e)
{
    if (p->n >= max || p->n >= INT32_MAX)
        return err_set(e, ERR_LIMIT, "%s: more than %zu frames", name, p->n);
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 256;
        struct packet *at = mem_realloc(p->at, cap, sizeof *at);
        if (!at)
            return err_set(e, ERR_LIMIT, "%s: out of memory for %zu packets", name, cap);
        p->at = at;
        p->cap = cap;
    }
    if (p->n == 0)
        p->timed = true;
    if (one.pts == PACKET_NO_TIME)
        p->timed = false;
    p->at[p->n++] = one;
    return 0;
}

struct sort_key {
    int64_t pts;
    uint32_t index;
};

static int compare(const void *a, const void *b)
{
    const struct sort_key *x = a, *y = b;
    if (x->pts != y->pts)
        return x->pts < y->pts ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

int packets_sort(struct packets *p, const char *name, struct err *e)
{
    struct sort_key *keys = mem_calloc(p->n, sizeof *keys);
    mem_free(p->order);
    p->order = mem_calloc(p->n, sizeof *p->order);
    if (!keys || !p->order) {
        mem_free(keys);
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu packets", name, p->n);
    }
    for (size_t i = 0; i < p->n; i++)
        keys[i] = (struct sort_key){p->timed ? p->at[i].pts : 0, (uint32_t)i};
    qsort(keys, p->n, sizeof *keys, compare);
    for (size_t r = 0; r < p->n; r++) {
        p->order[r] = keys[r].index;
        p->at[keys[r].index].rank = (uint32_t)r;
    }
    mem_free(keys);
    return 0;
}

void packets_free(struct packets *p)
{
    mem_free(p->at);
    mem_free(p->order);
    memset(p, 0, sizeof *p);
}

size_t packets_entry(const struct packets *p, size_t rank)
{
    bool settled = false; // an entry between here and the picture was passed
    for (size_t i = p->order[rank]; i > 0; i--) {
        const struct packet *k = &p->at[i];
        if (k->entry == ENTRY_NO || k->rank > rank)
            continue;
        if (k->entry == ENTRY_EXACT || settled)
            return i;
        settled = true;
    }
    return 0;
}

size_t packets_first_whole(const struct packets *p)
{
    for (size_t i = 0; i < p->n && p->timed; i++) {
        if (p->at[i].entry != ENTRY_NO)
            return p->at[i].rank;
    }
    return 0;
}

double packets_seconds(const struct packets *p, size_t rank, double tb, double fps)
{
    if (p->timed)
        return ((double)p->at[p->order[rank]].pts - (double)p->at[p->order[0]].pts) * tb;
    return fps > 0 ? (double)rank / fps : 0;
}
