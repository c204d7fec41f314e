// SPDX-License-Identifier: MIT
// Pieces lie end to end in one block; the table holds numbers only, at most half full, so that a
// look-up costs about one comparison. Linear probing over a 64-bit FNV-1a hash with a final mix.
//
// Easy to get wrong: piece lengths and counts come from a file, and a file made to collide would turn
// loading into a quadratic walk. So the length of a probe is bounded: honest vocabularies of
// VOCAB_COUNT_MAX pieces stay below a tenth of the bound.
#include "text/vocab.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

enum { PROBE_MAX = 1024, SHOWN_MAX = 60 };

int piece_shown(const char *p, size_t n)
{
    size_t k = min_size(n, SHOWN_MAX);
    while (k && k < n && ((unsigned char)p[k] & 0xC0) == 0x80)
        k--;
    return (int)k;
}

static size_t hash(const char *p, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h ^ h >> 29);
}

int vocab_init(struct vocab *v, size_t cap, size_t bytes, const char *name, struct err *e)
{
    memset(v, 0, sizeof *v);
    if (cap == 0 || cap > VOCAB_COUNT_MAX)
        return err_set(e, ERR_MODEL, "%s: %zu pieces, 1 to %d are accepted", name, cap,
                       VOCAB_COUNT_MAX);
    if (bytes > UINT32_MAX)
        return err_set(e, ERR_MODEL, "%s: pieces of %zu bytes in all, at most %" PRIu32, name,
                       bytes, UINT32_MAX);
    v->n_slot = 16;
    while (v->n_slot < 2 * cap)
        v->n_slot *= 2;
    v->cap = cap;
    v->bytes_cap = bytes;
    v->bytes = mem_calloc(bytes, 1);
    v->end = mem_calloc(cap, sizeof *v->end);
    v->slot = mem_calloc(v->n_slot, sizeof *v->slot);
    if (!v->bytes || !v->end || !v->slot)
        return err_set(e, ERR_LIMIT, "%s: out of memory for %zu pieces", name, cap);
    return 0;
}

void vocab_free(struct vocab *v)
{
    mem_free(v->bytes);
    mem_free(v->end);
    mem_free(v->slot);
    memset(v, 0, sizeof *v);
}

const char *vocab_piece(const struct vocab *v, size_t id, size_t *n)
{
    size_t begin = id ? v->end[id - 1] : 0;
    *n = v->end[id] - begin;
    return v->bytes + begin;
}

int32_t vocab_find(const struct vocab *v, const char *p, size_t n)
{
    if (n == 0 || n > v->longest)
        return -1;
    size_t mask = v->n_slot - 1;
    for (size_t i = hash(p, n) & mask; v->slot[i]; i = (i + 1) & mask) {
        size_t len;
        const char *q = vocab_piece(v, v->slot[i] - 1, &len);
        if (len == n && memcmp(p, q, n) == 0)
            return (int32_t)(v->slot[i] - 1);
    }
    return -1;
}

int vocab_add(struct vocab *v, const char *p, size_t n, const char *name, struct err *e)
{
    if (n == 0)
        return err_set(e, ERR_MODEL, "%s: piece %zu is empty", name, v->n);
    if (n > VOCAB_PIECE_MAX)
        return err_set(e, ERR_MODEL, "%s: piece %zu has %zu bytes, at most %d are accepted", name,
                       v->n, n, VOCAB_PIECE_MAX);
    size_t used = v->n ? v->end[v->n - 1] : 0;
    if (v->n == v->cap || n > v->bytes_cap - used)
        return err_set(e, ERR_FAIL, "%s: vocabulary made for %zu pieces of %zu bytes is full", name,
                       v->cap, v->bytes_cap);
    size_t mask = v->n_slot - 1, i = hash(p, n) & mask;
    for (size_t k = 0; v->slot[i]; i = (i + 1) & mask, k++) {
        size_t len;
        const char *q = vocab_piece(v, v->slot[i] - 1, &len);
        if (len == n && memcmp(p, q, n) == 0)
            return err_set(e, ERR_MODEL, "%s: piece %zu repeats piece %" PRIu32 " \"%.*s\"", name,
                           v->n, v->slot[i] - 1, piece_shown(p, n), p);
        if (k == PROBE_MAX)
            return err_set(e, ERR_MODEL, "%s: more than %d pieces collide at piece %zu", name,
                           PROBE_MAX, v->n);
    }
    memcpy(v->bytes + used, p, n);
    v->end[v->n] = (uint32_t)(used + n);
    v->slot[i] = (uint32_t)++v->n;
    v->longest = max_size(v->longest, n);
    return 0;
}
