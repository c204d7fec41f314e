// SPDX-License-Identifier: MIT
// Both precisions of a tier whose products are f32 fused multiply-adds, in the vector vocabulary of a
// lanes_*.h: in bf16 mode the same kernels run on factors rounded to bf16 and kept as f32.
#ifndef IV_KERNELS_PRODUCT_LANES_H
#define IV_KERNELS_PRODUCT_LANES_H

#include "kernels/few_lanes.h"
#include "kernels/soft_lanes.h"
#include "kernels/tile_lanes.h"

static inline void prepare_f32(const struct product_kernels *p, void *dst, const float *x,
                               size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_F32);
}

static inline void prepare_rounded(const struct product_kernels *p, void *dst, const float *x,
                                   size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_ROUNDED);
}

static inline void few_f32(const struct product_kernels *p, const struct product_job *j)
{
    few_lanes(p, j, false);
}

static inline void few_rounded(const struct product_kernels *p, const struct product_job *j)
{
    few_lanes(p, j, true);
}

static inline float soft_step_f32(void *p, const float *s, size_t n, size_t n_pad, float *max,
                                  float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_F32);
}

static inline float soft_step_rounded(void *p, const float *s, size_t n, size_t n_pad, float *max,
                                      float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_ROUNDED);
}

static inline void mix_f32(const struct mix_job *j)
{
    mix_form(j, false, FORM_F32);
}

static inline void mix_rounded(const struct mix_job *j)
{
    mix_form(j, true, FORM_ROUNDED);
}

static void pack_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n, size_t k)
{
    pack_any(panel, w, w_stride, t, false, n, k);
}

static void pack_t_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                       size_t k)
{
    pack_t_any(panel, w, w_stride, t, false, n, k);
}

static void products_set_lanes(struct product_kernels *f32, struct product_kernels *bf16)
{
    panel_set_lanes(f32);
    panel_set_lanes(bf16);
    f32->prepare = prepare_f32;
    bf16->prepare = prepare_rounded;
    f32->few = few_f32;
    bf16->few = few_rounded;
    f32->many = bf16->many = product_many_blocked;
    f32->attention = bf16->attention = attention_blocked;
    f32->attention_scratch = bf16->attention_scratch = attention_blocked_scratch;
    f32->pack = pack_f32;
    bf16->pack = pack_rounded;
    f32->pack_t = pack_t_f32;
    bf16->pack_t = pack_t_rounded;
    f32->soft_step = soft_step_f32;
    bf16->soft_step = soft_step_rounded;
    f32->mix = mix_f32;
    bf16->mix = mix_rounded;
}

#endif
