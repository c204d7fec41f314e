// SPDX-License-Identifier: MIT
// A count of holders in front of an array. Easy to get wrong: the one who drops last must see what
// the others wrote before they dropped, hence acquire and release.
#include "engine/shared_rows.h"

#include "base/mem.h"
#include "base/size.h"

int shared_rows_new(size_t n, size_t d, struct shared_rows **out, struct err *e)
{
    size_t bytes;
    struct shared_rows *r = NULL;
    *out = NULL;
    if (mul_size(n, d, &bytes) && mul_size(bytes, sizeof r->v[0], &bytes) &&
        add_size(bytes, sizeof *r, &bytes))
        r = mem_calloc(bytes, 1);
    if (!r)
        return err_set(e, ERR_LIMIT, "visual rows: out of memory for [%zu,%zu]", n, d);
    atomic_store_explicit(&r->n_holder, 1, memory_order_relaxed);
    r->n = n;
    r->d = d;
    *out = r;
    return 0;
}

struct shared_rows *shared_rows_hold(struct shared_rows *r)
{
    if (r)
        atomic_fetch_add_explicit(&r->n_holder, 1, memory_order_relaxed);
    return r;
}

void shared_rows_drop(struct shared_rows **r)
{
    if (*r && atomic_fetch_sub_explicit(&(*r)->n_holder, 1, memory_order_acq_rel) == 1)
        mem_free(*r);
    *r = NULL;
}

size_t shared_rows_bytes(const struct shared_rows *r)
{
    return r->n * r->d * sizeof r->v[0];
}
