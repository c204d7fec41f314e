// SPDX-License-Identifier: MIT
#include "device_matrix.h"
#include "median.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_ok, n_not_ok;

void report(bool ok, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s %d - ", ok ? "ok" : "not ok", n_ok + n_not_ok + 1);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    *(ok ? &n_ok : &n_not_ok) += 1;
}

int report_end(void)
{
    printf("# %d ok, %d not ok\n1..%d\n", n_ok, n_not_ok, n_ok + n_not_ok);
    return n_not_ok > 0 || n_ok == 0;
}

void cuda_must(int error, const char *what)
{
    if (error == 0)
        return;
    printf("not ok - %s: %s\n", what, cudaGetErrorString((cudaError_t)error));
    exit(1);
}

bool device_present(void)
{
    int n = 0;
    struct cudaDeviceProp p;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("1..0 # SKIP no CUDA device\n");
        return false;
    }
    cuda_must(cudaGetDeviceProperties(&p, 0), "device properties");
    printf("# device: %s\n", p.name);
    return true;
}

double device_ms(void (*call)(void *ctx, int i), void *ctx, int batch, int n)
{
    cudaEvent_t from, to;
    float *ms = malloc((size_t)n * sizeof *ms);
    cuda_must(cudaEventCreate(&from), "event");
    cuda_must(cudaEventCreate(&to), "event");
    int count = 0;
    for (int i = -1; i < n; i++) { // one to warm up
        cuda_must(cudaEventRecord(from, NULL), "event");
        for (int j = 0; j < batch; j++)
            call(ctx, count++);
        cuda_must(cudaEventRecord(to, NULL), "event");
        cuda_must(cudaEventSynchronize(to), "the timed kernel");
        if (i >= 0)
            cuda_must(cudaEventElapsedTime(&ms[i], from, to), "event");
    }
    double each = median_float(ms, (size_t)n) / batch;
    free(ms);
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return each;
}

// ---- numbers

double random_signed(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / 4503599627370496.0 - 1.0; // 2^52
}

static uint16_t to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

double bf16_rounded(double v)
{
    return (double)from_bf16(to_bf16((float)v));
}

bool value_near(double have, double want, double tolerance, bool is_bf16)
{
    if (is_bf16)
        tolerance += (fabs(want) + tolerance) / 256;
    return fabs(have - want) <= tolerance;
}

// ---- matrices

static size_t element_bytes(const struct matrix *m)
{
    return m->view.is_bf16 ? 2 : 4;
}

static char *element(const struct matrix *m, int row, int64_t col)
{
    return m->host + (size_t)(m->lead + row * m->view.stride + col) * element_bytes(m);
}

struct matrix matrix_new(bool is_bf16, int rows, int cols, int64_t lead, int64_t stride)
{
    struct matrix m = {.view = {NULL, is_bf16, rows, cols, stride}, .lead = lead};
    m.bytes = (size_t)(rows * stride) * (is_bf16 ? 2 : 4);
    void *p = NULL;
    cuda_must(cudaMalloc(&p, m.bytes), "cudaMalloc");
    m.device = p;
    m.host = malloc(m.bytes);
    memset(m.host, 0xff, m.bytes);
    m.view.data = m.device + (size_t)lead * element_bytes(&m);
    matrix_send(&m);
    return m;
}

void matrix_random(struct matrix *m, double scale)
{
    for (int r = 0; r < m->view.rows; r++)
        for (int c = 0; c < m->view.cols; c++)
            matrix_set(m, r, c, random_signed() * scale);
    matrix_send(m);
}

void matrix_send(const struct matrix *m)
{
    cuda_must(cudaMemcpy(m->device, m->host, m->bytes, cudaMemcpyHostToDevice), "copy to device");
}

void matrix_fetch(struct matrix *m)
{
    cuda_must(cudaMemcpy(m->host, m->device, m->bytes, cudaMemcpyDeviceToHost), "copy to host");
}

void matrix_free(struct matrix *m)
{
    cudaFree(m->device);
    free(m->host);
    *m = (struct matrix){0};
}

double matrix_get(const struct matrix *m, int row, int col)
{
    if (m->view.is_bf16) {
        uint16_t h;
        memcpy(&h, element(m, row, col), sizeof h);
        return (double)from_bf16(h);
    }
    float f;
    memcpy(&f, element(m, row, col), sizeof f);
    return (double)f;
}

void matrix_set(struct matrix *m, int row, int col, double v)
{
    float f = (float)v;
    uint16_t h = to_bf16(f);
    if (m->view.is_bf16)
        memcpy(element(m, row, col), &h, sizeof h);
    else
        memcpy(element(m, row, col), &f, sizeof f);
}

size_t matrix_trespass(const struct matrix *m)
{
    size_t n = 0, size = element_bytes(m), line = (size_t)m->view.stride * size;
    size_t from = (size_t)m->lead * size, to = from + (size_t)m->view.cols * size;
    for (size_t i = 0; i < m->bytes; i++)
        n += (i % line < from || i % line >= to) && (unsigned char)m->host[i] != 0xff;
    return n;
}
