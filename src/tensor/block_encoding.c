// SPDX-License-Identifier: MIT
// f32 to blocks; layouts in tensor/blocks.h.
//
// Q4_0, Q5_0, Q8_0: the largest magnitude of a block decides its step, every weight goes to its nearest
// level; with an importance the step is fitted as that of a Q6_K group. In Q4_0 and Q5_0, whose levels reach further down than up, the largest gets the lowest level.
//
// Q4_K, Q6_K: for each group the step (and for Q4_K the minimum) that makes the sum of w_i (x_i - y_i)^2 least:
// several steps are tried for choosing the levels, and for each choice the best step and minimum follow from
// a weighted linear regression. Then the groups' steps are themselves rounded to the super-block's scale,
// and the levels chosen anew. w_i grows with the magnitude, times the importance if one is given.
//
// Easy to get wrong: levels must be chosen with the step as it is stored, rounded to f16 and 6 or 8 bits;
// a Q4_K minimum cannot be positive; a group of zeros has no step.
#include <assert.h>
#include <math.h>

#include "base/size.h"
#include "tensor/blocks.h"
#include "tensor/block_coding.h"

static const float F16_MAX = 65504.0f;
static const float TINY = 1e-30f; // steps below are zero in f16 and have no inverse in f32

static float clampf(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

// Element of the largest magnitude, the first of equals.
static float largest(const float *x, size_t n)
{
    float at = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(at))
            at = x[i];
    return at;
}

// ---- groups of a super-block

enum {
    LANE = 8
}; // sums are kept in so many, in single precision: the compiler makes vectors of them

// Nearest integer, ties to even, of |v| < 2^22: the sum has no room for a fraction.
static inline float nearest(float v)
{
    const float big = 0x1.8p23f;
    return (v + big) - big;
}

struct moments {
    double q, qq, xq; // of w q, w q^2, w x q
};

// Levels low..high of (x - from) inverse, and their weighted sums. n is a multiple of LANE.
static struct moments level_moments(const float *x, const float *w, size_t n, float from,
                                    float inverse, float low, float high)
{
    float q1[LANE] = {0}, q2[LANE] = {0}, xq[LANE] = {0};
    for (size_t i = 0; i < n; i += LANE)
        for (size_t l = 0; l < LANE; l++) {
            float v = nearest((x[i + l] - from) * inverse);
            v = v < low ? low : v;
            v = v > high ? high : v;
            float wq = w[i + l] * v;
            q1[l] += wq;
            q2[l] += wq * v;
            xq[l] += wq * x[i + l];
        }
    struct moments m = {0};
    for (size_t l = 0; l < LANE; l++) {
        m.q += (double)q1[l];
        m.qq += (double)q2[l];
        m.xq += (double)xq[l];
    }
    return m;
}

// Step and minimum (<= 0) for n weights on levels 0..top: x ~ step q + min. The error of the best step and
// minimum for given levels is sum w x^2 - step sum w x q - min sum w x.
static void fit_affine(const float *x, const float *w, size_t n, int top, float *step, float *min)
{
    enum { TRIES = 21 };
    float low = 0, high = x[0];
    double sw = 0, swx = 0, best = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sw += (double)w[i];
        swx += (double)w[i] * (double)x[i];
    }
    *step = 0;
    *min = low;
    if (!(high - low > TINY))
        return;
    for (int t = 0; t < TRIES; t++) {
        // a little fewer or more levels than there are across the range, from the best minimum so far: outer
        // weights may be cut
        low = *min;
        if (!(high - low > TINY))
            break;
        float inverse = ((float)top - 1.0f + 0.1f * (float)t) / (high - low);
        struct moments s = level_moments(x, w, n, low, inverse, 0.0f, (float)top);
        if (!(s.qq > 0))
            continue;
        double det = sw * s.qq - s.q * s.q, a = s.xq / s.qq, m = 0;
        if (det > 1e-6 * sw * s.qq) { // not all on one level
            double free_min = (s.qq * swx - s.q * s.xq) / det;
            if (free_min < 0) {
                m = free_min;
                a = (sw * s.xq - swx * s.q) / det;
            }
        }
        double gain = a * s.xq + m * swx;
        if (a > 0 && gain > best) {
            best = gain;
            *step = (float)a;
            *min = (float)m;
        }
    }
}

// Step (of either sign) for n weights on levels -top .. top - 1: x ~ step q.
static float fit_linear(const float *x, const float *w, size_t n, int top)
{
    enum { TRIES = 19 };
    float peak = largest(x, n), step = 0;
    double best = 0;
    if (!(fabsf(peak) > TINY))
        return 0;
    for (int t = 0; t < TRIES; t++) {
        float inverse = -((float)top + 0.1f * (float)(t - TRIES / 2)) / peak;
        struct moments s = level_moments(x, w, n, 0.0f, inverse, -(float)top, (float)(top - 1));
        if (s.qq > 0 && s.xq * s.xq > best * s.qq) { // the error is sum w x^2 - xq^2 / qq
            best = s.xq * s.xq / s.qq;
            step = (float)(s.xq / s.qq);
        }
    }
    return step;
}

