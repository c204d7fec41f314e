// SPDX-License-Identifier: MIT
// Matrix products through cuBLASLt. Row-major y = x W^T is, column-major, y' = W'^T x' with W' [k, n] and x' [k, m]:
// the form that its kernels like best.
//
// A row must come out the same however many rows stand beside it (ops.h): for prompt-sized products one algorithm,
// chosen for a nominal number of rows, serves every number, and a sum is split only where the rule says so and
// where the pieces have room for PROMPT_ROWS rows. The nominal number is that of a question: an H200
// takes for 322 rows of [4160] x [28672] 205, 122, 139 and 139 us, of [14400] x [4096] 138, 81, 86 and 102 us with the
// algorithm asked for at 320, 336, 352 and 384 rows (a tile that fits 320 exactly is one too many).
//
// Easy to get wrong: unless told otherwise the heuristic takes every matrix to start at a multiple of 256 bytes. Columns
// of a wider matrix need not, so it is told, and an algorithm serves only where pointers are aligned as it was promised.
#include <string.h>

#include "base/mem.h"
#include "gpu/cuda/device.h"

enum { NOMINAL_ROWS = 336, PROMPT_ROWS = 1024, N_ALGO = 512, N_CANDIDATE = 16 };

enum { ALIGN_MOST = 256 }; // what the heuristic takes for granted

// Powers of two that addresses are multiples of, at most ALIGN_MOST.
struct alignment {
    uint32_t w, x, y, bias; // bias: ALIGN_MOST without one
};

struct algo_key {
    size_t m, n, k, x_stride, w_stride, y_stride;
    bool is_bf16, y_bf16, add, bias, gelu;
    struct alignment align;
};

struct algo_table {
    size_t n;
    struct {
        struct algo_key key;
        cublasLtMatmulAlgo_t algo;
    } entry[N_ALGO];
};

struct call {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
};

static void call_free(const struct lt *lt, struct call *c)
{
    if (c->desc)
        lt->desc_destroy(c->desc);
    if (c->w)
        lt->layout_destroy(c->w);
    if (c->x)
        lt->layout_destroy(c->x);
    if (c->y)
        lt->layout_destroy(c->y);
    memset(c, 0, sizeof *c);
}

static cublasStatus_t call_make(const struct lt *lt, const struct device_product *p, size_t m,
                                struct call *c)
{
    cudaDataType_t in = p->is_bf16 ? CUDA_R_16BF : CUDA_R_32F;
    cudaDataType_t out = p->y.is_bf16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t transposed = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = p->gelu ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t s = lt->desc_create(&c->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->desc_set(c->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (s == CUBLAS_STATUS_SUCCESS && p->bias)
        s = lt->desc_set(c->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (s == CUBLAS_STATUS_SUCCESS && p->bias)
        s = lt->desc_set(c->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    if (s == CUBLAS_STATUS_SUCCESS && p->bias)
        s = lt->desc_set(c->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &out, sizeof out);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->layout_create(&c->w, in, p->k, p->n, (int64_t)p->w_stride);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->layout_create(&c->x, in, p->k, m, (int64_t)p->x_stride);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->layout_create(&c->y, out, p->n, m, p->y.stride);
    return s;
}

// Of every row: so it does not hang on which rows of a larger matrix are used.
static uint32_t row_alignment(const void *p, size_t stride_bytes)
{
    uintptr_t bits = (uintptr_t)p | stride_bytes | ALIGN_MOST;
    return (uint32_t)(bits & (~bits + 1));
}

static struct alignment alignment_of(const struct device_product *p)
{
    size_t in = p->is_bf16 ? 2 : 4, out = p->y.is_bf16 ? 2 : 4;
    return (struct alignment){.w = row_alignment(p->w, p->w_stride * in),
                              .x = row_alignment(p->x, p->x_stride * in),
                              .y = row_alignment(p->y.data, (size_t)p->y.stride * out),
                              .bias = row_alignment(p->bias, 0)};
}

static cublasStatus_t wish_alignment(const struct lt *lt, cublasLtMatmulPreference_t wish,
                                     const struct alignment *a)
{
    const struct {
        cublasLtMatmulPreferenceAttributes_t attribute;
        uint32_t bytes;
    } of[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a->w},
              {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a->x},
              {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, a->y},
              {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, a->y}};
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof of / sizeof *of && s == CUBLAS_STATUS_SUCCESS; i++)
        s = lt->preference_set(wish, of[i].attribute, &of[i].bytes, sizeof of[i].bytes);
    return s;
}

static struct product_rule rule_of(const struct gpu *g)
{
    return g->rule.nominal_rows > 0 ? g->rule : (struct product_rule){.nominal_rows = NOMINAL_ROWS};
}

// Whether a's partial sums of PROMPT_ROWS rows fit the workspace, so that any number of rows can use it.
static bool pieces_fit(const struct lt *lt, const cublasLtMatmulAlgo_t *a, size_t n)
{
    uint32_t split = 0;
    cublasStatus_t s = lt->config(a, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, NULL);
    return s == CUBLAS_STATUS_SUCCESS &&
           (split <= 1 || n <= (size_t)PRODUCT_WORKSPACE / PROMPT_ROWS / sizeof(float) / split);
}

static cublasStatus_t choose(const struct gpu *g, const struct device_product *p, size_t m,
                             const struct alignment *align, cublasLtMatmulAlgo_t *out)
{
    const struct lt *lt = &g->lt;
    struct call c = {0};
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found[N_CANDIDATE];
    struct product_rule rule = rule_of(g);
    bool split = rule.split && p->m <= PROMPT_ROWS;
    int wanted = p->m > PROMPT_ROWS ? 1 : split ? N_CANDIDATE : rule.candidate + 1;
    size_t workspace = PRODUCT_WORKSPACE;
    uint32_t schemes =
        split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    int n = 0;
    cublasStatus_t s = call_make(lt, p, m, &c);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->preference_create(&wish);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->preference_set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                               sizeof workspace);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->preference_set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                               sizeof schemes);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = wish_alignment(lt, wish, align); // of the bias the heuristic sees the pointer
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->heuristic(g->handle, c.desc, c.w, c.x, c.y, c.y, wish, wanted, found, &n);
    int best = -1;
    for (int i = 0, at = 0; s == CUBLAS_STATUS_SUCCESS && i < n && at < wanted; i++)
        if (!split || pieces_fit(lt, &found[i].algo, p->n)) {
            best = i;
            if (at++ == rule.candidate)
                break;
        }
    if (s == CUBLAS_STATUS_SUCCESS && best < 0)
        s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (s == CUBLAS_STATUS_SUCCESS)
        *out = found[best].algo;
    if (wish)
        lt->preference_destroy(wish);
    call_free(lt, &c);
    return s;
}

