// SPDX-License-Identifier: MIT
// Rotary positions, and the append of keys and values to their caches, in one launch: a thread per pair of
// elements of a head of q, k or v: (j, j + d/2), split halves as in InternLM2's rotate_half, or (2 j, 2 j + 1) where the
// rows of a GGUF file have the halves interleaved.
#include "gpu/cuda/machine.cuh"
#include "gpu/cuda/rotate.cuh"

enum { THREADS = 256 };

struct rope {
    struct cuda_rope a;
    struct cuda_cache_rows c; // only when a.cache
};

// Stores the pair of elements at and at + apart of p.
__device__ inline void store_pair(void *p, bool is_bf16, int64_t at, int apart, float lo, float hi)
{
    store_f32(p, is_bf16, at, lo);
    store_f32(p, is_bf16, at + apart, hi);
}

// As a value of m's type: what is cached is what the matrix has.
__device__ inline float rounded(bool is_bf16, float v)
{
    return is_bf16 ? __bfloat162float(__float2bfloat16_rn(v)) : v;
}

// grid: rows, blocks of pairs. Pairs of a row: heads of q, then of k, then of v.
__global__ void __launch_bounds__(THREADS) rope_kernel(const __grid_constant__ struct rope p)
{
    int half = p.a.d_head / 2, row = blockIdx.x, i = blockIdx.y * THREADS + threadIdx.x;
    int head = i / half, j = i % half;
    int first = p.a.pairs ? 2 * j : j, apart = p.a.pairs ? 1 : half;
    void *cache_k = p.a.cache ? (void *)p.c.k[row] : p.a.cache_k;
    void *cache_v = p.a.cache ? (void *)p.c.v[row] : p.a.cache_v;
    const float *t = p.a.table + (int64_t)row * p.a.d_head;
    float cosine = t[j], sine = t[j + half];
    const struct cuda_view *m = &p.a.q;
    if (head >= p.a.n_head) {
        head -= p.a.n_head;
        m = &p.a.k;
    }
    bool is_v = m == &p.a.k && head >= p.a.n_kv;
    if (is_v) {
        head -= p.a.n_kv;
        m = &p.a.v;
        if (head >= p.a.n_kv || !cache_v)
            return;
    }
    if (!m->data)
        return;
    int64_t at = row * m->stride + head * p.a.d_head + first;
    float lo = load_f32(m->data, m->is_bf16, at), hi = load_f32(m->data, m->is_bf16, at + apart);
    if (!is_v) {
        rotate_pair(&lo, &hi, cosine, sine);
        lo = rounded(m->is_bf16, lo);
        hi = rounded(m->is_bf16, hi);
        store_pair(m->data, m->is_bf16, at, apart, lo, hi);
    }
    if (m == &p.a.q || !cache_k)
        return;
    int64_t to = ((int64_t)p.a.pos[row] * p.a.n_kv + head) * p.a.d_head + first;
    store_pair(is_v ? cache_v : cache_k, p.a.cache_bf16, to, apart, lo, hi);
}

int cuda_rope(const struct cuda_rope *a, void *stream)
{
    struct rope p;
    p.a = *a;
    if (a->cache)
        p.c = *a->cache;
    else
        p.c.n_row = 0;
    int pairs = (a->n_head + 2 * a->n_kv) * (a->d_head / 2);
    if (a->rows == 0)
        return cudaSuccess;
    return launch(rope_kernel, dim3(a->rows, (pairs + THREADS - 1) / THREADS), THREADS, 0, stream, p);
}

struct rope_table {
    float *table;
    const uint32_t *pos;
    const float *inv_freq;
    int n, half;
};

__global__ void __launch_bounds__(THREADS) rope_table_kernel(const struct rope_table p)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= (int64_t)p.n * p.half)
        return;
    int64_t row = i / p.half, j = i % p.half;
    float angle = (float)p.pos[row] * p.inv_freq[j]; // a single product: nothing to contract
    p.table[row * 2 * p.half + j] = (float)cos((double)angle);
    p.table[row * 2 * p.half + p.half + j] = (float)sin((double)angle);
}

int cuda_rope_table(float *table, const uint32_t *pos, int n, int d_head, const float *inv_freq, void *stream)
{
    struct rope_table p = {table, pos, inv_freq, n, d_head / 2};
    int64_t elems = (int64_t)n * p.half;
    if (elems == 0)
        return cudaSuccess;
    return launch(rope_table_kernel, dim3((unsigned)((elems + THREADS - 1) / THREADS)), THREADS, 0, stream, p);
}
