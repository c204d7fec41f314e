// SPDX-License-Identifier: MIT
// Bytes of weights to the device. They pass through two halves of pinned memory: the pool converts rows into one
// while the other is on its way. A row may be larger than that: it goes in parts.
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/size.h"
#include "gpu/cuda/device.h"
#include "kernels/kernels.h"

enum { ROW_CHUNK = 64 };
_Static_assert(STAGE_BYTES % (256 * sizeof(float)) == 0, "a part of a row is whole blocks");

int place_alloc(struct gpu *g, enum gpu_memory_kind kind, size_t bytes, const char *name,
                void **out, struct err *e)
{
    struct gpu_memory memory;
    cudaError_t s = device_take(g, kind, bytes, out);
    if (s == cudaSuccess)
        return 0;
    (void)cudaGetLastError();
    gpu_get_memory(g, &memory);
    if (s == cudaErrorMemoryAllocation)
        return err_set(
            e, ERR_LIMIT,
            "cuda:%d: %zu bytes for %s, %zu MiB are free and %zu MiB hold weights already",
            g->index, bytes, name, gpu_free_bytes(g) >> 20, gpu_memory_weights(memory.used) >> 20);
    return cuda_error(e, ERR_FAIL, g, "memory for weights", s);
}

struct convert_job {
    const struct gpu *g;
    const char *src; // rows without gaps
    size_t rows, cols;
    enum dtype from, to; // to: F32, BF16 or from
    const float *scale;  // [rows], a factor of each row, or NULL
    char *dst;
};

// n values, whole blocks, each times scale.
static void convert(const struct convert_job *j, const char *src, char *dst, size_t n, float scale)
{
    const struct kernels *k = j->g->kernels;
    float part[2048];
    for (size_t done = 0, m; done < n; done += m) {
        m = min_size(n - done, sizeof part / sizeof part[0]);
        const char *at = src + dtype_span(j->from, done);
        if (dtype_is_block(j->from))
            k->f32.unpack(part, at, j->from, m);
        else
            k->to_f32(part, at, j->from, m);
        for (size_t i = 0; j->scale && i < m; i++)
            part[i] *= scale;
        k->from_f32(dst + done * dtype_bytes(j->to), j->to, part, m);
    }
}

static void convert_task(void *ctx, size_t task, unsigned thread)
{
    const struct convert_job *j = ctx;
    size_t first = task * ROW_CHUNK, rows = min_size(ROW_CHUNK, j->rows - first);
    size_t n = rows * j->cols;
    const char *src = j->src + dtype_span(j->from, first * j->cols);
    char *dst = j->dst + first * j->cols * dtype_bytes(j->to);
    (void)thread;
    for (size_t r = 0; j->scale && r < rows; r++)
        convert(j, src + dtype_span(j->from, r * j->cols), dst + r * j->cols * dtype_bytes(j->to),
                j->cols, j->scale[first + r]);
    if (j->scale)
        return;
    if (j->from == j->to)
        memcpy(dst, src, n * dtype_bytes(j->to));
    else
        convert(j, src, dst, n, 1.0f);
}

// What goes through half of the stage at a time: rows, or of a row that is larger a part.
struct piece {
    const char *src;
    const float *scale;
    char *dst;
    size_t rows, cols;
};

static cudaError_t place_piece(struct gpu *g, const struct piece *p, size_t dst_stride,
                               enum dtype from, enum dtype to, unsigned half)
{
    size_t bytes = p->cols * dtype_bytes(to);
    struct convert_job j = {.g = g,
                            .src = p->src,
                            .rows = p->rows,
                            .cols = p->cols,
                            .from = from,
                            .to = to,
                            .scale = p->scale,
                            .dst = g->stage + half * (size_t)STAGE_BYTES};
    cudaError_t s = cudaEventSynchronize(g->stage_done[half]);
    if (s != cudaSuccess)
        return s;
    pool_run(g->pool, convert_task, &j, div_up(p->rows, ROW_CHUNK));
    s = p->rows == 1 || dst_stride == bytes
            ? cudaMemcpyAsync(p->dst, j.dst, p->rows * bytes, cudaMemcpyHostToDevice, g->copies)
            : cudaMemcpy2DAsync(p->dst, dst_stride, j.dst, bytes, bytes, p->rows,
                                cudaMemcpyHostToDevice, g->copies);
    return s == cudaSuccess ? cudaEventRecord(g->stage_done[half], g->copies) : s;
}

int place_scaled(struct gpu *g, const struct tensor *t, const float *scale, size_t rows,
                 size_t cols, char *dst, size_t dst_stride, enum dtype to, struct err *e)
{
    size_t most = STAGE_BYTES / dtype_bytes(to); // elements; whole blocks of any type
    size_t width = min_size(max_size(cols, 1), most), step = most / width, n_done = 0;
    cudaError_t s = cudaSuccess;
    if (g->plans)
        return 0;
    for (size_t row = 0; row < rows; row += step)
        for (size_t col = 0; col < cols && s == cudaSuccess; col += width) {
            struct piece p = {.src = (const char *)t->data + dtype_span(t->dtype, row * cols + col),
                              .scale = scale ? scale + row : NULL,
                              .dst = dst + row * dst_stride + col * dtype_bytes(to),
                              .rows = min_size(step, rows - row),
                              .cols = min_size(width, cols - col)};
            s = place_piece(g, &p, dst_stride, t->dtype, to, n_done++ % 2);
        }
    return s == cudaSuccess ? 0 : cuda_error(e, ERR_FAIL, g, t->name, s);
}

int place_rows(struct gpu *g, const struct tensor *t, size_t rows, size_t cols, char *dst,
               size_t dst_stride, enum dtype to, struct err *e)
{
    return place_scaled(g, t, NULL, rows, cols, dst, dst_stride, to, e);
}

int place_finish(struct gpu *g, struct err *e)
{
    cudaError_t s = g->plans ? cudaSuccess : cudaStreamSynchronize(g->copies);
    return s == cudaSuccess ? 0 : cuda_error(e, ERR_FAIL, g, "copying weights", s);
}
