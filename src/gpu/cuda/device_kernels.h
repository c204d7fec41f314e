// SPDX-License-Identifier: MIT
// The CUDA kernels, as C sees them: each function checks nothing, launches on `stream` (a cudaStream_t)
// and returns a cudaError_t (0 = launched). All pointers are device memory unless they say host. Matrices
// are row-major; row r starts at element r * stride; bases and strides of bf16 matrices are multiples of
// 8 elements (16 bytes) where a function says "aligned". Two element types: f32 and bf16 (is_bf16).
//
// Determinism: the same inputs give the same bits; a row of a result does not depend on how many other
// rows the same call has. No atomics on floating point.
#ifndef IV_GPU_CUDA_DEVICE_KERNELS_H
#define IV_GPU_CUDA_DEVICE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_FEW_ROWS = 64,         // most rows of cuda_few_linear and of a decoding step
    CUDA_STEP_TURNS = 4096,     // counters of cuda_attention_few
    CUDA_LORA_MAX = 64,         // rows of a LoRA A
    CUDA_APART_COLUMNS = 24576, // most of cuda_rms_apart
    CUDA_HEAD_MAX = 256,        // d_head of attention, a multiple of 2 (of 8 for the bf16 kernels)
};

struct cuda_view {
    void *data;
    bool is_bf16;
    int rows, cols;
    int64_t stride; // elements
};

// Kernels start while the one before them ends, where the device can (default: on, 9.0 and later). A process-wide
// switch, for tests and measurements. Weights must not be written while earlier work of the stream is still
// running: synchronise after loading them.
void cuda_overlap(bool on);

// ---- linear.cu: few rows times a weight (decoding): y = x W^T at memory speed

// w is bf16 [n_out, k] with row stride k (elements, a multiple of 16; columns behind the real ones are
// zero in w and x). x is bf16 [rows <= CUDA_FEW_ROWS, k], aligned.
struct cuda_few_linear {
    const void *w;      // bf16 [n_out, k]
    const void *x;      // bf16 [rows, k], stride k
    const float *bias;  // f32 [n_out] or NULL
    struct cuda_view y; // [rows, n_out], f32 or bf16
    bool add;           // y (f32) += result, else y = result
    int k;

    // f32 [rows] or NULL: RMSNorm's factors, which x lacks (cuda_rms_apart), before the bias; not with square or next_x
    const float *factor;

    // One row only. square: x lacks RMSNorm's factor, which is made of the k / 16 sums of squares and eps; NULL = it does
    // not. next_x: y also as the product behind reads it, bf16; with next_norm it is y (f32) times that, and next_square
    // [n_out / 16] the sums of squares; without it silu of the first half times the second. n_out is a multiple of 16.
    const float *square;
    float eps;
    void *next_x;
    const float *next_norm; // f32 [n_out]
    float *next_square;
};
int cuda_few_linear(const struct cuda_few_linear *a, void *stream);

// Rows for a cuda_few_linear with `factor`: what one row has from next_x and square, to the bit. f32 x, aligned, of at
// most CUDA_APART_COLUMNS columns, a multiple of 16.
struct cuda_rms_apart {
    struct cuda_view x;
    const float *norm_w; // f32 [cols]
    float eps;
    void *out;     // bf16 [rows, cols], stride cols: x times norm_w
    float *factor; // f32 [rows]
};
int cuda_rms_apart(const struct cuda_rms_apart *a, void *stream);

// ---- prepare.cu: what a linear layer reads, made of activations

enum cuda_input { CUDA_INPUT_ROWS, CUDA_INPUT_RMS, CUDA_INPUT_SILU_MUL, CUDA_INPUT_GELU };

