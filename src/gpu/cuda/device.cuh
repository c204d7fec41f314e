// SPDX-License-Identifier: MIT
// Small things that every kernel file needs: loads and stores of either element type, warp and block sums
// in a fixed order.
#ifndef IV_GPU_CUDA_DEVICE_CUH
#define IV_GPU_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "gpu/cuda/device_kernels.h"

enum { WARP = 32 };

__device__ inline float load_f32(const void *p, bool is_bf16, int64_t i)
{
    return is_bf16 ? __bfloat162float(((const __nv_bfloat16 *)p)[i]) : ((const float *)p)[i];
}

__device__ inline void store_f32(void *p, bool is_bf16, int64_t i, float v)
{
    if (is_bf16)
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
    else
        ((float *)p)[i] = v;
}

__device__ inline float warp_sum(float v)
{
    for (int i = WARP / 2; i > 0; i /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, i);
    return v;
}

// Sum over the block's threads (a multiple of WARP), the same in each. shared: [WARP] floats.
__device__ inline float block_sum(float v, float *shared)
{
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, n_warp = blockDim.x / WARP;
    v = warp_sum(v);
    __syncthreads(); // shared may still be read from before
    if (lane == 0)
        shared[warp] = v;
    __syncthreads();
    return warp_sum(lane < n_warp ? shared[lane] : 0.0f);
}

#endif
