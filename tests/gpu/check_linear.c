// SPDX-License-Identifier: MIT
// cuda_few_linear, cuda_prepare and cuda_lora_down against plain C in double, and their rows' independence of each other bit by
// bit. bench_linear.c has their speed.
//
//   check_linear [--quick | --tiny]    --quick leaves out what is slow under an emulator, --tiny has each variant of
//   the kernels in few launches, for compute-sanitizer (of few_linear, whose variant hangs on the number of processors:
//   on 132 of them)
//
// The witness takes the same rounded inputs, so only the device's own sums and roundings are allowed for: a sum
// in f32 may be off by n_step * 2^-23 * sum |a b|, n_step the longest chain of additions (a tensor core adds 16
// products in one); a bf16 result by half a unit more. Sums of small whole numbers are exact.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"

enum {
    POISON = 0xff,
    MAX_ROWS = CUDA_FEW_ROWS
}; // POISON: matrix_new fills with it, NaN in both types
static const double EPS = 1.0 / (1 << 23);

static unsigned char *bits_of(const struct matrix *m, int row, int col)
{
    size_t size = m->view.is_bf16 ? 2 : 4;
    return (unsigned char *)m->host + (size_t)(m->lead + row * m->view.stride + col) * size;
}

static bool same_bits(const struct matrix *a, int ra, const struct matrix *b, int rb, int n)
{
    return !memcmp(bits_of(a, ra, 0), bits_of(b, rb, 0), (size_t)n * (a->view.is_bf16 ? 2 : 4));
}

// ---- few_linear

struct linear_case {
    int n_out, k;
    bool bias, add, y_bf16, whole; // whole: small whole numbers
    bool brief;                    // few numbers of rows are compared
};

struct linear_data {
    struct linear_case c;
    struct matrix w, x, bias;
};

static double start_value(int r, int o) // of y, where the product is added
{
    return (r * 31 + o * 7) % 64 / 8.0 - 4.0;
}

static void fill(struct matrix *m, const struct linear_case *c, double scale)
{
    if (!c->whole) {
        matrix_random(m, scale);
        return;
    }
    for (int r = 0; r < m->view.rows; r++)
        for (int i = 0; i < m->view.cols; i++)
            matrix_set(m, r, i, floor(random_signed() * 4.5 + 0.5)); // -4 .. 4
    matrix_send(m);
}

// Rows [first, first + rows) of x; y has `rows` rows.
static struct matrix run_linear(const struct linear_data *d, int first, int rows)
{
    const struct linear_case *c = &d->c;
    struct matrix y = matrix_new(c->y_bf16, rows, c->n_out, 3, c->n_out + 12);
    for (int r = 0; c->add && r < rows; r++)
        for (int o = 0; o < c->n_out; o++)
            matrix_set(&y, r, o, start_value(first + r, o));
    matrix_send(&y);
    struct cuda_few_linear a = {.w = d->w.view.data,
                                .x = (char *)d->x.view.data + (size_t)first * (size_t)c->k * 2,
                                .bias = c->bias ? d->bias.view.data : NULL,
                                .y = y.view,
                                .add = c->add,
                                .k = c->k};
    cuda_must(cudaDeviceSynchronize(),
              "the inputs"); // the kernel takes weights to be there long since
    cuda_must(cuda_few_linear(&a, NULL), "cuda_few_linear");
    cuda_must(cudaDeviceSynchronize(), "cuda_few_linear");
    matrix_fetch(&y);
    return y;
}

static bool output_right(const struct linear_data *d, const struct matrix *y, int r, int o)
{
    const struct linear_case *c = &d->c;
    double sum = c->bias ? matrix_get(&d->bias, 0, o) : 0, size = fabs(sum), limit = 0;
    for (int i = 0; i < c->k; i++) {
        double p = matrix_get(&d->x, r, i) * matrix_get(&d->w, o, i);
        sum += p;
        size += fabs(p);
    }
    if (!c->whole)
        limit = (c->k / 128.0 + 24) * EPS * size;
    if (c->add) {
        sum += start_value(r, o);
        if (!c->whole)
            limit += EPS * fabs(sum);
    }
    double have = matrix_get(y, r, o);
    if (value_near(have, sum, limit, c->y_bf16))
        return true;
    printf("# row %d of %d, output %d: %.9g, expected %.9g +- %.3g\n", r, y->view.rows, o, have,
           sum, limit);
    return false;
}

