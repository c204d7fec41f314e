// SPDX-License-Identifier: MIT
// Dot products of several rows with weights in BF16 in AVX512-BF16.
//
// Reading the weights takes about as long as multiplying them with eight rows of x, so neither may wait for the other,
// and the hardware must see that the weights are read in order. It does not beside eight rows of x, each a stream of its
// own and together larger than L1. So x is first laid out step by step, all rows side by side: one stream. A group of
// rows of W goes through a stretch of x that stays in L1, before the next stretch; sums wait in between, whole vectors
// of them, so that each is what few_lanes.h gives, to the bit.
//
// A tile is a few rows of W by all rows of x, up to 24 sums in registers. It asks for the weights of the next tile.
//
// Easy to get wrong: the last tile of a chunk may lack rows of W: it has the last one several times, and sums behind it.
#include "kernels/x86/cells_avx512bf16.h"

#include "base/size.h"
#include "kernels/few_lanes.h"
#include "kernels/tiers.h"
#include "kernels/x86/tiers_blocks.h"

enum {
    STEP = 32, // inputs
    STEP_BYTES = 2 * STEP,
    PIECE = 1 << 15,                  // inputs of all rows that are laid out at once: in L2
    STRETCH = 1 << 13,                // of those that stay in L1, beside sums and what W brings
    GROUP = FEW_GROUP_AVX512BF16,     // outputs that share a stretch: whole tiles
    CHUNK = 2 * FEW_GROUP_AVX512BF16, // whose sums are kept
    TILE = 4,                         // most rows of W in a tile
};
_Static_assert(GROUP % 3 == 0 && GROUP % TILE == 0, "a group is whole tiles of each height");

struct piece {
    _Alignas(64) uint8_t x[2 * PIECE];
    _Alignas(64) float sum[CHUNK][KERNEL_FEW_ROWS][LANES];
};

// In assembly: with cells_fma, whose loop gcc 12 orders otherwise, eight rows are 1 to 3 % slower from memory.
ALWAYS_INLINE lanes dot_add(lanes sum, lanes x, lanes w)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

// M rows of x from input `from` on, n of them, step by step.
ALWAYS_INLINE void lay_out(uint8_t *to, int M, const struct product_job *j, size_t x_row,
                           size_t from, size_t n)
{
    const uint8_t *x = (const uint8_t *)j->x + 2 * from;
    for (size_t i = 0; i < n; i += STEP, x += STEP_BYTES)
        for (size_t r = 0; r < (size_t)M; r++, to += STEP_BYTES)
            lanes_store(to, lanes_load(x + r * x_row));
}

// Some rows of W with a stretch of x. What is asked for meanwhile is the next tile: a row of it, perhaps behind W's end,
// and so many bytes on the ones that follow.
struct tile {
    const uint8_t *w[TILE];
    uintptr_t next;
    size_t row;
    const uint8_t *x; // laid out
    size_t n_step;
    bool first; // sums begin here
};

