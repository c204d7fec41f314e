// SPDX-License-Identifier: MIT
// What both forms of attention_many share: the job, tiles in shared memory, the end of a row.
//
// A tile lies in strips of 32 columns: a row of a strip is 64 bytes, its four 16-byte pieces permuted by bits 1 and
// 2 of the row. ldmatrix meets no bank conflict in it, and it is the "64-byte swizzle" of wgmma, when tiles begin
// at multiples of 512 bytes.
#ifndef IV_GPU_CUDA_ATTENTION_TILE_CUH
#define IV_GPU_CUDA_ATTENTION_TILE_CUH

#include "gpu/cuda/machine.cuh"

enum { STRIP_ROW = 64 }; // bytes of a row of a strip

struct many {
    const __nv_bfloat16 *q, *k, *v;
    __nv_bfloat16 *y;
    int64_t q_stride, k_stride, v_stride, y_stride;
    int n_q, n_k, n_tile, group, d_head;
    int n_head, n_seq;
    int first_pos; // row i sees the first first_pos + i + 1 keys; n_k: every row sees all
    float scale;   // times log2(e)
};

// 16-byte piece `piece` (8 columns) of row `row` of a tile of `rows` rows.
__device__ inline uint8_t *piece_of(uint8_t *tile, int rows, int row, int piece)
{
    return tile + (piece / 4 * rows + row) * STRIP_ROW + ((piece ^ (row >> 1)) & 3) * 16;
}

// ROWS rows of D columns from global memory, by THREADS threads; rows from n_row on and columns from d_head on become
// zeros and are not read.
template <int D, int ROWS, int THREADS>
__device__ inline void load_tile(uint8_t *tile, const __nv_bfloat16 *from, int64_t stride, int n_row, int d_head)
{
    const int STEP = THREADS / 4;
    int piece = threadIdx.x % 4, row0 = threadIdx.x / 4;
#pragma unroll
    for (int j = 0; j < (ROWS + STEP - 1) / STEP; j++) {
        int row = row0 + j * STEP;
        if (ROWS % STEP != 0 && row >= ROWS)
            break;
        const __nv_bfloat16 *at = from + (row < n_row ? row : 0) * stride + piece * 8;
#pragma unroll
        for (int strip = 0; strip < D / 32; strip++) {
            bool real = row < n_row && strip * 32 + piece * 8 < d_head;
            copy16_async(piece_of(tile, ROWS, row, strip * 4 + piece), real ? at + strip * 32 : from, real);
        }
    }
}

// The longest tiles of the causal form first.
__device__ inline int tile_row(const struct many *p, int rows)
{
    return (p->n_tile - 1 - (int)blockIdx.x) * rows;
}

// One row of y from the accumulators of 16 rows: out[n][2 half], out[n][2 half + 1] are columns 8 n + 2 (lane % 4) and
// the next. sum: of this lane's columns only.
template <int D>
__device__ inline void row_store(const struct many *p, const float out[D / 8][4], int half, float sum,
                                 __nv_bfloat16 *y, int row)
{
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (row >= p->n_q)
        return;
    float f = 1.0f / sum;
    __nv_bfloat16 *to = y + row * p->y_stride + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int n = 0; n < D / 8; n++)
        if (8 * n < p->d_head)
            *(uint32_t *)(to + 8 * n) = pack_bf16(out[n][2 * half] * f, out[n][2 * half + 1] * f);
}

// attention_hopper.cu: whether this device and build have that form, and its launch.
bool attention_hopper_here(int device);
int attention_hopper(const struct many *p, int n_multi, void *stream);

#endif
