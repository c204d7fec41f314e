// SPDX-License-Identifier: MIT
// The observer of an engine and iv_imatrix_save. Layers are known by the address of their weight's bytes: the
// same weight may be seen by several streams, and InternLM2's packed wqkv stands for three matrices of a GGUF file.
//
// Easy to get wrong: squares are summed in double, for a float sum stops growing after a few million rows;
// what cannot be summed any more (memory) must fail the saving, not make a matrix of less.
#include "engine/observer.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "engine/engine.h"
#include "engine/quantizing.h"
#include "weights/imatrix.h"

enum { SLOTS = 1 << 14 }; // a release has some 900 layers

struct observed {
    const void *w; // tensor.data
    size_t n;
    double *sum; // [n]
    double rows;
};

struct observer {
    pthread_mutex_t lock;
    struct input_watch watch;
    struct observed slot[SLOTS];
    size_t n;
    bool failed;
};

static struct observed *slot_of(struct observer *x, const void *w)
{
    size_t at = ((uintptr_t)w >> 4) * 0x9e3779b97f4a7c15u >> 50;
    while (x->slot[at % SLOTS].w && x->slot[at % SLOTS].w != w)
        at++;
    return &x->slot[at % SLOTS];
}

static struct observed *take(struct observer *x, const void *w, size_t n)
{
    struct observed *s = slot_of(x, w);
    if (s->w)
        return s;
    double *sum = x->n < SLOTS / 2 ? mem_calloc(n, sizeof *sum) : NULL;
    if (!sum)
        return NULL;
    *s = (struct observed){.w = w, .n = n, .sum = sum};
    x->n++;
    return s;
}

static void watch(void *user, const struct tensor *w, const float *in, size_t rows, size_t cols,
                  size_t stride)
{
    struct observer *x = user;
    pthread_mutex_lock(&x->lock);
    struct observed *s = take(x, w->data, cols);
    if (s && s->n != cols)
        s = NULL;
    if (!s)
        x->failed = true;
    for (size_t r = 0; s && r < rows; r++)
        for (size_t i = 0; i < cols; i++)
            s->sum[i] += (double)in[r * stride + i] * (double)in[r * stride + i];
    if (s)
        s->rows += (double)rows;
    pthread_mutex_unlock(&x->lock);
}

int observer_open(struct observer **out, struct err *e)
{
    struct observer *x = *out = mem_calloc(1, sizeof *x);
    if (!x || pthread_mutex_init(&x->lock, NULL) != 0) {
        mem_free(x);
        *out = NULL;
        return err_set(e, ERR_LIMIT, "importance matrix: out of memory");
    }
    x->watch = (struct input_watch){x, watch};
    return 0;
}

void observer_close(struct observer *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        mem_free(x->slot[i].sum);
    pthread_mutex_destroy(&x->lock);
    mem_free(x);
}

const struct input_watch *observer_watch(const struct observer *x)
{
    return x ? &x->watch : NULL;
}

// Copies what was seen of the tensors of a file behind the *n that s has; sums_free releases.
static bool add_seen(struct observer *x, const struct quant_list *l, struct imatrix_sums *s,
                     size_t *n)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct observed *o = slot_of(x, l->t[i].from->data);
        if (l->t[i].rank != 2 || l->t[i].cols != o->n || !o->w || o->rows <= 0)
            continue;
        double *sum = mem_calloc(o->n, sizeof *sum);
        if (!sum)
            return false;
        memcpy(sum, o->sum, o->n * sizeof *sum);
        s[(*n)++] = (struct imatrix_sums){l->t[i].name, o->n, sum, o->rows};
    }
    return true;
}

static void sums_free(struct imatrix_sums *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free((double *)s[i].sum);
    mem_free(s);
}

static int save(const iv_engine *g, const char *path, const char *dataset, struct err *e)
{
    int rc;
    struct observer *x = g->observer;
    struct quant_list language = {0}, vision = {0};
    struct imatrix_sums *s = NULL;
    const struct quant_mix *mix = quant_mix_find("F32");
    size_t n = 0;
    if (!x)
        return err_set(e, ERR_USAGE, "importance matrix: the engine was not opened to gather one");
    TRY(quant_list_language(&language, &g->model, mix, NULL, 0, e));
    TRY(quant_list_vision(&vision, &g->model, mix, NULL, 0, e));
    s = mem_calloc(language.n + vision.n, sizeof *s);
    pthread_mutex_lock(&x->lock); // writing takes long, and questions wait for the lock
    bool copied = s && !x->failed && add_seen(x, &language, s, &n) && add_seen(x, &vision, s, &n);
    pthread_mutex_unlock(&x->lock);
    if (!copied)
        TRY(err_set(e, ERR_LIMIT, "importance matrix: out of memory"));
    if (n == 0)
        TRY(err_set(e, ERR_USAGE, "importance matrix: nothing was asked yet"));
    TRY(imatrix_write(path, s, n, dataset, &g->hooks, e));
fail:
    sums_free(s, n);
    quant_list_free(&language);
    quant_list_free(&vision);
    return rc;
}

int iv_imatrix_save(const iv_engine *g, const char *path, const char *dataset,
                    struct iv_error *error)
{
    struct err e = {0};
    return status_out(save(g, path, dataset ? dataset : "ivchat", &e), &e, error);
}
