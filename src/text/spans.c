// SPDX-License-Identifier: MIT
// Spans to one text plus the list of places where control tokens may be recognised. Everything else in the
// tokenizers sees one continuous text, so a border between spans changes no id by itself.
//
// Easy to get wrong: two neighbouring special spans are one range, so that a control token may cross
// their border; an empty span between them does not part them.
#include "text/spans.h"

#include <string.h>

#include "base/mem.h"
#include "base/size.h"

int joined_init(struct joined *x, size_t bytes, size_t n_range, struct err *e)
{
    memset(x, 0, sizeof *x);
    x->p = mem_calloc(bytes, 1);
    x->special = mem_calloc(n_range, sizeof *x->special);
    if (!x->p || !x->special)
        return err_set(e, ERR_LIMIT, "text to tokenise: out of memory for %zu bytes", bytes);
    return 0;
}

void joined_free(struct joined *x)
{
    mem_free(x->p);
    mem_free(x->special);
    memset(x, 0, sizeof *x);
}

int joined_from_spans(struct joined *x, const struct text_span *span, size_t n_span, struct err *e)
{
    size_t n = 0;
    int rc = 0;
    memset(x, 0, sizeof *x);
    for (size_t i = 0; i < n_span; i++)
        if (!add_size(n, span[i].n, &n) || n > TEXT_MAX)
            return err_set(e, ERR_LIMIT, "text to tokenise: more than %d bytes", TEXT_MAX);
    TRY(joined_init(x, n, n_span, e));
    for (size_t i = 0; i < n_span; i++) {
        if (span[i].n == 0)
            continue;
        memcpy(x->p + x->n, span[i].p, span[i].n);
        if (span[i].special) {
            if (!x->n_special || x->special[x->n_special - 1].end != x->n)
                x->special[x->n_special++].begin = x->n;
            x->special[x->n_special - 1].end = x->n + span[i].n;
        }
        x->n += span[i].n;
    }
fail:
    return rc;
}

size_t joined_special_left(const struct joined *x, size_t at, size_t *cursor)
{
    while (*cursor < x->n_special && x->special[*cursor].end <= at)
        ++*cursor;
    if (*cursor == x->n_special || x->special[*cursor].begin > at)
        return 0;
    return x->special[*cursor].end - at;
}
