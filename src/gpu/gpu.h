// SPDX-License-Identifier: MIT
// A graphics processor as a place where ops run. Built with the CUDA toolkit (IV_CUDA) these functions
// are those of gpu/cuda; built without they say that there is none.
#ifndef IV_GPU_GPU_H
#define IV_GPU_GPU_H

#include <stdbool.h>
#include <stddef.h>

#include "ops/ops.h"

enum { GPU_NONE = -1 };

// Reads "auto", "cpu", "cuda" or "cuda:N" (NULL = auto). *index is the device asked for, GPU_NONE for cpu;
// *must is true when nothing else will do ("auto" takes what there is). ERR_USAGE for other texts.
int gpu_parse(const char *text, int *index, bool *must, struct err *e);

// How the language model's linear layers lie on the device: plain, as they are computed in, or quantised when they are
// brought there (LoRA merged in f32 first), in the block formats of GGUF files. A layer of a file that is in one of
// these formats stays so where it is computed in bf16, whatever this says; of other block formats it is unpacked.
// Q4_K_M is llama.cpp's mixture: Q6_K for the head and for part of the value and down projections.
enum gpu_weights {
    GPU_WEIGHTS_PLAIN,
    GPU_WEIGHTS_Q8_0,
    GPU_WEIGHTS_Q4_0,
    GPU_WEIGHTS_Q4_K_M,
    GPU_WEIGHTS_Q6_K,
    GPU_WEIGHTS_N
};
const char *gpu_weights_name(enum gpu_weights w);
bool gpu_weights_from_name(const char *name, enum gpu_weights *out);

struct gpu;
struct gpu_info {
    char name[128];        // "NVIDIA H200"
    size_t memory_bytes;   // of the device
    unsigned major, minor; // compute capability
};

// Opens device `index`: driver, cuBLASLt, streams. ERR_FAIL saying what is missing when the build, the driver, the
// library or the device is not there. pool and kernels convert weights on their way; they, and the tensors
// that ops meet, outlive the gpu. Caller closes.
struct gpu_options {
    int index;
    enum compute compute;
    enum gpu_weights weights; // other than PLAIN only with COMPUTE_BF16
    size_t n_layer;           // of the language model, for Q4_K_M
    struct pool *pool;
    const struct kernels *kernels;
};
// Whether this build knows GPUs at all.
bool gpu_is_built(void);
// Whether gpu_open would find device `index`: the same errors, but nothing is opened.
int gpu_probe(int index, struct err *e);
int gpu_open(const struct gpu_options *opt, struct gpu **out, struct err *e);
void gpu_close(struct gpu *g); // NULL is allowed; no ops of it may be open
void gpu_get_info(const struct gpu *g, struct gpu_info *out);

// What device memory is taken for. What the driver takes for itself (its context, recorded steps, rounding) is in none.
enum gpu_memory_kind {
    // layers in bf16 or f32. LoRA is merged into the language model's where g computes in bf16 and weights are plain;
    // where it is not merged its B is part of their rows
    GPU_MEM_PLAIN,
    GPU_MEM_Q8_0, // layers in blocks, own or made
    GPU_MEM_Q6_K,
    GPU_MEM_Q4_K,
    GPU_MEM_Q4_0,
    GPU_MEM_LORA,                      // A of LoRA that is not merged
    GPU_MEM_VECTORS,                   // biases (in f32 and bf16), norms, small tables of positions
    GPU_MEM_TABLES,                    // rows to look up, plain or in blocks
    GPU_MEM_WEIGHTS,                   // so many kinds are weights
    GPU_MEM_LOADING = GPU_MEM_WEIGHTS, // while a layer is merged, quantised or repacked
    GPU_MEM_STREAMS,                   // of every stream: cuBLASLt's workspace and small buffers
    GPU_MEM_SCRATCH,                   // arenas
    GPU_MEM_HELD,                      // keys and values
    GPU_MEM_N
};
struct gpu_memory {
    size_t used[GPU_MEM_N], peak[GPU_MEM_N]; // bytes now, and most at one time
    size_t used_all, peak_all;
};
// What g has taken; of a gpu of gpu_open_plan: what another one would have taken for the same calls.
void gpu_get_memory(struct gpu *g, struct gpu_memory *out);
// Bytes of weights: of their kinds, which are the first.
static inline size_t gpu_memory_weights(const size_t bytes[GPU_MEM_WEIGHTS])
{
    size_t sum = 0;
    for (unsigned i = 0; i < GPU_MEM_WEIGHTS; i++)
        sum += bytes[i];
    return sum;
}
// Bytes free on the device, those included that this process keeps in CUDA's pool without using them.
size_t gpu_free_bytes(const struct gpu *g);
// GPU_MEM_STREAMS of one stream, which it keeps; pinned memory of the host for n streams and weights on their way.
size_t gpu_stream_bytes(void);
size_t gpu_pinned_bytes(size_t n_stream);

// A gpu without a device, which counts: only gpu_get_memory, gpu_get_info and gpu_free_bytes (both tell of nothing: no
// name, 0 bytes), ops_open_gpu_plan and gpu_close may meet it. Works where there is no driver. ERR_FAIL when the build
// knows no GPUs.
int gpu_open_plan(const struct gpu_options *opt, struct gpu **out, struct err *e);

// A stream of work on g, with an empty arena of device memory. Activations between products are bf16 in
// COMPUTE_BF16 (one rounding; the residual stream, norms, softmax and sums stay f32). Weights are brought
// to the device when an op first meets them. opt->compute is g's.
int ops_open_gpu(struct gpu *g, const struct ops_options *opt, struct ops **out, struct err *e);
// Counts what ops_open_gpu's stream would take; with `place` the weights that the calls name are brought
// to the device (counted by a gpu that plans), so that later ones find them there.
int ops_open_gpu_plan(struct gpu *g, const struct ops_options *opt, bool place, struct ops **out,
                      struct err *e);

// Where the time of a stream's ops goes, for measurements: launches between start and stop, by name. stop
// writes up to cap entries, returns their number.
struct gpu_time {
    char name[48];
    size_t n;
    double ms;
};
// o: of ops_open_gpu.
void ops_gpu_profile_start(struct ops *o);
size_t ops_gpu_profile_stop(struct ops *o, struct gpu_time *out, size_t cap);

#endif
