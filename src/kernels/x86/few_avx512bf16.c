// SPDX-License-Identifier: MIT
// Dot products of several rows with weights in BF16 in AVX512-BF16.
//
// The cores' reading of memory and their products take about as long with eight rows of x, so neither may wait for the
// other: what comes from memory must be asked for early, and nothing else may miss L1. Eight rows of x are larger than
// that. So a group of rows of W goes through a stretch of x that stays in L1, before the next stretch; sums wait in
// between, whole vectors of them, so that each is what few_lanes.h gives, to the bit.
//
// A tile is a few rows of W by all rows of x, up to 24 sums in registers. It asks for the weights of the next tile.
#include "kernels/x86/cells_avx512bf16.h"

#include "base/size.h"
#include "kernels/few_lanes.h"
#include "kernels/tiers.h"
#include "kernels/x86/tiers_blocks.h"

enum {
    STRETCH = 1 << 13, // inputs of all rows that stay in L1, beside sums and what W brings
    GROUP = 48,        // outputs that share a stretch: whole tiles
    TILE = 4,          // most rows of W in a tile
    STEP = 32,         // inputs
    STEP_BYTES = 2 * STEP,
};

_Static_assert(GROUP % 3 == 0 && GROUP % TILE == 0, "a group is whole tiles of each height");

typedef float group_sums[GROUP][KERNEL_FEW_ROWS][LANES];

// In assembly, since gcc 12 copies the accumulator of the intrinsic.
ALWAYS_INLINE lanes dot_add(lanes sum, lanes x, lanes w)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}

// Rows of W, behind the last one that one again, and a stretch of x.
struct tile {
    const uint8_t *w[TILE];
    uintptr_t
        next;   // a row of the next tile, perhaps behind W's end: asked for meanwhile, with those
    size_t row; // that follow, so many bytes from one to the next
    const uint8_t *x; // rows x_row bytes apart
    size_t x_row, n;  // n inputs
    bool first;       // of the rows: sums begin here
};

// sum[row of W][row of x] of R and M rows, or += if it is not the first stretch, over whole steps.
ALWAYS_INLINE void dots(float (*sum)[KERNEL_FEW_ROWS][LANES], int M, int R, const struct tile *t)
{
    lanes a[TILE][KERNEL_FEW_ROWS];
#pragma GCC unroll 4
    for (int c = 0; c < R; c++)
#pragma GCC unroll 8
        for (int r = 0; r < M; r++)
            a[c][r] = t->first ? lanes_zero() : lanes_load(sum[c][r]);
    const uint8_t *w[TILE] = {t->w[0], t->w[1], t->w[2], t->w[3]};
    // rows 0, 3 and 6 of x, those between them a row or two behind: few registers
    const uint8_t *x[3] = {t->x, t->x + (M > 3 ? 3 : 0) * t->x_row,
                           t->x + (M > 6 ? 6 : 0) * t->x_row};
    uintptr_t next = t->next;
    for (size_t i = 0; i < t->n / STEP; i++) {
        lanes v[TILE];
#pragma GCC unroll 4
        for (int c = 0; c < R; c++)
            v[c] = lanes_load(w[c]);
#pragma GCC unroll 8
        for (int r = 0; r < M; r++) {
            lanes u = lanes_load(x[r / 3] + (size_t)(r % 3) * t->x_row);
#pragma GCC unroll 4
            for (int c = 0; c < R; c++)
                a[c][r] = dot_add(a[c][r], u, v[c]);
        }
#pragma GCC unroll 4
        for (int c = 0; c < R; c++) {
            __builtin_prefetch((const void *)(next + (size_t)c * t->row), 0, 3);
            w[c] += STEP_BYTES;
        }
        next += STEP_BYTES;
        x[0] += STEP_BYTES, x[1] += STEP_BYTES, x[2] += STEP_BYTES;
    }
#pragma GCC unroll 4
    for (int c = 0; c < R; c++)
#pragma GCC unroll 8
        for (int r = 0; r < M; r++)
            lanes_store(sum[c][r], a[c][r]);
}

