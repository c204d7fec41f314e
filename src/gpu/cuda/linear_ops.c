// SPDX-License-Identifier: MIT
// Linear layers on the device.
//
//   [f(x) | lora_scale * f(x) A^T | 0] = prepare(x)      f: nothing, RMSNorm, SiLU*up or GELU
//   y = that times [W | B | 0]^T + b                     one product with LoRA in it
//
// Up to CUDA_FEW_ROWS rows the product is one pass over the weights by our own kernel, more go through
// cuBLASLt; the two round differently, so the choice hangs on the rows of the op and on the layer alone: few rows meet
// layers in blocks as int8, but not those that are fine, which are unpacked whatever the rows.
//
// A product of one row whose reader is known leaves its result as that one reads it (input_room), and the reader takes
// it if nothing was launched since (input_ready): RMSNorm's factor is then applied behind the product. Easy to get wrong:
// whether the factor comes late must not hang on the number of rows. So more rows have it late in the same places, by a
// launch (cuda_rms_apart).
#include "base/size.h"
#include "gpu/cuda/stream.h"

static const enum cuda_input kinds[] = {
    [INPUT_ROWS] = CUDA_INPUT_ROWS,
    [INPUT_RMS_NORM] = CUDA_INPUT_RMS,
    [INPUT_SILU_MUL] = CUDA_INPUT_SILU_MUL,
    [INPUT_GELU] = CUDA_INPUT_GELU,
};

enum {
    ROOM_BYTES = 256 << 10,   // of a row that a kernel makes for the next,
    ROOM_SQUARES = 192 << 10, // and where the sums of its squares stand in it
    SQUARE = 16,              // columns of one
};
_Static_assert(2 * ROOM_BYTES <= PRODUCT_WORKSPACE, "both rooms lie in the workspace");
_Static_assert(CUDA_APART_COLUMNS * 2 <= ROOM_SQUARES &&
                   CUDA_APART_COLUMNS / SQUARE * sizeof(float) <= ROOM_BYTES - ROOM_SQUARES,
               "a row and the sums of its squares have room");

// A linear op under way.
struct run {
    const struct placed_linear *w;
    struct mat
        rows; // the product's input [n, k_out]; prepared, or the op's own when it is ready as it is
    bool few, prepared;
    bool quantised;
    void *quants;        // few rows for quantised weights
    void *plain;         // quantised weights in bf16, for many rows
    const float *square; // the row lacks RMSNorm's factor, made of these with eps
    float *factor;       // room for the factors of few rows,
    bool late;           // which they lack
    float eps;
};

// Number of columns of the product's input, without the weights being there.
static size_t product_columns(const struct gpu *g, const struct linear *const *w, size_t n_w)
{
    size_t d = linear_inputs(w[0]);
    for (size_t i = 0; i < n_w && !place_merges(g, w[0]); i++)
        d += tensor_present(&w[i]->lora_a) ? w[i]->lora_a.dim[0] : 0;
    return round_up(d, PLACED_K_STEP);
}

static size_t most_outputs(const struct linear *const *w, size_t n_w)
{
    size_t n = 0;
    for (size_t i = 0; i < n_w; i++)
        n += linear_outputs(w[i]);
    return n;
}

static bool find_weights(struct ops *o, const struct linear *const *w, size_t n_w,
                         const struct tensor *scale, struct run *r)
{
    struct stream *s = stream_of(o);
    struct err e = {0};
    if (stream_wants_weights(o) && place_linears(s->gpu, w, n_w, scale, &r->w, &e) != 0)
        ops_fail(o, e.code, "%s", e.msg);
    return !s->is_virtual && o->status.code == 0;
}

static bool begin_quantised(struct ops *o, const struct linear_input *in,
                            const struct linear *const *w, size_t n_w, struct run *r)
{
    r->rows = in->x;
    r->quants = ops_push(o, cuda_quant_input_bytes((int)in->x.rows, (int)linear_inputs(w[0])));
    return find_weights(o, w, n_w, NULL, r);
}

