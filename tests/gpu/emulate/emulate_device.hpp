// SPDX-License-Identifier: MIT
// The device side of emulate.hpp: what a kernel's text may name.
#ifndef IV_TESTS_GPU_EMULATE_DEVICE_HPP
#define IV_TESTS_GPU_EMULATE_DEVICE_HPP

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#define __global__
#define __device__
#define __host__
#define __shared__      static
#define __constant__    static const
#define __forceinline__ inline
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __grid_constant__

// ---- vectors

#define EMULATE_VECTORS(T, N, A)                                                                   \
    struct N##1                                                                                    \
    {                                                                                              \
        T x;                                                                                       \
    };                                                                                             \
    struct alignas(2 * sizeof(T)) N##2                                                             \
    {                                                                                              \
        T x, y;                                                                                    \
    };                                                                                             \
    struct N##3                                                                                    \
    {                                                                                              \
        T x, y, z;                                                                                 \
    };                                                                                             \
    struct alignas(A) N##4                                                                         \
    {                                                                                              \
        T x, y, z, w;                                                                              \
    };                                                                                             \
    static inline N##2 make_##N##2(T x, T y)                                                       \
    {                                                                                              \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline N##3 make_##N##3(T x, T y, T z)                                                  \
    {                                                                                              \
        return {x, y, z};                                                                          \
    }                                                                                              \
    static inline N##4 make_##N##4(T x, T y, T z, T w)                                             \
    {                                                                                              \
        return {x, y, z, w};                                                                       \
    }
EMULATE_VECTORS(signed char, char, 4)
EMULATE_VECTORS(unsigned char, uchar, 4)
EMULATE_VECTORS(short, short, 8)
EMULATE_VECTORS(unsigned short, ushort, 8)
EMULATE_VECTORS(int, int, 16)
EMULATE_VECTORS(unsigned, uint, 16)
EMULATE_VECTORS(float, float, 16)
EMULATE_VECTORS(double, double, 16)
#undef EMULATE_VECTORS

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

// ---- the scheduler (emulate.cpp)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static const int warpSize = 32;

void emulate_run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread);
void emulate_barrier(void);
int emulate_vote(int p, int *all); // how many of the block's threads say yes; after a barrier
void *emulate_dynamic_shared(void);
unsigned emulate_lane(void);
// Lanes of the mask meet; returns the value of lane `from` (own where from < 0) and the mask of those that
// said yes.
uint64_t emulate_exchange(unsigned mask, uint64_t value, int from, bool yes, unsigned *ballot);
[[noreturn]] void emulate_fail(const char *what);
cudaError_t emulate_launch_error(cudaError_t e);
// Work of a stream (cudaStream_t): done at once, or when somebody waits for the stream (EMULATE_LAZY=1), or kept for
// the graph that is being recorded. Refused where the stream is not of the current device.
cudaError_t emulate_submit(const void *stream, std::function<void()> work);
// Dynamic shared memory beyond 48 KiB is allowed kernel by kernel and device by device. Only cudaLaunchKernelEx is held
// to it: what <<< >>> launches comes here without its kernel's address.
void emulate_allow_shared(const void *kernel, size_t bytes);
bool emulate_shared_allowed(const void *kernel, size_t bytes);

template <class K> struct emulate_launcher {
    K kernel;
    dim3 grid, block;
    size_t shared;
    const void *stream;
    template <class... A> void operator()(A... a)
    {
        K k = kernel;
        emulate_submit(stream, [g = grid, b = block, s = shared, k, a...] {
            emulate_run(g, b, s, [&] { k(a...); });
        });
    }
};

template <class K>
emulate_launcher<K> emulate_launch(K kernel, dim3 grid, dim3 block, size_t shared = 0,
                                   const void *stream = nullptr)
{
    return {kernel, grid, block, shared, stream};
}

