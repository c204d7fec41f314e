// SPDX-License-Identifier: MIT
// Linear layers on the CPU.
//
//   xp  = prepare(input)                   once for all layers that read it, rows shared out; as levels too,
//                                          or alone, where layers read those
//   t_i = lora_scale * (xp A_i^T)          LoRA only (SPEC 2.4): [n, r]
//   y_i = xp W_i^T + b_i + t_i B_i^T       one task = one rectangle, see cpu_product.c
//
// A norm or an activation in front of the layers goes row by row through a thread's scratch into the
// prepared row, so it makes no trip through memory of its own. What is computed is to the bit what the
// single ops would give.
//
// Easy to get wrong: the scale goes onto t before it is rounded for the second product, which is exact
// for powers of two (the releases: 2).
#include "ops/cpu_backend.h"

#include <string.h>

#include "base/size.h"

enum { PREPARE_TASK = 16384 }; // elements, as for other row work

// ---- the input

struct prepare_job {
    const struct ops *o;
    struct prepared dst;
    const struct product_kernels *levels; // of dst.levels
    const struct linear_input *in;
    const float *norm;
    struct thread_scratch row; // f32 [d_in]
    size_t chunk;              // rows of a task
};

// Row r as the layers read it, f32: where it lies, or in buf.
static const float *input_row(const struct prepare_job *j, size_t r, float *buf)
{
    const struct linear_input *in = j->in;
    const struct kernels *k = j->o->kernels;
    const float *x = row_at(in->x, r);
    size_t n = in->x.cols;
    switch (in->kind) {
    case INPUT_ROWS:
        return x;
    case INPUT_RMS_NORM:
        k->rms_norm(buf, n, x, in->x.stride, 1, n, j->norm, in->eps);
        break;
    case INPUT_SILU_MUL:
        memcpy(buf, x, n * sizeof *buf);
        k->silu_mul(buf, row_at(in->up, r), n);
        break;
    case INPUT_GELU:
        memcpy(buf, x, n * sizeof *buf);
        k->gelu(buf, n);
        break;
    }
    return buf;
}

// Rows [from, from + n) of dst from x.
static void prepare_rows(const struct product_kernels *p, void *dst, size_t from, struct mat x,
                         const float *row, size_t n)
{
    if (dst)
        p->prepare(p, (char *)dst + from * product_x_stride(p, x.cols), row, x.stride, n, x.cols);
}

static void prepare_task(void *ctx, size_t task, unsigned thread)
{
    const struct prepare_job *j = ctx;
    const struct product_kernels *p = cpu_products(j->o);
    struct mat x = j->in->x;
    size_t from = task * j->chunk, end = min_size(from + j->chunk, x.rows);
    size_t step = j->in->kind == INPUT_ROWS ? end - from : 1;
    for (size_t r = from; r < end; r += step) {
        const float *row = input_row(j, r, scratch_of(&j->row, thread));
        prepare_rows(p, j->dst.plain, r, x, row, step);
        prepare_rows(j->levels, j->dst.levels, r, x, row, step);
    }
}

static void *prepared_scratch(struct ops *o, const struct product_kernels *p, size_t rows,
                              size_t cols)
{
    return ops_push_n(o, rows, product_x_stride(p, cols));
}

// The kernels that read levels of so many rows.
static const struct product_kernels *level_products(const struct ops *o, size_t rows)
{
    return cpu_few(o, rows) ? &o->kernels->dots : &o->kernels->int8;
}

void cpu_input_scratch(struct ops *o, const struct linear_input *in, const struct linear *const *w,
                       size_t n_w, struct input_scratch *s)
{
    size_t d = in->x.cols, rows = in->x.rows;
    const struct product_kernels *p = level_products(o, rows);
    bool plain = false, some = false;
    *s = (struct input_scratch){0};
    for (size_t i = 0; i < n_w; i++) {
        bool levels = cpu_layer_products(o, w[i], cpu_few(o, rows)) == p;
        some = some || levels;
        plain = plain || !levels || tensor_present(&w[i]->lora_a);
    }
    if (plain)
        s->x.plain = prepared_scratch(o, cpu_products(o), rows, d);
    if (some)
        s->x.levels = prepared_scratch(o, p, rows, d);
    if (in->kind == INPUT_RMS_NORM)
        s->norm = cpu_vector_scratch(o, d);
    if (in->kind != INPUT_ROWS)
        s->row = cpu_thread_scratch(o, d * sizeof(float));
}

