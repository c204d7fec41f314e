// SPDX-License-Identifier: MIT
// Weights on the device, by the tensors that they are made of: looked up, or made when they are asked for first.
//
// Keys are addresses of mapped tensors, which are unique while the model is open.
//
// Easy to get wrong: what could not be made stays in the table and is refused from then on, with the memory that it has
// taken, until the gpu is closed.
#include "base/mem.h"
#include "base/size.h"
#include "gpu/cuda/device.h"
#include "ops/backend.h"

enum placed_kind { PLACED_LINEAR, PLACED_VECTOR, PLACED_TABLE };

struct placed_key {
    enum placed_kind kind;
    const void *data; // of the first tensor
    size_t n_w;       // tensors
};

struct placed {
    struct placed_key key;
    struct placed_linear linear;
    void *data;                      // of vectors and plain tables
    struct cuda_quant_weight blocks; // of other tables
    bool ready;                      // false = it could not be made
};

struct placed_table {
    struct placed **slot;
    size_t n, cap; // cap a power of two
};

// ---- the table; under g->lock

static bool same_key(struct placed_key a, struct placed_key b)
{
    return a.kind == b.kind && a.data == b.data && a.n_w == b.n_w;
}

static size_t slot_of(const struct placed_table *t, struct placed_key key)
{
    uint64_t h =
        ((uintptr_t)key.data ^ (uint64_t)key.kind << 3 ^ (uint64_t)key.n_w) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 20) & (t->cap - 1);
    while (t->slot[i] && !same_key(t->slot[i]->key, key))
        i = (i + 1) & (t->cap - 1);
    return i;
}

static int table_grow(struct placed_table *t, struct err *e)
{
    struct placed_table bigger = {.cap = t->cap ? 2 * t->cap : 1024};
    bigger.slot = mem_calloc(bigger.cap, sizeof *bigger.slot);
    if (!bigger.slot)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    for (size_t i = 0; i < t->cap; i++)
        if (t->slot[i])
            bigger.slot[slot_of(&bigger, t->slot[i]->key)] = t->slot[i];
    bigger.n = t->n;
    mem_free(t->slot);
    *t = bigger;
    return 0;
}

// The entry of key; a new one, all zero, has that only.
static int entry(struct gpu *g, struct placed_key key, bool *is_new, struct placed **out,
                 struct err *e)
{
    int rc;
    if (!g->placed)
        g->placed = mem_calloc(1, sizeof *g->placed);
    if (!g->placed)
        return err_set(e, ERR_LIMIT, "weights: out of memory");
    struct placed_table *t = g->placed;
    if (2 * (t->n + 1) > t->cap)
        TRY(table_grow(t, e));
    struct placed **at = &t->slot[slot_of(t, key)];
    *is_new = !*at;
    if (*is_new) {
        *at = mem_calloc(1, sizeof **at);
        if (!*at)
            return err_set(e, ERR_LIMIT, "weights: out of memory");
        (*at)->key = key;
        t->n++;
    }
    *out = *at;
    return 0;
fail:
    return rc;
}

// Makes what is to lie in p of `source`, on the device.
typedef int make_fn(struct gpu *g, const void *source, struct placed *p, struct err *e);

