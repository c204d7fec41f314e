// SPDX-License-Identifier: MIT
// Inside gpu/cuda: the device that streams share, the weights on it, and matrix products.
#ifndef IV_GPU_CUDA_DEVICE_H
#define IV_GPU_CUDA_DEVICE_H

#include <cuda_runtime_api.h>
#include <pthread.h>

#include "gpu/cuda/device_kernels.h"
#include "gpu/cuda/lt.h"
#include "gpu/cuda/quant_kernels.h"
#include "gpu/gpu.h"

enum { PLACED_PARTS = CUDA_QUANT_PARTS }; // layers side by side at most
enum { STAGE_BYTES = 32 << 20 };          // half of the pinned memory that weights pass through

enum {
    RING_BYTES = 16 << 20, // pinned memory that a stream's copies pass through
    POS_CAP = 4096,        // rows of one call that have positions
    IDLE_STREAMS = 8,      // kept for the next that is opened
    N_THETA = 4,           // rotary bases that a stream keeps
    MAX_HALF = CUDA_HEAD_MAX / 2,
};

struct stream_parts {
    cudaStream_t stream;
    void *workspace;     // of products, PRODUCT_WORKSPACE
    char *ring;          // pinned, RING_BYTES
    uint32_t *pos;       // device [POS_CAP]: of the rows under way, those of the last op_rope_table
    int32_t *step_ids;   // device [OPS_STEP_ROWS]
    uint32_t *step_pos;  // device [OPS_STEP_ROWS]
    uint32_t *step_turn; // device [CUDA_STEP_TURNS], 0 between launches
    float *freq;         // device [N_THETA, MAX_HALF]: inverse frequencies of rotary bases
};

enum { PLACED_K_STEP = 32 }; // columns of a placed layer are a multiple

struct placed_table;
struct algo_table;

// How device_product.c chooses cuBLASLt's algorithm for prompt-sized products.
struct product_rule {
    size_t nominal_rows; // one algorithm, asked for at this number, serves every number of rows
    int candidate; // of those that cuBLASLt names, best first; the last one where there are fewer
    bool split; // the sum over k may be in a fixed number of pieces, added in f32 in a fixed order
};

struct gpu {
    int index;
    enum compute compute;
    enum gpu_weights weights;
    size_t n_layer; // of the language model; 0 = not known
    struct pool *pool;
    const struct kernels *kernels;
    struct gpu_info info;
    struct lt lt;
    cublasLtHandle_t handle;

    pthread_mutex_t lock; // guards what follows
    cudaStream_t copies;  // weights on their way
    char *stage;          // pinned, 2 * STAGE_BYTES
    cudaEvent_t stage_done[2];
    struct placed_table *placed;

    pthread_mutex_t algo_lock; // taken inside lock
    struct algo_table *algos;

    pthread_mutex_t idle_lock;
    struct stream_parts idle[IDLE_STREAMS];
    size_t n_idle;
    struct product_rule rule; // under algo_lock

    bool plans;                  // of gpu_open_plan: there is no device
    pthread_mutex_t memory_lock; // taken inside the others
    struct gpu_memory memory;
};

// Makes g's device the calling thread's current one; nothing where g plans. A thread has the first device at first, and
// whoever ran on it since (another engine, the caller's own CUDA code in a callback) may have left another one: so every
// op does it, and whatever else is given a stream, memory or the handle.
void device_enter(const struct gpu *g);
// Names the call and CUDA's reason. Returns code.
int cuda_error(struct err *e, int code, const struct gpu *g, const char *what, cudaError_t status);

// device_memory.c: `bytes` of device memory for `kind`; NULL on failure, and where g plans. What is given back is counted
// with the bytes it was taken with; 0 = it never was.
cudaError_t device_take(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, void **out);
void device_give(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, void *p);
// In order with a stream's work; not where g plans.
cudaError_t device_take_async(struct gpu *g, enum gpu_memory_kind kind, size_t bytes,
                              cudaStream_t stream, void **out);
void device_give_async(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, cudaStream_t stream,
                       void *p);

// stream.c
void streams_free(struct gpu *g);

// ---- placed.c: weights on the device, made when first asked for. Pointers stay valid until gpu_close.

