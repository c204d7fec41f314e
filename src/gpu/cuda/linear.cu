// SPDX-License-Identifier: MIT
// y [rows, n_out] = x [rows, k] W^T [k, n_out] for rows <= 64: each weight is read once and the time is that of
// reading it.
//
// A block makes TILES * 16 outputs for all rows. Its 8 warps share out k: pieces of 64 columns (128 bytes of a
// row of W) in turn, so that the block reads along the rows. A warp takes a piece in two steps of 32 columns: lane
// (g, t) copies columns 8t .. 8t+7 of rows g and g+8 of W and of row g of x, and feeds two m16n8k16 products with
// them, W as the left operand and 8 rows of x as the right one. Which column is called which k inside the two
// products does not matter, as both operands are named alike. A lane reads only what it has copied itself, so the
// loop has no barrier; a ring of STAGES steps in shared memory keeps the copies coming without registers.
//
// Easy to get wrong: an output's sum must not depend on the number of rows. It is a chain over the warp's steps
// and then over the warps, both fixed by k alone; TILES, COLUMNS and STAGES (chosen by rows) do not enter.
//
// One row (ONE) may leave its result as the product behind reads it, and RMSNorm's factor may be applied to the sums. More
// rows get the same numbers in launches of their own (rms_apart): with 32 rows blocks that each make all the factors
// from sums of squares take longer than a launch.
#include "gpu/cuda/device.cuh"
#include "gpu/cuda/machine.cuh"
#include "gpu/cuda/overlap.cuh"

#include <atomic>

enum {
    WARPS = 8,
    THREADS = WARPS * WARP,
    STEP = 32,          // columns of one step of a warp: 4 lanes of 8
    PIECE = 2 * STEP,   // columns that a warp takes in one turn
    LANE = 8,           // bf16 in 16 bytes
    TILE_OUT = 16,      // outputs and
    TILE_ROWS = 8,      // rows of x of one tensor core product
    PAD = 4,            // f32: keeps the lanes' partial sums on different banks
    SHARED_SMALL = 100, // KiB of shared memory that every device of 8.0 and later has for a block, at least 99
};

// Column at which step s of a warp starts.
__device__ inline int step_column(int warp, int s)
{
    return (s / 2 * WARPS + warp) * PIECE + s % 2 * STEP;
}

// Steps of a warp: those that start before k.
__device__ inline int step_count(int warp, int k)
{
    int n_piece = (k + PIECE - 1) / PIECE;
    int n = n_piece > warp ? 2 * ((n_piece - warp + WARPS - 1) / WARPS) : 0;
    return n > 0 && step_column(warp, n - 1) >= k ? n - 1 : n;
}

// RMSNorm's factor of a row by the sums of squares of 16 columns each; all lanes of a warp.
__device__ inline float factor_of(const float *square, int k, float eps)
{
    float sum = 0.0f;
#pragma unroll 8
    for (int i = threadIdx.x % WARP; i < k / TILE_OUT; i += WARP)
        sum += square[i];
    return 1.0f / sqrtf(warp_sum(sum) / (float)k + eps);
}

// The result of row r, output o: of partial sums [WARPS] that lie `apart` from each other. factor: RMSNorm's, NULL = none.
__device__ inline float store_sum(const struct cuda_few_linear &a, int r, int o, const float *part, int apart,
                                  const float *factor)
{
    const float bias = a.bias ? a.bias[o] : 0.0f;
    const int64_t at = r * a.y.stride + o;
    float v = factor ? 0.0f : bias;
#pragma unroll
    for (int i = 0; i < WARPS; i++)
        v += part[i * apart];
    if (factor)
        v = __fadd_rn(__fmul_rn(v, *factor), bias);
    if (a.add)
        v = __fadd_rn(v, ((const float *)a.y.data)[at]);
    store_f32(a.y.data, a.y.is_bf16, at, v);
    return v;
}

