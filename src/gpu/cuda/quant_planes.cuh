// SPDX-License-Identifier: MIT
// Where the planes of a quantised weight lie (quant_kernels.h), and how 16 bytes of them become integers.
#ifndef IV_GPU_CUDA_QUANT_PLANES_CUH
#define IV_GPU_CUDA_QUANT_PLANES_CUH

#include <cuda_fp16.h>

#include "gpu/cuda/device.cuh"
#include "gpu/cuda/quant_kernels.h"

enum { QUANT_BLOCK = 32, SUPER_BLOCK = 256, PLANE_ALIGN = 256 };

// A unit is 16 bytes of the first plane: 16 elements of Q8_0, 32 of the others.
struct quant_planes {
    uint4 *q;       // [n_out, n_unit]
    uint2 *high;    // Q6_K: [n_out, n_unit]
    uint16_t *pair; // Q6_K: two int8 scales, [n_out, n_unit]
    uint4 *super;   // Q4_K: [n_out, k / 256]
    __half *d;      // Q8_0, Q4_0: [n_out, k / 32]; Q6_K: [n_out, k / 256]
    int n_unit;     // of a row
    size_t bytes;   // of all planes
};

static inline size_t plane_end(size_t at, size_t bytes)
{
    return (at + bytes + PLANE_ALIGN - 1) / PLANE_ALIGN * PLANE_ALIGN;
}

static inline struct quant_planes quant_planes_of(enum cuda_quant t, int n_out, int k, void *base)
{
    struct quant_planes p = {};
    char *at = (char *)base;
    size_t n = (size_t)n_out * (size_t)k;
    p.q = (uint4 *)at;
    p.n_unit = k / (t == CUDA_QUANT_Q8_0 ? 16 : QUANT_BLOCK);
    p.bytes = plane_end(0, t == CUDA_QUANT_Q8_0 ? n : n / 2);
    if (t == CUDA_QUANT_Q4_K) {
        p.super = (uint4 *)(at + p.bytes);
        p.bytes = plane_end(p.bytes, n / SUPER_BLOCK * 16);
    } else if (t == CUDA_QUANT_Q6_K) {
        p.high = (uint2 *)(at + p.bytes);
        p.bytes = plane_end(p.bytes, n / 4);
        p.pair = (uint16_t *)(at + p.bytes);
        p.bytes = plane_end(p.bytes, n / 16);
        p.d = (__half *)(at + p.bytes);
        p.bytes = plane_end(p.bytes, n / SUPER_BLOCK * 2);
    } else {
        p.d = (__half *)(at + p.bytes);
        p.bytes = plane_end(p.bytes, n / QUANT_BLOCK * 2);
    }
    return p;
}

// What a lane loads of unit u of a row; a type leaves what it has not alone.
struct quant_raw {
    uint4 q;
    uint4 super;
    uint2 high;
    uint16_t pair;
    __half d;
};

template <int T>
__device__ inline struct quant_raw quant_load(const struct quant_planes &p, int64_t row, int u)
{
    struct quant_raw g;
    int64_t at = row * p.n_unit + u;
    g.q = __ldcs(p.q + at); // read once: leaves the L1 cache to the activations
    if (T == CUDA_QUANT_Q8_0)
        g.d = p.d[at / 2];
    if (T == CUDA_QUANT_Q4_0)
        g.d = p.d[at];
    if (T == CUDA_QUANT_Q4_K)
        g.super = p.super[at / 8];
    if (T == CUDA_QUANT_Q6_K) {
        g.high = __ldcs(p.high + at);
        g.pair = p.pair[at];
        g.d = p.d[at / 8];
    }
    return g;
}

// The unit as signed bytes, four a word in the order of the elements (Q8_0: 4 words, else 8), and
// its value of elements e: q a[e / 16] + b. Q4: q is 0 .. 15. Q6_K: q is 4 (q - 32), a is a quarter.
struct quant_unit {
    int w[8];
    float a[2], b;
};

__device__ inline void nibbles(uint4 q, int *w)
{
    const unsigned mask = 0x0f0f0f0fu;
    w[0] = (int)(q.x & mask);
    w[1] = (int)(q.y & mask);
    w[2] = (int)(q.z & mask);
    w[3] = (int)(q.w & mask);
    w[4] = (int)(q.x >> 4 & mask);
    w[5] = (int)(q.y >> 4 & mask);
    w[6] = (int)(q.z >> 4 & mask);
    w[7] = (int)(q.w >> 4 & mask);
}

__device__ inline float half_bits(unsigned bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

// Four bytes of 4 (q - 32): low bits of a nibble that starts at bit 2, high bits at bit 6.
__device__ inline int six_bits(unsigned low, unsigned high)
{
    return (int)((low & 0x3c3c3c3cu) | (high & 0xc0c0c0c0u));
}

template <int T> __device__ inline struct quant_unit quant_open(const struct quant_raw &g, int u)
{
    struct quant_unit o;
    o.b = 0.0f;
    if (T == CUDA_QUANT_Q8_0) {
        o.w[0] = (int)g.q.x;
        o.w[1] = (int)g.q.y;
        o.w[2] = (int)g.q.z;
        o.w[3] = (int)g.q.w;
        o.a[0] = o.a[1] = __half2float(g.d);
    }
    if (T == CUDA_QUANT_Q4_0) {
        nibbles(g.q, o.w);
        o.a[0] = o.a[1] = __half2float(g.d);
        o.b = -8.0f * o.a[0];
    }
    if (T == CUDA_QUANT_Q4_K) {
        nibbles(g.q, o.w);
        int bit = u % 8 * 12; // of the 96 in y, z, w
        unsigned low = bit < 32 ? g.super.y : bit < 64 ? g.super.z : g.super.w;
        unsigned next = bit < 32 ? g.super.z : g.super.w;
        unsigned field = __funnelshift_r(low, next, (unsigned)bit & 31);
        o.a[0] = o.a[1] = __fmul_rn(half_bits(g.super.x & 0xffff), (float)(field & 63));
        o.b = -__fmul_rn(half_bits(g.super.x >> 16), (float)(field >> 6 & 63));
    }
    if (T == CUDA_QUANT_Q6_K) {
        o.w[0] = six_bits(g.q.x << 2, g.high.x << 6);
        o.w[1] = six_bits(g.q.y << 2, g.high.x << 4);
        o.w[2] = six_bits(g.q.z << 2, g.high.x << 2);
        o.w[3] = six_bits(g.q.w << 2, g.high.x);
        o.w[4] = six_bits(g.q.x >> 2, g.high.y << 6);
        o.w[5] = six_bits(g.q.y >> 2, g.high.y << 4);
        o.w[6] = six_bits(g.q.z >> 2, g.high.y << 2);
        o.w[7] = six_bits(g.q.w >> 2, g.high.y);
        float d = 0.25f * __half2float(g.d); // a power of two: exact
        o.a[0] = __fmul_rn(d, (float)(int8_t)(g.pair & 0xff));
        o.a[1] = __fmul_rn(d, (float)(int8_t)(g.pair >> 8));
    }
    return o;
}

#endif
