// SPDX-License-Identifier: MIT
// The speed of cuda_few_linear and cuda_prepare at the sizes of InternLM-7B's decoder (d_model 4096, d_ffn 14336),
// and of the chain of both that a decoding step is, all layers, without attention. Everything is recorded as
// a graph and replayed; medians. Each product reads another copy of its weights, more of them than the L2
// cache holds, or the cache would be measured. Weights are random: constant bits let the memory rest.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"
#include "median.h"

enum {
    N_TIMES = 20,
    N_SHAPE = 5,
    N_LAYER = 32,
    MAX_ROWS = CUDA_FEW_ROWS,
    D_MODEL = 4096,
    D_FFN = 14336
};

// Query, key and value; output; gate and up; down; logits: n_out x k, the k with its LoRA columns.
static const struct {
    int n_out, k, d_in;
} shapes[N_SHAPE] = {
    {6144, 4144, D_MODEL},   {D_MODEL, 4112, D_MODEL}, {28672, 4128, D_MODEL},
    {D_MODEL, 14352, D_FFN}, {32000, 4112, D_MODEL},
};

static cudaStream_t stream;

// Microseconds of run(arg).
static double graph_us(void (*run)(void *arg), void *arg)
{
    cudaEvent_t from, to;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float ms[N_TIMES];
    cuda_must(cudaEventCreate(&from), "event");
    cuda_must(cudaEventCreate(&to), "event");
    cuda_must(cudaDeviceSynchronize(), "the weights");
    run(arg); // each kernel's first use is not for the recording
    cuda_must(cudaStreamSynchronize(stream), "the first run");
    cuda_must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
              "begin of a recording");
    run(arg);
    cuda_must(cudaStreamEndCapture(stream, &graph), "end of a recording");
    cuda_must(cudaGraphInstantiate(&exec, graph, 0), "a recording");
    for (int i = -3; i < N_TIMES; i++) {
        cuda_must(cudaEventRecord(from, stream), "event");
        cuda_must(cudaGraphLaunch(exec, stream), "a replay");
        cuda_must(cudaEventRecord(to, stream), "event");
        cuda_must(cudaEventSynchronize(to), "a replay");
        if (i >= 0)
            cuda_must(cudaEventElapsedTime(&ms[i], from, to), "event");
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return 1e3 * median_float(ms, N_TIMES);
}

static void *device_bytes(size_t n)
{
    void *p = NULL;
    cuda_must(cudaMalloc(&p, n), "cudaMalloc");
    cuda_must(cudaMemset(p, 0, n), "cudaMemset");
    return p;
}

// n bf16 of either sign, 2^-8 <= |v| < 2^-7.
static void *random_weights(size_t n)
{
    enum { N_TABLE = 1 << 22 };
    static uint16_t *table;
    char *p = device_bytes(n * 2);
    if (!table) {
        table = malloc(N_TABLE * sizeof *table);
        if (!table)
            exit(1);
        for (int i = 0; i < N_TABLE; i++) {
            uint32_t bits = (uint32_t)((random_signed() + 1.0) * 65536.0);
            table[i] = (uint16_t)((bits & 0x80ff) | 0x3b80);
        }
    }
    for (size_t i = 0; i < n; i += N_TABLE)
        cuda_must(cudaMemcpy(p + 2 * i, table, 2 * (n - i < N_TABLE ? n - i : N_TABLE),
                             cudaMemcpyHostToDevice),
                  "copy to device");
    return p;
}

// ---- one product

struct product {
    struct cuda_few_linear a;
    char *w;
    size_t w_bytes;
    int n_copy, n_call;
};

static void run_product(void *arg)
{
    struct product *b = arg;
    for (int i = 0; i < b->n_call; i++) {
        b->a.w = b->w + (size_t)(i % b->n_copy) * b->w_bytes;
        cuda_must(cuda_few_linear(&b->a, stream), "cuda_few_linear");
    }
}

static void bench_products(void)
{
    static const int rows[] = {1, 2, 4, 8, 16, 32, 64};
    printf("# %14s %4s %9s %9s\n", "n_out x k", "rows", "us", "GB/s of W");
    for (int s = 0; s < N_SHAPE; s++) {
        size_t n = (size_t)shapes[s].n_out * (size_t)shapes[s].k;
        struct product b = {.w_bytes = 2 * n, .n_copy = (int)(((size_t)1 << 30) / (2 * n)) + 2};
        b.n_call = 2 * b.n_copy;
        b.w = random_weights(n * (size_t)b.n_copy);
        void *x = random_weights((size_t)MAX_ROWS * (size_t)shapes[s].k);
        void *y = device_bytes(sizeof(float) * MAX_ROWS * (size_t)shapes[s].n_out);
        for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++) {
            b.a = (struct cuda_few_linear){.x = x, .k = shapes[s].k};
            b.a.y = (struct cuda_view){y, false, rows[i], shapes[s].n_out, shapes[s].n_out};
            double us = graph_us(run_product, &b) / b.n_call;
            printf("%6d x %7d %4d %9.2f %9.0f\n", shapes[s].n_out, shapes[s].k, rows[i], us,
                   (double)b.w_bytes / us / 1e3);
        }
        cudaFree(b.w);
        cudaFree(x);
        cudaFree(y);
    }
}

