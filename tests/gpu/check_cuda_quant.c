// SPDX-License-Identifier: MIT
// Checks of the quantised linear layers (quant_*.cu): blocks against a decoder of the file formats written
// here, products against sums in double; --bench prints the speed at the shapes of 7B and 8B models.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"
#include "gpu/cuda/quant_kernels.h"

enum { N_TYPE = 4 };
static const char *const type_names[] = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"};

// ---- the formats

static float half_at(const uint8_t *p)
{
    unsigned h = p[0] | (unsigned)p[1] << 8, e = h >> 10 & 31, m = h & 0x3ff;
    double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, (int)e - 25);
    return (float)(h >> 15 ? -v : v);
}

static void put_half(uint8_t *p, unsigned bits)
{
    p[0] = (uint8_t)bits;
    p[1] = (uint8_t)(bits >> 8);
}

static void scale_and_min(const uint8_t *p, int i, float *s, float *m)
{
    unsigned a = p[i], b = i < 4 ? p[i + 4] : 0;
    if (i >= 4) {
        a = (p[i + 4] & 15u) + 16u * (p[i - 4] / 64u);
        b = p[i + 4] / 16u + 16u * (p[i] / 64u);
    }
    *s = (float)(a & 63);
    *m = (float)(b & 63);
}

// Element i of a block, in the formats' f32 arithmetic.
static float decode(enum cuda_quant t, const uint8_t *b, int i)
{
    switch (t) {
    case CUDA_QUANT_Q8_0:
        return half_at(b) * (float)(int8_t)b[2 + i];
    case CUDA_QUANT_Q4_0:
        return half_at(b) * (float)((i < 16 ? b[2 + i] % 16 : b[2 + i - 16] / 16) - 8);
    case CUDA_QUANT_Q4_K: {
        int part = i / 32, byte = b[16 + part / 2 * 32 + i % 32];
        float s, m;
        scale_and_min(b + 4, part, &s, &m);
        volatile float a = half_at(b) * s, c = half_at(b + 2) * m; // no fused rounding
        volatile float product = a * (float)(part % 2 ? byte / 16 : byte % 16);
        return product - c;
    }
    default: {
        int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        int low = b[half * 64 + quarter % 2 * 32 + l];
        low = quarter < 2 ? low % 16 : low / 16;
        int high = b[128 + half * 32 + l] >> 2 * quarter & 3;
        volatile float a = half_at(b + 208) * (float)(int8_t)b[192 + i / 16];
        return a * (float)(low + 16 * high - 32);
    }
    }
}

static float decode_at(enum cuda_quant t, const uint8_t *blocks, int k, int row, int col)
{
    size_t block = (size_t)cuda_quant_block(t), i = (size_t)row * (size_t)k + (size_t)col;
    return decode(t, blocks + i / block * (size_t)cuda_quant_block_bytes(t), (int)(i % block));
}

static size_t blocks_bytes(enum cuda_quant t, int rows, int k)
{
    return (size_t)rows * (size_t)(k / cuda_quant_block(t)) * (size_t)cuda_quant_block_bytes(t);
}

// ---- weights

struct weight {
    struct cuda_quant_weight w;
    uint8_t *blocks, *device; // as in a file
    size_t bytes;
};

static unsigned random_bits(void)
{
    return (unsigned)((random_signed() + 1) * 1048576) >> 3;
}

static unsigned random_half(void) // 2^-7 .. 2^-4, either sign where `both`
{
    return (8 + random_bits() % 3) << 10 | (random_bits() & 0x3ff);
}

static void send(void *device, const void *host, size_t n)
{
    cuda_must(cudaMemcpy(device, host, n, cudaMemcpyHostToDevice), "copy to device");
}

static void fetch(void *host, const void *device, size_t n)
{
    cuda_must(cudaMemcpy(host, device, n, cudaMemcpyDeviceToHost), "copy to host");
}

static void *device_new(size_t n)
{
    void *p = NULL;
    cuda_must(cudaMalloc(&p, n), "cudaMalloc");
    cuda_must(cudaMemset(p, 0xff, n), "cudaMemset");
    return p;
}

