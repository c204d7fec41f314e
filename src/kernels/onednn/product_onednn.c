// SPDX-License-Identifier: MIT
// Products of many rows in bf16 through oneDNN, for instructions that our own kernels do not have (AMX). All else of
// the tier, attention and few rows too, is AVX512-BF16's.
//
//   y [m, n] = x [m, k] w^T [k, n] + bias, or y += x w^T      one matmul: bf16 factors, f32 sums, bias and result
//
// Weights in bf16 are read where they lie; oneDNN lays them out as it needs while it multiplies, so they exist once.
// Others become f32 and then bf16 in scratch, a block of outputs and inputs at a time. Scratch is that of the tier
// below and, behind it, one such block.
//
// Easy to get wrong: oneDNN would start threads of its own (OpenMP), though we are one of the pool's threads already,
// so the calling thread asks for one and takes that back; a result must not depend on how a product was cut, so what
// goes through oneDNN and how the inputs are cut hangs on k and the weights' type alone. oneDNN asks the kernel for
// AMX's registers itself (arch_prctl). It may run out of memory, which is no failure of ours: the kernels of the
// tier below then do the work.
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#include "base/size.h"
#include "kernels/tiers.h"
#include "tensor/blocks.h"

enum {
    BF16 = 2,            // bytes
    DEPTH_MIN = 128,     // inputs below which a call costs more than it gains
    DEPTH_MAX = 1 << 16, // of which four rows fit into scratch
    BLOCK = 512,         // outputs of a call, where there are many: fewer are slower
    THIN = 256,          // rows or outputs at a time, where there is but one of the other
};

// Scratch: p->block x p->depth as of product_many_blocked, in front of which `multiply` has its room, then the panel in
// which that unpacks blocks, then the weights that become bf16.
static size_t room_panel(const struct product_kernels *p)
{
    return p->panel * p->depth * BF16;
}

static size_t room_copies(size_t k)
{
    return 2 * round_up(k * BF16, KERNEL_SCRATCH_ALIGN);
}

static size_t weights_bytes(const struct product_kernels *p)
{
    return p->block * product_x_stride(p, p->depth);
}

// One matmul. w: bf16, row o at element o * w_stride; x and y as in struct product_job.
struct matmul {
    float *y;
    const void *x, *w;
    const float *bias;                   // or NULL
    size_t y_stride, x_stride, w_stride; // elements
    size_t m, n, k;
    bool add;
};

struct call {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post_ops;
    dnnl_memory_t memory[4];
};

static bool ok(dnnl_status_t status)
{
    return status == dnnl_success;
}

static bool describe(dnnl_memory_desc_t *d, size_t rows, size_t cols, size_t row_stride,
                     size_t col_stride, dnnl_data_type_t t)
{
    const dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    const dnnl_dims_t strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)col_stride};
    return ok(dnnl_memory_desc_init_by_strides(d, 2, dims, t, strides));
}

static bool prepare_call(struct call *c, const struct matmul *a, dnnl_memory_desc_t md[4])
{
    dnnl_matmul_desc_t op;
    return ok(dnnl_engine_create(&c->engine, dnnl_cpu, 0)) &&
           ok(dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags)) &&
           describe(&md[0], a->m, a->k, a->x_stride, 1, dnnl_bf16) &&
           describe(&md[1], a->k, a->n, 1, a->w_stride, dnnl_bf16) &&
           describe(&md[2], 1, a->n, a->n, 1, dnnl_f32) &&
           describe(&md[3], a->m, a->n, a->y_stride, 1, dnnl_f32) &&
           ok(dnnl_matmul_desc_init(&op, &md[0], &md[1], a->bias ? &md[2] : NULL, &md[3])) &&
           ok(dnnl_primitive_attr_create(&c->attr)) && ok(dnnl_post_ops_create(&c->post_ops)) &&
           (!a->add || ok(dnnl_post_ops_append_sum(c->post_ops, 1.0f))) &&
           ok(dnnl_primitive_attr_set_post_ops(c->attr, c->post_ops)) &&
           ok(dnnl_primitive_desc_create(&c->desc, &op, c->attr, c->engine, NULL)) &&
           ok(dnnl_primitive_create(&c->primitive, c->desc));
}

