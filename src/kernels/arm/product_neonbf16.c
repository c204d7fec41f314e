// SPDX-License-Identifier: MIT
// Products with the bf16 instructions of Armv8.6: cells are pairs of bf16 and bfdot adds both products to a cell's
// f32 sum. Prepared rows are bf16. Only bf16 mode is replaced; f32 stays with Advanced SIMD.
//
// Easy to get wrong: the instruction rounds its sums to odd, not to nearest, and takes subnormal numbers as zero.
#include "kernels/arm/lanes_neon.h"

#define CELL_INPUTS 2

static inline lanes cells_pair(lanes low, lanes high)
{
    return vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high));
}

static inline lanes cells_weights(const uint8_t *w, enum dtype t, bool round)
{
    (void)round;
    if (t == DT_BF16)
        return lanes_load(w);
    if (t == DT_F16)
        return cells_pair(lanes_load_f16(w), lanes_load_f16(w + 8));
    return cells_pair(lanes_load(w), lanes_load(w + 16));
}

static inline lanes cells_weights_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    (void)round;
    size_t low = n < LANES ? n : LANES, high = n - low;
    if (t == DT_BF16) {
        uint16_t h[2 * LANES] = {0};
        memcpy(h, w, n * sizeof *h);
        return vreinterpretq_f32_u16(vld1q_u16(h));
    }
    if (t == DT_F16)
        return cells_pair(lanes_load_f16_n(w, low), lanes_load_f16_n(w + 2 * low, high));
    return cells_pair(lanes_load_n(w, low), lanes_load_n(w + 4 * low, high));
}

static inline lanes cells_fma(lanes sum, lanes x, lanes w)
{
    return vbfdotq_f32(sum, vreinterpretq_bf16_f32(x), vreinterpretq_bf16_f32(w));
}

static inline void cells_store(void *p, lanes v, size_t n)
{
    lanes_store_half_n(p, vreinterpret_u16_bf16(vcvt_bf16_f32(v)), n);
}

// The 16-bit elements of two rows, alternating.
static inline lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n)
{
    (void)round;
    const size_t second = next ? n : 0;
    const uint8_t *other = next ? next : w;
    uint16x4_t a, b;
    if (t == DT_BF16) {
        a = lanes_half_n(w, n);
        b = lanes_half_n(other, second);
    } else {
        lanes x = t == DT_F32 ? lanes_load_n(w, n) : lanes_load_f16_n(w, n);
        lanes y = t == DT_F32 ? lanes_load_n(other, second) : lanes_load_f16_n(other, second);
        a = vreinterpret_u16_bf16(vcvt_bf16_f32(x));
        b = vreinterpret_u16_bf16(vcvt_bf16_f32(y));
    }
    return vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(a, b), vzip2_u16(a, b)));
}

#include "kernels/few_lanes.h"
#include "kernels/soft_lanes.h"
#include "kernels/tile_lanes.h"

static void prepare_bf16(const struct product_kernels *p, void *dst, const float *x,
                         size_t x_stride, size_t m, size_t k)
{
    prepare_form(p, dst, x, x_stride, m, k, FORM_BF16);
}

static void few_bf16(const struct product_kernels *p, const struct product_job *j)
{
    few_lanes(p, j, true);
}

static float soft_step_bf16(void *p, const float *s, size_t n, size_t n_pad, float *max, float *sum)
{
    return soft_step_form(p, s, n, n_pad, max, sum, FORM_BF16);
}

static void mix_bf16(const struct mix_job *j)
{
    mix_form(j, true, FORM_BF16);
}

void kernels_set_neonbf16(struct kernels *k)
{
    k->tier = CPU_NEONBF16;
    struct product_kernels *p = &k->bf16;
    panel_set_lanes(p);
    p->prepare = prepare_bf16;
    p->few = few_bf16;
    p->pack = pack_rounded;
    p->pack_t = pack_t_rounded;
    p->soft_step = soft_step_bf16;
    p->mix = mix_bf16;
}
