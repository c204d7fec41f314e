// SPDX-License-Identifier: MIT
// Pure maths on pointers: every kernel runs on the calling thread, allocates nothing, keeps no state
// and cannot fail. One struct of pointers, filled once for the processor at hand (kernels_init) and
// then read-only and shared by all threads.
//
// Common contract, unless a line below says otherwise:
// - strides count elements; a stride is at least the row's length; any count may be 0.
// - f32 pointers have their natural alignment, no more. Stored weights (`const void *w` with a dtype)
//   may lie at any byte address, as a file puts them.
// - outputs and inputs do not overlap; "in place" means exactly the same pointer and stride.
// - nothing outside the named elements is read or written.
// - NaN and infinity propagate as in plain C arithmetic: a row with a NaN gives NaN in what depends on
//   it and leaves other rows alone. Subnormal inputs, products and results may be taken as zero.
// - one output element depends on its own inputs only, bit for bit: not on how many rows or columns the
//   call has, where they start, or how a matrix was cut among calls. Tiers differ from each other
//   within rounding.
#ifndef IV_KERNELS_KERNELS_H
#define IV_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "tensor/dtype.h"

enum {
    KERNEL_FEW_ROWS = 8,     // most rows that `few` takes
    KERNEL_HEAD_MAX = 256,   // largest head size of `attention`
    KERNEL_INT8_BLOCK = 256, // inputs that share a step in int8
    KERNEL_SCRATCH_ALIGN = 64,
};

// Rows that are read next, of which `bytes` each may be asked for in L2 meanwhile, row by row; 0 = nothing. Products ask
// with weights that are not in blocks, sums of values in AVX512-BF16 with values in bf16.
struct ask {
    const void *at;
    size_t row, bytes; // from one to the next; of each
    size_t n;
};

// y = x W^T [+ bias], or y += the same.
struct product_job {
    float *y; // [m, n]
    size_t y_stride;
    const void *x;   // [m, k] rows made by `prepare`, row r at byte r * product_x_stride(p, k)
    const void *w;   // [n, k] of w_type (F32, F16, BF16, or blocks: k and w_stride whole ones)
    size_t w_stride; // elements
    enum dtype w_type;
    size_t m, n, k;
    const float *bias; // [n] or NULL
    bool add;          // y's old values are added; else they are not read
    // Rows of weights as these that the thread will presumably read next, n_next of them: their first inputs
    // may be asked for. NULL = not known.
    const void *next;
    size_t n_next;
    struct ask ask; // few
};

// Key/value heads side by side, each with the `group` query heads that read it.
struct attention_job {
    float *y; // row i, query head h: d values at y + i * y_stride + h * d
    size_t y_stride;
    const float *q; // laid out as y
    size_t q_stride;
    const void *k, *v;         // [n_k, n_kv * d], naturally aligned
    size_t k_stride, v_stride; // of block types whole blocks, as d
    enum dtype k_type, v_type; // F32, BF16, F16 or blocks
    size_t n_q, n_k;           // n_k > 0 when n_q > 0
    size_t group;              // > 0
    size_t n_kv;               // key heads; more than 1 only if `few`; 0 = 1
    size_t d;                  // a multiple of 2, at most KERNEL_HEAD_MAX
    float scale;               // of q
    bool causal;               // key j is seen by row i iff j <= first_pos + i; else every key is
    size_t first_pos;
    // Chooses the path for a few rows, which reads K and V in place; needs n_q <= KERNEL_FEW_ROWS. The
    // two paths round differently, so whoever cuts a matrix into jobs decides for the whole matrix.
    bool few;
};

// Levels of int8: a block of KERNEL_INT8_BLOCK inputs (the last of a row may be shorter) of a row of x or of
// W is step * level, level in [-127, 127] (-128 in weights that were Q8_0), step = max |value| / 127, each
// level rounded to nearest even. Weights in blocks take the largest value their block could hold for the
// maximum. The step is NaN where a value is not finite, and 0 where all are below 2^-119.
// A prepared row: levels [k] of x_elem bytes, zeros up to a multiple of 32, then a step for each block.
struct int8_step {
    float step;
    int32_t base; // -128 * sum of the levels, for tiers whose weights are unsigned
};

// A tile asks for what comes next every TILE_STEPS cells, which are a line of x.
enum {
    TILE_ROWS = 6, // of x
    TILE_STEPS = 16,
    TILE_LINE = 64, // bytes
};

