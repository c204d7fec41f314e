// SPDX-License-Identifier: MIT
// The verbs a forward pass is written in. A model is a straight line of these calls; what executes
// them is a backend: the CPU (kernels + thread pool), a planner that executes nothing and only counts
// bytes and operations, or a GPU. Model code never dereferences a mat and has no #ifdef.
//
// One `struct ops` is one stream of work with its own scratch arena: one thread at a time. Several may
// share one pool and one set of weights.
//
// Failure is sticky: after an abort, a lack of scratch or a device error every op returns at once and
// ops_status() tells, so a forward checks once per block and once at its end.
//
// Determinism: every output row depends only on its own input row (and, in attention, on its keys):
// not on the number of threads, and not on how many other rows are computed in the same call, as long
// as both calls have at most, or both more than, ops_few_rows() rows. Between ops_step_begin and
// ops_step_end every call counts as one of few rows on the CPU. Prefix reuse and batched decoding rely on this.
#ifndef IV_OPS_OPS_H
#define IV_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "tensor/tensor.h"

struct pool;    // base/pool.h
struct kernels; // kernels/kernels.h
struct ops;

enum {
    OPS_FEW_ROWS =
        8, // on the CPU: up to this many rows a linear layer uses the dot-product kernels
    OPS_STEP_ROWS = 64, // most rows of a decoding step
    OPS_HEAD_MAX =
        256, // largest head of op_attention and op_cache_attention, on every backend; sizes are even
};

// What products are computed in. BF16: weights and inputs rounded to bf16, sums in f32; everything
// between products stays f32; but in tiers whose kernels say so (for_blocks: AVX512-VNNI, AVX-VNNI) weights in blocks
// meet more than OPS_FEW_ROWS rows in int8, and with AVX512-VNNI fewer as they are stored, the rows as integers of 8 or 16
// bits. INT8: linear layers of more than OPS_FEW_ROWS rows with both factors as levels of int8 (kernels.h), and attention
// with `levels`; the rest as in BF16; on the CPU.
enum compute { COMPUTE_F32, COMPUTE_BF16, COMPUTE_INT8 };

// A matrix of activations or cached keys/values, row-major; row r starts at element r * stride.
// Backend memory: only ops touch data.
struct mat {
    void *data;
    enum dtype
        dtype; // activations: F32, or what ops_act chooses; KV caches: F32, BF16, F16, Q8_0 (GPU: F32, BF16)
    size_t rows, cols, stride;
};

// Rows [from, from+n) / columns [from, from+n) of m, sharing its memory.
struct mat mat_rows(struct mat m, size_t from, size_t n);
struct mat mat_cols(struct mat m, size_t from, size_t n);
// m, whose rows have no gaps, as groups of `group` rows: row i is rows [from, from+n) of group i, side by side.
struct mat mat_groups(struct mat m, size_t group, size_t from, size_t n);

// Every stage's output by name ("vit_block_3", "qformer", ...), f32 [n_dim dims], valid during the call.
struct tap {
    void *user;
    void (*fn)(void *user, const char *name, const float *data, const size_t *dim, unsigned rank);
};

// Sees what each linear layer reads, before it runs: f32 rows in host memory. On the CPU only.
struct input_watch {
    void *user;
    void (*fn)(void *user, const struct tensor *w, const float *x, size_t rows, size_t cols,
               size_t stride);
};

struct ops_options {
    struct pool *pool;             // shared, outlives the ops; NULL = the calling thread alone
    const struct kernels *kernels; // shared, outlives the ops
    enum compute compute;
    const struct hooks *hooks;       // abort is polled; may be NULL
    const struct input_watch *watch; // outlives the ops; may be NULL
};

// CPU backend with an empty arena (see ops_reserve). Caller closes.
int ops_open_cpu(const struct ops_options *opt, struct ops **out, struct err *e);
// Planner: the same calls count what the CPU backend with these options would take.
int ops_open_plan(const struct ops_options *opt, struct ops **out, struct err *e);
void ops_close(struct ops *o);

// What a run took since the last ops_plan_reset, planned or real: the same numbers for the same calls
// with the same options and tap.
struct ops_plan {
    size_t arena_bytes;  // peak of the scratch arena
    double flops;        // multiply-adds counted twice, products and attention only
    double weight_bytes; // weights read, as they lie in the file
};
struct ops_plan ops_plan_result(const struct ops *o);
void ops_plan_reset(struct ops *o);

