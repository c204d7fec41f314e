// SPDX-License-Identifier: MIT
// Times or rates of repeated runs and what they come to.
#ifndef IV_APPS_SAMPLES_H
#define IV_APPS_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

struct samples {
    double *value;
    size_t n, cap;
};

// false when memory is short or there are SAMPLES_MAX already; the others stay.
enum { SAMPLES_MAX = 1 << 20 };
bool samples_add(struct samples *s, double value);
void samples_free(struct samples *s);

// All zero without samples; the deviation (of a sample: n - 1) is zero with one.
struct summary {
    double mean, median, deviation, min, max;
};
struct summary samples_summary(const struct samples *s);

#endif