// Rows of weights that are packed next: a tile asks for some lines of them now and then, so that packing finds
// them in the cache. It moves on from one tile to the next.
struct ahead {
    const uint8_t *at, *end; // the next line, and where its row ends
    size_t row_bytes, gap;   // of a row; from its end to the next one
    size_t rows;             // after this one
    size_t lines;            // each time
};

struct tile_job {
    float *y; // [m, n]
    size_t y_stride;
    const void *x;
    size_t x_stride; // bytes
    const void
        *steps; // int8: of row 0 and the first input, struct int8_step; rows x_stride bytes apart
    const void *panel;
    size_t m, n, k;
    const float *bias; // [n] or NULL: where the sums start unless `add` is set
    bool add;
    size_t x_more;       // rows behind the m that are read next: asked for early
    struct ahead *ahead; // NULL = nothing
};

struct mix_job {
    float *y; // [m, d]
    size_t y_stride;
    const void *x;
    size_t x_stride; // bytes
    const void *v;   // [n, d]
    size_t v_stride;
    enum dtype v_type; // F32, BF16 or F16
    size_t m, n, d;
    bool ask_l2; // as in struct product_kernels
    struct ask ask;
};

// The kernels that multiply, for one precision of the products. f32: inputs as they are. bf16: both
// factors are rounded to bf16 (nearest even) and the sums are f32 (ref: double, then f32). int8: both
// factors are levels; the sum of a block is an integer, the same in every tier, and joins the f32 sum of the
// blocks with both steps. int8 has prepare and many, and attention where it is faster than in bf16; few is NULL.
// dots: weights in blocks only, with their values as they are stored; x has levels of 8 bits with a step for every 32
// inputs (kernels/dots_parts.h). prepare and few only.
struct product_kernels {
    size_t x_elem;        // bytes of one element of a prepared row, or of x_block of them
    size_t x_block;       // 0 = elements
    size_t panel;         // `many` works on this many outputs at once: cut n at multiples of it
    size_t block;         // scratch of `many` holds this many outputs ...
    size_t depth;         // ... times this many inputs
    size_t few_group;     // as panel, of `few` with 3 rows or more where L1 is not small; 0 = any
    size_t scratch_bytes; // of `many`; may be 0
    bool round;           // both factors are rounded to bf16
    bool steps;           // int8
    bool repacks;         // `many` lays out x too at each call: few and square jobs
    bool for_blocks;      // int8, dots: weights in blocks are faster this way than in bf16
    // L1 is small: what few and mix read next is asked for in L2; of several rows of weights, what is near in L1, too.
    bool ask_l2;

    // dst = x [m, k] in the form that few and many read: row r at byte r * product_x_stride(p, k),
    // 64-byte aligned, zeros behind the last element. dst is 64-byte aligned.
    void (*prepare)(const struct product_kernels *p, void *dst, const float *x, size_t x_stride,
                    size_t m, size_t k);
    // m <= KERNEL_FEW_ROWS: dot products on the weight rows in place, at the speed of memory. Weights in
    // blocks count as they are stored: only x is rounded in bf16.
    void (*few)(const struct product_kernels *p, const struct product_job *j);
    // Any m: weights go block by block through scratch (scratch_bytes, 64-byte aligned).
    // Rounds differently from `few`.
    void (*many)(const struct product_kernels *p, const struct product_job *j, void *scratch);
    // y = softmax(scale q k^T) v. scratch: attention_scratch bytes, 64-byte aligned. In bf16
    // q * scale, k, v and the unnormalised probabilities are rounded, but with `few` keys in blocks count as
    // they are stored. Keys that no row of the job sees
    // are not read; a NaN or infinity in a value that only some rows see may reach the others.
    // In int8 (attention_int8.c is the definition) k and v are F32, `causal` and `few` are false.
    void (*attention)(const struct product_kernels *p, const struct attention_job *j,
                      void *scratch);
    // Its bytes of scratch for a job with these sizes, types, `causal` and `few`. Saturates at SIZE_MAX.
    size_t (*attention_scratch)(const struct product_kernels *p, const struct attention_job *j);

    // dst = n weights in blocks at w as f32, to the bit as dtype_to_f32 gives them.
    void (*unpack)(float *dst, const void *w, enum dtype t, size_t n);

