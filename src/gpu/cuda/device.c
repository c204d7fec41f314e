// SPDX-License-Identifier: MIT
// Opening and closing a CUDA device. The CUDA runtime is linked in and finds the driver itself when it is
// first called: without a driver cudaGetDeviceCount fails, which is all that is needed to go on without.
#include "gpu/cuda/device.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

int cuda_error(struct err *e, int code, const struct gpu *g, const char *what, cudaError_t status)
{
    (void)cudaGetLastError(); // else the thread's next launch, of any engine, takes it for its own
    return err_set(e, code, "cuda:%d: %s: %s", g->index, what, cudaGetErrorString(status));
}

void device_enter(const struct gpu *g)
{
    // worked when g was opened; if it fails now, the last device stays current, of which g's streams take no kernels
    if (!g->plans)
        (void)cudaSetDevice(g->index);
}

bool gpu_is_built(void)
{
    return true;
}

int gpu_probe(int index, struct err *e)
{
    int n = 0;
    cudaError_t s = cudaGetDeviceCount(&n);
    (void)cudaGetLastError(); // the runtime remembers it
    if (s != cudaSuccess)
        return err_set(e, ERR_FAIL, "cuda:%d: no CUDA device: %s", index, cudaGetErrorString(s));
    if (index >= n)
        return err_set(e, ERR_FAIL, "cuda:%d: this machine has %d CUDA device%s", index, n,
                       n == 1 ? "" : "s");
    return 0;
}

static int open_device(struct gpu *g, struct err *e)
{
    struct cudaDeviceProp prop;
    int rc = gpu_probe(g->index, e);
    if (rc != 0)
        return rc;
    cudaError_t s = cudaSetDevice(g->index);
    if (s == cudaSuccess)
        s = cudaGetDeviceProperties(&prop, g->index);
    if (s != cudaSuccess)
        return cuda_error(e, ERR_FAIL, g, "opening", s);
    snprintf(g->info.name, sizeof g->info.name, "%.127s", prop.name);
    g->info.memory_bytes = prop.totalGlobalMem;
    g->info.major = (unsigned)prop.major;
    g->info.minor = (unsigned)prop.minor;
    if (prop.major < 8)
        return err_set(e, ERR_FAIL, "cuda:%d: %s has compute capability %d.%d, 8.0 is needed",
                       g->index, g->info.name, prop.major, prop.minor);
    return 0;
}

static int open_copies(struct gpu *g, struct err *e)
{
    cudaMemPool_t pool;
    uint64_t keep =
        UINT64_MAX; // freed memory stays ours: scratch and caches come and go with every question
    if (cudaDeviceGetDefaultMemPool(&pool, g->index) == cudaSuccess)
        (void)cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep);
    cudaError_t s = cudaStreamCreateWithFlags(&g->copies, cudaStreamNonBlocking);
    if (s == cudaSuccess)
        s = cudaHostAlloc((void **)&g->stage, 2 * (size_t)STAGE_BYTES, cudaHostAllocDefault);
    for (int i = 0; i < 2 && s == cudaSuccess; i++)
        s = cudaEventCreateWithFlags(&g->stage_done[i], cudaEventDisableTiming);
    return s == cudaSuccess ? 0 : cuda_error(e, ERR_LIMIT, g, "streams and pinned memory", s);
}

// What needs no device.
static int new_gpu(const struct gpu_options *opt, struct gpu **out, struct err *e)
{
    *out = NULL;
    struct gpu *g = mem_calloc(1, sizeof *g);
    if (!g)
        return err_set(e, ERR_LIMIT, "cuda: out of memory");
    g->index = opt->index;
    g->compute = opt->compute;
    g->pool = opt->pool;
    g->kernels = opt->kernels;
    g->weights = opt->weights;
    g->n_layer = opt->n_layer;
    if (pthread_mutex_init(&g->lock, NULL) != 0 || pthread_mutex_init(&g->algo_lock, NULL) != 0 ||
        pthread_mutex_init(&g->idle_lock, NULL) != 0 ||
        pthread_mutex_init(&g->memory_lock, NULL) != 0) {
        mem_free(g);
        return err_set(e, ERR_LIMIT, "cuda: out of memory for a lock");
    }
    *out = g;
    return 0;
}

int gpu_open_plan(const struct gpu_options *opt, struct gpu **out, struct err *e)
{
    int rc = new_gpu(opt, out, e);
    if (rc == 0)
        (*out)->plans = true;
    return rc;
}

int gpu_open(const struct gpu_options *opt, struct gpu **out, struct err *e)
{
    struct gpu *g;
    int rc = new_gpu(opt, &g, e);
    *out = NULL;
    if (rc != 0)
        return rc;
    TRY(open_device(g, e));
    TRY(lt_open(&g->lt, e));
    if (g->lt.create(&g->handle) != CUBLAS_STATUS_SUCCESS)
        TRY(err_set(e, ERR_FAIL, "cuda:%d: cuBLASLt does not start", g->index));
    TRY(open_copies(g, e));
    *out = g;
    return 0;
fail:
    gpu_close(g);
    return rc;
}

// What the device's pool keeps and nobody uses goes back to the driver: the pool is the process's and outlives g.
static void trim_pool(const struct gpu *g)
{
    cudaMemPool_t pool;
    if (cudaDeviceGetDefaultMemPool(&pool, g->index) == cudaSuccess)
        (void)cudaMemPoolTrimTo(pool, 0);
}

void gpu_close(struct gpu *g)
{
    if (!g)
        return;
    if (g->info.memory_bytes > 0)
        device_enter(g);
    streams_free(g);
    placed_free(g);
    product_free(g);
    if (g->info.memory_bytes > 0) // never of a gpu that only plans
        trim_pool(g);
    for (int i = 0; i < 2; i++)
        if (g->stage_done[i])
            (void)cudaEventDestroy(g->stage_done[i]);
    if (g->stage)
        (void)cudaFreeHost(g->stage);
    if (g->copies)
        (void)cudaStreamDestroy(g->copies);
    if (g->handle)
        g->lt.destroy(g->handle);
    lt_close(&g->lt);
    pthread_mutex_destroy(&g->memory_lock);
    pthread_mutex_destroy(&g->idle_lock);
    pthread_mutex_destroy(&g->algo_lock);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

void gpu_get_info(const struct gpu *g, struct gpu_info *out)
{
    *out = g->info;
}

size_t gpu_pinned_bytes(size_t n_stream)
{
    return 2 * (size_t)STAGE_BYTES + n_stream * RING_BYTES;
}

// Bytes that the device's pool keeps though nobody uses them: taken from the driver, but free for what this process asks
// for next (cudaMalloc has them released when it would fail).
static size_t kept_by_pool(const struct gpu *g)
{
    cudaMemPool_t pool;
    uint64_t reserved = 0, used = 0;
    if (cudaDeviceGetDefaultMemPool(&pool, g->index) != cudaSuccess ||
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used) != cudaSuccess ||
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) != cudaSuccess)
        return 0;
    return reserved > used ? (size_t)(reserved - used) : 0;
}

size_t gpu_free_bytes(const struct gpu *g)
{
    size_t left = 0, all = 0;
    if (g->plans || cudaSetDevice(g->index) != cudaSuccess ||
        cudaMemGetInfo(&left, &all) != cudaSuccess)
        return 0;
    return left + kept_by_pool(g);
}
