// SPDX-License-Identifier: MIT
// Decoding steps of a small language model in bf16, where a kernel of one row makes the next product's input:
//   - a sequence has the same bits alone and among others, whose steps have more launches;
//   - the same bits when launches do not overlap, and when a step is recorded and replayed;
//   - with other work between every two ops nothing is there for the next one, and the logits are near;
//   - an error of one stream is not met again by another one's launches;
//   - a recorded step keeps its rotary frequencies while a stream meets more bases than it has room for.
// The gate of the last: the same sums rounded at other places, measured with these seeds 0.0154 of the logits' root mean
// square.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "device_matrix.h"
#include "gpu/cuda/stream.h"
#include "kernels/kernels.h"
#include "model/llm.h"

enum {
    LAYERS = 3,
    D_MODEL = 256,
    HEADS = 2,
    KV_HEADS = 1,
    D_HEAD = 128,
    D_FFN = 256,
    VOCAB = 32,
    MOST_SEQ = 17,
    STEPS = 3, // of which the first is not recorded, the second is, the third is replayed
    EARLIER = 2,
};

static const struct llm_config config = {.kind = LLM_MISTRAL,
                                         .d_model = D_MODEL,
                                         .n_layer = LAYERS,
                                         .n_head = HEADS,
                                         .n_kv = KV_HEADS,
                                         .d_head = D_HEAD,
                                         .d_ffn = D_FFN,
                                         .n_vocab = VOCAB,
                                         .n_ctx_max = 4096,
                                         .rope_theta = 1e6,
                                         .eps = 1e-5f};

// ---- the model

static struct tensor tensor_new(size_t rows, size_t cols, double mean, double scale,
                                const char *fmt, size_t layer)
{
    size_t n = rows * cols;
    uint16_t *v = malloc(n * sizeof *v);
    char *name = malloc(100);
    snprintf(name, 100, fmt, layer);
    for (size_t i = 0; i < n; i++) {
        float f = (float)(mean + scale * random_signed());
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        v[i] = (uint16_t)(bits >> 16);
    }
    return (struct tensor){.data = v,
                           .dtype = DT_BF16,
                           .rank = rows == 1 ? 1 : 2,
                           .dim = {rows == 1 ? cols : rows, cols},
                           .bytes = n * 2,
                           .name = name};
}

static struct linear linear_new(size_t n_out, size_t n_in, const char *fmt, size_t layer)
{
    return (struct linear){.w = tensor_new(n_out, n_in, 0, 1.7 / sqrt((double)n_in), fmt, layer)};
}

static struct llm model_new(void)
{
    size_t d_q = HEADS * D_HEAD, d_kv = KV_HEADS * D_HEAD;
    struct llm m = {.c = config, .layer = calloc(LAYERS, sizeof *m.layer)};
    m.embed = tensor_new(VOCAB, D_MODEL, 0, 1, "lm.embed", 0);
    m.norm = tensor_new(1, D_MODEL, 1, 0.3, "lm.norm", 0);
    m.head = linear_new(VOCAB, D_MODEL, "lm.lm_head", 0);
    for (size_t l = 0; l < LAYERS; l++)
        m.layer[l] =
            (struct llm_layer){.attn_norm = tensor_new(1, D_MODEL, 1, 0.3, "lm.layers.%zu.norm", l),
                               .ffn_norm = tensor_new(1, D_MODEL, 1, 0.3, "lm.layers.%zu.norm2", l),
                               .q = linear_new(d_q, D_MODEL, "lm.layers.%zu.q_proj", l),
                               .k = linear_new(d_kv, D_MODEL, "lm.layers.%zu.k_proj", l),
                               .v = linear_new(d_kv, D_MODEL, "lm.layers.%zu.v_proj", l),
                               .o = linear_new(D_MODEL, d_q, "lm.layers.%zu.o_proj", l),
                               .gate = linear_new(D_FFN, D_MODEL, "lm.layers.%zu.gate_proj", l),
                               .up = linear_new(D_FFN, D_MODEL, "lm.layers.%zu.up_proj", l),
                               .down = linear_new(D_MODEL, D_FFN, "lm.layers.%zu.down_proj", l)};
    return m;
}

