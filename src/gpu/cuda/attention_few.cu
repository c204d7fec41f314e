// SPDX-License-Identifier: MIT
// Attention of decoding: one query row for each of a few sequences against its cache. Keys are cut into pieces, a
// block each, which leave (maximum, sum, weighted values) in scratch; a second kernel merges the pieces of a row
// and head in the order of the keys. The cut depends on n_k_max alone, never on the number of rows. A piece that
// begins behind the row's last key leaves nothing and is not looked at.
//
// The fast form reads bf16 caches 16 bytes at a time: a key is read by the 8 or 16 neighbouring lanes that hold
// its columns, once for all query heads of its group (at most 8); every such team of lanes has its own running
// maximum over the keys it sees, and the teams of a block are merged in shared memory in a fixed order.
#include "gpu/cuda/attention_row.cuh"
#include "gpu/cuda/machine.cuh"

enum {
    N_WARP = 4,
    PIECE = 64,     // keys of a piece, at least; a multiple of the keys a block takes at a time
    MAX_PIECES = 64 // of a row, at most
};

struct few {
    struct cuda_attention_few a;
    struct cuda_cache_rows c;
    float *part; // [n_row, n_head, n_piece, d_head + 2]: values not yet divided, maximum, sum
    int piece, n_piece, group;
};

static int piece_keys(int n_k_max)
{
    int n = (n_k_max + MAX_PIECES - 1) / MAX_PIECES;
    return n <= PIECE ? PIECE : (n + PIECE - 1) / PIECE * PIECE;
}

__device__ inline float *part_of(const struct few *p, int row, int head, int piece)
{
    return p->part + (((int64_t)row * p->a.n_head + head) * p->n_piece + piece) * (p->a.d_head + 2);
}

