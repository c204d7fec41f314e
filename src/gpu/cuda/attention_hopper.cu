// SPDX-License-Identifier: MIT
// attention_many with Hopper's wgmma (compute capability 9.0; needs the target sm_90a). The plan is that of
// attention_many.cu; a warpgroup has 64 query rows. What is different:
//
// The products of values lag one block of keys behind those of the scores, so that the tensor cores have work during
// the softmax:      S_b = q k_b^T  |  y += p_(b-1) v_(b-1)  |  p_b = softmax(S_b)
// While block b is worked on, K of block b + 1 and V of block b are on their way: two places of each.
//
// A row's bits do not depend on the number of warpgroups in a block (1 to 3), each of which works alone.
#include <math.h>

#include "gpu/cuda/attention_tile.cuh"
#include "gpu/cuda/warpgroup.cuh"

enum { GROUP = 128 }; // threads of a warpgroup

// Keys in a block of keys: as many as the registers hold, 168 a thread with three warpgroups.
template <int D> struct hopper_keys {
    enum { N = D == 96 ? 96 : 128 };
};

#if IV_HOPPER

// All that was asked for is in shared memory, of every thread.
__device__ inline void tiles_here(void)
{
    copies_wait_all();
    shared_to_wgmma();
    __syncthreads();
}

// q: this warpgroup's rows; q_strip: bytes between its strips
template <int D, int N>
__device__ inline void scores_start(float s[N / 8][4], uint64_t q, int q_strip, uint64_t k)
{
#pragma unroll
    for (int c = 0; c < D / 16; c++) { // 16 columns are 32 bytes of a strip
        uint64_t q_at = (uint64_t)(c / 2 * q_strip + c % 2 * 32) >> 4;
        uint64_t k_at = (uint64_t)(c / 2 * N * STRIP_ROW + c % 2 * 32) >> 4;
        wgmma_shared<N>(s, q + q_at, k + k_at, c > 0);
    }
    wgmma_commit();
}

template <int D, int N>
__device__ inline void values_start(float out[D / 8][4], const uint32_t p[N / 16][4], uint64_t v)
{
#pragma unroll
    for (int c = 0; c < N / 16; c++)
        wgmma_registers<D>(out, p[c], v + (uint64_t)(c * STRIP_ROW));
    wgmma_commit();
}

// Keys from limit on are not seen by the lane's two rows.
template <int N> __device__ inline void mask_scores(float s[N / 8][4], const int limit[2], int key0)
{
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (key0 + 8 * n + 2 * ((int)threadIdx.x % 4) + e % 2 >= limit[e / 2])
                s[n][e] = -INFINITY;
}

// Scores to probabilities; old: what the sums before are worth now.
template <int N>
__device__ inline void softmax_step(float s[N / 8][4], float max[2], float sum[2], float old[2], float scale)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = max[r], total = 0.0f;
#pragma unroll
        for (int n = 0; n < N / 8; n++)
            top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float shift = top * scale;
        old[r] = exp2_fast((max[r] - top) * scale);
        max[r] = top;
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            s[n][2 * r] = exp2_fast(fmaf(s[n][2 * r], scale, -shift));
            s[n][2 * r + 1] = exp2_fast(fmaf(s[n][2 * r + 1], scale, -shift));
            total += s[n][2 * r] + s[n][2 * r + 1];
        }
        sum[r] = fmaf(sum[r], old[r], total);
    }
}