static void tensor_free(struct tensor *t)
{
    free((void *)(uintptr_t)t->data);
    free((void *)(uintptr_t)t->name);
}

static void model_free(struct llm *m)
{
    for (size_t l = 0; l < LAYERS; l++) {
        struct llm_layer *w = &m->layer[l];
        struct linear *each[] = {&w->q, &w->k, &w->v, &w->o, &w->gate, &w->up, &w->down};
        for (size_t i = 0; i < sizeof each / sizeof *each; i++)
            tensor_free(&each[i]->w);
        tensor_free(&w->attn_norm);
        tensor_free(&w->ffn_norm);
    }
    tensor_free(&m->embed);
    tensor_free(&m->norm);
    tensor_free(&m->head.w);
    free(m->layer);
}

// ---- steps

struct machine {
    struct gpu *gpu;
    const struct llm *m;
    struct kernels kernels;
};

static void must(int rc, const struct err *e, const char *what)
{
    if (rc == 0)
        return;
    printf("not ok - %s: %s\n", what, e->msg);
    exit(1);
}

static void machine_open(struct machine *c, const struct llm *m)
{
    struct err e = {0};
    c->m = m;
    kernels_init(&c->kernels, cpu_best(cpu_detect()));
    struct gpu_options opt = {.compute = COMPUTE_BF16, .n_layer = LAYERS, .kernels = &c->kernels};
    must(gpu_open(&opt, &c->gpu, &e), &e, "gpu_open");
}

struct way {
    bool apart;  // other work between the ops
    bool record; // steps as the engine has them
};

struct logits {
    float v[MOST_SEQ][STEPS][VOCAB];
    size_t n_launch; // of the last step that was not recorded
};

struct between {
    struct ops *o;
    struct mat x, y;
};

// Asked between ops: what was made for the next one is no longer what the last launch made.
static bool work_between(void *user, size_t i)
{
    struct between *b = user;
    if (i == 0)
        op_copy(b->o, b->y, b->x);
    return false;
}

static int32_t id_of(size_t seq, size_t step)
{
    return (int32_t)((seq * 37 + step * 11 + 5) % VOCAB);
}

// One step of sequences [first, first + n), logits of it in t.
static void step(struct ops *o, const struct machine *c, struct kv *kv, size_t first, size_t n,
                 size_t at, struct way way, struct logits *t)
{
    struct llm_span span[MOST_SEQ];
    uint32_t pos[MOST_SEQ];
    int32_t ids[MOST_SEQ];
    size_t mark = ops_mark(o), start;
    struct mat out = ops_mat(o, n, VOCAB), x = ops_mat(o, n, D_MODEL);
    struct between b = {o, ops_mat(o, 1, 8), ops_mat(o, 1, 8)};
    for (size_t i = 0; i < n; i++) {
        span[i] = (struct llm_span){.kv = &kv[first + i], .first_row = i, .n_row = 1};
        pos[i] = (uint32_t)kv[first + i].n;
        ids[i] = id_of(first + i, kv[first + i].n);
    }
    struct llm_batch batch = {.x = x, .span = span, .n_span = n, .pos = pos};
    if (way.apart) {
        batch.unwanted = work_between;
        batch.user = &b;
    }
    if (ops_step_begin(o, way.record && at > 0 ? 1 + first : 0, ids, pos, n)) {
        for (size_t i = 0; i < n; i++)
            kv[first + i].n++;
    } else {
        start = stream_of(o)->n_launch;
        op_embed(o, x, &c->m->embed, ids);
        llm_forward(o, c->m, &batch, out);
        t->n_launch = stream_of(o)->n_launch - start;
        ops_step_end(o);
    }
    float *host = malloc(n * VOCAB * sizeof *host);
    op_download(o, host, out);
    for (size_t i = 0; i < n && at < STEPS; i++)
        memcpy(t->v[first + i][at], host + i * VOCAB, sizeof t->v[0][0]);
    free(host);
    ops_pop(o, mark);
}

