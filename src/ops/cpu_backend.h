// SPDX-License-Identifier: MIT
// Inside the CPU backend: the stream with its arena, how work reaches the pool, and the scratch of each
// op. The *_scratch functions are run by the planner too, whose pushes only count, so that planned and
// real bytes cannot differ.
#ifndef IV_OPS_CPU_BACKEND_H
#define IV_OPS_CPU_BACKEND_H

#include <stdatomic.h>

#include "base/mem.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "ops/backend.h"

struct cpu {
    struct ops ops;
    struct arena arena;
    _Atomic bool stop; // the abort callback said so; tasks not yet begun are left out
};

// The products' kernels for o's precision: of attention, of thin products, of few rows.
const struct product_kernels *cpu_products(const struct ops *o);
// Those of a linear layer. Unless o's precision is f32, weights in blocks have kernels of their own where the tier
// says that these are faster: dots for few rows, int8 for more, where int8 may be o's precision anyway. Not for layers
// that are fine, nor for the patches, whose weight is no matrix.
const struct product_kernels *cpu_layer_products(const struct ops *o, const struct linear *w,
                                                 bool few);

// Whether linear layers take the kernels for few rows: few they are, or steps of as many sequences.
static inline bool cpu_few(const struct ops *o, size_t rows)
{
    return rows <= OPS_FEW_ROWS || o->in_step;
}

// Runs the tasks on the pool, polling abort before each. false = do not go on: aborted (and o failed).
bool cpu_run(struct ops *o, pool_fn *fn, void *ctx, size_t n_task);
// Runs fn for pieces [from, from + n) of rows, cut so that a piece of rows of `cols` elements is worth
// a task.
typedef void cpu_rows_fn(const void *ctx, size_t from, size_t n);
bool cpu_rows(struct ops *o, cpu_rows_fn *fn, const void *ctx, size_t rows, size_t cols);

// Address of row r; of element c of row 0.
static inline float *row_at(struct mat m, size_t r)
{
    return (float *)m.data + r * m.stride;
}

// ---- scratch; every pointer is NULL from the planner and after a failure

// One block for each thread of the pool.
struct thread_scratch {
    char *base;
    size_t step; // bytes
};
struct thread_scratch cpu_thread_scratch(struct ops *o, size_t bytes);
static inline void *scratch_of(const struct thread_scratch *s, unsigned thread)
{
    return s->base ? s->base + thread * s->step : NULL;
}

// f32 copy of a stored vector.
float *cpu_vector_scratch(struct ops *o, size_t n);
// t as f32: in place if it lies so, else in scratch.
const float *cpu_vector(const struct ops *o, const struct tensor *t, float *scratch);

// y [m, n] of rows of k inputs; few: by the kernels for few rows.
struct product_size {
    const struct product_kernels *p;
    size_t m, n, k;
    bool few;
};
// Its rectangles.
struct product_cut {
    size_t rows, cols; // of a task
    size_t n_row_block, n_task;
};
struct product_run {
    const struct product_kernels *p; // of the first
    struct product_job first;
    struct product_job second; // on top by cpu_products(), the same m and n; m == 0: none
    bool few;
    struct mat into;    // data NULL: the result is stored as the jobs say; else it is added to this
    const float *scale; // [n], of what is added; NULL = 1
    struct product_cut cut; // set by cpu_products_run
};
// Bytes of scratch that a thread needs for a product of that size, whatever a second one on top is.
size_t cpu_product_scratch(const struct ops *o, struct product_size z, bool added);
// All of them as one batch of tasks; they are independent of each other. As cpu_run.
bool cpu_products_run(struct ops *o, struct product_run *run, size_t n_run,
                      struct thread_scratch scratch);

// Rows [n, d_in] prepared for cpu_products() and in levels, for int8 or dots; NULL what no layer reads.
struct prepared {
    void *plain, *levels;
};
struct input_scratch {
    struct prepared x;
    float *norm;               // [d_in]
    struct thread_scratch row; // f32 [d_in]
};
// What the layers w read.
void cpu_input_scratch(struct ops *o, const struct linear_input *in, const struct linear *const *w,
                       size_t n_w, struct input_scratch *s);

enum { LAYERS_MAX = 4 }; // that are computed together
struct layer_scratch {
    float *bias; // [d_out]
    float *t;    // [n, r] x A^T
    void *t_x;   // the same, prepared
};
struct layers_scratch {
    struct layer_scratch each[LAYERS_MAX];
    struct thread_scratch thread;
};
// n rows through n_w <= LAYERS_MAX layers; added: as cpu_linear_add does.
void cpu_layers_scratch(struct ops *o, const struct linear *const *w, size_t n_w, size_t n,
                        bool added, struct layers_scratch *s);
// y = [w[0](x) | w[1](x) | ...], x prepared; y may be some rows of an op with more.
void cpu_layers(struct ops *o, struct mat y, struct prepared x, const struct linear *const *w,
                size_t n_w, bool few, const struct layers_scratch *s);

// Rows of patches gathered at a time.
enum { PATCH_ROWS = 1024, PATCH_GATHER = 8 };
struct patch_scratch {
    void *x; // prepared, PATCH_ROWS of them
    struct layers_scratch layers;
    struct thread_scratch gather; // f32 [PATCH_GATHER, d_in]
};
void cpu_patch_scratch(struct ops *o, const struct linear *w, size_t n, struct patch_scratch *s);

// How the heads and query rows of an attention are cut into tasks.
struct attention_cut {
    size_t rows, n_row_block; // query rows of a task
    size_t group, n_group;    // query heads of a task; groups in all
    size_t n_kv;              // key heads of a task, each with `group` of them; 0 = 1
    bool few;
};
struct attention_cut cpu_attention_cut(const struct ops *o, size_t n_q, const struct attention *a);
struct thread_scratch cpu_attention_scratch(struct ops *o, const struct attention *a);
void cpu_cache_attention_scratch(struct ops *o, const struct cache_attention *a);

// Contiguous f32 copy of m for the tap, if m itself is not that.
float *cpu_tap_scratch(struct ops *o, struct mat m);

// ---- the ops, by file

// cpu_rows.c
// Rows of any stored type to f32 and back; blocks are whole ones.
void cpu_widen(const struct kernels *k, float *dst, const void *src, enum dtype t, size_t n);
void cpu_narrow(const struct kernels *k, void *dst, enum dtype t, const float *src, size_t n);
void cpu_copy(struct ops *o, struct mat dst, struct mat src);
void cpu_add(struct ops *o, struct mat x, struct mat y);
void cpu_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale);
void cpu_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                   const struct tensor *same);
void cpu_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps);
void cpu_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                    const struct tensor *b, float eps);
void cpu_gelu(struct ops *o, struct mat x);
void cpu_silu_mul(struct ops *o, struct mat gate, struct mat up);
void cpu_rope_table(struct ops *o, struct mat table, const uint32_t *pos, double theta);
void cpu_rope(struct ops *o, struct mat x, size_t n_head, struct mat table);
void cpu_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table);
void cpu_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids);
void cpu_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                    size_t d_head);
// cpu_linear.c
void cpu_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w);
void cpu_linears(struct ops *o, struct mat y, const struct linear_input *in,
                 const struct linear *const *w, size_t n_w);
void cpu_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                    const struct linear *w, const struct tensor *scale);
// cpu_patch.c
void cpu_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                     size_t patch, const struct linear *w);
// cpu_attention.c
void cpu_attention(struct ops *o, struct mat y, const struct attention *a);
void cpu_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a);

#endif
