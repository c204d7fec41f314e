// SPDX-License-Identifier: MIT
// Row and element ops on the device: look up what the kernel needs there, launch it.
#include <math.h>

#include "base/size.h"
#include "gpu/cuda/stream.h"

void gpu_copy(struct ops *o, struct mat dst, struct mat src)
{
    if (stream_runs(o))
        stream_check(o, cuda_copy(view_of(dst), view_of(src), stream_of(o)->stream), "copy");
}

void gpu_add(struct ops *o, struct mat x, struct mat y)
{
    if (stream_runs(o))
        stream_check(o, cuda_add(view_of(x), view_of(y), NULL, stream_of(o)->stream), "add");
}

void gpu_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale)
{
    const float *v = stream_vector(o, scale);
    if (v)
        stream_check(o, cuda_add(view_of(x), view_of(y), v, stream_of(o)->stream), "add");
}

void gpu_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                   const struct tensor *same)
{
    if (same) {
        const float *v = stream_vector(o, same);
        if (v)
            stream_check(o, cuda_add_table(view_of(x), v, (int)t_rows, stream_of(o)->stream),
                         "add a table");
        return;
    }
    size_t mark = ops_mark(o);
    float *table = ops_push_n(o, t_rows * x.cols, sizeof *t);
    if (stream_runs(o)) {
        stream_put(o, table, t, t_rows * x.cols * sizeof *t);
        stream_check(o, cuda_add_table(view_of(x), table, (int)t_rows, stream_of(o)->stream),
                     "add a table");
    }
    ops_pop(o, mark);
}

void gpu_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps)
{
    const float *v = stream_vector(o, w);
    if (v)
        stream_check(o, cuda_rms_norm(view_of(y), view_of(x), v, eps, stream_of(o)->stream),
                     "RMSNorm");
}

void gpu_rms_norm2(struct ops *o, struct mat a, const struct tensor *a_w, struct mat b,
                   const struct tensor *b_w, float eps)
{
    const float *v = stream_vector(o, a_w), *w = stream_vector(o, b_w);
    if (v && w)
        stream_check(o, cuda_rms_norm2(view_of(a), v, view_of(b), w, eps, stream_of(o)->stream),
                     "two RMSNorms");
}

void gpu_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                    const struct tensor *b, float eps)
{
    const float *weight = stream_vector(o, w), *bias = stream_vector(o, b);
    if (weight && bias)
        stream_check(
            o, cuda_layer_norm(view_of(y), view_of(x), weight, bias, eps, stream_of(o)->stream),
            "LayerNorm");
}

void gpu_gelu(struct ops *o, struct mat x)
{
    if (stream_runs(o))
        stream_check(o, cuda_gelu(view_of(x), stream_of(o)->stream), "GELU");
}

void gpu_silu_mul(struct ops *o, struct mat gate, struct mat up)
{
    if (stream_runs(o))
        stream_check(o, cuda_silu_mul(view_of(gate), view_of(up), stream_of(o)->stream), "SiLU");
}

// A place for one more base; where all are taken that of the last which no recorded step reads. NULL: o failed.
static struct inverse_freq *freq_room(struct ops *o)
{
    struct stream *s = stream_of(o);
    size_t at = s->n_theta;
    if (at < N_THETA) {
        struct inverse_freq *f = &s->theta[at];
        *f = (struct inverse_freq){.device = s->parts.freq + at * MAX_HALF};
        stream_check(
            o,
            (int)cudaHostAlloc((void **)&f->host, MAX_HALF * sizeof(float), cudaHostAllocDefault),
            "rotary frequencies");
        if (o->status.code != 0)
            return NULL;
        s->n_theta++;
        return f;
    }
    stream_wait(o); // it may be in use
    while (at > 0 && s->theta[at - 1].recorded)
        at--;
    if (at == 0)
        cuda_steps_forget(s);
    return o->status.code == 0 ? &s->theta[at > 0 ? at - 1 : 0] : NULL;
}

