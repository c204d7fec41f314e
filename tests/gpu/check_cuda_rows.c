// SPDX-License-Identifier: MIT
// Checks of the row kernels (rows_elements.cu, rows_norm.cu, patches.cu) against witnesses in double, over
// type mixtures, odd and even shapes, strides and offsets; --bench prints GB/s, --short leaves out what is slow under
// emulation, --tiny has each kernel in few launches (for compute-sanitizer).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"

enum op {
    COPY,
    ADD,
    ADD_SCALED,
    ADD_TABLE,
    ADD_ONE_ROW,
    RMS_NORM,
    RMS_NORM_IN_PLACE,
    LAYER_NORM,
    LAYER_NORM_IN_PLACE,
    GELU,
    SILU_MUL,
    EMBED,
    EMBED_ROWS,
    N_OP,
};
static const char *const op_names[] = {
    "copy",
    "add",
    "add scaled",
    "add table",
    "add row",
    "rms norm",
    "rms norm in place",
    "layer norm",
    "layer norm in place",
    "gelu",
    "silu mul",
    "embed",
    "embed rows",
};

struct shape {
    int rows, cols, lead, pad; // stride = lead + cols + pad
};
static const struct shape shapes[] = {
    {1, 1, 0, 0},    {3, 7, 0, 0},    {5, 8, 0, 0},          {5, 8, 8, 8},    {2, 16, 1, 0},
    {7, 24, 0, 1},   {33, 64, 8, 0},  {2, 1408, 1408, 1408}, {9, 768, 0, 0},  {3, 1407, 0, 0},
    {2, 1536, 0, 0}, {2, 1544, 8, 0}, {3, 4096, 0, 0},       {2, 8192, 0, 0}, {2, 8200, 0, 0},
    {1, 9001, 0, 0}, {2, 1540, 4, 0},
};
enum { N_SHAPE = sizeof shapes / sizeof *shapes };

// What an op reads and writes. y is the matrix written: in place, x is its copy from before.
struct sides {
    struct matrix y, x, w, b; // w, b: f32 [1, cols] or, for a table, [rows, cols]
    int32_t *ids;             // device
    int32_t ids_host[64];
};

static const float EPS = 1e-6f;

static bool in_place(enum op op)
{
    return op != COPY && op != RMS_NORM && op != LAYER_NORM && op != EMBED && op != EMBED_ROWS;
}

// `rows` of the op; y is s->y or another matrix of its kind.
static int run(enum op op, const struct sides *s, struct cuda_view y, int rows)
{
    struct cuda_view x = s->x.view;
    const float *w = s->w.view.data, *b = s->b.view.data;
    y.rows = rows;
    if (op != EMBED)
        x.rows = rows;
    switch (op) {
    case COPY:
        return cuda_copy(y, x, NULL);
    case ADD:
        return cuda_add(y, x, NULL, NULL);
    case ADD_SCALED:
        return cuda_add(y, x, w, NULL);
    case ADD_TABLE:
        return cuda_add_table(y, w, s->w.view.rows, NULL);
    case ADD_ONE_ROW:
        return cuda_add_table(y, w, 1, NULL);
    case RMS_NORM:
        return cuda_rms_norm(y, x, w, EPS, NULL);
    case RMS_NORM_IN_PLACE:
        return cuda_rms_norm(y, y, w, EPS, NULL);
    case LAYER_NORM:
        return cuda_layer_norm(y, x, w, b, EPS, NULL);
    case LAYER_NORM_IN_PLACE:
        return cuda_layer_norm(y, y, w, b, EPS, NULL);
    case GELU:
        return cuda_gelu(y, NULL);
    case SILU_MUL:
        return cuda_silu_mul(y, x, NULL);
    case EMBED:
        return cuda_embed(y, x, s->ids, NULL);
    default:
        return cuda_embed(y, x, NULL, NULL);
    }
}

static void mean_and_scale(const struct matrix *x, int row, bool centre, double *mean, double *f)
{
    int n = x->view.cols;
    double sum = 0;
    *mean = 0;
    for (int c = 0; centre && c < n; c++)
        *mean += matrix_get(x, row, c) / n;
    for (int c = 0; c < n; c++)
        sum += (matrix_get(x, row, c) - *mean) * (matrix_get(x, row, c) - *mean);
    *f = 1 / sqrt(sum / n + (double)EPS);
}