// out[r] = [ f(x[r]) , t[r] , 0 ... ], out [rows, k_out] of out_bf16's type with stride k_out:
//   ROWS: f(x) = x; RMS: norm_w * x / sqrt(mean(x^2) + eps); SILU_MUL: silu(x) * up; GELU: erf form, of x
// f32 arithmetic, one rounding at the end. The columns from d_in on:
//   lora_a == NULL: columns [d_in + n_lora, k_out) are zeroed, columns [d_in, d_in + n_lora) are left alone
//   lora_a != NULL (only rows <= CUDA_FEW_ROWS and bf16): t[j] = bf16(lora_scale * sum_i bf16(f(x)[i]) a[j,i]),
//   then zeros.
struct cuda_prepare {
    enum cuda_input kind;
    struct cuda_view x;  // [rows, d_in], f32 or bf16
    struct cuda_view up; // SILU_MUL: as x
    const float *norm_w; // RMS: f32 [d_in]
    float eps;
    void *out;
    bool out_bf16;
    int k_out;
    const void *lora_a; // bf16 [n_lora, d_in] stride d_in, or NULL
    int n_lora;         // rows of lora_a: 0 .. 64
    float lora_scale;
};
int cuda_prepare(const struct cuda_prepare *a, void *stream);

// ---- lora.cu: t of any number of rows

// x[r][d_in + j] = bf16(scale * sum_i x[r][i] a[j][i]) for j < n_lora; the columns behind are left alone. bf16, d_in
// a multiple of 8, x and a aligned.
struct cuda_lora_down {
    void *x; // [rows, >= d_in + n_lora]
    int64_t stride;
    int rows, d_in;
    const void *a; // [n_lora, d_in], stride d_in
    int n_lora;    // 0 .. CUDA_LORA_MAX
    float scale;
    void *
        scratch; // 16 bytes aligned; contents undefined before and after. The rows go through it in bands of as
    size_t scratch_bytes; // many as it has room for: 16 rows want 64 n_lora ceil(d_in / 512) bytes
};
int cuda_lora_down(const struct cuda_lora_down *a, void *stream);

// ---- attention

// Bidirectional or causal attention over stored keys. Sequences are stacked: sequence s has query rows
// [s n_q, (s+1) n_q) and key rows [s n_k, (s+1) n_k). Query row i sees key j iff !causal or
// j <= first_pos + i. Query head h reads key head h / (n_head / n_kv).
struct cuda_attention {
    struct cuda_view y, q; // [n_seq * n_q, n_head * d_head]
    struct cuda_view k, v; // [n_seq * n_k, n_kv * d_head]
    int n_seq, n_q, n_k, n_head, n_kv, d_head;
    float scale;
    bool causal;
    int first_pos;
};
// attention_many.cu: all bf16, aligned, d_head a multiple of 8 and <= 128: tensor cores, online softmax in
// f32, probabilities rounded to bf16 for the second product.
int cuda_attention_many(const struct cuda_attention *a, void *stream);
// For tests: the form that any device since compute capability 8.0 runs, also where there is a faster one.
void cuda_attention_prefer_portable(bool portable);
// attention_plain.cu: any mixture of f32 and bf16, any d_head <= CUDA_HEAD_MAX; f32 arithmetic. The witness.
int cuda_attention_plain(const struct cuda_attention *a, void *stream);

// One row of each of n_row sequences with a cache each (decoding): row i sees cache rows [0, pos[i]].
struct cuda_cache_rows {
    int n_row; // <= CUDA_FEW_ROWS
    const void *k[CUDA_FEW_ROWS],
        *v[CUDA_FEW_ROWS]; // caches: [cap, n_kv * d_head], stride n_kv * d_head
};
struct cuda_attention_few {
    struct cuda_view y, q; // [n_row, n_head * d_head], the same type
    bool cache_bf16;       // else f32
    const uint32_t *pos;   // device, [n_row]
    int n_k_max; // pos[i] < n_k_max: decides the launch, so that it can be recorded and replayed
    int n_head, n_kv, d_head;
    float scale;
    void *
        scratch; // cuda_attention_few_scratch bytes, 256-byte aligned; contents undefined before and after
    uint32_t
        *turn; // device, [CUDA_STEP_TURNS], of one stream, 0 before and after; NULL: the slow form
};
// Keys are split over blocks, partial results merged in a fixed order. bf16 q and caches with d_head a multiple of 8
// and <= 128 fast (attention_step.cu), everything else correct (attention_few.cu). On 9.0 and later the fast form
// reads pos and the caches' rows < pos[i] before the kernel in front has ended: what wrote them must have ended before
// the last launch that was not an overlapped one (cuda_overlap).
size_t cuda_attention_few_scratch(int n_row, int n_head, int d_head, int n_k_max);
int cuda_attention_few(const struct cuda_attention_few *a, const struct cuda_cache_rows *c,
                       void *stream);