// Inverse frequencies of theta, kept: a recorded step cannot make them.
static const float *inverse_freq(struct ops *o, double theta, size_t d_head)
{
    struct stream *s = stream_of(o);
    size_t half = d_head / 2;
    for (size_t i = 0; i < s->n_theta; i++)
        if (s->theta[i].theta == theta && s->theta[i].d_head == d_head) {
            s->theta[i].recorded = s->theta[i].recorded || s->recording;
            return s->theta[i].device;
        }
    if (s->recording) {
        ops_fail(o, ERR_FAIL, "cuda: a rotary base met first inside a step");
        return NULL;
    }
    struct inverse_freq *f = freq_room(o);
    if (!f)
        return NULL;
    f->theta = theta;
    f->d_head = d_head;
    for (size_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)d_head;
        f->host[i] = 1.0f / (float)pow((double)(float)theta, (double)exponent);
    }
    stream_check(o,
                 (int)cudaMemcpyAsync(f->device, f->host, half * sizeof(float),
                                      cudaMemcpyHostToDevice, s->stream),
                 "rotary frequencies");
    return f->device;
}

void gpu_rope_table(struct ops *o, struct mat table, const uint32_t *pos, double theta)
{
    struct stream *s = stream_of(o);
    const uint32_t *where = s->parts.pos;
    if (!stream_runs(o))
        return;
    const float *freq = inverse_freq(o, theta, table.cols);
    if (!freq)
        return;
    if (s->recording && pos == s->given_pos) {
        where = s->parts.step_pos;
    } else if (table.rows > (size_t)POS_CAP) {
        ops_fail(o, ERR_LIMIT, "cuda: %zu rows at once, at most %zu", table.rows, (size_t)POS_CAP);
        return;
    } else {
        stream_put(o, s->parts.pos, pos, table.rows * sizeof *pos);
    }
    stream_check(
        o, cuda_rope_table(table.data, where, (int)table.rows, (int)table.cols, freq, s->stream),
        "rotary table");
}

static void rope(struct ops *o, struct mat x, size_t n_head, struct mat table, bool pairs)
{
    if (!stream_runs(o))
        return;
    struct cuda_rope r = {.q = view_of(x),
                          .table = table.data,
                          .rows = (int)x.rows,
                          .n_head = (int)n_head,
                          .d_head = (int)table.cols,
                          .pairs = pairs};
    stream_check(o, cuda_rope(&r, stream_of(o)->stream), "rotary positions");
}

void gpu_rope(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    rope(o, x, n_head, table, false);
}

void gpu_rope_pairs(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    rope(o, x, n_head, table, true);
}

void gpu_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids)
{
    struct stream *s = stream_of(o);
    size_t mark = ops_mark(o);
    struct placed_rows rows = {0};
    struct err e = {0};
    bool in_step = s->recording && ids == s->given_ids;
    int32_t *device_ids = ids && !in_step ? ops_push_n(o, y.rows, sizeof *ids) : NULL;
    if (stream_wants_weights(o) && place_table(s->gpu, table, y.cols, &rows, &e) != 0)
        ops_fail(o, e.code, "%s", e.msg);
    if (!s->is_virtual && o->status.code == 0) {
        if (device_ids)
            stream_put(o, device_ids, ids, y.rows * sizeof *ids);
        const int32_t *of = in_step ? s->parts.step_ids : device_ids;
        stream_check(o,
                     rows.blocks.planes ? cuda_quant_embed(view_of(y), &rows.blocks, of, s->stream)
                                        : cuda_embed(view_of(y), rows.view, of, s->stream),
                     "embedding");
    }
    ops_pop(o, mark);
}

void gpu_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                    size_t d_head)
{
    if (stream_runs(o))
        stream_check(o,
                     cuda_split_wqkv(view_of(q), view_of(k), view_of(v), view_of(qkv), (int)d_head,
                                     stream_of(o)->stream),
                     "splitting wqkv");
}
