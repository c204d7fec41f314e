// SPDX-License-Identifier: MIT
// A stream of ops on a CUDA device: its arena, copies to and from the host, and the list of its ops. Ops are
// launched and not waited for; the host waits in op_download only, which is where failures of kernels show.
//
// The same struct counts without executing (is_virtual): pushes then return NULL and nothing is launched;
// with `place` the weights that the ops name are brought to the device.
#include "gpu/cuda/stream.h"

#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/size.h"
#include "kernels/kernels.h"

enum { ALIGN = 256, MANY_ROWS = 24576 };

// Every op comes through here before it asks the runtime for anything.
static bool goes_on(struct ops *o)
{
    if (o->status.code == 0 && hooks_abort(&o->hooks))
        ops_fail(o, ERR_ABORT, "stopped on request");
    if (o->status.code != 0)
        return false;
    device_enter(stream_of(o)->gpu); // behind the callback
    return true;
}

bool stream_runs(struct ops *o)
{
    return !stream_of(o)->is_virtual && goes_on(o);
}

bool stream_wants_weights(struct ops *o)
{
    const struct stream *s = stream_of(o);
    return (!s->is_virtual || s->place) && goes_on(o);
}

void stream_check(struct ops *o, int cuda_status, const char *what)
{
    stream_of(o)->n_launch++;
    if (cuda_status != 0) {
        (void)cudaGetLastError(); // as cuda_error
        ops_fail(o, ERR_FAIL, "cuda:%d: %s: %s", stream_of(o)->gpu->index, what,
                 cudaGetErrorString((cudaError_t)cuda_status));
    }
    if (stream_of(o)->profile)
        profile_mark(o, "%s", what);
}

void stream_wait(struct ops *o)
{
    struct stream *s = stream_of(o);
    s->ring_used = 0;
    stream_check(o, (int)cudaStreamSynchronize(s->stream), "running");
}

const float *stream_vector(struct ops *o, const struct tensor *t)
{
    struct stream *s = stream_of(o);
    const float *v = NULL;
    struct err e = {0};
    if (t && stream_wants_weights(o) && place_vector(s->gpu, t, &v, &e) != 0)
        ops_fail(o, e.code, "%s", e.msg);
    return s->is_virtual || o->status.code != 0 ? NULL : v;
}

struct copy_job {
    char *dst;
    const char *src;
    size_t bytes;                  // of dst
    const struct kernels *kernels; // f32 to bf16; NULL = the bytes as they are
};

// Of a thread: a clip of pixels is some for each of 16. Of a transfer, under which the next is copied: waking threads takes
// longer than most of them.
enum { COPY_PART = 64 << 10, PUT_PART = 4 << 20 };

static void copy_task(void *ctx, size_t task, unsigned thread)
{
    const struct copy_job *j = ctx;
    size_t from = task * COPY_PART, n = min_size(COPY_PART, j->bytes - from);
    (void)thread;
    if (j->kernels)
        j->kernels->from_f32(j->dst + from, DT_BF16, (const float *)(const void *)j->src + from / 2,
                             n / 2);
    else
        memcpy(j->dst + from, j->src + from, n);
}

static void copy_parallel(struct pool *pool, struct copy_job *j)
{
    if (j->bytes <= COPY_PART)
        copy_task(j, 0, 0);
    else
        pool_run(pool, copy_task, j, div_up(j->bytes, COPY_PART));
}

// bytes: of dst. src_step: bytes of src for each of them.
static void put(struct ops *o, char *dst, const char *src, size_t bytes, size_t src_step,
                const struct kernels *kernels)
{
    struct stream *s = stream_of(o);
    while (bytes > 0 && o->status.code == 0) {
        if (s->ring_used == RING_BYTES)
            stream_wait(o); // what lies in the ring is copied then
        size_t n = min_size(min_size(bytes, PUT_PART), RING_BYTES - s->ring_used);
        struct copy_job j = {s->parts.ring + s->ring_used, src, n, kernels};
        copy_parallel(o->pool, &j);
        stream_check(o,
                     (int)cudaMemcpyAsync(dst, s->parts.ring + s->ring_used, n,
                                          cudaMemcpyHostToDevice, s->stream),
                     "copying to the device");
        s->ring_used = round_up(s->ring_used + n, 64);
        dst += n;
        src += n * src_step;
        bytes -= n;
    }
}

