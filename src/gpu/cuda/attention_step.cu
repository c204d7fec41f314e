// SPDX-License-Identifier: MIT
// Attention of decoding on bf16 caches, in one launch: rotary positions of the row, the append of its key and value,
// attention over the cache, and the merge. (attention_few.cu is for everything else.)
//
// Keys are cut into pieces of 64; a block has one row, up to 8 query heads of one group, and the pieces blockIdx.x,
// blockIdx.x + MAX_PARTS, ...: the cut depends on nothing but the row's position. A warp has 16 keys of a piece.
// Tensor cores multiply 16 x 16 x 8 and there are 8 heads at most, so the other half of the rows is used to keep the
// second product exact: a probability is the sum of two bf16, the upper one in rows 0..7, the rest in rows 8..15.
//
// Fragments come straight from global memory, 16 bytes a lane: the order of the columns in a sum of products is free,
// as long as q and k have the same, and where a column of the values ends up is free as well.
//   scores: q [heads, 16 columns] k^T; lane (g, t) = (lane / 4, lane % 4) holds columns 8 t .. 8 t + 7 of 32
//   values: p [heads, 16 keys] v; lane (g, t) holds columns 8 g .. 8 g + 7 of 64 of keys 2 t, 2 t + 1, 2 t + 8, 2 t + 9
//
// The last block of a row and group to finish merges all of them, in the order of the keys. Who is the last is found
// with a counter (`turn`), which is 0 again afterwards.
//
// What lies in the cache before this row was written before the step began, and so were the positions: both may be
// read while the kernel in front still runs (overlap.cuh). The step has launches that wait in front of these.
#include <math.h>

#include "gpu/cuda/attention_step.cuh"
#include "gpu/cuda/machine.cuh"
#include "gpu/cuda/overlap.cuh"
#include "gpu/cuda/rotate.cuh"

enum {
    N_WARP = 4,
    THREADS = N_WARP * WARP,
    PIECE = 16 * N_WARP, // keys
    MAX_PARTS = 48,      // blocks of a row and group
    HEADS = 8,           // of a block, at most
};

struct step {
    struct cuda_attention_few a;
    struct cuda_cache_rows c;
    struct cuda_view k, v; // of the new row; k.data NULL: it is in the cache already, and q is rotated
    const float *table;
    bool pairs;  // rotary pairs are neighbours
    float *part; // [n_row, blocks of heads, n_part, heads * (d_head + 4)]: values, then (maximum, sum) of each head
    int n_part, group, heads;
};

template <int D> struct step_shared {
    uint4 q[HEADS][D / 8], k[D / 8], v[D / 8]; // bf16; zero behind d_head and heads
    float4 out[N_WARP][HEADS][D / 4 + 1];      // one more: fewer bank conflicts
    float max[N_WARP][HEADS], sum[N_WARP][HEADS];
    float part_max[MAX_PARTS][HEADS], part_sum[MAX_PARTS][HEADS];
    unsigned before;
};

// The pieces of a warp's 16 keys that a lane holds; zeros for keys from `end` on.
template <int D>
__device__ inline void keys_load(uint4 kw[2][D / 32], const __nv_bfloat16 *k, int64_t stride, int key0, int end, int d)
{
    int g = (int)threadIdx.x % WARP / 4, t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int b = 0; b < D / 32; b++) {
            int key = key0 + 8 * n + g, column = 32 * b + 8 * t;
            kw[n][b] = make_uint4(0, 0, 0, 0);
            if (key < end && column < d)
                kw[n][b] = *(const uint4 *)(k + key * stride + column);
        }
}

__device__ inline int value_key(int i)
{
    return 2 * ((int)threadIdx.x % 4) + i % 2 + i / 2 * 8;
}

