// SPDX-License-Identifier: MIT
// src/gpu/cuda/machine.cuh on the CPU: the same names, each lane a fiber. One-dimensional blocks only.
//
// Collectives leave what a lane brings in a table, meet, and read the others' places. A table is used twice in
// turn, so that one meeting is enough: no lane is two collectives ahead. Asynchronous copies of even threads
// happen at once and those of odd threads when they are waited for, so that a copy that is read too early or
// that overwrites what is still read shows.
#ifndef IV_GPU_CUDA_MACHINE_CUH // the guard of the file it stands for, which then has nothing to say
#define IV_GPU_CUDA_MACHINE_CUH

#include <vector>

#include "gpu/cuda/device.cuh"

template <class P>
inline int launch(void (*kernel)(P), dim3 grid, int threads, size_t shared, void *stream, const P &params)
{
    emulate_launch([=](P p) { kernel(p); }, grid, dim3((unsigned)threads), shared, stream)(params);
    return cudaGetLastError();
}

static inline uint8_t *dynamic_shared(void)
{
    return (uint8_t *)emulate_dynamic_shared();
}

struct late_copy {
    void *to;
    const void *from; // NULL: zeros
    unsigned group;
};

static std::vector<late_copy> late_copies[1024];
static unsigned n_group[1024]; // ended by this thread

static inline void copy16(struct late_copy c)
{
    if (c.from)
        memcpy(c.to, c.from, 16);
    else
        memset(c.to, 0, 16);
}

static inline void copy16_async(void *shared, const void *global, bool real)
{
    if ((uintptr_t)shared % 16 || (uintptr_t)global % 16)
        emulate_fail("a copy of 16 bytes that is not aligned");
    struct late_copy c = {shared, real ? global : NULL, n_group[threadIdx.x]};
    if (threadIdx.x % 2)
        late_copies[threadIdx.x].push_back(c);
    else
        copy16(c);
}

static inline uint64_t read_once(void)
{
    return 0;
}

static inline void copy16_async_once(void *shared, const void *global, bool real, uint64_t policy)
{
    (void)policy;
    copy16_async(shared, global, real);
}

static inline void copies_commit(void)
{
    n_group[threadIdx.x]++;
}

template <int n> static inline void copies_wait(void)
{
    std::vector<late_copy> &late = late_copies[threadIdx.x];
    size_t done = 0;
    while (done < late.size() && late[done].group + n < n_group[threadIdx.x])
        copy16(late[done++]);
    late.erase(late.begin(), late.begin() + (long)done);
}

static inline void copies_wait_all(void)
{
    for (struct late_copy c : late_copies[threadIdx.x])
        copy16(c);
    late_copies[threadIdx.x].clear();
}

struct brought {
    const uint8_t *row;
    uint32_t a[4], b[2];
};

static struct brought brought_of[2][1024];
static unsigned n_collective[1024];

// The table of the warp's lanes, when all have come.
static inline const struct brought *bring(const struct brought &mine)
{
    unsigned turn = n_collective[threadIdx.x]++ % 2, first = threadIdx.x / WARP * WARP;
    brought_of[turn][threadIdx.x] = mine;
    __syncwarp();
    return &brought_of[turn][first];
}

static inline void ldmatrix4(uint32_t r[4], const void *row)
{
    const struct brought *all = bring({(const uint8_t *)row, {0, 0, 0, 0}, {0, 0}});
    int lane = threadIdx.x % WARP;
    for (int m = 0; m < 4; m++)
        memcpy(&r[m], all[8 * m + lane / 4].row + lane % 4 * 4, 4);
}

static inline void ldmatrix4_transposed(uint32_t r[4], const void *row)
{
    const struct brought *all = bring({(const uint8_t *)row, {0, 0, 0, 0}, {0, 0}});
    int lane = threadIdx.x % WARP;
    for (int m = 0; m < 4; m++) {
        uint16_t e[2];
        for (int i = 0; i < 2; i++)
            memcpy(&e[i], all[8 * m + lane % 4 * 2 + i].row + lane / 4 * 2, 2);
        r[m] = (uint32_t)e[1] << 16 | e[0];
    }
}

// bf16 element i of the pairs u[0], u[1] ...
static inline float element_of(const uint32_t *u, int i)
{
    return __uint_as_float(i % 2 ? u[i / 2] & 0xffff0000u : u[i / 2] << 16);
}

static inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    const struct brought *all = bring({NULL, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4 * 2;
    for (int e = 0; e < 4; e++)
        for (int k = 0; k < 16; k++) {
            // a[row][k]: lane 4 (row % 8) + k % 8 / 2, register row / 8 + 2 (k / 8)
            const struct brought *left = &all[4 * g + k % 8 / 2], *right = &all[4 * (t + e % 2) + k % 8 / 2];
            float x = element_of(&left->a[e / 2 + k / 8 * 2], k % 2);
            c[e] = fmaf(x, element_of(&right->b[k / 8], k % 2), c[e]);
        }
}

static inline float exp2_fast(float x)
{
    float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

static inline uint32_t pack_bf16(float lo, float hi)
{
    return (uint32_t)__float2bfloat16_rn(hi).x << 16 | __float2bfloat16_rn(lo).x;
}

#endif