// sum[row of W][row of x] of R and M rows, or += if it is not the first stretch.
ALWAYS_INLINE void dots(float (*sum)[KERNEL_FEW_ROWS][LANES], int M, int R, const struct tile *t)
{
    lanes a[TILE][KERNEL_FEW_ROWS];
#pragma GCC unroll 4
    for (int c = 0; c < R; c++)
#pragma GCC unroll 8
        for (int r = 0; r < M; r++)
            a[c][r] = t->first ? lanes_zero() : lanes_load(sum[c][r]);
    const uint8_t *w[TILE] = {t->w[0], t->w[1], t->w[2], t->w[3]}, *x = t->x;
    uintptr_t next = t->next;
    for (size_t i = 0; i < t->n_step; i++) {
        lanes v[TILE];
#pragma GCC unroll 4
        for (int c = 0; c < R; c++)
            v[c] = lanes_load(w[c]);
#pragma GCC unroll 8
        for (int r = 0; r < M; r++) {
            lanes u = lanes_load(x + r * STEP_BYTES);
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
        x += M * STEP_BYTES;
    }
#pragma GCC unroll 4
    for (int c = 0; c < R; c++)
#pragma GCC unroll 8
        for (int r = 0; r < M; r++)
            lanes_store(sum[c][r], a[c][r]);
}

// n outputs from o on of a chunk, with inputs [from, from + inputs), which are laid out. `after` is read next.
struct group {
    const struct product_job *j;
    size_t chunk, o, n, from, inputs;
    uintptr_t after;
};

ALWAYS_INLINE void group_dots(struct piece *p, int M, int R, const struct group *g)
{
    const size_t stretch = STRETCH / (size_t)M / STEP * STEP, tile = (size_t)R;
    struct tile t = {.row = 2 * g->j->w_stride};
    size_t i = 0;
    do {
        const uint8_t *w = (const uint8_t *)g->j->w + g->o * t.row + 2 * (g->from + i);
        t.x = p->x + 2 * i * (size_t)M;
        t.n_step = min_size(stretch, g->inputs - i) / STEP;
        t.first = g->from + i == 0;
        for (size_t c = 0; c < g->n; c += tile) {
            for (size_t a = 0; a < TILE; a++)
                t.w[a] = w + min_size(c + a, g->n - 1) * t.row;
            t.next = c + tile < g->n           ? (uintptr_t)w + (c + tile) * t.row
                     : i + stretch < g->inputs ? (uintptr_t)w + 2 * stretch
                                               : g->after;
            dots(p->sum + (g->o - g->chunk) + c, M, R, &t);
        }
    } while ((i += stretch) < g->inputs);
}

// What is left of n outputs from o on behind the last whole step.
static void add_rest(struct piece *p, size_t M, const struct product_job *j, size_t x_row, size_t o,
                     size_t n)
{
    const size_t rest = j->k % STEP, at = 2 * (j->k - rest);
    for (size_t c = 0; rest > 0 && c < n; c++) {
        const uint8_t *w = (const uint8_t *)j->w + (o + c) * 2 * j->w_stride + at;
        const lanes v = cells_weights_n(w, DT_BF16, true, rest);
        for (size_t r = 0; r < M; r++) {
            lanes x = lanes_load((const uint8_t *)j->x + r * x_row + at);
            lanes_store(p->sum[c][r], cells_fma(lanes_load(p->sum[c][r]), x, v));
        }
    }
}

// Outputs [o, o + n) of the job from their sums.
ALWAYS_INLINE void finish(struct piece *p, int M, const struct product_job *j, size_t o, size_t n)
{
    for (size_t c = 0; c < n; c += 4) {
        float y[KERNEL_FEW_ROWS][4];
        lanes s[KERNEL_FEW_ROWS][4];
        int r = 0;
        for (int i = 0; i < 4 * M; i++)
            s[i / 4][i % 4] = lanes_load(p->sum[min_size(c + (size_t)(i % 4), n - 1)][i / 4]);
        for (; r + 4 <= M; r += 4)
            lanes_sum16(y[r], 4, s[r], s[r + 1], s[r + 2], s[r + 3], 4);
        for (; r < M; r++)
            lanes_sum4(y[r], s[r][0], s[r][1], s[r][2], s[r][3], 4);
        few_finish(j, (const float(*)[4])y, o + c, min_size(4, n - c));
    }
}

ALWAYS_INLINE void few_rows(const struct product_kernels *p, int M, int R,
                            const struct product_job *j)
{
    struct piece piece;
    const size_t all = PIECE / (size_t)M / STEP * STEP, x_row = product_x_stride(p, j->k);
    for (size_t o = 0; o < j->n; o += CHUNK) {
        const size_t n = min_size(CHUNK, j->n - o);
        size_t from = 0;
        do {
            const size_t inputs = min_size(all, j->k - from);
            if (o == 0 || j->k > all)
                lay_out(piece.x, M, j, x_row, from, inputs);
            for (size_t g = 0; g < n; g += GROUP) {
                bool groups = g + GROUP < n, pieces = from + all < j->k;
                size_t row = groups ? o + g + GROUP : pieces ? o : o + n;
                size_t input = groups ? from : pieces ? from + all : 0;
                uintptr_t after = (uintptr_t)j->w + 2 * (row * j->w_stride + input);
                size_t some = min_size(GROUP, n - g);
                group_dots(&piece, M, R, &(struct group){j, o, o + g, some, from, inputs, after});
            }
        } while ((from += all) < j->k);
        add_rest(&piece, (size_t)M, j, x_row, o, n);
        finish(&piece, M, j, o, n);
    }
}

// Rows of W at once: as many as sums fit into registers.
#define TILE_OF(M) ((M) > 6 ? 3 : TILE)

// A function for each number of rows; under a sanitizer one for all, of the same lines.
#ifndef IV_SANITIZED
#define FEW(M)                                                                                     \
    static __attribute__((noinline)) void few_##M(const struct product_kernels *p,                 \
                                                  const struct product_job *j)                     \
    {                                                                                              \
        few_rows(p, M, TILE_OF(M), j);                                                             \
    }
FEW(3)
FEW(4)
FEW(5)
FEW(6)
FEW(7)
FEW(8)
#undef FEW

void few_rows_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
    static void (*const of[])(const struct product_kernels *, const struct product_job *) = {
        few_3, few_4, few_5, few_6, few_7, few_8};
    of[j->m - FEW_STRETCHED](p, j);
}
#else
void few_rows_avx512bf16(const struct product_kernels *p, const struct product_job *j)
{
    few_rows(p, (int)j->m, TILE_OF(j->m), j);
}
#endif