template <int D>
__device__ inline void values_load(uint4 vw[4][D / 64], const __nv_bfloat16 *v, int64_t stride, int key0, int end,
                                   int d)
{
    int g = (int)threadIdx.x % WARP / 4;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int b = 0; b < D / 64; b++) {
            int key = key0 + value_key(i), column = 64 * b + 8 * g;
            vw[i][b] = make_uint4(0, 0, 0, 0);
            if (key < end && column < d)
                vw[i][b] = *(const uint4 *)(v + key * stride + column);
        }
}

// Element j of two rows of 8, as a pair.
__device__ inline uint32_t pair_of(uint4 x, uint4 y, int j)
{
    const uint32_t a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
    return __byte_perm(a[j / 2], b[j / 2], j % 2 ? 0x7632 : 0x5410);
}

__device__ inline float low_f32(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

__device__ inline float high_f32(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

// Four rotary pairs from the j-th on, x their first elements and y their second ones.
__device__ inline void rotate_four(const struct step *p, int row, int j, float *x, float *y)
{
    const float *t = p->table + (int64_t)row * p->a.d_head + j;
    float4 c = *(const float4 *)t, s = *(const float4 *)(t + p->a.d_head / 2);
    rotate_pair(&x[0], &y[0], c.x, s.x);
    rotate_pair(&x[1], &y[1], c.y, s.y);
    rotate_pair(&x[2], &y[2], c.z, s.z);
    rotate_pair(&x[3], &y[3], c.w, s.w);
}

// Columns 2 j .. 2 j + 7 of a row of q, k or v, which are four pairs of neighbours: as row_bring.
__device__ inline void pairs_bring(const struct step *p, const __nv_bfloat16 *from, int row, int j, bool rotates,
                                   uint4 *to, __nv_bfloat16 *cache)
{
    uint4 v = *(const uint4 *)(from + 2 * j);
    if (rotates) {
        float x[4] = {low_f32(v.x), low_f32(v.y), low_f32(v.z), low_f32(v.w)};
        float y[4] = {high_f32(v.x), high_f32(v.y), high_f32(v.z), high_f32(v.w)};
        rotate_four(p, row, j, x, y);
        v = make_uint4(pack_bf16(x[0], y[0]), pack_bf16(x[1], y[1]), pack_bf16(x[2], y[2]), pack_bf16(x[3], y[3]));
    }
    to[j / 4] = v;
    if (cache)
        *(uint4 *)(cache + 2 * j) = v;
}

// Four columns of a row of q, k or v and their partners half a head on: rotated, to shared memory and, when `cache`
// is not NULL, there.
__device__ inline void row_bring(const struct step *p, const __nv_bfloat16 *from, int row, int j, bool rotates,
                                 uint4 *to, __nv_bfloat16 *cache)
{
    int half = p->a.d_head / 2;
    if (p->pairs) {
        pairs_bring(p, from, row, j, rotates, to, cache);
        return;
    }
    uint2 lo = *(const uint2 *)(from + j), hi = *(const uint2 *)(from + j + half);
    if (rotates) {
        float x[4] = {low_f32(lo.x), high_f32(lo.x), low_f32(lo.y), high_f32(lo.y)};
        float y[4] = {low_f32(hi.x), high_f32(hi.x), low_f32(hi.y), high_f32(hi.y)};
        rotate_four(p, row, j, x, y);
        lo = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
        hi = make_uint2(pack_bf16(y[0], y[1]), pack_bf16(y[2], y[3]));
    }
    *(uint2 *)((__nv_bfloat16 *)to + j) = lo;
    *(uint2 *)((__nv_bfloat16 *)to + j + half) = hi;
    if (cache) {
        *(uint2 *)(cache + j) = lo;
        *(uint2 *)(cache + j + half) = hi;
    }
}

__device__ inline void add_scaled(float4 *sum, float4 v, float f)
{
    sum->x = fmaf(v.x, f, sum->x);
    sum->y = fmaf(v.y, f, sum->y);
    sum->z = fmaf(v.z, f, sum->z);
    sum->w = fmaf(v.w, f, sum->w);
}

// Four columns of y from sums of weighted values.
__device__ inline void y_store(const struct step *p, int row, int column, float4 v, float total)
{
    int64_t at = row * p->a.y.stride + column;
    v = make_float4(v.x / total, v.y / total, v.z / total, v.w / total);
    if (p->a.y.is_bf16)
        *(uint2 *)((__nv_bfloat16 *)p->a.y.data + at) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
    else
        *(float4 *)((float *)p->a.y.data + at) = v;
}

// One piece's scores of the warp's keys, for head g: s[n][0], s[n][1] are keys 8 n + 2 t and the next.
template <int D>
__device__ inline void scores_of(float s[2][4], const struct step_shared<D> *sh, const uint4 kw[2][D / 32])
{
    int g = (int)threadIdx.x % WARP / 4, t = (int)threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[n][e] = 0.0f;
#pragma unroll
    for (int b = 0; b < D / 32; b++) {
        uint4 q = sh->q[g][4 * b + t];
        const uint32_t first[4] = {q.x, 0, q.y, 0}, second[4] = {q.z, 0, q.w, 0};
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint32_t k0[2] = {kw[n][b].x, kw[n][b].y}, k1[2] = {kw[n][b].z, kw[n][b].w};
            mma_bf16(s[n], first, k0);
            mma_bf16(s[n], second, k1);
        }
    }
}

// grid: parts, blocks of heads, rows
template <int D> __global__ void __launch_bounds__(THREADS, 3) step_kernel(const __grid_constant__ struct step p)
{
    __shared__ struct step_shared<D> sh;
    overlap_next();
    int d = p.a.d_head, row = blockIdx.z, head0 = (int)blockIdx.y * p.heads, kv = head0 / p.group;
    int warp = (int)threadIdx.x / WARP, g = (int)threadIdx.x % WARP / 4, t = (int)threadIdx.x % 4;
    int pos = (int)p.a.pos[row], n_part = min((int)MAX_PARTS, pos / PIECE + 1), part = blockIdx.x;
    if (part >= n_part) {
        overlap_wait();
        return;
    }
    bool fresh = p.k.data != NULL;
    int end = fresh ? pos : pos + 1; // of the keys in the cache
    int64_t stride = (int64_t)p.a.n_kv * d;
    __nv_bfloat16 *k = (__nv_bfloat16 *)p.c.k[row] + kv * d, *v = (__nv_bfloat16 *)p.c.v[row] + kv * d;
    int key0 = part * PIECE + warp * 16;
    uint4 kw[2][D / 32], vw[4][D / 64];
    keys_load<D>(kw, k, stride, key0, end, d);
    values_load<D>(vw, v, stride, key0, end, d);
    for (int i = threadIdx.x; i < (HEADS + 2) * (D / 8); i += THREADS)
        ((uint4 *)&sh)[i] = make_uint4(0, 0, 0, 0); // q, k and v
    __syncthreads();
    overlap_wait();

    bool has_new = fresh && pos / PIECE % MAX_PARTS == part, appends = has_new && head0 % p.group == 0;
    int quads = d / 8; // of half a head
    for (int i = threadIdx.x; i < (p.heads + (has_new ? 2 : 0)) * quads; i += THREADS) {
        int h = i / quads, j = i % quads * 4;
        if (h < p.heads)
            row_bring(&p, (const __nv_bfloat16 *)p.a.q.data + row * p.a.q.stride + (head0 + h) * d, row, j, fresh,
                      sh.q[h], NULL);
        else if (h == p.heads)
            row_bring(&p, (const __nv_bfloat16 *)p.k.data + row * p.k.stride + kv * d, row, j, true, sh.k,
                      appends ? k + pos * stride : NULL);
        else
            row_bring(&p, (const __nv_bfloat16 *)p.v.data + row * p.v.stride + kv * d, row, j, false, sh.v,
                      appends ? v + pos * stride : NULL);
    }
    __syncthreads();

    float out[D / 64][8][4], max = -INFINITY, sum = 0.0f; // of head g; sum: of this lane's keys
#pragma unroll
    for (int b = 0; b < D / 64; b++)
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                out[b][j][e] = 0.0f;
    float scale = p.a.scale * 1.4426950408889634f; // log2(e)
    for (; key0 - warp * 16 <= pos; key0 += MAX_PARTS * PIECE) {
        int next = key0 + MAX_PARTS * PIECE;
        if (fresh && pos - key0 >= 0 && pos - key0 < 16) { // the new key is this warp's
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int b = 0; b < D / 32; b++)
                    if (key0 + 8 * n + g == pos)
                        kw[n][b] = sh.k[4 * b + t];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int b = 0; b < D / 64; b++)
                    if (key0 + value_key(i) == pos)
                        vw[i][b] = sh.v[8 * b + g];
        }
        float s[2][4], top = max;
        scores_of<D>(s, &sh, kw);
        keys_load<D>(kw, k, stride, next, end, d); // zeros behind the last piece
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                s[n][e] = key0 + 8 * n + 2 * t + e <= pos ? s[n][e] * scale : -INFINITY;
                top = fmaxf(top, s[n][e]);
            }
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float shift = top == -INFINITY ? 0.0f : top; // a warp may have seen no key yet
        float old = exp2_fast(max - shift);
        max = top;
        sum *= old;
        uint32_t prob[4]; // of keys 2 t, of keys 2 t + 8: the upper part and the rest
