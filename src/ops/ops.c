// SPDX-License-Identifier: MIT
// The front of every op: a failed stream does nothing, shapes that do not fit are programmer errors,
// empty matrices are left out, work is counted, then the backend runs. Also mats and the sticky status.
//
// Counted are products and attention (a multiply-add is two operations; a causal row only the keys it
// sees) and the bytes of weights that an op reads once, as they lie in the file.
#include "ops/ops.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "kernels/kernels.h"
#include "ops/backend.h"

static_assert((int)OPS_FEW_ROWS == (int)KERNEL_FEW_ROWS, "ops.h and kernels.h agree");
static_assert((int)OPS_HEAD_MAX == (int)KERNEL_HEAD_MAX, "ops.h and kernels.h agree");

// ---- mats

// A mat without memory (the planner's, or one that the arena refused) has no address to move.
static struct mat mat_at(struct mat m, size_t element, size_t rows, size_t cols)
{
    if (m.data)
        m.data = (char *)m.data + dtype_span(m.dtype, element);
    m.rows = rows;
    m.cols = cols;
    return m;
}

struct mat mat_rows(struct mat m, size_t from, size_t n)
{
    assert(from <= m.rows && n <= m.rows - from);
    return mat_at(m, from * m.stride, n, m.cols);
}

struct mat mat_cols(struct mat m, size_t from, size_t n)
{
    assert(from <= m.cols && n <= m.cols - from);
    return mat_at(m, from, m.rows, n);
}

struct mat mat_groups(struct mat m, size_t group, size_t from, size_t n)
{
    assert(m.stride == m.cols && m.rows % group == 0 && from <= group && n <= group - from);
    struct mat g = mat_at(m, from * m.stride, m.rows / group, n * m.cols);
    g.stride = group * m.cols;
    return g;
}

static bool same_shape(struct mat a, struct mat b)
{
    return a.rows == b.rows && a.cols == b.cols;
}

static bool is_f32(struct mat m)
{
    return m.dtype == DT_F32 && m.stride >= m.cols;
}

static enum dtype act_type(const struct ops *o)
{
    return o->backend->traits ? o->backend->traits(o)->act : DT_F32;
}

// What kernels of this stream read and write: f32, or the type of its activations.
static bool is_act(const struct ops *o, struct mat m)
{
    return is_f32(m) || (m.dtype == act_type(o) && m.stride >= m.cols);
}

// Nothing to do: a failure before, or no elements.
static bool idle(const struct ops *o, struct mat m)
{
    return o->status.code != 0 || m.rows == 0 || m.cols == 0;
}

// ---- tensors

