// SPDX-License-Identifier: MIT
// src/gpu/cuda/warpgroup.cuh on the CPU. Products of even warps are done at once and those of odd warps when they
// are waited for: tiles that are not there yet, or are overwritten too early, show in one or the other.
#ifndef IV_GPU_CUDA_WARPGROUP_CUH // the guard of the file it stands for, which then has nothing to say
#define IV_GPU_CUDA_WARPGROUP_CUH

#include <functional>
#include <vector>

#include "emulate_machine.cuh"

#define IV_HOPPER 1

static inline uint64_t tile_descriptor(const void *tile, int strip_bytes)
{
    uint64_t at = (uint64_t)((const uint8_t *)tile - dynamic_shared());
    if (at % 512)
        emulate_fail("a swizzled tile that does not begin at a multiple of 512 bytes");
    return (at >> 4 & 0x3fff) | (uint64_t)(strip_bytes >> 4) << 16 | (uint64_t)(512 >> 4) << 32 | (uint64_t)2 << 62;
}

// The element at `offset` bytes from the descriptor's start; the swizzle works on the address.
static inline float described(uint64_t descriptor, uint32_t offset)
{
    uint32_t at = (uint32_t)((descriptor & 0x3fff) << 4) + offset;
    uint16_t e;
    memcpy(&e, dynamic_shared() + (at ^ (at >> 7 & 3) << 4), 2);
    return __uint_as_float((uint32_t)e << 16);
}

// Columns of the sum contiguous: row r, element k of the sum, of 16.
static inline float element_of_rows(uint64_t descriptor, int r, int k)
{
    uint32_t eight_rows = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    return described(descriptor, (uint32_t)r / 8 * eight_rows + (uint32_t)r % 8 * 64 + (uint32_t)k * 2);
}

// Columns of the result contiguous: element k of the sum, of 16, column n.
static inline float element_of_columns(uint64_t descriptor, int k, int n)
{
    uint32_t eight_rows = (uint32_t)(descriptor >> 32 & 0x3fff) << 4, strip = (uint32_t)(descriptor >> 16 & 0x3fff) << 4;
    return described(descriptor, (uint32_t)n / 32 * strip + (uint32_t)n % 32 * 2 + (uint32_t)k / 8 * eight_rows +
                                     (uint32_t)k % 8 * 64);
}

typedef std::vector<std::function<void()>> products;
static std::vector<products> late_products[1024]; // committed groups
static products open_group[1024];

static inline void product(const std::function<void()> &work)
{
    if (threadIdx.x / WARP % 2)
        open_group[threadIdx.x].push_back(work);
    else
        work();
}

static inline void wgmma_fence(void)
{
}

static inline void wgmma_commit(void)
{
    late_products[threadIdx.x].push_back(open_group[threadIdx.x]);
    open_group[threadIdx.x].clear();
}

template <int N> static inline void wgmma_wait(void)
{
    std::vector<products> *groups = &late_products[threadIdx.x];
    while (groups->size() > N) {
        for (const std::function<void()> &work : groups->front())
            work();
        groups->erase(groups->begin());
    }
}

template <int N> static inline void accumulators_ready(float d[N / 8][4])
{
    (void)d;
}

static inline void shared_to_wgmma(void)
{
}

// Row and column of acc[n][e] of this lane, of its warpgroup's 64 rows.
static inline int acc_row(int e)
{
    return (int)threadIdx.x % 128 / WARP * 16 + (int)threadIdx.x % WARP / 4 + e / 2 * 8;
}

static inline int acc_column(int n, int e)
{
    return 8 * n + (int)threadIdx.x % 4 * 2 + e % 2;
}

template <int N> static inline void wgmma_shared(float d[N / 8][4], uint64_t a, uint64_t b, int keep)
{
    product([=] {
        for (int n = 0; n < N / 8; n++)
            for (int e = 0; e < 4; e++) {
                if (!keep)
                    d[n][e] = 0.0f;
                for (int k = 0; k < 16; k++)
                    d[n][e] = fmaf(element_of_rows(a, acc_row(e), k), element_of_rows(b, acc_column(n, e), k), d[n][e]);
            }
    });
}

template <int N> static inline void wgmma_registers(float d[N / 8][4], const uint32_t a[4], uint64_t b)
{
    const struct brought *all = bring({NULL, {a[0], a[1], a[2], a[3]}, {0, 0}});
    std::vector<float> left(32); // [2, 16]: the lane's two rows of a
    int g = (int)threadIdx.x % WARP / 4;
    for (int half = 0; half < 2; half++)
        for (int k = 0; k < 16; k++)
            left[half * 16 + k] = element_of(&all[4 * g + k % 8 / 2].a[half + k / 8 * 2], k % 2);
    product([=] {
        for (int n = 0; n < N / 8; n++)
            for (int e = 0; e < 4; e++)
                for (int k = 0; k < 16; k++)
                    d[n][e] = fmaf(left[e / 2 * 16 + k], element_of_columns(b, k, acc_column(n, e)), d[n][e]);
    });
}

#endif