// Layers that read the same input, one below the other: rows of w are [W row | LoRA B row | 0], so that with
// input rows [x | lora_scale * x A^T | 0] one product does it all.
struct placed_linear {
    void *w;         // [n_out, k_out], bf16 (f32 in COMPUTE_F32)
    void *lora_a;    // [n_lora, d_in], the same type; NULL without LoRA
    float *bias;     // f32 [n_out] or NULL
    void *bias_bf16; // the same in bf16, or NULL
    size_t d_in, n_lora, k_out, n_out;
    float lora_scale;
    const void *scale; // data of the LayerScale that is in w and bias, or NULL

    // In blocks: w, lora_a are NULL, n_lora is 0, k_out is d_in, and part [n_part] holds the rows.
    struct cuda_quant_weight part[PLACED_PARTS];
    size_t n_part;
};
// Rows to look up: plain, or in blocks.
struct placed_rows {
    struct cuda_view view;
    struct cuda_quant_weight blocks; // planes NULL: they are in view
};
// Whether t goes to g in the blocks that it has: where g computes in bf16 and there are kernels for them. What else is in
// blocks becomes bf16 or f32 on its way.
bool place_stored(const struct gpu *g, const struct tensor *t, enum cuda_quant *type);
// Whether g keeps w in blocks, its own or such as it is quantised to.
bool place_quantised(const struct gpu *g, const struct linear *w);
// Whether g merges w's LoRA into bf16 weights.
bool place_merges(const struct gpu *g, const struct linear *w);
// Whether g multiplies the LayerScale behind w into weights and bias.
bool place_folds(const struct gpu *g, const struct linear *w);
// scale: the LayerScale that w[0] always goes with, or NULL.
int place_linears(struct gpu *g, const struct linear *const *w, size_t n_w,
                  const struct tensor *scale, const struct placed_linear **out, struct err *e);
// A vector as f32.
int place_vector(struct gpu *g, const struct tensor *t, const float **out, struct err *e);
// A matrix of rows to look up: bf16 stays bf16, blocks as place_stored says, all else becomes f32.
int place_table(struct gpu *g, const struct tensor *t, size_t cols, struct placed_rows *out,
                struct err *e);
void placed_free(struct gpu *g);

// place_quant.c: w's layers, place_quantised, into p->part. scratch of its own; synchronous.
int quantise_group(struct gpu *g, const struct linear *const *w, size_t n_w,
                   struct placed_linear *p, struct err *e);
// Rows of t, place_stored, as rows [first, first + rows) of part. As quantise_group.
int place_blocks(struct gpu *g, const struct tensor *t, size_t rows, struct cuda_quant_weight part,
                 size_t first, struct err *e);
// W + lora_scale B A of l as bf16 rows [n_out, stride] at dst.
int merge_layer(struct gpu *g, const struct linear *l, void *dst, size_t stride, struct err *e);
// place_copy.c: memory for weights, and rows of a tensor (a matrix [rows, cols] whatever its rank) copied there in type
// `to` (F32, BF16 or t's own), dst_stride bytes apart; place_scaled: each row times its element of scale, NULL = as it is.
// Where g plans nothing is copied. Under g->lock.
int place_alloc(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, const char *name,
                void **out, struct err *e);
int place_rows(struct gpu *g, const struct tensor *t, size_t rows, size_t cols, char *dst,
               size_t dst_stride, enum dtype to, struct err *e);
int place_scaled(struct gpu *g, const struct tensor *t, const float *scale, size_t rows,
                 size_t cols, char *dst, size_t dst_stride, enum dtype to, struct err *e);
// What was copied is there; t may go.
int place_finish(struct gpu *g, struct err *e);

// ---- device_product.c: y = alpha * x W^T [+ bias] [+ y], row-major, through cuBLASLt

struct device_product {
    struct cuda_view y; // [m, n]
    const void *x, *w;  // [m, k], [n, k]: bf16, or f32
    size_t m, n, k, x_stride, w_stride;
    bool is_bf16; // x and w
    float alpha;
    bool add;         // y is added to
    const void *bias; // [n] in y's type, or NULL
    bool gelu;        // y = GELU(...) in the form with tanh; only with bias
    void *workspace;  // PRODUCT_WORKSPACE bytes
};
enum { PRODUCT_WORKSPACE = 64 << 20 };
int device_product(struct gpu *g, const struct device_product *p, cudaStream_t stream,
                   struct err *e);
// Whether the library has an algorithm for p.
bool product_serves(struct gpu *g, const struct device_product *p);
// From here on; the default is device_product.c's. For measurements: with another rule a row rounds differently.
void product_set_rule(struct gpu *g, struct product_rule rule);
void product_free(struct gpu *g);

#endif