size_t tensor_count(const struct tensor *t)
{
    size_t n = 1;
    for (unsigned i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

size_t linear_outputs(const struct linear *w)
{
    return w->w.dim[0];
}

size_t linear_inputs(const struct linear *w)
{
    size_t n = 1;
    for (unsigned i = 1; i < w->w.rank; i++)
        n *= w->w.dim[i];
    return n;
}

static bool is_weight(const struct tensor *t)
{
    return tensor_present(t) && (t->dtype == DT_F32 || t->dtype == DT_F16 || t->dtype == DT_BF16);
}

// Rows of one of these types, or of whole blocks.
static bool is_table(const struct tensor *t)
{
    return is_weight(t) || (tensor_present(t) && dtype_is_block(t->dtype) && t->rank == 2 &&
                            t->dim[1] % dtype_block(t->dtype) == 0);
}

static bool is_vector(const struct tensor *t, size_t n)
{
    return is_weight(t) && tensor_count(t) == n;
}

static bool is_matrix(const struct tensor *t, size_t rows, size_t cols)
{
    return is_weight(t) && t->rank == 2 && t->dim[0] == rows && t->dim[1] == cols;
}

static bool fits(const struct linear *w, size_t d_out, size_t d_in)
{
    if (!is_table(&w->w) || w->w.rank < 2 || linear_outputs(w) != d_out || linear_inputs(w) != d_in)
        return false;
    if (tensor_present(&w->b) && !is_vector(&w->b, d_out))
        return false;
    if (tensor_present(&w->lora_a) != tensor_present(&w->lora_b))
        return false;
    return !tensor_present(&w->lora_a) || (is_matrix(&w->lora_a, w->lora_a.dim[0], d_in) &&
                                           is_matrix(&w->lora_b, d_out, w->lora_a.dim[0]));
}

static void count_weight(struct ops *o, const struct tensor *t)
{
    if (tensor_present(t))
        o->weight_bytes += (double)dtype_span(t->dtype, tensor_count(t));
}

static void count_linear(struct ops *o, const struct linear *w, size_t n)
{
    double d_out = (double)linear_outputs(w), d_in = (double)linear_inputs(w);
    double r = tensor_present(&w->lora_a) ? (double)w->lora_a.dim[0] : 0;
    o->flops += 2.0 * (double)n * (d_in * d_out + r * (d_in + d_out));
    count_weight(o, &w->w);
    count_weight(o, &w->b);
    count_weight(o, &w->lora_a);
    count_weight(o, &w->lora_b);
}

// ---- the stream

void ops_init(struct ops *o, const struct backend *b, const struct ops_options *opt)
{
    assert(opt->kernels);
    memset(o, 0, sizeof *o);
    o->backend = b;
    o->pool = opt->pool;
    o->kernels = opt->kernels;
    o->compute = opt->compute;
    o->watch = opt->watch;
    if (opt->hooks)
        o->hooks = *opt->hooks;
}

void ops_close(struct ops *o)
{
    if (o)
        o->backend->close(o);
}

void ops_fail(struct ops *o, int code, const char *fmt, ...)
{
    if (o->status.code != 0)
        return;
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(&o->status, code, "%s", text);
}

int ops_status(const struct ops *o, struct err *e)
{
    if (o->status.code != 0 && e)
        *e = o->status;
    return o->status.code;
}

void ops_clear(struct ops *o)
{
    o->backend->pop(o, 0);
    o->backend->clear(o);
    o->status.code = 0;
    o->in_step = false;
}

void ops_set_tap(struct ops *o, struct tap tap)
{
    o->tap = tap;
}

bool ops_has_tap(const struct ops *o)
{
    return o->tap.fn != NULL;
}

enum compute ops_compute(const struct ops *o)
{
    return o->compute;
}

struct ops_plan ops_plan_result(const struct ops *o)
{
    return (struct ops_plan){
        .arena_bytes = o->backend->peak(o), .flops = o->flops, .weight_bytes = o->weight_bytes};
}

void ops_plan_reset(struct ops *o)
{
    o->backend->peak_reset(o);
    o->flops = o->weight_bytes = 0;
}

size_t ops_few_rows(const struct ops *o)
{
    return o->backend->traits ? o->backend->traits(o)->few_rows : (size_t)OPS_FEW_ROWS;
}

size_t ops_many_rows(const struct ops *o)
{
    return o->backend->traits ? o->backend->traits(o)->many_rows : 1;
}

bool ops_gelu_early(const struct ops *o)
{
    return o->backend->traits && o->backend->traits(o)->gelu_early;
}

bool ops_step_begin(struct ops *o, uint64_t key, const int32_t *ids, const uint32_t *pos, size_t n)
{
    o->in_step = o->status.code == 0;
    if (!o->in_step || !o->backend->step_begin || !o->backend->step_begin(o, key, ids, pos, n))
        return false;
    o->in_step = false;
    return true;
}

void ops_step_end(struct ops *o)
{
    o->in_step = false;
    if (o->backend->step_end)
        o->backend->step_end(o);
}

void ops_wait(struct ops *o)
{
    if (o->backend->wait)
        o->backend->wait(o);
}

// ---- memory

int ops_reserve(struct ops *o, size_t bytes, struct err *e)
{
    assert(o->backend->mark(o) == 0);
    return o->backend->reserve(o, bytes, e);
}

size_t ops_reserved(const struct ops *o)
{
    return o->backend->reserved(o);
}

void *ops_push(struct ops *o, size_t bytes)
{
    return o->status.code == 0 ? o->backend->push(o, bytes) : NULL;
}

void *ops_push_n(struct ops *o, size_t n, size_t size)
{
    size_t bytes;
    if (!mul_size(n, size, &bytes))
        bytes = SIZE_MAX; // more than any arena has
    return ops_push(o, bytes);
}

static struct mat push_mat(struct ops *o, size_t rows, size_t cols, enum dtype t)
{
    size_t n;
    if (!mul_size(rows, cols, &n))
        n = SIZE_MAX;
    return (struct mat){.data = ops_push_n(o, n, dtype_bytes(t)),
                        .dtype = t,
                        .rows = rows,
                        .cols = cols,
                        .stride = cols};
}

struct mat ops_mat(struct ops *o, size_t rows, size_t cols)
{
    return push_mat(o, rows, cols, DT_F32);
}

struct mat ops_act(struct ops *o, size_t rows, size_t cols)
{
    return push_mat(o, rows, cols, act_type(o));
}

size_t ops_mark(const struct ops *o)
{
    return o->backend->mark(o);
}

void ops_pop(struct ops *o, size_t mark)
{
    o->backend->pop(o, mark);
}

int ops_hold(struct ops *o, size_t rows, size_t cols, enum dtype t, struct mat *out, struct err *e)
{
    assert(t == DT_F32 || t == DT_BF16 || t == DT_F16 || t == DT_Q8_0);
    assert(cols % dtype_block(t) == 0);
    size_t n, bytes;
    *out = (struct mat){0};
    bool fit = mul_size(rows, cols, &n) && dtype_size(t, n, &bytes);
    void *data = fit ? o->backend->hold(o, bytes) : NULL;
    if (!fit || (!data && !(o->backend->is_virtual && o->backend->is_virtual(o))))
        return err_set(e, ERR_LIMIT, "out of memory for %zu x %zu values of type %s", rows, cols,
                       dtype_name(t));
    *out = (struct mat){.data = data, .dtype = t, .rows = rows, .cols = cols, .stride = cols};
    return 0;
}

void ops_release(struct ops *o, struct mat *m)
{
    if (m->data)
        o->backend->release(o, m->data, dtype_span(m->dtype, m->rows * m->cols));
    *m = (struct mat){0};
}

// ---- to and from the host

void op_upload(struct ops *o, struct mat dst, const float *src)
{
    if (!idle(o, dst))
        o->backend->upload(o, dst, src);
}

void op_download(struct ops *o, float *dst, struct mat src)
{
    if (!idle(o, src))
        o->backend->download(o, dst, src);
}

void op_tap(struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank)
{
    if (!o->tap.fn || idle(o, m))
        return;
    size_t n = 1;
    for (unsigned i = 0; i < rank; i++)
        n *= dim[i];
    assert(n == m.rows * m.cols);
    o->backend->tap(o, name, m, dim, rank);
}

// ---- rows and elements

void op_copy(struct ops *o, struct mat dst, struct mat src)
{
    assert(same_shape(dst, src));
    if (!idle(o, dst))
        o->backend->copy(o, dst, src);
}

void op_add(struct ops *o, struct mat x, struct mat y)
{
    assert(same_shape(x, y) && is_f32(x) && is_act(o, y));
    if (!idle(o, x))
        o->backend->add(o, x, y);
}

void op_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale)
{
    assert(same_shape(x, y) && is_f32(x) && is_act(o, y) && is_vector(scale, x.cols));
    if (idle(o, x))
        return;
    count_weight(o, scale);
    o->backend->add_scaled(o, x, y, scale);
}

void op_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                  const struct tensor *same)
{
    assert(is_f32(x) && t_rows > 0 && x.rows % t_rows == 0);
    assert(!same || tensor_count(same) == t_rows * x.cols);
    if (!idle(o, x))
        o->backend->add_table(o, x, t, t_rows, same);
}