static bool linear_right(const struct linear_data *d, const struct matrix *y)
{
    const int n = d->c.n_out,
              step = n <= 64 ? 1 : n / 37; // of a wide matrix some outputs, the last among them
    for (int r = 0; r < y->view.rows; r++) {
        for (int o = 0; o < n; o += step)
            if (!output_right(d, y, r, o))
                return false;
        if (!output_right(d, y, r, n - 1))
            return false;
    }
    return true;
}

// Any number of rows at any place gives each row the bits that it has among all.
static bool linear_rows_alike(const struct linear_data *d, const struct matrix *all)
{
    static const int counts[] = {1, 8, 9, 17, 33, 2, 7, 16, 32, 63};
    for (int i = 0; i < (d->c.brief ? 4 : (int)(sizeof counts / sizeof *counts)); i++) {
        int first = i % 2 ? MAX_ROWS - counts[i] : i, r = 0;
        struct matrix some = run_linear(d, first, counts[i]);
        bool clean = matrix_trespass(&some) == 0;
        while (r < counts[i] && same_bits(&some, r, all, first + r, d->c.n_out))
            r++;
        matrix_free(&some);
        if (r < counts[i] || !clean) {
            printf("# %d rows from %d: %s (row %d)\n", counts[i], first,
                   clean ? "other bits" : "wrote beside y", r);
            return false;
        }
    }
    return true;
}

static void check_few_linear(struct linear_case c)
{
    struct linear_data d = {.c = c,
                            .w = matrix_new(true, c.n_out, c.k, 0, c.k),
                            .x = matrix_new(true, MAX_ROWS, c.k, 0, c.k),
                            .bias = matrix_new(false, 1, c.n_out, 0, c.n_out)};
    fill(&d.w, &c, 0.5);
    fill(&d.x, &c, 2.0);
    fill(&d.bias, &c, 1.0);
    struct matrix all = run_linear(&d, 0, MAX_ROWS);
    bool ok = linear_right(&d, &all) && matrix_trespass(&all) == 0 && linear_rows_alike(&d, &all);
    report(ok, "few_linear n_out %d k %d%s%s%s%s", c.n_out, c.k, c.bias ? " bias" : "",
           c.add ? " add" : "", c.y_bf16 ? " bf16" : " f32", c.whole ? " exact" : "");
    matrix_free(&all);
    matrix_free(&d.w);
    matrix_free(&d.x);
    matrix_free(&d.bias);
}

static void check_linears(bool quick)
{
    static const int outs[] = {1, 15, 16, 17, 48, 130, 4096};
    static const int columns[] = {16, 32, 48, 64, 80, 528, 1024, 4112, 14352};
    for (int i = 0; i < (int)(sizeof columns / sizeof *columns); i++)
        for (int j = 0; j < (int)(sizeof outs / sizeof *outs); j++) {
            int n = outs[j], k = columns[i], way = i + j;
            if (quick && (n > 130 || k > 4112 || (n > 17 && k > 1024)))
                continue;
            check_few_linear((struct linear_case){
                .n_out = n, .k = k, .whole = true, .bias = way % 2 == 0, .add = way % 3 == 0});
            check_few_linear((struct linear_case){.n_out = n,
                                                  .k = k,
                                                  .bias = way % 2 == 1,
                                                  .add = way % 3 == 1,
                                                  .y_bf16 = way % 3 == 2});
        }
}

// ---- prepare

struct prepare_case {
    enum cuda_input kind;
    int d_in, n_lora;
    bool lora, x_bf16, up_bf16, out_bf16, odd; // odd: nothing is aligned
};

struct prepare_data {
    struct prepare_case c;
    struct matrix x, up, norm_w, lora_a;
    int rows, k_out;
};

static const char *const kind_names[] = {"rows", "rms", "silu_mul", "gelu"};
static const float EPS_NORM = 1e-5f, LORA_SCALE = 2.0f;

static void *row_address(const struct matrix *m, int row)
{
    return (char *)m->view.data + (size_t)(row * m->view.stride) * (m->view.is_bf16 ? 2 : 4);
}