struct cudaLaunchAttributeValue {
    int programmaticStreamSerializationAllowed;
    unsigned sharedMemCarveout;
};
enum cudaLaunchAttributeID {
    cudaLaunchAttributeProgrammaticStreamSerialization = 6,
    cudaLaunchAttributePreferredSharedMemoryCarveout = 14,
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A... a)
{
    if (!emulate_shared_allowed((const void *)kernel, c->dynamicSmemBytes))
        return emulate_launch_error(cudaErrorInvalidValue);
    emulate_submit(c->stream, [g = c->gridDim, b = c->blockDim, s = c->dynamicSmemBytes, kernel, a...] {
        emulate_run(g, b, s, [&] { kernel(a...); });
    });
    return cudaGetLastError();
}

template <class T> cudaError_t cudaMalloc(T **p, size_t n);
cudaError_t emulate_malloc(void **p, size_t n);
template <class T> cudaError_t cudaMalloc(T **p, size_t n)
{
    return emulate_malloc((void **)p, n);
}

template <class K> cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute a, int value)
{
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize)
        emulate_allow_shared((const void *)kernel, (size_t)value);
    return cudaSuccess;
}

int emulate_major(void);

struct cudaFuncAttributes {
    int binaryVersion, ptxVersion;
};

static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *f, const void *kernel)
{
    (void)kernel;
    f->binaryVersion = 10 * emulate_major();
    f->ptxVersion = 80;
    return cudaSuccess;
}

template <class K>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, K kernel, int block,
                                                          size_t shared)
{
    (void)kernel, (void)shared;
    *n = 2048 / block;
    return cudaSuccess;
}

static inline void cudaGridDependencySynchronize(void)
{
}

static inline void cudaTriggerProgrammaticLaunchCompletion(void)
{
}

// ---- barriers, shuffles, votes

static inline void __syncthreads(void)
{
    emulate_barrier();
}

static inline int __syncthreads_or(int p)
{
    int all;
    return emulate_vote(p, &all) > 0;
}

static inline int __syncthreads_and(int p)
{
    int all, n = emulate_vote(p, &all);
    return n == all;
}

static inline int __syncthreads_count(int p)
{
    int all;
    return emulate_vote(p, &all);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    emulate_exchange(mask, 0, -1, false, nullptr);
}

template <class T> T emulate_shuffle(unsigned mask, T v, int from)
{
    static_assert(sizeof(T) <= 8, "4 or 8 bytes are shuffled");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emulate_exchange(mask, bits, from, false, nullptr);
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <class T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    int self = (int)emulate_lane();
    return emulate_shuffle(mask, v, (self & ~(width - 1)) + (lane & (width - 1)));
}

template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32)
{
    int self = (int)emulate_lane(), from = self ^ bits;
    return emulate_shuffle(mask, v, from > (self | (width - 1)) ? -1 : from);
}

template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned n, int width = 32)
{
    int self = (int)emulate_lane(), from = self + (int)n;
    return emulate_shuffle(mask, v, from > (self | (width - 1)) ? -1 : from);
}

template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned n, int width = 32)
{
    int self = (int)emulate_lane(), from = self - (int)n;
    return emulate_shuffle(mask, v, from < (self & ~(width - 1)) ? -1 : from);
}

static inline unsigned __ballot_sync(unsigned mask, int p)
{
    unsigned ballot;
    emulate_exchange(mask, 0, -1, p != 0, &ballot);
    return ballot;
}

static inline int __any_sync(unsigned mask, int p)
{
    return __ballot_sync(mask, p) != 0;
}

static inline int __all_sync(unsigned mask, int p)
{
    return __ballot_sync(mask, p) == mask;
}

static inline void __threadfence(void)
{
}

static inline void __threadfence_block(void)
{
}

static inline void __trap(void)
{
    emulate_fail("__trap");
}

// ---- memory

template <class T> T __ldg(const T *p)
{
    return *p;
}

template <class T> T __ldcs(const T *p)
{
    return *p;
}

template <class T> T __ldcg(const T *p)
{
    return *p;
}

template <class T> T __ldca(const T *p)
{
    return *p;
}

template <class T> void __stcs(T *p, T v)
{
    *p = v;
}

template <class T> void __stcg(T *p, T v)
{
    *p = v;
}

template <class T> T atomicAdd(T *p, T v)
{
    T old = *p;
    *p += v;
    return old;
}

template <class T> T atomicMax(T *p, T v)
{
    T old = *p;
    *p = old > v ? old : v;
    return old;
}

