// SPDX-License-Identifier: MIT
// Weights in blocks on the device. Those of a GGUF file come as they are there, blocks to planes; plain linear layers are
// quantised on their way: W + lora_scale B A in f32, then blocks, then planes. The formats and their kernels:
// quant_kernels.h.
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "gpu/cuda/device.h"

enum { SLAB_BYTES = 64 << 20 }; // of f32 rows, or of a file's blocks, at a time

static const char LANGUAGE[] = "lm.";

bool place_stored(const struct gpu *g, const struct tensor *t, enum cuda_quant *type)
{
    if (g->compute != COMPUTE_BF16 || t->rank != 2)
        return false;
    switch (t->dtype) {
    case DT_Q8_0:
        *type = CUDA_QUANT_Q8_0;
        return true;
    case DT_Q4_0:
        *type = CUDA_QUANT_Q4_0;
        return true;
    case DT_Q4_K:
        *type = CUDA_QUANT_Q4_K;
        return true;
    case DT_Q6_K:
        *type = CUDA_QUANT_Q6_K;
        return true;
    default:
        return false;
    }
}

bool place_quantised(const struct gpu *g, const struct linear *w)
{
    enum cuda_quant stored;
    if (place_stored(g, &w->w, &stored))
        return true;
    return g->weights != GPU_WEIGHTS_PLAIN && g->compute == COMPUTE_BF16 && w->w.rank == 2 &&
           w->w.dim[1] % 32 == 0 && w->w.name && !strncmp(w->w.name, LANGUAGE, sizeof LANGUAGE - 1);
}

bool place_merges(const struct gpu *g, const struct linear *w)
{
    return g->compute == COMPUTE_BF16 && g->weights == GPU_WEIGHTS_PLAIN && w->w.rank == 2 &&
           w->w.dim[1] % PLACED_K_STEP == 0 && w->w.name &&
           !strncmp(w->w.name, LANGUAGE, sizeof LANGUAGE - 1);
}

// Q4_K_M gives more bits to the first and last eighth of the layers and to every third between.
static bool more_bits(size_t layer, size_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static enum cuda_quant choose(const struct gpu *g, const struct tensor *w)
{
    static const enum cuda_quant whole[GPU_WEIGHTS_N] = {[GPU_WEIGHTS_Q8_0] = CUDA_QUANT_Q8_0,
                                                         [GPU_WEIGHTS_Q4_0] = CUDA_QUANT_Q4_0,
                                                         [GPU_WEIGHTS_Q4_K_M] = CUDA_QUANT_Q4_K,
                                                         [GPU_WEIGHTS_Q6_K] = CUDA_QUANT_Q6_K};
    enum cuda_quant t = whole[g->weights];
    if (place_stored(g, w, &t))
        return t;
    const char *layers = strstr(w->name, ".layers.");
    size_t layer = 0;
    if (layers)
        sscanf(layers, ".layers.%zu.", &layer);
    bool precious = strstr(w->name, "v_proj") || strstr(w->name, "down_proj") ||
                    strstr(w->name, ".wqkv") || strstr(w->name, "feed_forward.w2");
    if (g->weights == GPU_WEIGHTS_Q4_K_M && (!layers || (precious && more_bits(layer, g->n_layer))))
        t = CUDA_QUANT_Q6_K;
    if (w->dim[1] % (size_t)cuda_quant_block(t) != 0)
        t = CUDA_QUANT_Q8_0; // rows that are no multiple of a super-block
    return t;
}

// A^T of lora_a [r, k] as f32 to out, on the device: [k, r].
static int place_transposed(struct gpu *g, const struct tensor *a, void *out, struct err *e)
{
    int rc;
    size_t r = a->dim[0], k = a->dim[1];
    float *rows = mem_calloc(r * k, sizeof *rows), *turned = mem_calloc(r * k, sizeof *turned);
    if (!rows || !turned)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", a->name));
    dtype_to_f32(rows, a->data, a->dtype, r * k);
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j < k; j++)
            turned[j * r + i] = rows[i * k + j];
    struct tensor t = {.data = turned, .dtype = DT_F32, .rank = 2, .dim = {k, r}, .name = a->name};
    TRY(place_rows(g, &t, k, r, out, r * sizeof(float), DT_F32, e));
    TRY(place_finish(g, e));
fail:
    mem_free(rows);
    mem_free(turned);
    return rc;
}

// With n rows, k inputs and LoRA's rank r.
enum slab_part {
    SLAB_W,         // f32 [n, k]
    SLAB_RAW,       // bf16 [n, k]: rows of a bf16 layer as they are
    SLAB_BLOCKS,    // the rows quantised
    SLAB_WORKSPACE, // of the product B A
    SLAB_B,         // f32 [n, r]
    SLAB_A,         // f32 [k, r]
    SLAB_PARTS
};