// Rows [first, first + rows) are rows 1 .. rows of the result; rows 0 and rows + 1 are canaries.
static struct matrix run_prepare(const struct prepare_data *d, int first, int rows, bool lora)
{
    struct matrix out = matrix_new(d->c.out_bf16, rows + 2, d->k_out, d->c.odd, d->k_out);
    struct cuda_prepare a = {.kind = d->c.kind,
                             .x = d->x.view,
                             .up = d->up.view,
                             .norm_w = d->norm_w.view.data,
                             .eps = EPS_NORM,
                             .out = row_address(&out, 1),
                             .out_bf16 = d->c.out_bf16,
                             .k_out = d->k_out,
                             .lora_a = lora ? d->lora_a.view.data : NULL,
                             .n_lora = d->c.n_lora,
                             .lora_scale = LORA_SCALE};
    a.x.rows = a.up.rows = rows;
    a.x.data = row_address(&d->x, first);
    a.up.data = row_address(&d->up, first);
    cuda_must(cudaDeviceSynchronize(), "the inputs");
    cuda_must(cuda_prepare(&a, NULL), "cuda_prepare");
    cuda_must(cudaDeviceSynchronize(), "cuda_prepare");
    matrix_fetch(&out);
    return out;
}

// f of element c of row r, and how far f32 arithmetic may be from it.
static double transformed(const struct prepare_data *d, int r, int c, double inverse, double *limit)
{
    double x = matrix_get(&d->x, r, c);
    *limit = 0;
    switch (d->c.kind) {
    case CUDA_INPUT_RMS:
        x *= inverse * matrix_get(&d->norm_w, 0, c);
        *limit = 32 * EPS * fabs(x);
        break;
    case CUDA_INPUT_SILU_MUL:
        x = x / (1 + exp(-x)) * matrix_get(&d->up, r, c);
        *limit = 16 * EPS * fabs(x) + 1e-35; // exp overflows in f32 beyond 88
        break;
    case CUDA_INPUT_GELU:
        *limit = 4 * EPS * fabs(x); // what 1 + erf cancels is lost
        x = 0.5 * x * (1 + erf(x / sqrt(2.0)));
        *limit += 4 * EPS * fabs(x);
        break;
    case CUDA_INPUT_ROWS:
        break;
    }
    return x;
}

static bool transform_right(const struct prepare_data *d, const struct matrix *out, int r)
{
    double sum = 0;
    for (int c = 0; c < d->c.d_in; c++)
        sum += matrix_get(&d->x, r, c) * matrix_get(&d->x, r, c);
    double inverse = 1 / sqrt(sum / d->c.d_in + (double)EPS_NORM);
    for (int c = 0; c < d->c.d_in; c++) {
        double limit, want = transformed(d, r, c, inverse, &limit),
                      have = matrix_get(out, r + 1, c);
        if (!value_near(have, want, limit + 1e-38, d->c.out_bf16)) {
            printf("# row %d, column %d: %.9g, expected %.9g +- %.3g\n", r, c, have, want, limit);
            return false;
        }
    }
    return true;
}

// The products with A of what stands in out, then zeros; or room that was left alone, then zeros.
static bool rest_right(const struct prepare_data *d, const struct matrix *out, int r, bool lora)
{
    static const unsigned char poison[4] = {POISON, POISON, POISON, POISON}, zero[4] = {0};
    for (int j = 0; j < d->k_out - d->c.d_in; j++) {
        int c = d->c.d_in + j;
        if (j < d->c.n_lora && lora) {
            double want = 0, size = 0, have = matrix_get(out, r + 1, c);
            for (int i = 0; i < d->c.d_in; i++) {
                double p = matrix_get(out, r + 1, i) * matrix_get(&d->lora_a, j, i);
                want += p;
                size += fabs(p);
            }
            double limit = (d->c.d_in / 256.0 + 16) * EPS * size * (double)LORA_SCALE;
            if (value_near(have, want * (double)LORA_SCALE, limit + 1e-38, true))
                continue;
            printf("# row %d, t[%d]: %.9g, expected %.9g +- %.3g\n", r, j, have,
                   want * (double)LORA_SCALE, limit);
            return false;
        }
        if (memcmp(bits_of(out, r + 1, c), j < d->c.n_lora ? poison : zero,
                   d->c.out_bf16 ? 2 : 4)) {
            printf("# row %d, column %d: %s\n", r, c,
                   j < d->c.n_lora ? "not left alone" : "not zero");
            return false;
        }
    }
    return true;
}

static bool canaries_live(const struct matrix *out, int rows)
{
    for (int c = 0; c < out->view.cols; c++)
        for (int size = out->view.is_bf16 ? 2 : 4, i = 0; i < size; i++)
            if (bits_of(out, 0, c)[i] != POISON ||
                (c + out->lead < out->view.cols && bits_of(out, rows + 1, c)[i] != POISON)) {
                printf("# wrote beside out\n");
                return false;
            }
    return true;
}