template <int N> __device__ inline void pack_probabilities(uint32_t p[N / 16][4], const float s[N / 8][4])
{
#pragma unroll
    for (int c = 0; c < N / 16; c++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            p[c][e] = pack_bf16(s[2 * c + e / 2][e % 2 * 2], s[2 * c + e / 2][e % 2 * 2 + 1]);
}

// Once K of block b and V of the one before are here (and what was before them is done with), asks for the next.
template <int D, int N, int THREADS>
__device__ inline void block_load(const struct many *p, const __nv_bfloat16 *k, const __nv_bfloat16 *v,
                                  uint8_t *k_tiles, uint8_t *v_tiles, int b, int n_block)
{
    const int TILE_BYTES = N * D * 2;
    int key0 = b * N, next = key0 + N, now = b % 2 * TILE_BYTES;
    tiles_here();
    if (b + 1 < n_block)
        load_tile<D, N, THREADS>(k_tiles + TILE_BYTES - now, k + next * p->k_stride, p->k_stride, p->n_k - next,
                                 p->d_head);
    load_tile<D, N, THREADS>(v_tiles + now, v + key0 * p->v_stride, p->v_stride, p->n_k - key0, p->d_head);
}

// Scores of a block, and the values of the one before it under way.
template <int D, int N>
__device__ inline void block_start(float s[N / 8][4], float out[D / 8][4], const uint32_t prob[N / 16][4], uint64_t q,
                                   int q_strip, uint64_t k, uint64_t v)
{
    wgmma_fence();
    scores_start<D, N>(s, q, q_strip, k);
    values_start<D, N>(out, prob, v);
    wgmma_wait<1>();
    accumulators_ready<N>(s);
}

// mine: a place in shared memory that nobody reads. The assembler moves the wait in front of the softmax, and with it
// all overlap is gone, unless something that it keeps in front of the wait needs the softmax: a store of its sums.
template <int D, int N>
__device__ inline void block_end(float s[N / 8][4], float out[D / 8][4], uint32_t prob[N / 16][4], float max[2],
                                 float sum[2], float scale, volatile float *mine)
{
    float old[2];
    softmax_step<N>(s, max, sum, old, scale);
    *mine = sum[0] + sum[1];
    wgmma_wait<0>();
    accumulators_ready<D>(out);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            out[n][e] *= old[e / 2];
    pack_probabilities<N>(prob, s);
}

#endif

// grid: tiles of 64 W query rows, heads, sequences
template <int D, int W> __global__ void __launch_bounds__(GROUP *W, W == 1 ? 2 : 1) hopper_kernel(const struct many p)
{
#if IV_HOPPER
    const int N = hopper_keys<D>::N, ROWS = 64 * W, THREADS = GROUP * W, TILE_BYTES = N * D * 2;
    int head = blockIdx.y, group = threadIdx.x / GROUP, row0 = tile_row(&p, ROWS);
    int row = row0 + group * 64 + (int)threadIdx.x % GROUP / WARP * 16 + (int)threadIdx.x % WARP / 4; // and row + 8
    int64_t q0 = (int64_t)blockIdx.z * p.n_q + row0, k0 = (int64_t)blockIdx.z * p.n_k;
    const __nv_bfloat16 *k = p.k + k0 * p.k_stride + head / p.group * p.d_head;
    const __nv_bfloat16 *v = p.v + k0 * p.v_stride + head / p.group * p.d_head;
    uint8_t *q_tile = dynamic_shared(), *k_tiles = q_tile + ROWS * D * 2, *v_tiles = k_tiles + 2 * TILE_BYTES;
    volatile float *mine = (volatile float *)(v_tiles + 2 * TILE_BYTES) + threadIdx.x;

    // a row past the last is computed like the others and not stored
    int n_key = min(p.n_k, p.first_pos + row0 + ROWS), n_block = (n_key + N - 1) / N;
    load_tile<D, ROWS, THREADS>(q_tile, p.q + q0 * p.q_stride + head * p.d_head, p.q_stride, p.n_q - row0, p.d_head);
    load_tile<D, N, THREADS>(k_tiles, k, p.k_stride, p.n_k, p.d_head);

    uint64_t q_at = tile_descriptor(q_tile + group * 64 * STRIP_ROW, 16); // wgmma looks at no strips of q and k
    uint64_t k_at = tile_descriptor(k_tiles, 16), v_at = tile_descriptor(v_tiles, N * STRIP_ROW);
    float s[N / 8][4], out[D / 8][4], max[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f}, old[2];
    uint32_t prob[N / 16][4];
    int limit[2] = {min(p.n_k, p.first_pos + row + 1), min(p.n_k, p.first_pos + row + 9)};
    int full = min(p.n_k, p.first_pos + row0 + 1); // keys that every row of the tile sees

    tiles_here();
    if (n_block > 1)
        load_tile<D, N, THREADS>(k_tiles + TILE_BYTES, k + N * p.k_stride, p.k_stride, p.n_k - N, p.d_head);
    load_tile<D, N, THREADS>(v_tiles, v, p.v_stride, p.n_k, p.d_head);
    wgmma_fence();
    scores_start<D, N>(s, q_at, ROWS * STRIP_ROW, k_at);
    wgmma_wait<0>();
    accumulators_ready<N>(s);
    if (full < N)
        mask_scores<N>(s, limit, 0);
    softmax_step<N>(s, max, sum, old, p.scale);
    pack_probabilities<N>(prob, s);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            out[n][e] = 0.0f;

    // Two loops: products under way across a branch are waited for in front of the softmax, and nothing overlaps.
    int b = 1, n_full = min(n_block, full / N);
    for (; b < n_full; b++) {
        int now = b % 2 * TILE_BYTES;
        block_load<D, N, THREADS>(&p, k, v, k_tiles, v_tiles, b, n_block);
        block_start<D, N>(s, out, prob, q_at, ROWS * STRIP_ROW, k_at + (uint64_t)(now >> 4),
                          v_at + (uint64_t)((TILE_BYTES - now) >> 4));
        block_end<D, N>(s, out, prob, max, sum, p.scale, mine);
    }
    for (; b < n_block; b++) {
        int now = b % 2 * TILE_BYTES;
        block_load<D, N, THREADS>(&p, k, v, k_tiles, v_tiles, b, n_block);
        block_start<D, N>(s, out, prob, q_at, ROWS * STRIP_ROW, k_at + (uint64_t)(now >> 4),
                          v_at + (uint64_t)((TILE_BYTES - now) >> 4));
        mask_scores<N>(s, limit, b * N);
        block_end<D, N>(s, out, prob, max, sum, p.scale, mine);
    }
    tiles_here();
    wgmma_fence();
    values_start<D, N>(out, prob, v_at + (uint64_t)((n_block + 1) % 2 * TILE_BYTES >> 4));
    wgmma_wait<0>();
    accumulators_ready<D>(out);
    __nv_bfloat16 *y = p.y + (int64_t)blockIdx.z * p.n_q * p.y_stride + head * p.d_head;
    row_store<D>(&p, out, 0, sum[0], y, row);
    row_store<D>(&p, out, 1, sum[1], y, row + 8);
#else
    (void)p;
    __trap(); // attention_hopper_here says no
#endif
}

template <int D, int W> static int launch_hopper(struct many p, void *stream)
{
    const int rows = 64 * W, N = hopper_keys<D>::N;
    p.n_tile = (p.n_q + rows - 1) / rows;
    size_t shared = (size_t)(rows + 4 * N) * D * 2 + GROUP * W * sizeof(float);
    return launch(hopper_kernel<D, W>, dim3(p.n_tile, p.n_head, p.n_seq), GROUP * W, shared, stream, p);
}

// Rows of the busiest processor, dearer in blocks of fewer warpgroups, which share a copy of the keys.
static double work_of(const struct many *p, int w, int n_multi)
{
    int64_t blocks = ((int64_t)p->n_q + 64 * w - 1) / (64 * w) * p->n_head * p->n_seq;
    return (double)((blocks + n_multi - 1) / n_multi * 64 * w) * (w == 1 ? 1.15 : w == 2 ? 1.08 : 1.0);
}

template <int D, int MOST> static int launch_width(const struct many *p, int n_multi, void *stream)
{
    double one = work_of(p, 1, n_multi), two = work_of(p, 2, n_multi), most = work_of(p, MOST, n_multi);
    if (most <= one && most <= two)
        return launch_hopper<D, MOST>(*p, stream);
    return one < two ? launch_hopper<D, 1>(*p, stream) : launch_hopper<D, 2>(*p, stream);
}

bool attention_hopper_here(int device)
{
    int major = 0;
    cudaFuncAttributes f;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) || major != 9)
        return false;
    // a build without machine code for it would run what is compiled at load from an older target
    return cudaFuncGetAttributes(&f, (const void *)hopper_kernel<64, 1>) == cudaSuccess && f.binaryVersion == 90;
}

int attention_hopper(const struct many *p, int n_multi, void *stream)
{
    if (p->d_head <= 64)
        return launch_width<64, 3>(p, n_multi, stream);
    if (p->d_head <= 96)
        return launch_width<96, 3>(p, n_multi, stream);
    return launch_width<128, 2>(p, n_multi, stream);
}
