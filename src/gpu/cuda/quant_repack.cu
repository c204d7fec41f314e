// SPDX-License-Identifier: MIT
// From a file's blocks to planes (once, at upload), and from planes to plain rows (for many rows of x).
// A block may start at any even address: it is read two bytes at a time.
#include "gpu/cuda/quant_planes.cuh"

enum { THREADS = 256 };

int cuda_quant_block(enum cuda_quant t)
{
    return t == CUDA_QUANT_Q8_0 || t == CUDA_QUANT_Q4_0 ? QUANT_BLOCK : SUPER_BLOCK;
}

int cuda_quant_block_bytes(enum cuda_quant t)
{
    return t == CUDA_QUANT_Q8_0 ? 34 : t == CUDA_QUANT_Q4_0 ? 18 : t == CUDA_QUANT_Q4_K ? 144 : 210;
}

size_t cuda_quant_bytes(enum cuda_quant t, int n_out, int k)
{
    return quant_planes_of(t, n_out, k, NULL).bytes;
}

static unsigned blocks_of(int64_t n)
{
    return (unsigned)((n + THREADS - 1) / THREADS);
}

// ---- blocks to planes: a thread for 32 elements

__device__ inline unsigned two_bytes(const uint8_t *p)
{
    return *(const uint16_t *)p;
}

__device__ inline unsigned four_bytes(const uint8_t *p)
{
    return two_bytes(p) | two_bytes(p + 2) << 16;
}

// s and m of the i-th of 8 parts of a Q4_K block; p: its 12 bytes.
__device__ inline unsigned scale_field(const uint8_t *p, int i)
{
    unsigned s, m;
    if (i < 4) {
        s = p[i] & 63;
        m = p[i + 4] & 63;
    } else {
        s = (p[i + 4] & 15) | (p[i - 4] >> 6) << 4;
        m = p[i + 4] >> 4 | (p[i] >> 6) << 4;
    }
    return s | m << 6;
}

// 32 nibbles, the half `high` of each of 32 bytes, as in a Q4_0 block.
__device__ inline uint4 fold_nibbles(const uint8_t *p, bool high)
{
    unsigned w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned a = four_bytes(p + 4 * i) >> (high ? 4 : 0) & 0x0f0f0f0fu;
        unsigned b = four_bytes(p + 16 + 4 * i) >> (high ? 4 : 0) & 0x0f0f0f0fu;
        w[i] = a | b << 4;
    }
    return make_uint4(w[0], w[1], w[2], w[3]);
}

__device__ inline void repack_q4_k(const struct quant_planes &p, int64_t at, const uint8_t *b,
                                   int part)
{
    p.q[at] = fold_nibbles(b + 16 + part / 2 * 32, part % 2);
    if (part != 0)
        return;
    unsigned w[3] = {0, 0, 0};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        unsigned field = scale_field(b + 4, i), bit = 12u * (unsigned)i;
        w[bit / 32] |= field << bit % 32;
        if (bit % 32 > 20)
            w[bit / 32 + 1] |= field >> (32 - bit % 32);
    }
    p.super[at / 8] = make_uint4(four_bytes(b), w[0], w[1], w[2]);
}

__device__ inline void repack_q6_k(const struct quant_planes &p, int64_t at, const uint8_t *b,
                                   int part)
{
    int half = part / 4, quarter = part % 4; // of the block's 256, of the half's 128
    p.q[at] = fold_nibbles(b + half * 64 + quarter % 2 * 32, quarter / 2);
    const uint8_t *qh = b + 128 + half * 32;
    unsigned w[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int f = 0; f < 4; f++) {
            unsigned bits = four_bytes(qh + 16 * i + 4 * f) >> 2 * quarter & 0x03030303u;
            w[i] |= (bits ^ 0x02020202u) << 2 * f; // q - 32 in 6 bits: the highest one turned
        }
    p.high[at] = make_uint2(w[0], w[1]);
    p.pair[at] = (uint16_t)two_bytes(b + 192 + 2 * part);
    if (part == 0)
        p.d[at / 8] = __ushort_as_half((unsigned short)two_bytes(b + 208));
}

