// SPDX-License-Identifier: MIT
// Products in AVX512-BF16: cells are pairs of bf16 and vdpbf16ps adds both products to a cell's f32 sum.
// Prepared rows are bf16. Only bf16 mode is replaced; f32 stays with AVX-512.
//
// Easy to get wrong: the instruction takes subnormal factors as zero and flushes subnormal sums; and
// vcvtne2ps2bf16 puts its second operand into the lower half.
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/tiers_blocks.h"

#define CELL_INPUTS 2

static inline lanes cells_pair(lanes low, lanes high)
{
    __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    lanes bits;
    memcpy(&bits, &both, sizeof bits);
    return bits;
}

static inline lanes cells_weights(const uint8_t *w, enum dtype t, bool round)
{
    (void)round;
    if (t == DT_BF16)
        return lanes_load(w);
    if (t == DT_F16)
        return cells_pair(lanes_load_f16(w), lanes_load_f16(w + 32));
    return cells_pair(lanes_load(w), lanes_load(w + 64));
}

static inline lanes cells_weights_n(const uint8_t *w, enum dtype t, bool round, size_t n)
{
    (void)round;
    size_t low = n < 16 ? n : 16, high = n - low;
    if (t == DT_BF16)
        return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), w));
    if (t == DT_F16)
        return cells_pair(lanes_load_f16_n(w, low), lanes_load_f16_n(w + 2 * low, high));
    return cells_pair(lanes_load_n(w, low), lanes_load_n(w + 4 * low, high));
}

static inline lanes cells_fma(lanes sum, lanes x, lanes w)
{
    __m512bh xb, wb;
    memcpy(&xb, &x, sizeof xb);
    memcpy(&wb, &w, sizeof wb);
    return _mm512_dpbf16_ps(sum, xb, wb);
}

static inline void cells_store(void *p, lanes v, size_t n)
{
    __m256bh h = _mm512_cvtneps_pbh(v);
    __m256i bits;
    memcpy(&bits, &h, sizeof bits);
    if (n == LANES)
        _mm256_storeu_si256(p, bits);
    else
        _mm256_mask_storeu_epi16(p, lanes_first(n), bits);
}

// The 16-bit elements of two rows, alternating.
static inline lanes cells_column(const uint8_t *w, const uint8_t *next, enum dtype t, bool round,
                                 size_t n)
{
    (void)round;
    const __mmask16 first = lanes_first(n), second = next ? first : 0;
    const uint8_t *other = next ? next : w;
    if (t == DT_BF16) {
        __m256i a = _mm256_maskz_loadu_epi16(first, w), b = _mm256_maskz_loadu_epi16(second, other);
        __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16);
        return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(a), high));
    }
    lanes a, b;
    if (t == DT_F32) {
        a = _mm512_maskz_loadu_ps(first, w);
        b = _mm512_maskz_loadu_ps(second, other);
    } else {
        a = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first, w));
        b = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(second, other));
    }
    static const uint16_t alternate[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = _mm512_castps_si512(cells_pair(a, b));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_loadu_si512(alternate), both));
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
    if (j->w_type == DT_Q8_0)
        few_q8_0_avx512bf16(p, j);
    else
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

void kernels_set_avx512bf16(struct kernels *k)
{
    k->tier = CPU_AVX512BF16;
    struct product_kernels *p = &k->bf16;
    panel_set_lanes(p);
    p->prepare = prepare_bf16;
    p->few = few_bf16;
    p->pack = pack_rounded;
    p->pack_t = pack_t_rounded;
    p->soft_step = soft_step_bf16;
    p->mix = mix_bf16;
}
