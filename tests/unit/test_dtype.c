// SPDX-License-Identifier: MIT
// Element types: all 65536 f16 and bf16 values, rounding at every boundary, names.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/tensor.h"

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

// The definition: (-1)^s * 2^(e-15) * 1.m, subnormals 2^-14 * 0.m.
static double f16_value(unsigned h)
{
    int e = (int)(h >> 10 & 31);
    double m = (double)(h & 1023) / 1024.0;
    double v = e == 0 ? ldexp(m, -14) : ldexp(1.0 + m, e - 15);
    return h & 0x8000 ? -v : v;
}

static void test_every_f16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        if ((h >> 10 & 31) == 31) {
            if (h & 1023) { // NaN: sign and payload kept
                assert_true(isnan(f));
                assert_int_equal(bits(f), (h & 0x8000) << 16 | 0x7f800000u | (h & 1023) << 13);
            } else {
                assert_true(isinf(f) && (f < 0) == (h >= 0x8000));
            }
        } else {
            assert_true((double)f == f16_value(h));
            assert_int_equal(signbit(f) != 0, h >= 0x8000);
        }
        uint16_t back = f32_to_f16(f);
        assert_int_equal(back, isnan(f) ? (h | 0x200) : h); // NaN comes back quiet
    }
}

// Between two neighbours: just below the middle goes down, just above up, the middle to the even one.
static void test_f16_rounding(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        double lo = f16_value(h), hi = h == 0x7bff ? 65536.0 : f16_value(h + 1);
        float mid = (float)((lo + hi) / 2); // exact: one more bit than f16 has
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(f32_to_f16(mid), even);
        assert_int_equal(f32_to_f16(nextafterf(mid, 0.0f)), h);
        assert_int_equal(f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-mid), 0x8000 | even);
    }
    assert_int_equal(f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(f32_to_f16(from_bits(0x7f800001u)), 0x7e00); // signalling, small payload
    assert_int_equal(f32_to_f16(from_bits(0x00000001u)), 0);
    assert_int_equal(f32_to_f16(-0.0f), 0x8000);
}

static void test_bf16(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = bf16_to_f32((uint16_t)h);
        assert_int_equal(bits(f), h << 16);
        assert_int_equal(f32_to_bf16(f), isnan(f) ? (h | 0x40) : h);
        if (isnan(f) || isinf(f))
            continue;
        uint32_t u = h << 16; // neighbours in magnitude
        assert_int_equal(f32_to_bf16(from_bits(u + 0x7fff)), h);
        assert_int_equal(f32_to_bf16(from_bits(u + 0x8000)), h & 1 ? h + 1 : h);
        assert_int_equal(f32_to_bf16(from_bits(u + 0x8001)), h + 1);
    }
    assert_true(isnan(bf16_to_f32(f32_to_bf16(from_bits(0x7f800001u)))));
    assert_true(bf16_round(1.00390625f) == 1.0f); // 1 + 2^-8, half way: to the even 1
}

static void test_to_f32_unaligned(void **state)
{
    (void)state;
    unsigned char raw[1 + 4 * 3];
    float in[3] = {1.5f, -0.25f, 3e38f}, out[4] = {0, 0, 0, 42.0f};
    uint16_t half[3] = {0x3e00, 0xb400, 0x0001}, brain[3] = {0x3fc0, 0xbe80, 0x7f80};
    memcpy(raw + 1, in, sizeof in);
    dtype_to_f32(out, raw + 1, DT_F32, 3);
    assert_memory_equal(out, in, sizeof in);
    memcpy(raw + 1, half, sizeof half);
    dtype_to_f32(out, raw + 1, DT_F16, 3);
    assert_true(out[0] == 1.5f && out[1] == -0.25f && out[2] == 0x1p-24f);
    memcpy(raw + 1, brain, sizeof brain);
    dtype_to_f32(out, raw + 1, DT_BF16, 3);
    assert_true(out[0] == 1.5f && out[1] == -0.25f && isinf(out[2]));
    assert_true(out[3] == 42.0f);
    dtype_to_f32(out, NULL, DT_F32, 0);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        size_t bytes;
        enum dtype t;
    } known[] = {{"F32", 4, DT_F32}, {"F16", 2, DT_F16}, {"BF16", 2, DT_BF16},
                 {"I64", 8, DT_I64}, {"I32", 4, DT_I32}, {"U8", 1, DT_U8}};
    static const char *const unknown[] = {"", "F", "f32", "F32 ", "F64", "BOOL", "BF1", "F8_E4M3"};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        enum dtype t = DT_N;
        assert_true(dtype_from_name(known[i].name, strlen(known[i].name), &t));
        assert_int_equal(t, known[i].t);
        assert_string_equal(dtype_name(t), known[i].name);
        assert_int_equal(dtype_bytes(t), known[i].bytes);
    }
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        enum dtype t = DT_N;
        assert_false(dtype_from_name(unknown[i], strlen(unknown[i]), &t));
        assert_int_equal(t, DT_N);
    }
    assert_false(dtype_from_name("F32\0", 4, &(enum dtype){DT_N}));
}

static void test_shape_text(void **state)
{
    (void)state;
    char out[16];
    size_t dim[5] = {1, 257, 1408, SIZE_MAX, SIZE_MAX};
    assert_string_equal(shape_text(dim, 3, out, sizeof out), "[1,257,1408]");
    assert_string_equal(shape_text(dim, 1, out, sizeof out), "[1]");
    assert_string_equal(shape_text(dim, 0, out, sizeof out), "[]");
    assert_string_equal(shape_text(dim, 5, out, sizeof out), "[1,257,1408,184");
    memset(out, 'x', sizeof out);
    assert_string_equal(shape_text(dim, 3, out, 13), "[1,257,1408]");
    assert_string_equal(shape_text(dim, 3, out, 12), "[1,257,1408");
    assert_int_equal(out[13], 'x');
    assert_string_equal(shape_text(dim, 3, out, 1), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_f16), cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_bf16),      cmocka_unit_test(test_to_f32_unaligned),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_shape_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
