// SPDX-License-Identifier: MIT
// Weights on the device. They pass through two halves of pinned memory: the pool converts rows into one
// while the other is on its way.
//
// Keys are addresses of mapped tensors, which are unique while the model is open.
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/size.h"
#include "gpu/cuda/device.h"
#include "kernels/kernels.h"
#include "ops/backend.h"

enum { ROW_CHUNK = 64 };
enum placed_kind { PLACED_LINEAR, PLACED_VECTOR, PLACED_TABLE };

struct placed {
    enum placed_kind kind;
    const void *key;
    size_t n_w;
    struct placed_linear linear;
    void *data;                      // of vectors and plain tables
    struct cuda_quant_weight blocks; // of other tables
    bool ready;                      // false = an earlier try failed
};

struct placed_table {
    struct placed **slot;
    size_t n, cap; // cap a power of two
};

// ---- the table; under g->lock

static size_t slot_of(const struct placed_table *t, enum placed_kind kind, const void *key,
                      size_t n_w)
{
    uint64_t h = ((uintptr_t)key ^ (uint64_t)kind << 3 ^ (uint64_t)n_w) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 20) & (t->cap - 1);
    while (t->slot[i] &&
           !(t->slot[i]->kind == kind && t->slot[i]->key == key && t->slot[i]->n_w == n_w))
        i = (i + 1) & (t->cap - 1);
    return i;
}

static struct placed *find(const struct gpu *g, enum placed_kind kind, const void *key, size_t n_w)
{
    const struct placed_table *t = g->placed;
    return t ? t->slot[slot_of(t, kind, key, n_w)] : NULL;
}

static int table_grow(struct placed_table *t, struct err *e)
{
    struct placed_table bigger = {.cap = t->cap ? 2 * t->cap : 1024};
    bigger.slot = mem_calloc(bigger.cap, sizeof *bigger.slot);
    if (!bigger.slot)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i]) {
            const struct placed *p = t->slot[i];
            bigger.slot[slot_of(&bigger, p->kind, p->key, p->n_w)] = t->slot[i];
        }
    bigger.n = t->n;
    mem_free(t->slot);
    *t = bigger;
    return 0;
}

// New empty entry in the table.
static int add(struct gpu *g, enum placed_kind kind, const void *key, size_t n_w,
               struct placed **out, struct err *e)
{
    int rc;
    if (!g->placed)
        g->placed = mem_calloc(1, sizeof *g->placed);
    if (!g->placed)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    if (2 * (g->placed->n + 1) > g->placed->cap)
        TRY(table_grow(g->placed, e));
    struct placed *p = mem_calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    p->kind = kind;
    p->key = key;
    p->n_w = n_w;
    g->placed->slot[slot_of(g->placed, kind, key, n_w)] = p;
    g->placed->n++;
    *out = p;
    return 0;
fail:
    return rc;
}

// ---- bytes

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