// Random blocks, in planes in two pieces.
static struct weight weight_new(enum cuda_quant t, int n_out, int k)
{
    struct weight w = {.w = {t, n_out, k, NULL}, .bytes = blocks_bytes(t, n_out, k)};
    int size = cuda_quant_block_bytes(t), first = n_out / 3;
    w.blocks = malloc(w.bytes);
    for (size_t i = 0; i < w.bytes; i++)
        w.blocks[i] = (uint8_t)random_bits();
    for (size_t i = 0; i < w.bytes; i += (size_t)size) {
        unsigned sign = t == CUDA_QUANT_Q4_K ? 0 : random_bits() % 2 << 15;
        put_half(w.blocks + i + (t == CUDA_QUANT_Q6_K ? 208 : 0), random_half() | sign);
        if (t == CUDA_QUANT_Q4_K)
            put_half(w.blocks + i + 2, random_half());
    }
    w.device = device_new(w.bytes);
    send(w.device, w.blocks, w.bytes);
    w.w.planes = device_new(cuda_quant_bytes(t, n_out, k));
    cuda_must(cuda_quant_repack(&w.w, w.device, 0, first, NULL), "repack");
    cuda_must(
        cuda_quant_repack(&w.w, w.device + blocks_bytes(t, first, k), first, n_out - first, NULL),
        "repack");
    return w;
}

static void weight_free(struct weight *w)
{
    free(w->blocks);
    cudaFree(w->device);
    cudaFree(w->w.planes);
}

static void check_unpack(enum cuda_quant t, int n_out, int k, int pad, bool is_bf16)
{
    struct weight w = weight_new(t, n_out, k);
    int first = n_out / 2, wrong = 0;
    struct matrix out = matrix_new(is_bf16, n_out - first, k, 0, k + pad);
    cuda_must(cuda_quant_unpack(out.view, &w.w, first, NULL), "unpack");
    matrix_fetch(&out);
    for (int r = 0; r < n_out - first; r++)
        for (int c = 0; c < k; c++) {
            double want = (double)decode_at(t, w.blocks, k, first + r, c);
            double have = matrix_get(&out, r, c);
            bool right = have == (is_bf16 ? bf16_rounded(want) : want);
            if (!right && wrong++ == 0)
                printf("# row %d column %d: %.9g, must be %.9g\n", r, c, have, want);
        }
    report(wrong == 0 && matrix_trespass(&out) == 0, "%s %d x %d to planes and back, pad %d, %s",
           type_names[t], n_out, k, pad, is_bf16 ? "bf16" : "f32");
    matrix_free(&out);
    weight_free(&w);
}

// Rows by number, some twice; with by_id false the first ones.
static void check_embed(enum cuda_quant t, int n_out, int k, int pad, bool is_bf16, bool by_id)
{
    enum { ROWS = 5 };
    struct weight w = weight_new(t, n_out, k);
    struct matrix out = matrix_new(is_bf16, ROWS, k, 0, k + pad);
    int32_t ids[ROWS], *device_ids = device_new(sizeof ids);
    int wrong = 0;
    for (int r = 0; r < ROWS; r++)
        ids[r] = by_id ? (r * 5 + 2) % n_out : r;
    send(device_ids, ids, sizeof ids);
    cuda_must(cuda_quant_embed(out.view, &w.w, by_id ? device_ids : NULL, NULL), "embed");
    matrix_fetch(&out);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < k; c++) {
            double want = (double)decode_at(t, w.blocks, k, ids[r], c);
            wrong += matrix_get(&out, r, c) != (is_bf16 ? bf16_rounded(want) : want);
        }
    report(wrong == 0 && matrix_trespass(&out) == 0, "%s rows of %d x %d %s, pad %d, %s",
           type_names[t], n_out, k, by_id ? "by number" : "in order", pad,
           is_bf16 ? "bf16" : "f32");
    cudaFree(device_ids);
    matrix_free(&out);
    weight_free(&w);
}

// ---- the input

struct quantised {
    int8_t *q;
    float *scale; // pairs: scale, sum
    void *device;
    int rows, k;
};