// ---- inputs

enum { N_PREPARE = 100 };

static void run_prepare(void *arg)
{
    for (int i = 0; i < N_PREPARE; i++)
        cuda_must(cuda_prepare(arg, stream), "cuda_prepare");
}

static void bench_prepares(void)
{
    enum { N_LORA = 48, MANY = 12294 };
    static const char *const names[] = {"rows", "rms", "silu_mul", "gelu"};
    static const int widths[] = {D_MODEL, D_MODEL, D_FFN, 6144};
    static const struct {
        int rows, lora;
    } ways[] = {{1, 0}, {1, N_LORA}, {8, N_LORA}, {32, N_LORA}, {MANY, 0}};
    void *x = random_weights((size_t)MANY * D_FFN), *up = random_weights((size_t)MANY * D_FFN);
    void *out = device_bytes((size_t)MANY * 2 * (D_FFN + N_LORA)),
         *lora = random_weights((size_t)N_LORA * D_FFN);
    float *norm_w = device_bytes(sizeof(float) * D_FFN);
    printf("# %8s %6s %6s %4s %9s %9s\n", "prepare", "d_in", "rows", "lora", "us", "GB/s");
    for (int kind = CUDA_INPUT_ROWS; kind <= CUDA_INPUT_GELU; kind++)
        for (int i = 0; i < (int)(sizeof ways / sizeof *ways); i++) {
            int n = widths[kind], rows = ways[i].rows;
            struct cuda_prepare a = {.kind = (enum cuda_input)kind,
                                     .x = {x, true, rows, n, n},
                                     .up = {up, true, rows, n, n},
                                     .norm_w = norm_w,
                                     .eps = 1e-5f,
                                     .out = out,
                                     .out_bf16 = true,
                                     .k_out = n + N_LORA,
                                     .lora_a = ways[i].lora ? lora : NULL,
                                     .n_lora = N_LORA,
                                     .lora_scale = 2.0f};
            double us = graph_us(run_prepare, &a) / N_PREPARE;
            double bytes = (double)rows * n * 2 * (kind == CUDA_INPUT_SILU_MUL ? 3 : 2);
            printf("%10s %6d %6d %4d %9.2f %9.0f\n", names[kind], n, rows, ways[i].lora, us,
                   bytes / us / 1e3);
        }
    // the vision transformer's: three clips of 2049 tokens
    for (int gelu = 0; gelu < 2; gelu++) {
        enum { ROWS = 6147, D_VIT = 1408, D_VIT_FFN = 6144 };
        int n = gelu ? D_VIT_FFN : D_VIT;
        struct cuda_prepare a = {.kind = gelu ? CUDA_INPUT_GELU : CUDA_INPUT_RMS,
                                 .x = {x, gelu, ROWS, n, n},
                                 .norm_w = norm_w,
                                 .eps = 1e-6f,
                                 .out = out,
                                 .out_bf16 = true,
                                 .k_out = n};
        double us = graph_us(run_prepare, &a) / N_PREPARE;
        printf("%10s %6d %6d %4d %9.2f %9.0f%s\n", names[a.kind], n, ROWS, 0, us,
               (double)ROWS * n * (gelu ? 4 : 6) / us / 1e3, gelu ? "" : "  from f32");
    }
    cudaFree(x);
    cudaFree(up);
    cudaFree(out);
    cudaFree(lora);
    cudaFree(norm_w);
}

// ---- LoRA's products of a prompt

static void run_lora(void *arg)
{
    for (int i = 0; i < N_PREPARE; i++)
        cuda_must(cuda_lora_down(arg, stream), "cuda_lora_down");
}

static void bench_loras(void)
{
    enum { ROWS = 322, SCRATCH = 16 << 20 };
    static const struct {
        int d_in, n_lora;
    } sizes[] = {{D_MODEL, 16}, {D_MODEL, 32}, {D_MODEL, 48}, {D_FFN, 16}};
    void *x = random_weights((size_t)ROWS * (D_FFN + 64)), *a = random_weights((size_t)48 * D_FFN);
    void *scratch = device_bytes(SCRATCH);
    printf("# %8s %6s %6s %4s %9s\n", "lora", "d_in", "rows", "lora", "us");
    for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++) {
        struct cuda_lora_down d = {.x = x,
                                   .stride = sizes[i].d_in + 64,
                                   .rows = ROWS,
                                   .d_in = sizes[i].d_in,
                                   .a = a,
                                   .n_lora = sizes[i].n_lora,
                                   .scale = 2.0f,
                                   .scratch = scratch,
                                   .scratch_bytes = SCRATCH};
        printf("%10s %6d %6d %4d %9.2f\n", "down", d.d_in, ROWS, d.n_lora,
               graph_us(run_lora, &d) / N_PREPARE);
    }
    cudaFree(x);
    cudaFree(a);
    cudaFree(scratch);
}

