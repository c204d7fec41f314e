// SPDX-License-Identifier: MIT
// What stands behind ops.h: the part that all backends share, and the list of functions that one of
// them supplies. ops.c checks shapes, returns at once when the ops have failed, leaves out what has no
// rows or columns, counts work and then calls through this list, so a backend meets only sound calls.
// A device joins by filling another list.
#ifndef IV_OPS_BACKEND_H
#define IV_OPS_BACKEND_H

#include "ops/ops.h"

struct backend {
    void (*close)(struct ops *o); // frees o too

    // The arena. push: 64-byte aligned, contents undefined; what does not fit is ops_fail and NULL. The
    // planner's push returns NULL without failing.
    int (*reserve)(struct ops *o, size_t bytes, struct err *e);
    size_t (*reserved)(const struct ops *o);
    void *(*push)(struct ops *o, size_t bytes);
    size_t (*mark)(const struct ops *o);
    void (*pop)(struct ops *o, size_t mark);
    // Most bytes in use since the last peak_reset.
    size_t (*peak)(const struct ops *o);
    void (*peak_reset)(struct ops *o);
    // After a failure: whatever an interrupted op left behind. The arena is empty already.
    void (*clear)(struct ops *o);
    void (*wait)(struct ops *o); // NULL = an op is done when it returns

    // bytes zeroed that outlive the arena; NULL = not to be had (the planner: always, without failing).
    void *(*hold)(struct ops *o, size_t bytes);
    void (*release)(struct ops *o, void *data, size_t bytes);
    // Mats have no data: this stream only counts.
    bool (*is_virtual)(const struct ops *o);

    // NULL = what the CPU does: OPS_FEW_ROWS, 1, f32.
    const struct ops_traits *(*traits)(const struct ops *o);

    // As the op_ functions of the same names.
    void (*upload)(struct ops *o, struct mat dst, const float *src);
    void (*download)(struct ops *o, float *dst, struct mat src);
    void (*tap)(struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank);
    void (*copy)(struct ops *o, struct mat dst, struct mat src);
    void (*add)(struct ops *o, struct mat x, struct mat y);
    void (*add_scaled)(struct ops *o, struct mat x, struct mat y, const struct tensor *scale);
    void (*add_table)(struct ops *o, struct mat x, const float *t, size_t t_rows,
                      const struct tensor *same);
    void (*linear)(struct ops *o, struct mat y, struct mat x, const struct linear *w);
    void (*rms_norm)(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps);
    void (*layer_norm)(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                       const struct tensor *b, float eps);
    void (*gelu)(struct ops *o, struct mat x);
    void (*silu_mul)(struct ops *o, struct mat gate, struct mat up);
    // table is already pushed: [n, d_head]
    void (*rope_table)(struct ops *o, struct mat table, const uint32_t *pos, double theta);
    void (*rope)(struct ops *o, struct mat x, size_t n_head, struct mat table);
    void (*rope_pairs)(struct ops *o, struct mat x, size_t n_head, struct mat table);
    void (*embed)(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids);
    void (*patch_embed)(struct ops *o, struct mat y, const float *pixels, size_t n_frame,
                        size_t size, size_t patch, const struct linear *w);
    void (*split_wqkv)(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                       size_t d_head);
    void (*attention)(struct ops *o, struct mat y, const struct attention *a); // n_seq >= 1
    void (*cache_attention)(struct ops *o, struct mat y, const struct cache_attention *a);

    // Whole passages at once. NULL = fused.c makes them of the ops above.
    void (*linears)(struct ops *o, struct mat y, const struct linear_input *in,
                    const struct linear *const *w, size_t n_w);
    void (*linear_add)(struct ops *o, struct mat x, const struct linear_input *in,
                       const struct linear *w, const struct tensor *scale);
    void (*rms_norm2)(struct ops *o, struct mat a, const struct tensor *a_w, struct mat b,
                      const struct tensor *b_w, float eps); // NULL = two rms_norm
    // NULL = nothing is recorded.
    bool (*step_begin)(struct ops *o, uint64_t key, const int32_t *ids, const uint32_t *pos,
                       size_t n);
    void (*step_end)(struct ops *o);
};

struct ops_traits {
    size_t few_rows, many_rows;
    enum dtype act; // of ops_act
    bool gelu_early;
};

// First member of each backend's own struct.
struct ops {
    const struct backend *backend;
    struct pool *pool;
    const struct kernels *kernels;
    enum compute compute;
    struct hooks hooks;
    struct tap tap;
    const struct input_watch *watch; // NULL = nobody
    struct err status;               // code 0 = sound
    double flops, weight_bytes;
    bool in_step; // between ops_step_begin and ops_step_end
    // op_profile.h; NULL = off
    struct op_profile *profile;
    int profile_stage;
    double profile_flops, profile_bytes; // counted before
};

// Fills the shared part.
void ops_init(struct ops *o, const struct backend *b, const struct ops_options *opt);
// Remembers the first failure. On the thread that owns o.
void ops_fail(struct ops *o, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Bytes from the arena; NULL after a failure, and always from the planner.
void *ops_push(struct ops *o, size_t bytes);
// n items of size bytes.
void *ops_push_n(struct ops *o, size_t n, size_t size);

// Number of elements; outputs and inputs of a weight [out, in...] whose trailing dims count as one.
size_t tensor_count(const struct tensor *t);
size_t linear_outputs(const struct linear *w);
size_t linear_inputs(const struct linear *w);

// ---- fused.c: the passages made of single ops
void fused_linears(struct ops *o, struct mat y, const struct linear_input *in,
                   const struct linear *const *w, size_t n_w);
void fused_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                      const struct linear *w, const struct tensor *scale);

#endif