// What the product behind reads of output o of one row, m of its block; all lanes of a warp. Where halves meet (no
// next_norm) 16 neighbours are 8 of the first half and the same 8 of the second.
__device__ inline void store_next(const struct cuda_few_linear &a, int o, int m, bool live, float v)
{
    __nv_bfloat16 *x = (__nv_bfloat16 *)a.next_x;
    if (!a.next_norm) {
        v = a.y.is_bf16 ? __bfloat162float(__float2bfloat16_rn(v)) : v;
        float up = __shfl_xor_sync(0xffffffffu, v, TILE_OUT / 2);
        if (live && m % TILE_OUT < TILE_OUT / 2)
            x[o] = __float2bfloat16_rn(__fdividef(v, 1.0f + expf(-v)) * up);
        return;
    }
    float sum = live ? __fmul_rn(v, v) : 0.0f; // never part of an addition: as in rms_apart
    for (int i = TILE_OUT / 2; i > 0; i /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, i);
    if (live) {
        x[o] = __float2bfloat16_rn(v * a.next_norm[o]);
        if (m % TILE_OUT == 0)
            a.next_square[o / TILE_OUT] = sum;
    }
}

// COLUMNS: tiles of 8 rows of x. ONE: one row, with what is said of one in struct cuda_few_linear.
template <int TILES, int COLUMNS, int STAGES, int MIN_BLOCKS, bool ONE>
__global__ void __launch_bounds__(THREADS, MIN_BLOCKS) few_linear(struct cuda_few_linear a)
{
    constexpr int N_W = 2 * TILES, N_PART = N_W + COLUMNS, M = TILE_OUT * TILES, N = TILE_ROWS * COLUMNS;
    static_assert(WARPS * N * (M + PAD) <= STAGES * N_PART * THREADS * 4, "room for the partial sums");
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int k = a.k, rows = a.y.rows, n_out = a.y.cols, out0 = blockIdx.x * M;
    const int n_step = step_count(warp, k);
    const bool halves = ONE && a.next_x && !a.next_norm;
    [[maybe_unused]] __shared__ float factor;
    // Output of the block: in halves every 16 are 8 and the 8 that belong to them.
    auto output = [&](int m) {
        return halves ? m % TILE_OUT / TILE_ROWS * (n_out / 2) + out0 / 2 + m / TILE_OUT * TILE_ROWS + m % TILE_ROWS
                      : out0 + m;
    };
    const __nv_bfloat16 *w = (const __nv_bfloat16 *)a.w + (int64_t)out0 * k;
    const __nv_bfloat16 *x = (const __nv_bfloat16 *)a.x;
    const uint64_t once = read_once();
    uint4 *ring = (uint4 *)dynamic_shared() + threadIdx.x; // [STAGES][N_PART] of this lane, THREADS apart

    overlap_next();
    int w_at[N_W]; // outputs past the last one read its row and are dropped at the end
#pragma unroll
    for (int i = 0; i < N_W; i++)
        w_at[i] = (min(output(8 * i + g), n_out - 1) - out0) * k + LANE * t;

    auto load_w = [&](int s, int slot) {
        int c = step_column(warp, s);
        bool past = c + LANE * t >= k;
#pragma unroll
        for (int i = 0; i < N_W; i++)
            copy16_async_once(ring + (slot * N_PART + i) * THREADS, past ? w : w + w_at[i] + c, !past, once);
    };
    auto load_x = [&](int s, int slot) {
        int c = step_column(warp, s) + LANE * t;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            bool past = c >= k || TILE_ROWS * i + g >= rows;
            copy16_async(ring + (slot * N_PART + N_W + i) * THREADS, past ? x : x + (TILE_ROWS * i + g) * k + c,
                         !past);
        }
    };

    for (int s = 0; s < STAGES - 1; s++)
        if (s < n_step)
            load_w(s, s);
    overlap_wait();
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < n_step)
            load_x(s, s);
        copies_commit();
    }
    if (ONE && a.square && warp == 0)
        factor = factor_of(a.square, k, a.eps);

    float sum[TILES][COLUMNS][4] = {};
    int slot = 0, free_slot = STAGES - 1;
    for (int s = 0; s < n_step; s++) {
        copies_wait<STAGES - 2>();
        uint4 wv[N_W], xv[COLUMNS];
#pragma unroll
        for (int i = 0; i < N_W; i++)
            wv[i] = ring[(slot * N_PART + i) * THREADS];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            xv[i] = ring[(slot * N_PART + N_W + i) * THREADS];
        if (s + STAGES - 1 < n_step) { // into the slot that the step before this one has used up
            load_w(s + STAGES - 1, free_slot);
            load_x(s + STAGES - 1, free_slot);
        }
        copies_commit(); // empty or not: copies_wait counts groups
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            uint4 lo = wv[2 * i], hi = wv[2 * i + 1];
            uint32_t first[4] = {lo.x, hi.x, lo.y, hi.y}, second[4] = {lo.z, hi.z, lo.w, hi.w};
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                uint32_t b[2] = {xv[j].x, xv[j].y};
                mma_bf16(sum[i][j], first, b);
            }
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) {
                uint32_t b[2] = {xv[j].z, xv[j].w};
                mma_bf16(sum[i][j], second, b);
            }
        }
        free_slot = slot;
        slot = slot + 1 < STAGES ? slot + 1 : 0;
    }

    __syncthreads(); // no copy is under way; the ring becomes partial sums [WARPS][N][M + PAD]
    float *part = (float *)dynamic_shared();
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                part[(warp * N + TILE_ROWS * j + 2 * t + e % 2) * (M + PAD) + TILE_OUT * i + g + e / 2 * 8] =
                    sum[i][j][e];
    __syncthreads();
    if constexpr (ONE) {
        static_assert(M <= WARP, "the outputs of a row are a warp's");
        int m = lane % M, o = output(m);
        bool live = lane < M && (halves ? o - m % TILE_OUT / TILE_ROWS * (n_out / 2) < n_out / 2 : o < n_out);
        if (warp > 0)
            return;
        float v = live ? store_sum(a, 0, o, part + m, N * (M + PAD), a.square ? &factor : NULL) : 0.0f;
        if (a.next_x)
            store_next(a, o, m, live, v);
    } else {
        for (int e = threadIdx.x; e < rows * M; e += THREADS) {
            int r = e / M, m = e % M, o = out0 + m;
            if (o >= n_out)
                break; // o grows with m alone, and THREADS is a multiple of M: this thread's are all out
            store_sum(a, r, o, part + r * (M + PAD) + m, N * (M + PAD), a.factor ? a.factor + r : NULL);
        }
    }
}