// What y[row][col] must be; before: y before the op. *size: of the terms, for the tolerance.
static double witness(enum op op, const struct sides *s, const struct matrix *before, int row,
                      int col, double mean, double f, double *size)
{
    double y = matrix_get(before, row, col), x = 0, w = 0, b = 0;
    if (op == EMBED)
        x = matrix_get(&s->x, s->ids_host[row], col);
    else
        x = matrix_get(&s->x, row, col);
    w = matrix_get(&s->w, op == ADD_TABLE ? row : 0, col);
    b = matrix_get(&s->b, 0, col);
    switch (op) {
    case ADD:
        *size = fabs(y) + fabs(x);
        return y + x;
    case ADD_SCALED:
        *size = fabs(y) + fabs(x * w);
        return y + x * w;
    case ADD_TABLE:
    case ADD_ONE_ROW:
        *size = fabs(y) + fabs(w);
        return y + w;
    case RMS_NORM:
    case LAYER_NORM:
        *size = (fabs(x) + fabs(mean)) * f * fabs(w) * 4 + fabs(b);
        return (x - mean) * f * w + (op == LAYER_NORM ? b : 0);
    case RMS_NORM_IN_PLACE:
    case LAYER_NORM_IN_PLACE:
        *size = (fabs(y) + fabs(mean)) * f * fabs(w) * 4 + fabs(b);
        return (y - mean) * f * w + (op == LAYER_NORM_IN_PLACE ? b : 0);
    case GELU:
        *size = fabs(y) * 4;
        return 0.5 * y * erfc(-y * 0.70710678118654752440);
    case SILU_MUL:
        *size = fabs(y * x) * 4;
        return y / (1 + exp(-y)) * x;
    default:
        *size = 0;
        return x;
    }
}

static bool is_norm(enum op op)
{
    return op >= RMS_NORM && op <= LAYER_NORM_IN_PLACE;
}

static bool compare(enum op op, const struct sides *s, const struct matrix *before)
{
    for (int r = 0; r < s->y.view.rows; r++) {
        double mean = 0, f = 0;
        if (is_norm(op))
            mean_and_scale(in_place(op) ? before : &s->x, r, op >= LAYER_NORM, &mean, &f);
        for (int c = 0; c < s->y.view.cols; c++) {
            double size, want = witness(op, s, before, r, c, mean, f, &size);
            double have = matrix_get(&s->y, r, c);
            if (!value_near(have, want, size * 3e-7, s->y.view.is_bf16)) {
                printf("# row %d column %d: %.9g, must be %.9g\n", r, c, have, want);
                return false;
            }
        }
    }
    return true;
}

static bool same_first_row(const struct matrix *a, const struct matrix *b)
{
    size_t size = a->view.is_bf16 ? 2 : 4, at = (size_t)a->lead * size;
    return memcmp(a->host + at, b->host + at, (size_t)a->view.cols * size) == 0;
}

static void check_op(enum op op, struct shape h, bool y_bf16, bool x_bf16)
{
    int64_t stride = h.lead + h.cols + h.pad;
    struct sides s = {0};
    int table_rows = op == EMBED ? 50 : h.rows;
    s.y = matrix_new(y_bf16, h.rows, h.cols, h.lead, stride);
    s.x = matrix_new(x_bf16, table_rows, h.cols, h.lead, stride);
    s.w = matrix_new(false, op == ADD_TABLE ? h.rows : 1, h.cols, 0, h.cols);
    s.b = matrix_new(false, 1, h.cols, 0, h.cols);
    struct matrix before = matrix_new(y_bf16, h.rows, h.cols, h.lead, stride);
    struct matrix alone = matrix_new(y_bf16, h.rows, h.cols, h.lead, stride);
    double scale = op == GELU || op == SILU_MUL ? 12 : 3;
    matrix_random(&s.x, scale);
    matrix_random(&s.w, 2);
    matrix_random(&s.b, 2);
    if (in_place(op)) {
        matrix_random(&s.y, scale);
        memcpy(before.host, s.y.host, s.y.bytes);
        memcpy(alone.host, s.y.host, s.y.bytes);
        matrix_send(&alone);
    }
    void *ids = NULL;
    for (int i = 0; i < h.rows; i++)
        s.ids_host[i] = (i * 37 + 11) % table_rows;
    cuda_must(cudaMalloc(&ids, sizeof s.ids_host), "cudaMalloc");
    s.ids = ids;
    cuda_must(cudaMemcpy(ids, s.ids_host, sizeof s.ids_host, cudaMemcpyHostToDevice), "ids");

    cuda_must(run(op, &s, s.y.view, h.rows), op_names[op]);
    cuda_must(run(op, &s, alone.view, 1), op_names[op]);
    cuda_must(cudaDeviceSynchronize(), op_names[op]);
    matrix_fetch(&s.y);
    matrix_fetch(&alone);
    bool right = compare(op, &s, &before), same = same_first_row(&s.y, &alone);
    size_t trespass = matrix_trespass(&s.y);
    if (!same)
        printf("# the first row depends on the number of rows\n");
    if (trespass)
        printf("# %zu bytes written beside the columns\n", trespass);
    report(right && same && trespass == 0, "%s %d x %d lead %d pad %d, %s and %s", op_names[op],
           h.rows, h.cols, h.lead, h.pad, y_bf16 ? "bf16" : "f32", x_bf16 ? "bf16" : "f32");
    cudaFree(ids);
    matrix_free(&s.y);
    matrix_free(&s.x);
    matrix_free(&s.w);
    matrix_free(&s.b);
    matrix_free(&before);
    matrix_free(&alone);
}

