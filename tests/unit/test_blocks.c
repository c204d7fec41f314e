// SPDX-License-Identifier: MIT
// Quantised blocks: read to the bit as the gguf package reads them, written to the bit as it writes the
// simple types, and with no larger an error than ggml's own quantiser for the others
// (tests/fixtures/blocks/make_blocks.py made the expectations).
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "tensor/blocks.h"
#include "tensor/block_coding.h"

enum { N_READ = 1024, N_WRITE = 4096 };

static char *load(const char *name, const char *suffix, size_t bytes)
{
    char path[512], *data;
    size_t n;
    struct err e = {0};
    snprintf(path, sizeof path, TEST_ROOT "/fixtures/blocks/%s%s", name, suffix);
    if (file_read(path, 1 << 20, ERR_MODEL, &data, &n, &e) != 0)
        fail_msg("%s", e.msg);
    assert_int_equal(n, bytes);
    return data;
}

static void test_sizes(void **state)
{
    (void)state;
    size_t bytes;
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        assert_true(dtype_is_block(t));
        assert_int_equal(dtype_bytes(t), 0);
        size_t block = dtype_block(t);
        assert_true(block == BLOCK_SMALL || block == BLOCK_SUPER);
        assert_true(dtype_size(t, 3 * block, &bytes));
        assert_int_equal(bytes, 3 * dtype_block_bytes(t));
        assert_int_equal(bytes, dtype_span(t, 3 * block));
        assert_false(dtype_size(t, 3 * block + 1, &bytes));
        assert_int_equal(bytes, 0);
        assert_false(dtype_size(t, 3 * block - 1, &bytes));
        assert_true(dtype_size(t, 0, &bytes) && bytes == 0);
    }
    assert_false(dtype_is_block(DT_U8));
    assert_false(dtype_size(DT_F32, SIZE_MAX / 2, &bytes));
    assert_true(dtype_size(DT_BF16, 7, &bytes) && bytes == 14);
    assert_false(dtype_from_name("Q8_0", 4, &(enum dtype){DT_N})); // no safetensors type
}

static void test_read(void **state)
{
    (void)state;
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        size_t bytes = dtype_span(t, N_READ);
        char *data = load(dtype_name(t), ".bin", bytes + N_READ * sizeof(float));
        float got[N_READ + 1];
        got[N_READ] = 42.0f;
        char *odd = malloc(bytes + 1); // blocks may lie anywhere
        memcpy(odd + 1, data, bytes);
        dtype_to_f32(got, odd + 1, t, N_READ);
        if (memcmp(got, data + bytes, N_READ * sizeof(float)) != 0)
            fail_msg("%s differs", dtype_name(t));
        assert_true(got[N_READ] == 42.0f);
        free(odd);
        mem_free(data);
    }
}

static void write_and_read(enum dtype t, const float *x, const float *importance, float *y,
                           void *blocks)
{
    blocks_from_f32(blocks, t, x, N_WRITE, importance);
    blocks_to_f32(y, blocks, t, N_WRITE);
}

static double rms_error(const float *x, const float *y, const float *w, size_t n)
{
    double sum = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i], v = w ? (double)w[i] : 1;
        sum += v * d * d;
        all += v;
    }
    return sqrt(sum / all);
}

static void test_write_exact(void **state)
{
    static const enum dtype types[] = {DT_Q4_0, DT_Q5_0, DT_Q8_0};
    (void)state;
    char *numbers = load("numbers", ".bin", N_WRITE * sizeof(float));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t bytes = dtype_span(types[i], N_WRITE);
        char *want = load(dtype_name(types[i]), ".quant", bytes), *got = malloc(bytes);
        blocks_from_f32(got, types[i], (const float *)(const void *)numbers, N_WRITE, NULL);
        if (memcmp(got, want, bytes) != 0)
            fail_msg("%s differs", dtype_name(types[i]));
        free(got);
        mem_free(want);
    }
    mem_free(numbers);
}

static void test_write_error(void **state)
{
    static const enum dtype types[] = {DT_Q4_0, DT_Q5_0, DT_Q8_0, DT_Q4_K, DT_Q6_K};
    (void)state;
    char *numbers = load("numbers", ".bin", N_WRITE * sizeof(float));
    const float *x = (const float *)(const void *)numbers;
    FILE *f = fopen(TEST_ROOT "/fixtures/blocks/errors.txt", "r");
    assert_non_null(f);
    static float y[N_WRITE];
    static char blocks[N_WRITE * 2];
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[16];
        double peer;
        assert_int_equal(fscanf(f, "%15s %lf", name, &peer), 2);
        assert_string_equal(name, dtype_name(types[i]));
        write_and_read(types[i], x, NULL, y, blocks);
        double own = rms_error(x, y, NULL, N_WRITE);
        print_message("%s: error %.6g, ggml's %.6g\n", name, own, peer);
        if (!(own <= peer * 1.005))
            fail_msg("%s: error %.9g, ggml's is %.9g", name, own, peer);
    }
    fclose(f);
    mem_free(numbers);
}

