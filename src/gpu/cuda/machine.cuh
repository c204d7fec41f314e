// SPDX-License-Identifier: MIT
// What has no spelling in C: launches, dynamic shared memory, asynchronous copies, ldmatrix, mma, exp2. Each says
// what each lane holds. tests/gpu/emulate/emulate_machine.cuh is its twin that runs on the processor.
#ifndef IV_GPU_CUDA_MACHINE_CUH
#define IV_GPU_CUDA_MACHINE_CUH

#include <stdint.h>

#include "gpu/cuda/device.cuh"

// Kernels take one struct, by value. shared: bytes of dynamic shared memory. Returns a cudaError_t.
template <class P>
inline int launch(void (*kernel)(P), dim3 grid, int threads, size_t shared, void *stream, const P &params)
{
    if (shared > 48 << 10) { // more than that is given on request only
        cudaError_t e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             (int)shared);
        if (e != cudaSuccess)
            return e;
    }
    kernel<<<grid, threads, shared, (cudaStream_t)stream>>>(params);
    return cudaGetLastError();
}

// The block's dynamic shared memory, 1024-byte aligned (what the swizzled tiles of wgmma want).
__device__ inline uint8_t *dynamic_shared(void)
{
    extern __shared__ __align__(1024) uint8_t dynamic_bytes[];
    return dynamic_bytes;
}

__device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

// 16 bytes, both sides aligned; zeros when !real (nothing is read then).
__device__ inline void copy16_async(void *shared, const void *global, bool real)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(real ? 16 : 0)
                 : "memory");
}

// A cache policy for copy16_async_once: these lines are the first to leave the L2 cache.
__device__ inline uint64_t read_once(void)
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// copy16_async of what is read by one block only and in full lines.
__device__ inline void copy16_async_once(void *shared, const void *global, bool real, uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                     shared_address(shared)),
                 "l"(global), "r"(real ? 16 : 0), "l"(policy)
                 : "memory");
}

// Ends a group: the copies of this thread since the last one.
__device__ inline void copies_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the last n groups of this thread are there.
template <int n> __device__ inline void copies_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

__device__ inline void copies_wait_all(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// Four 8x8 bf16 matrices; lanes 8 m .. 8 m + 7 name the rows (16 bytes) of matrix m. Lane l gets in r[m]
// row l / 4, columns 2 (l % 4) and the next.
__device__ inline void ldmatrix4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same of the transposed matrices: lane l gets in r[m] rows 2 (l % 4) and the next, column l / 4.
__device__ inline void ldmatrix4_transposed(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// c [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = 2 (lane % 4): c holds (g, t), (g, t + 1),
// (g + 8, t), (g + 8, t + 1); a holds pairs (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8); b holds pairs
// (rows t, column g), (rows t + 8, column g).
__device__ inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 2^x to 2 units in the last place, exactly 1 at 0 and 0 at -inf; results below 2^-126 are 0.
__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// bf16 pair, lo in the low half.
__device__ inline uint32_t pack_bf16(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}

#endif
