// SPDX-License-Identifier: MIT
// RMS norm and layer norm. A row is read once and kept in registers between the passes: up to WARP_COLS
// columns by a warp, up to BLOCK_COLS by a block, each thread some groups (groups.cuh); a longer row is
// read again from memory. Which of them is chosen depends on columns, types and alignment alone.
//
// y may be x: an element is written by the thread that read it, after every thread of the row has read.
#include "gpu/cuda/groups.cuh"

enum {
    THREADS = 256,
    WARP_FLOATS = 48, // of a row in the registers of a thread
    BLOCK_FLOATS = 32,
    WARP_COLS = WARP * WARP_FLOATS,
    BLOCK_COLS = THREADS * BLOCK_FLOATS,
};

struct norm {
    struct cuda_view y, x;
    const float *w, *b; // b: layer norm only
    float eps;
    bool centre; // layer norm
};

// One norm, or two of the same shape, type and alignment at once: blockIdx.y says which.
struct norms {
    struct norm of[2];
};

// Sum over the threads that share a row.
template <bool WHOLE_BLOCK> __device__ inline float row_sum(float v, float *shared)
{
    return WHOLE_BLOCK ? block_sum(v, shared) : warp_sum(v);
}

template <bool Y, int W>
__device__ inline void store_normed(const struct norm &a, int64_t row, int col, group<W> g,
                                    float mean, float f)
{
    group<W> w = load_group<false, W>(a.w, col);
    if (a.centre) {
        group<W> b = load_group<false, W>(a.b, col);
#pragma unroll
        for (int j = 0; j < W; j++)
            g.v[j] = fmaf((g.v[j] - mean) * f, w.v[j], b.v[j]);
    } else {
#pragma unroll
        for (int j = 0; j < W; j++)
            g.v[j] = g.v[j] * f * w.v[j];
    }
    store_group<Y, W>(a.y.data, row * a.y.stride + col, g);
}

// A row by SHARE threads (a warp or the block), FLOATS columns in each.
template <bool Y, bool X, int W, int SHARE, int FLOATS>
__device__ inline void norm_kept(const struct norm &a)
{
    constexpr int N = FLOATS / W, STEP = SHARE * W;
    __shared__ float shared[WARP];
    int64_t row = (int64_t)blockIdx.x * (THREADS / SHARE) + threadIdx.x / SHARE;
    if (row >= a.x.rows)
        return; // the whole warp, or never
    int first = (int)(threadIdx.x % SHARE) * W, cols = a.x.cols;
    group<W> g[N];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++)
        if (first + i * STEP < cols)
            g[i] = load_group<X, W>(a.x.data, row * a.x.stride + first + i * STEP);
    float mean = 0.0f;
    if (a.centre) {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (first + i * STEP < cols)
#pragma unroll
                for (int j = 0; j < W; j++)
                    sum += g[i].v[j];
        mean = row_sum<(SHARE > WARP)>(sum, shared) / (float)cols;
    }
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++)
        if (first + i * STEP < cols)
#pragma unroll
            for (int j = 0; j < W; j++)
                sum = fmaf(g[i].v[j] - mean, g[i].v[j] - mean, sum);
    sum = row_sum<(SHARE > WARP)>(sum, shared);
    float f = 1.0f / sqrtf(sum / (float)cols + a.eps);
#pragma unroll
    for (int i = 0; i < N; i++)
        if (first + i * STEP < cols)
            store_normed<Y, W>(a, row, first + i * STEP, g[i], mean, f);
}

template <bool Y, bool X, int W>
__global__ void __launch_bounds__(THREADS) norm_by_warp(struct norms a)
{
    norm_kept<Y, X, W, WARP, WARP_FLOATS>(a.of[blockIdx.y]);
}

template <bool Y, bool X, int W>
__global__ void __launch_bounds__(THREADS) norm_by_block(struct norms a)
{
    norm_kept<Y, X, W, THREADS, BLOCK_FLOATS>(a.of[blockIdx.y]);
}

