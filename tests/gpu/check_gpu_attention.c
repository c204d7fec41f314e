// SPDX-License-Identifier: MIT
// Checks the attention and rope kernels of src/gpu/cuda against plain loops in double made here: on a device when
// linked with the CUDA runtime, on the processor when linked with tests/gpu/emulate. Prints ok or not ok for each
// case; exit status 1 if one is not ok, 77 if there is no device. `--bench` measures instead; `--short` leaves out
// what takes seconds under emulation, `--tiny` has each form of a kernel once (for compute-sanitizer).
//
// Columns behind a matrix's own are NaN in what is read and a pattern in what is written, which must stay.
// The gate: a probability errs relatively by its rounding to bf16 (2^-8, attention_many; 2^-16, the fast form of
// attention_few) and by what the errors of its score and of the row's largest do to the exponential; y by that times
// sum p |v|, and its own rounding.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_case.h"

// ---- the witness: one query row and head over n keys

struct seen {
    double y[CUDA_HEAD_MAX], gate[CUDA_HEAD_MAX];
};

// q, k, v: the head's first element in the row and in key 0. p_eps: of a probability's rounding.
static void exact_row(struct seen *out, const struct both *q, int64_t q_at, const struct both *k,
                      int64_t k_at, const struct both *v, int64_t v_at, int n, int d, double scale,
                      double p_eps, bool y_bf16)
{
    double max = -INFINITY, size = 0, total = 0, weight[CUDA_HEAD_MAX] = {0};
    double *s = malloc((size_t)n * sizeof *s);
    if (!s)
        exit(1);
    for (int j = 0; j < n; j++) {
        double sum = 0, abs = 0;
        for (int c = 0; c < d; c++) {
            double t = (double)get(q->host, q->v.is_bf16, q_at + c) *
                       (double)get(k->host, k->v.is_bf16, k_at + j * k->v.stride + c);
            sum += t;
            abs += fabs(t);
        }
        s[j] = sum * scale;
        max = fmax(max, s[j]);
        size = fmax(size, abs * scale);
    }
    memset(out, 0, sizeof *out);
    for (int j = 0; j < n; j++) {
        double p = exp(s[j] - max);
        total += p;
        for (int c = 0; c < d; c++) {
            double t = p * (double)get(v->host, v->v.is_bf16, v_at + j * v->v.stride + c);
            out->y[c] += t;
            weight[c] += fabs(t);
        }
    }
    double f32 = ldexp(1, -24), ds = f32 * (6 + 2 * sqrt(d)) * size;
    for (int c = 0; c < d; c++) {
        out->y[c] /= total;
        out->gate[c] = (p_eps + 4 * ds + f32 * (16 + 4 * sqrt(n))) * weight[c] / total +
                       (y_bf16 ? ldexp(1, -8) : 0) * fabs(out->y[c]);
    }
    free(s);
}

static int within(const struct seen *e, const struct both *y, int64_t at, int d, double *worst)
{
    int good = 1;
    for (int c = 0; c < d; c++) {
        double diff = fabs((double)get(y->host, y->v.is_bf16, at + c) - e->y[c]);
        if (!(diff <= e->gate[c])) // a NaN too
            good = 0;
        *worst = fmax(*worst, diff / e->gate[c]);
    }
    return good;
}

// ---- many and plain

typedef int attention_of(const struct cuda_attention *a, void *stream);

// Row i alone has the bits it has among the others.
static int row_alone(const struct job *j, attention_of *f, int seq, int i)
{
    struct both y = poisoned(1, j->y.v.cols, j->y.v.stride, j->y.v.is_bf16);
    struct cuda_attention a = j->a;
    a.y = y.v;
    a.q.data = (char *)a.q.data + (size_t)((seq * a.n_q + i) * a.q.stride) * element(a.q.is_bf16);
    a.k.data = (char *)a.k.data + (size_t)(seq * a.n_k * a.k.stride) * element(a.k.is_bf16);
    a.v.data = (char *)a.v.data + (size_t)(seq * a.n_k * a.v.stride) * element(a.v.is_bf16);
    a.first_pos += i;
    a.n_seq = 1;
    int at = seq * a.n_q + i;
    a.n_q = 1;
    must(f(&a, NULL), "launch");
    must(cudaDeviceSynchronize(), "kernel");
    pull(&y);
    size_t e = element(j->y.v.is_bf16);
    int same = memcmp(y.host, (char *)j->y.host + (size_t)(at * j->y.v.stride) * e,
                      (size_t)y.v.cols * e) == 0;
    release(&y);
    return same;
}