static bool prepare_input(struct ops *o, const struct linear_input *in,
                          const struct input_scratch *s)
{
    if (o->status.code != 0)
        return false;
    struct prepare_job j = {.o = o, .dst = s->x, .in = in, .row = s->row};
    j.levels = level_products(o, in->x.rows);
    if (in->kind == INPUT_RMS_NORM)
        j.norm = cpu_vector(o, in->norm, s->norm);
    j.chunk = max_size(1, PREPARE_TASK / in->x.cols);
    return cpu_run(o, prepare_task, &j, div_up(in->x.rows, j.chunk));
}

// ---- layers on prepared rows

static bool has_lora(const struct linear *w)
{
    return tensor_present(&w->lora_a);
}

void cpu_layers_scratch(struct ops *o, const struct linear *const *w, size_t n_w, size_t n,
                        bool added, struct layers_scratch *s)
{
    bool few = cpu_few(o, n);
    size_t bytes = 0;
    *s = (struct layers_scratch){0};
    for (size_t i = 0; i < n_w; i++) {
        size_t d_in = linear_inputs(w[i]), d_out = linear_outputs(w[i]);
        if (tensor_present(&w[i]->b))
            s->each[i].bias = cpu_vector_scratch(o, d_out);
        if (has_lora(w[i])) {
            size_t r = w[i]->lora_a.dim[0];
            s->each[i].t = ops_push_n(o, n * r, sizeof(float));
            s->each[i].t_x = prepared_scratch(o, cpu_products(o), n, r);
        }
        const struct product_kernels *p = cpu_layer_products(o, w[i], few);
        struct product_size z = {p, n, d_out, d_in, few};
        bytes = max_size(bytes, cpu_product_scratch(o, z, added));
    }
    if (bytes > 0)
        s->thread = cpu_thread_scratch(o, bytes);
}

// y = x W^T as a job; x [y.rows, k] is prepared.
static struct product_job job_of(struct mat y, const void *x, const struct tensor *w, size_t k)
{
    return (struct product_job){.y = y.data,
                                .y_stride = y.stride,
                                .x = x,
                                .w = w->data,
                                .w_stride = k,
                                .w_type = w->dtype,
                                .m = y.rows,
                                .n = y.cols,
                                .k = k};
}

struct scaled {
    const struct ops *o;
    void *dst;
    struct mat t;
    float scale;
};

static void scale_rows(const void *ctx, size_t from, size_t n)
{
    const struct scaled *j = ctx;
    const struct product_kernels *p = cpu_products(j->o);
    for (size_t r = from; j->scale != 1.0f && r < from + n; r++)
        j->o->kernels->scale(row_at(j->t, r), j->scale, j->t.cols);
    p->prepare(p, (char *)j->dst + from * product_x_stride(p, j->t.cols), row_at(j->t, from),
               j->t.stride, n, j->t.cols);
}

static struct mat lora_t(const struct linear *w, float *t, size_t n)
{
    size_t r = w->lora_a.dim[0];
    return (struct mat){t, DT_F32, n, r, r};
}

