// SPDX-License-Identifier: MIT
// The patch convolution on the CPU: patches become prepared rows, some at a time, and go through the layer.
//
// In int8 too they are multiplied in the precision of the rest: they are a thousandth of the work.
//
// Easy to get wrong: the last rows are few, but are computed as the whole op has many.
#include "ops/cpu_backend.h"

#include <string.h>

#include "base/size.h"

struct gather_job {
    const struct product_kernels *p;
    const float *pixels;          // [n_frame, 3, size, size]
    size_t size, patch, first, n; // patches [first, first + n) of all
    void *dst;
    const struct patch_scratch *scratch;
};

// Patch i as a row [3, patch, patch].
static void gather_patch(const struct gather_job *j, size_t i, float *row)
{
    size_t side = j->size / j->patch, frame = i / (side * side);
    size_t y0 = i / side % side * j->patch, x0 = i % side * j->patch;
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < j->patch; y++, row += j->patch) {
            size_t line = (frame * 3 + c) * j->size + y0 + y;
            memcpy(row, j->pixels + line * j->size + x0, j->patch * sizeof *row);
        }
}

static void gather_task(void *ctx, size_t task, unsigned thread)
{
    const struct gather_job *j = ctx;
    float *rows = scratch_of(&j->scratch->gather, thread);
    size_t k = 3 * j->patch * j->patch, from = task * PATCH_GATHER;
    size_t n = min_size(PATCH_GATHER, j->n - from);
    for (size_t i = 0; i < n; i++)
        gather_patch(j, j->first + from + i, rows + i * k);
    j->p->prepare(j->p, (char *)j->dst + from * product_x_stride(j->p, k), rows, k, n, k);
}

void cpu_patch_scratch(struct ops *o, const struct linear *w, size_t n, struct patch_scratch *s)
{
    size_t d_in = linear_inputs(w);
    *s = (struct patch_scratch){0};
    s->x = ops_push_n(o, min_size(n, PATCH_ROWS), product_x_stride(cpu_products(o), d_in));
    cpu_layers_scratch(o, &w, 1, n, false, &s->layers);
    s->gather = cpu_thread_scratch(o, PATCH_GATHER * d_in * sizeof(float));
}

void cpu_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                     size_t patch, const struct linear *w)
{
    size_t mark = ops_mark(o), n = y.rows;
    struct patch_scratch s;
    (void)n_frame; // in y.rows
    cpu_patch_scratch(o, w, n, &s);
    for (size_t from = 0; from < n && o->status.code == 0; from += PATCH_ROWS) {
        size_t rows = min_size(PATCH_ROWS, n - from);
        struct gather_job j = {cpu_products(o), pixels, size, patch, from, rows, s.x, &s};
        if (cpu_run(o, gather_task, &j, div_up(rows, PATCH_GATHER)))
            cpu_layers(o, mat_rows(y, from, rows), (struct prepared){.plain = s.x}, &w, 1,
                       n <= OPS_FEW_ROWS, &s.layers);
    }
    ops_pop(o, mark);
}