static void check_many(const char *name, attention_of *f, struct shape s, int types, double p_eps)
{
    struct job j = job_new(&s, types);
    struct seen e;
    double worst = 0;
    char what[200], why[100] = "";
    int good = 1, canary, alone = 1,
        step = (int)((int64_t)s.n_q * s.n_k * s.d * s.n_head / 20000000) + 1;
    must(f(&j.a, NULL), "launch");
    must(cudaDeviceSynchronize(), "kernel");
    pull(&j.y);
    canary = canary_stands(&j.y);
    for (int seq = 0; seq < s.n_seq; seq++)
        for (int i = 0; i < s.n_q; i = i + step >= s.n_q && i != s.n_q - 1 ? s.n_q - 1 : i + step)
            for (int h = 0; h < s.n_head; h++) {
                int n = s.causal && s.first_pos + i + 1 < s.n_k ? s.first_pos + i + 1 : s.n_k;
                int64_t row = seq * s.n_q + i, key = (int64_t)seq * s.n_k,
                        column = h / (s.n_head / s.n_kv) * s.d;
                exact_row(&e, &j.q, row * j.q.v.stride + h * s.d, &j.k, key * j.k.v.stride + column,
                          &j.v, key * j.v.v.stride + column, n, s.d, (double)j.a.scale, p_eps,
                          j.y.v.is_bf16);
                good &= within(&e, &j.y, row * j.y.v.stride + h * s.d, s.d, &worst);
            }
    for (int i = 0; i < 3; i++)
        alone &= row_alone(&j, f, s.n_seq - 1, i * (s.n_q - 1) / 2);
    snprintf(what, sizeof what,
             "%s seq %d q %d k %d heads %d/%d of %d%s first %d types %d (error %.2f of gate)", name,
             s.n_seq, s.n_q, s.n_k, s.n_head, s.n_kv, s.d, s.causal ? " causal" : "", s.first_pos,
             types, worst);
    snprintf(why, sizeof why, "%s%s%s", good ? "" : "values ", canary ? "" : "canary ",
             alone ? "" : "row alone");
    report(good && canary && alone, what, why);
    job_free(&j);
}

static const struct shape many_shapes[] = {
    {1, 1, 1, 1, 1, 64, false, 0},      {1, 2, 2, 2, 2, 88, false, 0},
    {2, 3, 63, 2, 1, 64, false, 0},     {1, 64, 64, 2, 2, 72, false, 0},
    {1, 65, 65, 2, 2, 80, false, 0},    {3, 17, 127, 1, 1, 88, false, 0},
    {1, 128, 128, 1, 1, 96, false, 0},  {2, 129, 129, 2, 2, 88, false, 0},
    {1, 130, 81, 3, 1, 104, false, 0},  {1, 200, 200, 2, 1, 128, true, 0},
    {1, 65, 165, 4, 1, 128, true, 100}, {1, 33, 97, 8, 1, 120, true, 64},
    {2, 70, 70, 4, 2, 40, true, 0},     {1, 40, 300, 2, 1, 128, true, 11},
    {1, 5, 193, 2, 2, 8, true, 188},    {1, 300, 40, 5, 5, 88, false, 0},
    {2, 300, 150, 4, 4, 64, false, 0},  {1, 530, 144, 3, 3, 128, true, 0},
    {1, 400, 145, 3, 3, 96, true, 3},   {1, 190, 150, 4, 4, 64, false, 0},
    {1, 192, 300, 4, 2, 40, true, 8},   {1, 185, 270, 4, 2, 88, false, 0},
    {1, 20, 191, 1, 1, 88, false, 0},   {1, 20, 255, 1, 1, 128, false, 0},
    {1, 3, 200, 8, 8, 88, true, 94},    {1, 3, 300, 8, 8, 88, true, 190},
    {1, 3, 300, 8, 8, 64, true, 254},
};
static const struct shape long_shapes[] = {
    {1, 2049, 2049, 1, 1, 88, false, 0},
    {1, 96, 2049, 2, 2, 64, false, 0},
    {1, 66, 1000, 8, 2, 128, true, 934},
};
// what an accelerator does in no time and the emulation in minutes
static const struct shape real_shapes[] = {
    {2, 2049, 2049, 16, 16, 88, false, 0},  {1, 322, 322, 32, 8, 128, true, 0},
    {1, 512, 9000, 32, 8, 128, true, 8488}, {2, 128, 2049, 12, 12, 64, false, 0},
    {2, 65, 12000, 8, 8, 128, true, 11935},
};