void stream_put(struct ops *o, void *dst, const void *src, size_t bytes)
{
    put(o, dst, src, bytes, 1, NULL);
}

void stream_put_bf16(struct ops *o, void *dst, const float *src, size_t n)
{
    put(o, dst, (const char *)src, 2 * n, 2, stream_of(o)->gpu->kernels);
}

struct cuda_view view_of(struct mat m)
{
    return (struct cuda_view){m.data, m.dtype == DT_BF16, (int)m.rows, (int)m.cols,
                              (int64_t)m.stride};
}

// ---- the arena

static int reserve(struct ops *o, size_t bytes, struct err *e)
{
    struct stream *s = stream_of(o);
    if (s->is_virtual || (bytes > 0 && bytes <= s->cap))
        return 0;
    device_enter(s->gpu);
    device_give_async(s->gpu, GPU_MEM_SCRATCH, s->cap, s->stream, s->arena);
    s->arena = NULL;
    s->cap = s->used = 0;
    if (bytes == 0)
        return 0;
    cudaError_t status =
        device_take_async(s->gpu, GPU_MEM_SCRATCH, bytes, s->stream, (void **)&s->arena);
    if (status != cudaSuccess)
        return cuda_error(e, ERR_LIMIT, s->gpu, "scratch", status);
    s->cap = bytes;
    return 0;
}

static size_t reserved(const struct ops *o)
{
    return ((const struct stream *)o)->cap;
}

static void *push(struct ops *o, size_t bytes)
{
    struct stream *s = stream_of(o);
    size_t used;
    if (bytes > PTRDIFF_MAX || !add_size(s->used, round_up(max_size(bytes, 1), ALIGN), &used) ||
        (!s->is_virtual && used > s->cap)) {
        ops_fail(o, ERR_LIMIT, "scratch: %zu bytes asked for, %zu of %zu are in use", bytes,
                 s->used, s->cap);
        return NULL;
    }
    char *p = s->is_virtual ? NULL : s->arena + s->used;
    s->used = used;
    s->peak = max_size(s->peak, used);
    return p;
}

static size_t mark(const struct ops *o)
{
    return ((const struct stream *)o)->used;
}

static void pop(struct ops *o, size_t to)
{
    struct stream *s = stream_of(o);
    s->used = min_size(s->used, to);
}

static size_t peak(const struct ops *o)
{
    return ((const struct stream *)o)->peak;
}

static void peak_reset(struct ops *o)
{
    struct stream *s = stream_of(o);
    s->peak = s->used;
}

static void clear(struct ops *o)
{
    struct stream *s = stream_of(o);
    if (s->is_virtual)
        return;
    device_enter(s->gpu);
    (void)cudaStreamSynchronize(s->stream);
    s->ring_used = 0;
    s->input = (struct input_made){0};
}

static void wait(struct ops *o)
{
    struct stream *s = stream_of(o);
    if (s->is_virtual)
        return;
    device_enter(s->gpu);
    stream_wait(o);
}