template <bool Y, bool X, int W> __global__ void __launch_bounds__(THREADS) norm_long(struct norms both)
{
    const struct norm &a = both.of[blockIdx.y];
    constexpr int STEP = THREADS * W;
    __shared__ float shared[WARP];
    int64_t row = blockIdx.x;
    int first = (int)threadIdx.x * W, cols = a.x.cols;
    float sum = 0.0f, mean = 0.0f;
    if (a.centre) {
        for (int c = first; c < cols; c += STEP) {
            group<W> g = load_group<X, W>(a.x.data, row * a.x.stride + c);
#pragma unroll
            for (int j = 0; j < W; j++)
                sum += g.v[j];
        }
        mean = block_sum(sum, shared) / (float)cols;
    }
    sum = 0.0f;
    for (int c = first; c < cols; c += STEP) {
        group<W> g = load_group<X, W>(a.x.data, row * a.x.stride + c);
#pragma unroll
        for (int j = 0; j < W; j++)
            sum = fmaf(g.v[j] - mean, g.v[j] - mean, sum);
    }
    sum = block_sum(sum, shared);
    float f = 1.0f / sqrtf(sum / (float)cols + a.eps);
    for (int c = first; c < cols; c += STEP) {
        group<W> g = load_group<X, W>(a.x.data, row * a.x.stride + c);
        store_normed<Y, W>(a, row, c, g, mean, f);
    }
}

static bool is_wide(const struct norm *a)
{
    return view_wide(a->y) && view_wide(a->x) && address_wide(a->w) && address_wide(a->b);
}

static int run_norms(const struct norms *both, unsigned count, void *stream)
{
    static decltype(&norm_long<false, false, 1>)
        const by_warp[2][2][2] = GROUP_KERNELS(norm_by_warp),
              by_block[2][2][2] = GROUP_KERNELS(norm_by_block),
              by_memory[2][2][2] = GROUP_KERNELS(norm_long);
    const struct norm *a = &both->of[0];
    if (a->x.rows == 0 || a->x.cols == 0)
        return 0;
    bool wide = is_wide(a), y = a->y.is_bf16, x = a->x.is_bf16;
    auto kernel = a->x.cols <= WARP_COLS    ? by_warp[wide][y][x]
                  : a->x.cols <= BLOCK_COLS ? by_block[wide][y][x]
                                            : by_memory[wide][y][x];
    int rows = a->x.cols <= WARP_COLS ? THREADS / WARP : 1;
    unsigned n = (unsigned)((a->x.rows + (int64_t)rows - 1) / rows);
    kernel<<<dim3(n, count), THREADS, 0, (cudaStream_t)stream>>>(*both);
    return (int)cudaGetLastError();
}

int cuda_rms_norm(struct cuda_view y, struct cuda_view x, const float *w, float eps, void *stream)
{
    struct norms a = {{{y, x, w, NULL, eps, false}}};
    return run_norms(&a, 1, stream);
}

int cuda_rms_norm2(struct cuda_view a, const float *a_w, struct cuda_view b, const float *b_w, float eps,
                   void *stream)
{
    struct norms both = {{{a, a, a_w, NULL, eps, false}, {b, b, b_w, NULL, eps, false}}};
    if (a.rows == b.rows && a.cols == b.cols && a.is_bf16 == b.is_bf16 && is_wide(&both.of[0]) == is_wide(&both.of[1]))
        return run_norms(&both, 2, stream);
    int rc = cuda_rms_norm(a, a, a_w, eps, stream);
    return rc ? rc : cuda_rms_norm(b, b, b_w, eps, stream);
}

int cuda_layer_norm(struct cuda_view y, struct cuda_view x, const float *w, const float *b,
                    float eps, void *stream)
{
    struct norms a = {{{y, x, w, b, eps, true}}};
    return run_norms(&a, 1, stream);
}