// Rows of a layer, some at a time: f32, plus LoRA, blocks, planes.
struct slab {
    size_t rows;
    struct {
        void *p;
        size_t bytes; // 0 = not taken
    } part[SLAB_PARTS];
};

// Rows [from, from + m) of l, with LoRA merged in, into s->w.
static int merged_rows(struct gpu *g, const struct linear *l, size_t from, size_t m,
                       const struct slab *s, struct err *e)
{
    int rc;
    size_t k = l->w.dim[1], r = s->part[SLAB_A].p ? l->lora_a.dim[0] : 0;
    void *f32 = s->part[SLAB_W].p, *raw = s->part[SLAB_RAW].p;
    struct tensor rows = l->w, b = l->lora_b;
    rows.data = (const char *)l->w.data + dtype_span(l->w.dtype, from * k);
    if (raw) { // half as many bytes on their way, and nothing to convert on the host
        TRY(place_rows(g, &rows, m, k, raw, k * 2, DT_BF16, e));
        int status =
            cuda_copy((struct cuda_view){f32, false, (int)m, (int)k, (int64_t)k},
                      (struct cuda_view){raw, true, (int)m, (int)k, (int64_t)k}, g->copies);
        if (status != 0)
            TRY(cuda_error(e, ERR_FAIL, g, l->w.name, (cudaError_t)status));
    } else {
        TRY(place_rows(g, &rows, m, k, f32, k * sizeof(float), DT_F32, e));
    }
    if (r == 0)
        return 0;
    b.data = (const char *)b.data + from * r * dtype_bytes(b.dtype);
    TRY(place_rows(g, &b, m, r, s->part[SLAB_B].p, r * sizeof(float), DT_F32, e));
    TRY(device_product(g,
                       &(struct device_product){.y = {f32, false, (int)m, (int)k, (int64_t)k},
                                                .x = s->part[SLAB_B].p,
                                                .w = s->part[SLAB_A].p,
                                                .m = m,
                                                .n = k,
                                                .k = r,
                                                .x_stride = r,
                                                .w_stride = r,
                                                .alpha = l->lora_scale,
                                                .add = true,
                                                .workspace = s->part[SLAB_WORKSPACE].p},
                       g->copies, e));
fail:
    return rc;
}

static int quantise_rows(struct gpu *g, const struct linear *l, struct cuda_quant_weight part,
                         size_t first, const struct slab *s, struct err *e)
{
    int rc;
    size_t n = l->w.dim[0], k = l->w.dim[1];
    for (size_t from = 0; from < n; from += s->rows) {
        size_t m = min_size(s->rows, n - from);
        TRY(merged_rows(g, l, from, m, s, e));
        struct cuda_view f32 = {s->part[SLAB_W].p, false, (int)m, (int)k, (int64_t)k};
        int status = cuda_quant_pack(s->part[SLAB_BLOCKS].p, part.type, f32, g->copies);
        if (status == 0)
            status = cuda_quant_repack(&part, s->part[SLAB_BLOCKS].p, (int)(first + from), (int)m,
                                       g->copies);
        if (status != 0)
            TRY(cuda_error(e, ERR_FAIL, g, l->w.name, (cudaError_t)status));
        TRY(place_finish(g, e));
    }
    return 0;
fail:
    return rc;
}

// slab for l's rows; without blocks when block_bytes is 0. The caller frees it.
static int slab_init(struct gpu *g, const struct linear *l, size_t block, size_t block_bytes,
                     struct slab *s, struct err *e)
{
    int rc;
    size_t n = l->w.dim[0], k = l->w.dim[1];
    *s = (struct slab){.rows = min_size(n, max_size(SLAB_BYTES / (k * sizeof(float)), 1))};
    size_t want[SLAB_PARTS] = {[SLAB_W] = s->rows * k * sizeof(float),
                               [SLAB_RAW] = l->w.dtype == DT_BF16 ? s->rows * k * 2 : 0,
                               [SLAB_BLOCKS] = s->rows * (k / block) * block_bytes};
    if (tensor_present(&l->lora_a)) {
        want[SLAB_WORKSPACE] = PRODUCT_WORKSPACE;
        want[SLAB_B] = s->rows * l->lora_a.dim[0] * sizeof(float);
        want[SLAB_A] = l->lora_a.dim[0] * k * sizeof(float);
    }
    for (size_t i = 0; i < SLAB_PARTS; i++)
        if (want[i] > 0) {
            TRY(place_alloc(g, GPU_MEM_LOADING, want[i], l->w.name, &s->part[i].p, e));
            s->part[i].bytes = want[i];
        }
    if (s->part[SLAB_A].p)
        TRY(place_transposed(g, &l->lora_a, s->part[SLAB_A].p, e));
fail:
    return rc;
}