void op_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps)
{
    assert(same_shape(y, x) && is_act(o, y) && is_act(o, x) && is_vector(w, x.cols));
    if (idle(o, y))
        return;
    count_weight(o, w);
    o->backend->rms_norm(o, y, x, w, eps);
}

void op_rms_norm2(struct ops *o, struct mat a, const struct tensor *a_w, struct mat b,
                  const struct tensor *b_w, float eps)
{
    if (!o->backend->rms_norm2) {
        op_rms_norm(o, a, a, a_w, eps);
        op_rms_norm(o, b, b, b_w, eps);
        return;
    }
    assert(same_shape(a, b) && is_act(o, a) && is_act(o, b));
    assert(is_vector(a_w, a.cols) && is_vector(b_w, b.cols));
    if (idle(o, a))
        return;
    count_weight(o, a_w);
    count_weight(o, b_w);
    o->backend->rms_norm2(o, a, a_w, b, b_w, eps);
}

void op_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                   const struct tensor *b, float eps)
{
    assert(same_shape(y, x) && is_act(o, y) && is_act(o, x));
    assert(is_vector(w, x.cols) && is_vector(b, x.cols));
    if (idle(o, y))
        return;
    count_weight(o, w);
    count_weight(o, b);
    o->backend->layer_norm(o, y, x, w, b, eps);
}

void op_gelu(struct ops *o, struct mat x)
{
    assert(is_act(o, x));
    if (!idle(o, x))
        o->backend->gelu(o, x);
}

