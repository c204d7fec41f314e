// SPDX-License-Identifier: MIT
// Instructions that CUDA C++ has no word for (compute capability 8.0 and later).
#ifndef IV_GPU_CUDA_PTX_CUH
#define IV_GPU_CUDA_PTX_CUH

#include <cuda_runtime.h>
#include <stdint.h>

// The block's dynamic shared memory.
__device__ inline uint4 *dynamic_shared(void)
{
    extern __shared__ uint4 dynamic_shared_bytes[];
    return dynamic_shared_bytes;
}

// A cache policy: lines read with it are the first to go.
__device__ inline uint64_t policy_read_once(void)
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// Copies 16 bytes, or writes 16 zero bytes, later: see copy_wait. Both 16-byte aligned.
__device__ inline void copy_async(uint4 *dst, const void *src, bool zero)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(dst)),
                 "l"(src), "r"(zero ? 0 : 16)
                 : "memory");
}

__device__ inline void copy_async_once(uint4 *dst, const void *src, bool zero, uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(dst)),
                 "l"(src), "r"(zero ? 0 : 16), "l"(policy)
                 : "memory");
}

// Closes a group: the copies of this thread since the last one.
__device__ inline void copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the last `pending` groups of this thread have arrived; other threads see them after a barrier.
template <int pending> __device__ inline void copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// c [16, 8] += a [16, 16] b [16, 8], bf16 with f32 sums. With g = lane / 4, t = lane % 4 and pairs of elements:
//   a: (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8); b: (2t, g) (2t+8, g), pairs down k; c: (g, 2t) (g, 2t+1) and g+8.
__device__ inline void mma_16816(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                 unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

#endif