static void slab_free(struct gpu *g, struct slab *s)
{
    for (size_t i = 0; i < SLAB_PARTS; i++)
        device_give(g, GPU_MEM_LOADING, s->part[i].bytes, s->part[i].p);
}

static int quantise_layer(struct gpu *g, const struct linear *l, struct cuda_quant_weight part,
                          size_t first, struct err *e)
{
    int rc;
    struct slab s;
    TRY(slab_init(g, l, (size_t)cuda_quant_block(part.type),
                  (size_t)cuda_quant_block_bytes(part.type), &s, e));
    if (!g->plans)
        TRY(quantise_rows(g, l, part, first, &s, e));
fail:
    slab_free(g, &s);
    return rc;
}

int merge_layer(struct gpu *g, const struct linear *l, void *dst, size_t stride, struct err *e)
{
    int rc;
    struct slab s;
    size_t n = l->w.dim[0], k = l->w.dim[1];
    TRY(slab_init(g, l, 1, 0, &s, e));
    for (size_t from = 0; from < n && !g->plans; from += s.rows) {
        size_t m = min_size(s.rows, n - from);
        TRY(merged_rows(g, l, from, m, &s, e));
        struct cuda_view f32 = {s.part[SLAB_W].p, false, (int)m, (int)k, (int64_t)k};
        struct cuda_view to = {(char *)dst + from * stride, true, (int)m, (int)k,
                               (int64_t)(stride / 2)};
        int status = cuda_copy(to, f32, g->copies);
        if (status != 0)
            TRY(cuda_error(e, ERR_FAIL, g, l->w.name, (cudaError_t)status));
        TRY(place_finish(g, e));
    }
fail:
    slab_free(g, &s);
    return rc;
}

int place_blocks(struct gpu *g, const struct tensor *t, size_t rows, struct cuda_quant_weight part,
                 size_t first, struct err *e)
{
    int rc;
    size_t row_bytes = dtype_span(t->dtype, (size_t)part.k);
    size_t step = min_size(rows, max_size(SLAB_BYTES / row_bytes, 1)), bytes = step * row_bytes;
    struct tensor raw = {.dtype = DT_U8, .rank = 2, .name = t->name}; // bytes as they are
    void *slab = NULL;
    TRY(place_alloc(g, GPU_MEM_LOADING, bytes, t->name, &slab, e));
    for (size_t from = 0; from < rows && !g->plans; from += step) {
        size_t m = min_size(step, rows - from);
        raw.data = (const char *)t->data + from * row_bytes;
        TRY(place_rows(g, &raw, m, row_bytes, slab, row_bytes, DT_U8, e));
        int status = cuda_quant_repack(&part, slab, (int)(first + from), (int)m, g->copies);
        if (status != 0)
            TRY(cuda_error(e, ERR_FAIL, g, t->name, (cudaError_t)status));
    }
    TRY(place_finish(g, e));
fail:
    device_give(g, GPU_MEM_LOADING, bytes, slab);
    return rc;
}

int quantise_group(struct gpu *g, const struct linear *const *w, size_t n_w,
                   struct placed_linear *p, struct err *e)
{
    static const enum gpu_memory_kind memory_of[] = {[CUDA_QUANT_Q8_0] = GPU_MEM_Q8_0,
                                                     [CUDA_QUANT_Q4_0] = GPU_MEM_Q4_0,
                                                     [CUDA_QUANT_Q4_K] = GPU_MEM_Q4_K,
                                                     [CUDA_QUANT_Q6_K] = GPU_MEM_Q6_K};
    int rc;
    for (size_t i = 0; i < n_w;) {
        enum cuda_quant t = choose(g, &w[i]->w);
        size_t rows = 0, end = i, first = 0;
        while (end < n_w && choose(g, &w[end]->w) == t)
            rows += w[end++]->w.dim[0];
        struct cuda_quant_weight *part = &p->part[p->n_part];
        *part = (struct cuda_quant_weight){.type = t, .n_out = (int)rows, .k = (int)p->d_in};
        TRY(place_alloc(g, memory_of[t], cuda_quant_bytes(t, part->n_out, part->k), w[i]->w.name,
                        &part->planes, e));
        p->n_part++;
        for (; i < end; i++) {
            enum cuda_quant stored;
            if (place_stored(g, &w[i]->w, &stored))
                TRY(place_blocks(g, &w[i]->w, w[i]->w.dim[0], *part, first, e));
            else
                TRY(quantise_layer(g, w[i], *part, first, e));
            first += w[i]->w.dim[0];
        }
    }
    return 0;
fail:
    return rc;
}