void op_silu_mul(struct ops *o, struct mat gate, struct mat up)
{
    assert(same_shape(gate, up) && is_act(o, gate) && is_act(o, up));
    if (!idle(o, gate))
        o->backend->silu_mul(o, gate, up);
}

struct mat op_rope_table(struct ops *o, const uint32_t *pos, size_t n, size_t d_head, double theta)
{
    assert(d_head > 0 && d_head % 2 == 0 && theta > 0);
    struct mat table = ops_mat(o, n, d_head);
    if (!idle(o, table))
        o->backend->rope_table(o, table, pos, theta);
    return table;
}

void op_rope(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    assert(is_act(o, x) && is_f32(table) && x.rows == table.rows && x.cols == n_head * table.cols);
    if (!idle(o, x))
        o->backend->rope(o, x, n_head, table);
}

void op_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    assert(is_act(o, x) && is_f32(table) && x.rows == table.rows && x.cols == n_head * table.cols);
    if (!idle(o, x))
        o->backend->rope_pairs(o, x, n_head, table);
}

void op_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids)
{
    assert(is_f32(y) && is_table(table) && table->rank >= 1);
    assert(table->dim[table->rank - 1] == y.cols);
    if (idle(o, y))
        return;
    size_t n = tensor_count(table) / y.cols;
    if (!ids && y.rows > n)
        ops_fail(o, ERR_FAIL, "embedding: %zu rows asked for, the table has %zu", y.rows, n);
    for (size_t i = 0; ids && i < y.rows; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= n)
            ops_fail(o, ERR_FAIL, "embedding: id %d at %zu, the table has %zu rows", (int)ids[i], i,
                     n);
    if (idle(o, y))
        return;
    o->weight_bytes += (double)y.rows * (double)dtype_span(table->dtype, y.cols);
    o->backend->embed(o, y, table, ids);
}

void op_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                   size_t n_head, size_t n_kv, size_t d_head)
{
    assert(n_kv > 0 && n_head % n_kv == 0 && same_shape(k, v));
    assert(is_act(o, q) && is_act(o, k) && is_act(o, v) && is_act(o, qkv));
    assert(q.rows == qkv.rows && k.rows == qkv.rows && q.cols == n_head * d_head);
    assert(k.cols == n_kv * d_head && qkv.cols == q.cols + k.cols + v.cols);
    if (!idle(o, qkv))
        o->backend->split_wqkv(o, q, k, v, qkv, d_head);
}

// ---- products

void op_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w)
{
    assert(y.rows == x.rows && is_act(o, y) && is_act(o, x) && fits(w, y.cols, x.cols));
    if (idle(o, y))
        return;
    count_linear(o, w, y.rows);
    if (o->watch && x.data)
        o->watch->fn(o->watch->user, &w->w, x.data, x.rows, x.cols, x.stride);
    o->backend->linear(o, y, x, w);
}

static bool is_input(const struct ops *o, const struct linear_input *in)
{
    return is_act(o, in->x) && (in->kind != INPUT_RMS_NORM || is_vector(in->norm, in->x.cols)) &&
           (in->kind != INPUT_SILU_MUL || (same_shape(in->x, in->up) && is_act(o, in->up)));
}

void op_linears(struct ops *o, struct mat y, const struct linear_input *in,
                const struct linear *const *w, size_t n_w)
{
    size_t cols = 0;
    for (size_t i = 0; i < n_w; i++) {
        assert(fits(w[i], linear_outputs(w[i]), in->x.cols));
        cols += linear_outputs(w[i]);
    }
    assert(cols == y.cols && y.rows == in->x.rows && is_act(o, y) && is_input(o, in));
    assert(!in->next_norm && (!in->next_silu || (n_w == 2 && 2 * linear_outputs(w[0]) == cols)));
    if (idle(o, y))
        return;
    if (!o->backend->linears || o->watch) { // watched layers go through op_linear
        fused_linears(o, y, in, w, n_w);
        return;
    }
    for (size_t i = 0; i < n_w; i++)
        count_linear(o, w[i], y.rows);
    if (in->kind == INPUT_RMS_NORM)
        count_weight(o, in->norm);
    o->backend->linears(o, y, in, w, n_w);
}