// Root mean square of a super-block.
static float rms(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return (float)sqrt(sum / (double)n);
}

// What an error in each weight of a group counts.
static void group_weights(float *w, const float *x, size_t n, float scale, const float *importance)
{
    for (size_t i = 0; i < n; i++) {
        float own = importance ? sqrtf(scale * scale + x[i] * x[i]) : scale + fabsf(x[i]);
        w[i] = importance ? importance[i] * own : own;
    }
    for (size_t i = 0; i < n; i++)
        if (w[i] > 0)
            return;
    for (size_t i = 0; i < n; i++) // nothing counts: everything does
        w[i] = 1;
}

// The f16 that a step is stored as.
static float f16_value(float d)
{
    return f16_to_f32(f32_to_f16(d));
}

// Step of 32 weights by their importance; `plain` where there is none to be found.
static float small_step(const float *x, const float *importance, int top, float plain)
{
    float w[32];
    group_weights(w, x, 32, rms(x, 32), importance);
    float step = fit_linear(x, w, 32, top);
    return step != 0 && isfinite(f16_value(step)) ? step : plain;
}

// ---- 32 weights, one scale

static void q8_0_levels(struct block_q8_0 *b, const float *x, float d, float inverse)
{
    b->d = f32_to_f16(d);
    for (size_t i = 0; i < 32; i++)
        b->qs[i] = (int8_t)clampf(roundf(x[i] * inverse), -127.0f, 127.0f);
}

// A value that is not finite makes the whole block NaN: cached keys and values may hold one, and must show it.
static bool all_finite(const float *x, size_t n)
{
    float zero = 0;
    for (size_t i = 0; i < n; i++)
        zero += x[i] * 0.0f;
    return zero == 0;
}

static void to_q8_0(struct block_q8_0 *b, const float *x, const float *importance)
{
    if (!all_finite(x, 32)) {
        b->d = 0x7e00; // NaN
        memset(b->qs, 0, sizeof b->qs);
        return;
    }
    float d = fabsf(largest(x, 32)) / 127.0f;
    if (importance)
        d = f16_value(fabsf(small_step(x, importance, 127, d)));
    q8_0_levels(b, x, d, d > TINY ? 1.0f / d : 0.0f);
}

// Level 0 .. 2 half - 1 of x, half being that of zero.
static unsigned level_of(float x, float inverse, int half)
{
    float v =
        x * inverse + (float)half + 0.5f; // without importance >= 0.5: the largest is at -half
    return (unsigned)clampf(v, 0.0f, (float)(2 * half - 1));
}

static void to_q4_0(struct block_q4_0 *b, const float *x, const float *importance)
{
    float d = largest(x, 32) / -8.0f;
    if (importance)
        d = f16_value(small_step(x, importance, 8, d));
    float inverse = fabsf(d) > TINY ? 1.0f / d : 0.0f;
    b->d = f32_to_f16(d);
    for (size_t i = 0; i < 16; i++)
        b->qs[i] = (uint8_t)(level_of(x[i], inverse, 8) | level_of(x[i + 16], inverse, 8) << 4);
}

static void to_q5_0(struct block_q5_0 *b, const float *x, const float *importance)
{
    float d = largest(x, 32) / -16.0f;
    if (importance)
        d = f16_value(small_step(x, importance, 16, d));
    float inverse = fabsf(d) > TINY ? 1.0f / d : 0.0f;
    uint32_t high = 0;
    b->d = f32_to_f16(d);
    for (size_t i = 0; i < 16; i++) {
        unsigned lo = level_of(x[i], inverse, 16), hi = level_of(x[i + 16], inverse, 16);
        b->qs[i] = (uint8_t)((lo & 15) | (hi & 15) << 4);
        high |= (uint32_t)(lo >> 4) << i | (uint32_t)(hi >> 4) << (i + 16);
    }
    memcpy(b->qh, &high, sizeof high);
}

// ---- super-blocks