// Large means against small spreads: what one pass would lose.
static void check_layer_norm_far(void)
{
    struct matrix x = matrix_new(false, 2, 1408, 0, 1408), w = matrix_new(false, 1, 1408, 0, 1408);
    matrix_random(&w, 1);
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 1408; c++)
            matrix_set(&x, r, c, 1000 + random_signed());
    matrix_send(&x);
    struct matrix y = matrix_new(false, 2, 1408, 0, 1408);
    cuda_must(cuda_layer_norm(y.view, x.view, w.view.data, w.view.data, EPS, NULL), "layer norm");
    matrix_fetch(&y);
    bool right = true;
    for (int r = 0; r < 2; r++) {
        double mean, f;
        mean_and_scale(&x, r, true, &mean, &f);
        for (int c = 0; c < 1408; c++) {
            double v = matrix_get(&w, 0, c), want = (matrix_get(&x, r, c) - mean) * f * v + v;
            right = right && value_near(matrix_get(&y, r, c), want, 1e-3, false);
        }
    }
    report(right, "layer norm of values around 1000");
    matrix_free(&x);
    matrix_free(&y);
    matrix_free(&w);
}

// Two norms at once have the bits of two calls, in columns of one matrix and in matrices of unlike types.
static void check_norm2(int rows, int cols, bool bf16, bool b_bf16, int gap)
{
    struct matrix x[2], w = matrix_new(false, 2, cols, 0, (cols + 7) / 8 * 8);
    struct cuda_view a, b, a1;
    matrix_random(&w, 1);
    for (int i = 0; i < 2; i++) { // the same values twice
        x[i] = matrix_new(bf16, rows, 2 * cols + gap, 0, 2 * cols + gap + 5);
        matrix_random(&x[i], 3);
    }
    memcpy(x[1].host, x[0].host, x[0].bytes);
    matrix_send(&x[1]);
    struct matrix other[2] = {matrix_new(b_bf16, rows, cols, 0, cols),
                              matrix_new(b_bf16, rows, cols, 0, cols)};
    matrix_random(&other[0], 3);
    memcpy(other[1].host, other[0].host, other[0].bytes);
    matrix_send(&other[1]);
    const float *a_w = w.view.data, *b_w = a_w + w.view.stride;
    for (int i = 0; i < 2; i++) {
        a = x[i].view;
        a.cols = cols;
        a1 = a;
        a1.data = (char *)a.data + (size_t)(cols + gap) * (bf16 ? 2 : 4);
        b = bf16 == b_bf16 ? a1 : other[i].view;
        if (i == 0)
            cuda_must(cuda_rms_norm2(a, a_w, b, b_w, EPS, NULL), "two rms norms");
        else {
            cuda_must(cuda_rms_norm(a, a, a_w, EPS, NULL), "rms norm");
            cuda_must(cuda_rms_norm(b, b, b_w, EPS, NULL), "rms norm");
        }
        matrix_fetch(&x[i]);
        matrix_fetch(&other[i]);
    }
    report(!memcmp(x[0].host, x[1].host, x[0].bytes) &&
               !memcmp(other[0].host, other[1].host, other[0].bytes) && matrix_trespass(&x[0]) == 0,
           "two rms norms %d x %d, %s and %s, gap %d", rows, cols, bf16 ? "bf16" : "f32",
           b_bf16 ? "bf16" : "f32", gap);
    for (int i = 0; i < 2; i++) {
        matrix_free(&x[i]);
        matrix_free(&other[i]);
    }
    matrix_free(&w);
}

