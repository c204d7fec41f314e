// SPDX-License-Identifier: MIT
// Inside gpu/cuda: a stream of ops.
#ifndef IV_GPU_CUDA_STREAM_H
#define IV_GPU_CUDA_STREAM_H

#include "gpu/cuda/device.h"
#include "ops/backend.h"

enum {
    N_GRAPH = 4, // recorded steps kept
};

struct step_graph {
    uint64_t key, last_use;
    cudaGraphExec_t exec;
};

// Inverse frequencies of one rotary base, on the device.
struct inverse_freq {
    double theta;
    size_t d_head;
    float *host, *device; // host is pinned
    bool recorded;        // a recorded step reads it: it stays
};

struct stream {
    struct ops ops;
    struct gpu *gpu;
    bool is_virtual, place;
    struct ops_traits traits;
    cudaStream_t stream; // of parts
    char *arena;         // device memory
    size_t cap, used, peak;
    struct stream_parts parts;
    size_t ring_used;

    // Decoding steps.
    const int32_t *given_ids; // the caller's arrays while a step is recorded
    const uint32_t *given_pos;
    bool recording;
    uint64_t record_key, clock;
    struct step_graph graph[N_GRAPH];
    struct inverse_freq theta[N_THETA];
    size_t n_theta;
    struct profile *profile; // NULL = nothing is measured

    // The input of the product behind, where the last launch knew it (linear_ops.c).
    size_t n_launch;
    struct input_made {
        size_t launch; // the one that knew it: n_launch behind it; 0 = none
        enum input_kind kind;
        struct mat x; // what it is made of; SILU_MUL: and of as many columns behind
        const struct tensor *norm;
        // one row: the bf16 row, and for RMS_NORM the sums of squares; NULL = not made yet
        char *data;
    } input;
};

static inline struct stream *stream_of(struct ops *o)
{
    return (struct stream *)o;
}

// false = leave the op out: it only counts, or o failed (also because the caller wants to stop).
bool stream_runs(struct ops *o);
// Whether the op's weights are wanted on the device: it runs, or o places.
bool stream_wants_weights(struct ops *o);
// Remembers a failure of what = an op's name.
void stream_check(struct ops *o, int cuda_status, const char *what);
// Copies host bytes to the device in order with the ops; src may be reused at once.
void stream_put(struct ops *o, void *dst, const void *src, size_t bytes);
// n f32 values as bf16, rounded on the way.
void stream_put_bf16(struct ops *o, void *dst, const float *src, size_t n);
// Waits; failures of ops under way become o's.
void stream_wait(struct ops *o);

// t on the device as f32; NULL without t, and when the op is to be left out.
const float *stream_vector(struct ops *o, const struct tensor *t);

struct cuda_view view_of(struct mat m);

// profile.c: ends the time of what was launched last
void profile_mark(struct ops *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// record.c
bool cuda_step_begin(struct ops *o, uint64_t key, const int32_t *ids, const uint32_t *pos,
                     size_t n);
void cuda_step_end(struct ops *o);
void cuda_steps_forget(struct stream *s); // the recorded ones; the stream may still run them
void cuda_steps_free(struct stream *s);

// linear_ops.c, row_ops.c, attention_ops.c: the backend's functions
void gpu_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w);
void gpu_linears(struct ops *o, struct mat y, const struct linear_input *in,
                 const struct linear *const *w, size_t n_w);
void gpu_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                    const struct linear *w, const struct tensor *scale);
void gpu_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                     size_t patch, const struct linear *w);
void gpu_copy(struct ops *o, struct mat dst, struct mat src);
void gpu_add(struct ops *o, struct mat x, struct mat y);
void gpu_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale);
void gpu_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                   const struct tensor *same);
void gpu_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps);
void gpu_rms_norm2(struct ops *o, struct mat a, const struct tensor *a_w, struct mat b,
                   const struct tensor *b_w, float eps);
void gpu_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                    const struct tensor *b, float eps);
void gpu_gelu(struct ops *o, struct mat x);
void gpu_silu_mul(struct ops *o, struct mat gate, struct mat up);
void gpu_rope_table(struct ops *o, struct mat table, const uint32_t *pos, double theta);
void gpu_rope(struct ops *o, struct mat x, size_t n_head, struct mat table);
void gpu_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table);
void gpu_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids);
void gpu_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                    size_t d_head);
void gpu_attention(struct ops *o, struct mat y, const struct attention *a);
void gpu_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a);

#endif
