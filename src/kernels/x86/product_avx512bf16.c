// SPDX-License-Identifier: MIT
// Products in AVX512-BF16: cells are pairs of bf16 and vdpbf16ps adds both products to a cell's f32 sum.
// Prepared rows are bf16. Only bf16 mode is replaced; f32 stays with AVX-512.
#include "kernels/x86/cells_avx512bf16.h"
#include "kernels/x86/tiers_blocks.h"

#include "kernels/few_lanes.h"
#include "kernels/soft_lanes.h"
#include "kernels/tile_lanes.h"

static void prepare_bf16(const struct product_kernels *p, void *dst, const float *x,
                         size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_BF16);
}

// Whether the rows of W lie one behind the other and are worth laying out several of x for.
static bool in_stretches(const struct product_kernels *p, const struct product_job *j)
{
    return j->w_type == DT_BF16 && j->m >= FEW_STRETCHED && j->k >= FEW_STRETCHED_INPUTS &&
           j->n >= FEW_GROUP_AVX512BF16 && j->w_stride == j->k && !p->ask_l2;
}

static void few_bf16(const struct product_kernels *p, const struct product_job *j)
{
    if (j->w_type == DT_Q8_0)
        few_q8_0_avx512bf16(p, j);
    else if (in_stretches(p, j))
        few_rows_avx512bf16(p, j);
    else
        few_lanes(p, j, true);
}

static float soft_step_bf16(void *p, const float *s, size_t n, size_t n_pad, float *max, float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_BF16);
}

static void mix_bf16(const struct mix_job *j)
{
    if (j->v_type == DT_BF16)
        mix_pairs_avx512bf16(j);
    else
        mix_form(j, true, FORM_BF16);
}

void kernels_set_avx512bf16(struct kernels *k)
{
    k->tier = CPU_AVX512BF16;
    struct product_kernels *p = &k->bf16;
    panel_set_lanes(p);
    p->prepare = prepare_bf16;
    p->few = few_bf16;
    p->few_group = FEW_GROUP_AVX512BF16;
    p->pack = pack_rounded;
    p->pack_t = pack_t_rounded;
    p->soft_step = soft_step_bf16;
    p->mix = mix_bf16;
    p->attention = attention_avx512bf16;
    p->attention_scratch = attention_avx512bf16_scratch;
}
