// SPDX-License-Identifier: MIT
// What check_gpu_attention.c and attention_bench.c are made of. Easy to get wrong: a matrix ends with the last column
// of its last row, so that a kernel that reads or writes a whole last stride is found.
#include "attention_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int n_case, n_bad;

void report(int good, const char *what, const char *why)
{
    printf("%s %d - %s%s%s\n", good ? "ok" : "not ok", ++n_case, what, *why ? ": " : "", why);
    fflush(stdout);
    n_bad += !good;
}

void must(int e, const char *what)
{
    if (e == cudaSuccess)
        return;
    printf("Bail out! %s: %s\n", what, cudaGetErrorString((cudaError_t)e));
    exit(1);
}

// ---- numbers

uint64_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

float to_bf16(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&v, &u, 4);
    return v;
}

float get(const void *p, bool is_bf16, int64_t i)
{
    float v;
    if (!is_bf16)
        return ((const float *)p)[i];
    uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
    memcpy(&v, &u, 4);
    return v;
}

void put(void *p, bool is_bf16, int64_t i, float v)
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

size_t element(bool is_bf16)
{
    return is_bf16 ? 2 : 4;
}

void push(const struct both *m)
{
    must(cudaMemcpy(m->v.data, m->host, m->bytes, cudaMemcpyHostToDevice), "copy to the device");
}

void pull(const struct both *m)
{
    must(cudaMemcpy(m->host, m->v.data, m->bytes, cudaMemcpyDeviceToHost), "copy from the device");
}

// Ends with the last column of the last row.
struct both matrix(int rows, int cols, int64_t stride, bool is_bf16)
{
    struct both m = {{NULL, is_bf16, rows, cols, stride}, NULL, 0};
    m.bytes = (size_t)((rows - 1) * stride + cols) * element(is_bf16);
    m.host = malloc(m.bytes);
    if (!m.host)
        exit(1);
    must(cudaMalloc(&m.v.data, m.bytes), "memory");
    return m;
}

void release(struct both *m)
{
    free(m->host);
    cudaFree(m->v.data);
}

// Random in its columns, NaN behind them.
struct both filled(int rows, int cols, int64_t stride, bool is_bf16, float size)
{
    struct both m = matrix(rows, cols, stride, is_bf16);
    int64_t n = (rows - 1) * stride + cols;
    for (int64_t i = 0; i < n; i++)
        put(m.host, is_bf16, i,
            i % stride < cols ? ((float)next_random() / 1073741824.0f - 1.0f) * size : NAN);
    push(&m);
    return m;
}

struct both poisoned(int rows, int cols, int64_t stride, bool is_bf16)
{
    struct both m = matrix(rows, cols, stride, is_bf16);
    memset(m.host, CANARY, m.bytes);
    push(&m);
    return m;
}

// What lies behind the columns of y is as it was.
int canary_stands(const struct both *m)
{
    size_t e = element(m->v.is_bf16);
    for (size_t i = 0; i < m->bytes; i++)
        if ((int64_t)(i / e) % m->v.stride >= m->v.cols && ((uint8_t *)m->host)[i] != CANARY)
            return 0;
    return 1;
}

// Columns [first, first + cols) of m.
struct both slice(const struct both *m, int first, int cols)
{
    struct both s = *m;
    s.v.data = (char *)m->v.data + (size_t)first * element(m->v.is_bf16);
    s.host = (char *)m->host + (size_t)first * element(m->v.is_bf16);
    s.v.cols = cols;
    return s;
}

// ---- a case of attention

struct job job_new(const struct shape *s, int types)
{
    struct job j;
    int q_cols = s->n_head * s->d, k_cols = s->n_kv * s->d, q_rows = s->n_seq * s->n_q,
        k_rows = s->n_seq * s->n_k;
    memset(&j, 0, sizeof j);
    if (s->n_q == s->n_k && types == ALL_BF16) { // slices of one matrix
        j.base[0] = filled(q_rows, q_cols + 2 * k_cols, q_cols + 2 * k_cols, true, 2);
        j.q = slice(&j.base[0], 0, q_cols);
        j.k = slice(&j.base[0], q_cols, k_cols);
        j.v = slice(&j.base[0], q_cols + k_cols, k_cols);
    } else {
        j.q = j.base[0] = filled(q_rows, q_cols, q_cols + 8, !(types & Q_F32), 2);
        j.k = j.base[1] = filled(k_rows, k_cols, k_cols + 16, !(types & K_F32), 2);
        j.v = j.base[2] = filled(k_rows, k_cols, k_cols + 24, !(types & V_F32), 2);
    }
    j.y = poisoned(q_rows, q_cols, q_cols + 8, !(types & Y_F32));
    struct cuda_attention a = {j.y.v,
                               j.q.v,
                               j.k.v,
                               j.v.v,
                               s->n_seq,
                               s->n_q,
                               s->n_k,
                               s->n_head,
                               s->n_kv,
                               s->d,
                               1.0f / sqrtf((float)s->d),
                               s->causal,
                               s->first_pos};
    j.a = a;
    return j;
}

void job_free(struct job *j)
{
    for (int i = 0; i < 3; i++)
        release(&j->base[i]);
    release(&j->y);
}

uint32_t *turns_new(void)
{
    void *p;
    must(cudaMalloc(&p, CUDA_STEP_TURNS * sizeof(uint32_t)), "memory");
    must(cudaMemset(p, 0, CUDA_STEP_TURNS * sizeof(uint32_t)), "memset");
    return p;
}

// They are all 0 again.
int turns_free(uint32_t *turn)
{
    uint32_t host[CUDA_STEP_TURNS];
    int good = 1;
    must(cudaMemcpy(host, turn, sizeof host, cudaMemcpyDeviceToHost), "copy");
    for (int i = 0; i < CUDA_STEP_TURNS; i++)
        good &= host[i] == 0;
    cudaFree(turn);
    return good;
}