// What matters more is stored better.
static void test_importance(void **state)
{
    static const enum dtype types[] = {DT_Q4_K, DT_Q6_K, DT_Q4_0, DT_Q5_0, DT_Q8_0};
    (void)state;
    char *numbers = load("numbers", ".bin", N_WRITE * sizeof(float));
    const float *x = (const float *)(const void *)numbers;
    static float w[N_WRITE], plain[N_WRITE], weighted[N_WRITE];
    static char blocks[N_WRITE * 2];
    for (size_t i = 0; i < N_WRITE; i++)
        w[i] = i % 5 == 0 ? 100.0f : 1.0f;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        write_and_read(types[i], x, NULL, plain, blocks);
        write_and_read(types[i], x, w, weighted, blocks);
        assert_true(rms_error(x, weighted, w, N_WRITE) < 0.95 * rms_error(x, plain, w, N_WRITE));
    }
    memset(w, 0, sizeof w); // nothing matters: still numbers
    write_and_read(DT_Q4_K, x, w, weighted, blocks);
    assert_true(rms_error(x, weighted, NULL, N_WRITE) < 0.01);
    mem_free(numbers);
}

// Zeros, tiny, huge and one-sided blocks give finite values near what went in.
static void test_edges(void **state)
{
    static const float scale[] = {0.0f, 1e-42f, 1e-38f, 1e-9f, 1e-5f, 1.0f, 1e4f};
    (void)state;
    for (enum dtype t = DT_Q4_0; t < DT_N; t++) {
        if (!blocks_writable(t))
            continue;
        size_t n = dtype_block(t);
        float x[BLOCK_SUPER], y[BLOCK_SUPER];
        char blocks[2 * BLOCK_SUPER];
        for (size_t s = 0; s < sizeof scale / sizeof scale[0]; s++)
            for (int shape = 0; shape < 4; shape++) {
                float most = 0;
                for (size_t i = 0; i < n; i++) {
                    float v = shape == 0   ? 1.0f
                              : shape == 1 ? -1.0f
                              : shape == 2 ? (float)i / (float)n
                                           : sinf((float)i);
                    x[i] = v * scale[s];
                    most = fmaxf(most, fabsf(x[i]));
                }
                blocks_from_f32(blocks, t, x, n, NULL);
                blocks_to_f32(y, blocks, t, n);
                // f16 ends at 6e-8: what the largest level of half of that is
                float end = 3e-8f * (n == BLOCK_SMALL ? 127.0f : t == DT_Q4_K ? 945.0f : 4096.0f);
                for (size_t i = 0; i < n; i++)
                    if (!(fabsf(y[i] - x[i]) <= 0.14f * most + end))
                        fail_msg("%s %g shape %d: %g became %g", dtype_name(t), (double)scale[s],
                                 shape, (double)x[i], (double)y[i]);
            }
        for (size_t i = 0; i < n; i++)
            x[i] = (i & 1 ? -0.99f : 0.9f) * blocks_limit(t);
        blocks_from_f32(blocks, t, x, n, NULL);
        blocks_to_f32(y, blocks, t, n);
        for (size_t i = 0; i < n; i++)
            assert_true(isfinite(y[i]));
    }
}

static void test_not_finite(void **state)
{
    float x[64] = {1}, back[64];
    uint8_t bytes[2 * 34];
    (void)state;
    x[40] = NAN;
    blocks_from_f32(bytes, DT_Q8_0, x, 64, NULL);
    blocks_to_f32(back, bytes, DT_Q8_0, 64);
    assert_true(fabsf(back[0] - 1.0f) < 1e-3f && back[31] == 0.0f && isnan(back[32]) &&
                isnan(back[63]));
    x[40] = -INFINITY;
    blocks_from_f32(bytes, DT_Q8_0, x, 64, NULL);
    blocks_to_f32(back, bytes, DT_Q8_0, 64);
    assert_true(fabsf(back[0] - 1.0f) < 1e-3f && isnan(back[32]));
}

// A step that the importance asks for does not leave f16.
static void test_largest_step(void **state)
{
    float x[32] = {0}, importance[32], back[32];
    uint8_t bytes[22];
    (void)state;
    for (size_t i = 0; i < 32; i++)
        importance[i] = 1;
    for (float part = 0.9f; part < 1; part += 0.001f) {
        x[3] = part * blocks_limit(DT_Q4_0);
        blocks_from_f32(bytes, DT_Q4_0, x, 32, importance);
        blocks_to_f32(back, bytes, DT_Q4_0, 32);
        for (size_t i = 0; i < 32; i++)
            assert_true(isfinite(back[i]));
        assert_true(fabsf(back[3] - x[3]) < 0.2f * x[3]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_read),
        cmocka_unit_test(test_write_exact), cmocka_unit_test(test_write_error),
        cmocka_unit_test(test_importance),  cmocka_unit_test(test_edges),
        cmocka_unit_test(test_not_finite),  cmocka_unit_test(test_largest_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
