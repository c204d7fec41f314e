// SPDX-License-Identifier: MIT
// Device memory, counted by what it is for: whatever gpu/cuda takes passes through here. A gpu that only plans takes
// nothing, and what it counts is what another one will have taken: the same calls, the same sizes.
//
// Easy to get wrong: what is given back is counted with the bytes it was taken with.
#include "gpu/cuda/device.h"

#include <assert.h>

#include "base/size.h"

// The driver refuses requests of no bytes.
static size_t asked(size_t bytes)
{
    return max_size(bytes, 16);
}

static void count_more(struct gpu *g, enum gpu_memory_kind kind, size_t bytes)
{
    struct gpu_memory *m = &g->memory;
    pthread_mutex_lock(&g->memory_lock);
    m->used[kind] += bytes;
    m->used_all += bytes;
    m->peak[kind] = max_size(m->peak[kind], m->used[kind]);
    m->peak_all = max_size(m->peak_all, m->used_all);
    pthread_mutex_unlock(&g->memory_lock);
}

static void count_less(struct gpu *g, enum gpu_memory_kind kind, size_t bytes)
{
    pthread_mutex_lock(&g->memory_lock);
    g->memory.used[kind] -= bytes;
    g->memory.used_all -= bytes;
    pthread_mutex_unlock(&g->memory_lock);
}

cudaError_t device_take(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, void **out)
{
    cudaError_t s = cudaSuccess;
    *out = NULL;
    if (!g->plans)
        s = cudaMalloc(out, asked(bytes));
    if (s == cudaSuccess)
        count_more(g, kind, asked(bytes));
    else
        *out = NULL;
    return s;
}

void device_give(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, void *p)
{
    if (bytes == 0 || (!p && !g->plans))
        return;
    if (p)
        (void)cudaFree(p);
    count_less(g, kind, asked(bytes));
}

cudaError_t device_take_async(struct gpu *g, enum gpu_memory_kind kind, size_t bytes,
                              cudaStream_t stream, void **out)
{
    assert(!g->plans);
    *out = NULL;
    cudaError_t s = cudaMallocAsync(out, asked(bytes), stream);
    if (s == cudaSuccess)
        count_more(g, kind, asked(bytes));
    else
        *out = NULL;
    return s;
}

void device_give_async(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, cudaStream_t stream,
                       void *p)
{
    if (!p)
        return;
    (void)cudaFreeAsync(p, stream);
    count_less(g, kind, asked(bytes));
}

void gpu_get_memory(struct gpu *g, struct gpu_memory *out)
{
    pthread_mutex_lock(&g->memory_lock);
    *out = g->memory;
    pthread_mutex_unlock(&g->memory_lock);
}
