// SPDX-License-Identifier: MIT
// What check_gpu_attention.c and attention_bench.c share: the report, random numbers, and matrices that are here and
// on the device.
#ifndef IV_TESTS_GPU_ATTENTION_CASE_H
#define IV_TESTS_GPU_ATTENTION_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#include "gpu/cuda/device_kernels.h"

enum { CANARY = 0xa5 };

extern int n_case, n_bad;
extern uint64_t seed; // of the random numbers

void report(int good, const char *what, const char *why);
void must(int e, const char *what); // ends the program unless e is cudaSuccess

// ---- numbers

float to_bf16(float v);
float get(const void *p, bool is_bf16, int64_t i);
void put(void *p, bool is_bf16, int64_t i, float v);

// ---- matrices, twice: here and on the device

struct both {
    struct cuda_view v; // data on the device
    void *host;
    size_t bytes;
};

size_t element(bool is_bf16);
// Ends with the last column of the last row.
struct both matrix(int rows, int cols, int64_t stride, bool is_bf16);
void push(const struct both *m); // to the device
void pull(const struct both *m); // from the device
void release(struct both *m);
// Random in its columns, NaN behind them.
struct both filled(int rows, int cols, int64_t stride, bool is_bf16, float size);
struct both poisoned(int rows, int cols, int64_t stride, bool is_bf16);
// What lies behind the columns of y is as it was.
int canary_stands(const struct both *m);
// Columns [first, first + cols) of m.
struct both slice(const struct both *m, int first, int cols);

// ---- a case of attention

struct shape {
    int n_seq, n_q, n_k, n_head, n_kv, d;
    bool causal;
    int first_pos;
};

enum types { ALL_BF16 = 0, Q_F32 = 1, K_F32 = 2, V_F32 = 4, Y_F32 = 8, ALL_F32 = 15 };

struct job {
    struct cuda_attention a;
    struct both q, k, v, y, base[3]; // base: what to release
};

struct job job_new(const struct shape *s, int types);
void job_free(struct job *j);
uint32_t *turns_new(void);
int turns_free(uint32_t *turn); // whether they are all 0 again

// ---- attention_bench.c: prints times of the kernels at the models' shapes

void attention_bench(void);

#endif
