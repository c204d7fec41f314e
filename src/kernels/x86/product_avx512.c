// SPDX-License-Identifier: MIT
// Products in AVX-512 without bf16 instructions: f32 panels and fused multiply-adds. In bf16 mode the
// same kernels run on factors rounded to bf16 and kept as f32.
#include "kernels/x86/lanes_avx512.h"

#include "kernels/x86/panel_avx512.h"

ALWAYS_INLINE lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n)
{
    (void)next;
    return weight_lanes_n(w, t, round, n);
}

ALWAYS_INLINE void pack_round(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                              size_t k, bool round)
{
    if (t == DT_F32)
        pack_type(panel, w, w_stride * 4, DT_F32, round, n, k);
    else if (t == DT_BF16)
        pack_type(panel, w, w_stride * 2, DT_BF16, round, n, k);
    else
        pack_type(panel, w, w_stride * 2, DT_F16, round, n, k);
}

ALWAYS_INLINE void pack_t_round(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                                size_t k, bool round)
{
    if (t == DT_F32)
        pack_t_type(panel, w, w_stride * 4, DT_F32, round, n, k);
    else if (t == DT_BF16)
        pack_t_type(panel, w, w_stride * 2, DT_BF16, round, n, k);
    else
        pack_t_type(panel, w, w_stride * 2, DT_F16, round, n, k);
}

static void pack_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n, size_t k)
{
    pack_round(panel, w, w_stride, t, n, k, false);
}

static void pack_rounded(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                         size_t k)
{
    pack_round(panel, w, w_stride, t, n, k, true);
}

static void pack_t_f32(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                       size_t k)
{
    pack_t_round(panel, w, w_stride, t, n, k, false);
}

static void pack_t_rounded(void *panel, const void *w, size_t w_stride, enum dtype t, size_t n,
                           size_t k)
{
    pack_t_round(panel, w, w_stride, t, n, k, true);
}

static void set_panel(struct product_kernels *p)
{
    p->panel = PANEL;
    p->block = PANEL_BLOCK;
    p->depth = PANEL_DEPTH;
    p->scratch_bytes = (size_t)PANEL_BLOCK * PANEL_DEPTH * sizeof(float);
    p->tile = tile_avx512;
}

void product_set_avx512(struct product_kernels *f32, struct product_kernels *bf16)
{
    product_set_lanes(f32, bf16);
    set_panel(f32);
    set_panel(bf16);
    f32->pack = pack_f32;
    f32->pack_t = pack_t_f32;
    bf16->pack = pack_rounded;
    bf16->pack_t = pack_t_rounded;
}
