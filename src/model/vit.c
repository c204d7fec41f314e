// SPDX-License-Identifier: MIT
// Video transformer: patch embedding, class token, learned positions, pre-norm blocks with RMSNorm,
// q/k normalisation and LayerScale, then one LayerNorm. (SPEC 4; InternVideo2, arXiv 2403.15377)
//
//   x = [cls ; patches] + pos
//   x += ls1 * proj(attention(qkv(rms(x))))      39 blocks in the releases, not the nominal 40
//   x += ls2 * fc2(gelu(fc1(rms(x))))
//   out = layer_norm(x)
//
// Easy to get wrong: q_norm and k_norm are RMSNorms over the whole width, before the head split; qkv
// has no bias; the class token stays in the output; one frame switches to the image position table
// whatever the medium is.
#include "model/vit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "model/dims.h"

static const float RMS_EPS = 1e-6f;
static const float NORM_EPS = 1e-12f; // vision_layernorm

#define BLOCK(f) offsetof(struct vit_block, f)
static const struct bind_row block_rows[] = {
    {"norm1.weight", BIND_TENSOR, 0, BLOCK(norm1), 1, {DIM_VIT}},
    {"attn.qkv", BIND_LINEAR, 0, BLOCK(qkv), 2, {DIM_VIT_QKV, DIM_VIT}},
    {"attn.q_norm.weight", BIND_TENSOR, 0, BLOCK(q_norm), 1, {DIM_VIT}},
    {"attn.k_norm.weight", BIND_TENSOR, 0, BLOCK(k_norm), 1, {DIM_VIT}},
    {"attn.proj", BIND_LINEAR, BIND_BIAS, BLOCK(proj), 2, {DIM_VIT, DIM_VIT}},
    {"ls1", BIND_TENSOR, 0, BLOCK(ls1), 1, {DIM_VIT}},
    {"norm2.weight", BIND_TENSOR, 0, BLOCK(norm2), 1, {DIM_VIT}},
    {"mlp.fc1", BIND_LINEAR, BIND_BIAS, BLOCK(fc1), 2, {DIM_VIT_FFN, DIM_VIT}},
    {"mlp.fc2", BIND_LINEAR, BIND_BIAS, BLOCK(fc2), 2, {DIM_VIT, DIM_VIT_FFN}},
    {"ls2", BIND_TENSOR, 0, BLOCK(ls2), 1, {DIM_VIT}},
};

#define VIT(f) offsetof(struct vit, f)
static const struct bind_row vit_rows[] = {
    {"vision_encoder.cls_token", BIND_TENSOR, 0, VIT(cls_token), 3, {DIM_1, DIM_1, DIM_VIT}},
    {"vision_encoder.pos_embed", BIND_TENSOR, 0, VIT(pos_embed), 3, {DIM_1, DIM_VIT_POS, DIM_VIT}},
    {"vision_encoder.img_pos_embed",
     BIND_TENSOR,
     0,
     VIT(img_pos_embed),
     3,
     {DIM_1, DIM_VIT_IMG_POS, DIM_VIT}},
    {"vision_encoder.patch_embed.proj",
     BIND_LINEAR,
     BIND_BIAS | BIND_FINE, // a thousandth of the work
     VIT(patch_embed),
     5,
     {DIM_VIT, DIM_RGB, DIM_1, DIM_PATCH, DIM_PATCH}},
    {"vision_layernorm.weight", BIND_TENSOR, 0, VIT(norm_w), 1, {DIM_VIT}},
    {"vision_layernorm.bias", BIND_TENSOR, 0, VIT(norm_b), 1, {DIM_VIT}},
};
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

int vit_bind(struct vit *v, const struct vit_config *c, size_t n_frame_pos, struct binder *b,
             struct err *e)
{
    int rc;
    memset(v, 0, sizeof *v);
    v->c = *c;
    v->n_frame_pos = n_frame_pos;
    v->block = mem_calloc(c->n_layer, sizeof *v->block);
    if (!v->block)
        return err_set(e, ERR_LIMIT, "video transformer: out of memory for %zu blocks", c->n_layer);
    TRY(bind_rows(b, vit_rows, COUNT(vit_rows), "", v, e));
    tensor_drop_batch(&v->cls_token);
    tensor_drop_batch(&v->pos_embed);
    tensor_drop_batch(&v->img_pos_embed);
    for (size_t i = 0; i < c->n_layer; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "vision_encoder.blocks.%zu.", i);
        TRY(bind_rows(b, block_rows, COUNT(block_rows), prefix, &v->block[i], e));
    }
    return 0;
fail:
    vit_free(v);
    return rc;
}

void vit_free(struct vit *v)
{
    mem_free(v->block);
    memset(v, 0, sizeof *v);
}

size_t vit_tokens(const struct vit_config *c, size_t n_frame)
{
    return 1 + n_frame * c->n_patch;
}

static void table_row(const struct tensor *t, size_t row, float *out)
{
    size_t d = t->dim[1];
    dtype_to_f32(out, (const char *)t->data + dtype_span(t->dtype, row * d), t->dtype, d);
}

const struct tensor *vit_stored_position(const struct vit *v, size_t n_frame)
{
    if (n_frame == 1)
        return &v->img_pos_embed;
    return n_frame == v->n_frame_pos ? &v->pos_embed : NULL;
}

