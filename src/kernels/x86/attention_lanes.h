// SPDX-License-Identifier: MIT
// What the attentions with queries in the lanes share, whatever their keys are made of: a tile is TILE_QUERIES queries,
// its results lie transposed, [d, C * LANES]. The including file has named a lanes_*.h first.
#ifndef IV_KERNELS_X86_ATTENTION_LANES_H
#define IV_KERNELS_X86_ATTENTION_LANES_H

#include "base/size.h"
#include "kernels/kernels.h"

enum { TILE_QUERIES = 2 * LANES };

// n rows of d, pages apart.
static inline void ask_rows(const float *x, size_t stride, size_t n, size_t d)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < d; c += LANES)
            __builtin_prefetch(x + i * stride + c, 0, 2);
}

// What the tile at query i writes and the next one reads.
static inline void ask_queries(const struct attention_job *j, size_t i, size_t h)
{
    size_t next = min_size(i + TILE_QUERIES, j->n_q), end = min_size(next + TILE_QUERIES, j->n_q);
    for (size_t q = i; q < next; q++)
        for (size_t c = 0; c < j->d; c += LANES)
            __builtin_prefetch(j->y + q * j->y_stride + h * j->d + c, 1, 2);
    ask_rows(j->q + next * j->q_stride + h * j->d, j->q_stride, end - next, j->d);
}

// y of the n queries from i on of head h: acc over the totals.
static inline __attribute__((always_inline)) void tile_results(const struct attention_job *j,
                                                               const float *acc, size_t i, size_t h,
                                                               size_t n, lanes total0, lanes total1,
                                                               const int C)
{
    for (int c = 0; c < C; c++) {
        const lanes one = lanes_div(lanes_set(1.0f), c == 0 ? total0 : total1);
        size_t from = (size_t)c * LANES, rows = min_size(LANES, n - from);
        float *y = j->y + (i + from) * j->y_stride + h * j->d;
        for (size_t o = 0; o < j->d; o += LANES) {
            size_t some = min_size(LANES, j->d - o);
            const float *column = acc + o * LANES * (size_t)C + from;
            lanes r[LANES];
#pragma GCC unroll 16
            for (size_t q = 0; q < LANES; q++)
                r[q] = q < some ? lanes_mul(lanes_load(column + q * LANES * (size_t)C), one)
                                : lanes_zero();
            lanes_transpose(r);
#pragma GCC unroll 16
            for (size_t q = 0; q < LANES; q++)
                if (q < rows)
                    lanes_store_n(y + q * j->y_stride + o, r[q], some);
        }
    }
}

#endif