static struct quantised quantised_new(struct cuda_quant_input a)
{
    struct quantised x = {.rows = a.x.rows, .k = a.k};
    size_t n = cuda_quant_input_bytes(x.rows, x.k), q_bytes = (size_t)x.rows * (size_t)x.k;
    char *host = malloc(n);
    x.device = device_new(n);
    a.out = x.device;
    cuda_must(cuda_quant_input(&a, NULL), "quantised input");
    fetch(host, x.device, n);
    x.q = (int8_t *)host;
    x.scale = (float *)(void *)(host + (q_bytes + 15) / 16 * 16);
    return x;
}

static void quantised_free(struct quantised *x)
{
    free(x->q);
    cudaFree(x->device);
}

static double quantised_scale(const struct quantised *x, int row, int col)
{
    return (double)x->scale[2 * ((size_t)row * (size_t)(x->k / 32) + (size_t)(col / 32))];
}

static double input_witness(const struct cuda_quant_input *a, const struct matrix *x,
                            const struct matrix *up, const struct matrix *w, int r, int c)
{
    double v = matrix_get(x, r, c), sum = 0;
    switch (a->kind) {
    case CUDA_INPUT_RMS:
        for (int i = 0; i < x->view.cols; i++)
            sum += matrix_get(x, r, i) * matrix_get(x, r, i);
        return v / sqrt(sum / x->view.cols + (double)a->eps) * matrix_get(w, 0, c);
    case CUDA_INPUT_SILU_MUL:
        return v / (1 + exp(-v)) * matrix_get(up, r, c);
    case CUDA_INPUT_GELU:
        return 0.5 * v * erfc(-v * 0.70710678118654752440);
    default:
        return v;
    }
}

static void check_input(enum cuda_input kind, int rows, int d_in, int k, int pad, bool is_bf16)
{
    struct matrix x = matrix_new(is_bf16, rows, d_in, pad, d_in + 2 * pad);
    struct matrix up = matrix_new(is_bf16, rows, d_in, 0, d_in + pad);
    struct matrix w = matrix_new(false, 1, d_in, 0, d_in);
    matrix_random(&x, 3);
    matrix_random(&up, 3);
    matrix_random(&w, 2);
    struct cuda_quant_input a = {kind, x.view, up.view, w.view.data, 1e-5f, k, NULL};
    struct quantised q = quantised_new(a);
    a.x.rows = 1;
    struct quantised alone = quantised_new(a);
    bool right = memcmp(q.q, alone.q, (size_t)k) == 0;
    double *want = malloc((size_t)k * sizeof *want);
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < k; c++)
            want[c] = c < d_in ? input_witness(&a, &x, &up, &w, r, c) : 0;
        for (int from = 0; from < k; from += 32) {
            double most = 0, sum = 0, scale = quantised_scale(&q, r, from);
            for (int c = from; c < from + 32; c++) {
                most = fmax(most, fabs(want[c]));
                sum += q.q[(size_t)r * (size_t)k + (size_t)c];
            }
            right = right && fabs(scale - most / 127) <= most * 1e-7;
            right =
                right &&
                sum ==
                    (double)q.scale[2 * ((size_t)r * (size_t)(k / 32) + (size_t)(from / 32)) + 1];
            for (int c = from; c < from + 32; c++) {
                double have = q.q[(size_t)r * (size_t)k + (size_t)c] * scale;
                right = right && fabs(have - want[c]) <= scale * 0.5 + most * 1e-5;
            }
        }
    }
    report(right, "input of kind %d, %d x %d to %d, pad %d, %s", (int)kind, rows, d_in, k, pad,
           is_bf16 ? "bf16" : "f32");
    free(want);
    quantised_free(&q);
    quantised_free(&alone);
    matrix_free(&x);
    matrix_free(&up);
    matrix_free(&w);
}

