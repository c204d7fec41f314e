// SPDX-License-Identifier: MIT
// Attention with a running softmax, on a tier's small kernels; the scores are never held as a whole.
// (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax", eq. 4-6; blocks as in Dao
// et al. 2022, "FlashAttention", algorithm 1, with the loop over keys outside.)
//
// For each block of keys, from key 0 in steps of KEYS:
//   many: pack K^T and V once, then for each head and each block of query rows
//         S = (scale q) K^T;  P, max, sum = step(S);  y = y * exp(old max - max) + P V
//   few:  the same with dot products on K's rows and weighted sums of V's rows, both in place, up to
//         KERNEL_FEW_ROWS (row, head) pairs at once
// and y /= sum at the end. y itself holds the unnormalised sums.
//
// Easy to get wrong: block borders are fixed multiples, or a row's result would depend on its
// neighbours; masked keys inside a block take part with probability zero; every row sees key 0, so its
// maximum is set in the first block and a later block of which it sees nothing leaves it as it is.
#include "kernels/tiers.h"

#include <math.h>
#include <string.h>

#include "base/size.h"

enum {
    KEYS = 256, // keys a block; at most p->depth
    ROWS = 48,  // query rows a block: S and P take 72 KiB of L2
};

struct parts {
    float *q;    // [rows, d]: scale * q
    uint8_t *qx; // q prepared
    float *s;    // [rows, KEYS]
    uint8_t *px; // prepared probabilities
    float *max, *sum;
    float *acc;                  // few: [rows, d]
    uint8_t *kp, *vp;            // many: packed K and V
    size_t qx_stride, px_stride; // bytes
    size_t k_step, v_step;       // bytes from panel to panel
    size_t bytes;                // of all
};

static uint8_t *take(uint8_t *base, struct parts *u, size_t n, size_t size)
{
    size_t bytes, at = u->bytes;
    if (!mul_size(n, size, &bytes) ||
        !add_size(at, round_up(bytes, KERNEL_SCRATCH_ALIGN), &u->bytes))
        u->bytes = SIZE_MAX;
    return base && u->bytes != SIZE_MAX ? base + at : NULL;
}

static float *take_f32(uint8_t *base, struct parts *u, size_t n)
{
    return (float *)(void *)take(base, u, n, sizeof(float));
}

// The one place that knows the layout of scratch: with base NULL it only counts.
static struct parts parts_of(const struct product_kernels *p, const struct attention_job *j,
                             uint8_t *base)
{
    struct parts u = {.qx_stride = product_x_stride(p, j->d),
                      .px_stride = product_x_stride(p, KEYS)};
    size_t rows = j->few ? KERNEL_FEW_ROWS : ROWS;
    u.q = take_f32(base, &u, rows * j->d);
    u.qx = take(base, &u, rows, u.qx_stride);
    u.s = take_f32(base, &u, rows * KEYS);
    u.px = take(base, &u, rows, u.px_stride);
    if (j->few) {
        u.max = take_f32(base, &u, rows);
        u.sum = take_f32(base, &u, rows);
        u.acc = take_f32(base, &u, rows * j->d);
        return u;
    }
    size_t pairs; // (row, head)
    if (!mul_size(j->n_q, j->group, &pairs))
        pairs = SIZE_MAX;
    u.max = take_f32(base, &u, pairs);
    u.sum = take_f32(base, &u, pairs);
    u.k_step = p->panel * round_up(j->d, 2) * p->x_elem;
    u.v_step = p->panel * KEYS * p->x_elem;
    u.kp = take(base, &u, div_up(KEYS, p->panel), u.k_step);
    u.vp = take(base, &u, div_up(j->d, p->panel), u.v_step);
    return u;
}

size_t attention_scratch(const struct product_kernels *p, const struct attention_job *j)
{
    if (p->attention == attention_blocked)
        return parts_of(p, j, NULL).bytes;
    size_t bytes;
    return mul_size(j->n_k, sizeof(float), &bytes) ? bytes : SIZE_MAX;
}

// How many keys of the n from k0 row i sees.
static size_t seen_by(const struct attention_job *j, size_t i, size_t k0, size_t n)
{
    if (!j->causal)
        return n;
    size_t end = j->first_pos + i + 1;
    return end <= k0 ? 0 : min_size(end - k0, n);
}

static void load_q(const struct product_kernels *p, const struct attention_job *j, float *to,
                   size_t i, size_t h)
{
    memcpy(to, j->q + i * j->q_stride + h * j->d, j->d * sizeof *to);
    p->scale(to, j->scale, j->d);
}

// ---- few rows