static void *hold(struct ops *o, size_t bytes)
{
    struct stream *s = stream_of(o);
    void *p = NULL;
    if (s->is_virtual)
        return NULL;
    device_enter(s->gpu);
    if (device_take_async(s->gpu, GPU_MEM_HELD, bytes, s->stream, &p) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    stream_check(o, (int)cudaMemsetAsync(p, 0, bytes, s->stream), "clearing memory");
    return p;
}

static void release(struct ops *o, void *data, size_t bytes)
{
    struct stream *s = stream_of(o);
    device_enter(s->gpu);
    device_give_async(s->gpu, GPU_MEM_HELD, bytes, s->stream, data); // behind the ops under way
}

static bool is_virtual(const struct ops *o)
{
    return ((const struct stream *)o)->is_virtual;
}

static const struct ops_traits *traits(const struct ops *o)
{
    return &((const struct stream *)o)->traits;
}

// ---- to and from the host

static void upload(struct ops *o, struct mat dst, const float *src)
{
    size_t at = mark(o);
    // packed f32 first when the rows have gaps or another type
    bool direct = dst.dtype == DT_F32 && dst.stride == dst.cols;
    void *packed = direct ? dst.data : push(o, dst.rows * dst.cols * sizeof(float));
    if (stream_runs(o)) {
        stream_put(o, packed, src, dst.rows * dst.cols * sizeof(float));
        struct cuda_view from = {packed, false, (int)dst.rows, (int)dst.cols, (int64_t)dst.cols};
        if (!direct)
            stream_check(o, cuda_copy(view_of(dst), from, stream_of(o)->stream), "upload");
    }
    pop(o, at);
}

static void download(struct ops *o, float *dst, struct mat src)
{
    struct stream *s = stream_of(o);
    size_t at = mark(o), bytes = src.rows * src.cols * sizeof(float);
    bool direct = src.dtype == DT_F32 && src.stride == src.cols;
    void *packed = direct ? src.data : push(o, bytes);
    if (stream_runs(o)) {
        struct cuda_view to = {packed, false, (int)src.rows, (int)src.cols, (int64_t)src.cols};
        if (!direct)
            stream_check(o, cuda_copy(to, view_of(src), s->stream), "download");
        bool small = bytes <= RING_BYTES - s->ring_used; // pinned memory is faster
        void *host = small ? s->parts.ring + s->ring_used : (void *)dst;
        stream_check(o,
                     (int)cudaMemcpyAsync(host, packed, bytes, cudaMemcpyDeviceToHost, s->stream),
                     "copying to the host");
        stream_wait(o);
        if (small && o->status.code == 0)
            memcpy(dst, host, bytes);
    }
    pop(o, at);
}

static void tap(struct ops *o, const char *name, struct mat m, const size_t *dim, unsigned rank)
{
    if (!stream_runs(o))
        return;
    float *host = mem_calloc(m.rows * m.cols, sizeof *host);
    if (!host) {
        ops_fail(o, ERR_LIMIT, "%s: out of memory", name);
        return;
    }
    download(o, host, m);
    if (o->status.code == 0)
        o->tap.fn(o->tap.user, name, host, dim, rank);
    mem_free(host);
}

// ---- opening and closing

// What every stream has, whatever it computes: made once and handed on, since pinned memory is slow to get.
struct part {
    void **at;
    size_t bytes;
};
enum { N_PART = 6 };

// Of device memory.
static void list_parts(struct stream_parts *p, struct part list[N_PART])
{
    list[0] = (struct part){&p->workspace, PRODUCT_WORKSPACE};
    list[1] = (struct part){(void **)&p->pos, POS_CAP * sizeof *p->pos};
    list[2] = (struct part){(void **)&p->step_ids, OPS_STEP_ROWS * sizeof *p->step_ids};
    list[3] = (struct part){(void **)&p->step_pos, OPS_STEP_ROWS * sizeof *p->step_pos};
    list[4] = (struct part){(void **)&p->step_turn, CUDA_STEP_TURNS * sizeof *p->step_turn};
    list[5] = (struct part){(void **)&p->freq, N_THETA * MAX_HALF * sizeof *p->freq};
}

size_t gpu_stream_bytes(void)
{
    struct stream_parts none = {0};
    struct part list[N_PART];
    size_t sum = 0;
    list_parts(&none, list);
    for (size_t i = 0; i < N_PART; i++)
        sum += list[i].bytes;
    return sum;
}

static void parts_free(struct gpu *g, struct stream_parts *p)
{
    struct part list[N_PART];
    list_parts(p, list);
    for (size_t i = 0; i < N_PART; i++)
        device_give(g, GPU_MEM_STREAMS, list[i].bytes, *list[i].at);
    if (p->ring)
        (void)cudaFreeHost(p->ring);
    if (p->stream)
        (void)cudaStreamDestroy(p->stream);
    memset(p, 0, sizeof *p);
}

static cudaError_t parts_new(struct gpu *g, struct stream_parts *p)
{
    struct part list[N_PART];
    cudaError_t s = cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking);
    list_parts(p, list);
    for (size_t i = 0; i < N_PART && s == cudaSuccess; i++)
        s = device_take(g, GPU_MEM_STREAMS, list[i].bytes, list[i].at);
    if (s == cudaSuccess)
        s = cudaMemsetAsync(p->step_turn, 0, CUDA_STEP_TURNS * sizeof *p->step_turn, p->stream);
    if (s == cudaSuccess)
        s = cudaHostAlloc((void **)&p->ring, RING_BYTES, cudaHostAllocDefault);
    if (s != cudaSuccess) {
        (void)cudaGetLastError();
        parts_free(g, p);
    }
    return s;
}

