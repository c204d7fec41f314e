// SPDX-License-Identifier: MIT
// Checks the row and element kernels of every tier this processor has: conversions bit by bit,
// activations over the whole range of f32 against libm in double, norms and rotary positions at every
// length past three vectors, on hostile data, in place, against guard pages. `--bench` measures instead.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guarded.h"
#include "kernel_check.h"

enum { MOST = 3 * 16 + 5 }; // past three vectors of the widest tier

static struct tiers all;

static struct guarded floats(struct rng *r, enum data d, size_t n)
{
    struct guarded g = guarded_new(n * sizeof(float), sizeof(float));
    data_fill(r, d, g.data, n);
    return g;
}

static struct guarded copy_of(const struct guarded *from)
{
    struct guarded g = guarded_new(from->bytes, sizeof(float));
    memcpy(g.data, from->data, from->bytes);
    return g;
}

// Every got[i] is within gate[i] of want[i] (NaN only where expected).
static void compare(const char *what, enum cpu_tier tier, size_t n, const float *got,
                    const double *want, const double *gate)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i]) && isnan(got[i]))
            continue;
        if (!((double)got[i] == want[i] || fabs((double)got[i] - want[i]) <= gate[i]))
            fail_msg("%s %s n %zu at %zu: %.9g, expected %.9g +- %.2g", cpu_tier_name(tier), what,
                     n, i, (double)got[i], want[i], gate[i]);
    }
}

static float bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static void to_f32(void **state)
{
    (void)state;
    enum { ALL = 65536 };
    static float want[ALL], got[ALL];
    struct guarded h = guarded_new(2 * ALL, 1);
    for (size_t i = 0; i < ALL; i++) {
        uint16_t v = (uint16_t)i;
        memcpy((uint8_t *)h.data + 2 * i, &v, 2);
    }
    for (size_t q = 0; q < all.n; q++) {
        for (int t = 0; t < 2; t++) {
            all.k[q].to_f32(got, h.data, t ? DT_F16 : DT_BF16, ALL);
            for (size_t i = 0; i < ALL; i++) {
                want[i] = t ? f16_to_f32((uint16_t)i) : bf16_to_f32((uint16_t)i);
                if (memcmp(&want[i], &got[i], 4) != 0 && !(isnan(want[i]) && isnan(got[i])))
                    fail_msg("%s %s 0x%04zx: %g, expected %g", cpu_tier_name(all.k[q].tier),
                             t ? "F16" : "BF16", i, (double)got[i], (double)want[i]);
            }
        }
    }
    guarded_free(&h);
}

static void check_from(const struct kernels *k, enum dtype t, const float *x, size_t n)
{
    struct guarded h = guarded_new(2 * n, 1);
    k->from_f32(h.data, t, x, n);
    for (size_t i = 0; i < n; i++) {
        uint16_t got, want = t == DT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
        memcpy(&got, (uint8_t *)h.data + 2 * i, 2);
        bool nan = t == DT_F16 ? isnan(f16_to_f32(got)) : isnan(bf16_to_f32(got));
        if (isnan(x[i]) ? !nan : got != want)
            fail_msg("%s %s of %a: 0x%04x, expected 0x%04x", cpu_tier_name(k->tier), dtype_name(t),
                     (double)x[i], got, want);
    }
    assert_true(guarded_intact(&h));
    guarded_free(&h);
}

// Every upper half with lower halves around the ties.
static void from_f32(void **state)
{
    (void)state;
    enum { ALL = 65536 };
    static const uint32_t lower[] = {0,      1,      0x0fff, 0x1000, 0x1001,
                                     0x7fff, 0x8000, 0x8001, 0xf000, 0xffff};
    static float x[ALL];
    for (size_t l = 0; l < sizeof lower / sizeof *lower; l++) {
        for (uint32_t i = 0; i < ALL; i++)
            x[i] = bits_f32(i << 16 | lower[l]);
        for (size_t q = 0; q < all.n; q++) {
            check_from(&all.k[q], DT_BF16, x, ALL);
            check_from(&all.k[q], DT_F16, x, ALL);
        }
    }
}