// Pushes what the op needs; false = go no further (virtual, or failed).
static bool begin(struct ops *o, const struct linear_input *in, const struct linear *const *w,
                  size_t n_w, const struct tensor *scale, struct run *r)
{
    struct stream *s = stream_of(o);
    bool quantised = place_quantised(s->gpu, w[0]);
    size_t k = quantised ? linear_inputs(w[0]) : product_columns(s->gpu, w, n_w);
    enum dtype t = s->traits.act;
    bool few = t == DT_BF16 && in->x.rows <= CUDA_FEW_ROWS && !(quantised && w[0]->fine);
    *r = (struct run){.few = few, .quantised = quantised};
    if (quantised && r->few)
        return begin_quantised(o, in, w, n_w, r);
    if (quantised)
        r->plain = ops_push_n(o, most_outputs(w, n_w) * k, 2);
    r->prepared = !(in->kind == INPUT_ROWS && in->x.dtype == t && in->x.cols == k &&
                    (!r->few || in->x.stride == k) && in->x.stride % 8 == 0);
    r->rows = in->x;
    if (r->prepared) {
        void *data = ops_push_n(o, in->x.rows * k, dtype_bytes(t));
        r->rows = (struct mat){data, t, in->x.rows, k, k};
    }
    if (r->few && in->kind == INPUT_RMS_NORM)
        r->factor = ops_push_n(o, in->x.rows, sizeof *r->factor);
    return find_weights(o, w, n_w, scale, r);
}

// Of the workspace, which cuBLASLt needs for many rows only. Two rooms: a kernel reads one and writes the other.
static char *input_room(struct stream *s, enum input_kind kind)
{
    return (char *)s->parts.workspace + (kind == INPUT_RMS_NORM ? ROOM_BYTES : 0);
}

static bool same_mat(struct mat a, struct mat b)
{
    return a.data == b.data && a.dtype == b.dtype && a.rows == b.rows && a.cols == b.cols &&
           (a.rows == 1 || a.stride == b.stride);
}

// Whether the last launch was that of a product which knew the op as the reader of its result.
static bool input_ready(const struct stream *s, const struct linear_input *in)
{
    const struct input_made *m = &s->input;
    if (m->launch == 0 || m->launch != s->n_launch || m->kind != in->kind || !same_mat(m->x, in->x))
        return false;
    if (in->kind == INPUT_RMS_NORM)
        return m->norm == in->norm;
    struct mat up = m->x;
    up.data = (char *)up.data + up.cols * dtype_bytes(up.dtype);
    return in->kind != INPUT_SILU_MUL || same_mat(up, in->up);
}

// Whether y, of few rows, is to become the input of the op behind, of *kind; the number of rows does not matter. The op
// reads the other room.
static bool input_wanted(const struct linear_input *in, struct mat y, enum input_kind *kind)
{
    *kind = in->next_silu ? INPUT_SILU_MUL : INPUT_RMS_NORM;
    if ((in->kind == INPUT_RMS_NORM) == (*kind == INPUT_RMS_NORM) || y.cols % (2 * SQUARE) != 0)
        return false;
    return in->next_silu ? y.cols <= ROOM_SQUARES && y.cols / 2 <= INT32_MAX / in->x.cols
                         : in->next_norm && y.dtype == DT_F32 && y.cols <= CUDA_APART_COLUMNS &&
                               y.stride % 4 == 0;
}

static void product(struct ops *o, const struct device_product *p)
{
    struct stream *s = stream_of(o);
    struct err e = {0};
    struct device_product q = *p;
    q.workspace = s->parts.workspace;
    s->n_launch++;
    if (o->status.code == 0 && device_product(s->gpu, &q, s->stream, &e) != 0)
        ops_fail(o, e.code, "%s", e.msg);
    if (s->profile)
        profile_mark(o, "product [%zu,%zu] x [%zu]", p->m, p->k, p->n);
}

// r->rows of an op that the one in front knew.
static void take_ready(struct ops *o, const struct linear_input *in, const float *norm,
                       struct run *r)
{
    struct stream *s = stream_of(o);
    bool rms = in->kind == INPUT_RMS_NORM;
    r->eps = in->eps;
    if (s->input.data) {
        r->rows.data = s->input.data;
        r->square = rms ? (const float *)(const void *)(s->input.data + ROOM_SQUARES) : NULL;
        return;
    }
    struct cuda_rms_apart a = {.x = view_of(in->x),
                               .norm_w = norm,
                               .eps = in->eps,
                               .out = r->rows.data,
                               .factor = r->factor};
    stream_check(o, cuda_rms_apart(&a, s->stream), "a linear layer's input");
    r->late = true;
}

