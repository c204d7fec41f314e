// SPDX-License-Identifier: MIT
// Passages of a forward pass, made of single ops: for backends that gain nothing by doing them at once.
#include "ops/backend.h"

// The rows that a linear layer reads. May push a matrix, which the caller pops.
static struct mat input_rows(struct ops *o, const struct linear_input *in)
{
    struct mat rows = in->x;
    switch (in->kind) {
    case INPUT_ROWS:
        break;
    case INPUT_RMS_NORM:
        rows = ops_mat(o, in->x.rows, in->x.cols);
        op_rms_norm(o, rows, in->x, in->norm, in->eps);
        break;
    case INPUT_SILU_MUL:
        op_silu_mul(o, in->x, in->up);
        break;
    case INPUT_GELU:
        op_gelu(o, in->x);
        break;
    }
    return rows;
}

void fused_linears(struct ops *o, struct mat y, const struct linear_input *in,
                   const struct linear *const *w, size_t n_w)
{
    size_t mark = ops_mark(o), col = 0;
    struct mat rows = input_rows(o, in);
    for (size_t i = 0; i < n_w; i++) {
        size_t d_out = linear_outputs(w[i]);
        op_linear(o, mat_cols(y, col, d_out), rows, w[i]);
        col += d_out;
    }
    if (in->gelu)
        op_gelu(o, y);
    ops_pop(o, mark);
}

void fused_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                      const struct linear *w, const struct tensor *scale)
{
    size_t mark = ops_mark(o);
    struct mat rows = input_rows(o, in), y = ops_mat(o, x.rows, x.cols);
    op_linear(o, y, rows, w);
    if (scale)
        op_add_scaled(o, x, y, scale);
    else
        op_add(o, x, y);
    ops_pop(o, mark);
}
