// SPDX-License-Identifier: MIT
// Matrices for the checks of CUDA kernels: a device copy and a host copy, canaries around the columns,
// poison under outputs; comparison with a witness in double.
#ifndef IV_TESTS_GPU_DEVICE_MATRIX_H
#define IV_TESTS_GPU_DEVICE_MATRIX_H

#include <cuda_runtime_api.h>

#include "gpu/cuda/device_kernels.h"

struct matrix {
    struct cuda_view view; // from column `lead` of the buffer on
    int64_t lead;
    size_t bytes;
    char *device, *host;
};

// A matrix in a buffer of `rows` rows of `stride` elements; everything is 0xff: NaN, and the canary.
struct matrix matrix_new(bool is_bf16, int rows, int cols, int64_t lead, int64_t stride);
void matrix_random(struct matrix *m, double scale); // on the host and the device
void matrix_send(const struct matrix *m);
void matrix_fetch(struct matrix *m);
void matrix_free(struct matrix *m);
double matrix_get(const struct matrix *m, int row, int col);
void matrix_set(struct matrix *m, int row, int col, double v); // rounded to the type; host only
// Bytes beside the columns that are no longer 0xff.
size_t matrix_trespass(const struct matrix *m);

double random_signed(void); // in (-1, 1)
double bf16_rounded(double v);
// |have - want| <= tolerance, plus half a step of bf16 where the result is one. NaN is never near.
bool value_near(double have, double want, double tolerance, bool is_bf16);

// "ok N - ..." or "not ok N - ..."; counted.
void report(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
int report_end(void);                        // prints the plan; the exit status
void cuda_must(int error, const char *what); // ends the process on an error
// Prints SKIP and returns false where there is no device.
bool device_present(void);
// Milliseconds of one call: the median of `n` batches of calls of call(ctx, i), i counting up.
double device_ms(void (*call)(void *ctx, int i), void *ctx, int batch, int n);

#endif
