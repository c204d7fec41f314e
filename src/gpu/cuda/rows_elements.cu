// SPDX-License-Identifier: MIT
// Operations on elements: copies and look-ups, sums, activations, the splitting of InternLM2's wqkv. One
// thread a group of elements (groups.cuh): 16-byte accesses where bases, strides and columns allow, else
// one element at a time.
#include "gpu/cuda/groups.cuh"

enum { THREADS = 256 };

static unsigned blocks_of(struct cuda_view v, int width)
{
    int64_t n = (int64_t)v.rows * (v.cols / width);
    return (unsigned)((n + THREADS - 1) / THREADS);
}

// The group of this thread; false behind the last.
template <int W> __device__ inline bool own_group(const struct cuda_view &v, int64_t *row, int *col)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int per_row = v.cols / W;
    if (i >= (int64_t)v.rows * per_row)
        return false;
    group_at(i, per_row, row, col);
    *col *= W;
    return true;
}

// ---- copy, embed

template <bool Y, bool X, int W>
__global__ void __launch_bounds__(THREADS)
    copy_group(struct cuda_view y, struct cuda_view x, const int32_t *ids)
{
    int64_t row;
    int col;
    if (!own_group<W>(y, &row, &col))
        return;
    int64_t from = (ids ? ids[row] : row) * x.stride + col, to = row * y.stride + col;
    if constexpr (Y && X && W == 8) // the bits, also those of a NaN
        *(uint4 *)((__nv_bfloat16 *)y.data + to) =
            *(const uint4 *)((const __nv_bfloat16 *)x.data + from);
    else if constexpr (Y && X)
        ((__nv_bfloat16 *)y.data)[to] = ((const __nv_bfloat16 *)x.data)[from];
    else
        store_group<Y, W>(y.data, to, load_group<X, W>(x.data, from));
}

int cuda_embed(struct cuda_view y, struct cuda_view table, const int32_t *ids, void *stream)
{
    static decltype(&copy_group<false, false, 1>) const kernels[2][2][2] =
        GROUP_KERNELS(copy_group);
    if (y.rows == 0 || y.cols == 0)
        return 0;
    bool wide = view_wide(y) && address_wide(table.data) && table.stride % 8 == 0;
    auto kernel = kernels[wide][y.is_bf16][table.is_bf16];
    unsigned n = blocks_of(y, group_width(wide, y.is_bf16, table.is_bf16));
    kernel<<<n, THREADS, 0, (cudaStream_t)stream>>>(y, table, ids);
    return (int)cudaGetLastError();
}

int cuda_copy(struct cuda_view dst, struct cuda_view src, void *stream)
{
    return cuda_embed(dst, src, NULL, stream);
}

// ---- add

template <bool X, bool Y, int W>
__global__ void __launch_bounds__(THREADS)
    add_group(struct cuda_view x, struct cuda_view y, const float *scale)
{
    int64_t row;
    int col;
    if (!own_group<W>(x, &row, &col))
        return;
    group<W> a = load_group<X, W>(x.data, row * x.stride + col);
    group<W> b = load_group<Y, W>(y.data, row * y.stride + col);
    if (scale) {
        group<W> s = load_group<false, W>(scale, col);
#pragma unroll
        for (int j = 0; j < W; j++)
            a.v[j] = fmaf(b.v[j], s.v[j], a.v[j]);
    } else {
#pragma unroll
        for (int j = 0; j < W; j++)
            a.v[j] += b.v[j];
    }
    store_group<X, W>(x.data, row * x.stride + col, a);
}

int cuda_add(struct cuda_view x, struct cuda_view y, const float *scale, void *stream)
{
    static decltype(&add_group<false, false, 1>) const kernels[2][2][2] = GROUP_KERNELS(add_group);
    if (x.rows == 0 || x.cols == 0)
        return 0;
    bool wide = view_wide(x) && address_wide(y.data) && y.stride % 8 == 0 && address_wide(scale);
    auto kernel = kernels[wide][x.is_bf16][y.is_bf16];
    unsigned n = blocks_of(x, group_width(wide, x.is_bf16, y.is_bf16));
    kernel<<<n, THREADS, 0, (cudaStream_t)stream>>>(x, y, scale);
    return (int)cudaGetLastError();
}

