// SPDX-License-Identifier: MIT
// The products of cublasLt.h by plain loops: inputs bf16 or f32, sums in f32, one rounding at the end. Like the
// real one it wants 16-byte aligned bf16 matrices.
//
// An algorithm is the strictest that was possible: it needs the alignments that the preference promised, 256 bytes of
// what it said nothing about (as the toolkit's header has it), and the bias aligned as the one the heuristic was shown.
// What is then less aligned is refused; and what all rows are more aligned than was promised, which costs fast ones.
#include <math.h>

#include "emulate.hpp"

extern "C" {
#include "cublasLt.h"
#include "gpu/cuda/lt.h"
}

struct emulate_lt {
    int device; // where it was made, and where it serves
};
struct emulate_lt_desc {
    bool transposed, biased, gelu;
    const void *bias;
    cudaDataType_t bias_type;
};
struct emulate_lt_layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
enum { MATRICES = 4, MOST = 256 }; // A, B, C, D
struct emulate_lt_preference {
    uint32_t align[MATRICES];
};

static uint64_t alignment_of(const void *p, uint64_t stride_bytes)
{
    uintptr_t bits = (uintptr_t)p | stride_bytes | MOST;
    return bits & (~bits + 1);
}

static float get(const void *p, cudaDataType_t t, int64_t i)
{
    return t == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)p)[i])
                            : ((const float *)p)[i];
}

static void put(void *p, cudaDataType_t t, int64_t i, float v)
{
    if (t == CUDA_R_16BF)
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
    else
        ((float *)p)[i] = v;
}

static float gelu_tanh(float x)
{
    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
}

static bool is_current(const emulate_lt *h)
{
    int device = -1;
    return cudaGetDevice(&device) == cudaSuccess && h->device == device;
}

static bool aligned(const void *p, const emulate_lt_layout *l)
{
    int64_t elem = l->type == CUDA_R_16BF ? 2 : 4;
    return (uintptr_t)p % 16 == 0 && l->ld * elem % 16 == 0;
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = new emulate_lt();
    cudaGetDevice(&(*h)->device);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t c,
                                        cudaDataType_t scale)
{
    (void)c, (void)scale;
    *d = new emulate_lt_desc();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t a, const void *value,
                                              size_t bytes)
{
    (void)bytes;
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        d->transposed = *(const cublasOperation_t *)value == CUBLAS_OP_T;
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        d->biased = *(const cublasLtEpilogue_t *)value & CUBLASLT_EPILOGUE_BIAS;
        d->gelu = *(const cublasLtEpilogue_t *)value == CUBLASLT_EPILOGUE_GELU_BIAS;
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        d->bias = *(const void *const *)value;
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        d->bias_type = *(const cudaDataType_t *)value;
        break;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t t,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new emulate_lt_layout{t, rows, cols, ld};
    return (uint64_t)ld >= rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new emulate_lt_preference{{MOST, MOST, MOST, MOST}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t a,
                                                    const void *value, size_t bytes)
{
    int matrix = (int)a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (matrix < 0 || matrix >= MATRICES)
        return CUBLAS_STATUS_SUCCESS;
    uint32_t align;
    if (bytes != sizeof align)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&align, value, sizeof align);
    if (align == 0 || align > MOST || (align & (align - 1)))
        return CUBLAS_STATUS_INVALID_VALUE;
    p->align[matrix] = align;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
                                              cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t *result, int *found)
{
    (void)c, (void)wanted;
    *found = 0;
    if (!is_current(h))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool sound = d->transposed && a->rows == b->rows && y->rows == a->cols && y->cols == b->cols &&
                 a->type == b->type && (!d->biased || (d->bias && d->bias_type == y->type));
    *found = sound;
    *result = cublasLtMatmulHeuristicResult_t();
    for (int i = 0; i < MATRICES; i++)
        result->algo.data[i] = p->align[i];
    result->algo.data[MATRICES] = d->biased ? alignment_of(d->bias, 0) : MOST;
    return sound ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

// No tile, no stages, the sum in one piece.
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t a,
                                                    void *value, size_t bytes, size_t *written)
{
    uint32_t v = a == CUBLASLT_ALGO_CONFIG_SPLITK_NUM;
    (void)algo;
    if (bytes < sizeof v)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, &v, sizeof v);
    if (written)
        *written = sizeof v;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t d, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t la, const void *b,
                              cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                              cublasLtMatrixLayout_t lc, void *y, cublasLtMatrixLayout_t ly,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes,
                              cudaStream_t stream)
{
    (void)workspace, (void)bytes;
    if (!is_current(h))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (d->biased && alignment_of(d->bias, 0) < algo->data[MATRICES])
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *given[MATRICES] = {a, b, c, y};
    const emulate_lt_layout *layout[MATRICES] = {la, lb, lc, ly};
    for (int i = 0; i < MATRICES; i++) {
        uint64_t stride = (uint64_t)layout[i]->ld * (layout[i]->type == CUDA_R_16BF ? 2 : 4);
        if (algo->data[i] > alignment_of(given[i], 0) ||
            algo->data[i] < alignment_of(given[i], stride))
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!aligned(a, la) || !aligned(b, lb) || !aligned(y, ly))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    cudaError_t status = emulate_submit(stream, [desc = *d, wa = *la, xb = *lb, out = *ly,
                                                 scale = *(const float *)alpha,
                                                 keep = *(const float *)beta, a, b, y] {
        std::vector<float> w(wa.rows), x(xb.rows * xb.cols);
        for (uint64_t r = 0; r < xb.cols; r++)
            for (uint64_t k = 0; k < xb.rows; k++)
                x[r * xb.rows + k] = get(b, xb.type, (int64_t)r * xb.ld + (int64_t)k);
        for (uint64_t o = 0; o < wa.cols; o++) {
            for (uint64_t k = 0; k < wa.rows; k++)
                w[k] = get(a, wa.type, (int64_t)o * wa.ld + (int64_t)k);
            float bias = desc.biased ? get(desc.bias, desc.bias_type, (int64_t)o) : 0.0f;
            for (uint64_t r = 0; r < xb.cols; r++) {
                const float *row = &x[r * xb.rows];
                float sum = 0;
                for (uint64_t k = 0; k < wa.rows; k++)
                    sum += w[k] * row[k];
                int64_t at = (int64_t)r * out.ld + (int64_t)o;
                float old = keep != 0 ? keep * get(y, out.type, at) : 0.0f;
                float v = scale * sum + old + bias;
                put(y, out.type, at, desc.gelu ? gelu_tanh(v) : v);
            }
        }
    });
    return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

int lt_open(struct lt *lt, struct err *e)
{
    (void)e;
    *lt = {};
    lt->create = cublasLtCreate;
    lt->destroy = cublasLtDestroy;
    lt->matmul = cublasLtMatmul;
    lt->desc_create = cublasLtMatmulDescCreate;
    lt->desc_destroy = cublasLtMatmulDescDestroy;
    lt->desc_set = cublasLtMatmulDescSetAttribute;
    lt->layout_create = cublasLtMatrixLayoutCreate;
    lt->layout_destroy = cublasLtMatrixLayoutDestroy;
    lt->preference_create = cublasLtMatmulPreferenceCreate;
    lt->preference_destroy = cublasLtMatmulPreferenceDestroy;
    lt->preference_set = cublasLtMatmulPreferenceSetAttribute;
    lt->heuristic = cublasLtMatmulAlgoGetHeuristic;
    lt->config = cublasLtMatmulAlgoConfigGetAttribute;
    return 0;
}

void lt_close(struct lt *lt)
{
    *lt = {};
}
}
