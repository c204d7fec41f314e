// SPDX-License-Identifier: MIT
// The video transformer "InternVideo2-1B" and the LayerNorm behind it. (SPEC 4)
#ifndef IV_MODEL_VIT_H
#define IV_MODEL_VIT_H

#include <stddef.h>

#include "base/log.h"
#include "model/config.h"
#include "ops/ops.h"
#include "weights/bind.h"

struct vit_block {
    struct tensor norm1, norm2;   // [d_model]
    struct tensor q_norm, k_norm; // [d_model]: over all heads together
    struct tensor ls1, ls2;       // [d_model] LayerScale
    struct linear qkv;            // [3 d_model, d_model], no bias
    struct linear proj;           // [d_model, d_model] + bias
    struct linear fc1, fc2;       // [d_ffn, d_model], [d_model, d_ffn] + bias
};

// Weights, read-only after vit_bind.
struct vit {
    struct vit_config c;
    size_t n_frame_pos;           // T0: frames that pos_embed was made for
    struct linear patch_embed;    // [d_model, 3, 1, patch, patch] + bias
    struct tensor cls_token;      // [1, d_model]
    struct tensor pos_embed;      // [1 + T0 n_patch, d_model]
    struct tensor img_pos_embed;  // [1 + n_patch, d_model]
    struct tensor norm_w, norm_b; // vision_layernorm [d_model]
    struct vit_block *block;      // [c.n_layer]
};

// Binds every tensor. On failure *v is as vit_free leaves it.
int vit_bind(struct vit *v, const struct vit_config *c, size_t n_frame_pos, struct binder *b,
             struct err *e);
void vit_free(struct vit *v);

// Tokens of one clip: 1 + n_frame * n_patch.
size_t vit_tokens(const struct vit_config *c, size_t n_frame);

// Position table for clips of n_frame frames, f32 [vit_tokens, d_model] into out: img_pos_embed for one
// frame, pos_embed as it is or interpolated linearly in time otherwise (SPEC 4.1).
void vit_position(const struct vit *v, size_t n_frame, float *out);
// The same if the checkpoint holds it as it is, else NULL.
const struct tensor *vit_stored_position(const struct vit *v, size_t n_frame);

struct vit_input {
    const float *pixels; // host, f32 [n_clip, n_frame, 3, image_size, image_size], normalised
    size_t n_clip, n_frame;
    const float *position; // host, from vit_position; on a GPU not read where there is a stored one
    const struct hooks *hooks; // progress "vision": one unit per clip and block
};

// out, f32 [n_clip * tokens, d_model]: all tokens, the class token first, after vision_layernorm. Taps:
// "vit_patch", "vit_block_<i>" (the residual stream) and "vit", each for all clips. Failure: ops_status.
void vit_forward(struct ops *o, const struct vit *v, const struct vit_input *in, struct mat out);

#endif
