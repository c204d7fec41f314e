// SPDX-License-Identifier: MIT
// Plain weights to blocks of the file formats. A lane holds 8 neighbouring elements, so that four lanes are
// a block of 32 and a warp a block of 256; for each scale the candidate with the least squared error
// wins, then q is rounded to nearest with the scale as it is stored.
#include "gpu/cuda/quant_planes.cuh"

enum {
    THREADS = 256,
    CANDIDATES = 9, // of a scale: the range over n + (i - 4) / 4 steps
};

template <int LANES> __device__ inline float lanes_sum(float v)
{
    for (int i = LANES / 2; i > 0; i /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, i);
    return v;
}

template <int LANES> __device__ inline float lanes_max(float v)
{
    for (int i = LANES / 2; i > 0; i /= 2)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, i));
    return v;
}

// The value of largest magnitude in LANES lanes, with its sign.
template <int LANES> __device__ inline float lanes_extreme(const float *v)
{
    float high = 0.0f, low = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        high = fmaxf(high, v[i]);
        low = fmaxf(low, -v[i]);
    }
    high = lanes_max<LANES>(high);
    low = lanes_max<LANES>(low);
    return low >= high ? -low : high;
}

__device__ inline int round_to(float v, int low, int high)
{
    return min(max(__float2int_rn(v), low), high);
}

__device__ inline float inverse(float v)
{
    return v != 0.0f ? 1.0f / v : 0.0f;
}

// The scale s for which s q + offset, q in [low, high], is nearest to v; the same in the LANES lanes.
// range: of v, covered by `steps` of q.
template <int LANES>
__device__ inline float best_scale(const float *v, float offset, float range, float steps, int low,
                                   int high)
{
    float best = 0.0f, least = INFINITY;
    for (int i = 0; i < CANDIDATES; i++) {
        float s = range / (steps + (float)(i - CANDIDATES / 2) * 0.25f), to_q = inverse(s);
        float error = 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float d = v[j] - offset - s * (float)round_to((v[j] - offset) * to_q, low, high);
            error = fmaf(d, d, error);
        }
        error = lanes_sum<LANES>(error);
        if (error < least) {
            least = error;
            best = s;
        }
    }
    return best;
}

__device__ inline void store_two(uint8_t *p, unsigned v)
{
    *(uint16_t *)p = (uint16_t)v;
}

__device__ inline void store_eight(uint8_t *p, uint64_t v)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        store_two(p + 2 * i, (unsigned)(v >> 16 * i) & 0xffff);
}

__device__ inline uint64_t other_lane(uint64_t v, int bits)
{
    return __shfl_xor_sync(0xffffffffu, (unsigned long long)v, bits);
}

// Eight bytes round((v - offset) / s) + bias.
__device__ inline uint64_t eight_q(const float *v, float offset, float s, int low, int high,
                                   int bias)
{
    float to_q = inverse(s);
    uint64_t q = 0;
#pragma unroll
    for (int j = 0; j < 8; j++)
        q |= (uint64_t)((unsigned)(round_to((v[j] - offset) * to_q, low, high) + bias) & 0xff)
             << 8 * j;
    return q;
}

// What is stored is not zero where the scale was not: the smallest f16 instead.
__device__ inline __half to_half(float v)
{
    __half h = __float2half_rn(v);
    if (v != 0.0f && __half2float(h) == 0.0f)
        h = __ushort_as_half((unsigned short)(v > 0.0f ? 0x0001 : 0x8001));
    return h;
}

// The lane's part of a block; b: NULL in a lane behind the last block. Every lane of the warp comes here.
__device__ inline void pack_q8_0(uint8_t *b, const float *v, int lane)
{
    __half d = to_half(fabsf(lanes_extreme<4>(v)) / 127.0f);
    uint64_t q = eight_q(v, 0.0f, __half2float(d), -127, 127, 0);
    if (!b)
        return;
    if (lane % 4 == 0)
        store_two(b, __half_as_ushort(d));
    store_eight(b + 2 + lane % 4 * 8, q);
}

__device__ inline void pack_q4_0(uint8_t *b, const float *v, int lane)
{
    __half d = to_half(best_scale<4>(v, 0.0f, lanes_extreme<4>(v), -8.0f, -8, 7));
    uint64_t q = eight_q(v, 0.0f, __half2float(d), -8, 7, 8), high = other_lane(q, 2);
    if (!b)
        return;
    if (lane % 4 == 0)
        store_two(b, __half_as_ushort(d));
    if (lane % 4 < 2)
        store_eight(b + 2 + lane % 4 * 8, q | high << 4);
}

