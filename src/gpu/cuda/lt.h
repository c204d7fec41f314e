// SPDX-License-Identifier: MIT
// cuBLASLt, opened when it is needed, so that a program built with CUDA starts on machines that have none.
#ifndef IV_GPU_CUDA_LT_H
#define IV_GPU_CUDA_LT_H

#include <cublasLt.h>

#include "base/err.h"

// The functions in use, by their own names without the prefix.
struct lt {
    void *library;
    __typeof__(&cublasLtCreate) create;
    __typeof__(&cublasLtDestroy) destroy;
    __typeof__(&cublasLtMatmul) matmul;
    __typeof__(&cublasLtMatmulDescCreate) desc_create;
    __typeof__(&cublasLtMatmulDescDestroy) desc_destroy;
    __typeof__(&cublasLtMatmulDescSetAttribute) desc_set;
    __typeof__(&cublasLtMatrixLayoutCreate) layout_create;
    __typeof__(&cublasLtMatrixLayoutDestroy) layout_destroy;
    __typeof__(&cublasLtMatmulPreferenceCreate) preference_create;
    __typeof__(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    __typeof__(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    __typeof__(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    __typeof__(&cublasLtMatmulAlgoConfigGetAttribute) config;
};

int lt_open(struct lt *lt, struct err *e);
void lt_close(struct lt *lt); // also of a zeroed one

#endif