int cuda_add_table(struct cuda_view x, const float *t, int t_rows, void *stream)
{
    int step = t_rows == 1 ? x.rows : t_rows; // rows of a launch
    for (int row = 0; row < x.rows; row += step) {
        int64_t skip = row * x.stride * (x.is_bf16 ? 2 : 4);
        struct cuda_view part = {(char *)x.data + skip, x.is_bf16, step, x.cols, x.stride};
        struct cuda_view y = {(void *)t, false, step, x.cols, t_rows == 1 ? 0 : x.cols};
        int status = cuda_add(part, y, NULL, stream);
        if (status)
            return status;
    }
    return 0;
}

// ---- activations

// Exact: x Phi(x) by erfc, which keeps its digits where Phi is small.
__device__ inline float gelu(float x)
{
    return 0.5f * x * erfcf(-x * 0.70710678118654752440f);
}

__device__ inline float silu(float x)
{
    return x / (1.0f + expf(-x));
}

template <bool X, bool UP, int W>
__global__ void __launch_bounds__(THREADS)
    activate_group(struct cuda_view x, struct cuda_view up, bool gated)
{
    int64_t row;
    int col;
    if (!own_group<W>(x, &row, &col))
        return;
    group<W> a = load_group<X, W>(x.data, row * x.stride + col);
    if (gated) {
        group<W> b = load_group<UP, W>(up.data, row * up.stride + col);
#pragma unroll
        for (int j = 0; j < W; j++)
            a.v[j] = silu(a.v[j]) * b.v[j];
    } else {
#pragma unroll
        for (int j = 0; j < W; j++)
            a.v[j] = gelu(a.v[j]);
    }
    store_group<X, W>(x.data, row * x.stride + col, a);
}

static int activate(struct cuda_view x, struct cuda_view up, bool gated, void *stream)
{
    static decltype(&activate_group<false, false, 1>) const kernels[2][2][2] =
        GROUP_KERNELS(activate_group);
    if (x.rows == 0 || x.cols == 0)
        return 0;
    bool wide = view_wide(x) && address_wide(up.data) && up.stride % 8 == 0;
    auto kernel = kernels[wide][x.is_bf16][up.is_bf16];
    unsigned n = blocks_of(x, group_width(wide, x.is_bf16, up.is_bf16));
    kernel<<<n, THREADS, 0, (cudaStream_t)stream>>>(x, up, gated);
    return (int)cudaGetLastError();
}

int cuda_gelu(struct cuda_view x, void *stream)
{
    return activate(x, x, false, stream);
}

int cuda_silu_mul(struct cuda_view gate, struct cuda_view up, void *stream)
{
    return activate(gate, up, true, stream);
}

// ---- wqkv

struct split {
    struct cuda_view q, k, v, qkv;
    int d_head, n_share; // query heads of one key head
};

template <bool X, int W> __global__ void __launch_bounds__(THREADS) split_group(struct split s)
{
    int64_t row;
    int col;
    if (!own_group<W>(s.qkv, &row, &col))
        return;
    int head = col / s.d_head, at = col % s.d_head; // a head of any of the three
    int kv = head / (s.n_share + 2), member = head % (s.n_share + 2);
    struct cuda_view to = member < s.n_share ? s.q : member == s.n_share ? s.k : s.v;
    if (member < s.n_share)
        kv = kv * s.n_share + member;
    int64_t i = row * to.stride + (int64_t)kv * s.d_head + at;
    group<W> g = load_group<X, W>(s.qkv.data, row * s.qkv.stride + col);
    if (to.is_bf16)
        store_group<true, W>(to.data, i, g);
    else
        store_group<false, W>(to.data, i, g);
}

int cuda_split_wqkv(struct cuda_view q, struct cuda_view k, struct cuda_view v,
                    struct cuda_view qkv, int d_head, void *stream)
{
    static decltype(&split_group<false, 1>) const kernels[2][2] = {
        {split_group<false, 1>, split_group<true, 1>},
        {split_group<false, 8>, split_group<true, 8>},
    };
    if (qkv.rows == 0 || qkv.cols == 0)
        return 0;
    struct split s = {q, k, v, qkv, d_head, q.cols / k.cols};
    bool wide = view_wide(q) && view_wide(k) && view_wide(v) && view_wide(qkv) && d_head % 8 == 0;
    auto kernel = kernels[wide][qkv.is_bf16];
    kernel<<<blocks_of(qkv, wide ? 8 : 1), THREADS, 0, (cudaStream_t)stream>>>(s);
    return (int)cudaGetLastError();
}