static bool prepare_right(const struct prepare_data *d)
{
    struct matrix all = run_prepare(d, 0, d->rows, d->c.lora);
    bool ok = canaries_live(&all, d->rows);
    for (int r = 0; ok && r < d->rows; r++)
        ok = transform_right(d, &all, r) && rest_right(d, &all, r, d->c.lora);
    for (int i = 0; ok && i < 3; i++) { // one row alone, the last two, and those without LoRA
        int first = i ? d->rows - 2 : 0, rows = i ? 2 : 1;
        struct matrix some = run_prepare(d, first, rows, i < 2 && d->c.lora);
        for (int r = 0; ok && r < rows; r++)
            ok = same_bits(&some, r + 1, &all, first + r + 1, i < 2 ? d->k_out : d->c.d_in);
        if (!ok)
            printf("# other bits %s\n", i < 2 ? "with fewer rows" : "without LoRA");
        matrix_free(&some);
    }
    matrix_free(&all);
    return ok;
}

static void check_prepare(struct prepare_case c)
{
    static const double ends[] = {0.0, -0.0, 30.0, -30.0, 100.0, -100.0, 1e-6};
    struct prepare_data d = {.c = c, .rows = c.lora ? 5 : 37};
    int stride = c.odd ? c.d_in + 3 : (c.d_in + 8 + 7) / 8 * 8, lead = c.odd;
    d.k_out = (c.d_in + c.n_lora + 15) / 16 * 16 + (c.odd ? 17 : 16);
    d.x = matrix_new(c.x_bf16, d.rows, c.d_in, lead, stride);
    d.up = matrix_new(c.up_bf16, d.rows, c.d_in, lead, stride);
    d.norm_w = matrix_new(false, 1, c.d_in, lead, c.d_in + lead);
    d.lora_a = matrix_new(true, c.n_lora + 1, c.d_in, lead, c.d_in); // a row more: lead shifts all
    d.lora_a.view.rows = c.n_lora;
    matrix_random(&d.x, 6.0);
    for (int i = 0; i < c.d_in; i += 13)
        matrix_set(&d.x, i % d.rows, i, ends[i % 7]);
    matrix_send(&d.x);
    matrix_random(&d.up, 2.0);
    matrix_random(&d.norm_w, 1.5);
    matrix_random(&d.lora_a, 0.1);
    report(prepare_right(&d), "prepare %s d_in %d %s%s -> %s, %s %d%s", kind_names[c.kind], c.d_in,
           c.x_bf16 ? "bf16" : "f32",
           c.kind != CUDA_INPUT_SILU_MUL ? ""
           : c.up_bf16                   ? " * bf16"
                                         : " * f32",
           c.out_bf16 ? "bf16" : "f32", c.lora ? "lora" : "room", c.n_lora,
           c.odd ? " unaligned" : "");
    matrix_free(&d.x);
    matrix_free(&d.up);
    matrix_free(&d.norm_w);
    matrix_free(&d.lora_a);
}

static void check_prepares(bool quick)
{
    static const int widths[] = {1, 8, 16, 100, 264, 1408, 4096, 6144, 14336, 16392, 20000};
    static const int loras[] = {0, 1, 16, 48, 64};
    for (int i = 0; i < (int)(sizeof widths / sizeof *widths); i++)
        for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++)
            for (int way = 0; way < 16; way++) {
                struct prepare_case c = {.kind = (enum cuda_input)kind, .d_in = widths[i]};
                c.x_bf16 = c.up_bf16 = way & 1;
                c.out_bf16 = way & 2;
                c.lora = c.out_bf16 && way & 4;
                c.odd = way & 8;
                c.n_lora = loras[(i + way + kind) % 5];
                if (way == 6)
                    c.up_bf16 = true; // of a type of its own
                if (quick && (widths[i] > 6144 || widths[i] == 4096) && (way + kind + i) % 5)
                    continue;
                check_prepare(c);
            }
}

