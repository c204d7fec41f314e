// SPDX-License-Identifier: MIT
// Attention of decoding: one query row for each of a few sequences against its cache. Keys are cut into pieces, a
// block each, which leave (maximum, sum, weighted values) in scratch; a second kernel merges the pieces of a row
// and head in the order of the keys. The cut depends on the row's position alone, never on other rows. A piece that
// begins behind the row's last key leaves nothing and is not looked at.
// attention_step.cu is the fast form of bf16 caches.
#include "gpu/cuda/attention_row.cuh"
#include "gpu/cuda/attention_step.cuh"
#include "gpu/cuda/machine.cuh"

enum {
    N_WARP = 4,
    PIECE = 64,     // keys of a piece, at least; a multiple of the keys a block takes at a time
    MAX_PIECES = 64 // of a row, at most
};

struct few {
    struct cuda_attention_few a;
    struct cuda_cache_rows c;
    float *part;        // [n_row, n_head, n_piece, d_head + 2]: values not yet divided, maximum, sum
    int n_piece, group; // n_piece: room for, of a row and head
};

// Keys of a piece of a row that sees n_k.
__host__ __device__ inline int piece_keys(int n_k)
{
    int n = (n_k + MAX_PIECES - 1) / MAX_PIECES;
    return n <= PIECE ? PIECE : (n + PIECE - 1) / PIECE * PIECE;
}

// Of any row that sees up to n_k_max keys.
static int most_pieces(int n_k_max)
{
    int n = (n_k_max + PIECE - 1) / PIECE;
    return n < MAX_PIECES ? n : MAX_PIECES;
}

__device__ inline float *part_of(const struct few *p, int row, int head, int piece)
{
    return p->part + (((int64_t)row * p->a.n_head + head) * p->n_piece + piece) * (p->a.d_head + 2);
}

// Any types and sizes: a warp per head and piece. grid: pieces, fours of heads, rows
template <int COLS, bool BF16> __global__ void __launch_bounds__(N_WARP *WARP) few_plain_kernel(const struct few p)
{
    int head = blockIdx.y * N_WARP + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int d = p.a.d_head, row = blockIdx.z;
    int n_k = (int)p.a.pos[row] + 1, piece = piece_keys(n_k);
    int from = blockIdx.x * piece, to = min(from + piece, n_k);
    if (head >= p.a.n_head || from >= to)
        return;
    int64_t stride = (int64_t)p.a.n_kv * d, at = (int64_t)(head / p.group) * d * (BF16 ? 2 : 4);
    struct one_row<COLS> r;
    row_start(&r, p.a.q.data, p.a.q.is_bf16, row * p.a.q.stride + head * d, d, p.a.scale);
    row_keys<COLS, BF16, BF16>(&r, (const char *)p.c.k[row] + at, stride, (const char *)p.c.v[row] + at, stride, d,
                               from, to);
    float *part = part_of(&p, row, head, blockIdx.x);
#pragma unroll
    for (int c = 0; c < COLS; c++)
        if (c * WARP + lane < d)
            part[c * WARP + lane] = r.out[c];
    if (lane == 0) {
        part[d] = r.max;
        part[d + 1] = r.sum;
    }
}

// grid: heads, rows; a thread per column
__global__ void merge_kernel(const struct few p)
{
    int head = blockIdx.x, row = blockIdx.y, d = p.a.d_head, c = threadIdx.x;
    int n = (int)p.a.pos[row] / piece_keys((int)p.a.pos[row] + 1) + 1;
    const float *part = part_of(&p, row, head, 0);
    if (c >= d)
        return;
    float top = -INFINITY, total = 0.0f, value = 0.0f;
#pragma unroll 8
    for (int i = 0; i < n; i++)
        top = fmaxf(top, part[i * (d + 2) + d]);
#pragma unroll 8
    for (int i = 0; i < n; i++) {
        float f = expf(part[i * (d + 2) + d] - top);
        total = fmaf(part[i * (d + 2) + d + 1], f, total);
        value = fmaf(part[i * (d + 2) + c], f, value);
    }
    store_f32(p.a.y.data, p.a.y.is_bf16, row * p.a.y.stride + head * d + c, value / total);
}

template <int COLS> static int launch_plain(const struct few *p, void *stream)
{
    dim3 grid(p->n_piece, (p->a.n_head + N_WARP - 1) / N_WARP, p->c.n_row);
    return p->a.cache_bf16 ? launch(few_plain_kernel<COLS, true>, grid, N_WARP * WARP, 0, stream, *p)
                           : launch(few_plain_kernel<COLS, false>, grid, N_WARP * WARP, 0, stream, *p);
}

static int launch_parts(const struct few *p, void *stream)
{
    int d = p->a.d_head;
    if (d <= 64)
        return launch_plain<2>(p, stream);
    if (d <= 128)
        return launch_plain<4>(p, stream);
    return launch_plain<8>(p, stream);
}

size_t cuda_attention_few_scratch(int n_row, int n_head, int d_head, int n_k_max)
{
    size_t n = (size_t)n_row * (size_t)n_head * (size_t)most_pieces(n_k_max) * ((size_t)d_head + 2) * sizeof(float);
    size_t step = attention_step_scratch(n_row, n_head, d_head, n_k_max);
    return n > step ? n : step;
}

static int few_plain(const struct cuda_attention_few *a, const struct cuda_cache_rows *c, void *stream)
{
    struct few p;
    p.a = *a;
    p.c = *c;
    p.part = (float *)a->scratch;
    p.n_piece = most_pieces(a->n_k_max);
    p.group = a->n_head / a->n_kv;
    int e = launch_parts(&p, stream);
    if (e)
        return e;
    return launch(merge_kernel, dim3(a->n_head, c->n_row), (a->d_head + WARP - 1) / WARP * WARP, 0, stream, p);
}

int cuda_attention_few(const struct cuda_attention_few *a, const struct cuda_cache_rows *c, void *stream)
{
    if (c->n_row == 0)
        return cudaSuccess;
    return attention_step_serves(a, NULL, c) ? attention_step(a, NULL, c, stream) : few_plain(a, c, stream);
}

int cuda_attention_step(const struct cuda_attention_few *a, const struct cuda_rope *r, void *stream)
{
    if (r->cache->n_row == 0)
        return cudaSuccess;
    if (attention_step_serves(a, r, r->cache))
        return attention_step(a, r, r->cache, stream);
    int e = cuda_rope(r, stream);
    return e ? e : few_plain(a, r->cache, stream);
}