// Rows of t (a matrix [rows, cols] whatever its rank) to dst, whose rows lie dst_stride bytes apart, in type `to`; each
// row times its element of scale, NULL = as it is.
static int place_scaled(struct gpu *g, const struct tensor *t, const float *scale, size_t rows,
                        size_t cols, char *dst, size_t dst_stride, enum dtype to, struct err *e)
{
    size_t row_bytes = cols * dtype_bytes(to), step = max_size(STAGE_BYTES / row_bytes, 1);
    cudaError_t s = cudaSuccess;
    unsigned half = 0;
    if (row_bytes > STAGE_BYTES)
        return err_set(e, ERR_LIMIT, "%s: rows of %zu bytes", t->name, row_bytes);
    if (g->plans)
        return 0;
    for (size_t from = 0; from < rows && s == cudaSuccess; from += step, half ^= 1) {
        size_t n = min_size(step, rows - from);
        char *stage = g->stage + half * (size_t)STAGE_BYTES;
        struct convert_job j = {.g = g,
                                .src = (const char *)t->data + dtype_span(t->dtype, from * cols),
                                .rows = n,
                                .cols = cols,
                                .from = t->dtype,
                                .to = to,
                                .scale = scale ? scale + from : NULL,
                                .dst = stage};
        s = cudaEventSynchronize(g->stage_done[half]);
        if (s != cudaSuccess)
            break;
        pool_run(g->pool, convert_task, &j, div_up(n, ROW_CHUNK));
        s = dst_stride == row_bytes
                ? cudaMemcpyAsync(dst + from * dst_stride, stage, n * row_bytes,
                                  cudaMemcpyHostToDevice, g->copies)
                : cudaMemcpy2DAsync(dst + from * dst_stride, dst_stride, stage, row_bytes,
                                    row_bytes, n, cudaMemcpyHostToDevice, g->copies);
        if (s == cudaSuccess)
            s = cudaEventRecord(g->stage_done[half], g->copies);
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

// ---- linear layers

bool place_folds(const struct gpu *g, const struct linear *w)
{
    return g->compute == COMPUTE_BF16 && !place_quantised(g, w);
}

// Data of the LayerScale that goes into the weights of w, or NULL.
static const void *folded(const struct gpu *g, const struct linear *const *w, size_t n_w,
                          const struct tensor *scale)
{
    return scale && n_w == 1 && place_folds(g, w[0]) ? scale->data : NULL;
}

static int place_group(struct gpu *g, const struct linear *const *w, size_t n_w,
                       const struct tensor *scale, struct placed_linear *p, struct err *e)
{
    int rc;
    enum dtype t = g->compute == COMPUTE_BF16 ? DT_BF16 : DT_F32;
    size_t elem = dtype_bytes(t), row = 0, lora = 0;
    bool bias = false;
    float *scales = NULL;
    cudaError_t s;
    p->d_in = linear_inputs(w[0]);
    for (size_t i = 0; i < n_w; i++) {
        p->n_out += w[i]->w.dim[0];
        bias = bias || tensor_present(&w[i]->b);
        if (tensor_present(&w[i]->lora_a)) {
            p->n_lora += w[i]->lora_a.dim[0];
            p->lora_scale = w[i]->lora_scale;
        }
    }
    bool quantised = place_quantised(g, w[0]);
    bool merged = place_merges(g, w[0]);
    if (quantised || merged)
        p->n_lora = 0;
    p->k_out = quantised ? p->d_in : round_up(p->d_in + p->n_lora, PLACED_K_STEP);
    size_t stride = p->k_out * elem;
    p->scale = folded(g, w, n_w, scale);
    if (p->scale && tensor_present(&w[0]->lora_a))
        TRY(err_set(e, ERR_FAIL, "%s: LoRA and LayerScale on one layer", w[0]->w.name));
    if (p->scale && !g->plans) {
        scales = mem_calloc(p->n_out, sizeof *scales);
        if (!scales)
            TRY(err_set(e, ERR_LIMIT, "%s: out of memory", w[0]->w.name));
        dtype_to_f32(scales, scale->data, scale->dtype, p->n_out);
    }
    if (quantised)
        TRY(quantise_group(g, w, n_w, p, e));
    else
        TRY(place_alloc(g, GPU_MEM_PLAIN, p->n_out * stride, w[0]->w.name, &p->w, e));
    if (p->n_lora > 0)
        TRY(place_alloc(g, GPU_MEM_LORA, p->n_lora * p->d_in * elem, w[0]->w.name, &p->lora_a, e));
    if (bias) {
        TRY(place_alloc(g, GPU_MEM_VECTORS, p->n_out * sizeof(float), w[0]->w.name,
                        (void **)&p->bias, e));
        TRY(place_alloc(g, GPU_MEM_VECTORS, p->n_out * 2, w[0]->w.name, &p->bias_bf16, e));
    }
    if (bias && !g->plans) {
        s = cudaMemsetAsync(p->bias, 0, p->n_out * sizeof(float), g->copies);
        if (s == cudaSuccess)
            s = cudaMemsetAsync(p->bias_bf16, 0, p->n_out * 2, g->copies);
        if (s != cudaSuccess)
            TRY(cuda_error(e, ERR_FAIL, g, "clearing a bias", s));
    }
    if (!quantised && !g->plans && p->k_out > p->d_in) {
        s = cudaMemset2DAsync((char *)p->w + p->d_in * elem, stride, 0, (p->k_out - p->d_in) * elem,
                              p->n_out, g->copies);
        if (s != cudaSuccess)
            TRY(cuda_error(e, ERR_FAIL, g, "clearing a weight's edge", s));
    }
    for (size_t i = 0; i < n_w; i++) {
        const struct linear *l = w[i];
        size_t n = l->w.dim[0];
        char *to = quantised || g->plans ? NULL : (char *)p->w + row * stride;
        if (merged && tensor_present(&l->lora_a))
            TRY(merge_layer(g, l, to, stride, e));
        else if (!quantised)
            TRY(place_scaled(g, &l->w, scales, n, p->d_in, to, stride, t, e));
        if (tensor_present(&l->b) && !g->plans) {
            size_t rows = scales ? n : 1, cols = n / rows;
            TRY(place_scaled(g, &l->b, scales, rows, cols, (char *)(p->bias + row),
                             cols * sizeof(float), DT_F32, e));
            TRY(place_scaled(g, &l->b, scales, rows, cols, (char *)p->bias_bf16 + row * 2, cols * 2,
                             DT_BF16, e));
        }
        if (!quantised && !merged && !g->plans && tensor_present(&l->lora_a)) {
            size_t r = l->lora_a.dim[0];
            TRY(place_rows(g, &l->lora_a, r, p->d_in, (char *)p->lora_a + lora * p->d_in * elem,
                           p->d_in * elem, t, e));
            TRY(place_rows(g, &l->lora_b, n, r, to + (p->d_in + lora) * elem, stride, t, e));
            lora += r;
        }
        row += n;
    }
    TRY(place_finish(g, e));
fail:
    mem_free(scales);
    return rc;
}

int place_linears(struct gpu *g, const struct linear *const *w, size_t n_w,
                  const struct tensor *scale, const struct placed_linear **out, struct err *e)
{
    int rc = 0;
    *out = NULL;
    if (n_w == 0 || n_w > PLACED_PARTS)
        return err_set(e, ERR_FAIL, "%zu linear layers at once", n_w);
    pthread_mutex_lock(&g->lock);
    struct placed *p = find(g, PLACED_LINEAR, w[0]->w.data, n_w);
    if (!p) {
        TRY(add(g, PLACED_LINEAR, w[0]->w.data, n_w, &p, e));
        TRY(place_group(g, w, n_w, scale, &p->linear, e));
        p->ready = true;
    }
    if (!p->ready)
        TRY(err_set(e, ERR_LIMIT, "cuda:%d: %s is not on the device", g->index, w[0]->w.name));
    if (p->linear.scale != folded(g, w, n_w, scale))
        TRY(err_set(e, ERR_FAIL, "cuda:%d: %s is there with another LayerScale", g->index,
                    w[0]->w.name));
    *out = &p->linear;
fail:
    pthread_mutex_unlock(&g->lock);
    return rc;
}

// ---- vectors and tables

static int place_plain(struct gpu *g, enum placed_kind kind, const struct tensor *t, size_t rows,
                       size_t cols, enum dtype to, void **out, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&g->lock);
    struct placed *p = find(g, kind, t->data, 1);
    if (!p) {
        TRY(add(g, kind, t->data, 1, &p, e));
        TRY(place_alloc(g, kind == PLACED_TABLE ? GPU_MEM_TABLES : GPU_MEM_VECTORS,
                        rows * cols * dtype_bytes(to), t->name, &p->data, e));
        TRY(place_rows(g, t, rows, cols, p->data, cols * dtype_bytes(to), to, e));
        TRY(place_finish(g, e));
        p->ready = true;
    }
    if (!p->ready)
        TRY(err_set(e, ERR_LIMIT, "cuda:%d: %s is not on the device", g->index, t->name));
    *out = p->data;
fail:
    pthread_mutex_unlock(&g->lock);
    return rc;
}

int place_vector(struct gpu *g, const struct tensor *t, const float **out, struct err *e)
{
    void *data = NULL;
    int rc = place_plain(g, PLACED_VECTOR, t, 1, tensor_count(t), DT_F32, &data, e);
    *out = data;
    return rc;
}

static int place_block_table(struct gpu *g, const struct tensor *t, enum cuda_quant type,
                             size_t rows, size_t cols, struct cuda_quant_weight *out, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&g->lock);
    struct placed *p = find(g, PLACED_TABLE, t->data, 1);
    if (!p) {
        TRY(add(g, PLACED_TABLE, t->data, 1, &p, e));
        p->blocks = (struct cuda_quant_weight){.type = type, .n_out = (int)rows, .k = (int)cols};
        TRY(place_alloc(g, GPU_MEM_TABLES, cuda_quant_bytes(type, (int)rows, (int)cols), t->name,
                        &p->blocks.planes, e));
        TRY(place_blocks(g, t, rows, p->blocks, 0, e));
        p->ready = true;
    }
    if (!p->ready)
        TRY(err_set(e, ERR_LIMIT, "cuda:%d: %s is not on the device", g->index, t->name));
    *out = p->blocks;
fail:
    pthread_mutex_unlock(&g->lock);
    return rc;
}

