// SPDX-License-Identifier: MIT
// Groups of W neighbouring elements of a row as floats. W is 8 (bf16: one 16-byte access), 4 (f32: one; bf16:
// 8 bytes) or 1 (any alignment).
#ifndef IV_GPU_CUDA_GROUPS_CUH
#define IV_GPU_CUDA_GROUPS_CUH

#include "gpu/cuda/device.cuh"

template <int W> struct group {
    float v[W];
};

// Two bf16 of a word, the lower one first.
__device__ inline void bf16_pair(unsigned bits, float *v)
{
    v[0] = __uint_as_float(bits << 16);
    v[1] = __uint_as_float(bits & 0xffff0000u);
}

__device__ inline unsigned bf16_bits(float x, float y)
{
    return (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(x)) |
           (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(y)) << 16;
}

template <bool BF16, int W> __device__ inline group<W> load_group(const void *p, int64_t i)
{
    group<W> g;
    if constexpr (W == 1) {
        g.v[0] = load_f32(p, BF16, i);
    } else if constexpr (BF16 && W == 8) {
        uint4 u = *(const uint4 *)((const __nv_bfloat16 *)p + i);
        bf16_pair(u.x, g.v);
        bf16_pair(u.y, g.v + 2);
        bf16_pair(u.z, g.v + 4);
        bf16_pair(u.w, g.v + 6);
    } else if constexpr (BF16) {
        uint2 u = *(const uint2 *)((const __nv_bfloat16 *)p + i);
        bf16_pair(u.x, g.v);
        bf16_pair(u.y, g.v + 2);
    } else {
#pragma unroll
        for (int j = 0; j < W; j += 4) {
            float4 f = *(const float4 *)((const float *)p + i + j);
            g.v[j] = f.x;
            g.v[j + 1] = f.y;
            g.v[j + 2] = f.z;
            g.v[j + 3] = f.w;
        }
    }
    return g;
}

template <bool BF16, int W> __device__ inline void store_group(void *p, int64_t i, group<W> g)
{
    if constexpr (W == 1) {
        store_f32(p, BF16, i, g.v[0]);
    } else if constexpr (BF16 && W == 8) {
        *(uint4 *)((__nv_bfloat16 *)p + i) =
            make_uint4(bf16_bits(g.v[0], g.v[1]), bf16_bits(g.v[2], g.v[3]),
                       bf16_bits(g.v[4], g.v[5]), bf16_bits(g.v[6], g.v[7]));
    } else if constexpr (BF16) {
        *(uint2 *)((__nv_bfloat16 *)p + i) =
            make_uint2(bf16_bits(g.v[0], g.v[1]), bf16_bits(g.v[2], g.v[3]));
    } else {
#pragma unroll
        for (int j = 0; j < W; j += 4)
            *(float4 *)((float *)p + i + j) =
                make_float4(g.v[j], g.v[j + 1], g.v[j + 2], g.v[j + 3]);
    }
}

// Where the i-th group of a matrix with `per_row` groups a row lies. 64-bit divisions only where needed.
__device__ inline void group_at(int64_t i, int per_row, int64_t *row, int *at)
{
    if (i >> 32) {
        *row = i / per_row;
        *at = (int)(i % per_row);
    } else {
        *row = (uint32_t)i / (uint32_t)per_row;
        *at = (int)((uint32_t)i % (uint32_t)per_row);
    }
}

// ---- on the host

static inline bool address_wide(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

// All groups of v (of 8 elements, hence of 4) can be read and written at once.
static inline bool view_wide(struct cuda_view v)
{
    return address_wide(v.data) && v.stride % 8 == 0 && v.cols % 8 == 0;
}

// Elements of a group where two matrices of these types meet.
static inline int group_width(bool wide, bool a_bf16, bool b_bf16)
{
    return !wide ? 1 : a_bf16 && b_bf16 ? 8 : 4;
}

// The instances of kernel<a is bf16, b is bf16, W> by [wide][a is bf16][b is bf16].
#define GROUP_KERNELS(kernel)                                                                      \
    {                                                                                              \
        {{kernel<false, false, 1>, kernel<false, true, 1>},                                        \
         {kernel<true, false, 1>, kernel<true, true, 1>}},                                         \
        {                                                                                          \
            {kernel<false, false, 4>, kernel<false, true, 4>},                                     \
            {                                                                                      \
                kernel<true, false, 4>, kernel<true, true, 8>                                      \
            }                                                                                      \
        }                                                                                          \
    }

#endif