static void short_conversions(void **state)
{
    (void)state;
    struct rng r = {31};
    static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16};
    for (size_t n = 0; n <= MOST; n++) {
        for (size_t t = 0; t < 3; t++) {
            struct guarded x = floats(&r, DATA_RANDOM, n),
                           h = guarded_new(n * dtype_bytes(types[t]), 1);
            for (size_t q = 0; q < all.n; q++) {
                if (types[t] != DT_F32)
                    check_from(&all.k[q], types[t], x.data, n);
                all.k[q].from_f32(h.data, types[t], x.data, n);
                struct guarded back = guarded_new(n * sizeof(float), sizeof(float));
                all.k[q].to_f32(back.data, h.data, types[t], n);
                for (size_t i = 0; i < n; i++) {
                    float want;
                    dtype_to_f32(&want, (uint8_t *)h.data + i * dtype_bytes(types[t]), types[t], 1);
                    assert_true(memcmp(&want, (float *)back.data + i, sizeof want) == 0);
                }
                assert_true(guarded_intact(&h) && guarded_intact(&back));
                guarded_free(&back);
            }
            guarded_free(&x);
            guarded_free(&h);
        }
    }
}

static void sums(void **state)
{
    (void)state;
    struct rng r = {32};
    for (size_t n = 0; n <= MOST; n++) {
        for (int d = 0; d < DATA_N; d++) {
            struct guarded x = floats(&r, (enum data)d, n), y = floats(&r, (enum data)d, n);
            struct guarded s = floats(&r, DATA_RANDOM, n);
            const float *xv = x.data, *yv = y.data, *sv = s.data;
            for (size_t q = 0; q < all.n; q++) {
                double want[MOST], gate[MOST];
                for (int op = 0; op < 3; op++) {
                    struct guarded z = copy_of(&x);
                    for (size_t i = 0; i < n; i++) {
                        double a = (double)xv[i], b = (double)yv[i] * (op ? (double)sv[i] : 1);
                        want[i] = op == 2 ? a * 0.3f : a + b;
                        gate[i] = (fabs(a) + fabs(b)) * 2 * EPS + 0x1p-125;
                    }
                    if (op == 0)
                        all.k[q].add(z.data, yv, n);
                    else if (op == 1)
                        all.k[q].add_scaled(z.data, yv, sv, n);
                    else
                        all.k[q].scale(z.data, 0.3f, n);
                    static const char *const names[] = {"add", "add_scaled", "scale"};
                    compare(names[op], all.k[q].tier, n, z.data, want, gate);
                    assert_true(guarded_intact(&z));
                    guarded_free(&z);
                }
            }
            guarded_free(&x);
            guarded_free(&y);
            guarded_free(&s);
        }
    }
}

static double ulp(double v)
{
    v = fabs(v);
    return v < 0x1p-126 ? 0x1p-149 : ldexp(1, ilogb(v) - 23);
}

static double gelu(double x)
{
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}

