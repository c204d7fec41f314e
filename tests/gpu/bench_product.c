// SPDX-License-Identifier: MIT
// What cuBLASLt's algorithms cost at the shapes of the models' prompts and pictures, to choose device_product.c's rule:
// those that its heuristic names for a few nominal numbers of rows, with the sum whole and with it split, all
// timed at the true number. Each call reads another copy of the weights, more of them than the L2 cache holds.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device_matrix.h"
#include "gpu/cuda/lt.h"
#include "median.h"

enum { N_CANDIDATE = 16, N_TIMES = 10, N_NOMINAL = 5, MAX_COPIES = 16, WORKSPACE = 64 << 20 };

struct shape {
    int m, k, n;
};

struct candidate {
    cublasLtMatmulAlgo_t algo;
    double us;
    size_t nominal;
    int index;
};

static struct lt lt;
static cublasLtHandle_t handle;
static cudaStream_t stream;
static cudaEvent_t from, to;
static void *workspace;

static void lt_must(cublasStatus_t s, const char *what)
{
    if (s == CUBLAS_STATUS_SUCCESS)
        return;
    fprintf(stderr, "bench_product: %s: cuBLASLt status %d\n", what, (int)s);
    exit(1);
}

// n bf16 of either sign, 2^-8 <= |v| < 2^-7: constant bits would let the multipliers rest.
static void *random_matrix(size_t n)
{
    enum { N_TABLE = 1 << 20 };
    static uint16_t table[N_TABLE];
    char *p = NULL;
    for (size_t i = 0; table[0] == 0 && i < N_TABLE; i++)
        table[N_TABLE - 1 - i] =
            (uint16_t)(((uint32_t)((random_signed() + 1) * 65536) & 0x80ff) | 0x3b80);
    cuda_must(cudaMalloc((void **)&p, 2 * n), "cudaMalloc");
    for (size_t i = 0; i < n; i += N_TABLE)
        cuda_must(cudaMemcpy(p + 2 * i, table, 2 * (n - i < N_TABLE ? n - i : N_TABLE),
                             cudaMemcpyHostToDevice),
                  "copy to device");
    return p;
}

struct bench {
    struct shape s;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
    char *weights, *input, *output;
    int n_copy;
};

static cublasLtMatrixLayout_t layout(int rows, size_t cols)
{
    cublasLtMatrixLayout_t l = NULL;
    lt_must(lt.layout_create(&l, CUDA_R_16BF, (uint64_t)rows, cols, rows), "layout");
    return l;
}

static int ask(const struct bench *b, size_t nominal, uint32_t mask, struct candidate *out)
{
    cublasLtMatmulHeuristicResult_t found[N_CANDIDATE];
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatrixLayout_t x = layout(b->s.k, nominal), y = layout(b->s.n, nominal);
    size_t bytes = WORKSPACE;
    int n = 0;
    lt_must(lt.preference_create(&wish), "preference");
    lt_must(lt.preference_set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes),
            "workspace");
    lt_must(lt.preference_set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &mask, sizeof mask),
            "reduction");
    if (lt.heuristic(handle, b->desc, b->w, x, y, y, wish, N_CANDIDATE, found, &n) !=
        CUBLAS_STATUS_SUCCESS)
        n = 0;
    for (int i = 0; i < n; i++)
        out[i] = (struct candidate){.algo = found[i].algo, .nominal = nominal, .index = i};
    lt.preference_destroy(wish);
    lt.layout_destroy(x);
    lt.layout_destroy(y);
    return n;
}

// Microseconds; a large number where the algorithm cannot do the true number of rows.
static double time_of(const struct bench *b, const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1, zero = 0;
    size_t w_bytes = 2 * (size_t)b->s.n * (size_t)b->s.k;
    float ms[N_TIMES];
    for (int i = -2; i < N_TIMES; i++) {
        const char *w = b->weights + (size_t)((i + 2) % b->n_copy) * w_bytes;
        cuda_must(cudaEventRecord(from, stream), "event");
        cublasStatus_t s =
            lt.matmul(handle, b->desc, &one, w, b->w, b->input, b->x, &zero, b->output, b->y,
                      b->output, b->y, algo, workspace, WORKSPACE, stream);
        if (s != CUBLAS_STATUS_SUCCESS)
            return 1e9;
        cuda_must(cudaEventRecord(to, stream), "event");
        cuda_must(cudaEventSynchronize(to), "a product");
        if (i >= 0)
            cuda_must(cudaEventElapsedTime(&ms[i], from, to), "event");
    }
    return 1e3 * median_float(ms, N_TIMES);
}

static unsigned config(const struct candidate *c, cublasLtMatmulAlgoConfigAttributes_t a)
{
    uint32_t v = 0;
    lt_must(lt.config(&c->algo, a, &v, sizeof v, NULL), "configuration");
    return v;
}