// 8 bf16 to f32: the upper half of a word is the odd element
__device__ inline void widen8(float to[8], uint4 w)
{
    const uint32_t u[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(u[i] << 16);
        to[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
    }
}

// G query heads of one group; TEAM lanes hold the columns of a key, 8 each; a team takes AHEAD keys at a time.
// grid: pieces, groups of G query heads, rows
template <int G, int TEAM, int AHEAD>
__global__ void __launch_bounds__(N_WARP *WARP) few_kernel(const struct few p)
{
    const int N_TEAM = N_WARP * WARP / TEAM;
    const float log2e = 1.4426950408889634f;
    int d = p.a.d_head, row = blockIdx.z, head0 = blockIdx.y * G;
    int team = threadIdx.x / TEAM, column = threadIdx.x % TEAM * 8;
    int from = blockIdx.x * p.piece, to = min(from + p.piece, (int)p.a.pos[row] + 1);
    if (from >= to)
        return;
    bool real = column < d; // lanes past the head's columns go along with zeros
    int64_t stride = (int64_t)p.a.n_kv * d, at = head0 / p.group * d + (real ? column : 0);
    const __nv_bfloat16 *k = (const __nv_bfloat16 *)p.c.k[row] + at, *v = (const __nv_bfloat16 *)p.c.v[row] + at;

    float q[G][8], out[G][8], max[G], sum[G];
#pragma unroll
    for (int g = 0; g < G; g++) {
        max[g] = -INFINITY;
        sum[g] = 0.0f;
#pragma unroll
        for (int c = 0; c < 8; c++) {
            out[g][c] = 0.0f;
            q[g][c] = real ? load_f32(p.a.q.data, p.a.q.is_bf16,
                                      row * p.a.q.stride + (head0 + g) * d + column + c) *
                                 p.a.scale * log2e
                           : 0.0f;
        }
    }
    for (int key0 = from; key0 < to; key0 += N_TEAM * AHEAD) { // the same number of rounds for every lane
        uint4 kw[AHEAD], vw[AHEAD];
        float s[AHEAD][G];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            int64_t key = min(key0 + j * N_TEAM + team, to - 1);
            kw[j] = *(const uint4 *)(k + key * stride);
            vw[j] = *(const uint4 *)(v + key * stride);
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            float w[8];
            widen8(w, kw[j]);
#pragma unroll
            for (int g = 0; g < G; g++) {
                s[j][g] = 0.0f;
#pragma unroll
                for (int c = 0; c < 8; c++)
                    s[j][g] = fmaf(q[g][c], w[c], s[j][g]);
            }
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
#pragma unroll
            for (int g = 0; g < G; g++) {
#pragma unroll
                for (int i = TEAM / 2; i > 0; i /= 2)
                    s[j][g] += __shfl_xor_sync(0xffffffffu, s[j][g], i);
                if (key0 + j * N_TEAM + team >= to)
                    s[j][g] = -INFINITY;
            }
#pragma unroll
        for (int g = 0; g < G; g++) {
            float top = max[g];
#pragma unroll
            for (int j = 0; j < AHEAD; j++)
                top = fmaxf(top, s[j][g]);
            float shift = top == -INFINITY ? 0.0f : top; // a team may have seen no key yet
            float old = exp2_fast(max[g] - shift);
            max[g] = top;
            sum[g] *= old;
#pragma unroll
            for (int c = 0; c < 8; c++)
                out[g][c] *= old;
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                s[j][g] = exp2_fast(s[j][g] - shift);
                sum[g] += s[j][g];
            }
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            float w[8];
            widen8(w, vw[j]);
#pragma unroll
            for (int g = 0; g < G; g++)
#pragma unroll
                for (int c = 0; c < 8; c++)
                    out[g][c] = fmaf(s[j][g], w[c], out[g][c]);
        }
    }

    // the teams of the block: shared [N_TEAM, G, TEAM * 8 + 2]
    const int wide = TEAM * 8 + 2;
    float *shared = (float *)dynamic_shared();
#pragma unroll
    for (int g = 0; g < G; g++) {
        float *mine = shared + (team * G + g) * wide;
#pragma unroll
        for (int c = 0; c < 8; c++)
            mine[column + c] = out[g][c];
        if (column == 0) {
            mine[TEAM * 8] = max[g];
            mine[TEAM * 8 + 1] = sum[g];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < G * d; i += N_WARP * WARP) {
        int g = i / d, c = i % d;
        const float *first = shared + g * wide;
        float top = -INFINITY, total = 0.0f, value = 0.0f;
        for (int t = 0; t < N_TEAM; t++)
            top = fmaxf(top, first[t * G * wide + TEAM * 8]);
        for (int t = 0; t < N_TEAM; t++) {
            const float *one = first + t * G * wide;
            float f = exp2_fast(one[TEAM * 8] - top);
            total = fmaf(one[TEAM * 8 + 1], f, total);
            value = fmaf(one[c], f, value);
        }
        float *part = part_of(&p, row, head0 + g, blockIdx.x);
        part[c] = value;
        if (c == 0) {
            part[d] = top * (1.0f / log2e); // as the other form leaves it
            part[d + 1] = total;
        }
    }
}

// Any types and sizes: a warp per head and piece. grid: pieces, fours of heads, rows
template <int COLS, bool BF16>
__global__ void __launch_bounds__(N_WARP *WARP) few_plain_kernel(const struct few p)
{
    int head = blockIdx.y * N_WARP + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int d = p.a.d_head, row = blockIdx.z;
    int from = blockIdx.x * p.piece, to = min(from + p.piece, (int)p.a.pos[row] + 1);
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
    int n = (int)p.a.pos[row] / p.piece + 1;
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

template <int G, int TEAM, int AHEAD> static int launch_team(const struct few *p, void *stream)
{
    dim3 grid(p->n_piece, p->a.n_head / G, p->c.n_row);
    size_t shared = sizeof(float) * (N_WARP * WARP / TEAM) * G * (TEAM * 8 + 2);
    return launch(few_kernel<G, TEAM, AHEAD>, grid, N_WARP * WARP, shared, stream, *p);
}

template <int G, int AHEAD> static int launch_group(const struct few *p, void *stream)
{
    return p->a.d_head <= 64 ? launch_team<G, 8, AHEAD>(p, stream) : launch_team<G, 16, AHEAD>(p, stream);
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
    if (p->a.cache_bf16 && d % 8 == 0 && d <= 128) {
        if (p->group % 8 == 0)
            return launch_group<8, 2>(p, stream);
        if (p->group % 4 == 0)
            return launch_group<4, 4>(p, stream);
        if (p->group % 2 == 0)
            return launch_group<2, 4>(p, stream);
        return launch_group<1, 4>(p, stream);
    }
    if (d <= 64)
        return launch_plain<2>(p, stream);
    if (d <= 128)
        return launch_plain<4>(p, stream);
    return launch_plain<8>(p, stream);
}

size_t cuda_attention_few_scratch(int n_row, int n_head, int d_head, int n_k_max)
{
    size_t piece = (size_t)piece_keys(n_k_max), n_piece = ((size_t)n_k_max + piece - 1) / piece;
    return (size_t)n_row * (size_t)n_head * n_piece * ((size_t)d_head + 2) * sizeof(float);
}

int cuda_attention_few(const struct cuda_attention_few *a, const struct cuda_cache_rows *c, void *stream)
{
    struct few p;
    p.a = *a;
    p.c = *c;
    p.part = (float *)a->scratch;
    p.piece = piece_keys(a->n_k_max);
    p.n_piece = (a->n_k_max + p.piece - 1) / p.piece;
    p.group = a->n_head / a->n_kv;
    if (c->n_row == 0)
        return cudaSuccess;
    int e = launch_parts(&p, stream);
    if (e)
        return e;
    return launch(merge_kernel, dim3(a->n_head, c->n_row), (a->d_head + WARP - 1) / WARP * WARP, 0, stream, p);
}