// Makes the arena at least bytes large; 0 = gives its memory back. Only while it is empty. ERR_LIMIT
// when memory is short: the arena then has no bytes.
int ops_reserve(struct ops *o, size_t bytes, struct err *e);
size_t ops_reserved(const struct ops *o);
// 0, or the first failure since the last ops_clear, with its message.
int ops_status(const struct ops *o, struct err *e);
// Waits until everything that was asked for is done, also after a failure: before another stream, or whoever frees
// memory, relies on it. Nothing to wait for on the CPU.
void ops_wait(struct ops *o);
// Forgets failure and empties the arena.
void ops_clear(struct ops *o);
void ops_set_tap(struct ops *o, struct tap tap); // tap.fn NULL = off
bool ops_has_tap(const struct ops *o);
enum compute ops_compute(const struct ops *o);
// Rows up to which linear layers take the kernels for few rows; see Determinism.
size_t ops_few_rows(const struct ops *o);
// Rows of one call from which on more rows gain nothing: so many are worth putting together.
size_t ops_many_rows(const struct ops *o);

// Whether op_linears applies the GELU behind it (linear_input), rather than who reads it (INPUT_GELU).
bool ops_gelu_early(const struct ops *o);

// Scratch: f32 matrix from the arena, contents undefined; released by popping to an earlier mark.
struct mat ops_mat(struct ops *o, size_t rows, size_t cols);
// The same for what lies between a product and the next: f32 on the CPU, bf16 on a GPU that computes in bf16.
struct mat ops_act(struct ops *o, size_t rows, size_t cols);
size_t ops_mark(const struct ops *o);
void ops_pop(struct ops *o, size_t mark);
// Memory that outlives the arena (KV caches, encoded rows), zeroed; ops_release frees it.
int ops_hold(struct ops *o, size_t rows, size_t cols, enum dtype t, struct mat *out, struct err *e);
void ops_release(struct ops *o, struct mat *m);

// Host <-> backend, f32 rows packed without gaps on the host side.
void op_upload(struct ops *o, struct mat dst, const float *src);
void op_download(struct ops *o, float *dst, struct mat src);
// Hands m to the tap, if there is one, as a tensor of the given shape (product = rows * cols).
void op_tap(struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank);

// dst = src, converted to dst's dtype; one of the two is F32 when they differ. Same shape; no overlap. src may belong to another stream of the
// same backend, which must not write it meanwhile (ops_wait).
void op_copy(struct ops *o, struct mat dst, struct mat src);
// x += y
void op_add(struct ops *o, struct mat x, struct mat y);
// x += y * scale, scale [cols] (LayerScale)
void op_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale);
// x[r] += t[r % t_rows]: t is host memory, f32 [t_rows, cols]; x.rows is a multiple of t_rows.
// same: the weight that t is a copy of, or NULL. With it a GPU reads that one and never t.
void op_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                  const struct tensor *same);

// y = x W^T + b + lora_scale * (x A^T) B^T. y [n, d_out], x [n, d_in]; y must not overlap x.
void op_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w);
// What a linear layer reads, made of activations on the way, so that a backend can do both at once.
enum input_kind { INPUT_ROWS, INPUT_RMS_NORM, INPUT_SILU_MUL, INPUT_GELU };
struct linear_input {
    enum input_kind kind;
    struct mat x;              // [n, d_in]; SILU_MUL and GELU may overwrite it
    struct mat up;             // SILU_MUL: the input is silu(x) * up
    const struct tensor *norm; // RMS_NORM: weight [d_in]
    float eps;                 // RMS_NORM
    bool gelu;                 // ROWS: y = GELU of the outputs; op_linears if ops_gelu_early
    // Hints of who reads the result next, which a backend may use: op_linear_add's x with this RMSNorm [x.cols];
    // op_linears' two outputs, equally wide, as SILU_MUL.
    const struct tensor *next_norm;
    bool next_silu;
};
// y = [w[0](in) | w[1](in) | ...]: outputs side by side, together y.cols. y must not overlap the input.
void op_linears(struct ops *o, struct mat y, const struct linear_input *in,
                const struct linear *const *w, size_t n_w);
