// SPDX-License-Identifier: MIT
// The id array: growth by half again, never past max.
// A failed addition leaves the array untouched, so a caller may drop what it began and go on.
#include "text/ids.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"

int ids_append(struct ids *a, const int32_t *id, size_t n, struct err *e)
{
    size_t max = a->max ? a->max : IDS_MAX_DEFAULT, need;
    if (!add_size(a->n, n, &need) || need > max)
        return err_set(e, ERR_LIMIT, "token ids: %zu and %zu more, at most %zu", a->n, n, max);
    if (need > a->cap) {
        size_t cap = max_size(64, min_size(max, need + need / 2));
        int32_t *v = mem_realloc(a->v, cap, sizeof *v);
        if (!v)
            return err_set(e, ERR_LIMIT, "token ids: out of memory for %zu", cap);
        a->v = v;
        a->cap = cap;
    }
    if (n)
        memcpy(a->v + a->n, id, n * sizeof *id);
    a->n = need;
    return 0;
}

int ids_add(struct ids *a, int32_t id, struct err *e)
{
    return ids_append(a, &id, 1, e);
}

int ids_poll(const struct ids *a, size_t step, struct err *e)
{
    enum { EVERY = 4096 };
    if (step % EVERY != 0 || !hooks_abort(a->hooks))
        return 0;
    return err_set(e, ERR_ABORT, "stopped while a text was tokenised");
}

void ids_reset(struct ids *a)
{
    a->n = 0;
}

void ids_free(struct ids *a)
{
    mem_free(a->v);
    size_t max = a->max;
    memset(a, 0, sizeof *a);
    a->max = max;
}