// GELU of a dense grid of f32 and of every finite bf16, f32 out: 2e-6 + 1e-6 |f| is little beside bf16's rounding.
static void check_gelu(void)
{
    enum { COLS = 4096, GRID_ROWS = 48, BF16_ROWS = 16 };
    struct matrix x = matrix_new(false, GRID_ROWS + BF16_ROWS, COLS, 0, COLS),
                  y = matrix_new(false, GRID_ROWS + BF16_ROWS, COLS, 0, COLS);
    double worst = 0, worst_x = 0;
    size_t wrong = 0; // NaN too
    for (int r = 0; r < GRID_ROWS + BF16_ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            int i = r * COLS + c;
            uint32_t bits = (uint32_t)(i - GRID_ROWS * COLS) << 16;
            float v = (float)(i * (24.0 / (GRID_ROWS * COLS)) - 12.0);
            if (r >= GRID_ROWS)
                memcpy(&v, &bits, sizeof v);
            matrix_set(&x, r, c, isfinite(v) ? (double)v : 0.0);
        }
    matrix_send(&x);
    struct cuda_prepare a = {
        .kind = CUDA_INPUT_GELU, .x = x.view, .out = y.view.data, .k_out = COLS};
    cuda_must(cuda_prepare(&a, NULL), "cuda_prepare");
    cuda_must(cudaDeviceSynchronize(), "cuda_prepare");
    matrix_fetch(&y);
    for (int r = 0; r < GRID_ROWS + BF16_ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            double v = matrix_get(&x, r, c), want = 0.5 * v * erfc(-v / sqrt(2.0));
            double share = fabs(matrix_get(&y, r, c) - want) / (2e-6 + 1e-6 * fabs(want));
            wrong += !(share <= 1);
            if (share > worst) {
                worst = share;
                worst_x = v;
            }
        }
    report(wrong == 0, "gelu: error at most %.2f of 2e-6 + 1e-6 |f|, at %.7g; %zu beyond", worst,
           worst_x, wrong);
    matrix_free(&x);
    matrix_free(&y);
}

// ---- lora_down

struct lora_data {
    struct matrix x, a; // x: [rows, d_in], room behind
    int n_lora, rows;
};

// Rows [first, first + rows) of x, with t.
static struct matrix run_lora(const struct lora_data *d, int first, int rows, size_t scratch_bytes)
{
    int d_in = d->x.view.cols;
    struct matrix y = matrix_new(true, rows, d_in + d->n_lora, 0, (d_in + d->n_lora + 23) / 8 * 8);
    void *scratch = NULL;
    for (int r = 0; r < rows; r++)
        memcpy(bits_of(&y, r, 0), bits_of(&d->x, first + r, 0), (size_t)d_in * 2);
    matrix_send(&y);
    cuda_must(cudaMalloc(&scratch, scratch_bytes), "cudaMalloc");
    struct cuda_lora_down a = {.x = y.view.data,
                               .stride = y.view.stride,
                               .rows = rows,
                               .d_in = d_in,
                               .a = d->a.view.data,
                               .n_lora = d->n_lora,
                               .scale = LORA_SCALE,
                               .scratch = scratch,
                               .scratch_bytes = scratch_bytes};
    cuda_must(cudaDeviceSynchronize(), "the inputs");
    cuda_must(cuda_lora_down(&a, NULL), "cuda_lora_down");
    cuda_must(cudaDeviceSynchronize(), "cuda_lora_down");
    matrix_fetch(&y);
    cudaFree(scratch);
    return y;
}

static bool lora_right(const struct lora_data *d, const struct matrix *y)
{
    int n = d->x.view.cols;
    for (int r = 0; r < d->rows; r++) {
        if (!same_bits(y, r, &d->x, r, n)) {
            printf("# row %d: x has changed\n", r);
            return false;
        }
        for (int j = 0; j < d->n_lora; j++) {
            double want = 0, size = 0, have = matrix_get(y, r, n + j);
            for (int i = 0; i < n; i++) {
                double p = matrix_get(&d->x, r, i) * matrix_get(&d->a, j, i);
                want += p;
                size += fabs(p);
            }
            double limit = (n / 512.0 + 16) * EPS * size * (double)LORA_SCALE;
            if (!value_near(have, want * (double)LORA_SCALE, limit, true)) {
                printf("# row %d, t[%d]: %.9g, expected %.9g +- %.3g\n", r, j, have,
                       want * (double)LORA_SCALE, limit);
                return false;
            }
        }
    }
    return matrix_trespass(y) == 0;
}

