// SPDX-License-Identifier: MIT
// LoRA's products for many rows, t = scale * x A^T, into the columns behind x. A has 64 rows at most, so x is what
// must be read, and a matrix product made for wide results leaves the device idle.
//
// Two kernels. The first splits k into pieces of CHUNK columns: a block takes 16 rows of x and a piece, a warp of it
// WARP_COLUMNS of the piece, all read at once into registers: lane (g, t) takes columns 8t .. 8t+7 of a step of 32, of
// rows g and g+8 of x and row g of each tile of A (linear.cu has the same naming of columns). The second adds up the
// pieces. An output's sum is a chain over the steps of a warp, the warps and the pieces, fixed by d_in alone.
#include "gpu/cuda/device.cuh"
#include "gpu/cuda/machine.cuh"
#include "gpu/cuda/overlap.cuh"

enum {
    WARPS = 8,
    THREADS = WARPS * WARP,
    STEP = 32, // columns: 4 lanes of 8
    STEPS = 2, // of a warp
    WARP_COLUMNS = STEPS * STEP,
    CHUNK = WARPS * WARP_COLUMNS,
    LANE = 8,  // bf16 in 16 bytes
    ROWS = 16, // of x,
    TILE = 8,  // rows of A of one tensor core product
    PAD = 2,   // f32: keeps the lanes' partial sums on different banks
    SUM_THREADS = 128,
};

static int chunk_count(int d_in)
{
    return (d_in + CHUNK - 1) / CHUNK;
}

// Partial sums of rows [row0 + 16 y, ..) and piece x to scratch [pieces][rows][n_lora].
template <int TILES> __global__ void __launch_bounds__(THREADS) lora_pieces(struct cuda_lora_down a)
{
    constexpr int N = TILE * TILES;
    __shared__ float part[WARPS][ROWS][N + PAD];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int row0 = blockIdx.y * ROWS, column = blockIdx.x * CHUNK + warp * WARP_COLUMNS + LANE * t;
    const __nv_bfloat16 *x = (const __nv_bfloat16 *)a.x, *lora = (const __nv_bfloat16 *)a.a;
    const uint4 zeros = make_uint4(0, 0, 0, 0);

    overlap_next();
    uint4 av[STEPS][TILES], xv[STEPS][2];
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            int j = TILE * i + g, c = column + s * STEP;
            av[s][i] = j < a.n_lora && c < a.d_in ? *(const uint4 *)(lora + (int64_t)j * a.d_in + c) : zeros;
        }
    overlap_wait();
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int r = row0 + 8 * i + g, c = column + s * STEP;
            xv[s][i] = r < a.rows && c < a.d_in ? *(const uint4 *)(x + r * a.stride + c) : zeros;
        }

    float sum[TILES][4] = {};
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        uint4 lo = xv[s][0], hi = xv[s][1];
        uint32_t first[4] = {lo.x, hi.x, lo.y, hi.y}, second[4] = {lo.z, hi.z, lo.w, hi.w};
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            uint32_t b0[2] = {av[s][i].x, av[s][i].y}, b1[2] = {av[s][i].z, av[s][i].w};
            mma_bf16(sum[i], first, b0);
            mma_bf16(sum[i], second, b1);
        }
    }
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            part[warp][g + e / 2 * 8][TILE * i + 2 * t + e % 2] = sum[i][e];
    __syncthreads();
    for (int e = threadIdx.x; e < ROWS * N; e += THREADS) {
        int r = e / N, j = e % N;
        if (row0 + r >= a.rows || j >= a.n_lora)
            continue;
        float v = 0.0f;
#pragma unroll
        for (int i = 0; i < WARPS; i++)
            v += part[i][r][j];
        ((float *)a.scratch)[((int64_t)blockIdx.x * a.rows + row0 + r) * a.n_lora + j] = v;
    }
}

__global__ void __launch_bounds__(SUM_THREADS) lora_sum(struct cuda_lora_down a, int n_piece)
{
    overlap_next();
    overlap_wait();
    int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x, n = (int64_t)a.rows * a.n_lora;
    if (i >= n)
        return;
    const float *piece = (const float *)a.scratch + i;
    float v = 0.0f;
#pragma unroll 8
    for (int k = 0; k < n_piece; k++)
        v += piece[k * n];
    int64_t row = i / a.n_lora;
    ((__nv_bfloat16 *)a.x)[row * a.stride + a.d_in + i % a.n_lora] = __float2bfloat16_rn(a.scale * v);
}

static int run_band(const struct cuda_lora_down *a, void *stream)
{
    int n_piece = chunk_count(a->d_in);
    dim3 grid((unsigned)n_piece, (unsigned)((a->rows + ROWS - 1) / ROWS));
    auto *kernel = a->n_lora <= 16   ? lora_pieces<2>
                   : a->n_lora <= 32 ? lora_pieces<4>
                   : a->n_lora <= 48 ? lora_pieces<6>
                                     : lora_pieces<8>;
    int rc = overlap_launch(kernel, grid, THREADS, 0, stream, *a);
    if (rc)
        return rc;
    int64_t n = (int64_t)a->rows * a->n_lora;
    return overlap_launch(lora_sum, dim3((unsigned)((n + SUM_THREADS - 1) / SUM_THREADS)), SUM_THREADS, 0, stream, *a,
                          n_piece);
}

int cuda_lora_down(const struct cuda_lora_down *a, void *stream)
{
    enum { BAND = 65535 * ROWS }; // rows that a grid takes
    if (a->rows <= 0 || a->n_lora <= 0)
        return 0;
    size_t row_bytes = sizeof(float) * (size_t)chunk_count(a->d_in) * (size_t)a->n_lora;
    size_t fit = a->scratch_bytes / row_bytes / ROWS * ROWS;
    int band = fit < (size_t)BAND ? (int)fit : BAND;
    if (band == 0 || a->n_lora > CUDA_LORA_MAX || a->d_in % LANE != 0)
        return cudaErrorInvalidValue;
    for (int r = 0; r < a->rows; r += band) {
        struct cuda_lora_down b = *a;
        b.x = (__nv_bfloat16 *)a->x + r * a->stride;
        b.rows = a->rows - r < band ? a->rows - r : band;
        int rc = run_band(&b, stream);
        if (rc)
            return rc;
    }
    return 0;
}