// cuda_rope with r->cache and r->pos (= a->pos) followed by cuda_attention_few on these caches, in one launch where
// the fast form serves. r->q is a->q. Afterwards q and k may be rotated or not.
struct cuda_rope;
int cuda_attention_step(const struct cuda_attention_few *a, const struct cuda_rope *r,
                        void *stream);

// ---- rope.cu

// Rows i < rows of q and k rotated in place by table f32 [rows, d_head] (cos first half, sin second half): element j of a
// head with j + d_head/2, or, with `pairs`, 2 j with 2 j + 1; the bits do not depend on where they lie. When cache is
// not NULL row i of k (rotated) and v is also stored as row pos[i] of cache->k/v[span[i]] (span NULL: i), in the cache's
// type.
struct cuda_rope {
    struct cuda_view q, k,
        v; // q [rows, n_head d_head], k and v [rows, n_kv d_head]; k, v data may be NULL
    const float *table;
    int rows, n_head, n_kv, d_head;
    bool pairs;
    bool cache_bf16;
    const uint32_t *pos;     // device [rows]; only with a cache
    void *cache_k, *cache_v; // one sequence's caches for all rows; or NULL and
    const struct cuda_cache_rows
        *cache; // host: one cache for each row (rows <= CUDA_FEW_ROWS); or NULL
};
int cuda_rope(const struct cuda_rope *a, void *stream);
// table [n, d_head] of positions pos (device): angle = f32(pos) * inv_freq[j] rounded to f32, cos and sin
// of it in double, rounded. inv_freq: device f32 [d_head / 2].
int cuda_rope_table(float *table, const uint32_t *pos, int n, int d_head, const float *inv_freq,
                    void *stream);

// ---- rows_elements.cu, rows_norm.cu, patches.cu: one row or element at a time, f32 arithmetic, f32 or bf16 in and out

int cuda_copy(struct cuda_view dst, struct cuda_view src, void *stream); // converts
int cuda_add(struct cuda_view x, struct cuda_view y, const float *scale,
             void *stream); // x += y * scale
// x[r] += t[r % t_rows]; t is f32 [t_rows, cols], x.rows a multiple of t_rows
int cuda_add_table(struct cuda_view x, const float *t, int t_rows, void *stream);
int cuda_rms_norm(struct cuda_view y, struct cuda_view x, const float *w, float eps,
                  void *stream); // y may be x
// cuda_rms_norm of both in place, in one launch where their types and alignment are the same
int cuda_rms_norm2(struct cuda_view a, const float *a_w, struct cuda_view b, const float *b_w,
                   float eps, void *stream);
int cuda_layer_norm(struct cuda_view y, struct cuda_view x, const float *w, const float *b,
                    float eps,
                    void *stream); // biased variance, two passes; y may be x
int cuda_gelu(struct cuda_view x, void *stream);
int cuda_silu_mul(struct cuda_view gate, struct cuda_view up, void *stream);
// y[i] = table[ids[i]] (ids NULL: row i); table bf16 or f32 [any, cols]
int cuda_embed(struct cuda_view y, struct cuda_view table, const int32_t *ids, void *stream);
// InternLM2: columns of qkv are n_kv groups of (n_head / n_kv query heads, key, value), d_head each
int cuda_split_wqkv(struct cuda_view q, struct cuda_view k, struct cuda_view v,
                    struct cuda_view qkv, int d_head, void *stream);
// Patch rows of pixels, f32 or bf16 [n_frame, 3, size, size]: out [n_frame (size/patch)^2, k_out] of its type, columns
// (channel, y, x), zero behind 3 patch^2.
int cuda_patches(struct cuda_view out, const void *pixels, bool pixels_bf16, int n_frame, int size,
                 int patch, void *stream);

#ifdef __cplusplus
}
#endif

#endif
