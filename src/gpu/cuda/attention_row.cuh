// SPDX-License-Identifier: MIT
// One warp, one query row and head, keys [from, to): running maximum, sum and weighted values in f32. A lane has
// columns lane, lane + 32, ... Keys are taken eight at a time from `from` on.
#ifndef IV_GPU_CUDA_ATTENTION_ROW_CUH
#define IV_GPU_CUDA_ATTENTION_ROW_CUH

#include <math.h>

#include "gpu/cuda/device.cuh"

template <int COLS> struct one_row {
    float q[COLS]; // scaled; zero in columns from d_head on
    float out[COLS];
    float max, sum;
};

template <int COLS>
__device__ inline void row_start(struct one_row<COLS> *r, const void *q, bool is_bf16, int64_t at, int d_head,
                                 float scale)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int c = 0; c < COLS; c++) {
        r->q[c] = c * WARP + lane < d_head ? load_f32(q, is_bf16, at + c * WARP + lane) * scale : 0.0f;
        r->out[c] = 0.0f;
    }
    r->max = -INFINITY;
    r->sum = 0.0f;
}

// k, v: the first element of the head in key 0.
template <int COLS, bool K_BF16, bool V_BF16>
__device__ inline void row_keys(struct one_row<COLS> *r, const void *k, int64_t k_stride, const void *v,
                                int64_t v_stride, int d_head, int from, int to)
{
    enum { BATCH = 8 };
    int lane = threadIdx.x % WARP;
    for (int key = from; key < to; key += BATCH) {
        float s[BATCH], max = r->max;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int64_t at = min(key + j, to - 1) * k_stride + lane;
            s[j] = 0.0f;
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (c * WARP + lane < d_head)
                    s[j] = fmaf(r->q[c], load_f32(k, K_BF16, at + c * WARP), s[j]);
        }
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            s[j] = warp_sum(s[j]);
            if (key + j >= to)
                s[j] = -INFINITY;
            max = fmaxf(max, s[j]);
        }
        float old = expf(r->max - max);
        r->max = max;
        r->sum *= old;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            s[j] = expf(s[j] - max);
            r->sum += s[j];
        }
#pragma unroll
        for (int c = 0; c < COLS; c++)
            r->out[c] *= old;
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            int64_t at = min(key + j, to - 1) * v_stride + lane;
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (c * WARP + lane < d_head)
                    r->out[c] = fmaf(s[j], load_f32(v, V_BF16, at + c * WARP), r->out[c]);
        }
    }
}

#endif