__device__ inline void pack_q4_k(uint8_t *b, const float *v, int lane)
{
    float low = 0.0f, high = 0.0f; // zero is always within
#pragma unroll
    for (int j = 0; j < 8; j++) {
        low = fmaxf(low, -v[j]);
        high = fmaxf(high, v[j]);
    }
    low = lanes_max<4>(low);
    high = lanes_max<4>(high);
    float s = best_scale<4>(v, -low, low + high, 15.0f, 0, 15);
    __half d = to_half(lanes_max<WARP>(s) / 63.0f), dmin = to_half(lanes_max<WARP>(low) / 63.0f);
    int s6 = round_to(s * inverse(__half2float(d)), 0, 63);
    int m6 = round_to(low * inverse(__half2float(dmin)), 0, 63);
    uint64_t q = eight_q(v, -__half2float(dmin) * (float)m6, __half2float(d) * (float)s6, 0, 15, 0);
    uint64_t next = other_lane(q, 4);
    uint8_t fields[12] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) { // as scale_field in quant_repack.cu reads them
        int si = __shfl_sync(0xffffffffu, s6, 4 * i), mi = __shfl_sync(0xffffffffu, m6, 4 * i);
        if (i < 4) {
            fields[i] = (uint8_t)si;
            fields[i + 4] = (uint8_t)mi;
        } else {
            fields[i + 4] = (uint8_t)((si & 15) | (mi & 15) << 4);
            fields[i - 4] |= (uint8_t)(si >> 4 << 6);
            fields[i] |= (uint8_t)(mi >> 4 << 6);
        }
    }
    if (!b)
        return;
    int part = lane / 4;
    if (part % 2 == 0)
        store_eight(b + 16 + part / 2 * 32 + lane % 4 * 8, q | next << 4);
    if (lane == 0) {
        store_two(b, __half_as_ushort(d));
        store_two(b + 2, __half_as_ushort(dmin));
#pragma unroll
        for (int i = 0; i < 12; i += 2)
            store_two(b + 4 + i, fields[i] | (unsigned)fields[i + 1] << 8);
    }
}

__device__ inline void pack_q6_k(uint8_t *b, const float *v, int lane)
{
    float s = best_scale<2>(v, 0.0f, lanes_extreme<2>(v), -32.0f, -32, 31);
    float most = lanes_max<WARP>(fabsf(s));
    __half d = to_half(most / 127.0f);
    int s8 = round_to(s * inverse(__half2float(d)), -127, 127);
    uint64_t q = eight_q(v, 0.0f, __half2float(d) * (float)s8, -32, 31, 32);
    const uint64_t low = 0x0f0f0f0f0f0f0f0fu, two = 0x0303030303030303u;
    // the same 8 places in the other quarters of the half
    uint64_t q4 = other_lane(q, 4), q8 = other_lane(q, 8), q12 = other_lane(q, 12);
    int next = __shfl_down_sync(0xffffffffu, s8, 2);
    if (!b)
        return;
    int half = lane / 16, quarter = lane / 4 % 4, l = lane % 4 * 8;
    if (quarter < 2)
        store_eight(b + half * 64 + quarter * 32 + l, (q & low) | (q8 & low) << 4);
    if (quarter == 0)
        store_eight(b + 128 + half * 32 + l, (q >> 4 & two) | (q4 >> 4 & two) << 2 |
                                                 (q8 >> 4 & two) << 4 | (q12 >> 4 & two) << 6);
    if (lane % 4 == 0)
        store_two(b + 192 + lane / 2, ((unsigned)s8 & 0xff) | ((unsigned)next & 0xff) << 8);
    if (lane == 0)
        store_two(b + 208, __half_as_ushort(d));
}

template <int T>
__global__ void __launch_bounds__(THREADS) pack(uint8_t *blocks, struct cuda_view w, int64_t n)
{
    constexpr int BLOCK = T == CUDA_QUANT_Q8_0 || T == CUDA_QUANT_Q4_0 ? QUANT_BLOCK : SUPER_BLOCK;
    constexpr int BYTES = T == CUDA_QUANT_Q8_0   ? 34
                          : T == CUDA_QUANT_Q4_0 ? 18
                          : T == CUDA_QUANT_Q4_K ? 144
                                                 : 210;
    int lane = (int)threadIdx.x % WARP;
    int64_t i =
        ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 8; // the lane's first element of all
    float v[8];
#pragma unroll
    for (int j = 0; j < 8; j++)
        v[j] = i < n ? load_f32(w.data, w.is_bf16, i / w.cols * w.stride + i % w.cols + j) : 0.0f;
    uint8_t *b = i < n ? blocks + i / BLOCK * BYTES : NULL;
    if (T == CUDA_QUANT_Q8_0)
        pack_q8_0(b, v, lane);
    if (T == CUDA_QUANT_Q4_0)
        pack_q4_0(b, v, lane);
    if (T == CUDA_QUANT_Q4_K)
        pack_q4_k(b, v, lane);
    if (T == CUDA_QUANT_Q6_K)
        pack_q6_k(b, v, lane);
}

int cuda_quant_pack(void *blocks, enum cuda_quant t, struct cuda_view w, void *stream)
{
    int64_t n = (int64_t)w.rows * w.cols;
    if (n == 0)
        return 0;
    auto kernel = t == CUDA_QUANT_Q8_0   ? pack<CUDA_QUANT_Q8_0>
                  : t == CUDA_QUANT_Q4_0 ? pack<CUDA_QUANT_Q4_0>
                  : t == CUDA_QUANT_Q4_K ? pack<CUDA_QUANT_Q4_K>
                                         : pack<CUDA_QUANT_Q6_K>;
    unsigned count = (unsigned)((n / 8 + THREADS - 1) / THREADS);
    kernel<<<count, THREADS, 0, (cudaStream_t)stream>>>((uint8_t *)blocks, w, n);
    return (int)cudaGetLastError();
}