// x += scale * w(in), x f32; scale [cols] (LayerScale) or NULL = 1
void op_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                   const struct linear *w, const struct tensor *scale);
// y = w * x / sqrt(mean(x^2) + eps). y may be x.
void op_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps);
// Both in place, as by op_rms_norm; the same shape. They must not overlap.
void op_rms_norm2(struct ops *o, struct mat a, const struct tensor *a_w, struct mat b,
                  const struct tensor *b_w, float eps);
// y = (x - mean) / sqrt(var + eps) * w + b, biased variance. y may be x.
void op_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                   const struct tensor *b, float eps);
// x = 0.5 x (1 + erf(x / sqrt 2))
void op_gelu(struct ops *o, struct mat x);
// gate = silu(gate) * up
void op_silu_mul(struct ops *o, struct mat gate, struct mat up);

// cos and sin of pos[i] * theta^(-2j/d_head), j < d_head/2: a mat [n, d_head] of cos (first half) and
// sin (second half), angles in f32 as the reference computes them. pos is host memory.
struct mat op_rope_table(struct ops *o, const uint32_t *pos, size_t n, size_t d_head, double theta);
// Rotates the split halves of each head of x [n, n_head * d_head] in place.
void op_rope(struct ops *o, struct mat x, size_t n_head, struct mat table);
// The same for heads whose two halves are interleaved: element 2j is the first half's j, 2j + 1 the second's.
void op_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table);

// y[i] = table[ids[i]]; ids < rows of table (checked: out of range fails the ops). ids is host memory;
// NULL = the rows 0, 1, 2 ... of table.
void op_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids);

// Conv with kernel = stride = (1, patch, patch) over pixels f32 [n_frame, 3, size, size] (host memory).
// y [n_frame * (size/patch)^2, d]; weight [d, 3, 1, patch, patch], bias [d]; token order frame, row, column.
void op_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                    size_t patch, const struct linear *w);

// InternLM2's packed qkv: columns are n_kv groups of (n_head/n_kv query heads, key, value), d_head each.
void op_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                   size_t n_head, size_t n_kv, size_t d_head);

struct attention {
    struct mat q; // [n_q, n_head * d_head]
    struct mat k,
        v; // [n_k, n_kv * d_head] F32, BF16, F16, or Q8_0 with d_head a multiple of its block
    size_t n_seq; // sequences of equal length one behind the other, in q as in k and v; 0 = 1
    size_t n_head;
    size_t n_kv; // n_head % n_kv == 0; query head h reads key head h / (n_head / n_kv)
    size_t d_head;
    float scale;      // applied to q
    bool causal;      // key j is seen by query i iff j <= first_pos + i
    size_t first_pos; // position of query row 0 among the keys (causal only)
    bool levels;      // not causal: in int8 if that is the precision, k and v are F32, it is faster
};
// y [n_q, n_head * d_head] = softmax(scale q k^T) v per head. Never holds the full score matrix.
void op_attention(struct ops *o, struct mat y, const struct attention *a);

// Rows [first_row, first_row + n_row) of q, k and v continue the sequence whose keys and values are cached
// in k and v: they become its rows pos, pos + 1, ... Spans are in the order of their rows; no two share a row or a cache.
struct cache_span {
    struct mat k, v; // [at least pos + n_row, n_kv * d_head]
    size_t first_row, n_row, pos;
};
struct cache_attention {
    struct mat q;    // [n, n_head * d_head]
    struct mat k, v; // [n, n_kv * d_head]
    struct mat rope; // op_rope_table of the rows' positions
    bool pairs;      // op_rope_pairs instead of op_rope
    const struct cache_span *span;
    size_t n_span;
    size_t n_head, n_kv, d_head;
    float scale;
};
// Stores rotated k and v behind the cached ones, and y = causal attention of each row's rotated q in its own
// sequence. Afterwards q and k may be rotated or not.
void op_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a);

// A decoding step is the same calls each time; a backend may record them once and replay them. The calls
// between begin and end depend on nothing but the ids and positions given here (op_embed and op_rope_table
// get these very arrays) and on what `key` names: caches, their sizes, where the result goes; key 0 = not to be
// recorded. true = replayed already: leave the calls and ops_step_end out.
bool ops_step_begin(struct ops *o, uint64_t key, const int32_t *ids, const uint32_t *pos, size_t n);
void ops_step_end(struct ops *o);

#endif