static bool same(const struct algo_key *a, const struct algo_key *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->x_stride == b->x_stride &&
           a->w_stride == b->w_stride && a->y_stride == b->y_stride && a->is_bf16 == b->is_bf16 &&
           a->y_bf16 == b->y_bf16 && a->add == b->add && a->bias == b->bias && a->gelu == b->gelu &&
           a->align.w == b->align.w && a->align.x == b->align.x && a->align.y == b->align.y &&
           a->align.bias == b->align.bias;
}

// The algorithm for p; chosen once. Under g->algo_lock.
static cublasStatus_t find_algo(struct gpu *g, const struct device_product *p,
                                cublasLtMatmulAlgo_t *out)
{
    size_t m = p->m <= PROMPT_ROWS ? rule_of(g).nominal_rows : p->m;
    struct algo_key key = {.m = m,
                           .n = p->n,
                           .k = p->k,
                           .x_stride = p->x_stride,
                           .w_stride = p->w_stride,
                           .y_stride = (size_t)p->y.stride,
                           .is_bf16 = p->is_bf16,
                           .y_bf16 = p->y.is_bf16,
                           .add = p->add,
                           .bias = p->bias != NULL,
                           .gelu = p->gelu,
                           .align = alignment_of(p)};
    if (!g->algos)
        g->algos = mem_calloc(1, sizeof *g->algos);
    if (!g->algos)
        return CUBLAS_STATUS_ALLOC_FAILED;
    for (size_t i = 0; i < g->algos->n; i++)
        if (same(&g->algos->entry[i].key, &key)) {
            *out = g->algos->entry[i].algo;
            return CUBLAS_STATUS_SUCCESS;
        }
    cublasStatus_t s = choose(g, p, m, &key.align, out);
    if (s == CUBLAS_STATUS_SUCCESS) {
        size_t at = g->algos->n < N_ALGO ? g->algos->n++ : key.m % N_ALGO;
        g->algos->entry[at].key = key;
        g->algos->entry[at].algo = *out;
    }
    return s;
}

bool product_serves(struct gpu *g, const struct device_product *p)
{
    cublasLtMatmulAlgo_t algo;
    pthread_mutex_lock(&g->algo_lock);
    cublasStatus_t s = find_algo(g, p, &algo);
    pthread_mutex_unlock(&g->algo_lock);
    return s == CUBLAS_STATUS_SUCCESS;
}

int device_product(struct gpu *g, const struct device_product *p, cudaStream_t stream,
                   struct err *e)
{
    struct call c = {0};
    cublasLtMatmulAlgo_t algo;
    float beta = p->add ? 1.0f : 0.0f;
    pthread_mutex_lock(&g->algo_lock);
    cublasStatus_t s = find_algo(g, p, &algo);
    pthread_mutex_unlock(&g->algo_lock);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = call_make(&g->lt, p, p->m, &c);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = g->lt.matmul(g->handle, c.desc, &p->alpha, p->w, c.w, p->x, c.x, &beta, p->y.data, c.y,
                         p->y.data, c.y, &algo, p->workspace, PRODUCT_WORKSPACE, stream);
    call_free(&g->lt, &c);
    if (s != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ERR_FAIL,
                       "cuda:%d: cuBLASLt: status %d for a product of [%zu,%zu] and [%zu,%zu]",
                       g->index, (int)s, p->m, p->k, p->n, p->k);
    return 0;
}

void product_set_rule(struct gpu *g, struct product_rule rule)
{
    pthread_mutex_lock(&g->algo_lock);
    g->rule = rule;
    g->rule.candidate = rule.candidate < 0             ? 0
                        : rule.candidate < N_CANDIDATE ? rule.candidate
                                                       : N_CANDIDATE - 1;
    if (g->algos)
        g->algos->n = 0;
    pthread_mutex_unlock(&g->algo_lock);
}

void product_free(struct gpu *g)
{
    mem_free(g->algos);
    g->algos = NULL;
}