// Every layer's t, prepared.
static bool run_lora(struct ops *o, const struct linear *const *w, size_t n_w, const void *x,
                     size_t n, bool few, const struct layers_scratch *s)
{
    struct product_run run[LAYERS_MAX];
    size_t n_run = 0;
    for (size_t i = 0; i < n_w; i++)
        if (has_lora(w[i]))
            run[n_run++] = (struct product_run){.p = cpu_products(o),
                                                .first = job_of(lora_t(w[i], s->each[i].t, n), x,
                                                                &w[i]->lora_a, linear_inputs(w[i])),
                                                .few = few};
    if (n_run > 0 && !cpu_products_run(o, run, n_run, s->thread))
        return false;
    for (size_t i = 0; i < n_w; i++) {
        if (!has_lora(w[i]))
            continue;
        struct scaled j = {o, s->each[i].t_x, lora_t(w[i], s->each[i].t, n), w[i]->lora_scale};
        if (!cpu_rows(o, scale_rows, &j, n, j.t.cols))
            return false;
    }
    return true;
}

static struct product_run run_of(struct ops *o, struct mat y, const struct linear *w,
                                 struct prepared x, bool few, const struct layer_scratch *s)
{
    const struct product_kernels *p = cpu_layer_products(o, w, few);
    struct product_run r = {
        .p = p,
        .first = job_of(y, p == cpu_products(o) ? x.plain : x.levels, &w->w, linear_inputs(w)),
        .few = few,
    };
    if (tensor_present(&w->b))
        r.first.bias = cpu_vector(o, &w->b, s->bias);
    if (has_lora(w)) {
        r.second = job_of(y, s->t_x, &w->lora_b, w->lora_a.dim[0]);
        r.second.add = true;
    }
    return r;
}

void cpu_layers(struct ops *o, struct mat y, struct prepared x, const struct linear *const *w,
                size_t n_w, bool few, const struct layers_scratch *s)
{
    struct product_run run[LAYERS_MAX];
    size_t col = 0;
    if (o->status.code != 0 || !run_lora(o, w, n_w, x.plain, y.rows, few, s))
        return;
    for (size_t i = 0; i < n_w; i++) {
        struct mat part = mat_cols(y, col, linear_outputs(w[i]));
        run[i] = run_of(o, part, w[i], x, few, &s->each[i]);
        col += part.cols;
    }
    cpu_products_run(o, run, n_w, s->thread);
}

// ---- the verbs

void cpu_linears(struct ops *o, struct mat y, const struct linear_input *in,
                 const struct linear *const *w, size_t n_w)
{
    size_t mark = ops_mark(o), col = 0;
    struct input_scratch input;
    cpu_input_scratch(o, in, w, n_w, &input);
    if (prepare_input(o, in, &input))
        for (size_t i = 0; i < n_w; i += LAYERS_MAX) {
            size_t n = min_size(LAYERS_MAX, n_w - i), cols = 0, inner = ops_mark(o);
            struct layers_scratch s;
            for (size_t l = i; l < i + n; l++)
                cols += linear_outputs(w[l]);
            cpu_layers_scratch(o, w + i, n, y.rows, false, &s);
            cpu_layers(o, mat_cols(y, col, cols), input.x, w + i, n, cpu_few(o, y.rows), &s);
            ops_pop(o, inner);
            col += cols;
        }
    ops_pop(o, mark);
}

void cpu_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w)
{
    cpu_linears(o, y, &(struct linear_input){.kind = INPUT_ROWS, .x = x}, &w, 1);
}

void cpu_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                    const struct linear *w, const struct tensor *scale)
{
    size_t mark = ops_mark(o);
    bool few = cpu_few(o, x.rows);
    struct input_scratch input;
    struct layers_scratch s;
    cpu_input_scratch(o, in, &w, 1, &input);
    float *scale_f32 = scale ? cpu_vector_scratch(o, x.cols) : NULL;
    cpu_layers_scratch(o, &w, 1, x.rows, true, &s);
    if (prepare_input(o, in, &input) && run_lora(o, &w, 1, input.x.plain, x.rows, few, &s)) {
        struct mat nowhere = {.dtype = DT_F32, .rows = x.rows, .cols = x.cols};
        struct product_run r = run_of(o, nowhere, w, input.x, few, &s.each[0]);
        r.into = x;
        if (scale)
            r.scale = cpu_vector(o, scale, scale_f32);
        cpu_products_run(o, &r, 1, s.thread);
    }
    ops_pop(o, mark);
}