static void few_rows(const struct product_kernels *p, const struct attention_job *j,
                     const struct parts *u, size_t first, size_t m)
{
    size_t kv_bytes = dtype_bytes(j->kv_type);
    for (size_t r = 0; r < m; r++) {
        load_q(p, j, u->q + r * j->d, (first + r) / j->group, (first + r) % j->group);
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
    p->prepare(p, u->qx, u->q, j->d, m, j->d);
    memset(u->acc, 0, m * j->d * sizeof *u->acc);
    for (size_t k0 = 0; k0 < j->n_k; k0 += KEYS) {
        // the last row of the chunk sees most
        size_t n = seen_by(j, (first + m - 1) / j->group, k0, min_size(KEYS, j->n_k - k0));
        if (n == 0)
            break;
        struct product_job dots = {
            .y = u->s,
            .y_stride = KEYS,
            .x = u->qx,
            .w = (const uint8_t *)j->k + k0 * j->k_stride * kv_bytes,
            .w_stride = j->k_stride,
            .w_type = j->kv_type,
            .m = m,
            .n = n,
            .k = j->d,
        };
        p->few(p, &dots);
        for (size_t r = 0; r < m; r++) {
            size_t seen = seen_by(j, (first + r) / j->group, k0, n);
            float f = p->soft_step(u->px + r * u->px_stride, u->s + r * KEYS, seen, round_up(n, 32),
                                   &u->max[r], &u->sum[r]);
            if (f != 1.0f)
                p->scale(u->acc + r * j->d, f, j->d);
        }
        struct mix_job mix = {
            .y = u->acc,
            .y_stride = j->d,
            .x = u->px,
            .x_stride = u->px_stride,
            .v = (const uint8_t *)j->v + k0 * j->v_stride * kv_bytes,
            .v_stride = j->v_stride,
            .v_type = j->kv_type,
            .m = m,
            .n = n,
            .d = j->d,
        };
        p->mix(&mix);
    }
    for (size_t r = 0; r < m; r++) {
        float *y = j->y + (first + r) / j->group * j->y_stride + (first + r) % j->group * j->d;
        memcpy(y, u->acc + r * j->d, j->d * sizeof *y);
        p->scale(y, 1.0f / u->sum[r], j->d);
    }
}

// ---- many rows

// Packs keys [k0, k0 + n) and their values.
static void pack_keys(const struct product_kernels *p, const struct attention_job *j,
                      const struct parts *u, size_t k0, size_t n)
{
    size_t kv_bytes = dtype_bytes(j->kv_type);
    for (size_t o = 0; o < n; o += p->panel) {
        const uint8_t *k = (const uint8_t *)j->k + (k0 + o) * j->k_stride * kv_bytes;
        p->pack(u->kp + o / p->panel * u->k_step, k, j->k_stride, j->kv_type,
                min_size(p->panel, n - o), j->d);
    }
    for (size_t c = 0; c < j->d; c += p->panel) {
        const uint8_t *v = (const uint8_t *)j->v + (k0 * j->v_stride + c) * kv_bytes;
        p->pack_t(u->vp + c / p->panel * u->v_step, v, j->v_stride, j->kv_type,
                  min_size(p->panel, j->d - c), n);
    }
}

// Rows [i, i + m) of head h against the packed keys [k0, k0 + n); every row sees one at least, and the
// keys that even the last one does not see are left out.
static void attend_block(const struct product_kernels *p, const struct attention_job *j,
                         const struct parts *u, size_t h, size_t i, size_t m, size_t k0, size_t n)
{
    const size_t packed = n;
    n = seen_by(j, i + m - 1, k0, n);
    for (size_t r = 0; r < m; r++)
        load_q(p, j, u->q + r * j->d, i + r, h);
    p->prepare(p, u->qx, u->q, j->d, m, j->d);
    struct tile_job t = {.x = u->qx, .x_stride = u->qx_stride, .y_stride = KEYS, .m = m, .k = j->d};
    for (size_t o = 0; o < n; o += p->panel) {
        t.y = u->s + o;
        t.panel = u->kp + o / p->panel * u->k_step;
        t.n = min_size(p->panel, packed - o); // as it was packed
        p->tile(&t);
    }
    float *y = j->y + i * j->y_stride + h * j->d;
    for (size_t r = 0; r < m; r++) {
        size_t row = (i + r) * j->group + h;
        float f = p->soft_step(u->px + r * u->px_stride, u->s + r * KEYS, seen_by(j, i + r, k0, n),
                               round_up(n, 32), &u->max[row], &u->sum[row]);
        if (k0 != 0 && f != 1.0f)
            p->scale(y + r * j->y_stride, f, j->d);
    }
    t = (struct tile_job){.x = u->px,
                          .x_stride = u->px_stride,
                          .y_stride = j->y_stride,
                          .m = m,
                          .k = n,
                          .add = k0 != 0};
    for (size_t c = 0; c < j->d; c += p->panel) {
        t.y = y + c;
        t.panel = u->vp + c / p->panel * u->v_step;
        t.n = min_size(p->panel, j->d - c);
        p->tile(&t);
    }
}

static void many_rows(const struct product_kernels *p, const struct attention_job *j,
                      const struct parts *u)
{
    for (size_t r = 0; r < j->n_q * j->group; r++) {
        u->max[r] = -INFINITY;
        u->sum[r] = 0;
    }
    for (size_t k0 = 0; k0 < j->n_k; k0 += KEYS) {
        size_t n = seen_by(j, j->n_q - 1, k0, min_size(KEYS, j->n_k - k0));
        if (n == 0)
            break;
        pack_keys(p, j, u, k0, n);
        size_t i0 = 0; // first row that sees any of these keys: those before it are no work
        while (seen_by(j, i0, k0, n) == 0)
            i0++;
        for (size_t h = 0; h < j->group; h++)
            for (size_t i = i0; i < j->n_q; i += ROWS)
                attend_block(p, j, u, h, i, min_size(ROWS, j->n_q - i), k0, n);
    }
    for (size_t i = 0; i < j->n_q; i++)
        for (size_t h = 0; h < j->group; h++)
            p->scale(j->y + i * j->y_stride + h * j->d, 1.0f / u->sum[i * j->group + h], j->d);
}

void attention_blocked(const struct product_kernels *p, const struct attention_job *j,
                       void *scratch)
{
    if (j->n_q == 0)
        return;
    struct parts u = parts_of(p, j, scratch);
    if (!j->few) {
        many_rows(p, j, &u);
        return;
    }
    size_t rows = j->n_q * j->group;
    for (size_t r = 0; r < rows; r += KERNEL_FEW_ROWS)
        few_rows(p, j, &u, r, min_size(KERNEL_FEW_ROWS, rows - r));
}