// Every 2^-7 part of every binade, and a fine grid where it matters.
static void activations(void **state)
{
    (void)state;
    enum { N = 200000 };
    static float x[N], g[N], s[N], one[N];
    size_t n = 0;
    for (uint32_t top = 0; top < 65536; top++)
        x[n++] = bits_f32(top << 16 | 0x1234);
    for (; n < N; n++)
        x[n] = (float)(-24 + 48.0 * (double)(n - 65536) / (N - 65536));
    for (size_t i = 0; i < N; i++)
        one[i] = 1;
    for (size_t q = 0; q < all.n; q++) {
        enum cpu_tier tier = all.k[q].tier;
        double worst_gelu = 0, worst_silu = 0;
        memcpy(g, x, sizeof g);
        memcpy(s, x, sizeof s);
        all.k[q].gelu(g, N);
        all.k[q].silu_mul(s, one, N);
        for (size_t i = 0; i < N; i++) {
            double v = (double)x[i], want = gelu(v), silu = v / (1 + exp(-v));
            double d = fabs((double)g[i] - want);
            double near = 2e-7 * fmin(fabs(v), 1);
            bool both = isnan(want) && isnan(g[i]);
            if (!(both || (double)g[i] == want || d <= 4 * ulp(want) || d <= near))
                fail_msg("%s gelu(%.9g) = %.9g, expected %.9g", cpu_tier_name(tier), v,
                         (double)g[i], want);
            if (!both && (double)g[i] != want && fabs(v) > 1e-30 && fabs(v) < 2)
                worst_gelu = fmax(worst_gelu, d / fmin(fabs(v), 1));
            d = fabs((double)s[i] - silu);
            both = isnan(silu) && isnan(s[i]);
            if (!(both || (double)s[i] == silu || d <= 4 * ulp(silu) ||
                  (fabs(silu) < 1e-36 && fabs(s[i]) < 1e-36f)))
                fail_msg("%s silu(%.9g) = %.9g, expected %.9g", cpu_tier_name(tier), v,
                         (double)s[i], silu);
            if (!both && fabs(silu) > 1e-36 && isfinite(silu))
                worst_silu = fmax(worst_silu, d / ulp(silu));
        }
        printf("%-10s gelu of |x| < 2 within %.2e min(|x|, 1), silu within %.2f ulp\n",
               cpu_tier_name(tier), worst_gelu, worst_silu);
    }
}

static void short_activations(void **state)
{
    (void)state;
    struct rng r = {33};
    for (size_t n = 0; n <= MOST; n++) {
        struct guarded x = floats(&r, DATA_RANDOM, n), up = floats(&r, DATA_RANDOM, n);
        if (n != 0)
            ((float *)x.data)[n / 2] = NAN;
        double want_g[MOST], want_s[MOST], gate[MOST];
        for (size_t i = 0; i < n; i++) {
            double v = (double)((float *)x.data)[i];
            want_g[i] = gelu(v);
            want_s[i] = v / (1 + exp(-v)) * (double)((float *)up.data)[i];
            gate[i] = 1e-6 * fabs(v);
        }
        for (size_t q = 0; q < all.n; q++) {
            struct guarded g = copy_of(&x), s = copy_of(&x);
            all.k[q].gelu(g.data, n);
            all.k[q].silu_mul(s.data, up.data, n);
            compare("gelu", all.k[q].tier, n, g.data, want_g, gate);
            compare("silu_mul", all.k[q].tier, n, s.data, want_s, gate);
            assert_true(guarded_intact(&g) && guarded_intact(&s));
            guarded_free(&g);
            guarded_free(&s);
        }
        guarded_free(&x);
        guarded_free(&up);
    }
}

struct norm_task {
    size_t rows, n, x_stride, y_stride;
    float eps;
    struct guarded x, w, b;
};

