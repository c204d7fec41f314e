// SPDX-License-Identifier: MIT
// Attention on the device: which kernel serves which call.
#include "base/size.h"
#include "gpu/cuda/stream.h"

_Static_assert((int)OPS_HEAD_MAX == (int)CUDA_HEAD_MAX, "ops.h and device_kernels.h agree");

static bool is_tensor_core_case(const struct cuda_attention *a)
{
    const struct cuda_view *m[] = {&a->y, &a->q, &a->k, &a->v};
    if (a->d_head % 8 != 0 || a->d_head > 128)
        return false;
    for (size_t i = 0; i < sizeof m / sizeof m[0]; i++)
        if (!m[i]->is_bf16 || m[i]->stride % 8 != 0 || (uintptr_t)m[i]->data % 16 != 0)
            return false;
    return true;
}

static void attend(struct ops *o, const struct cuda_attention *a)
{
    cudaStream_t stream = stream_of(o)->stream;
    stream_check(o,
                 is_tensor_core_case(a) ? cuda_attention_many(a, stream)
                                        : cuda_attention_plain(a, stream),
                 "attention");
}

void gpu_attention(struct ops *o, struct mat y, const struct attention *a)
{
    if (!stream_runs(o))
        return;
    attend(o, &(struct cuda_attention){.y = view_of(y),
                                       .q = view_of(a->q),
                                       .k = view_of(a->k),
                                       .v = view_of(a->v),
                                       .n_seq = (int)a->n_seq,
                                       .n_q = (int)(y.rows / a->n_seq),
                                       .n_k = (int)(a->k.rows / a->n_seq),
                                       .n_head = (int)a->n_head,
                                       .n_kv = (int)a->n_kv,
                                       .d_head = (int)a->d_head,
                                       .scale = a->scale,
                                       .causal = a->causal,
                                       .first_pos = (int)a->first_pos});
}

// Positions of the rows from `row` on: those of the rotary table.
static const uint32_t *positions(const struct stream *s, size_t row)
{
    return (s->recording ? s->parts.step_pos : s->parts.pos) + row;
}

// One row for each span: all in one launch.
static void attend_step(struct ops *o, struct mat y, const struct cache_attention *a)
{
    struct stream *s = stream_of(o);
    struct cuda_cache_rows rows = {.n_row = (int)a->n_span};
    size_t cap = 0, mark = ops_mark(o);
    for (size_t i = 0; i < a->n_span; i++) {
        rows.k[i] = a->span[i].k.data;
        rows.v[i] = a->span[i].v.data;
        cap = max_size(cap, a->span[i].k.rows);
    }
    void *scratch = ops_push(
        o, cuda_attention_few_scratch((int)a->n_span, (int)a->n_head, (int)a->d_head, (int)cap));
    if (stream_runs(o)) {
        bool bf16 = a->span[0].k.dtype == DT_BF16;
        struct cuda_rope r = {.q = view_of(a->q),
                              .k = view_of(a->k),
                              .v = view_of(a->v),
                              .table = a->rope.data,
                              .rows = (int)a->n_span,
                              .n_head = (int)a->n_head,
                              .n_kv = (int)a->n_kv,
                              .d_head = (int)a->d_head,
                              .pairs = a->pairs,
                              .cache_bf16 = bf16,
                              .pos = positions(s, 0),
                              .cache = &rows};
        struct cuda_attention_few f = {.y = view_of(y),
                                       .q = view_of(a->q),
                                       .cache_bf16 = bf16,
                                       .pos = positions(s, 0),
                                       .n_k_max = (int)cap,
                                       .n_head = (int)a->n_head,
                                       .n_kv = (int)a->n_kv,
                                       .d_head = (int)a->d_head,
                                       .scale = a->scale,
                                       .scratch = scratch,
                                       .turn = s->parts.step_turn};
        stream_check(o, cuda_attention_step(&f, &r, s->stream), "attention of a step");
    }
    ops_pop(o, mark);
}

// The rows of one span.
static void attend_span(struct ops *o, struct mat y, const struct cache_attention *a,
                        const struct cache_span *c)
{
    struct stream *s = stream_of(o);
    struct mat q = mat_rows(a->q, c->first_row, c->n_row);
    if (!stream_runs(o))
        return;
    struct cuda_rope r = {.q = view_of(q),
                          .k = view_of(mat_rows(a->k, c->first_row, c->n_row)),
                          .v = view_of(mat_rows(a->v, c->first_row, c->n_row)),
                          .table = mat_rows(a->rope, c->first_row, c->n_row).data,
                          .rows = (int)c->n_row,
                          .n_head = (int)a->n_head,
                          .n_kv = (int)a->n_kv,
                          .d_head = (int)a->d_head,
                          .pairs = a->pairs,
                          .cache_bf16 = c->k.dtype == DT_BF16,
                          .pos = positions(s, c->first_row),
                          .cache_k = c->k.data,
                          .cache_v = c->v.data};
    size_t end = c->pos + c->n_row;
    stream_check(o, cuda_rope(&r, s->stream), "rotary positions");
    attend(o, &(struct cuda_attention){.y = view_of(mat_rows(y, c->first_row, c->n_row)),
                                       .q = view_of(q),
                                       .k = view_of(mat_rows(c->k, 0, end)),
                                       .v = view_of(mat_rows(c->v, 0, end)),
                                       .n_seq = 1,
                                       .n_q = (int)c->n_row,
                                       .n_k = (int)end,
                                       .n_head = (int)a->n_head,
                                       .n_kv = (int)a->n_kv,
                                       .d_head = (int)a->d_head,
                                       .scale = a->scale,
                                       .causal = true,
                                       .first_pos = (int)c->pos});
}

void gpu_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a)
{
    bool step = a->n_span <= CUDA_FEW_ROWS && a->n_span == y.rows;
    for (size_t i = 0; i < a->n_span; i++)
        step = step && a->span[i].n_row == 1 && a->span[i].first_row == i;
    if (step) {
        attend_step(o, y, a);
        return;
    }
    for (size_t i = 0; i < a->n_span; i++)
        attend_span(o, y, a, &a->span[i]);
}