// What is left of n rows of W behind their last whole step: `rest` inputs, from w and x on.
static void add_rest(group_sums sum, size_t M, const uint8_t *w, size_t n, size_t row,
                     const uint8_t *x, size_t x_row, size_t rest)
{
    for (size_t c = 0; c < n; c++)
        for (size_t r = 0; r < M; r++) {
            lanes v = cells_weights_n(w + c * row, DT_BF16, true, rest);
            v = cells_fma(lanes_load(sum[c][r]), lanes_load(x + r * x_row), v);
            lanes_store(sum[c][r], v);
        }
}

// Outputs [o, o + n) of the job from their sums.
ALWAYS_INLINE void finish(const struct product_job *j, group_sums sum, int M, size_t o, size_t n)
{
    for (size_t c = 0; c < n; c += 4) {
        const size_t last = n - 1;
        float(*s1)[LANES] = sum[min_size(c + 1, last)], (*s2)[LANES] = sum[min_size(c + 2, last)],
        (*s3)[LANES] = sum[min_size(c + 3, last)];
        float y[KERNEL_FEW_ROWS][4];
        for (size_t r = 0; r < (size_t)M; r++)
            lanes_sum4(y[r], lanes_load(sum[c][r]), lanes_load(s1[r]), lanes_load(s2[r]),
                       lanes_load(s3[r]), 4);
        few_finish(j, (const float(*)[4])y, o + c, min_size(4, n - c));
    }
}

// The sums of n rows of W from w on.
ALWAYS_INLINE void group(group_sums sum, int M, int R, const struct product_job *j, size_t x_row,
                         const uint8_t *w, size_t n)
{
    const size_t row = j->w_stride * 2, tile = (size_t)R;
    const size_t stretch = STRETCH / (size_t)M / STEP * STEP;
    size_t i = 0;
    do {
        struct tile t = {.row = row,
                         .x = (const uint8_t *)j->x + 2 * i,
                         .x_row = x_row,
                         .n = min_size(stretch, j->k - i),
                         .first = i == 0};
        for (size_t c = 0; c < n; c += tile) {
            for (size_t a = 0; a < TILE; a++)
                t.w[a] = w + min_size(c + a, n - 1) * row + 2 * i;
            // behind the last tile comes the next stretch, behind the last stretch the next group
            bool more = c + tile < n, stretches = i + stretch < j->k;
            size_t next_row = more ? c + tile : stretches ? 0 : n;
            size_t next_input = more ? i : stretches ? i + stretch : 0;
            t.next = (uintptr_t)w + next_row * row + 2 * next_input;
            dots(sum + c, M, R, &t);
        }
    } while ((i += stretch) < j->k);
    size_t rest = j->k % STEP, whole = 2 * (j->k - rest);
    if (rest != 0)
        add_rest(sum, (size_t)M, w + whole, n, row, (const uint8_t *)j->x + whole, x_row, rest);
}

ALWAYS_INLINE void few_rows(const struct product_kernels *p, int M, int R,
                            const struct product_job *j)
{
    _Alignas(64) group_sums sum;
    for (size_t o = 0; o < j->n; o += GROUP) {
        const size_t n = min_size(GROUP, j->n - o);
        const uint8_t *w = (const uint8_t *)j->w + o * j->w_stride * 2;
        group(sum, M, R, j, product_x_stride(p, j->k), w, n);
        finish(j, sum, M, o, n);
        for (size_t c = 0; c < n; c += 4)
            ask_rows(&j->ask, o + c);
    }
}

// A function for each number of rows: as many of W at once as sums fit into registers.
#define FEW(M, R)                                                                                  \
    static __attribute__((noinline)) void few_##M(const struct product_kernels *p,                 \
                                                  const struct product_job *j)                     \
    {                                                                                              \
        few_rows(p, M, R, j);                                                                      \
    }
FEW(3, 4)
FEW(4, 4)
FEW(5, 4)
FEW(6, 4)
FEW(7, 3)
FEW(8, 3)
#undef FEW

void few_rows_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
    static void (*const of[])(const struct product_kernels *, const struct product_job *) = {
        few_3, few_4, few_5, few_6, few_7, few_8};
    of[j->m - FEW_STRETCHED](p, j);
}