void op_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                   const struct linear *w, const struct tensor *scale)
{
    assert(x.rows == in->x.rows && is_f32(x) && is_input(o, in) && fits(w, x.cols, in->x.cols));
    assert(!scale || is_vector(scale, x.cols));
    assert(!in->next_silu && (!in->next_norm || is_vector(in->next_norm, x.cols)));
    if (idle(o, x))
        return;
    if (!o->backend->linear_add || o->watch) {
        fused_linear_add(o, x, in, w, scale);
        return;
    }
    count_linear(o, w, x.rows);
    if (scale)
        count_weight(o, scale);
    o->backend->linear_add(o, x, in, w, scale);
}

void op_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                    size_t patch, const struct linear *w)
{
    assert(patch > 0 && size % patch == 0 && y.rows == n_frame * (size / patch) * (size / patch));
    assert(is_f32(y) && fits(w, y.cols, 3 * patch * patch) && !tensor_present(&w->lora_a));
    if (idle(o, y))
        return;
    count_linear(o, w, y.rows);
    o->backend->patch_embed(o, y, pixels, n_frame, size, patch, w);
}

static bool is_cache(struct mat m)
{
    bool plain = m.dtype == DT_F32 || m.dtype == DT_BF16 || m.dtype == DT_F16;
    return (plain || m.dtype == DT_Q8_0) && m.stride >= m.cols &&
           m.stride % dtype_block(m.dtype) == 0;
}

// Products of n_q rows with the keys that each sees.
static void count_attention(struct ops *o, size_t n_q, size_t n_k, bool causal, size_t first_pos,
                            size_t cols)
{
    double seen = 0; // (row, key) pairs
    for (size_t i = 0; i < n_q; i++)
        seen += (double)(causal ? min_size(first_pos + i + 1, n_k) : n_k);
    o->flops += 4.0 * seen * (double)cols; // q k^T and p v
}

static void check_attention(const struct ops *o, struct mat y, const struct attention *a)
{
    assert(same_shape(y, a->q) && is_act(o, y) && is_act(o, a->q));
    assert(y.cols == a->n_head * a->d_head && a->n_kv > 0 && a->n_head % a->n_kv == 0);
    assert(a->d_head % 2 == 0 && a->d_head <= OPS_HEAD_MAX);
    assert(same_shape(a->k, a->v) && a->k.cols == a->n_kv * a->d_head);
    assert(is_cache(a->k) && is_cache(a->v));
    assert(!a->levels || !a->causal);
    assert(a->d_head % dtype_block(a->k.dtype) == 0 && a->d_head % dtype_block(a->v.dtype) == 0);
    (void)o;
    (void)y;
    (void)a;
}

void op_attention(struct ops *o, struct mat y, const struct attention *a)
{
    size_t n_seq = max_size(a->n_seq, 1);
    check_attention(o, y, a);
    if (idle(o, y))
        return;
    assert(a->k.rows > 0 && y.rows % n_seq == 0 && a->k.rows % n_seq == 0);
    size_t n_q = y.rows / n_seq, n_k = a->k.rows / n_seq;
    for (size_t i = 0; i < n_seq; i++)
        count_attention(o, n_q, n_k, a->causal, a->first_pos, y.cols);
    struct attention all = *a;
    all.n_seq = n_seq;
    o->backend->attention(o, y, &all);
}

void op_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a)
{
    assert(same_shape(y, a->q) && is_act(o, y) && is_act(o, a->q) && is_act(o, a->k));
    assert(same_shape(a->k, a->v) && a->q.rows == a->k.rows && a->rope.rows == a->q.rows);
    assert(a->n_kv > 0 && a->n_head % a->n_kv == 0 && a->k.cols == a->n_kv * a->d_head);
    assert(a->d_head % 2 == 0 && a->d_head <= OPS_HEAD_MAX && y.cols == a->n_head * a->d_head);
    if (idle(o, y))
        return;
    for (size_t i = 0, row = 0; i < a->n_span; i++) {
        const struct cache_span *s = &a->span[i];
        assert(s->first_row >= row && s->first_row + s->n_row <= y.rows);
        assert(s->pos + s->n_row <= s->k.rows && same_shape(s->k, s->v));
        assert(s->k.cols == a->k.cols && is_cache(s->k) && is_cache(s->v));
        assert(a->d_head % dtype_block(s->k.dtype) == 0 &&
               a->d_head % dtype_block(s->v.dtype) == 0);
        row = s->first_row + s->n_row;
    }
    for (size_t i = 0; i < a->n_span; i++) {
        const struct cache_span *s = &a->span[i];
        count_attention(o, s->n_row, s->pos + s->n_row, true, s->pos, y.cols);
    }
    o->backend->cache_attention(o, y, a);
}
