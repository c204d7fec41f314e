// SPDX-License-Identifier: MIT
// Bicubic resampling in f32, first along rows, then along columns, one tap after the other in
// ascending order, as PyTorch's CPU kernels do it: SPEC 3.3 (upsample_bicubic2d) and 3.8 (the
// antialiased one). near(u) = ((A+2)u - (A+3))u^2 + 1 for |u| <= 1, far(u) = ((A u - 5A)u + 8A)u - 4A
// for 1 < |u| < 2.
//
// A source row is filtered horizontally once and waits in a ring of n_tap rows until no output row
// needs it, so scratch does not grow with the picture.
//
// Coordinates and weights are computed with fused multiply-adds, as the reference's binaries do: rounding
// scale * (d + 0.5) first moves a tap near x = 500 by 3e-5 and a value by up to 0.002 of 255.
//
// Easy to get wrong: shrinking without antialias still uses 4 taps; x is not clamped at 0 before
// floor, the taps are clamped instead; nothing is clamped to 0..255 afterwards; A differs.
#include "media/resize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

static const float A_PLAIN = -0.75F, A_ANTIALIAS = -0.5F;

static float cubic_near(float u, float a)
{
    return fmaf(fmaf(a + 2, u, -(a + 3)) * u, u, 1);
}

static float cubic_far(float u, float a)
{
    return fmaf(fmaf(fmaf(a, u, -5 * a), u, 8 * a), u, -4 * a);
}

static float axis_scale(size_t n_in, size_t n_full)
{
    return (float)n_in / (float)n_full;
}

// Inputs that an antialiased output reaches on each side of its centre.
static float antialias_support(float scale)
{
    return scale >= 1 ? 2 * scale : 2;
}

size_t resize_taps(enum resize_kernel kernel, size_t n_in, size_t n_full)
{
    if (kernel == RESIZE_CUBIC)
        return 4;
    return 2 * (size_t)ceilf(antialias_support(axis_scale(n_in, n_full))) + 1;
}

static int32_t clamp_index(int32_t i, size_t n)
{
    return i < 0 ? 0 : i >= (int32_t)n ? (int32_t)n - 1 : i;
}

static void plain_taps(int32_t *at, float *w, float scale, size_t d, size_t n_in)
{
    float x = fmaf(scale, (float)d + 0.5F, -0.5F);
    float floor_x = floorf(x);
    float t = x - floor_x;
    for (int32_t k = 0; k < 4; k++)
        at[k] = clamp_index((int32_t)floor_x - 1 + k, n_in);
    w[0] = cubic_far(t + 1, A_PLAIN);
    w[1] = cubic_near(t, A_PLAIN);
    w[2] = cubic_near(1 - t, A_PLAIN);
    w[3] = cubic_far(1 - t + 1, A_PLAIN);
}

static float antialias_weight(float u)
{
    u = fabsf(u);
    return u < 1 ? cubic_near(u, A_ANTIALIAS) : u < 2 ? cubic_far(u, A_ANTIALIAS) : 0;
}

static void antialias_taps(int32_t *at, float *w, float scale, size_t d, size_t n_in, size_t n_tap)
{
    float support = antialias_support(scale);
    float shrink = scale >= 1 ? 1 / scale : 1;
    float center = scale * ((float)d + 0.5F);
    int32_t lo = (int32_t)((double)(center - support) + 0.5);
    int32_t hi = (int32_t)((double)(center + support) + 0.5);
    float sum = 0;
    lo = lo < 0 ? 0 : lo;
    hi = hi > (int32_t)n_in ? (int32_t)n_in : hi;
    for (int32_t k = 0; k < (int32_t)n_tap; k++) {
        bool used = k < hi - lo;
        at[k] = clamp_index(lo + k, n_in);
        w[k] =
            used ? antialias_weight((float)((double)((float)(k + lo) - center) + 0.5) * shrink) : 0;
        sum += w[k];
    }
    for (size_t k = 0; k < n_tap; k++)
        w[k] /= sum;
}

size_t resize_axis_bytes(enum resize_kernel kernel, size_t n_in, size_t n_full, size_t n_out)
{
    size_t bytes;
    if (!mul_size(resize_taps(kernel, n_in, n_full), sizeof(int32_t) + sizeof(float), &bytes) ||
        !mul_size(bytes, n_out, &bytes))
        return SIZE_MAX;
    return bytes;
}

int resize_axis_init(struct resize_axis *a, enum resize_kernel kernel, size_t n_in, size_t n_full,
                     size_t first, size_t n_out, struct err *e)
{
    size_t n_tap = resize_taps(kernel, n_in, n_full), n;
    memset(a, 0, sizeof *a);
    *a = (struct resize_axis){.n_in = n_in, .n_out = n_out, .n_tap = n_tap};
    if (!mul_size(n_out, n_tap, &n))
        return err_set(e, ERR_LIMIT, "resize %zu to %zu: size overflow", n_in, n_full);
    a->at = mem_calloc(n, sizeof *a->at);
    a->w = mem_calloc(n, sizeof *a->w);
    if (!a->at || !a->w) {
        resize_axis_free(a);
        return err_set(e, ERR_LIMIT, "resize %zu to %zu: out of memory", n_in, n_full);
    }
    float scale = axis_scale(n_in, n_full);
    for (size_t d = 0; d < n_out; d++) {
        int32_t *at = a->at + d * n_tap;
        float *w = a->w + d * n_tap;
        if (kernel == RESIZE_CUBIC)
            plain_taps(at, w, scale, first + d, n_in);
        else
            antialias_taps(at, w, scale, first + d, n_in, n_tap);
    }
    return 0;
}