static void check_input_nan(float value)
{
    struct matrix x = matrix_new(false, 2, 96, 0, 96);
    matrix_random(&x, 1);
    matrix_set(&x, 1, 40, (double)value);
    matrix_send(&x);
    struct cuda_quant_input a = {.kind = CUDA_INPUT_ROWS, .x = x.view, .k = 96};
    struct quantised q = quantised_new(a);
    bool right = true;
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 96; c += 32)
            right = right && isnan(quantised_scale(&q, r, c)) == (r == 1 && c == 32);
    report(right, "input: %f makes its block's scale NaN", (double)value);
    quantised_free(&q);
    matrix_free(&x);
}

// ---- the product

struct epilogue {
    bool y_bf16, add, scale, bias;
};

static void check_linear(enum cuda_quant t, int n_out, int k, int rows, struct epilogue e)
{
    struct weight w = weight_new(t, n_out, k);
    struct matrix x = matrix_new(false, rows, k, 0, k);
    struct matrix y = matrix_new(e.y_bf16, rows, n_out, 1, n_out + 3), before = y;
    struct matrix bias = matrix_new(false, 1, n_out, 0, n_out), scale = bias;
    scale = matrix_new(false, 1, n_out, 0, n_out);
    matrix_random(&x, 1);
    matrix_random(&bias, 1);
    matrix_random(&scale, 1);
    before = matrix_new(e.y_bf16, rows, n_out, 1, n_out + 3);
    if (e.add) {
        matrix_random(&before, 5);
        send(y.device, before.host, y.bytes);
    }
    struct cuda_quant_input in = {.kind = CUDA_INPUT_ROWS, .x = x.view, .k = k};
    struct quantised q = quantised_new(in);
    struct cuda_quant_linear a = {.w = w.w, .x = q.device, .y = y.view, .add = e.add};
    a.bias = e.bias ? bias.view.data : NULL;
    a.scale = e.scale ? scale.view.data : NULL;
    cuda_must(cuda_quant_linear(&a, NULL), "linear");
    matrix_fetch(&y);

    bool right = true, same = true;
    double worst = 0;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < n_out; c++) {
            double sum = 0, size = 0, b = e.bias ? matrix_get(&bias, 0, c) : 0;
            double s = e.scale ? matrix_get(&scale, 0, c) : 1;
            for (int i = 0; i < k; i++) {
                double v = (double)decode_at(t, w.blocks, k, c, i) *
                           q.q[(size_t)r * (size_t)k + (size_t)i] * quantised_scale(&q, r, i);
                sum += v;
                size += fabs(v);
            }
            // Q4: the offset of a block is added apart, and is as large as 8 (or m) times the inputs
            double want = sum + b, tolerance = (size * 2 + fabs(b)) * 6e-8;
            double old = matrix_get(&before, r, c), have = matrix_get(&y, r, c);
            if (e.add) {
                want = old + s * want;
                tolerance = tolerance * fabs(s) + (fabs(old) + fabs(want)) * 6e-8;
            }
            if (!e.y_bf16)
                worst = fmax(worst, fabs(have - want) / tolerance);
            if (!value_near(have, want, tolerance, e.y_bf16)) {
                if (right)
                    printf("# row %d output %d: %.9g, must be %.9g within %.2g\n", r, c, have, want,
                           tolerance);
                right = false;
            }
        }

    struct matrix alone = matrix_new(e.y_bf16, 1, n_out, 1, n_out + 3);
    for (int r = 0; r < rows; r++) { // each row by itself
        struct cuda_view one = x.view;
        one.rows = 1;
        one.data = (float *)one.data + (size_t)r * (size_t)k;
        in.x = one;
        struct quantised q1 = quantised_new(in);
        size_t line = alone.bytes;
        send(alone.device, before.host + (size_t)r * line, line);
        a.x = q1.device;
        a.y = alone.view;
        cuda_must(cuda_quant_linear(&a, NULL), "linear of one row");
        matrix_fetch(&alone);
        same = same && memcmp(alone.host, y.host + (size_t)r * line, line) == 0;
        quantised_free(&q1);
    }
    if (!same)
        printf("# a row depends on the number of rows\n");
    report(right && same && matrix_trespass(&y) == 0,
           "%s %d rows, %d x %d%s%s%s%s, %.3f of the tolerance", type_names[t], rows, n_out, k,
           e.y_bf16 ? ", bf16" : "", e.add ? ", add" : "", e.scale ? ", scale" : "",
           e.bias ? ", bias" : "", worst);
    matrix_free(&alone);
    matrix_free(&before);
    matrix_free(&bias);
    matrix_free(&scale);
    matrix_free(&x);
    matrix_free(&y);
    quantised_free(&q);
    weight_free(&w);
}