#pragma unroll
        for (int n = 0; n < 2; n++) {
            float x = exp2_fast(s[n][0] - shift), y = exp2_fast(s[n][1] - shift);
            sum += x + y;
            prob[2 * n] = pack_bf16(x, y);
            prob[2 * n + 1] = pack_bf16(x - low_f32(prob[2 * n]), y - high_f32(prob[2 * n]));
        }
#pragma unroll
        for (int b = 0; b < D / 64; b++)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const uint32_t pairs[2] = {pair_of(vw[0][b], vw[1][b], j), pair_of(vw[2][b], vw[3][b], j)};
#pragma unroll
                for (int e = 0; e < 4; e++)
                    out[b][j][e] *= old;
                mma_bf16(out[b][j], prob, pairs);
            }
        values_load<D>(vw, v, stride, next, end, d);
    }

    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (t == 0) {
        sh.max[warp][g] = max;
        sh.sum[warp][g] = sum;
    }
#pragma unroll
    for (int b = 0; b < D / 64; b++)
#pragma unroll
        for (int j = 0; j < 8; j += 4)
#pragma unroll
            for (int e = 0; e < 2; e++) // columns 8 (2 t + e) + j of the 64
                sh.out[warp][g][16 * b + 4 * t + 2 * e + j / 4] =
                    make_float4(out[b][j][e] + out[b][j][e + 2], out[b][j + 1][e] + out[b][j + 1][e + 2],
                                out[b][j + 2][e] + out[b][j + 2][e + 2], out[b][j + 3][e] + out[b][j + 3][e + 2]);
    __syncthreads();

    int fours = d / 4, size = p.heads * (d + 4);
    float *parts = p.part + ((int64_t)row * gridDim.y + blockIdx.y) * p.n_part * size;
    for (int i = threadIdx.x; i < p.heads * fours; i += THREADS) {
        int h = i / fours, c = i % fours;
        float top_of = -INFINITY, total = 0.0f;
        float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int w = 0; w < N_WARP; w++)
            top_of = fmaxf(top_of, sh.max[w][h]);
