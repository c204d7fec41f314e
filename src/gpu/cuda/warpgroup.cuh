// SPDX-License-Identifier: MIT
// Hopper's matrix instructions: 4 warps (a warpgroup) multiply 64 rows, asynchronously. Accumulators lie as those of
// mma_bf16: warp w of the group has rows 16 w .. 16 w + 15, and acc[n] is its 16 x 8 at columns 8 n.
// tests/gpu/emulate/emulate_warpgroup.cuh is its twin. Only to be used where IV_HOPPER.
#ifndef IV_GPU_CUDA_WARPGROUP_CUH
#define IV_GPU_CUDA_WARPGROUP_CUH

#include "gpu/cuda/machine.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL // the target is sm_90a; sm_90 does not have them
#define IV_HOPPER 1
#else
#define IV_HOPPER 0
#endif

#if IV_HOPPER

// A tile in strips with the 64-byte swizzle, whose rows come in eights 512 bytes apart. strip_bytes: from a strip to
// the next, looked at only where columns run along the result (the values).
__device__ inline uint64_t tile_descriptor(const void *tile, int strip_bytes)
{
    const uint64_t eight_rows = 512 >> 4, swizzle_64 = 2;
    return ((uint64_t)shared_address(tile) >> 4 & 0x3fff) | (uint64_t)(strip_bytes >> 4) << 16 | eight_rows << 32 |
           swizzle_64 << 62;
}

// Before the first product, and whenever accumulators or A in registers were touched by other instructions.
__device__ inline void wgmma_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most N committed groups are under way.
template <int N> __device__ inline void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// Keeps the compiler from moving what uses these accumulators to before the wait that they are ready after.
template <int N> __device__ inline void accumulators_ready(float d[N / 8][4])
{
#pragma unroll
    for (int n = 0; n < N / 8; n++)
        asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])::"memory");
}

// What this thread wrote to shared memory becomes visible to wgmma (after a barrier, of any thread).
__device__ inline void shared_to_wgmma(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#define ACC1(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define ACC4(d, n) ACC1(d, n), ACC1(d, n + 1), ACC1(d, n + 2), ACC1(d, n + 3)
#define REGS32                                                                                                         \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
    "%30,%31"
#define REGS48 REGS32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define REGS64 REGS48 ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

// acc [64, N] = (keep ? acc : 0) + a [64, 16] b [N, 16]^T, both in shared memory
#define WGMMA_SHARED(N, REGS, A, B, KEEP, ...)                                                                         \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" KEEP ", 0; wgmma.mma_async.sync.aligned.m64n" N                  \
                 "k16.f32.bf16.bf16 {" REGS "}, %" A ", %" B ", p, 1, 1, 0, 0; }"                                      \
                 : __VA_ARGS__                                                                                         \
                 : "l"(a), "l"(b), "r"(keep)                                                                           \
                 : "memory")
template <int N> __device__ inline void wgmma_shared(float d[N / 8][4], uint64_t a, uint64_t b, int keep)
{
    if constexpr (N == 64)
        WGMMA_SHARED("64", REGS32, "32", "33", "34", ACC4(d, 0), ACC4(d, 4));
    else if constexpr (N == 96)
        WGMMA_SHARED("96", REGS48, "48", "49", "50", ACC4(d, 0), ACC4(d, 4), ACC4(d, 8));
    else
        WGMMA_SHARED("128", REGS64, "64", "65", "66", ACC4(d, 0), ACC4(d, 4), ACC4(d, 8), ACC4(d, 12));
}
#undef WGMMA_SHARED

// acc [64, N] += a [64, 16] b [16, N], a in registers as in mma_bf16, b in shared memory with its columns contiguous
#define WGMMA_REGISTERS(N, REGS, A0, A1, A2, A3, B, ...)                                                               \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" N "k16.f32.bf16.bf16 {" REGS "}, {%" A0 ",%" A1 ",%" A2 ",%" A3   \
                 "}, %" B ", 1, 1, 1, 1;"                                                                              \
                 : __VA_ARGS__                                                                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)                                                  \
                 : "memory")
template <int N> __device__ inline void wgmma_registers(float d[N / 8][4], const uint32_t a[4], uint64_t b)
{
    if constexpr (N == 64)
        WGMMA_REGISTERS("64", REGS32, "32", "33", "34", "35", "36", ACC4(d, 0), ACC4(d, 4));
    else if constexpr (N == 96)
        WGMMA_REGISTERS("96", REGS48, "48", "49", "50", "51", "52", ACC4(d, 0), ACC4(d, 4), ACC4(d, 8));
    else
        WGMMA_REGISTERS("128", REGS64, "64", "65", "66", "67", "68", ACC4(d, 0), ACC4(d, 4), ACC4(d, 8),
                        ACC4(d, 12));
}
#undef WGMMA_REGISTERS
#undef ACC1
#undef ACC4
#undef REGS32
#undef REGS48
#undef REGS64

#endif

#endif