// n_seq sequences at different positions, `together` of them in a step.
static struct logits *run(const struct machine *c, size_t n_seq, size_t together, struct way way)
{
    struct logits *t = calloc(1, sizeof *t);
    struct ops_options opt = {.kernels = &c->kernels, .compute = COMPUTE_BF16};
    struct ops *o;
    struct kv kv[MOST_SEQ];
    struct err e = {0};
    must(ops_open_gpu(c->gpu, &opt, &o, &e), &e, "a stream");
    must(ops_reserve(o, (size_t)16 << 20, &e), &e, "scratch");
    for (size_t i = 0; i < n_seq; i++) {
        must(kv_init(&kv[i], o, &config, kv_types_of(COMPUTE_BF16), &e), &e, "a cache");
        must(kv_reserve(&kv[i], 64, &e), &e, "a cache");
        for (size_t k = 0; k < i % EARLIER; k++)
            step(o, c, kv, i, 1, STEPS, (struct way){0}, t);
    }
    for (size_t first = 0; first < n_seq; first += together)
        for (size_t at = 0; at < STEPS; at++)
            step(o, c, kv, first, together, at, way, t);
    must(ops_status(o, &e), &e, "steps");
    for (size_t i = 0; i < n_seq; i++)
        kv_free(&kv[i]);
    ops_close(o);
    return t;
}

static bool alike(const struct logits *a, const struct logits *b, size_t n_seq)
{
    return memcmp(a->v, b->v, n_seq * sizeof a->v[0]) == 0;
}

// Largest difference as a part of the root mean square of what stands in b.
static double distance(const struct logits *a, const struct logits *b, size_t n_seq)
{
    double most = 0, square = 0;
    size_t n = n_seq * STEPS * VOCAB;
    for (size_t i = 0; i < n; i++) {
        double x = (double)(&a->v[0][0][0])[i], y = (double)(&b->v[0][0][0])[i];
        most = !(fabs(x - y) <= most) ? fabs(x - y) : most;
        square += y * y;
    }
    return most / sqrt(square / (double)n);
}

// The rotary table of a position with one base, as a step of key, or outside of any.
static void rope_row(struct ops *o, uint64_t key, double theta, float *out)
{
    size_t mark = ops_mark(o);
    const int32_t id = 0;
    const uint32_t pos = 7;
    struct mat table = ops_mat(o, 1, D_HEAD);
    if (!ops_step_begin(o, key, &id, &pos, 1)) {
        op_copy(o, table, op_rope_table(o, &pos, 1, D_HEAD, theta));
        ops_step_end(o);
    }
    op_download(o, out, table);
    ops_pop(o, mark);
}

