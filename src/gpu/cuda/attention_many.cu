// SPDX-License-Identifier: MIT
// Attention of many query rows on tensor cores: y = softmax(scale q k^T) v, block of keys after block of keys
// with a running maximum and sum per row (Milakov and Gimelshein 2018; Dao et al., FlashAttention, 2022).
//
// One block of 4 warps has 64 or 128 query rows of one head; a warp has 16 or 32 of them. Keys and values come
// 64 at a time, the next 64 while these are multiplied. On Hopper attention_hopper.cu is used instead.
//
// Easy to get wrong:
// - a row's bits may not depend on the tile it is in: keys are cut at multiples of 64 from 0 in every form, and
//   a key that a row does not see adds an exact zero to its sums;
// - heads of 88 are 96 wide in shared memory: the missing pieces are zero-filled, never read from the next head;
// - the sum is of the probabilities before their rounding to bf16.
#include <math.h>

#include "gpu/cuda/attention_tile.cuh"

enum {
    KEYS = 64, // keys in a block of keys
    TAIL = 16, // a last block of at most so many keys is multiplied as so many
    N_WARP = 4,
    THREADS = N_WARP * WARP,
};

// What a warp keeps of its M * 16 rows. A lane has rows g = lane / 4 and g + 8 of each 16: index 2 m + half.
template <int D, int M> struct rows_state {
    float out[M][D / 8][4];
    float max[2 * M]; // of the scores, not yet scaled
    float sum[2 * M]; // of this lane's columns
};

// One block of N keys: scores, probabilities, products. limit[r]: keys from here on are not seen by row r,
// counted from the block's first; only looked at when MASK.
template <int D, int M, int N, bool MASK, int ROWS>
__device__ inline void keys_step(struct rows_state<D, M> *st, uint8_t *q, uint8_t *k, uint8_t *v, int q_row,
                                 const int *limit, float scale)
{
    int lane = threadIdx.x % WARP;
    float s[M][N / 8][4];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[m][n][e] = 0.0f;
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            ldmatrix4(a[m], piece_of(q, ROWS, q_row + 16 * m + lane % 16, 2 * c + lane / 16));
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            uint32_t b[4]; // keys 0..7: columns 0..7, 8..15; keys 8..15 likewise
            ldmatrix4(b, piece_of(k, KEYS, 16 * n + lane / 16 * 8 + lane % 8, 2 * c + lane / 8 % 2));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(s[m][2 * n], a[m], b);
                mma_bf16(s[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
    if (MASK) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int n = 0; n < N / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (8 * n + 2 * (lane % 4) + e % 2 >= limit[2 * m + e / 2])
                        s[m][n][e] = -INFINITY;
    }
#pragma unroll
    for (int r = 0; r < 2 * M; r++) {
        const int m = r / 2, half = r % 2 * 2;
        float max = st->max[r];
#pragma unroll
        for (int n = 0; n < N / 8; n++)
            max = fmaxf(max, fmaxf(s[m][n][half], s[m][n][half + 1]));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
        // every row sees key 0, so that max is a number from the first block on
        float old = exp2_fast((st->max[r] - max) * scale), shift = max * scale, sum = 0.0f;
        st->max[r] = max;
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            s[m][n][half] = exp2_fast(fmaf(s[m][n][half], scale, -shift));
            s[m][n][half + 1] = exp2_fast(fmaf(s[m][n][half + 1], scale, -shift));
            sum += s[m][n][half] + s[m][n][half + 1];
        }
        st->sum[r] = fmaf(st->sum[r], old, sum);
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            st->out[m][n][half] *= old;
            st->out[m][n][half + 1] *= old;
        }
    }