// A NaN stays one, and stays in its row.
static void check_nan(void)
{
    struct matrix x = matrix_new(true, 3, 64, 0, 64), w = matrix_new(false, 1, 64, 0, 64);
    matrix_random(&x, 1);
    matrix_random(&w, 1);
    memset(x.host + 64 * 2 + 10, 0xff, 2);
    matrix_send(&x);
    cuda_must(cuda_rms_norm(x.view, x.view, w.view.data, EPS, NULL), "rms norm");
    matrix_fetch(&x);
    bool right = true;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 64; c++)
            right = right && isnan(matrix_get(&x, r, c)) == (r == 1);
    report(right, "rms norm keeps a NaN in its row");
    matrix_free(&x);
    matrix_free(&w);
}

static void check_split(int rows, int n_head, int n_kv, int d, int pad, unsigned types)
{
    int q_cols = n_head * d, kv_cols = n_kv * d, cols = q_cols + 2 * kv_cols, share = n_head / n_kv;
    struct matrix qkv = matrix_new(types & 1, rows, cols, 0, cols + pad);
    struct matrix out[3] = {matrix_new(types & 2, rows, q_cols, pad, pad + q_cols + pad),
                            matrix_new(types & 4, rows, kv_cols, 0, kv_cols + pad),
                            matrix_new(types & 8, rows, kv_cols, 0, kv_cols + pad)};
    matrix_random(&qkv, 1);
    cuda_must(cuda_split_wqkv(out[0].view, out[1].view, out[2].view, qkv.view, d, NULL), "split");
    bool right = true;
    size_t trespass = 0;
    for (int i = 0; i < 3; i++) {
        matrix_fetch(&out[i]);
        trespass += matrix_trespass(&out[i]);
    }
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < n_kv; g++)
            for (int m = 0; m < share + 2; m++)
                for (int c = 0; c < d; c++) {
                    const struct matrix *o = &out[m < share ? 0 : m - share + 1];
                    double have = matrix_get(o, r, (m < share ? g * share + m : g) * d + c);
                    double want = matrix_get(&qkv, r, (g * (share + 2) + m) * d + c);
                    right = right && have == (o->view.is_bf16 ? bf16_rounded(want) : want);
                }
    report(right && trespass == 0, "split wqkv %d x %d heads, %d kv of %d, pad %d, types %x", rows,
           n_head, n_kv, d, pad, types);
    matrix_free(&qkv);
    for (int i = 0; i < 3; i++)
        matrix_free(&out[i]);
}

static void check_patches(int n_frame, int size, int patch, int cols, int pad, bool is_bf16,
                          bool pixels_bf16)
{
    int side = size / patch, rows = n_frame * side * side, area = patch * patch;
    struct matrix pixels = matrix_new(pixels_bf16, n_frame * 3 * size, size, 0, size);
    struct matrix out = matrix_new(is_bf16, rows, cols, 0, cols + pad);
    matrix_random(&pixels, 2);
    cuda_must(cuda_patches(out.view, pixels.view.data, pixels_bf16, n_frame, size, patch, NULL),
              "patches");
    matrix_fetch(&out);
    bool right = true;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            int frame = r / (side * side), py = r / side % side, px = r % side;
            double want = 0;
            if (c < 3 * area)
                want = matrix_get(&pixels,
                                  (frame * 3 + c / area) * size + py * patch + c % area / patch,
                                  px * patch + c % patch);
            right = right && matrix_get(&out, r, c) == (is_bf16 ? bf16_rounded(want) : want);
        }
    size_t trespass = matrix_trespass(&out);
    report(right && trespass == 0,
           "patches of %d frames of %d by %d to %d columns, pad %d, %s of %s", n_frame, size, patch,
           cols, pad, is_bf16 ? "bf16" : "f32", pixels_bf16 ? "bf16" : "f32");
    matrix_free(&pixels);
    matrix_free(&out);
}

// Each kernel in few launches, of types and widths by turns: for compute-sanitizer.
static void check_tiny(void)
{
    static const struct shape forms[] = {{3, 7, 0, 0}, {2, 1408, 1408, 1408}, {1, 8200, 0, 0}};
    for (int op = 0; op < N_OP; op++)
        for (int t = 0; t < 4; t++)
            check_op((enum op)op, forms[(op + t) % 3], t & 1, t & 2);
    check_norm2(2, 1408, true, true, 0);
    check_norm2(2, 100, false, false, 3);
    check_norm2(1, 9000, true, true, 8);
    check_split(3, 8, 2, 16, 0, 5);
    check_split(2, 4, 1, 8, 3, 10);
    check_patches(1, 28, 14, 592, 0, true, true);
    check_patches(1, 6, 3, 27, 1, false, true);
}