static void check_bases(struct machine *c)
{
    enum { N = N_THETA + 2, KEY = 1000 };
    static float want[N][D_HEAD], have[D_HEAD];
    struct ops_options opt = {.kernels = &c->kernels, .compute = COMPUTE_BF16};
    struct ops *o;
    struct err e = {0};
    size_t wrong = 0;
    must(ops_open_gpu(c->gpu, &opt, &o, &e), &e, "a stream");
    must(ops_reserve(o, (size_t)1 << 20, &e), &e, "scratch");
    for (size_t i = 0; i < N_THETA; i++)
        rope_row(o, 0, 1e4 * (double)(i + 1), want[i]);
    rope_row(o, KEY, 1e4 * N_THETA, have); // recorded, of the base that was met last
    wrong += memcmp(have, want[N_THETA - 1], sizeof have) != 0;
    for (size_t i = N_THETA; i < N; i++)
        rope_row(o, 0, 1e4 * (double)(i + 1), want[i]);
    rope_row(o, KEY, 1e4 * N_THETA, have);
    wrong += memcmp(have, want[N_THETA - 1], sizeof have) != 0;
    wrong += memcmp(want[N - 1], want[N - 2], sizeof have) == 0;
    for (size_t i = 0; i < N_THETA; i++) // all recorded: none is left to be replaced
        rope_row(o, 0, 1e4 * (double)(i + 1), want[i]);
    for (size_t i = 0; i < N_THETA && ops_status(o, NULL) == 0; i++)
        rope_row(o, KEY + 1 + i, stream_of(o)->theta[i].theta, have);
    rope_row(o, 0, 5, want[0]);
    rope_row(o, 0, 5, have);
    wrong += memcmp(have, want[0], sizeof have) != 0;
    report(ops_status(o, &e) == 0 && wrong == 0, "a recorded step keeps its rotary base%s%s",
           e.code ? ": " : "", e.code ? e.msg : "");
    ops_close(o);
}

// What the runtime remembers of a failure is not taken for a launch's own.
static void check_error_left(struct machine *c)
{
    struct ops_options opt = {.kernels = &c->kernels, .compute = COMPUTE_BF16};
    struct ops *o[2];
    struct err e[3] = {{0}};
    for (int i = 0; i < 2; i++) {
        must(ops_open_gpu(c->gpu, &opt, &o[i], &e[i]), &e[i], "a stream");
        must(ops_reserve(o[i], (size_t)1 << 20, &e[i]), &e[i], "scratch");
    }
    int invalid = (int)cudaSetDevice(1000000);
    stream_check(o[0], invalid, "a test");
    op_copy(o[1], ops_mat(o[1], 1, 8), ops_mat(o[1], 1, 8));
    ops_wait(o[1]);
    report(invalid && ops_status(o[0], &e[0]) == ERR_FAIL && ops_status(o[1], &e[1]) == 0,
           "a stream's error stays its own%s%s", e[1].code ? ": " : "", e[1].msg);
    cuda_error(&e[2], ERR_FAIL, c->gpu, "a test", cudaSetDevice(1000000));
    report(cudaPeekAtLastError() == cudaSuccess, "and that of a call without one");
    ops_close(o[0]);
    ops_close(o[1]);
}

static void check_late(const struct llm *m)
{
    static const size_t counts[] = {2, 3, 9, MOST_SEQ};
    enum {
        ALONE = 3,
        SAVED = 3
    }; // SAVED: launches of a layer; the first has one more than the others
    struct machine c;
    const struct way bare = {0}, apart = {.apart = true}, recorded = {.record = true};
    machine_open(&c, m);
    struct logits *alone = run(&c, MOST_SEQ, 1, bare), *other = run(&c, 2, 2, bare);
    report(alone->n_launch + LAYERS * SAVED == other->n_launch + 1,
           "%zu launches a step of one, %zu of two", alone->n_launch, other->n_launch);
    free(other);
    other = run(&c, ALONE, 1, apart);
    double far = distance(alone, other, ALONE);
    report(far <= 0.06 && far > 0, "%.2g beside the logits with work between the ops", far);
    free(other);
    other = run(&c, ALONE, 1, recorded);
    report(alike(alone, other, ALONE), "the same bits in recorded steps");
    free(other);
    cuda_overlap(false);
    other = run(&c, ALONE, 1, recorded);
    cuda_overlap(true);
    report(alike(alone, other, ALONE), "the same bits without overlapping launches");
    free(other);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        other = run(&c, counts[i], counts[i], recorded);
        report(alike(alone, other, counts[i]), "the same bits among %zu", counts[i]);
        free(other);
    }
    free(alone);
    check_bases(&c);
    check_error_left(&c);
    gpu_close(c.gpu);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!device_present())
        return 77;
    struct llm m = model_new();
    check_late(&m);
    model_free(&m);
    return report_end();
}