// ---- more rows for a product whose factor is applied to the sums

enum { APART_THREADS = 512 };

// A block a row, a warp 256 columns at a time. The bits of store_next and factor_of.
__global__ void __launch_bounds__(APART_THREADS) rms_apart(struct cuda_rms_apart a)
{
    __shared__ float square[CUDA_APART_COLUMNS / TILE_OUT];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, k = a.x.cols, row = blockIdx.x;
    const float *x = (const float *)a.x.data + row * a.x.stride;
    overlap_next();
    overlap_wait();
    for (int first = warp * WARP * LANE; first < k; first += blockDim.x * LANE) {
        int c = first + lane * LANE;
        float v[LANE] = {}, q[LANE];
        if (c < k) {
            const float4 lo = *(const float4 *)(x + c), hi = *(const float4 *)(x + c + 4);
            const float4 u = *(const float4 *)(a.norm_w + c), w = *(const float4 *)(a.norm_w + c + 4);
            const float all[LANE] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};
            for (int j = 0; j < LANE; j++)
                v[j] = all[j];
            *(uint4 *)((__nv_bfloat16 *)a.out + (int64_t)row * k + c) =
                make_uint4(pack_bf16(lo.x * u.x, lo.y * u.y), pack_bf16(lo.z * u.z, lo.w * u.w),
                           pack_bf16(hi.x * w.x, hi.y * w.y), pack_bf16(hi.z * w.z, hi.w * w.w));
        }
#pragma unroll
        for (int j = 0; j < LANE; j++) { // a column and the one 8 on, as store_next begins
            q[j] = __fmul_rn(v[j], v[j]);
            q[j] += __shfl_xor_sync(0xffffffffu, q[j], 1);
        }
        if (c < k && lane % 2 == 0)
            square[c / TILE_OUT] = ((q[0] + q[4]) + (q[2] + q[6])) + ((q[1] + q[5]) + (q[3] + q[7]));
    }
    __syncthreads();
    if (warp > 0)
        return;
    float f = factor_of(square, k, a.eps);
    if (lane == 0)
        a.factor[row] = f;
}

int cuda_rms_apart(const struct cuda_rms_apart *a, void *stream)
{
    if (a->x.rows <= 0 || a->x.cols <= 0)
        return 0;
    if (a->x.cols > CUDA_APART_COLUMNS || a->x.cols % TILE_OUT != 0)
        return cudaErrorInvalidValue;
    int threads = (a->x.cols + LANE * WARP - 1) / (LANE * WARP) * WARP;
    return overlap_launch(rms_apart, dim3((unsigned)a->x.rows), threads < APART_THREADS ? threads : APART_THREADS, 0, stream,
                          *a);
}

// ---- launching

struct device_size {
    int n_processor, shared_bytes; // of a block, at most
};