template <class T> T atomicExch(T *p, T v)
{
    T old = *p;
    *p = v;
    return old;
}

template <class T> T atomicCAS(T *p, T compare, T v)
{
    T old = *p;
    if (old == compare)
        *p = v;
    return old;
}

static inline unsigned atomicInc(unsigned *p, unsigned limit)
{
    unsigned old = *p;
    *p = old >= limit ? 0 : old + 1;
    return old;
}

// ---- numbers

using std::max;
using std::min;

template <class To, class From> To emulate_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}

#define EMULATE_1(name, T, A, expression)                                                          \
    static inline T name(A a)                                                                      \
    {                                                                                              \
        return expression;                                                                         \
    }
#define EMULATE_2(name, T, A, expression)                                                          \
    static inline T name(A a, A b)                                                                 \
    {                                                                                              \
        return expression;                                                                         \
    }
EMULATE_1(__float_as_int, int, float, emulate_bits<int>(a))
EMULATE_1(__float_as_uint, unsigned, float, emulate_bits<unsigned>(a))
EMULATE_1(__int_as_float, float, int, emulate_bits<float>(a))
EMULATE_1(__uint_as_float, float, unsigned, emulate_bits<float>(a))
EMULATE_1(rsqrtf, float, float, (float)(1.0 / sqrt((double)a)))
EMULATE_1(__frsqrt_rn, float, float, (float)(1.0 / sqrt((double)a)))
EMULATE_1(__fsqrt_rn, float, float, sqrtf(a))
EMULATE_1(__frcp_rn, float, float, 1.0f / a)
EMULATE_1(__saturatef, float, float, fminf(fmaxf(a, 0.0f), 1.0f))
EMULATE_1(__float2int_rn, int, float, (int)rintf(a))
EMULATE_1(__float2int_rz, int, float, (int)a)
EMULATE_1(__float2int_rd, int, float, (int)floorf(a))
EMULATE_1(__float2uint_rn, unsigned, float, (unsigned)rintf(a))
EMULATE_1(__int2float_rn, float, int, (float)a)
EMULATE_1(__uint2float_rn, float, unsigned, (float)a)
EMULATE_1(__popc, int, unsigned, __builtin_popcount(a))
EMULATE_1(__clz, int, int, a ? __builtin_clz((unsigned)a) : 32)
EMULATE_1(__ffs, int, int, __builtin_ffs(a))
EMULATE_2(__fadd_rn, float, float, a + b)
EMULATE_2(__fsub_rn, float, float, a - b)
EMULATE_2(__fmul_rn, float, float, a *b)
EMULATE_2(__fdiv_rn, float, float, a / b)
EMULATE_2(__fdividef, float, float, a / b)
EMULATE_2(__umulhi, unsigned, unsigned, (unsigned)((uint64_t)a *b >> 32))
#undef EMULATE_1
#undef EMULATE_2

// names that the C library has for itself
#define __expf  expf
#define __logf  logf
#define __sinf  sinf
#define __cosf  cosf
#define __powf  powf
#define __log2f log2f

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8)
        c += (int8_t)(a >> i) * (int8_t)(b >> i);
    return c;
}

static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 32; i += 8)
        c += (uint8_t)(a >> i) * (unsigned)(uint8_t)(b >> i);
    return c;
}

static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned select)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = select >> 4 * i, byte = (unsigned)(both >> 8 * (s & 7)) & 0xff;
        if (s & 8)
            byte = byte & 0x80 ? 0xff : 0;
        r |= byte << 8 * i;
    }
    return r;
}

// Each of four signed bytes.
static inline unsigned __vsub4(unsigned a, unsigned b)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8)
        r |= (((a >> i) - (b >> i)) & 0xff) << i;
    return r;
}

static inline unsigned __vsubss4(unsigned a, unsigned b)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i += 8) {
        int d = (int8_t)(a >> i) - (int8_t)(b >> i);
        r |= ((unsigned)min(max(d, -128), 127) & 0xff) << i;
    }
    return r;
}

static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (n & 31));
}

static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) << (n & 31) >> 32);
}

// ---- bf16 and f16