// All types side by side: what each gives by itself.
static void check_linears(int rows, int n_out, int k)
{
    struct weight w[N_TYPE];
    struct matrix x = matrix_new(false, rows, k, 0, k);
    struct matrix y = matrix_new(false, rows, N_TYPE * n_out, 0, N_TYPE * n_out), alone = y;
    struct cuda_quant_linear a[N_TYPE];
    alone = matrix_new(false, rows, N_TYPE * n_out, 0, N_TYPE * n_out);
    matrix_random(&x, 1);
    struct cuda_quant_input in = {.kind = CUDA_INPUT_ROWS, .x = x.view, .k = k};
    struct quantised q = quantised_new(in);
    for (int t = 0; t < N_TYPE; t++) {
        w[t] = weight_new((enum cuda_quant)t, n_out, k);
        a[t] = (struct cuda_quant_linear){.w = w[t].w, .x = q.device, .y = alone.view};
        a[t].y.data = (float *)alone.view.data + t * n_out;
        a[t].y.cols = n_out;
        cuda_must(cuda_quant_linear(&a[t], NULL), "linear");
        a[t].y.data = (float *)y.view.data + t * n_out;
    }
    cuda_must(cuda_quant_linears(a, N_TYPE, NULL), "linears");
    matrix_fetch(&y);
    matrix_fetch(&alone);
    report(memcmp(y.host, alone.host, y.bytes) == 0, "four types side by side, %d rows, %d x %d",
           rows, n_out, k);
    for (int t = 0; t < N_TYPE; t++)
        weight_free(&w[t]);
    quantised_free(&q);
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&alone);
}

// ---- packing

// Root mean square of the error over that of the weights.
static double pack_error(enum cuda_quant t, const struct matrix *w, const uint8_t *blocks)
{
    double error = 0, size = 0;
    for (int r = 0; r < w->view.rows; r++)
        for (int c = 0; c < w->view.cols; c++) {
            double v = matrix_get(w, r, c);
            double d = v - (double)decode_at(t, blocks, w->view.cols, r, c);
            error += d * d;
            size += v * v;
        }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}

static uint8_t *packed(enum cuda_quant t, const struct matrix *w, bool *clean)
{
    size_t n = blocks_bytes(t, w->view.rows, w->view.cols), guard = 64;
    uint8_t *host = malloc(n + guard), *device = device_new(n + guard);
    cuda_must(cuda_quant_pack(device, t, w->view, NULL), "pack");
    fetch(host, device, n + guard);
    for (size_t i = 0; i < guard; i++)
        *clean = *clean && host[n + i] == 0xff;
    cudaFree(device);
    return host;
}

static void check_pack(enum cuda_quant t, int rows, int k, int pad, bool is_bf16, double scale)
{
    // of weights spread evenly, a tenth above what was measured (Q6_K of small weights: the f16 scale)
    static const double limits[] = {0.0045, 0.066, 0.062, 0.0165};
    struct matrix w = matrix_new(is_bf16, rows, k, pad, k + 2 * pad);
    bool clean = true;
    matrix_random(&w, scale);
    uint8_t *blocks = packed(t, &w, &clean);
    double error = pack_error(t, &w, blocks);
    report(clean && error <= limits[t], "%s of %d x %d, pad %d, %s, size %g: relative error %.4f",
           type_names[t], rows, k, pad, is_bf16 ? "bf16" : "f32", scale, error);
    free(blocks);
    matrix_free(&w);
}