static void check_many_all(const char *name, bool prefer_portable, bool short_run, bool emulated)
{
    cuda_attention_prefer_portable(prefer_portable);
    double eps = ldexp(1, -8);
    for (size_t i = 0; i < sizeof many_shapes / sizeof *many_shapes; i++)
        check_many(name, cuda_attention_many, many_shapes[i], ALL_BF16, eps);
    for (size_t i = 0; !short_run && i < sizeof long_shapes / sizeof *long_shapes; i++)
        check_many(name, cuda_attention_many, long_shapes[i], ALL_BF16, eps);
    for (size_t i = 0; !emulated && i < sizeof real_shapes / sizeof *real_shapes; i++)
        if (!short_run || i == 1) // the smallest
            check_many(name, cuda_attention_many, real_shapes[i], ALL_BF16, eps);
    cuda_attention_prefer_portable(false);
}

static void check_plain_all(void)
{
    static const struct shape shapes[] = {
        {1, 1, 1, 1, 1, 24, false, 0},     {2, 5, 7, 2, 1, 32, true, 2},
        {1, 9, 8, 4, 2, 64, false, 0},     {3, 6, 65, 2, 2, 88, false, 0},
        {1, 12, 129, 8, 1, 128, true, 60}, {1, 7, 33, 2, 1, 256, false, 0},
        {1, 30, 30, 2, 2, 96, true, 0},    {1, 3, 70, 2, 1, 130, true, 10},
        {1, 4, 17, 1, 1, 2, false, 0},     {2, 10, 10, 2, 2, 88, false, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_many("plain", cuda_attention_plain, shapes[i], ALL_F32, 0);
        check_many("plain", cuda_attention_plain, shapes[i], (int)(i * 5 % 16), 0);
    }
    check_many("plain", cuda_attention_plain, shapes[4], ALL_BF16, 0);
    check_many("plain", cuda_attention_plain, shapes[9], ALL_BF16, 0);
}

// ---- few

struct few_shape {
    int n_row, n_head, n_kv, d, n_k_max;
    bool cache_bf16, q_bf16;
    uint32_t pos[4]; // of row i: pos[i % 4]
};

static void check_few(struct few_shape s)
{
    struct cuda_cache_rows rows = {.n_row = s.n_row};
    struct both k[CUDA_FEW_ROWS], v[CUDA_FEW_ROWS], y, q;
    uint32_t pos[CUDA_FEW_ROWS];
    int kv = s.n_kv * s.d, cols = s.n_head * s.d, good = 1, alone = 1, canary;
    double worst = 0;
    char what[200], why[100];
    for (int i = 0; i < s.n_row; i++) {
        pos[i] = s.pos[i % 4];
        k[i] = filled((int)pos[i] + 1, kv, kv, s.cache_bf16, 2); // ends with the last visible key
        v[i] = filled((int)pos[i] + 1, kv, kv, s.cache_bf16, 2);
        rows.k[i] = k[i].v.data;
        rows.v[i] = v[i].v.data;
    }
    q = filled(s.n_row, cols, cols + 8, s.q_bf16, 2);
    y = poisoned(s.n_row, cols, cols + 8, s.q_bf16);
    size_t bytes = cuda_attention_few_scratch(s.n_row, s.n_head, s.d, s.n_k_max);
    struct both scratch = poisoned(1, (int)(bytes / 4), (int64_t)bytes / 4, false),
                one = poisoned(1, cols, cols, s.q_bf16);
    uint32_t *device_pos;
    must(cudaMalloc((void **)&device_pos, sizeof pos), "memory");
    must(cudaMemcpy(device_pos, pos, sizeof pos, cudaMemcpyHostToDevice), "copy");
    struct cuda_attention_few a = {y.v,
                                   q.v,
                                   s.cache_bf16,
                                   device_pos,
                                   s.n_k_max,
                                   s.n_head,
                                   s.n_kv,
                                   s.d,
                                   1.0f / sqrtf((float)s.d),
                                   scratch.v.data,
                                   turns_new()};
    must(cuda_attention_few(&a, &rows, NULL), "launch");
    must(cudaDeviceSynchronize(), "kernel");
    pull(&y);
    canary = canary_stands(&y);
    for (int i = 0; i < s.n_row; i++) {
        for (int h = 0; h < s.n_head; h++) {
            struct seen e;
            int64_t column = h / (s.n_head / s.n_kv) * s.d;
            exact_row(&e, &q, i * q.v.stride + h * s.d, &k[i], column, &v[i], column,
                      (int)pos[i] + 1, s.d, (double)a.scale,
                      s.cache_bf16 && s.q_bf16 ? ldexp(1, -16) : 0, s.q_bf16);
            good &= within(&e, &y, i * y.v.stride + h * s.d, s.d, &worst);
        }
        if (i != 0 && i != s.n_row - 1)
            continue;
        struct cuda_cache_rows lone = {.n_row = 1};
        struct cuda_attention_few b = a;
        lone.k[0] = rows.k[i];
        lone.v[0] = rows.v[i];
        b.y = one.v;
        b.q.data = (char *)q.v.data + (size_t)(i * q.v.stride) * element(s.q_bf16);
        b.pos = device_pos + i;
        must(cuda_attention_few(&b, &lone, NULL), "launch");
        must(cudaDeviceSynchronize(), "kernel");
        pull(&one);
        alone &= memcmp(one.host, (char *)y.host + (size_t)(i * y.v.stride) * element(s.q_bf16),
                        one.bytes) == 0;
    }
    good &= turns_free(a.turn);
    snprintf(what, sizeof what,
             "few rows %d heads %d/%d of %d cache %s q %s pos %u.. of %d (error %.2f of gate)",
             s.n_row, s.n_head, s.n_kv, s.d, s.cache_bf16 ? "bf16" : "f32",
             s.q_bf16 ? "bf16" : "f32", pos[0], s.n_k_max, worst);
    snprintf(why, sizeof why, "%s%s%s", good ? "" : "values ", canary ? "" : "canary ",
             alone ? "" : "row alone");
    report(good && canary && alone, what, why);
    for (int i = 0; i < s.n_row; i++) {
        release(&k[i]);
        release(&v[i]);
    }
    release(&q);
    release(&y);
    release(&one);
    release(&scratch);
    cudaFree(device_pos);
}

static void check_few_all(void)
{
    static const struct few_shape shapes[] = {
        {1, 1, 1, 64, 1, true, true, {0}},
        {1, 4, 1, 128, 64, true, true, {63}},
        {3, 8, 2, 128, 200, true, false, {0, 64, 199}},
        {5, 4, 2, 88, 129, true, true, {128, 1, 62, 65}},
        {2, 3, 3, 64, 300, true, false, {299, 7}},
        {2, 16, 2, 128, 140, true, true, {139, 70}},
        {2, 8, 1, 40, 70, true, false, {69, 3}},
        {2, 6, 2, 8, 70, true, false, {69, 63}},
        {2, 6, 1, 96, 4500, true, false, {4499, 129}}, // pieces of 128
        {3, 8, 2, 128, 200, true, true, {0, 64, 199}},
        {2, 16, 1, 128, 140, true, true, {139, 70}},
        {2, 6, 2, 8, 70, true, true, {69, 63}},
        {2, 5, 1, 40, 6500, true, true, {6400, 3072}}, // several pieces in a block
        {2, 2, 1, 96, 6500, true, true, {3071, 6143}},
        {1, 2, 1, 24, 90, false, false, {89}},
        {3, 6, 3, 32, 300, false, true, {17, 299, 64}},
        {2, 4, 2, 256, 100, false, false, {99, 30}},
        {2, 2, 1, 256, 70, true, false, {69, 5}},
        {2, 3, 1, 130, 130, true, true, {129, 64}},
        {2, 5, 5, 6, 66, true, false, {65, 2}},
        {64, 2, 1, 64, 70, true, true, {69, 0, 10, 64}},
        {64, 2, 1, 64, 70, false, false, {69, 0, 10, 64}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_few(shapes[i]);
}

// ---- rope

// cuda_attention_step leaves in y and the caches what cuda_rope and cuda_attention_few do, bit for bit, whatever
// n_k_max is; with the slow form (no turn) they are the same calls.
static void check_step(struct few_shape s, bool fast, bool pairs)
{
    enum { STEP, PARTS, N };
    int kv = s.n_kv * s.d, cols = s.n_head * s.d, same = 1, canary = 1;
    struct cuda_cache_rows rows[N] = {{.n_row = s.n_row}, {.n_row = s.n_row}};
    struct both cache[N][2][CUDA_FEW_ROWS], m[N], y[N], table = filled(s.n_row, s.d, s.d, false, 1);
    uint32_t pos[CUDA_FEW_ROWS], *device_pos, *turn = fast ? turns_new() : NULL;
    char what[200], why[100];
    for (int i = 0; i < s.n_row; i++)
        pos[i] = s.pos[i % 4];
    must(cudaMalloc((void **)&device_pos, sizeof pos), "memory");
    must(cudaMemcpy(device_pos, pos, sizeof pos, cudaMemcpyHostToDevice), "copy");
    for (int f = 0; f < N; f++) {
        seed = 7;
        m[f] = filled(s.n_row, cols + 2 * kv, cols + 2 * kv + 8, s.q_bf16, 2);
        y[f] = poisoned(s.n_row, cols, cols + 8, s.q_bf16);
        for (int i = 0; i < s.n_row; i++)
            for (int w = 0; w < 2; w++) {
                struct both *c = &cache[f][w][i];
                *c = filled((int)pos[i] + 1, kv, kv, s.cache_bf16, 2);
                for (int j = 0; j < kv; j++) // must be written before it is read
                    put(c->host, s.cache_bf16, (int64_t)pos[i] * kv + j, NAN);
                push(c);
                if (w)
                    rows[f].v[i] = c->v.data;
                else
                    rows[f].k[i] = c->v.data;
            }
        int n_k_max = s.n_k_max + f * 1000;
        struct cuda_attention_few a = {
            y[f].v, slice(&m[f], 0, cols).v,  s.cache_bf16, device_pos, n_k_max, s.n_head, s.n_kv,
            s.d,    1.0f / sqrtf((float)s.d), NULL,         turn};
        struct cuda_rope r = {.q = a.q,
                              .k = slice(&m[f], cols, kv).v,
                              .v = slice(&m[f], cols + kv, kv).v,
                              .table = table.v.data,
                              .rows = s.n_row,
                              .n_head = s.n_head,
                              .n_kv = s.n_kv,
                              .d_head = s.d,
                              .pairs = pairs,
                              .cache_bf16 = s.cache_bf16,
                              .pos = device_pos,
                              .cache = &rows[f]};
        must(cudaMalloc(&a.scratch, cuda_attention_few_scratch(s.n_row, s.n_head, s.d, n_k_max)),
             "memory");
        if (f == STEP) {
            must(cuda_attention_step(&a, &r, NULL), "launch");
        } else {
            must(cuda_rope(&r, NULL), "launch");
            must(cuda_attention_few(&a, &rows[f], NULL), "launch");
        }
        must(cudaDeviceSynchronize(), "kernel");
        pull(&y[f]);
        canary &= canary_stands(&y[f]);
        cudaFree(a.scratch);
    }
    same &= memcmp(y[STEP].host, y[PARTS].host, y[STEP].bytes) == 0;
    for (int i = 0; i < s.n_row * cols; i++)
        canary &=
            isfinite(get(y[STEP].host, s.q_bf16, i / cols * y[STEP].v.stride + i % cols)) != 0;
    for (int i = 0; i < s.n_row; i++)
        for (int w = 0; w < 2; w++) {
            for (int f = 0; f < N; f++)
                pull(&cache[f][w][i]);
            same &= memcmp(cache[STEP][w][i].host, cache[PARTS][w][i].host,
                           cache[STEP][w][i].bytes) == 0;
            for (int f = 0; f < N; f++)
                release(&cache[f][w][i]);
        }
    if (turn)
        canary &= turns_free(turn);
    snprintf(what, sizeof what, "step rows %d heads %d/%d of %d cache %s rows %s pos %u.. %s%s",
             s.n_row, s.n_head, s.n_kv, s.d, s.cache_bf16 ? "bf16" : "f32",
             s.q_bf16 ? "bf16" : "f32", pos[0], fast ? "fast" : "slow", pairs ? ", pairs" : "");
    snprintf(why, sizeof why, "%s%s", same ? "" : "bits ", canary ? "" : "canary");
    report(same && canary, what, why);
    for (int f = 0; f < N; f++) {
        release(&m[f]);
        release(&y[f]);
    }
    release(&table);
    cudaFree(device_pos);
}

static void check_step_all(void)
{
    static const struct few_shape shapes[] = {
        {1, 1, 1, 64, 1, true, true, {0}},
        {1, 32, 8, 128, 512, true, true, {300}},
        {4, 8, 2, 128, 200, true, true, {0, 63, 64, 199}},
        {2, 16, 1, 128, 140, true, true, {139, 15}},
        {3, 3, 3, 88, 300, true, true, {299, 16, 33}},
        {2, 6, 2, 8, 70, true, true, {69, 31}},
        {2, 5, 1, 40, 6500, true, true, {6400, 3072}},
        {64, 2, 1, 64, 70, true, true, {69, 0, 10, 64}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_step(shapes[i], true, false);
    check_step(shapes[2], false, false);
    check_step((struct few_shape){2, 4, 2, 64, 90, false, false, {89, 3}}, true, false);
    for (size_t i = 2; i < 6; i++)
        check_step(shapes[i], true, true);
    check_step(shapes[4], false, true);
}

enum rope_cache { NO_CACHE, ONE_CACHE, CACHES, ONLY_Q };

static void check_rope(int rows, int n_head, int n_kv, int d, bool is_bf16, bool cache_bf16,
                       enum rope_cache kind, bool pairs)
{
    int half = d / 2, kv = n_kv * d, cap = 40, good = 1, good_table = 1, canary = 1;
    float inv[CUDA_HEAD_MAX / 2];
    uint32_t pos[CUDA_FEW_ROWS];
    char what[200], why[100];
    for (int j = 0; j < half; j++)
        inv[j] = (float)(1.0 / pow(1e6, 2.0 * j / d));
    for (int i = 0; i < rows; i++)
        pos[i] = (uint32_t)(kind == CACHES ? (i * 13 + 5) % cap : i + 2);
    struct both table = poisoned(rows, d, d, false), freq = matrix(1, half, half, false);
    memcpy(freq.host, inv, freq.bytes);
    push(&freq);
    uint32_t *device_pos;
    must(cudaMalloc((void **)&device_pos, sizeof pos), "memory");
    must(cudaMemcpy(device_pos, pos, sizeof pos, cudaMemcpyHostToDevice), "copy");
    must(cuda_rope_table(table.v.data, device_pos, rows, d, freq.v.data, NULL), "launch");
    must(cudaDeviceSynchronize(), "kernel");
    pull(&table);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < half; j++) {
            double angle = (double)((float)pos[i] * inv[j]);
            const float *t = (const float *)table.host + i * d + j;
            good_table &= fabs((double)t[0] - cos(angle)) <= ldexp(1, -24) &&
                          fabs((double)t[half] - sin(angle)) <= ldexp(1, -24);
        }
    // q, k and v as columns of one matrix, as they are in the model
    int q_cols = n_head * d;
    struct both m = filled(rows, q_cols + 2 * kv, q_cols + 2 * kv + 8, is_bf16, 2), before = m;
    before.host = malloc(m.bytes);
    if (!before.host)
        exit(1);
    memcpy(before.host, m.host, m.bytes);
    struct both caches[2][CUDA_FEW_ROWS];
    int n_cache = kind == CACHES ? rows : kind == ONE_CACHE ? 1 : 0;
    struct cuda_cache_rows c = {.n_row = n_cache};
    for (int i = 0; i < n_cache; i++) {
        for (int w = 0; w < 2; w++)
            caches[w][i] = poisoned(cap, kv, kv, cache_bf16);
        c.k[i] = caches[0][i].v.data;
        c.v[i] = caches[1][i].v.data;
    }
    struct cuda_rope a = {.q = slice(&m, 0, q_cols).v,
                          .table = table.v.data,
                          .rows = rows,
                          .n_head = n_head,
                          .n_kv = n_kv,
                          .d_head = d,
                          .pairs = pairs,
                          .cache_bf16 = cache_bf16,
                          .pos = device_pos};
    if (kind != ONLY_Q) {
        a.k = slice(&m, q_cols, kv).v;
        a.v = slice(&m, q_cols + kv, kv).v;
    }
    if (kind == ONE_CACHE) {
        a.cache_k = caches[0][0].v.data;
        a.cache_v = caches[1][0].v.data;
    }
    if (kind == CACHES)
        a.cache = &c;
    must(cuda_rope(&a, NULL), "launch");
    must(cudaDeviceSynchronize(), "kernel");
    pull(&m);
    for (int i = 0; i < rows; i++)
        for (int h = 0; h < n_head + 2 * n_kv; h++)
            for (int j = 0; j < d; j++) {
                int64_t at = i * m.v.stride + h * d;
                int turn = pairs ? j / 2 : j % half;
                bool first = pairs ? j % 2 == 0 : j < half;
                double x = (double)get(before.host, is_bf16, at + j);
                double other =
                    (double)get(before.host, is_bf16, at + (pairs ? j ^ 1 : (j + half) % d));
                double cosine = (double)((float *)table.host)[i * d + turn];
                double sine = (double)((float *)table.host)[i * d + half + turn];
                double want = first ? x * cosine - other * sine : x * cosine + other * sine;
                double gate = ldexp(fabs(x * cosine) + fabs(other * sine), -22) +
                              (is_bf16 ? ldexp(fabs(want), -8) : 0);
                if (h >= n_head + n_kv || (kind == ONLY_Q && h >= n_head)) {
                    want = x;
                    gate = 0;
                }
                good &= fabs((double)get(m.host, is_bf16, at + j) - want) <= gate;
            }
    for (int w = 0; w < 2; w++) // a cache has what the matrix has, and nothing else
        for (int n = 0; n < n_cache; n++) {
            struct both *one = &caches[w][n];
            char written[64] = {0};
            pull(one);
            for (int i = 0; i < rows; i++) {
                if (kind == CACHES && i != n)
                    continue;
                written[pos[i]] = 1;
                for (int j = 0; j < kv; j++) {
                    float x = get(m.host, is_bf16, i * m.v.stride + q_cols + w * kv + j);
                    good &= get(one->host, cache_bf16, (int64_t)pos[i] * kv + j) ==
                            (cache_bf16 ? to_bf16(x) : x);
                }
            }
            size_t bytes = (size_t)kv * element(cache_bf16);
            for (size_t i = 0; i < one->bytes; i++)
                canary &= written[i / bytes] || ((uint8_t *)one->host)[i] == CANARY;
            release(one);
        }
    snprintf(what, sizeof what, "rope rows %d heads %d/%d of %d %s cache %s form %d%s", rows,
             n_head, n_kv, d, is_bf16 ? "bf16" : "f32", cache_bf16 ? "bf16" : "f32", (int)kind,
             pairs ? ", pairs" : "");
    snprintf(why, sizeof why, "%s%s%s", good ? "" : "values ", good_table ? "" : "table ",
             canary ? "" : "canary");
    report(good && good_table && canary, what, why);
    release(&m);
    free(before.host);
    release(&table);
    release(&freq);
    cudaFree(device_pos);
}

static void check_rope_all(void)
{
    for (int pairs = 0; pairs < 2; pairs++) {
        check_rope(5, 4, 2, 128, true, true, ONE_CACHE, pairs);
        check_rope(5, 4, 2, 128, false, true, CACHES, pairs);
        check_rope(37, 2, 1, 64, true, false, ONE_CACHE, pairs);
        check_rope(37, 2, 1, 64, false, false, CACHES, pairs);
        check_rope(3, 3, 3, 24, false, false, NO_CACHE, pairs);
        check_rope(3, 3, 3, 24, true, true, ONLY_Q, pairs);
        check_rope(1, 32, 8, 128, true, true, CACHES, pairs);
    }
}

static void check_tiny(int major)
{
    static const struct shape many[] = {
        {1, 65, 65, 2, 2, 64, false, 0}, {1, 130, 129, 1, 1, 88, false, 0},
        {1, 40, 70, 1, 1, 96, false, 0}, {1, 65, 165, 2, 1, 128, true, 100},
        {1, 17, 40, 2, 1, 40, true, 8},
    };
    static const struct few_shape few[] = {
        {2, 8, 2, 128, 140, true, true, {139, 70}}, {2, 4, 2, 88, 129, true, true, {128, 1}},
        {1, 4, 1, 128, 200, true, false, {199}},    {1, 2, 1, 40, 3500, true, true, {3400}},
        {1, 2, 2, 64, 100, false, false, {99}},
    };
    for (int hopper = 0; hopper <= (major == 9); hopper++) {
        cuda_attention_prefer_portable(!hopper);
        for (size_t i = 0; i < sizeof many / sizeof *many; i++)
            check_many(hopper ? "many on Hopper" : "many", cuda_attention_many, many[i], ALL_BF16,
                       ldexp(1, -8));
    }
    cuda_attention_prefer_portable(false);
    check_many("plain", cuda_attention_plain, many[4], ALL_F32, 0);
    for (size_t i = 0; i < sizeof few / sizeof *few; i++)
        check_few(few[i]);
    check_step(few[0], true, false);
    check_step(few[1], true, true);
    check_step(few[3], true, false);
    check_rope(3, 4, 2, 128, true, true, CACHES, true);
    check_rope(3, 2, 1, 64, false, false, ONE_CACHE, false);
}

int main(int argc, char **argv)
{
    int n = 0, major = 0;
    bool short_run = argc > 1 && strcmp(argv[1], "--short") == 0, emulated = false;
#ifdef IV_EMULATE
    emulated = true;
#endif
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("1..0 # SKIP no CUDA device\n");
        return 77;
    }
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        attention_bench();
        return 0;
    }
    must(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "device");
    if (argc > 1 && strcmp(argv[1], "--tiny") == 0) {
        check_tiny(major);
        printf("1..%d\n", n_case);
        return n_bad != 0;
    }
    check_many_all("many", true, short_run, emulated);
    if (major == 9)
        check_many_all("many on Hopper", false, short_run, emulated);
    check_plain_all();
    check_few_all();
    check_step_all();
    check_rope_all();
    printf("1..%d\n", n_case);
    return n_bad != 0;
}
