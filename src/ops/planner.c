// SPDX-License-Identifier: MIT
// The planner: a backend that executes nothing. Its arena is two numbers; each op asks for the scratch
// that the CPU backend would ask for, through the very same functions, and gives it back. Work is
// counted in ops.c, for every backend.
//
// Easy to get wrong: bytes are those of arena_cost, which rounds up (and adds gaps under the address
// sanitizer); an op without scratch must still stand in the list.
#include "base/mem.h"
#include "base/size.h"
#include "ops/cpu_backend.h"

struct planner {
    struct ops ops;
    size_t used, peak; // bytes
};

static void close_planner(struct ops *o)
{
    mem_free(o);
}

static int reserve(struct ops *o, size_t bytes, struct err *e)
{
    (void)o;
    (void)bytes;
    (void)e;
    return 0;
}

static size_t reserved(const struct ops *o)
{
    (void)o;
    return 0;
}

static void *push(struct ops *o, size_t bytes)
{
    struct planner *p = (struct planner *)o;
    size_t used;
    if (bytes > PTRDIFF_MAX || !add_size(p->used, arena_cost(bytes), &used)) {
        ops_fail(o, ERR_LIMIT, "scratch: more bytes than can be counted");
        return NULL;
    }
    p->used = used;
    p->peak = max_size(p->peak, used);
    return NULL;
}

static size_t mark(const struct ops *o)
{
    return ((const struct planner *)o)->used;
}

static void pop(struct ops *o, size_t to)
{
    struct planner *p = (struct planner *)o;
    p->used = min_size(p->used, to);
}

static size_t peak(const struct ops *o)
{
    return ((const struct planner *)o)->peak;
}

static void peak_reset(struct ops *o)
{
    struct planner *p = (struct planner *)o;
    p->peak = p->used;
}

static void clear(struct ops *o)
{
    (void)o;
}

static void *hold(struct ops *o, size_t bytes)
{
    (void)o;
    (void)bytes;
    return NULL;
}

static bool is_virtual(const struct ops *o)
{
    (void)o;
    return true;
}

static void release(struct ops *o, void *data, size_t bytes)
{
    (void)o; // never called: held mats have no data
    (void)data;
    (void)bytes;
}

// ---- ops without scratch

static void plan_upload(struct ops *o, struct mat dst, const float *src)
{
    (void)o;
    (void)dst;
    (void)src;
}

static void plan_download(struct ops *o, float *dst, struct mat src)
{
    (void)o;
    (void)dst;
    (void)src;
}

static void plan_pair(struct ops *o, struct mat a, struct mat b)
{
    (void)o;
    (void)a;
    (void)b;
}

static void plan_gelu(struct ops *o, struct mat x)
{
    (void)o;
    (void)x;
}

static void plan_add_table(struct ops *o, struct mat x, const float *t, size_t t_rows,
                           const struct tensor *same)
{
    (void)same;
    (void)o;
    (void)x;
    (void)t;
    (void)t_rows;
}

static void plan_rope(struct ops *o, struct mat x, size_t n_head, struct mat table)
{
    (void)o;
    (void)x;
    (void)n_head;
    (void)table;
}

static void plan_embed(struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids)
{
    (void)o;
    (void)y;
    (void)table;
    (void)ids;
}

static void plan_split_wqkv(struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv,
                            size_t d_head)
{
    (void)o;
    (void)q;
    (void)k;
    (void)v;
    (void)qkv;
    (void)d_head;
}

// ---- ops with scratch

static void plan_tap(struct ops *o, const char *name, struct mat m, const size_t *dim,
                     unsigned rank)
{
    size_t at = mark(o);
    (void)name;
    (void)dim;
    (void)rank;
    cpu_tap_scratch(o, m);
    pop(o, at);
}

static void plan_add_scaled(struct ops *o, struct mat x, struct mat y, const struct tensor *scale)
{
    size_t at = mark(o);
    (void)y;
    (void)scale;
    cpu_vector_scratch(o, x.cols);
    pop(o, at);
}

static void plan_rms_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                          float eps)
{
    size_t at = mark(o);
    (void)y;
    (void)w;
    (void)eps;
    cpu_vector_scratch(o, x.cols);
    pop(o, at);
}