#pragma unroll
        for (int w = 0; w < N_WARP; w++) {
            float f = exp2_fast(sh.max[w][h] - top_of);
            total = fmaf(sh.sum[w][h], f, total);
            add_scaled(&value, sh.out[w][h][c], f);
        }
        if (n_part == 1) {
            y_store(&p, row, head0 * d + 4 * i, value, total);
            continue;
        }
        float *mine = parts + part * size;
        ((float4 *)mine)[i] = value;
        if (c == 0)
            ((float2 *)(mine + p.heads * d))[h] = make_float2(top_of, total);
    }
    if (n_part == 1)
        return;

    __threadfence(); // this thread's part is there for all before its block is counted
    __syncthreads();
    if (threadIdx.x == 0)
        sh.before = atomicInc(p.a.turn + row * gridDim.y + blockIdx.y, (unsigned)n_part - 1);
    __syncthreads();
    if (sh.before != (unsigned)n_part - 1)
        return;
    __threadfence();
    for (int i = threadIdx.x; i < n_part * p.heads; i += THREADS) {
        int n = i / p.heads, h = i % p.heads;
        float2 m = __ldcg((const float2 *)(parts + n * size + p.heads * d) + h);
        sh.part_max[n][h] = m.x;
        sh.part_sum[n][h] = m.y;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < p.heads * fours; i += THREADS) {
        int h = i / fours;
        float top_of = -INFINITY, total = 0.0f;
        float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int n = 0; n < n_part; n++)
            top_of = fmaxf(top_of, sh.part_max[n][h]);