static bool execute(struct call *c, const struct matmul *a, const dnnl_memory_desc_t md[4])
{
    static const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    static const int which[4] = {0, 1, 3, 2};
    void *const data[4] = {(void *)(uintptr_t)a->x, (void *)(uintptr_t)a->w,
                           (void *)(uintptr_t)a->bias, a->y};
    dnnl_exec_arg_t args[4];
    int n = a->bias ? 4 : 3;
    for (int i = 0; i < n; i++) {
        int q = which[i];
        if (!ok(dnnl_memory_create(&c->memory[q], &md[q], c->engine, data[q])))
            return false;
        args[i] = (dnnl_exec_arg_t){names[i], c->memory[q]};
    }
    return ok(dnnl_primitive_execute(c->primitive, c->stream, n, args)) &&
           ok(dnnl_stream_wait(c->stream));
}

static void release_call(struct call *c)
{
    for (int i = 0; i < 4; i++)
        if (c->memory[i])
            dnnl_memory_destroy(c->memory[i]);
    if (c->primitive)
        dnnl_primitive_destroy(c->primitive);
    if (c->desc)
        dnnl_primitive_desc_destroy(c->desc);
    if (c->post_ops)
        dnnl_post_ops_destroy(c->post_ops);
    if (c->attr)
        dnnl_primitive_attr_destroy(c->attr);
    if (c->stream)
        dnnl_stream_destroy(c->stream);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
}

// false: y is as it was.
static bool multiply_onednn(const struct matmul *a)
{
    struct call c = {0};
    dnnl_memory_desc_t md[4];
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    bool done = prepare_call(&c, a, md) && execute(&c, a, md);
    release_call(&c);
    omp_set_num_threads(threads);
    return done;
}

// The same by the kernels of the tier below. panel: [p->panel, p->depth] bf16.
static void multiply_ours(const struct product_kernels *p, const struct matmul *a, uint8_t *panel)
{
    for (size_t k0 = 0; k0 < a->k; k0 += p->depth)
        for (size_t o = 0; o < a->n; o += p->panel) {
            const uint8_t *w = (const uint8_t *)a->w + (o * a->w_stride + k0) * BF16;
            struct tile_job t = {
                .y = a->y + o,
                .y_stride = a->y_stride,
                .x = (const uint8_t *)a->x + k0 * BF16,
                .x_stride = a->x_stride * BF16,
                .panel = panel,
                .m = a->m,
                .n = min_size(p->panel, a->n - o),
                .k = min_size(p->depth, a->k - k0),
                .bias = a->bias ? a->bias + o : NULL,
                .add = a->add || k0 > 0,
            };
            p->pack(panel, w, a->w_stride, DT_BF16, t.n, t.k);
            p->tile(&t);
        }
}

static void multiply_large(const struct product_kernels *p, const struct matmul *a, uint8_t *room)
{
    if (!multiply_onednn(a))
        multiply_ours(p, a, room);
}

// oneDNN sums a single row or a single output in another order than those of a matrix, so each is multiplied as two
// that are the same.
static size_t copy_twice(uint8_t *to, const void *v, size_t k)
{
    size_t step = round_up(k * BF16, KERNEL_SCRATCH_ALIGN);
    for (int i = 0; i < 2; i++, to += step) {
        memcpy(to, v, k * BF16);
        memset(to + k * BF16, 0, step - k * BF16); // our kernels read pairs
    }
    return step / BF16;
}

// How many of those left come next, never leaving a single one.
static size_t thin_piece(size_t left)
{
    return left <= THIN ? left : left == THIN + 1 ? THIN - 1 : THIN;
}

// m > 1, n == 1
static void multiply_output(const struct product_kernels *p, const struct matmul *a, uint8_t *room)
{
    float y[2 * THIN], bias[2] = {0};
    struct matmul b = *a;
    uint8_t *copies = room + room_panel(p);
    b.n = b.y_stride = 2;
    b.y = y;
    b.w = copies;
    b.w_stride = copy_twice(copies, a->w, a->k);
    if (a->bias) {
        bias[0] = bias[1] = *a->bias;
        b.bias = bias;
    }
    for (size_t from = 0; from < a->m; from += b.m) {
        float *to = a->y + from * a->y_stride;
        b.m = thin_piece(a->m - from);
        b.x = (const uint8_t *)a->x + from * a->x_stride * BF16;
        for (size_t r = 0; a->add && r < b.m; r++)
            y[2 * r] = y[2 * r + 1] = to[r * a->y_stride];
        multiply_large(p, &b, room);
        for (size_t r = 0; r < b.m; r++)
            to[r * a->y_stride] = y[2 * r];
    }
}