static void check_lora(int d_in, int n_lora, int rows)
{
    struct lora_data d = {.x = matrix_new(true, rows, d_in, 0, d_in),
                          .a = matrix_new(true, n_lora, d_in, 0, d_in),
                          .n_lora = n_lora,
                          .rows = rows};
    matrix_random(&d.x, 2.0);
    matrix_random(&d.a, 0.5);
    size_t band = (size_t)((d_in + 511) / 512) * 64 * (size_t)n_lora; // of 16 rows
    struct matrix all = run_lora(&d, 0, rows, 8 * band);
    bool ok = lora_right(&d, &all);
    for (int i = 0; ok && i < 3;
         i++) { // in bands of 16 rows, its last row alone, all but its first rows
        int first = i == 0 ? 0 : i == 1 ? rows - 1 : rows / 3, n = rows - first;
        struct matrix some = run_lora(&d, first, n, i == 0 ? band : 8 * band);
        for (int r = 0; ok && r < n; r++)
            ok = same_bits(&some, r, &all, first + r, d_in + n_lora);
        if (!ok)
            printf("# %d rows from %d: other bits\n", n, first);
        matrix_free(&some);
    }
    report(ok, "lora_down d_in %d n_lora %d rows %d", d_in, n_lora, rows);
    matrix_free(&all);
    matrix_free(&d.x);
    matrix_free(&d.a);
}

static void check_loras(bool quick)
{
    static const int widths[] = {8, 40, 512, 1032, 4096, 14336}, loras[] = {1, 16, 17, 48, 64};
    static const int rows[] = {1, 17, 70, 100};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 5; j++)
            if (!quick || widths[i] <= 1032)
                check_lora(widths[i], loras[j], rows[(i + j) % 4]);
    if (quick)
        check_lora(4096, 48, 33);
    else
        check_lora(14336, 16, 322);
}

// ---- a row that two products share, beside more rows that have launches between them

// y += x W^T + b, then z = (y / rms(y) * norm) V^T + c, then silu of its first half times the second.
struct chain_case {
    int n_out, k, n_next; // W [n_out, k], V [n_next, n_out]
    bool bias, z_bf16;
};

struct chain_data {
    struct chain_case c;
    struct matrix w, v, x, norm, start, bias, next_bias;
};

struct chain {
    struct matrix y, scaled, square, factor, z,
        made; // scaled: y times norm. One row has square, more have factor
};

static void chain_run(const struct chain_data *d, int first, int rows, struct chain *t)
{
    const struct chain_case *c = &d->c;
    bool one = rows == 1;
    int half = c->n_next / 2;
    *t = (struct chain){.y = matrix_new(false, rows, c->n_out, 4, c->n_out + 12),
                        .scaled = matrix_new(true, rows + 1, c->n_out, 0, c->n_out),
                        .square = matrix_new(false, 2, c->n_out / 16, 0, c->n_out / 16),
                        .factor = matrix_new(false, 1, rows + 1, 0, rows + 1),
                        .z = matrix_new(c->z_bf16, rows, c->n_next, 8, c->n_next + 16),
                        .made = matrix_new(true, rows + 1, half, 0, half)};
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < c->n_out; o++)
            matrix_set(&t->y, r, o, matrix_get(&d->start, first + r, o));
    matrix_send(&t->y);
    struct cuda_few_linear a = {.w = d->w.view.data,
                                .x = (char *)d->x.view.data + (size_t)first * (size_t)c->k * 2,
                                .bias = c->bias ? d->bias.view.data : NULL,
                                .y = t->y.view,
                                .add = true,
                                .k = c->k,
                                .next_x = one ? t->scaled.view.data : NULL,
                                .next_norm = one ? d->norm.view.data : NULL,
                                .next_square = one ? t->square.view.data : NULL};
    struct cuda_rms_apart apart = {.x = t->y.view,
                                   .norm_w = d->norm.view.data,
                                   .eps = EPS_NORM,
                                   .out = t->scaled.view.data,
                                   .factor = t->factor.view.data};
    struct cuda_few_linear b = {.w = d->v.view.data,
                                .x = t->scaled.view.data,
                                .bias = c->bias ? d->next_bias.view.data : NULL,
                                .y = t->z.view,
                                .k = c->n_out,
                                .factor = one ? NULL : t->factor.view.data,
                                .square = one ? t->square.view.data : NULL,
                                .eps = EPS_NORM,
                                .next_x = one ? t->made.view.data : NULL};
    struct cuda_prepare silu = {.kind = CUDA_INPUT_SILU_MUL,
                                .x = t->z.view,
                                .up = t->z.view,
                                .out = t->made.view.data,
                                .out_bf16 = true,
                                .k_out = half};
    silu.x.cols = silu.up.cols = half;
    silu.up.data = (char *)silu.up.data + (size_t)half * (c->z_bf16 ? 2 : 4);
    cuda_must(cudaDeviceSynchronize(), "the inputs");
    cuda_must(cuda_few_linear(&a, NULL), "cuda_few_linear");
    if (!one)
        cuda_must(cuda_rms_apart(&apart, NULL), "cuda_rms_apart");
    cuda_must(cuda_few_linear(&b, NULL), "cuda_few_linear");
    if (!one)
        cuda_must(cuda_prepare(&silu, NULL), "cuda_prepare");
    cuda_must(cudaDeviceSynchronize(), "the chain");
    matrix_fetch(&t->y);
    matrix_fetch(&t->scaled);
    matrix_fetch(&t->square);
    matrix_fetch(&t->factor);
    matrix_fetch(&t->z);
    matrix_fetch(&t->made);
}