__global__ void __launch_bounds__(THREADS) repack(struct quant_planes p, enum cuda_quant t,
                                                  const uint8_t *blocks, int64_t first, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    int64_t at = first + i; // 32 elements each
    if (t == CUDA_QUANT_Q8_0) {
        const uint8_t *b = blocks + i * 34;
        p.d[at] = __ushort_as_half((unsigned short)two_bytes(b));
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const uint8_t *q = b + 2 + 16 * j;
            p.q[at * 2 + j] =
                make_uint4(four_bytes(q), four_bytes(q + 4), four_bytes(q + 8), four_bytes(q + 12));
        }
    } else if (t == CUDA_QUANT_Q4_0) {
        const uint8_t *b = blocks + i * 18;
        p.d[at] = __ushort_as_half((unsigned short)two_bytes(b));
        p.q[at] = make_uint4(four_bytes(b + 2), four_bytes(b + 6), four_bytes(b + 10),
                             four_bytes(b + 14));
    } else if (t == CUDA_QUANT_Q4_K) {
        repack_q4_k(p, at, blocks + i / 8 * 144, (int)(i % 8));
    } else {
        repack_q6_k(p, at, blocks + i / 8 * 210, (int)(i % 8));
    }
}

int cuda_quant_repack(const struct cuda_quant_weight *w, const void *blocks, int first, int rows,
                      void *stream)
{
    struct quant_planes p = quant_planes_of(w->type, w->n_out, w->k, w->planes);
    int64_t per_row = w->k / QUANT_BLOCK, n = rows * per_row;
    if (n == 0)
        return 0;
    repack<<<blocks_of(n), THREADS, 0, (cudaStream_t)stream>>>(p, w->type, (const uint8_t *)blocks,
                                                               first * per_row, n);
    return (int)cudaGetLastError();
}

// ---- planes to rows: a thread for 8 elements

// Roundings as in the formats' own f32 arithmetic: d s first, then times q, then minus dmin m.
template <int T>
__global__ void __launch_bounds__(THREADS)
    unpack(struct cuda_view out, struct quant_planes p, int64_t first, const int32_t *ids, int per_row)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= (int64_t)out.rows * per_row)
        return;
    int64_t row = i / per_row, from = first + (ids ? ids[row] : row);
    int c = (int)(i % per_row) * 8; // column
    constexpr int UNIT = T == CUDA_QUANT_Q8_0 ? 16 : QUANT_BLOCK;
    int u = c / UNIT, word = c % UNIT / 4;
    struct quant_unit o = quant_open<T>(quant_load<T>(p, from, u), u);
    unsigned w0 = 0, w1 = 0;
#pragma unroll
    for (int j = 0; j < UNIT / 4; j += 2)
        if (j == word) {
            w0 = (unsigned)o.w[j];
            w1 = (unsigned)o.w[j + 1];
        }
    float a = c % QUANT_BLOCK < 16 ? o.a[0] : o.a[1], v[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        int q = (int8_t)((j < 4 ? w0 : w1) >> 8 * (j % 4));
        if (T == CUDA_QUANT_Q4_0)
            v[j] = __fmul_rn(a, (float)(q - 8));
        else
            v[j] = __fadd_rn(__fmul_rn(a, (float)q), o.b);
    }
    int64_t at = row * out.stride + c;
    if (out.is_bf16 && ((uintptr_t)out.data % 16 == 0) && out.stride % 8 == 0) {
        unsigned w[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            w[j] = (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(v[2 * j])) |
                   (unsigned)__bfloat16_as_ushort(__float2bfloat16_rn(v[2 * j + 1])) << 16;
        *(uint4 *)((__nv_bfloat16 *)out.data + at) = make_uint4(w[0], w[1], w[2], w[3]);
    } else {
#pragma unroll
        for (int j = 0; j < 8; j++)
            store_f32(out.data, out.is_bf16, at + j, v[j]);
    }
}

static int unpack_rows(struct cuda_view out, const struct cuda_quant_weight *w, int first, const int32_t *ids,
                       void *stream)
{
    struct quant_planes p = quant_planes_of(w->type, w->n_out, w->k, w->planes);
    int per_row = w->k / 8;
    if (out.rows == 0 || per_row == 0)
        return 0;
    auto kernel = w->type == CUDA_QUANT_Q8_0   ? unpack<CUDA_QUANT_Q8_0>
                  : w->type == CUDA_QUANT_Q4_0 ? unpack<CUDA_QUANT_Q4_0>
                  : w->type == CUDA_QUANT_Q4_K ? unpack<CUDA_QUANT_Q4_K>
                                               : unpack<CUDA_QUANT_Q6_K>;
    kernel<<<blocks_of((int64_t)out.rows * per_row), THREADS, 0, (cudaStream_t)stream>>>(
        out, p, first, ids, per_row);
    return (int)cudaGetLastError();
}

int cuda_quant_unpack(struct cuda_view out, const struct cuda_quant_weight *w, int first,
                      void *stream)
{
    return unpack_rows(out, w, first, NULL, stream);
}

int cuda_quant_embed(struct cuda_view out, const struct cuda_quant_weight *w, const int32_t *ids,
                     void *stream)
{
    return unpack_rows(out, w, 0, ids, stream);
}