// m == 1
static void multiply_row(const struct product_kernels *p, const struct matmul *a, uint8_t *room)
{
    float y[2 * THIN];
    struct matmul b = *a;
    uint8_t *copies = room + room_panel(p) + room_copies(a->k);
    b.m = 2;
    b.y = y;
    b.x = copies;
    b.x_stride = copy_twice(copies, a->x, a->k);
    for (size_t from = 0; from < a->n; from += b.n) {
        b.n = b.y_stride = thin_piece(a->n - from);
        b.w = (const uint8_t *)a->w + from * a->w_stride * BF16;
        b.bias = a->bias ? a->bias + from : NULL;
        for (size_t r = 0; a->add && r < 2; r++)
            memcpy(y + r * b.n, a->y + from, b.n * sizeof *y);
        if (b.n == 1)
            multiply_output(p, &b, room);
        else
            multiply_large(p, &b, room);
        memcpy(a->y + from, y, b.n * sizeof *y);
    }
}

// room: a panel and copies of a row of x and one of w.
static void multiply(const struct product_kernels *p, const struct matmul *a, uint8_t *room)
{
    if (a->m == 1)
        multiply_row(p, a, room);
    else if (a->n == 1)
        multiply_output(p, a, room);
    else
        multiply_large(p, a, room);
}

// Row of k <= p->depth weights at w as a prepared row at `to`.
static void convert(const struct product_kernels *p, void *to, const void *w, enum dtype t,
                    size_t k, float *stage)
{
    if (dtype_is_block(t))
        p->unpack(stage, w, t, k);
    else
        dtype_to_f32(stage, w, t, k);
    p->prepare(p, to, stage, k, 1, k);
}

// Outputs [n0, n0 + n), n <= p->block, of weights of another type.
static void many_converted(const struct product_kernels *p, const struct product_job *j,
                           struct matmul a, size_t n0, uint8_t *scratch)
{
    const size_t row_bytes = dtype_span(j->w_type, j->w_stride);
    const uint8_t *w = (const uint8_t *)j->w + n0 * row_bytes;
    uint8_t *weights = scratch + p->scratch_bytes - weights_bytes(p);
    a.y += n0;
    a.bias = a.bias ? a.bias + n0 : NULL;
    a.w = weights;
    for (size_t k0 = 0; k0 < j->k; k0 += a.k) {
        a.k = min_size(p->depth, j->k - k0);
        a.x = (const uint8_t *)j->x + k0 * BF16;
        size_t step = product_x_stride(p, a.k);
        a.w_stride = step / BF16;
        for (size_t o = 0; o < a.n; o++)
            convert(p, weights + o * step, w + o * row_bytes + dtype_span(j->w_type, k0), j->w_type,
                    a.k, (float *)(void *)scratch);
        multiply(p, &a, scratch);
        a.add = true;
        a.bias = NULL;
    }
}

static void add_bias(const struct product_job *j)
{
    for (size_t r = 0; r < j->m; r++)
        for (size_t o = 0; o < j->n; o++)
            j->y[r * j->y_stride + o] += j->bias[o];
}

static void many_onednn(const struct product_kernels *p, const struct product_job *j, void *scratch)
{
    struct matmul a = {.y = j->y,
                       .x = j->x,
                       .w = j->w,
                       .bias = j->add ? NULL : j->bias,
                       .y_stride = j->y_stride,
                       .x_stride = product_x_stride(p, j->k) / BF16,
                       .w_stride = j->w_stride,
                       .m = j->m,
                       .n = j->n,
                       .k = j->k,
                       .add = j->add};
    if (j->k < DEPTH_MIN || j->k > DEPTH_MAX || j->m == 0 || j->n == 0) {
        product_many_blocked(p, j, scratch);
        return;
    }
    if (j->add && j->bias)
        add_bias(j);
    if (j->w_type == DT_BF16)
        multiply(p, &a, scratch);
    for (size_t n0 = 0; j->w_type != DT_BF16 && n0 < j->n; n0 += p->block) {
        a.n = min_size(p->block, j->n - n0);
        many_converted(p, j, a, n0, scratch);
    }
}

void kernels_set_onednn(struct kernels *k)
{
    k->tier = CPU_ONEDNN;
    struct product_kernels *p = &k->bf16;
    p->scratch_bytes += (BLOCK - p->block) * p->depth * p->x_elem;
    p->block = BLOCK;
    p->scratch_bytes += weights_bytes(p);
    p->repacks = true;
    p->many = many_onednn;
}
