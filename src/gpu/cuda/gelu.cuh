// SPDX-License-Identifier: MIT
// GELU in its erf form, x Phi(x), without a branch: with a = |x| it is max(x, 0) - a Q(a), where the tail
// Q(a) = erfc(a / sqrt 2) / 2 is exp(-a^2 / 2) times a polynomial in 1 / (1 + p a / sqrt 2) (Abramowitz and Stegun
// 7.1.26, their error of erf: 1.5e-7). Error of the whole: at most 5e-7, beyond |x| = 4 that is all rounding of x
// (check_linear.c tries it densely).
#ifndef IV_GPU_CUDA_GELU_CUH
#define IV_GPU_CUDA_GELU_CUH

#include "gpu/cuda/machine.cuh"

__device__ inline float gelu(float x)
{
    float a = fminf(fabsf(x), 16.0f); // Q is 0 there; an infinite x must not meet it
    float t = __fdividef(1.0f, fmaf(0.3275911f * 0.70710678f, a, 1.0f));
    float p = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
    p = fmaf(t, p, 0.5f * 1.421413741f);
    p = fmaf(t, p, 0.5f * -0.284496736f);
    p = fmaf(t, p, 0.5f * 0.254829592f);
    float q = t * p * exp2_fast(a * a * (-0.5f * 1.44269504f));
    return fmaf(-a, q, x < 0.0f ? 0.0f : x); // NaN stays
}

#endif
