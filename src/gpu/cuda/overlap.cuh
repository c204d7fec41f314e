// SPDX-License-Identifier: MIT
// Kernels that start while the one before them in the stream still runs (programmatic dependent launch,
// compute capability 9.0 and later; elsewhere everything here is an ordinary launch).
//
// The rules that make it safe:
//   every thread of a kernel launched by overlap_launch calls overlap_wait before it first touches anything that
//   another kernel writes or reads what it writes; before that it may read constants (weights) only;
//   overlap_wait returns when the kernel before has ended and its memory is visible. As that one had waited as
//   well, all the earlier ones have ended too;
//   so what counts as a constant must have been written long ago: synchronise the stream after loading weights.
#ifndef IV_GPU_CUDA_OVERLAP_CUH
#define IV_GPU_CUDA_OVERLAP_CUH

#include <cuda_runtime.h>

__device__ inline void overlap_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on (in all blocks) the next kernel may start.
__device__ inline void overlap_next(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Is the switch on, and does the code that this device runs contain overlap_wait? (overlap.cu)
bool overlap_possible(const void *kernel);

// Percent of the cache as shared memory. A processor that must divide its cache anew between two kernels first
// lets all its blocks end, and nothing would overlap: kernels that follow each other name the same share.
enum {
    CARVEOUT_MOST = 100,
    CARVEOUT_LITTLE = 7, // 16 KiB on 9.0: what 16 blocks without shared memory take; the rest is L1 cache
};

template <class... P, class... A>
int overlap_launch_sharing(int carveout, void (*kernel)(P...), dim3 grid, int threads, size_t shared_bytes,
                           void *stream, A... args)
{
    cudaLaunchAttribute attr[2] = {};
    attr[0].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    attr[0].val.sharedMemCarveout = (unsigned)carveout;
    attr[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attr[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t c = {};
    c.gridDim = grid;
    c.blockDim = dim3((unsigned)threads);
    c.dynamicSmemBytes = shared_bytes;
    c.stream = (cudaStream_t)stream;
    c.attrs = attr;
    c.numAttrs = overlap_possible((const void *)kernel) ? 2 : 1;
    return cudaLaunchKernelEx(&c, kernel, args...);
}

template <class... P, class... A>
int overlap_launch(void (*kernel)(P...), dim3 grid, int threads, size_t shared_bytes, void *stream, A... args)
{
    return overlap_launch_sharing(CARVEOUT_MOST, kernel, grid, threads, shared_bytes, stream, args...);
}

#endif