// The one way to any weight: what lies on the device for key, made of `source` if it is asked for first. *out stays as
// it is until the gpu is closed.
static int placed_get(struct gpu *g, struct placed_key key, const char *name, make_fn *make,
                      const void *source, const struct placed **out, struct err *e)
{
    int rc;
    bool is_new = false;
    struct placed *p = NULL;
    *out = NULL;
    pthread_mutex_lock(&g->lock);
    TRY(entry(g, key, &is_new, &p, e));
    if (is_new) {
        TRY(make(g, source, p, e));
        TRY(place_finish(g, e));
        p->ready = true;
    }
    if (!p->ready)
        TRY(err_set(e, ERR_LIMIT, "cuda:%d: %s is not on the device", g->index, name));
    *out = p;
fail:
    pthread_mutex_unlock(&g->lock);
    return rc;
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

struct group {
    const struct linear *const *w;
    size_t n_w;
    const struct tensor *scale;
};

static int make_group(struct gpu *g, const void *source, struct placed *placed, struct err *e)
{
    const struct group *group = source;
    const struct linear *const *w = group->w;
    const struct tensor *scale = group->scale;
    struct placed_linear *p = &placed->linear;
    size_t n_w = group->n_w;
    int rc = 0;
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
fail:
    mem_free(scales);
    return rc;
}

int place_linears(struct gpu *g, const struct linear *const *w, size_t n_w,
                  const struct tensor *scale, const struct placed_linear **out, struct err *e)
{
    const struct group group = {w, n_w, scale};
    const struct placed *p;
    int rc;
    *out = NULL;
    if (n_w == 0 || n_w > PLACED_PARTS)
        return err_set(e, ERR_FAIL, "%zu linear layers at once", n_w);
    const char *name = w[0]->w.name;
    TRY(placed_get(g, (struct placed_key){PLACED_LINEAR, w[0]->w.data, n_w}, name, make_group,
                   &group, &p, e));
    if (p->linear.scale != folded(g, w, n_w, scale))
        return err_set(e, ERR_FAIL, "cuda:%d: %s is there with another LayerScale", g->index, name);
    *out = &p->linear;
fail:
    return rc;
}

// ---- vectors and tables

struct rows {
    const struct tensor *t;
    size_t rows, cols;
    enum gpu_memory_kind memory;
    enum dtype to;        // plain
    enum cuda_quant type; // in blocks
};

static int make_plain(struct gpu *g, const void *source, struct placed *p, struct err *e)
{
    const struct rows *r = source;
    size_t row_bytes = r->cols * dtype_bytes(r->to);
    int rc;
    TRY(place_alloc(g, r->memory, r->rows * row_bytes, r->t->name, &p->data, e));
    TRY(place_rows(g, r->t, r->rows, r->cols, p->data, row_bytes, r->to, e));
fail:
    return rc;
}

static int make_blocks(struct gpu *g, const void *source, struct placed *p, struct err *e)
{
    const struct rows *r = source;
    int rc, n = (int)r->rows, k = (int)r->cols;
    p->blocks = (struct cuda_quant_weight){.type = r->type, .n_out = n, .k = k};
    TRY(place_alloc(g, r->memory, cuda_quant_bytes(r->type, n, k), r->t->name, &p->blocks.planes,
                    e));
    TRY(place_blocks(g, r->t, r->rows, p->blocks, 0, e));
fail:
    return rc;
}

int place_vector(struct gpu *g, const struct tensor *t, const float **out, struct err *e)
{
    const struct rows r = {t, 1, tensor_count(t), GPU_MEM_VECTORS, .to = DT_F32};
    const struct placed *p;
    int rc = placed_get(g, (struct placed_key){PLACED_VECTOR, t->data, 1}, t->name, make_plain, &r,
                        &p, e);
    *out = rc == 0 ? p->data : NULL;
    return rc;
}

int place_table(struct gpu *g, const struct tensor *t, size_t cols, struct placed_rows *out,
                struct err *e)
{
    struct rows r = {t, tensor_count(t) / cols, cols, GPU_MEM_TABLES, .to = DT_F32};
    const struct placed *p;
    bool blocks = place_stored(g, t, &r.type);
    int rc;
    // of blocks that have no kernel a product, too, would read bf16
    if (t->dtype == DT_BF16 || (dtype_is_block(t->dtype) && g->compute == COMPUTE_BF16))
        r.to = DT_BF16;
    *out = (struct placed_rows){0};
    TRY(placed_get(g, (struct placed_key){PLACED_TABLE, t->data, 1}, t->name,
                   blocks ? make_blocks : make_plain, &r, &p, e));
    out->blocks = p->blocks;
    if (!blocks)
        out->view =
            (struct cuda_view){p->data, r.to == DT_BF16, (int)r.rows, (int)cols, (int64_t)cols};
fail:
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