// ---- a decoding step

struct step {
    void *w[N_LAYER][4], *lora[N_LAYER][4], *w_logits;
    void *norm_w, *state, *logits; // f32: [4096], [rows, 4096] between the layers, [rows, 32000]
    void *x, *wide;                // bf16: a product's input, [rows, 28672] inside a layer
    int rows;
};

static void run_part(const struct step *b, int layer, int s)
{
    struct cuda_view state = {b->state, false, b->rows, D_MODEL, D_MODEL},
                     wide = {b->wide, true, b->rows, 2 * D_FFN, 2 * D_FFN};
    struct cuda_view y =
        s == 4  ? (struct cuda_view){b->logits, false, b->rows, shapes[s].n_out, shapes[s].n_out}
        : s % 2 ? state
                : wide;
    struct cuda_prepare p = {.kind = s == 1   ? CUDA_INPUT_ROWS
                                     : s == 3 ? CUDA_INPUT_SILU_MUL
                                              : CUDA_INPUT_RMS,
                             .x = s % 2 ? wide : state,
                             .up = wide,
                             .norm_w = b->norm_w,
                             .eps = 1e-5f,
                             .out = b->x,
                             .out_bf16 = true,
                             .k_out = shapes[s].k,
                             .lora_a = s == 4 ? b->lora[0][0] : b->lora[layer][s],
                             .n_lora = shapes[s].k - shapes[s].d_in,
                             .lora_scale = 2.0f};
    p.x.cols = p.up.cols = shapes[s].d_in;
    p.up.data = (char *)b->wide + (size_t)2 * D_FFN;
    cuda_must(cuda_prepare(&p, stream), "cuda_prepare");
    y.cols = shapes[s].n_out;
    struct cuda_few_linear f = {
        .w = s == 4 ? b->w_logits : b->w[layer][s], .x = b->x, .y = y, .k = shapes[s].k};
    f.add = s % 2 && s != 4;
    cuda_must(cuda_few_linear(&f, stream), "cuda_few_linear");
}

static void run_step(void *arg)
{
    for (int layer = 0; layer < N_LAYER; layer++)
        for (int s = 0; s < 4; s++)
            run_part(arg, layer, s);
    run_part(arg, 0, 4);
}

static void bench_step(void)
{
    static struct step b;
    static const int rows[] = {1, 8, 32};
    static float ones[D_MODEL];
    size_t bytes = 2 * (size_t)shapes[4].n_out * (size_t)shapes[4].k;
    b.w_logits = random_weights(bytes / 2);
    for (int l = 0; l < N_LAYER; l++)
        for (int s = 0; s < 4; s++) {
            size_t n = (size_t)shapes[s].n_out * (size_t)shapes[s].k,
                   n_lora = (size_t)(shapes[s].k - shapes[s].d_in);
            b.w[l][s] = random_weights(n);
            b.lora[l][s] = random_weights(n_lora * (size_t)shapes[s].d_in);
            bytes += 2 * (n + n_lora * (size_t)shapes[s].d_in);
        }
    for (int i = 0; i < D_MODEL; i++)
        ones[i] = 1.0f;
    b.norm_w = device_bytes(sizeof ones);
    cuda_must(cudaMemcpy(b.norm_w, ones, sizeof ones, cudaMemcpyHostToDevice), "copy to device");
    b.state = device_bytes(sizeof(float) * MAX_ROWS * D_MODEL);
    b.logits = device_bytes(sizeof(float) * MAX_ROWS * (size_t)shapes[4].n_out);
    b.x = device_bytes((size_t)2 * MAX_ROWS * (size_t)shapes[3].k);
    b.wide = device_bytes((size_t)2 * MAX_ROWS * 2 * D_FFN);
    cuda_must(cudaMemset(b.state, 0x3d, sizeof(float) * MAX_ROWS * D_MODEL), "cudaMemset");
    printf("# step, %.2f GB  %16s %4s %9s %9s %9s\n", (double)bytes / 1e9, "kernels", "rows", "ms",
           "GB/s", "tokens/s");
    for (int overlap = 0; overlap < 2; overlap++)
        for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++) {
            cuda_overlap(overlap);
            b.rows = rows[i];
            double us = graph_us(run_step, &b);
            printf("%32s %4d %9.3f %9.0f %9.1f\n", overlap ? "overlapping" : "one by one", b.rows,
                   us / 1e3, (double)bytes / us / 1e3, 1e6 * b.rows / us);
        }
}

int main(void)
{
    if (!device_present())
        return 0;
    cuda_must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    bench_products();
    bench_prepares();
    bench_loras();
    bench_step();
    cudaStreamDestroy(stream);
    return 0;
}