static void check_pack_zero(enum cuda_quant t)
{
    struct matrix w = matrix_new(true, 1, 512, 0, 512);
    bool clean = true;
    matrix_random(&w, 0);
    matrix_set(&w, 0, 300, 1e-30); // too small for any f16 scale
    matrix_send(&w);
    uint8_t *blocks = packed(t, &w, &clean);
    double error = pack_error(t, &w, blocks);
    report(clean && error <= 1, "%s of zeros", type_names[t]);
    for (int c = 0; c < 256; c++)
        clean = clean && decode_at(t, blocks, 512, 0, c) == 0.0f;
    report(clean, "%s of zeros is zeros", type_names[t]);
    free(blocks);
    matrix_free(&w);
}

// Each kernel and each of its forms once, in few launches: for compute-sanitizer.
static void check_tiny(void)
{
    check_input(CUDA_INPUT_RMS, 2, 1408, 1408, 8, true);
    check_input(CUDA_INPUT_SILU_MUL, 2, 61, 96, 1, false);
    for (int t = 0; t < N_TYPE; t++) {
        enum cuda_quant type = (enum cuda_quant)t;
        check_unpack(type, 2, 768, 8, t % 2);
        check_embed(type, 7, 256, 0, t % 2, true);
        check_pack(type, 2, 768, 8, t % 2, 0.1);
        for (int rows = 1; rows <= 8; rows *= 2)
            check_linear(type, 13, 1280, rows,
                         (struct epilogue){rows == 2, rows == 1, rows == 1, true});
        check_linear(type, 8195, 256, 1, (struct epilogue){false, false, false, false});
    }
    check_linears(1, 21, 1280);
    check_linears(2, 21, 1280);
    check_linears(1, 2050, 256);
}

// few: for tools under which everything is a hundred times slower.
static void check_type(enum cuda_quant t, bool few)
{
    static const struct epilogue epilogues[] = {
        {false, false, false, false}, {true, false, false, true},  {false, true, false, false},
        {false, true, true, true},    {true, false, false, false},
    };
    int block = cuda_quant_block(t);
    for (int i = 0; i < 2; i++) {
        check_unpack(t, 7, block, 0, i);
        check_unpack(t, 6, 768, 8, i);
        check_unpack(t, 5, 1280, 3, i);
        check_embed(t, 7, block, 8, i, true);
        check_embed(t, 9, 768, 1, i, i);
        check_pack(t, 3, block, 0, i, 0.1);
        check_pack(t, 5, 768, 8, i, 30);
        check_pack(t, 9, 1280, 1, i, 1e-3);
    }
    check_pack_zero(t);
    for (int rows = 1; rows <= 11; rows += few ? 5 : 1)
        for (int i = few ? rows % 2 : 0; i < 5; i += few ? 2 : 1)
            check_linear(t, i % 2 ? 13 : 32, i < 2 ? block * (i + 1) : 1280, rows, epilogues[i]);
    if (few)
        return;
    check_linear(t, 3, 11008, 2, epilogues[0]);
    check_linear(t, 5, 4096, 1, epilogues[0]);
    check_linear(t, 1, 4096, 8, epilogues[0]);
    check_linear(t, 8195, 2304, 2,
                 epilogues[3]); // so many outputs that one row alone goes another way
}

static void check_all(bool few)
{
    for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++)
        for (int i = 0; i < 2; i++) {
            check_input((enum cuda_input)kind, 3, 64, 64, 0, i);
            check_input((enum cuda_input)kind, 2, 1408, 1408, 8, i);
            check_input((enum cuda_input)kind, 2, 61, 96, 1, i);
            if (!few)
                check_input((enum cuda_input)kind, 8, 4100, 4128, 4, i);
        }
    check_input_nan(NAN);
    check_input_nan(INFINITY);
    for (int t = 0; t < N_TYPE; t++)
        check_type((enum cuda_quant)t, few);
    for (int rows = 1; rows <= 11; rows += rows < 3 ? 1 : 4)
        check_linears(rows, 21, 1280);
    if (!few)
        check_linears(1, 2050, 256);
}

// ---- speed

enum { MAX_COPIES = 64, BENCH_ROWS = 32 };

struct bench {
    struct cuda_quant_linear a[MAX_COPIES];
    int n_copy;
    struct cuda_quant_input in;
    struct cuda_view out;
};