void vit_position(const struct vit *v, size_t n_frame, float *out)
{
    size_t d = v->c.d_model, n_patch = v->c.n_patch, t0 = v->n_frame_pos;
    const struct tensor *p = vit_stored_position(v, n_frame);
    if (p) {
        dtype_to_f32(out, p->data, p->dtype, vit_tokens(&v->c, n_frame) * d);
        return;
    }
    p = &v->pos_embed;
    // torch's linear interpolation, align_corners off; the class row is not part of it
    table_row(p, 0, out);
    float scale = (float)t0 / (float)n_frame;
    for (size_t t = 0; t < n_frame; t++) {
        float x = fmaxf(scale * ((float)t + 0.5f) - 0.5f, 0.0f);
        size_t i0 = (size_t)x, i1 = i0 + 1 < t0 ? i0 + 1 : t0 - 1;
        float w = x - (float)i0;
        for (size_t s = 0; s < n_patch; s++) {
            float *row = out + (1 + t * n_patch + s) * d;
            const char *base = p->data;
            size_t size = dtype_bytes(p->dtype);
            for (size_t c = 0; c < d; c++) {
                float a, b;
                dtype_to_f32(&a, base + ((1 + i0 * n_patch + s) * d + c) * size, p->dtype, 1);
                dtype_to_f32(&b, base + ((1 + i1 * n_patch + s) * d + c) * size, p->dtype, 1);
                row[c] = (1.0f - w) * a + w * b;
            }
        }
    }
}

// x holds n_clip clips of as many tokens each.
static void block_forward(struct ops *o, const struct vit *v, const struct vit_block *b,
                          struct mat x, size_t n_clip)
{
    size_t mark = ops_mark(o), n = x.rows, d = v->c.d_model;
    struct mat qkv = ops_act(o, n, 3 * d), ctx = ops_act(o, n, d);
    struct mat q = mat_cols(qkv, 0, d), k = mat_cols(qkv, d, d), val = mat_cols(qkv, 2 * d, d);
    op_linears(
        o, qkv,
        &(struct linear_input){.kind = INPUT_RMS_NORM, .x = x, .norm = &b->norm1, .eps = RMS_EPS},
        (const struct linear *[]){&b->qkv}, 1);
    op_rms_norm2(o, q, &b->q_norm, k, &b->k_norm, RMS_EPS);
    op_attention(o, ctx,
                 &(struct attention){.q = q,
                                     .k = k,
                                     .v = val,
                                     .n_seq = n_clip,
                                     .n_head = v->c.n_head,
                                     .n_kv = v->c.n_head,
                                     .d_head = v->c.d_head,
                                     .scale = (float)(1.0 / sqrt((double)v->c.d_head)),
                                     .levels = true});
    op_linear_add(o, x, &(struct linear_input){.kind = INPUT_ROWS, .x = ctx}, &b->proj, &b->ls1);

    ops_pop(o, mark);
    struct mat f = ops_act(o, n, v->c.d_ffn);
    bool early = ops_gelu_early(o);
    op_linears(
        o, f,
        &(struct linear_input){
            .kind = INPUT_RMS_NORM, .x = x, .norm = &b->norm2, .eps = RMS_EPS, .gelu = early},
        (const struct linear *[]){&b->fc1}, 1);
    op_linear_add(o, x, &(struct linear_input){.kind = early ? INPUT_ROWS : INPUT_GELU, .x = f},
                  &b->fc2, &b->ls2);
    ops_pop(o, mark);
}

void vit_forward(struct ops *o, const struct vit *v, const struct vit_input *in, struct mat out)
{
    const struct vit_config *c = &v->c;
    size_t n_tok = vit_tokens(c, in->n_frame), n_clip = in->n_clip;
    size_t frame_floats = 3 * c->image_size * c->image_size;
    char name[32];

    for (size_t i = 0; i < n_clip; i++) {
        struct mat x = mat_rows(out, i * n_tok, n_tok);
        const float *pixels = in->pixels ? in->pixels + i * in->n_frame * frame_floats : NULL;
        op_embed(o, mat_rows(x, 0, 1), &v->cls_token, (const int32_t[]){0});
        op_patch_embed(o, mat_rows(x, 1, n_tok - 1), pixels, in->n_frame, c->image_size, c->patch,
                       &v->patch_embed);
    }
    // the tap sees the class rows too; what reads it drops row 0 of each clip
    op_tap(o, "vit_patch", out, (const size_t[]){n_clip, n_tok, c->d_model}, 3);
    const struct tensor *stored = vit_stored_position(v, in->n_frame);
    op_add_table(o, out, in->position, n_tok, stored);

    // blocks outside, clips inside: each block's weights are read once for all clips
    size_t together = max_size(ops_many_rows(o) / n_tok, 1);
    for (size_t l = 0; l < c->n_layer; l++) {
        for (size_t i = 0; i < n_clip; i += together) {
            size_t n = min_size(together, n_clip - i);
            if (ops_status(o, NULL) != 0)
                return;
            block_forward(o, v, &v->block[l], mat_rows(out, i * n_tok, n * n_tok), n);
            hooks_progress(in->hooks, "vision", l * n_clip + i + n, c->n_layer * n_clip);
        }
        snprintf(name, sizeof name, "vit_block_%zu", l);
        op_tap(o, name, out, (const size_t[]){n_clip, n_tok, c->d_model}, 3);
    }
    op_layer_norm(o, out, out, &v->norm_w, &v->norm_b, NORM_EPS);
    op_tap(o, "vit", out, (const size_t[]){n_clip, n_tok, c->d_model}, 3);
}