static void put_group_scale(uint8_t *s, size_t g, unsigned scale, unsigned min)
{
    if (g < 4) {
        s[g] = (uint8_t)(s[g] | scale);
        s[g + 4] = (uint8_t)(s[g + 4] | min);
    } else {
        s[g + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        s[g - 4] = (uint8_t)(s[g - 4] | scale >> 4 << 6);
        s[g] = (uint8_t)(s[g] | min >> 4 << 6);
    }
}

static void to_q4_k(struct block_q4_k *b, const float *x, const float *importance)
{
    float step[8], min[8], top_step = 0, top_min = 0, w[32];
    memset(b, 0, sizeof *b);
    for (size_t g = 0; g < 8; g++) {
        const float *from = x + 32 * g;
        group_weights(w, from, 32, rms(importance ? x : from, importance ? 256 : 32),
                      importance ? importance + 32 * g : NULL);
        fit_affine(from, w, 32, 15, &step[g], &min[g]);
        top_step = fmaxf(top_step, step[g]);
        top_min = fmaxf(top_min, -min[g]);
    }
    b->d = f32_to_f16(top_step / 63.0f);
    b->dmin = f32_to_f16(top_min / 63.0f);
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (size_t g = 0; g < 8; g++) {
        unsigned scale = 0, base = 0;
        if (d > 0)
            scale = (unsigned)clampf(rintf(step[g] / d), 0.0f, 63.0f);
        if (dmin > 0)
            base = (unsigned)clampf(rintf(-min[g] / dmin), 0.0f, 63.0f);
        put_group_scale(b->scales, g, scale, base);
        float s = d * (float)scale, m = dmin * (float)base;
        for (size_t i = 0; s > 0 && i < 32; i++) {
            unsigned q = (unsigned)clampf(nearest((x[32 * g + i] + m) / s), 0.0f, 15.0f);
            uint8_t *to = &b->qs[32 * (g / 2) + i];
            *to = (uint8_t)(*to | q << (g & 1) * 4);
        }
    }
}

static void to_q6_k(struct block_q6_k *b, const float *x, const float *importance)
{
    float step[16], w[16];
    memset(b, 0, sizeof *b);
    for (size_t g = 0; g < 16; g++) {
        const float *from = x + 16 * g;
        for (size_t i = 0; i < 16; i++)
            w[i] = importance ? importance[16 * g + i] : from[i] * from[i];
        step[g] = fit_linear(from, w, 16, 32);
    }
    float d0 =
        largest(step, 16) / -128.0f; // the largest gets -128, the one magnitude without a twin
    b->d = f32_to_f16(d0);
    float d = f16_to_f32(b->d);
    for (size_t g = 0; d != 0 && g < 16; g++) {
        b->scales[g] = (int8_t)clampf(rintf(step[g] / d), -128.0f, 127.0f);
        float s = d * (float)b->scales[g];
        size_t h = g / 8, c = g / 2 % 4;
        for (size_t i = 0; i < 16; i++) {
            size_t at = 16 * (g % 2) + i; // in its quarter
            float v = s != 0 ? nearest(x[16 * g + i] / s) : 0.0f;
            unsigned q = (unsigned)(clampf(v, -32.0f, 31.0f) + 32.0f);
            uint8_t *low = &b->ql[64 * h + 32 * (c & 1) + at], *high = &b->qh[32 * h + at];
            *low = (uint8_t)(*low | (q & 15) << (c < 2 ? 0 : 4));
            *high = (uint8_t)(*high | q >> 4 << 2 * c);
        }
    }
}

bool blocks_writable(enum dtype t)
{
    return t == DT_Q4_0 || t == DT_Q5_0 || t == DT_Q8_0 || t == DT_Q4_K || t == DT_Q6_K;
}

float blocks_limit(enum dtype t)
{
    switch (t) {
    case DT_Q4_0:
        return 8.0f * F16_MAX;
    case DT_Q5_0:
        return 16.0f * F16_MAX;
    default: // of a Q4_K weight both scale and minimum must fit, with room for the regression
        return 32.0f * F16_MAX;
    }
}

void blocks_from_f32(void *dst, enum dtype t, const float *src, size_t n, const float *importance)
{
    union {
        struct block_q4_0 q4_0;
        struct block_q5_0 q5_0;
        struct block_q8_0 q8_0;
        struct block_q4_k q4_k;
        struct block_q6_k q6_k;
    } b;
    size_t block = dtype_block(t), bytes = dtype_block_bytes(t);
    assert(blocks_writable(t) && n % block == 0 && bytes <= sizeof b);
    uint8_t *to = dst;
    for (; n > 0; n -= block, src += block, to += bytes) {
        switch (t) {
        case DT_Q4_0:
            to_q4_0(&b.q4_0, src, importance);
            break;
        case DT_Q5_0:
            to_q5_0(&b.q5_0, src, importance);
            break;
        case DT_Q8_0:
            to_q8_0(&b.q8_0, src, importance);
            break;
        case DT_Q4_K:
            to_q4_k(&b.q4_k, src, importance);
            break;
        default:
            to_q6_k(&b.q6_k, src, importance);
        }
        memcpy(to, &b, bytes);
        importance = importance ? importance + block : NULL;
    }
}