static void bench_linear(void *ctx, int i)
{
    struct bench *b = ctx;
    cuda_must(cuda_quant_linear(&b->a[i % b->n_copy], NULL), "linear");
}

static void bench_input(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_quant_input(&b->in, NULL), "input");
}

static void bench_unpack(void *ctx, int i)
{
    struct bench *b = ctx;
    cuda_must(cuda_quant_unpack(b->out, &b->a[i % b->n_copy].w, 0, NULL), "unpack");
}

// Copies of the weights in turn, so many that none is still in the L2 cache.
static void bench_shape(enum cuda_quant t, int n_out, int k, bool all_rows)
{
    size_t bytes = cuda_quant_bytes(t, n_out, k), x_bytes = cuda_quant_input_bytes(BENCH_ROWS, k);
    struct bench b = {.n_copy = (int)((512u << 20) / bytes) + 1};
    b.n_copy = b.n_copy > MAX_COPIES ? MAX_COPIES : b.n_copy;
    void *x = device_new(x_bytes), *y = device_new((size_t)n_out * BENCH_ROWS * sizeof(float));
    void *planes[MAX_COPIES];
    cuda_must(cudaMemset(x, 1, x_bytes), "cudaMemset");
    for (int i = 0; i < b.n_copy; i++) {
        planes[i] = device_new(bytes);
        cuda_must(cudaMemset(planes[i], 0x11, bytes), "cudaMemset");
    }
    for (int rows = 1; rows <= (all_rows ? BENCH_ROWS : 1); rows *= 2) {
        for (int i = 0; i < b.n_copy; i++)
            b.a[i] = (struct cuda_quant_linear){
                .w = {t, n_out, k, planes[i]}, .x = x, .y = {y, false, rows, n_out, n_out}};
        double ms = device_ms(bench_linear, &b, 2 * b.n_copy, 5);
        printf("bench %s %5d x %5d, %d rows %9.2f us %6.0f GB/s\n", type_names[t], n_out, k, rows,
               ms * 1e3, (double)bytes / ms * 1e-6);
    }
    if (all_rows) {
        void *out = device_new((size_t)n_out * (size_t)k * 2);
        b.out = (struct cuda_view){out, true, n_out, k, k};
        double ms = device_ms(bench_unpack, &b, b.n_copy, 5);
        printf("bench %s %5d x %5d, unpack %9.2f us %6.0f GB/s\n", type_names[t], n_out, k,
               ms * 1e3, ((double)bytes + (double)n_out * k * 2) / ms * 1e-6);
        cudaFree(out);
    }
    for (int i = 0; i < b.n_copy; i++)
        cudaFree(planes[i]);
    cudaFree(x);
    cudaFree(y);
}

static void bench_all(void)
{
    static const int shapes[][2] = {
        {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}, {32000, 4096}};
    for (int t = 0; t < N_TYPE; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            bench_shape((enum cuda_quant)t, shapes[i][0], shapes[i][1], i == 2);
    struct matrix x = matrix_new(false, 8, 14336, 0, 14336),
                  w = matrix_new(false, 1, 14336, 0, 14336);
    matrix_random(&x, 1);
    matrix_random(&w, 1);
    void *out = device_new(cuda_quant_input_bytes(8, 14336));
    for (int kind = CUDA_INPUT_RMS; kind <= CUDA_INPUT_SILU_MUL; kind++) {
        struct cuda_view v = x.view;
        v.rows = 1;
        v.cols = kind == CUDA_INPUT_RMS ? 4096 : 14336;
        struct bench b = {.in = {(enum cuda_input)kind, v, v, w.view.data, 1e-5f, v.cols, out}};
        double ms = device_ms(bench_input, &b, 100, 5);
        printf("bench input of kind %d, 1 x %d %9.2f us\n", kind, v.cols, ms * 1e3);
    }
    cudaFree(out);
    matrix_free(&x);
    matrix_free(&w);
}

int main(int argc, char **argv)
{
    if (!device_present())
        return 77;
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench_all();
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--tiny") == 0)
        check_tiny();
    else
        check_all(argc > 1 && strcmp(argv[1], "--short") == 0);
    return report_end();
}
