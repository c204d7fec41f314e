// SPDX-License-Identifier: MIT
// A list of backend functions that note the time and call the real ones. A function that the backend lacks stays
// absent, since ops.c then makes the passage of smaller ops, which are counted one by one.
//
// Easy to get wrong: ops.c counts arithmetic before it calls, so what a call did is what was added since the call
// before; ops_plan_reset sets the sum back.
#include "ops/op_profile.h"

#include <pthread.h>
#include <time.h>

#include "base/mem.h"
#include "ops/backend.h"

struct op_profile {
    pthread_mutex_t lock;
    const struct backend *real; // NULL = no stream yet
    struct backend timed;
    struct op_time time[OP_STAGE_N][OP_KIND_N];
};

const char *op_stage_name(enum op_stage s)
{
    static const char *const names[OP_STAGE_N] = {"vision", "qformer", "prefill", "decode"};
    return names[s];
}

const char *op_kind_name(enum op_kind k)
{
    static const char *const names[OP_KIND_N] = {"products", "attention", "norms", "activations",
                                                 "sums",     "rotary",    "moves"};
    return names[k];
}

static double clock_read(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

struct span {
    double wall, cpu;
};

static struct span begin(void)
{
    return (struct span){clock_read(CLOCK_MONOTONIC), clock_read(CLOCK_PROCESS_CPUTIME_ID)};
}

// What `now` has more than `before`, which may have been set back to zero meanwhile.
static double added(double now, double *before)
{
    double more = now >= *before ? now - *before : now;
    *before = now;
    return more;
}

static void end(struct ops *o, struct span s, enum op_kind kind)
{
    struct op_profile *p = o->profile;
    struct span now = begin();
    pthread_mutex_lock(&p->lock);
    struct op_time *t = &p->time[o->profile_stage][kind];
    t->calls++;
    t->ms += now.wall - s.wall;
    t->cpu_ms += now.cpu - s.cpu;
    t->flops += added(o->flops, &o->profile_flops);
    t->bytes += added(o->weight_bytes, &o->profile_bytes);
    pthread_mutex_unlock(&p->lock);
}

// name, kind, (parameters behind o), (their names)
#define TIMED(name, kind, params, args)                                                            \
    static void timed_##name params                                                                \
    {                                                                                              \
        struct span s = begin();                                                                   \
        o->profile->real->name args;                                                               \
        end(o, s, kind);                                                                           \
    }

// clang-format off
TIMED(upload, OP_MOVE, (struct ops *o, struct mat dst, const float *src), (o, dst, src))
TIMED(download, OP_MOVE, (struct ops *o, float *dst, struct mat src), (o, dst, src))
TIMED(tap, OP_MOVE, (struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank), (o, name, m, dim, rank))
TIMED(copy, OP_MOVE, (struct ops *o, struct mat dst, struct mat src), (o, dst, src))
TIMED(embed, OP_MOVE, (struct ops *o, struct mat y, const struct tensor *table, const int32_t *ids), (o, y, table, ids))
TIMED(split_wqkv, OP_MOVE, (struct ops *o, struct mat q, struct mat k, struct mat v, struct mat qkv, size_t d_head),
      (o, q, k, v, qkv, d_head))
TIMED(add, OP_RESIDUAL, (struct ops *o, struct mat x, struct mat y), (o, x, y))
TIMED(add_scaled, OP_RESIDUAL, (struct ops *o, struct mat x, struct mat y, const struct tensor *scale), (o, x, y, scale))
TIMED(add_table, OP_RESIDUAL, (struct ops *o, struct mat x, const float *t, size_t t_rows, const struct tensor *same),
      (o, x, t, t_rows, same))
TIMED(linear, OP_PRODUCT, (struct ops *o, struct mat y, struct mat x, const struct linear *w), (o, y, x, w))
TIMED(linears, OP_PRODUCT, (struct ops *o, struct mat y, const struct linear_input *in, const struct linear *const *w, size_t n_w),
      (o, y, in, w, n_w))
TIMED(linear_add, OP_PRODUCT, (struct ops *o, struct mat x, const struct linear_input *in, const struct linear *w,
                               const struct tensor *scale), (o, x, in, w, scale))
TIMED(patch_embed, OP_PRODUCT, (struct ops *o, struct mat y, const float *pixels, size_t n_frame, size_t size, size_t patch,
                                const struct linear *w), (o, y, pixels, n_frame, size, patch, w))
TIMED(rms_norm, OP_NORM, (struct ops *o, struct mat y, struct mat x, const struct tensor *w, float eps), (o, y, x, w, eps))
TIMED(rms_norm2, OP_NORM, (struct ops *o, struct mat a, const struct tensor *a_w, struct mat b, const struct tensor *b_w,
                           float eps), (o, a, a_w, b, b_w, eps))
TIMED(layer_norm, OP_NORM, (struct ops *o, struct mat y, struct mat x, const struct tensor *w, const struct tensor *b,
                            float eps), (o, y, x, w, b, eps))
TIMED(gelu, OP_ACTIVATION, (struct ops *o, struct mat x), (o, x))
TIMED(silu_mul, OP_ACTIVATION, (struct ops *o, struct mat gate, struct mat up), (o, gate, up))
TIMED(rope_table, OP_ROPE, (struct ops *o, struct mat table, const uint32_t *pos, double theta), (o, table, pos, theta))
TIMED(rope, OP_ROPE, (struct ops *o, struct mat x, size_t n_head, struct mat table), (o, x, n_head, table))
TIMED(rope_pairs, OP_ROPE, (struct ops *o, struct mat x, size_t n_head, struct mat table), (o, x, n_head, table))
TIMED(attention, OP_ATTENTION, (struct ops *o, struct mat y, const struct attention *a), (o, y, a))
TIMED(cache_attention, OP_ATTENTION, (struct ops *o, struct mat y, const struct cache_attention *a), (o, y, a))
// clang-format on

#define PUT(name)                                                                                  \
    if (p->timed.name)                                                                             \
    p->timed.name = timed_##name

// p->real is set.
static void make_list(struct op_profile *p)
{
    p->timed = *p->real;
    PUT(upload);
    PUT(download);
    PUT(tap);
    PUT(copy);
    PUT(embed);
    PUT(split_wqkv);
    PUT(add);
    PUT(add_scaled);
    PUT(add_table);
    PUT(linear);
    PUT(linears);
    PUT(linear_add);
    PUT(patch_embed);
    PUT(rms_norm);
    PUT(rms_norm2);
    PUT(layer_norm);
    PUT(gelu);
    PUT(silu_mul);
    PUT(rope_table);
    PUT(rope);
    PUT(rope_pairs);
    PUT(attention);
    PUT(cache_attention);
}

int op_profile_open(struct op_profile **out, struct err *e)
{
    *out = NULL;
    struct op_profile *p = mem_calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_LIMIT, "profile: out of memory");
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return 0;
}

void op_profile_close(struct op_profile *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

struct op_time op_profile_read(struct op_profile *p, enum op_stage s, enum op_kind k)
{
    pthread_mutex_lock(&p->lock);
    struct op_time t = p->time[s][k];
    pthread_mutex_unlock(&p->lock);
    return t;
}

void ops_profile(struct ops *o, struct op_profile *p)
{
    if (!p || o->profile)
        return;
    pthread_mutex_lock(&p->lock);
    if (!p->real) {
        p->real = o->backend;
        make_list(p);
    }
    if (p->real == o->backend) { // another backend's functions are not those of the list
        o->profile = p;
        o->backend = &p->timed;
        o->profile_flops = o->flops;
        o->profile_bytes = o->weight_bytes;
    }
    pthread_mutex_unlock(&p->lock);
}

void ops_profile_stage(struct ops *o, enum op_stage s)
{
    o->profile_stage = (int)s;
}