void resize_axis_free(struct resize_axis *a)
{
    mem_free(a->at);
    mem_free(a->w);
    memset(a, 0, sizeof *a);
}

// Ring of n_tap filtered rows [3, x->n_out], then one unfiltered row [3, x->n_in].
size_t resize_scratch(const struct resize_axis *x, const struct resize_axis *y)
{
    size_t ring, line, n;
    if (!mul_size(y->n_tap, 3 * x->n_out, &ring) || !mul_size(3, x->n_in, &line) ||
        !add_size(ring, line, &n))
        return SIZE_MAX;
    return n;
}

// One row: out [3, n_out] from in [3, n_in].
static void filter_row(const struct resize_axis *x, const float *const in[3], float *out)
{
    size_t n_tap = x->n_tap, n = x->n_out;
    for (size_t d = 0; d < n; d++) {
        const int32_t *at = x->at + d * n_tap;
        const float *w = x->w + d * n_tap;
        float sum[3] = {in[0][at[0]] * w[0], in[1][at[0]] * w[0], in[2][at[0]] * w[0]};
        for (size_t k = 1; k < n_tap; k++) {
            for (size_t c = 0; c < 3; c++)
                sum[c] += in[c][at[k]] * w[k];
        }
        for (size_t c = 0; c < 3; c++)
            out[c * n + d] = sum[c];
    }
}

enum { LANES = 8 }; // values at a time: a constant count is what compilers turn into vectors

// dst [n] = sum over the taps of w[k] * row[k][i].
static void filter_column4(const float *const row[4], const float *w, float *restrict dst, size_t n)
{
    const float *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    float w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = i; k < i + LANES; k++)
            dst[k] = r0[k] * w0 + r1[k] * w1 + r2[k] * w2 + r3[k] * w3;
    }
    for (; i < n; i++)
        dst[i] = r0[i] * w0 + r1[i] * w1 + r2[i] * w2 + r3[i] * w3;
}

static void add_scaled(const float *restrict row, float w, float *restrict dst, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = i; k < i + LANES; k++)
            dst[k] += row[k] * w;
    }
    for (; i < n; i++)
        dst[i] += row[i] * w;
}

// The same for rows that stand `stride` floats apart in the ring, row r in place r % n_tap.
static void filter_column(const float *ring, size_t stride, size_t n_tap, const int32_t *at,
                          const float *w, float *dst, size_t n)
{
    if (n_tap == 4) {
        const float *row[4];
        for (size_t k = 0; k < 4; k++)
            row[k] = ring + (size_t)at[k] % 4 * stride;
        filter_column4(row, w, dst, n);
        return;
    }
    memset(dst, 0, n * sizeof *dst);
    for (size_t k = 0; k < n_tap; k++)
        add_scaled(ring + (size_t)at[k] % n_tap * stride, w[k], dst, n);
}

// Where rows come from: either rgb (planes NULL) or planes.
struct row_source {
    struct rgb_view rgb;
    float divide;
    const float *planes;
    size_t plane, row;
};

// Filters source row r into out [3, x->n_out]; line [3, x->n_in] is scratch.
static void load_row(const struct resize_axis *x, const struct row_source *s, size_t r, float *line,
                     float *out)
{
    if (s->planes) {
        const float *from = s->planes + r * s->row;
        filter_row(x, (const float *[3]){from, from + s->plane, from + 2 * s->plane}, out);
        return;
    }
    const uint8_t *p = s->rgb.pixel + (ptrdiff_t)r * s->rgb.row;
    float *red = line, *green = line + x->n_in, *blue = line + 2 * x->n_in;
    for (size_t i = 0; i < x->n_in; i++, p += s->rgb.col) {
        red[i] = (float)p[0];
        green[i] = (float)p[1];
        blue[i] = (float)p[2];
    }
    if (s->divide != 1) {
        for (size_t i = 0; i < 3 * x->n_in; i++)
            line[i] /= s->divide;
    }
    filter_row(x, (const float *[3]){red, green, blue}, out);
}

static void resize(const struct resize_axis *x, const struct resize_axis *y,
                   const struct row_source *s, float *dst, size_t plane, size_t dst_row,
                   float *scratch)
{
    size_t n_tap = y->n_tap, stride = 3 * x->n_out;
    float *line = scratch + n_tap * stride;
    int32_t next = 0; // source rows below this are in the ring or no longer needed
    for (size_t d = 0; d < y->n_out; d++) {
        const int32_t *at = y->at + d * n_tap;
        if (at[0] > next)
            next = at[0];
        for (; next <= at[n_tap - 1]; next++)
            load_row(x, s, (size_t)next, line, scratch + (size_t)next % n_tap * stride);
        for (size_t c = 0; c < 3; c++)
            filter_column(scratch + c * x->n_out, stride, n_tap, at, y->w + d * n_tap,
                          dst + c * plane + d * dst_row, x->n_out);
    }
}

void resize_rgb(const struct resize_axis *x, const struct resize_axis *y, struct rgb_view src,
                float divide, float *dst, size_t plane, size_t dst_row, float *scratch)
{
    struct row_source s = {.rgb = src, .divide = divide};
    resize(x, y, &s, dst, plane, dst_row, scratch);
}

void resize_planes(const struct resize_axis *x, const struct resize_axis *y, const float *src,
                   size_t src_plane, size_t src_row, float *dst, size_t plane, size_t dst_row,
                   float *scratch)
{
    struct row_source s = {.planes = src, .plane = src_plane, .row = src_row};
    resize(x, y, &s, dst, plane, dst_row, scratch);
}