static int device_size(int device, struct device_size *d)
{
    enum { N_DEVICE = 64 };
    static std::atomic<int> n_processor[N_DEVICE], shared_bytes[N_DEVICE]; // asked once; 0 = not yet
    int i = device < N_DEVICE ? device : 0, rc = 0;
    d->n_processor = n_processor[i].load(std::memory_order_relaxed);
    d->shared_bytes = shared_bytes[i].load(std::memory_order_relaxed);
    if (d->n_processor > 0 && d->shared_bytes > 0 && device < N_DEVICE)
        return 0;
    if ((rc = cudaDeviceGetAttribute(&d->n_processor, cudaDevAttrMultiProcessorCount, device)) != 0 ||
        (rc = cudaDeviceGetAttribute(&d->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device)) != 0)
        return rc;
    if (device < N_DEVICE) {
        n_processor[i].store(d->n_processor, std::memory_order_relaxed);
        shared_bytes[i].store(d->shared_bytes, std::memory_order_relaxed);
    }
    return 0;
}

template <int TILES, int COLUMNS, int STAGES, int MIN_BLOCKS, bool ONE>
static int launch(const struct cuda_few_linear *a, int device, void *stream)
{
    static std::atomic<uint64_t> allowed{0}; // bit of each device on which the ring has been allowed
    auto *kernel = few_linear<TILES, COLUMNS, STAGES, MIN_BLOCKS, ONE>;
    const size_t bytes = (size_t)STAGES * (2 * TILES + COLUMNS) * THREADS * sizeof(uint4);
    uint64_t bit = device < 64 ? (uint64_t)1 << device : 0;
    if (!(allowed.load(std::memory_order_relaxed) & bit)) {
        int rc = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
        if (rc)
            return rc;
        allowed.fetch_or(bit, std::memory_order_relaxed);
    }
    int m = TILE_OUT * TILES;
    return overlap_launch(kernel, dim3((unsigned)((a->y.cols + m - 1) / m)), THREADS, bytes, stream, *a);
}

// More tiles read x less often, fewer spread over the processors more evenly. The busiest processor's reads
// decide; a row of x comes from a cache and costs half a row of W. Only the speed depends on it.
static int choose_tiles(int n_out, int rows, int n_processor, int most)
{
    int best = 1;
    int64_t best_cost = 0;
    for (int tiles = 1; tiles <= most; tiles *= 2) {
        int n_block = (n_out + TILE_OUT * tiles - 1) / (TILE_OUT * tiles);
        int64_t cost = (int64_t)((n_block + n_processor - 1) / n_processor) * (2 * TILE_OUT * tiles + rows);
        if (tiles == 1 || cost * 100 < best_cost * 95) {
            best = tiles;
            best_cost = cost;
        }
    }
    return best;
}

int cuda_few_linear(const struct cuda_few_linear *a, void *stream)
{
    struct device_size d;
    int device = 0, rows = a->y.rows, n_out = a->y.cols, rc = 0;
    if (rows <= 0 || n_out <= 0)
        return 0;
    if ((rc = cudaGetDevice(&device)) != 0 || (rc = device_size(device, &d)) != 0)
        return rc;
    bool large = d.shared_bytes >= 2 * (SHARED_SMALL - 4) * 1024;
    int tiles = choose_tiles(n_out, rows, d.n_processor, large && rows > 16 && rows <= 32 ? 4 : large ? 2 : 1);
    if (a->square || a->next_x)
        return rows > 1 || a->factor ? (int)cudaErrorInvalidValue
               : tiles > 1           ? launch<2, 1, 5, 2, true>(a, device, stream)
                                     : launch<1, 1, 6, 3, true>(a, device, stream);
    if (rows <= 8)
        return tiles > 1 ? launch<2, 1, 5, 2, false>(a, device, stream) : launch<1, 1, 6, 3, false>(a, device, stream);
    if (rows <= 16)
        return tiles > 1 ? launch<2, 2, 4, 2, false>(a, device, stream) : launch<1, 2, 4, 3, false>(a, device, stream);
    if (rows <= 32)
        return tiles > 2   ? launch<4, 4, 4, 1, false>(a, device, stream)
               : tiles > 1 ? launch<2, 4, 3, 2, false>(a, device, stream)
                           : launch<1, 4, 4, 2, false>(a, device, stream);
    return tiles > 1 ? launch<2, 8, 4, 1, false>(a, device, stream) : launch<1, 8, 2, 2, false>(a, device, stream);
}