// f(x) with LoRA's middle into r->rows.
static void prepare(struct ops *o, const struct linear_input *in, const float *norm, struct run *r)
{
    const struct placed_linear *w = r->w;
    struct stream *s = stream_of(o);
    if (r->quants) {
        struct cuda_quant_input q = {.kind = kinds[in->kind],
                                     .x = view_of(in->x),
                                     .norm_w = norm,
                                     .eps = in->eps,
                                     .k = (int)w->k_out,
                                     .out = r->quants};
        if (in->kind == INPUT_SILU_MUL)
            q.up = view_of(in->up);
        stream_check(o, cuda_quant_input(&q, s->stream), "a quantised layer's input");
        return;
    }
    bool bf16 = r->rows.dtype == DT_BF16;
    if (r->few && input_ready(s, in) && w->n_lora == 0 && w->k_out == w->d_in) {
        take_ready(o, in, norm, r);
        return;
    }
    if (r->prepared) {
        struct cuda_prepare p = {.kind = kinds[in->kind],
                                 .x = view_of(in->x),
                                 .norm_w = norm,
                                 .eps = in->eps,
                                 .out = r->rows.data,
                                 .out_bf16 = bf16,
                                 .k_out = (int)w->k_out,
                                 .lora_a = r->few ? w->lora_a : NULL,
                                 .n_lora = (int)w->n_lora,
                                 .lora_scale = w->lora_scale};
        if (in->kind == INPUT_SILU_MUL)
            p.up = view_of(in->up);
        stream_check(o, cuda_prepare(&p, s->stream), "a linear layer's input");
    }
    if (!r->few && bf16 && w->n_lora > 0 && w->n_lora <= CUDA_LORA_MAX && w->d_in % 8 == 0) {
        struct cuda_lora_down d = {.x = r->rows.data,
                                   .stride = (int64_t)r->rows.stride,
                                   .rows = (int)r->rows.rows,
                                   .d_in = (int)w->d_in,
                                   .a = w->lora_a,
                                   .n_lora = (int)w->n_lora,
                                   .scale = w->lora_scale,
                                   .scratch = s->parts.workspace,
                                   .scratch_bytes = PRODUCT_WORKSPACE};
        stream_check(o, cuda_lora_down(&d, s->stream), "LoRA down");
    } else if (!r->few && w->n_lora > 0) {
        char *t = (char *)r->rows.data + w->d_in * dtype_bytes(r->rows.dtype);
        product(o, &(struct device_product){
                       .y = {t, bf16, (int)r->rows.rows, (int)w->n_lora, (int64_t)w->k_out},
                       .x = r->rows.data,
                       .w = w->lora_a,
                       .m = r->rows.rows,
                       .n = w->n_lora,
                       .k = w->d_in,
                       .x_stride = w->k_out,
                       .w_stride = w->d_in,
                       .is_bf16 = bf16,
                       .alpha = w->lora_scale});
    }
}

// Of outputs from `first` on, as y's type wants it; NULL = none.
static const void *bias_for(const struct placed_linear *w, struct mat y, size_t first)
{
    if (!w->bias)
        return NULL;
    return y.dtype == DT_BF16 ? (const char *)w->bias_bf16 + 2 * first
                              : (const void *)(w->bias + first);
}

