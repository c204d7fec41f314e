// SPDX-License-Identifier: MIT
// What check_gpu_attention.c is made of: the report, random numbers, and matrices that are here and on the device.
// For one source file: all of it is static.
#ifndef IV_TESTS_GPU_ATTENTION_CASE_H
#define IV_TESTS_GPU_ATTENTION_CASE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "gpu/cuda/device_kernels.h"

enum { CANARY = 0xa5 };

static int n_case, n_bad;

static void report(int good, const char *what, const char *why)
{
    printf("%s %d - %s%s%s\n", good ? "ok" : "not ok", ++n_case, what, *why ? ": " : "", why);
    fflush(stdout);
    n_bad += !good;
}

static void must(int e, const char *what)
{
    if (e == cudaSuccess)
        return;
    printf("Bail out! %s: %s\n", what, cudaGetErrorString((cudaError_t)e));
    exit(1);
}

// ---- numbers

static uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static float to_bf16(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&v, &u, 4);
    return v;
}

static float get(const void *p, bool is_bf16, int64_t i)
{
    float v;
    if (!is_bf16)
        return ((const float *)p)[i];
    uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
    memcpy(&v, &u, 4);
    return v;
}

static void put(void *p, bool is_bf16, int64_t i, float v)
{
    uint32_t u;
    if (!is_bf16) {
        ((float *)p)[i] = v;
        return;
    }
    memcpy(&u, &v, 4);
    u = v != v ? 0x7fc00000u : u + 0x7fff + (u >> 16 & 1);
    ((uint16_t *)p)[i] = (uint16_t)(u >> 16);
}

// ---- matrices, twice: here and on the device

struct both {
    struct cuda_view v; // data on the device
    void *host;
    size_t bytes;
};

static size_t element(bool is_bf16)
{
    return is_bf16 ? 2 : 4;
}

static void push(const struct both *m)
{
    must(cudaMemcpy(m->v.data, m->host, m->bytes, cudaMemcpyHostToDevice), "copy to the device");
}

static void pull(const struct both *m)
{
    must(cudaMemcpy(m->host, m->v.data, m->bytes, cudaMemcpyDeviceToHost), "copy from the device");
}

// Ends with the last column of the last row.
static struct both matrix(int rows, int cols, int64_t stride, bool is_bf16)
{
    struct both m = {{NULL, is_bf16, rows, cols, stride}, NULL, 0};
    m.bytes = (size_t)((rows - 1) * stride + cols) * element(is_bf16);
    m.host = malloc(m.bytes);
    if (!m.host)
        exit(1);
    must(cudaMalloc(&m.v.data, m.bytes), "memory");
    return m;
}

static void release(struct both *m)
{
    free(m->host);
    cudaFree(m->v.data);
}

// Random in its columns, NaN behind them.
static struct both filled(int rows, int cols, int64_t stride, bool is_bf16, float size)
{
    struct both m = matrix(rows, cols, stride, is_bf16);
    int64_t n = (rows - 1) * stride + cols;
    for (int64_t i = 0; i < n; i++)
        put(m.host, is_bf16, i,
            i % stride < cols ? ((float)next_random() / 1073741824.0f - 1.0f) * size : NAN);
    push(&m);
    return m;
}

static struct both poisoned(int rows, int cols, int64_t stride, bool is_bf16)
{
    struct both m = matrix(rows, cols, stride, is_bf16);
    memset(m.host, CANARY, m.bytes);
    push(&m);
    return m;
}

// What lies behind the columns of y is as it was.
static int canary_stands(const struct both *m)
{
    size_t e = element(m->v.is_bf16);
    for (size_t i = 0; i < m->bytes; i++)
        if ((int64_t)(i / e) % m->v.stride >= m->v.cols && ((uint8_t *)m->host)[i] != CANARY)
            return 0;
    return 1;
}

// Columns [first, first + cols) of m.
static struct both slice(const struct both *m, int first, int cols)
{
    struct both s = *m;
    s.v.data = (char *)m->v.data + (size_t)first * element(m->v.is_bf16);
    s.host = (char *)m->host + (size_t)first * element(m->v.is_bf16);
    s.v.cols = cols;
    return s;
}

#endif
