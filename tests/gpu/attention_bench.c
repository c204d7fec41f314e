// SPDX-License-Identifier: MIT
// `check_gpu_attention --bench`: times of the attention kernels, medians of 20. Easy to get wrong: caches that a
// launch before has left in the second-level cache; those of a step are therefore taken in turn from a pool.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_case.h"
#include "median.h"

// Milliseconds of one of the `calls` launches that work does; median of 20.
static double median_ms(void (*work)(void *), void *arg, int calls)
{
    enum { N = 20 };
    float ms[N];
    cudaEvent_t from, to;
    must(cudaEventCreate(&from), "event");
    must(cudaEventCreate(&to), "event");
    work(arg);
    work(arg);
    for (int i = 0; i < N; i++) {
        must(cudaEventRecord(from, NULL), "event");
        work(arg);
        must(cudaEventRecord(to, NULL), "event");
        must(cudaEventSynchronize(to), "kernel");
        must(cudaEventElapsedTime(&ms[i], from, to), "event");
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return median_float(ms, N) / calls;
}

static void work_many(void *arg)
{
    const struct job *j = arg;
    must(cuda_attention_many(&j->a, NULL), "launch");
}

static void bench_many(struct shape s)
{
    struct job j = job_new(&s, ALL_BF16);
    double pairs = 0, ms[2];
    for (int i = 0; i < s.n_q; i++)
        pairs += s.causal && s.first_pos + i + 1 < s.n_k ? s.first_pos + i + 1 : s.n_k;
    for (int portable = 0; portable < 2; portable++) {
        cuda_attention_prefer_portable(portable != 0);
        ms[portable] = median_ms(work_many, &j, 1);
    }
    cuda_attention_prefer_portable(false);
    double flop = 4 * pairs * s.d * s.n_head * s.n_seq;
    printf("many seq %d q %d k %d heads %d/%d of %d%s: %.4f ms, %.0f TFLOP/s; portable %.4f ms, "
           "%.0f TFLOP/s\n",
           s.n_seq, s.n_q, s.n_k, s.n_head, s.n_kv, s.d, s.causal ? " causal" : "", ms[0],
           flop / ms[0] / 1e9, ms[1], flop / ms[1] / 1e9);
    job_free(&j);
}

struct few_job {
    struct cuda_attention_few a;
    struct cuda_cache_rows rows;
    char *pool;
    size_t cache_bytes;
    int n_cache,
        turn; // caches in the pool, taken in turn, so that none is still in the second-level cache
};

enum { FEW_CALLS = 16 };

static void work_few(void *arg)
{
    struct few_job *f = arg;
    for (int call = 0; call < FEW_CALLS; call++) {
        for (int i = 0; i < f->rows.n_row; i++) {
            f->rows.k[i] = f->pool + (size_t)(f->turn++ % f->n_cache) * f->cache_bytes;
            f->rows.v[i] = f->pool + (size_t)(f->turn++ % f->n_cache) * f->cache_bytes;
        }
        must(cuda_attention_few(&f->a, &f->rows, NULL), "launch");
    }
}

struct step_bench {
    cudaGraphExec_t exec;
    cudaStream_t stream;
};

static void bench_few(int n_row, int n_k)
{
    enum { HEADS = 32, KV = 8, D = 128 };
    struct few_job f = {.cache_bytes = (size_t)n_k * KV * D * 2, .rows.n_row = n_row};
    uint32_t pos[CUDA_FEW_ROWS], *device_pos;
    f.n_cache = (int)(((size_t)512 << 20) / f.cache_bytes);
    if (f.n_cache < 2 * n_row)
        f.n_cache = 2 * n_row;
    must(cudaMalloc((void **)&f.pool, (size_t)f.n_cache * f.cache_bytes), "memory");
    must(cudaMemset(f.pool, 0, (size_t)f.n_cache * f.cache_bytes), "memset");
    struct both q = filled(n_row, HEADS * D, HEADS * D, true, 1),
                y = poisoned(n_row, HEADS * D, HEADS * D, true);
    for (int i = 0; i < n_row; i++)
        pos[i] = (uint32_t)n_k - 1;
    must(cudaMalloc((void **)&device_pos, sizeof pos), "memory");
    must(cudaMemcpy(device_pos, pos, sizeof pos, cudaMemcpyHostToDevice), "copy");
    struct cuda_attention_few a = {y.v, q.v, true, device_pos, n_k,        HEADS,
                                   KV,  D,   0.1f, NULL,       turns_new()};
    must(cudaMalloc(&a.scratch, cuda_attention_few_scratch(n_row, HEADS, D, n_k)), "memory");
    f.a = a;
    double ms = median_ms(work_few, &f, FEW_CALLS);
    printf("few rows %d keys %d: %.4f ms, %.0f GB/s\n", n_row, n_k, ms,
           2.0 * n_row * (double)f.cache_bytes / ms / 1e6);
    turns_free(a.turn);
    cudaFree(a.scratch);
    cudaFree(device_pos);
    cudaFree(f.pool);
    release(&q);
    release(&y);
}

static void work_graph(void *arg)
{
    struct step_bench *b = arg;
    must(cudaGraphLaunch(b->exec, b->stream), "graph");
}

// A step's rotary positions, append and attention, of 32 layers with a cache each, recorded. The events' stream and
// the graph's wait for each other.
static void bench_step(int n_row, int n_k, bool overlap)
{
    enum { LAYERS = 32, HEADS = 32, KV = 8, D = 128, COLS = (HEADS + 2 * KV) * D };
    size_t bytes = (size_t)n_k * KV * D * 2, all = 2 * (size_t)LAYERS * (size_t)n_row * bytes;
    struct step_bench b;
    uint32_t pos[CUDA_FEW_ROWS], *device_pos;
    char *pool;
    cudaGraph_t graph;
    for (int i = 0; i < n_row; i++)
        pos[i] = (uint32_t)n_k - 1;
    must(cudaMalloc((void **)&device_pos, sizeof pos), "memory");
    must(cudaMemcpy(device_pos, pos, sizeof pos, cudaMemcpyHostToDevice), "copy");
    must(cudaMalloc((void **)&pool, all), "memory");
    must(cudaMemset(pool, 0, all), "memset");
    struct both m = filled(n_row, COLS, COLS, true, 1),
                y = poisoned(n_row, HEADS * D, HEADS * D, true);
    struct both table = filled(n_row, D, D, false, 1);
    struct cuda_attention_few a = {
        y.v,        slice(&m, 0, HEADS * D).v, true, device_pos, n_k, HEADS, KV, D, 0.1f, NULL,
        turns_new()};
    must(cudaMalloc(&a.scratch, cuda_attention_few_scratch(n_row, HEADS, D, n_k)), "memory");
    must(cudaDeviceSynchronize(), "memset");
    must(cudaStreamCreate(&b.stream), "stream");
    cuda_overlap(overlap);
    must(cudaStreamBeginCapture(b.stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int l = 0; l < LAYERS; l++) {
        struct cuda_cache_rows rows = {.n_row = n_row};
        for (int i = 0; i < n_row; i++) {
            rows.k[i] = pool + (size_t)(2 * (l * n_row + i)) * bytes;
            rows.v[i] = pool + (size_t)(2 * (l * n_row + i) + 1) * bytes;
        }
        struct cuda_rope r = {.q = a.q,
                              .k = slice(&m, HEADS * D, KV * D).v,
                              .v = slice(&m, (HEADS + KV) * D, KV * D).v,
                              .table = table.v.data,
                              .rows = n_row,
                              .n_head = HEADS,
                              .n_kv = KV,
                              .d_head = D,
                              .cache_bf16 = true,
                              .pos = device_pos,
                              .cache = &rows};
        must(cuda_attention_step(&a, &r, b.stream), "launch");
    }
    must(cudaStreamEndCapture(b.stream, &graph), "capture");
    cuda_overlap(true);
    must(cudaGraphInstantiate(&b.exec, graph, 0), "graph");
    double us = median_ms(work_graph, &b, LAYERS) * 1e3;
    printf("step of %d in a graph, rows %d keys %d%s: %.2f us each, %.0f GB/s\n", LAYERS, n_row,
           n_k, overlap ? "" : ", no overlap", us, 2.0 * n_row * (double)bytes / us / 1e3);
    cudaGraphExecDestroy(b.exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(b.stream);
    turns_free(a.turn);
    cudaFree(a.scratch);
    cudaFree(device_pos);
    cudaFree(pool);
    release(&m);
    release(&y);
    release(&table);
}

void attention_bench(void)
{
    static const struct shape shapes[] = {
        {1, 2049, 2049, 16, 16, 88, false, 0},     {3, 2049, 2049, 16, 16, 88, false, 0},
        {6, 2049, 2049, 16, 16, 88, false, 0},     {1, 65, 65, 32, 8, 128, true, 0},
        {1, 322, 322, 32, 8, 128, true, 0},        {1, 512, 4096, 32, 8, 128, true, 3584},
        {1, 512, 100000, 32, 8, 128, true, 99488}, {6, 160, 2049, 12, 12, 64, false, 0},
        {6, 160, 160, 12, 12, 64, false, 0},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench_many(shapes[i]);
    bench_few(1, 512);
    bench_few(1, 4096);
    bench_few(1, 32768);
    bench_few(8, 4096);
    bench_few(64, 512);
    for (int overlap = 0; overlap < 2; overlap++) {
        bench_step(1, 512, overlap != 0);
        bench_step(1, 4096, overlap != 0);
        bench_step(1, 32768, overlap != 0);
        bench_step(8, 512, overlap != 0);
        bench_step(32, 512, overlap != 0);
        bench_step(64, 512, overlap != 0);
    }
}
