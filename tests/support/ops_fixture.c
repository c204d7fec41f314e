// SPDX-License-Identifier: MIT
#include "ops_fixture.h"

#include <stdatomic.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

struct block {
    struct block *next;
    _Alignas(64) unsigned char bytes[];
};

enum { ARENA = 24 << 20 };

void fixture_open(struct fixture *f, enum cpu_tier tier, unsigned threads, enum compute c,
                  const struct hooks *hooks)
{
    struct err e = {0};
    memset(f, 0, sizeof *f);
    f->seed = 0x9e3779b97f4a7c15u;
    f->compute = c;
    kernels_init(&f->kernels, cpu_mask(cpu_detect(), tier));
    assert_int_equal(f->kernels.tier, tier);
    if (pool_open(threads, &f->pool, &e) != 0)
        fail_msg("%s", e.msg);
    struct ops_options opt = {
        .pool = f->pool, .kernels = &f->kernels, .compute = c, .hooks = hooks};
    if (ops_open_cpu(&opt, &f->ops, &e) != 0 || ops_reserve(f->ops, ARENA, &e) != 0)
        fail_msg("%s", e.msg);
}

void fixture_close(struct fixture *f)
{
    ops_close(f->ops);
    pool_close(f->pool);
    while (f->blocks) {
        struct block *b = f->blocks;
        f->blocks = b->next;
        free(b);
    }
}

size_t fixture_tiers(enum cpu_tier out[CPU_TIER_N])
{
    size_t n = 0;
    for (unsigned t = 0; t < CPU_TIER_N; t++) {
        struct kernels k;
        kernels_init(&k, cpu_mask(cpu_detect(), (enum cpu_tier)t));
        if (k.tier == (enum cpu_tier)t)
            out[n++] = k.tier;
    }
    return n;
}

void *fixture_alloc(struct fixture *f, size_t n, size_t size)
{
    size_t bytes = (sizeof(struct block) + n * size + 63) / 64 * 64;
    struct block *b = aligned_alloc(64, bytes);
    assert_non_null(b);
    memset(b, 0, bytes);
    b->next = f->blocks;
    f->blocks = b;
    return b->bytes;
}

float fixture_random(struct fixture *f)
{
    f->seed ^= f->seed << 13;
    f->seed ^= f->seed >> 7;
    f->seed ^= f->seed << 17;
    return (float)((double)(f->seed >> 40) * 0x1p-23 - 1.0);
}

struct tensor fixture_tensor(struct fixture *f, enum dtype t, float scale, size_t d0, size_t d1,
                             size_t d2, size_t d3, size_t d4)
{
    const size_t dim[] = {d0, d1, d2, d3, d4};
    struct tensor r = {.dtype = t, .name = "test"};
    size_t n = 1;
    for (; r.rank < 5 && dim[r.rank] != 0; r.rank++)
        n *= r.dim[r.rank] = dim[r.rank];
    r.bytes = n * dtype_bytes(t);
    unsigned char *to = (unsigned char *)fixture_alloc(f, r.bytes + 2, 1) + 2;
    r.data = to;
    for (size_t i = 0; i < n; i++) {
        float v = fixture_random(f) * scale;
        uint16_t h = t == DT_BF16 ? f32_to_bf16(v) : f32_to_f16(v);
        memcpy(to + i * dtype_bytes(t), t == DT_F32 ? (const void *)&v : &h, dtype_bytes(t));
    }
    return r;
}

double *fixture_values(struct fixture *f, const struct tensor *t, bool round)
{
    size_t n = t->bytes / dtype_bytes(t->dtype);
    double *v = fixture_alloc(f, n, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        float x;
        dtype_to_f32(&x, (const char *)t->data + i * dtype_bytes(t->dtype), t->dtype, 1);
        v[i] = (double)(round ? bf16_round(x) : x);
    }
    return v;
}

struct mat fixture_mat(struct fixture *f, size_t rows, size_t cols, size_t gap, float **host)
{
    struct mat m = mat_cols(ops_mat(f->ops, rows, cols + 2 * gap), gap, cols);
    float *v = fixture_alloc(f, rows * cols, sizeof *v);
    for (size_t i = 0; i < rows * cols; i++)
        v[i] = fixture_random(f);
    op_upload(f->ops, m, v);
    if (host)
        *host = v;
    fixture_sound(f);
    return m;
}

float *fixture_get(struct fixture *f, struct mat m)
{
    float *v = fixture_alloc(f, m.rows * m.cols, sizeof *v);
    fixture_sound(f);
    op_download(f->ops, v, m);
    return v;
}

void fixture_sound(struct fixture *f)
{
    struct err e = {0};
    if (ops_status(f->ops, &e) != 0)
        fail_msg("%s", e.msg);
}

bool fixture_near(double got, double want, double tol)
{
    if (fabs(got - want) <= tol)
        return true;
    fprintf(stderr, "got %.9g, expected %.9g within %.3g\n", got, want, tol);
    return false;
}

bool stop_later(void *user)
{
    struct stopper *s = user;
    return atomic_fetch_add(&s->polls, 1) + 1 >= s->at;
}