#pragma unroll
    for (int c = 0; c < N / 16; c++) {
        uint32_t a[M][4]; // the accumulator's places of two neighbouring 8 columns are those of a
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                a[m][e] = pack_bf16(s[m][2 * c + e / 2][e % 2 * 2], s[m][2 * c + e / 2][e % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4]; // columns 0..7: keys 0..7, 8..15; columns 8..15 likewise
            ldmatrix4_transposed(b, piece_of(v, KEYS, 16 * c + lane % 16, 2 * n + lane / 16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_bf16(st->out[m][2 * n], a[m], b);
                mma_bf16(st->out[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

// grid: tiles of query rows (the last, longest in causal form, first), heads, sequences
template <int D, int M> __global__ void __launch_bounds__(THREADS, 2) many_kernel(const struct many p)
{
    const int ROWS = N_WARP * 16 * M, TILE_BYTES = KEYS * D * 2;
    int head = blockIdx.y, lane = threadIdx.x % WARP;
    int row0 = tile_row(&p, ROWS), warp_row = (int)threadIdx.x / WARP * 16 * M;
    int64_t q0 = (int64_t)blockIdx.z * p.n_q + row0, k0 = (int64_t)blockIdx.z * p.n_k;
    const __nv_bfloat16 *k = p.k + k0 * p.k_stride + head / p.group * p.d_head;
    const __nv_bfloat16 *v = p.v + k0 * p.v_stride + head / p.group * p.d_head;
    uint8_t *q_tile = dynamic_shared(), *kv = q_tile + ROWS * D * 2; // K, V, next K, next V

    // a row past the last is computed like the others and not stored
    int n_key = min(p.n_k, p.first_pos + row0 + ROWS), n_block = (n_key + KEYS - 1) / KEYS;
    load_tile<D, ROWS, THREADS>(q_tile, p.q + q0 * p.q_stride + head * p.d_head, p.q_stride, p.n_q - row0, p.d_head);
    load_tile<D, KEYS, THREADS>(kv, k, p.k_stride, p.n_k, p.d_head);
    load_tile<D, KEYS, THREADS>(kv + TILE_BYTES, v, p.v_stride, p.n_k, p.d_head);
    copies_commit();

    struct rows_state<D, M> st;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                st.out[m][n][e] = 0.0f;
#pragma unroll
    for (int r = 0; r < 2 * M; r++) {
        st.max[r] = -INFINITY;
        st.sum[r] = 0.0f;
    }
    bool idle = row0 + warp_row >= p.n_q;
    int first_limit = min(p.n_k, p.first_pos + row0 + warp_row + 1); // of the warp's first row
    for (int b = 0; b < n_block; b++) {
        int key0 = b * KEYS, next = key0 + KEYS;
        uint8_t *now = kv + b % 2 * 2 * TILE_BYTES;
        copies_wait_all();
        __syncthreads(); // this block of keys is here, and nobody reads the one before any more
        if (b + 1 < n_block) {
            uint8_t *to = kv + (b + 1) % 2 * 2 * TILE_BYTES;
            load_tile<D, KEYS, THREADS>(to, k + next * p.k_stride, p.k_stride, p.n_k - next, p.d_head);
            load_tile<D, KEYS, THREADS>(to + TILE_BYTES, v + next * p.v_stride, p.v_stride, p.n_k - next, p.d_head);
            copies_commit();
        }
        if (idle)
            continue;
        if (first_limit >= next) {
            keys_step<D, M, KEYS, false, ROWS>(&st, q_tile, now, now + TILE_BYTES, warp_row, NULL, p.scale);
            continue;
        }
        int limit[2 * M];
#pragma unroll
        for (int r = 0; r < 2 * M; r++)
            limit[r] = min(p.n_k, p.first_pos + row0 + warp_row + 16 * (r / 2) + 8 * (r % 2) + lane / 4 + 1) - key0;
        if (p.n_k - key0 <= TAIL)
            keys_step<D, M, TAIL, true, ROWS>(&st, q_tile, now, now + TILE_BYTES, warp_row, limit, p.scale);
        else
            keys_step<D, M, KEYS, true, ROWS>(&st, q_tile, now, now + TILE_BYTES, warp_row, limit, p.scale);
    }
    if (idle)
        return;
    __nv_bfloat16 *y = p.y + (int64_t)blockIdx.z * p.n_q * p.y_stride + head * p.d_head;
#pragma unroll
    for (int r = 0; r < 2 * M; r++)
        row_store<D>(&p, st.out[r / 2], r % 2, st.sum[r], y, row0 + warp_row + 16 * (r / 2) + 8 * (r % 2) + lane / 4);
}

template <int D, int M> static int launch_many(struct many p, void *stream)
{
    const int rows = N_WARP * 16 * M;
    p.n_tile = (p.n_q + rows - 1) / rows;
    return launch(many_kernel<D, M>, dim3(p.n_tile, p.n_head, p.n_seq), THREADS, (size_t)(rows + 4 * KEYS) * D * 2,
                  stream, p);
}

// Large tiles read keys half as often; small ones are for calls that would leave processors idle.
template <int D> static int launch_width(const struct many *p, int n_multi, void *stream)
{
    int64_t large = ((int64_t)p->n_q + 127) / 128 * p->n_head * p->n_seq;
    return large < 2 * n_multi ? launch_many<D, 1>(*p, stream) : launch_many<D, 2>(*p, stream);
}

static bool prefer_portable;

void cuda_attention_prefer_portable(bool portable)
{
    prefer_portable = portable;
}

int cuda_attention_many(const struct cuda_attention *a, void *stream)
{
    int device = 0, n_multi = 1, e = cudaGetDevice(&device);
    if (!e)
        e = cudaDeviceGetAttribute(&n_multi, cudaDevAttrMultiProcessorCount, device);
    if (e || a->n_q == 0 || a->n_seq == 0)
        return e;
    struct many p;
    p.q = (const __nv_bfloat16 *)a->q.data;
    p.k = (const __nv_bfloat16 *)a->k.data;
    p.v = (const __nv_bfloat16 *)a->v.data;
    p.y = (__nv_bfloat16 *)a->y.data;
    p.q_stride = a->q.stride;
    p.k_stride = a->k.stride;
    p.v_stride = a->v.stride;
    p.y_stride = a->y.stride;
    p.n_q = a->n_q;
    p.n_k = a->n_k;
    p.n_tile = 0;
    p.group = a->n_head / a->n_kv;
    p.d_head = a->d_head;
    p.n_head = a->n_head;
    p.n_seq = a->n_seq;
    p.first_pos = a->causal ? a->first_pos : a->n_k;
    p.scale = a->scale * 1.4426950408889634f; // log2(e)
    if (!prefer_portable && attention_hopper_here(device))
        return attention_hopper(&p, n_multi, stream);
    if (a->d_head <= 64)
        return launch_width<64>(&p, n_multi, stream);
    if (a->d_head <= 96)
        return launch_width<96>(&p, n_multi, stream);
    return launch_width<128>(&p, n_multi, stream);
}