static void chain_free(struct chain *t)
{
    matrix_free(&t->y);
    matrix_free(&t->scaled);
    matrix_free(&t->square);
    matrix_free(&t->factor);
    matrix_free(&t->z);
    matrix_free(&t->made);
}

// Sum of row r of x times row o of w, and of the products' sizes.
static double dot_of(const struct matrix *x, int r, const struct matrix *w, int o, double *size)
{
    double sum = 0;
    *size = 0;
    for (int i = 0; i < w->view.cols; i++) {
        double p = matrix_get(x, r, i) * matrix_get(w, o, i);
        sum += p;
        *size += fabs(p);
    }
    return sum;
}

// One row, row r of the data: each step beside a witness that reads what the step before has stored.
static bool chain_right(const struct chain_data *d, const struct chain *t, int r)
{
    const struct chain_case *c = &d->c;
    double squares = 0, size;
    for (int o = 0; o < c->n_out; o++) {
        double b = c->bias ? matrix_get(&d->bias, 0, o) : 0, y = matrix_get(&t->y, 0, o);
        double want = dot_of(&d->x, r, &d->w, o, &size) + b + matrix_get(&d->start, r, o);
        size += fabs(b) + fabs(want);
        if (!value_near(y, want, (c->k / 128.0 + 40) * EPS * size, false) ||
            !value_near(matrix_get(&t->scaled, 0, o), y * matrix_get(&d->norm, 0, o),
                        EPS * fabs(y) * 4, true))
            return false;
        squares += y * y;
    }
    for (int i = 0; i < c->n_out / 16; i++) {
        double want = 0;
        for (int o = 0; o < 16; o++)
            want += pow(matrix_get(&t->y, 0, 16 * i + o), 2);
        if (!value_near(matrix_get(&t->square, 0, i), want, 8 * EPS * want, false))
            return false;
    }
    double factor = 1 / sqrt(squares / c->n_out + (double)EPS_NORM);
    for (int o = 0; o < c->n_next; o++) {
        double b = c->bias ? matrix_get(&d->next_bias, 0, o) : 0;
        double want = dot_of(&t->scaled, 0, &d->v, o, &size) * factor + b;
        // the factor is of a sum of n_out squares, in chains of n_out / 512
        double gate = (c->n_out / 128.0 + c->n_out / 512.0 + 60) * EPS * (size * factor + fabs(b));
        if (!value_near(matrix_get(&t->z, 0, o), want, gate, c->z_bf16))
            return false;
    }
    for (int o = 0; o < c->n_next / 2; o++) {
        double z = matrix_get(&t->z, 0, o), up = matrix_get(&t->z, 0, c->n_next / 2 + o);
        double want = z / (1 + exp(-z)) * up;
        if (!value_near(matrix_get(&t->made, 0, o), want, 32 * EPS * fabs(want) + 1e-30, true))
            return false;
    }
    return true;
}

// Whether nothing was written to a row that matrix_new has filled, from a column on.
static bool row_stands(const struct matrix *m, int row, int col)
{
    const unsigned char *at = bits_of(m, row, col);
    for (size_t i = 0; i < (size_t)(m->view.cols - col) * (m->view.is_bf16 ? 2 : 4); i++)
        if (at[i] != POISON)
            return false;
    return true;
}

static bool chain_inside(const struct chain *t, int rows)
{
    return matrix_trespass(&t->y) == 0 && matrix_trespass(&t->z) == 0 &&
           row_stands(&t->scaled, rows, 0) && row_stands(&t->made, rows, 0) &&
           row_stands(&t->square, rows == 1, 0) && row_stands(&t->factor, 0, rows == 1 ? 0 : rows);
}