int place_table(struct gpu *g, const struct tensor *t, size_t cols, struct placed_rows *out,
                struct err *e)
{
    // of blocks that have no kernel a product, too, would read bf16
    bool rounds = dtype_is_block(t->dtype) && g->compute == COMPUTE_BF16;
    enum dtype to = t->dtype == DT_BF16 || rounds ? DT_BF16 : DT_F32;
    enum cuda_quant type;
    size_t rows = tensor_count(t) / cols;
    void *data = NULL;
    *out = (struct placed_rows){0};
    if (place_stored(g, t, &type))
        return place_block_table(g, t, type, rows, cols, &out->blocks, e);
    int rc = place_plain(g, PLACED_TABLE, t, rows, cols, to, &data, e);
    out->view = (struct cuda_view){data, to == DT_BF16, (int)rows, (int)cols, (int64_t)cols};
    return rc;
}

// For good: the account ends with the gpu.
static void placed_release(const struct placed *p)
{
    (void)cudaFree(p->linear.w);
    for (size_t k = 0; k < p->linear.n_part; k++)
        (void)cudaFree(p->linear.part[k].planes);
    (void)cudaFree(p->linear.lora_a);
    (void)cudaFree(p->linear.bias);
    (void)cudaFree(p->linear.bias_bf16);
    (void)cudaFree(p->data);
    (void)cudaFree(p->blocks.planes);
}

void placed_free(struct gpu *g)
{
    struct placed_table *t = g->placed;
    for (size_t i = 0; t && i < t->cap; i++) {
        struct placed *p = t->slot[i];
        if (p && !g->plans) // asks the runtime for nothing where there is no device
            placed_release(p);
        mem_free(p);
    }
    if (t)
        mem_free(t->slot);
    mem_free(t);
    g->placed = NULL;
}