#pragma unroll 8
        for (int n = 0; n < n_part; n++) {
            float f = exp2_fast(sh.part_max[n][h] - top_of);
            total = fmaf(sh.part_sum[n][h], f, total);
            add_scaled(&value, __ldcg((const float4 *)(parts + n * size) + i), f);
        }
        y_store(&p, row, head0 * d + 4 * i, value, total);
    }
}

// Heads of a block: a divisor of the group.
static int heads_of(int group)
{
    int n = group < HEADS ? group : HEADS;
    while (group % n != 0)
        n--;
    return n;
}

static int parts_of(int n_k_max)
{
    int n = (n_k_max + PIECE - 1) / PIECE;
    return n < MAX_PARTS ? n : MAX_PARTS;
}

static bool aligned(const struct cuda_view *m)
{
    return m->stride % 8 == 0 && (uintptr_t)m->data % 16 == 0;
}

bool attention_step_serves(const struct cuda_attention_few *a, const struct cuda_rope *r,
                           const struct cuda_cache_rows *c)
{
    if (!a->turn || !a->cache_bf16 || a->d_head % 8 != 0 || a->d_head > 128 || !a->q.is_bf16 || !aligned(&a->q) ||
        !aligned(&a->y) || c->n_row * (a->n_head / heads_of(a->n_head / a->n_kv)) > CUDA_STEP_TURNS)
        return false;
    for (int i = 0; i < c->n_row; i++)
        if ((uintptr_t)c->k[i] % 16 != 0 || (uintptr_t)c->v[i] % 16 != 0)
            return false;
    return !r || (r->k.data && r->v.data && r->k.is_bf16 && r->v.is_bf16 && aligned(&r->k) && aligned(&r->v) &&
                  (uintptr_t)r->table % 16 == 0);
}

size_t attention_step_scratch(int n_row, int n_head, int d_head, int n_k_max)
{
    return (size_t)n_row * (size_t)n_head * (size_t)parts_of(n_k_max) * ((size_t)d_head + 4) * sizeof(float);
}

int attention_step(const struct cuda_attention_few *a, const struct cuda_rope *r, const struct cuda_cache_rows *c,
                   void *stream)
{
    struct step p;
    const struct cuda_view none = {NULL, true, 0, 0, 0};
    p.a = *a;
    p.c = *c;
    p.k = r ? r->k : none;
    p.v = r ? r->v : none;
    p.table = r ? r->table : NULL;
    p.pairs = r && r->pairs;
    p.part = (float *)a->scratch;
    p.n_part = parts_of(a->n_k_max);
    p.group = a->n_head / a->n_kv;
    p.heads = heads_of(p.group);
    dim3 grid((unsigned)p.n_part, (unsigned)(a->n_head / p.heads), (unsigned)c->n_row);
    return a->d_head <= 64 ? overlap_launch(step_kernel<64>, grid, THREADS, 0, stream, p)
                           : overlap_launch(step_kernel<128>, grid, THREADS, 0, stream, p);
}