static void check_chain(struct chain_case c)
{
    static const int counts[] = {2, 9, 33, MAX_ROWS};
    struct chain_data d = {.c = c,
                           .w = matrix_new(true, c.n_out, c.k, 0, c.k),
                           .v = matrix_new(true, c.n_next, c.n_out, 0, c.n_out),
                           .x = matrix_new(true, MAX_ROWS, c.k, 0, c.k),
                           .norm = matrix_new(false, 1, c.n_out, 0, c.n_out),
                           .start = matrix_new(false, MAX_ROWS, c.n_out, 0, c.n_out),
                           .bias = matrix_new(false, 1, c.n_out, 0, c.n_out),
                           .next_bias = matrix_new(false, 1, c.n_next, 0, c.n_next)};
    matrix_random(&d.w, 0.5);
    matrix_random(&d.v, 0.5);
    matrix_random(&d.x, 2);
    matrix_random(&d.norm, 2);
    matrix_random(&d.start, 2);
    matrix_random(&d.bias, 1);
    matrix_random(&d.next_bias, 1);
    bool ok = true;
    for (int i = 0; ok && i < 4; i++) {
        int n = counts[i], first = i % 2 ? MAX_ROWS - n : 0;
        struct chain all, one;
        chain_run(&d, first, n, &all);
        ok = chain_inside(&all, n);
        if (!ok)
            printf("# %d rows write elsewhere\n", n);
        // all rows where that is quick: the order of a sum of squares shows in the last bit of some
        for (int r = 0; ok && r < n; r += c.n_out + c.n_next <= 64 ? 1 : n - 1) {
            chain_run(&d, first + r, 1, &one);
            bool right = chain_inside(&one, 1) && chain_right(&d, &one, first + r);
            bool same = same_bits(&one.y, 0, &all.y, r, c.n_out) &&
                        same_bits(&one.scaled, 0, &all.scaled, r, c.n_out) &&
                        same_bits(&one.z, 0, &all.z, r, c.n_next) &&
                        same_bits(&one.made, 0, &all.made, r, c.n_next / 2);
            if (!right || !same)
                printf("# row %d%s%s\n", first + r, right ? "" : ": wrong values",
                       same ? "" : ": other bits among others");
            ok = right && same;
            chain_free(&one);
        }
        chain_free(&all);
    }
    report(ok, "one row through two products, [%d, %d] then [%d, %d]%s%s", c.n_out, c.k, c.n_next,
           c.n_out, c.bias ? ", bias" : "", c.z_bf16 ? ", bf16" : ", f32");
    matrix_free(&d.w);
    matrix_free(&d.v);
    matrix_free(&d.x);
    matrix_free(&d.norm);
    matrix_free(&d.start);
    matrix_free(&d.bias);
    matrix_free(&d.next_bias);
}

// On 132 processors 8192 outputs and more are a block's 32 for one row, fewer are 16.
static void check_chains(void)
{
    check_chain((struct chain_case){.n_out = 32, .k = 80, .n_next = 32});
    check_chain((struct chain_case){.n_out = 32, .k = 80, .n_next = 8416, .z_bf16 = true});
    check_chain((struct chain_case){.n_out = 8448, .k = 80, .n_next = 32, .bias = true});
    check_chain(
        (struct chain_case){.n_out = 544, .k = 528, .n_next = 64, .bias = true, .z_bf16 = true});
    check_chain((struct chain_case){.n_out = 256, .k = 1040, .n_next = 2144});
}

// Each variant of the kernels, in few launches.
static void check_tiny(void)
{
    static const int widths[] = {100, 1408, 6144,
                                 14336}; // any, and one, two and four vectors of a thread
    // as in check_chains
    check_few_linear((struct linear_case){.n_out = 17, .k = 528, .bias = true, .brief = true});
    check_few_linear((struct linear_case){.n_out = 8448, .k = 80, .add = true, .brief = true});
    check_few_linear((struct linear_case){.n_out = 2128, .k = 80, .brief = true});
    for (int i = 0; i < 4; i++)
        for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++) {
            bool bf16 = (i + kind) % 2;
            check_prepare((struct prepare_case){.kind = (enum cuda_input)kind,
                                                .d_in = widths[i],
                                                .n_lora = 17,
                                                .lora = true,
                                                .x_bf16 = bf16,
                                                .up_bf16 = bf16,
                                                .out_bf16 = true,
                                                .odd = i == 0});
        }
    check_lora(1032, 48, 17);
    check_chains();
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && !strcmp(argv[1], "--quick");
    if (!device_present())
        return 77;
    if (argc > 1 && !strcmp(argv[1], "--tiny")) {
        check_tiny();
        return report_end();
    }
    check_linears(quick);
    check_prepares(quick);
    check_gelu();
    check_loras(quick);
    check_chains();
    return report_end();
}
