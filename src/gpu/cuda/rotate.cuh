// SPDX-License-Identifier: MIT
// One pair of rotary positions: the same bits wherever keys are turned on their way to a cache.
#ifndef IV_GPU_CUDA_ROTATE_CUH
#define IV_GPU_CUDA_ROTATE_CUH

#include "gpu/cuda/device.cuh"

__device__ inline void rotate_pair(float *lo, float *hi, float cosine, float sine)
{
    float turned = fmaf(*lo, cosine, -__fmul_rn(*hi, sine));
    *hi = fmaf(*hi, cosine, __fmul_rn(*lo, sine));
    *lo = turned;
}

#endif
