// SPDX-License-Identifier: MIT
// Medians of measured times; the times are put in order.
#ifndef IV_TESTS_GPU_MEDIAN_H
#define IV_TESTS_GPU_MEDIAN_H

#include <stdlib.h>

static inline int median_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, median_order);
    return v[n / 2];
}

static inline int median_order_float(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Of cudaEventElapsedTime's.
static inline double median_float(float *v, size_t n)
{
    qsort(v, n, sizeof *v, median_order_float);
    return (double)v[n / 2];
}

#endif