// y (+)= rows * w by weights in blocks: few rows from the blocks, many from bf16 made of them.
static void multiply_quantised(struct ops *o, struct mat y, const struct run *r, bool add,
                               const float *scale)
{
    struct stream *s = stream_of(o);
    struct cuda_quant_linear few[PLACED_PARTS];
    size_t first = 0;
    for (size_t i = 0; i < r->w->n_part && o->status.code == 0; i++) {
        const struct cuda_quant_weight *part = &r->w->part[i];
        size_t n = (size_t)part->n_out;
        struct mat to = mat_cols(y, first, n);
        const float *bias = r->w->bias ? r->w->bias + first : NULL;
        if (r->few) {
            few[i] = (struct cuda_quant_linear){.w = *part,
                                                .x = r->quants,
                                                .bias = bias,
                                                .y = view_of(to),
                                                .add = add,
                                                .scale = scale ? scale + first : NULL};
        } else {
            struct cuda_view plain = {r->plain, true, (int)n, part->k, part->k};
            stream_check(o, cuda_quant_unpack(plain, part, 0, s->stream), "unpacking a layer");
            product(o, &(struct device_product){.y = view_of(to),
                                                .x = r->rows.data,
                                                .w = r->plain,
                                                .m = y.rows,
                                                .n = n,
                                                .k = r->w->k_out,
                                                .x_stride = r->rows.stride,
                                                .w_stride = r->w->k_out,
                                                .is_bf16 = true,
                                                .alpha = 1.0f,
                                                .add = add,
                                                .bias = bias_for(r->w, to, first)});
        }
        first += n;
    }
    if (r->few)
        stream_check(o, cuda_quant_linears(few, (int)r->w->n_part, s->stream),
                     "a quantised layer of few rows");
}

static struct device_product many_product(struct mat y, const struct run *r, bool add)
{
    const struct placed_linear *w = r->w;
    return (struct device_product){.y = view_of(y),
                                   .x = r->rows.data,
                                   .w = w->w,
                                   .m = y.rows,
                                   .n = w->n_out,
                                   .k = w->k_out,
                                   .x_stride = r->rows.stride,
                                   .w_stride = w->k_out,
                                   .is_bf16 = r->rows.dtype == DT_BF16,
                                   .alpha = 1.0f,
                                   .add = add,
                                   .bias = bias_for(w, y, 0)};
}

// y (+)= rows * w of few rows
static void multiply_few(struct ops *o, struct mat y, const struct run *r, bool add,
                         const struct linear_input *in)
{
    const struct placed_linear *w = r->w;
    struct stream *s = stream_of(o);
    enum input_kind kind;
    bool wanted = input_wanted(in, y, &kind), one = y.rows == 1;
    struct cuda_few_linear f = {.w = w->w,
                                .x = r->rows.data,
                                .bias = w->bias,
                                .y = view_of(y),
                                .add = add,
                                .k = (int)w->k_out,
                                .factor = r->late ? r->factor : NULL,
                                .square = r->square,
                                .eps = r->eps};
    if (wanted && one) {
        f.next_x = input_room(s, kind);
        f.next_norm = stream_vector(o, in->next_norm);
        f.next_square = (float *)(void *)(input_room(s, kind) + ROOM_SQUARES);
    }
    if (o->status.code != 0)
        return;
    stream_check(o, cuda_few_linear(&f, s->stream), "a linear layer of few rows");
    if (wanted && (one || kind == INPUT_RMS_NORM))
        s->input = (struct input_made){.launch = s->n_launch,
                                       .kind = kind,
                                       .x = in->next_silu ? mat_cols(y, 0, y.cols / 2) : y,
                                       .norm = in->next_norm,
                                       .data = one ? input_room(s, kind) : NULL};
}

// y (+)= rows * w; scale: only of quantised weights
static void multiply(struct ops *o, struct mat y, const struct run *r, bool add, const float *scale,
                     const struct linear_input *in)
{
    if (r->quantised) {
        multiply_quantised(o, y, r, add, scale);
        return;
    }
    if (r->few) {
        multiply_few(o, y, r, add, in);
        return;
    }
    struct device_product p = many_product(y, r, add);
    product(o, &p);
}

// y = GELU of the product, in one go where that is possible.
static void multiply_gelu(struct ops *o, struct mat y, const struct run *r,
                          const struct linear_input *in)
{
    struct device_product p = many_product(y, r, false);
    p.gelu = true;
    if (!r->few && !r->quantised && y.dtype == DT_BF16 && r->w->bias_bf16 &&
        product_serves(stream_of(o)->gpu, &p)) {
        product(o, &p);
        return;
    }
    multiply(o, y, r, false, NULL, in);
    stream_check(o, cuda_gelu(view_of(y), stream_of(o)->stream), "GELU");
}