static void plan_layer_norm(struct ops *o, struct mat y, struct mat x, const struct tensor *w,
                            const struct tensor *b, float eps)
{
    size_t at = mark(o);
    (void)y;
    (void)w;
    (void)b;
    (void)eps;
    cpu_vector_scratch(o, x.cols);
    cpu_vector_scratch(o, x.cols);
    pop(o, at);
}

static void plan_rope_table(struct ops *o, struct mat table, const uint32_t *pos, double theta)
{
    size_t at = mark(o);
    (void)pos;
    (void)theta;
    cpu_vector_scratch(o, table.cols / 2);
    pop(o, at);
}

static void plan_linears(struct ops *o, struct mat y, const struct linear_input *in,
                         const struct linear *const *w, size_t n_w)
{
    size_t at = mark(o);
    struct input_scratch input;
    cpu_input_scratch(o, in, w, n_w, &input);
    for (size_t i = 0; i < n_w; i += LAYERS_MAX) {
        size_t inner = mark(o);
        struct layers_scratch s;
        cpu_layers_scratch(o, w + i, min_size(LAYERS_MAX, n_w - i), y.rows, false, &s);
        pop(o, inner);
    }
    pop(o, at);
}

static void plan_linear(struct ops *o, struct mat y, struct mat x, const struct linear *w)
{
    plan_linears(o, y, &(struct linear_input){.kind = INPUT_ROWS, .x = x}, &w, 1);
}

static void plan_linear_add(struct ops *o, struct mat x, const struct linear_input *in,
                            const struct linear *w, const struct tensor *scale)
{
    size_t at = mark(o);
    struct input_scratch input;
    struct layers_scratch s;
    cpu_input_scratch(o, in, &w, 1, &input);
    if (scale)
        cpu_vector_scratch(o, x.cols);
    cpu_layers_scratch(o, &w, 1, x.rows, true, &s);
    pop(o, at);
}

static void plan_patch_embed(struct ops *o, struct mat y, const float *pixels, size_t n_frame,
                             size_t size, size_t patch, const struct linear *w)
{
    size_t at = mark(o);
    struct patch_scratch s;
    (void)pixels;
    (void)n_frame;
    (void)size;
    (void)patch;
    cpu_patch_scratch(o, w, y.rows, &s);
    pop(o, at);
}

static void plan_attention(struct ops *o, struct mat y, const struct attention *a)
{
    size_t at = mark(o);
    struct attention one = *a;
    (void)y;
    one.q.rows /= a->n_seq;
    one.k.rows /= a->n_seq;
    one.v.rows /= a->n_seq;
    cpu_attention_scratch(o, &one);
    pop(o, at);
}

static void plan_cache_attention(struct ops *o, struct mat y, const struct cache_attention *a)
{
    size_t at = mark(o);
    (void)y;
    cpu_cache_attention_scratch(o, a);
    pop(o, at);
}

static const struct backend plan_backend = {
    .close = close_planner,
    .reserve = reserve,
    .reserved = reserved,
    .push = push,
    .mark = mark,
    .pop = pop,
    .peak = peak,
    .peak_reset = peak_reset,
    .clear = clear,
    .hold = hold,
    .release = release,
    .is_virtual = is_virtual,
    .upload = plan_upload,
    .download = plan_download,
    .tap = plan_tap,
    .copy = plan_pair,
    .add = plan_pair,
    .add_scaled = plan_add_scaled,
    .add_table = plan_add_table,
    .linear = plan_linear,
    .rms_norm = plan_rms_norm,
    .layer_norm = plan_layer_norm,
    .gelu = plan_gelu,
    .silu_mul = plan_pair,
    .rope_table = plan_rope_table,
    .rope = plan_rope,
    .rope_pairs = plan_rope,
    .embed = plan_embed,
    .patch_embed = plan_patch_embed,
    .split_wqkv = plan_split_wqkv,
    .attention = plan_attention,
    .linears = plan_linears,
    .linear_add = plan_linear_add,
    .cache_attention = plan_cache_attention,
};

int ops_open_plan(const struct ops_options *opt, struct ops **out, struct err *e)
{
    *out = NULL;
    struct planner *p = mem_calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_LIMIT, "planner: out of memory");
    ops_init(&p->ops, &plan_backend, opt);
    *out = &p->ops;
    return 0;
}
