// SPDX-License-Identifier: MIT
// Attention with nothing clever in it: one warp per query row and head, f32 arithmetic, any types. The witness of
// attention_many, and what f32 mode runs. The four warps of a block are neighbouring rows of one head, so that
// keys and values come from the nearest cache three times of four.
#include "gpu/cuda/attention_row.cuh"
#include "gpu/cuda/machine.cuh"

enum { N_WARP = 4 };

// grid: fours of rows, heads, sequences
template <int COLS, bool K_BF16, bool V_BF16>
__global__ void __launch_bounds__(N_WARP *WARP) plain_kernel(const struct cuda_attention a)
{
    int i = blockIdx.x * N_WARP + threadIdx.x / WARP, head = blockIdx.y, lane = threadIdx.x % WARP;
    if (i >= a.n_q)
        return;
    int n = a.causal ? min(a.n_k, a.first_pos + i + 1) : a.n_k;
    int64_t row = (int64_t)blockIdx.z * a.n_q + i, key0 = (int64_t)blockIdx.z * a.n_k;
    int64_t column = head / (a.n_head / a.n_kv) * a.d_head;
    const char *k = (const char *)a.k.data + (key0 * a.k.stride + column) * (K_BF16 ? 2 : 4);
    const char *v = (const char *)a.v.data + (key0 * a.v.stride + column) * (V_BF16 ? 2 : 4);
    struct one_row<COLS> r;
    row_start(&r, a.q.data, a.q.is_bf16, row * a.q.stride + head * a.d_head, a.d_head, a.scale);
    row_keys<COLS, K_BF16, V_BF16>(&r, k, a.k.stride, v, a.v.stride, a.d_head, 0, n);
#pragma unroll
    for (int c = 0; c < COLS; c++)
        if (c * WARP + lane < a.d_head)
            store_f32(a.y.data, a.y.is_bf16, row * a.y.stride + head * a.d_head + c * WARP + lane,
                      r.out[c] / r.sum);
}

template <int COLS> static int launch_plain(const struct cuda_attention *a, void *stream)
{
    dim3 grid((a->n_q + N_WARP - 1) / N_WARP, a->n_head, a->n_seq);
    if (a->k.is_bf16)
        return a->v.is_bf16 ? launch(plain_kernel<COLS, true, true>, grid, N_WARP * WARP, 0, stream, *a)
                            : launch(plain_kernel<COLS, true, false>, grid, N_WARP * WARP, 0, stream, *a);
    return a->v.is_bf16 ? launch(plain_kernel<COLS, false, true>, grid, N_WARP * WARP, 0, stream, *a)
                        : launch(plain_kernel<COLS, false, false>, grid, N_WARP * WARP, 0, stream, *a);
}

int cuda_attention_plain(const struct cuda_attention *a, void *stream)
{
    if (a->n_q == 0 || a->n_seq == 0)
        return cudaSuccess;
    if (a->d_head <= 32)
        return launch_plain<1>(a, stream);
    if (a->d_head <= 64)
        return launch_plain<2>(a, stream);
    if (a->d_head <= 96)
        return launch_plain<3>(a, stream);
    if (a->d_head <= 128)
        return launch_plain<4>(a, stream);
    return launch_plain<8>(a, stream);
}