// Layers that all are in blocks, and of these all fine or none, or none in blocks.
static void alike_linears(struct ops *o, struct mat y, const struct linear_input *in,
                          const struct linear *const *w, size_t n_w)
{
    size_t mark = ops_mark(o);
    struct run r;
    const float *norm = in->kind == INPUT_RMS_NORM ? stream_vector(o, in->norm) : NULL;
    if (begin(o, in, w, n_w, NULL, &r)) {
        prepare(o, in, norm, &r);
        if (in->gelu)
            multiply_gelu(o, y, &r, in);
        else
            multiply(o, y, &r, false, NULL, in);
    }
    ops_pop(o, mark);
}

static bool alike(const struct gpu *g, const struct linear *a, const struct linear *b)
{
    bool blocks = place_quantised(g, a);
    return place_quantised(g, b) == blocks && (!blocks || a->fine == b->fine);
}

void gpu_linears(struct ops *o, struct mat y, const struct linear_input *in,
                 const struct linear *const *w, size_t n_w)
{
    const struct gpu *g = stream_of(o)->gpu;
    struct linear_input some = *in;
    for (size_t i = 0, end, first = 0, n; i < n_w; i = end, first += n) {
        for (end = i, n = 0; end < n_w && alike(g, w[i], w[end]); end++)
            n += linear_outputs(w[end]);
        if (end - i < n_w) { // who reads y next reads all of it
            some.next_norm = NULL;
            some.next_silu = false;
        }
        alike_linears(o, mat_cols(y, first, n), &some, w + i, end - i);
    }
}

void gpu_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w)
{
    gpu_linears(o, y, &(struct linear_input){.kind = INPUT_ROWS, .x = x}, &w, 1);
}

void gpu_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                    const struct linear *w, const struct tensor *scale)
{
    size_t mark = ops_mark(o);
    struct run r;
    // folded: LayerScale is in the weights. Else cuBLASLt cannot scale: first y, then x += s y
    bool folded = scale && place_folds(stream_of(o)->gpu, w);
    const float *norm = in->kind == INPUT_RMS_NORM ? stream_vector(o, in->norm) : NULL;
    const float *s = folded ? NULL : stream_vector(o, scale);
    bool go = begin(o, in, &w, 1, scale, &r);
    bool direct = r.few || folded || !scale;
    struct mat y = direct ? x : ops_act(o, x.rows, x.cols);
    if (go && o->status.code == 0) {
        prepare(o, in, norm, &r);
        multiply(o, y, &r, direct, r.few ? s : NULL, in);
        if (!direct)
            stream_check(o, cuda_add(view_of(x), view_of(y), s, stream_of(o)->stream), "adding");
    }
    ops_pop(o, mark);
}

void gpu_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size,
                     size_t patch, const struct linear *w)
{
    struct stream *s = stream_of(o);
    size_t mark = ops_mark(o), n = n_frame * 3 * size * size, k = product_columns(s->gpu, &w, 1);
    enum dtype t = s->traits.act;
    struct err e = {0};
    // rounded before they travel, to what the rows would be rounded to
    void *raw = ops_push_n(o, n, dtype_bytes(t));
    void *rows = ops_push_n(o, y.rows * k, dtype_bytes(t));
    struct run r = {.few = t == DT_BF16 && y.rows <= CUDA_FEW_ROWS,
                    .rows = {rows, t, y.rows, k, k}};
    if (stream_wants_weights(o) && place_linears(s->gpu, &w, 1, NULL, &r.w, &e) != 0)
        ops_fail(o, e.code, "%s", e.msg);
    if (!s->is_virtual && o->status.code == 0) {
        if (t == DT_BF16)
            stream_put_bf16(o, raw, pixels, n);
        else
            stream_put(o, raw, pixels, n * sizeof *pixels);
        struct mat cols = r.rows;
        stream_check(o,
                     cuda_patches(view_of(cols), raw, t == DT_BF16, (int)n_frame, (int)size,
                                  (int)patch, s->stream),
                     "patches");
        multiply(o, y, &r, false, NULL, &(struct linear_input){0});
    }
    ops_pop(o, mark);
}