// A layer norm, or with no bias a root mean square norm, of row r.
static void norm_exact(const struct norm_task *t, bool layer, size_t r, double *want, double *gate)
{
    const float *x = (const float *)t->x.data + r * t->x_stride, *w = t->w.data, *b = t->b.data;
    double n = (double)t->n, mean = 0, square = 0, size = 0;
    for (size_t i = 0; layer && i < t->n; i++) {
        mean += (double)x[i] / n;
        size += fabs((double)x[i]) / n;
    }
    for (size_t i = 0; i < t->n; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    double f = 1 / sqrt(square + (double)t->eps), c = (8 + 2 * sqrt(n)) * EPS;
    for (size_t i = 0; i < t->n; i++) {
        double v = ((double)x[i] - mean) * f * (double)w[i];
        want[i] = layer ? v + (double)b[i] : v;
        // the mean's own error moves every element
        gate[i] = c * (fabs(v) + size * f * fabs((double)w[i]) * (1 + fabs(v))) +
                  fabs(want[i]) * 2 * EPS + 1e-37;
        if (layer)
            gate[i] += fabs((double)b[i]) * 2 * EPS;
    }
}

static void check_norm(struct rng *r, size_t rows, size_t n, enum data data)
{
    struct norm_task t = {
        .rows = rows, .n = n, .x_stride = n + rng_next(r) % 3, .y_stride = n + rng_next(r) % 3};
    t.eps = rng_next(r) % 2 ? 1e-6f : 1e-12f;
    t.x = floats(r, data, (rows - 1) * t.x_stride + n);
    t.w = floats(r, DATA_RANDOM, n);
    t.b = floats(r, DATA_RANDOM, n);
    double *want = calloc(2 * n, sizeof *want), *gate = want + n;
    if (!want)
        abort();
    for (size_t q = 0; q < all.n; q++) {
        for (int mode = 0; mode < 4; mode++) {
            bool layer = mode & 1, in_place = mode & 2;
            size_t stride = in_place ? t.x_stride : t.y_stride;
            struct guarded y =
                in_place ? copy_of(&t.x)
                         : guarded_new(((rows - 1) * stride + n) * sizeof(float), sizeof(float));
            const float *x = in_place ? y.data : t.x.data;
            if (layer)
                all.k[q].layer_norm(y.data, stride, x, t.x_stride, rows, n, t.w.data, t.b.data,
                                    t.eps);
            else
                all.k[q].rms_norm(y.data, stride, x, t.x_stride, rows, n, t.w.data, t.eps);
            for (size_t i = 0; i < rows; i++) {
                norm_exact(&t, layer, i, want, gate);
                compare(layer ? "layer_norm" : "rms_norm", all.k[q].tier, n,
                        (float *)y.data + i * stride, want, gate);
            }
            assert_true(guarded_intact(&y));
            guarded_free(&y);
        }
    }
    free(want);
    guarded_free(&t.x);
    guarded_free(&t.w);
    guarded_free(&t.b);
}

static void norms(void **state)
{
    (void)state;
    struct rng r = {34};
    for (size_t n = 1; n <= MOST; n++)
        check_norm(&r, 1 + n % 3, n, DATA_RANDOM);
    static const size_t real[] = {768, 1408, 4096};
    for (size_t i = 0; i < 3; i++)
        for (int d = 0; d < DATA_N; d++)
            check_norm(&r, 2, real[i], (enum data)d);
}

// A NaN spoils its own row only; a row's bits are the same alone and among others.
static void rows_apart(void **state)
{
    (void)state;
    struct rng r = {35};
    enum { ROWS = 3, N = 77 };
    for (size_t q = 0; q < all.n; q++) {
        struct guarded x = floats(&r, DATA_RANDOM, ROWS * N), w = floats(&r, DATA_RANDOM, N);
        for (int layer = 0; layer < 2; layer++) {
            float y[ROWS * N], one[N];
            ((float *)x.data)[N + 5] = NAN;
            const float *from = x.data;
            for (size_t i = 0; i <= ROWS; i++) {
                float *to = i < ROWS ? one : y;
                size_t rows = i < ROWS ? 1 : ROWS;
                const float *row = i < ROWS ? from + i * N : from;
                if (layer)
                    all.k[q].layer_norm(to, N, row, N, rows, N, w.data, w.data, 1e-5f);
                else
                    all.k[q].rms_norm(to, N, row, N, rows, N, w.data, 1e-5f);
                if (i == 2)
                    memcpy(y + 2 * N, one, sizeof one); // kept while y is not yet written
            }
            assert_true(memcmp(one, y + 2 * N, sizeof one) == 0);
            for (size_t i = 0; i < N; i++)
                assert_true(isfinite(y[i]) && isnan(y[N + i]) && isfinite(y[2 * N + i]));
        }
        guarded_free(&x);
        guarded_free(&w);
    }
}

static void check_rope(struct rng *r, size_t n_head, size_t d, enum data data)
{
    struct guarded x = floats(r, data, n_head * d),
                   table = guarded_new(d * sizeof(float), sizeof(float));
    float *cs = table.data, *sn = cs + d / 2;
    for (size_t i = 0; i < d / 2; i++) {
        cs[i] = cosf(3 * rng_unit(r));
        sn[i] = sinf(3 * rng_unit(r));
    }
    double *want = calloc(2 * n_head * d + 1, sizeof *want), *gate = want + n_head * d;
    if (!want)
        abort();
    for (size_t h = 0; h < n_head; h++)
        for (size_t i = 0; i < d; i++) {
            size_t half = d / 2, c = i % half;
            const float *v = (const float *)x.data + h * d;
            double a = (double)v[i] * (double)cs[c];
            double b = i < half ? -(double)v[i + half] * (double)sn[c]
                                : (double)v[i - half] * (double)sn[c];
            want[h * d + i] = a + b;
            gate[h * d + i] = (fabs(a) + fabs(b)) * 3 * EPS + 0x1p-125;
        }
    for (size_t q = 0; q < all.n; q++) {
        struct guarded y = copy_of(&x);
        all.k[q].rope(y.data, n_head, d, table.data);
        compare("rope", all.k[q].tier, n_head * d, y.data, want, gate);
        assert_true(guarded_intact(&y));
        guarded_free(&y);
    }
    free(want);
    guarded_free(&x);
    guarded_free(&table);
}

static void rope(void **state)
{
    (void)state;
    struct rng r = {36};
    for (size_t d = 2; d <= 2 * MOST; d += 2)
        check_rope(&r, 1 + d % 3, d, DATA_RANDOM);
    for (int d = 0; d < DATA_N; d++)
        check_rope(&r, 32, 128, (enum data)d);
    check_rope(&r, 0, 128, DATA_RANDOM);
}

enum { BENCH_N = 1 << 15 };

struct timed {
    const struct kernels *k;
    float *x, *y;
    uint16_t *h;
    int op;
};

static void timed_rows(void *arg)
{
    const struct timed *t = arg;
    for (int i = 0; i < 10; i++) {
        switch (t->op) {
        case 0:
            t->k->gelu(t->x, BENCH_N);
            break;
        case 1:
            t->k->silu_mul(t->x, t->y, BENCH_N);
            break;
        case 2:
            t->k->add(t->x, t->y, BENCH_N);
            break;
        case 3:
            t->k->rms_norm(t->x, 4096, t->x, 4096, BENCH_N / 4096, 4096, t->y, 1e-6f);
            break;
        case 4:
            t->k->layer_norm(t->x, 4096, t->x, 4096, BENCH_N / 4096, 4096, t->y, t->y, 1e-6f);
            break;
        case 5:
            t->k->rope(t->x, BENCH_N / 128, 128, t->y);
            break;
        case 6:
            t->k->from_f32(t->h, DT_BF16, t->x, BENCH_N);
            break;
        default:
            t->k->to_f32(t->y, t->h, DT_BF16, BENCH_N);
        }
    }
}

static int bench(void)
{
    static const char *const names[] = {"gelu",       "silu_mul", "add",      "rms_norm",
                                        "layer_norm", "rope",     "from_f32", "to_f32"};
    static float x[BENCH_N], y[BENCH_N];
    static uint16_t h[BENCH_N];
    struct rng r = {37};
    for (size_t i = 0; i < all.n; i++)
        for (int op = 0; op < 8; op++) {
            data_fill(&r, DATA_RANDOM, x, BENCH_N);
            data_fill(&r, DATA_RANDOM, y, BENCH_N);
            struct timed t = {&all.k[i], x, y, h, op};
            double sec = time_best(timed_rows, &t) / 10;
            printf("%-10s %-10s %6.3f ns an element\n", cpu_tier_name(all.k[i].tier), names[op],
                   sec * 1e9 / BENCH_N);
        }
    return 0;
}

int main(int argc, char **argv)
{
    all = tiers_all();
    char names[128];
    printf("tiers: %s\n", cpu_tiers_text(cpu_detect(), names, sizeof names));
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(to_f32),
        cmocka_unit_test(from_f32),
        cmocka_unit_test(short_conversions),
        cmocka_unit_test(sums),
        cmocka_unit_test(activations),
        cmocka_unit_test(short_activations),
        cmocka_unit_test(norms),
        cmocka_unit_test(rows_apart),
        cmocka_unit_test(rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
