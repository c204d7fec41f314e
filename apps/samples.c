// SPDX-License-Identifier: MIT
// Mean, median and deviation of measured times.
#include "samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "heap.h"

bool samples_add(struct samples *s, double value)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        double *more = s->n < SAMPLES_MAX ? heap_realloc(s->value, cap, sizeof *more) : NULL;
        if (!more)
            return false;
        s->value = more;
        s->cap = cap;
    }
    s->value[s->n++] = value;
    return true;
}

void samples_free(struct samples *s)
{
    heap_free(s->value);
    *s = (struct samples){0};
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

struct summary samples_summary(const struct samples *s)
{
    struct summary r = {0};
    double squares = 0;
    double *sorted = s->n > 0 ? heap_calloc(s->n, sizeof *sorted) : NULL;
    if (!sorted)
        return r;
    memcpy(sorted, s->value, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, compare);
    r.min = sorted[0];
    r.max = sorted[s->n - 1];
    r.median = (sorted[(s->n - 1) / 2] + sorted[s->n / 2]) / 2;
    for (size_t i = 0; i < s->n; i++)
        r.mean += sorted[i] / (double)s->n;
    for (size_t i = 0; i < s->n; i++)
        squares += (sorted[i] - r.mean) * (sorted[i] - r.mean);
    if (s->n > 1)
        r.deviation = sqrt(squares / (double)(s->n - 1));
    heap_free(sorted);
    return r;
}