struct __nv_bfloat16 {
    unsigned short x;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
struct __half {
    unsigned short x;
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;
typedef __half half;
typedef __half2 half2;

static inline float __bfloat162float(__nv_bfloat16 v)
{
    return __uint_as_float((unsigned)v.x << 16);
}

static inline __nv_bfloat16 __float2bfloat16_rn(float v)
{
    unsigned bits = __float_as_uint(v);
    if (v != v)
        return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

static inline float __half2float(__half v)
{
    unsigned sign = (unsigned)(v.x >> 15) << 31, e = v.x >> 10 & 31, m = v.x & 0x3ff;
    if (e == 31)
        return __uint_as_float(sign | 0x7f800000 | m << 13);
    if (e == 0) {
        float f = ldexpf((float)m, -24);
        return sign ? -f : f;
    }
    return __uint_as_float(sign | (e + 112) << 23 | m << 13);
}

static inline __half __float2half_rn(float v)
{
    unsigned short sign = (unsigned short)(__float_as_uint(v) >> 16 & 0x8000);
    float a = fabsf(v);
    if (v != v)
        return {0x7fff};
    if (a >= 65520.0f)
        return {(unsigned short)(sign | 0x7c00)};
    if (a < 6.103515625e-5f) // subnormal: units of 2^-24
        return {(unsigned short)(sign | (unsigned short)rintf(ldexpf(a, 24)))};
    unsigned bits = __float_as_uint(a);
    bits += 0xfff + (bits >> 13 & 1);
    return {(unsigned short)(sign | ((bits >> 13) - (112 << 10)))};
}

#define EMULATE_PAIR(half_, half2_, to_float, from_float, to_float2, from_float2, from_floats,     \
                     low, high, pair, low_half, high_half, as_bits, from_bits, from_plain, twice)  \
    static inline float2 to_float2(half2_ v)                                                       \
    {                                                                                              \
        return {to_float(v.x), to_float(v.y)};                                                     \
    }                                                                                              \
    static inline half2_ from_float2(float2 v)                                                     \
    {                                                                                              \
        return {from_float(v.x), from_float(v.y)};                                                 \
    }                                                                                              \
    static inline half2_ from_floats(float x, float y)                                             \
    {                                                                                              \
        return {from_float(x), from_float(y)};                                                     \
    }                                                                                              \
    static inline float low(half2_ v)                                                              \
    {                                                                                              \
        return to_float(v.x);                                                                      \
    }                                                                                              \
    static inline float high(half2_ v)                                                             \
    {                                                                                              \
        return to_float(v.y);                                                                      \
    }                                                                                              \
    static inline half2_ pair(half_ x, half_ y)                                                    \
    {                                                                                              \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline half_ low_half(half2_ v)                                                         \
    {                                                                                              \
        return v.x;                                                                                \
    }                                                                                              \
    static inline half_ high_half(half2_ v)                                                        \
    {                                                                                              \
        return v.y;                                                                                \
    }                                                                                              \
    static inline unsigned short as_bits(half_ v)                                                  \
    {                                                                                              \
        return v.x;                                                                                \
    }                                                                                              \
    static inline half_ from_bits(unsigned short x)                                                \
    {                                                                                              \
        return {x};                                                                                \
    }                                                                                              \
    static inline half_ from_plain(float v)                                                        \
    {                                                                                              \
        return from_float(v);                                                                      \
    }                                                                                              \
    static inline half2_ twice(half_ v)                                                            \
    {                                                                                              \
        return {v, v};                                                                             \
    }
EMULATE_PAIR(__nv_bfloat16, __nv_bfloat162, __bfloat162float, __float2bfloat16_rn,
             __bfloat1622float2, __float22bfloat162_rn, __floats2bfloat162_rn, __low2float,
             __high2float, __halves2bfloat162, __low2bfloat16, __high2bfloat16,
             __bfloat16_as_ushort, __ushort_as_bfloat16, __float2bfloat16, __bfloat162bfloat162)
EMULATE_PAIR(__half, __half2, __half2float, __float2half_rn, __half22float2, __float22half2_rn,
             __floats2half2_rn, __low2float, __high2float, __halves2half2, __low2half, __high2half,
             __half_as_ushort, __ushort_as_half, __float2half, __half2half2)
#undef EMULATE_PAIR

#endif