static bool take_idle(struct gpu *g, struct stream_parts *p)
{
    pthread_mutex_lock(&g->idle_lock);
    bool there = g->n_idle > 0;
    if (there)
        *p = g->idle[--g->n_idle];
    pthread_mutex_unlock(&g->idle_lock);
    return there;
}

static void give_idle(struct gpu *g, struct stream_parts *p)
{
    pthread_mutex_lock(&g->idle_lock);
    bool room = g->n_idle < IDLE_STREAMS;
    if (room)
        g->idle[g->n_idle++] = *p;
    pthread_mutex_unlock(&g->idle_lock);
    if (!room)
        parts_free(g, p);
}

void streams_free(struct gpu *g)
{
    while (g->n_idle > 0)
        parts_free(g, &g->idle[--g->n_idle]);
}

static void close_stream(struct ops *o)
{
    struct stream *s = stream_of(o);
    if (!s->is_virtual) {
        device_enter(s->gpu);
        device_give_async(s->gpu, GPU_MEM_SCRATCH, s->cap, s->stream, s->arena);
        (void)cudaStreamSynchronize(s->stream);
        cuda_steps_free(s);
        give_idle(s->gpu, &s->parts);
    }
    mem_free(s);
}

static const struct backend gpu_backend = {
    .close = close_stream,
    .reserve = reserve,
    .reserved = reserved,
    .push = push,
    .mark = mark,
    .pop = pop,
    .peak = peak,
    .peak_reset = peak_reset,
    .clear = clear,
    .wait = wait,
    .hold = hold,
    .release = release,
    .is_virtual = is_virtual,
    .traits = traits,
    .upload = upload,
    .download = download,
    .tap = tap,
    .copy = gpu_copy,
    .add = gpu_add,
    .add_scaled = gpu_add_scaled,
    .add_table = gpu_add_table,
    .linear = gpu_linear,
    .rms_norm = gpu_rms_norm,
    .layer_norm = gpu_layer_norm,
    .gelu = gpu_gelu,
    .silu_mul = gpu_silu_mul,
    .rope_table = gpu_rope_table,
    .rope = gpu_rope,
    .rope_pairs = gpu_rope_pairs,
    .embed = gpu_embed,
    .patch_embed = gpu_patch_embed,
    .split_wqkv = gpu_split_wqkv,
    .attention = gpu_attention,
    .linears = gpu_linears,
    .linear_add = gpu_linear_add,
    .rms_norm2 = gpu_rms_norm2,
    .cache_attention = gpu_cache_attention,
    .step_begin = cuda_step_begin,
    .step_end = cuda_step_end,
};

static struct stream *new_stream(struct gpu *g, const struct ops_options *opt)
{
    struct stream *s = mem_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    ops_init(&s->ops, &gpu_backend, opt);
    s->gpu = g;
    s->traits = (struct ops_traits){.few_rows = CUDA_FEW_ROWS,
                                    .many_rows = MANY_ROWS,
                                    .act = g->compute == COMPUTE_BF16 ? DT_BF16 : DT_F32,
                                    .gelu_early = g->compute == COMPUTE_BF16};
    return s;
}

int ops_open_gpu(struct gpu *g, const struct ops_options *opt, struct ops **out, struct err *e)
{
    *out = NULL;
    if (g->plans)
        return err_set(e, ERR_FAIL, "cuda:%d: it only plans", g->index);
    struct stream *s = new_stream(g, opt);
    if (!s)
        return err_set(e, ERR_LIMIT, "ops: out of memory");
    cudaError_t status = cudaSetDevice(g->index);
    if (status == cudaSuccess && !take_idle(g, &s->parts))
        status = parts_new(g, &s->parts);
    if (status != cudaSuccess) {
        mem_free(s);
        return cuda_error(e, ERR_LIMIT, g, "a stream with its buffers", status);
    }
    s->stream = s->parts.stream;
    *out = &s->ops;
    return 0;
}

int ops_open_gpu_plan(struct gpu *g, const struct ops_options *opt, bool place, struct ops **out,
                      struct err *e)
{
    *out = NULL;
    struct stream *s = new_stream(g, opt);
    if (!s)
        return err_set(e, ERR_LIMIT, "planner: out of memory");
    s->is_virtual = true;
    s->place = place;
    *out = &s->ops;
    return 0;
}