    // Building blocks of `many` and `attention` in tiers that have them; not called from outside
    // panel = k (<= depth) inputs of n (<= panel) weight rows at w, converted and laid out for `tile`
    // with the same n and k. pack_t: the same from a transposed matrix, w [k, n].
    void (*pack)(void *panel, const void *w, size_t w_stride, enum dtype w_type, size_t n,
                 size_t k);
    void (*pack_t)(void *panel, const void *w, size_t w_stride, enum dtype w_type, size_t n,
                   size_t k);
    // y [m, n] (+)= x [m, k] panel, x prepared rows at a byte stride. The sum over k runs in order, on
    // from y's old value when add is set, else from bias.
    void (*tile)(const struct tile_job *j);
    // int8: q [n] = levels of a block of n <= KERNEL_INT8_BLOCK weights at w (F32, F16, BF16, or whole blocks),
    // returns their step. pack_levels: n (<= panel) rows of k levels, KERNEL_INT8_BLOCK apart, as a panel of
    // one block; for `tile` the n steps lie in front of it, panel f32.
    float (*levels)(int8_t *q, const void *w, enum dtype t, size_t n);
    void (*pack_levels)(void *panel, const int8_t *q, size_t n, size_t k);
    // One step of the running softmax over a row's scores s [n]: *max and *sum move on, p (a prepared
    // row, zeros up to n_pad elements, n_pad % 32 == 0) = exp(s - new max). Returns
    // exp(old max - new max), the factor for what was summed before. *max starts at -infinity; n > 0
    // as long as it is.
    float (*soft_step)(void *p, const float *s, size_t n, size_t n_pad, float *max, float *sum);
    // y[r][c] += sum over i < n of x[r][i] v[i][c], c < d, r < m <= KERNEL_FEW_ROWS; in the order of i, by pairs (2 i,
    // 2 i + 1) where an instruction adds both: an x behind the last of an odd number is zero;
    // x prepared rows at a byte stride.
    void (*mix)(const struct mix_job *j);
    void (*scale)(float *x, float s, size_t n); // as in struct kernels
};

struct kernels {
    enum cpu_tier tier; // best one in use
    struct product_kernels f32, bf16, int8, dots;

    // Conversions of F32, F16 and BF16 at any byte address. to_f32 is exact; from_f32 rounds to nearest
    // even. Every tier gives the same bits, subnormals included (a NaN stays one, its payload may not).
    void (*to_f32)(float *dst, const void *src, enum dtype t, size_t n);
    void (*from_f32)(void *dst, enum dtype t, const float *src, size_t n);

    // x += y, x += y * s, x *= s (scalar)
    void (*add)(float *x, const float *y, size_t n);
    void (*add_scaled)(float *x, const float *y, const float *s, size_t n);
    void (*scale)(float *x, float s, size_t n);
    // x = 0.5 x (1 + erf(x / sqrt 2)): within 4 ulp of the result or 2e-7 * min(|x|, 1) absolute of the
    // exact value.
    void (*gelu)(float *x, size_t n);
    // gate = gate / (1 + exp(-gate)) * up, silu within 4 ulp (0 where it is below 1e-37).
    void (*silu_mul)(float *gate, const float *up, size_t n);

    // Rows of n; w, b [n]. In place allowed. n > 0.
    // y = x * w / sqrt(mean(x^2) + eps)
    void (*rms_norm)(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                     size_t n, const float *w, float eps);
    // y = (x - mean) / sqrt(var + eps) * w + b, biased variance of the centred row
    void (*layer_norm)(float *y, size_t y_stride, const float *x, size_t x_stride, size_t rows,
                       size_t n, const float *w, const float *b, float eps);
    // Split halves of one row's heads, in place: x [n_head, d] (d even), table [d]: cos [d/2], sin [d/2].
    // a' = a cos - b sin, b' = b cos + a sin, where a, b are the halves of a head.
    void (*rope)(float *x, size_t n_head, size_t d, const float *table);
    // The same for interleaved halves: a at even, b at odd places.
    void (*rope_pairs)(float *x, size_t n_head, size_t d, const float *table);
};

// Fills k with the best kernels of the set of tiers (cpu_detect, perhaps through cpu_mask).
void kernels_init(struct kernels *k, unsigned tiers);

// Bytes from one prepared row of k elements to the next: a multiple of 64, and an odd one, lest rows
// fall onto the same cache sets.
size_t product_x_stride(const struct product_kernels *p, size_t k);

#endif