// The tile by cuBLASLt's number for it (cublasLtMatmulTile_t), rows of y' first: outputs x rows of x.
static void print_algo(const struct candidate *c)
{
    static const struct {
        unsigned id;
        const char *name;
    } tiles[] = {{15, "64x64"},   {17, "64x128"},  {18, "128x64"},  {19, "64x256"},
                 {20, "128x128"}, {21, "256x64"},  {23, "128x256"}, {24, "256x128"},
                 {26, "64x96"},   {28, "96x128"},  {29, "128x160"}, {30, "160x128"},
                 {31, "192x128"}, {32, "128x192"}, {33, "128x96"},  {116, "64x192"}};
    unsigned id = config(c, CUBLASLT_ALGO_CONFIG_TILE_ID);
    char number[16];
    const char *name = number;
    snprintf(number, sizeof number, "%u", id);
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; i++)
        if (tiles[i].id == id)
            name = tiles[i].name;
    printf(" %s/%u/%u", name, config(c, CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
           config(c, CUBLASLT_ALGO_CONFIG_STAGES_ID));
}

static void bench_mask(const struct bench *b, const size_t *nominal, bool split)
{
    static struct candidate c[N_NOMINAL * N_CANDIDATE];
    uint32_t mask = split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    int n = 0;
    const struct candidate *best = NULL;
    printf("[%d,%d]x[%d]%s", b->s.m, b->s.k, b->s.n, split ? " split" : "");
    for (int i = 0; i < N_NOMINAL; i++) {
        int first = n;
        n += ask(b, nominal[i], mask, c + n);
        for (int j = first; j < n; j++) {
            c[j].us = 0;
            for (int l = 0; l < j && c[j].us == 0; l++) // named before
                if (memcmp(&c[l].algo, &c[j].algo, sizeof c[j].algo) == 0)
                    c[j].us = c[l].us;
            if (c[j].us == 0)
                c[j].us = time_of(b, &c[j].algo);
            if (!best || c[j].us < best->us)
                best = &c[j];
        }
        if (n > first) {
            printf(" | %.1f", c[first].us);
            print_algo(&c[first]);
        } else {
            printf(" | none");
        }
    }
    if (best) {
        printf(" | best %.1f, %.0f TFLOP/s", best->us, 2e-6 * b->s.m * b->s.k * b->s.n / best->us);
        print_algo(best);
        printf(", %d of %zu", best->index, best->nominal);
    }
    printf("\n");
}

static void bench_shape(struct shape s)
{
    size_t m = (size_t)s.m, w = (size_t)s.n * (size_t)s.k;
    size_t few[N_NOMINAL] = {320, 336, 352, 384, m}, many[N_NOMINAL] = {6016, 6144, 6272, 6400, m};
    struct bench b = {.s = s, .n_copy = (int)((256u << 20) / (2 * w)) + 2};
    cublasOperation_t transposed = CUBLAS_OP_T;
    b.n_copy = b.n_copy > MAX_COPIES ? MAX_COPIES : b.n_copy;
    b.weights = random_matrix(w * (size_t)b.n_copy);
    b.input = random_matrix(m * (size_t)s.k);
    b.output = random_matrix(m * (size_t)s.n);
    lt_must(lt.desc_create(&b.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    lt_must(lt.desc_set(b.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
            "transposed");
    b.w = layout(s.k, (size_t)s.n);
    b.x = layout(s.k, m);
    b.y = layout(s.n, m);
    for (int split = 0; split < 2; split++)
        bench_mask(&b, s.m > 1024 ? many : few, split);
    lt.desc_destroy(b.desc);
    lt.layout_destroy(b.w);
    lt.layout_destroy(b.x);
    lt.layout_destroy(b.y);
    cudaFree(b.weights);
    cudaFree(b.input);
    cudaFree(b.output);
}

int main(void)
{
    static const struct shape shapes[] = {
        {322, 4160, 6144},  {331, 4160, 6144},  {322, 4160, 4096},  {331, 4160, 4096},
        {322, 4160, 28672}, {331, 4160, 28672}, {322, 4128, 28672}, {322, 14400, 4096},
        {331, 14400, 4096}, {322, 14368, 4096}, {322, 4096, 28672}, {322, 14336, 4096},
        {6147, 1408, 4224}, {6147, 1408, 1408}, {6147, 1408, 6144}, {6147, 6144, 1408},
    };
    struct err e = {0};
    if (!device_present())
        return 0;
    if (lt_open(&lt, &e) != 0) {
        fprintf(stderr, "bench_product: %s\n", e.msg);
        return 1;
    }
    lt_must(lt.create(&handle), "handle");
    cuda_must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    cuda_must(cudaEventCreate(&from), "event");
    cuda_must(cudaEventCreate(&to), "event");
    cuda_must(cudaMalloc(&workspace, WORKSPACE), "cudaMalloc");
    printf("# us and outputs x rows/split/stages of the first algorithm asked for at 320, 336, "
           "352, 384 and the"
           " true rows (6016, 6144, 6272, 6400 of 6147)\n");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        bench_shape(shapes[i]);
    cudaFree(workspace);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    cudaStreamDestroy(stream);
    lt.destroy(handle);
    lt_close(&lt);
    return 0;
}