// few: for tools under which everything is a hundred times slower.
static void check_all(bool few)
{
    for (int op = 0; op < N_OP; op++)
        for (int i = 0; i < N_SHAPE; i += few ? 3 : 1)
            for (int t = 0; t < 4; t++)
                check_op((enum op)op, shapes[i], t & 1, t & 2);
    if (!few)
        check_layer_norm_far();
    check_nan();
    check_norm2(9, 1408, true, true, 0);
    check_norm2(3, 100, false, false, 3);
    check_norm2(2, 2048, true, false, 1);
    check_norm2(2, 9000, true, true, 8);
    for (unsigned types = 0; types < 16; types += few ? 5 : 1) {
        check_split(3, 8, 2, 16, 0, types);
        check_split(2, 6, 6, 6, 0, types);
        check_split(2, 4, 1, 8, 3, types);
    }
    for (int t = 0; t < 4; t++) {
        check_patches(2, 28, 14, 588, 0, t & 1, t & 2);
        check_patches(2, 28, 14, 592, 0, t & 1, t & 2);
        check_patches(1, 42, 14, 640, 8, t & 1, t & 2);
        check_patches(3, 6, 3, 27, 1, t & 1, t & 2);
        check_patches(1, 7, 3, 32, 0, t & 1, t & 2); // the last pixels belong to no patch
    }
}

// ---- speed

struct bench {
    struct cuda_view y, x;
    const float *w;
};

static void bench_rms(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_rms_norm(b->y, b->y, b->w, EPS, NULL), "rms norm");
}

static void bench_rms2(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_rms_norm2(b->y, b->w, b->x, b->w, EPS, NULL), "two rms norms");
}

static void bench_layer(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_layer_norm(b->y, b->x, b->w, b->w, EPS, NULL), "layer norm");
}

static void bench_table(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_add_table(b->y, (const float *)b->x.data, b->x.rows, NULL), "add table");
}

static void bench_copy(void *ctx, int i)
{
    struct bench *b = ctx;
    (void)i;
    cuda_must(cuda_copy(b->y, b->x, NULL), "copy");
}

static void print_speed(const char *name, void (*call)(void *, int), struct bench b, double bytes)
{
    double ms = device_ms(call, &b, 10, 11);
    printf("bench %-34s %9.2f us %8.0f GB/s\n", name, ms * 1e3, bytes / ms * 1e-6);
}

static void bench_all(void)
{
    int n = 12294, d = 1408;
    struct matrix big = matrix_new(true, 6147, 4224, 0, 4224);
    struct matrix a = matrix_new(false, n, d, 0, d), b = matrix_new(true, n, d, 0, d);
    struct matrix w = matrix_new(false, 1, d, 0, d);
    matrix_random(&w, 1);
    cuda_must(cudaMemset(big.device, 0, big.bytes), "cudaMemset");
    cuda_must(cudaMemset(a.device, 0, a.bytes), "cudaMemset");
    struct cuda_view slice = big.view, f = a.view, h = b.view;
    slice.cols = d;
    double f_bytes = (double)n * d * 4, h_bytes = (double)n * d * 2;
    const float *weight = (const float *)w.view.data;
    print_speed("rms norm bf16 6147 x 1408 of 4224", bench_rms,
                (struct bench){slice, slice, weight}, 6147.0 * d * 4);
    struct cuda_view second = slice;
    second.data = (char *)slice.data + (size_t)d * 2;
    print_speed("two rms norms bf16 6147 x 1408", bench_rms2, (struct bench){slice, second, weight},
                6147.0 * d * 8);
    print_speed("layer norm f32 to bf16 12294 x 1408", bench_layer, (struct bench){h, f, weight},
                f_bytes + h_bytes);
    print_speed("layer norm f32 12294 x 1408", bench_layer, (struct bench){f, f, weight},
                f_bytes * 2);
    struct cuda_view f768 = f;
    f768.cols = 768;
    f768.stride = 768;
    print_speed("layer norm f32 12294 x 768", bench_layer, (struct bench){f768, f768, weight},
                12294.0 * 768 * 8);
    struct cuda_view t0 = f, t1 = f;
    t0.rows = t1.rows = 2049;
    t1.data = (float *)f.data + (int64_t)4096 * d;
    print_speed("add table f32 2049 x 1408", bench_table, (struct bench){t0, t1, NULL},
                2049.0 * d * 12);
    print_speed("copy f32 to bf16 12294 x 1408", bench_copy, (struct bench){h, f, NULL},
                f_bytes + h_bytes);
    matrix_free(&big);
    matrix_free(&a);
    matrix_free(&b);
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
