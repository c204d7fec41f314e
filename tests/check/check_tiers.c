// SPDX-License-Identifier: MIT
// Checks the choice of tiers and the tables it fills, and the sizes that the products tell.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static void names(void **state)
{
    (void)state;
    for (int t = 0; t < CPU_TIER_N; t++) {
        enum cpu_tier back = CPU_TIER_N;
        assert_true(cpu_tier_from_name(cpu_tier_name((enum cpu_tier)t), &back));
        assert_int_equal(back, t);
    }
    enum cpu_tier none = CPU_AVX2;
    assert_false(cpu_tier_from_name("avx", &none));
    assert_int_equal(none, CPU_REF);
    assert_false(cpu_tier_from_name("", &none));
    char text[64];
    assert_string_equal(cpu_tiers_text(1u << CPU_REF | 1u << CPU_AVX2, text, sizeof text),
                        "ref avx2");
    assert_string_equal(cpu_tiers_text(1u << CPU_REF | 1u << CPU_AVX2, text, 6), "ref a");
    assert_string_equal(cpu_tiers_text(1u << CPU_REF, text, 1), "");
}

static void masks(void **state)
{
    (void)state;
    const unsigned avx2 = 1u << CPU_REF | 1u << CPU_AVX2, neon = 1u << CPU_REF | 1u << CPU_NEON;
    const unsigned x86 =
        avx2 | 1u << CPU_AVXVNNI | 1u << CPU_AVX512 | 1u << CPU_AVX512VNNI | 1u << CPU_AVX512BF16;
    const unsigned arm = neon | 1u << CPU_NEONDOTPROD | 1u << CPU_NEONBF16;
    assert_int_equal(cpu_mask(x86, CPU_REF), 1u << CPU_REF);
    assert_int_equal(cpu_mask(x86, CPU_AVX2), avx2);
    assert_int_equal(cpu_mask(x86, CPU_AVXVNNI), avx2 | 1u << CPU_AVXVNNI);
    // instructions of its own, not what lies below the wider ones
    assert_int_equal(cpu_mask(x86, CPU_AVX512), avx2 | 1u << CPU_AVX512);
    assert_int_equal(cpu_mask(x86, CPU_AVX512BF16), x86 & ~(1u << CPU_AVXVNNI));
    assert_int_equal(cpu_mask(x86 | 1u << CPU_ONEDNN, CPU_AVX512BF16), x86 & ~(1u << CPU_AVXVNNI));
    assert_int_equal(cpu_mask(x86 | 1u << CPU_ONEDNN, CPU_ONEDNN),
                     (x86 | 1u << CPU_ONEDNN) & ~(1u << CPU_AVXVNNI));
    assert_int_equal(cpu_usual(x86), x86);
    assert_true(cpu_tier_built(CPU_ONEDNN) || !(cpu_detect() & 1u << CPU_ONEDNN));
    assert_int_equal(cpu_mask(x86, CPU_NEON), 1u << CPU_REF);
    assert_int_equal(cpu_mask(x86, CPU_NEONBF16), 1u << CPU_REF);
    assert_int_equal(cpu_mask(arm, CPU_NEON), neon);
    assert_int_equal(cpu_mask(arm, CPU_NEONDOTPROD), neon | 1u << CPU_NEONDOTPROD);
    assert_int_equal(cpu_mask(arm, CPU_NEONBF16), arm);
    assert_int_equal(cpu_mask(arm, CPU_AVX512), 1u << CPU_REF);
    assert_int_equal(cpu_best(x86), CPU_AVX512BF16);
    assert_int_equal(cpu_best(avx2 | 1u << CPU_AVXVNNI), CPU_AVXVNNI);
    assert_int_equal(cpu_best(arm), CPU_NEONBF16);
    assert_int_equal(cpu_best(1u << CPU_REF), CPU_REF);
    assert_true(cpu_detect() & 1u << CPU_REF);
}

static void check_products(const struct product_kernels *p, bool ref)
{
    assert_non_null(p->prepare);
    assert_non_null(p->few);
    assert_non_null(p->many);
    assert_non_null(p->attention);
    assert_non_null(p->attention_scratch);
    assert_true(p->panel > 0 && p->x_elem > 0);
    if (ref)
        return;
    assert_non_null(p->pack);
    assert_non_null(p->pack_t);
    assert_non_null(p->tile);
    assert_non_null(p->soft_step);
    assert_non_null(p->mix);
    assert_non_null(p->scale);
    assert_true(p->block % p->panel == 0 && p->depth % 32 == 0 && p->depth >= KERNEL_HEAD_MAX);
    assert_true(p->scratch_bytes >= p->block * p->depth * p->x_elem);
}

static void check_int8(const struct product_kernels *p, bool ref)
{
    assert_non_null(p->prepare);
    assert_non_null(p->many);
    assert_non_null(p->levels);
    assert_true(p->steps && p->panel > 0 && p->x_elem > 0);
    if (ref)
        return;
    assert_non_null(p->pack_levels);
    assert_non_null(p->tile);
    assert_true(p->scratch_bytes >= p->panel * p->depth * p->x_elem);
}

static void tables(void **state)
{
    (void)state;
    unsigned have = cpu_detect();
    for (int t = 0; t < CPU_TIER_N; t++) {
        if (!(have & 1u << t))
            continue;
        struct kernels k;
        memset(&k, 0, sizeof k);
        kernels_init(&k, cpu_mask(have, (enum cpu_tier)t));
        assert_int_equal(k.tier, t);
        assert_false(k.f32.round);
        assert_true(k.bf16.round);
        check_products(&k.f32, t == CPU_REF);
        check_products(&k.bf16, t == CPU_REF);
        check_int8(&k.int8, t == CPU_REF);
        assert_true(k.dots.prepare && k.dots.few && !k.dots.steps && k.dots.x_elem % 64 == 0);
        assert_true(k.to_f32 && k.from_f32 && k.add && k.add_scaled && k.scale && k.gelu &&
                    k.silu_mul);
        assert_true(k.rms_norm && k.layer_norm && k.rope);
    }
}

// A prepared row holds its elements up to a multiple of 32, ends on a cache line, and the next one does
// not fall onto the same set; hostile sizes saturate.
static void sizes(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init(&k, cpu_detect());
    const struct product_kernels *p[] = {&k.f32, &k.bf16, &k.int8, &k.dots};
    for (int i = 0; i < 4; i++) {
        for (size_t n = 0; n < 5000; n += 7) {
            size_t bytes = product_x_stride(p[i], n);
            size_t block = p[i]->x_block ? p[i]->x_block : 1;
            size_t whole = p[i]->x_block ? block : 32;
            assert_true(bytes >= (n + whole - 1) / whole * whole / block * p[i]->x_elem);
            assert_true(bytes % 128 == 64);
        }
        if (i == 3) {
            assert_true(product_x_stride(p[i], p[i]->x_block + 1) >= 2 * p[i]->x_elem);
            assert_true(product_x_stride(p[i], SIZE_MAX - 1) == SIZE_MAX);
            continue;
        }
        assert_true(product_x_stride(p[i], SIZE_MAX / 2) == SIZE_MAX || p[i]->steps);
        assert_true(product_x_stride(p[i], SIZE_MAX) == SIZE_MAX);
        if (p[i]->steps)
            continue;
        struct attention_job j = {.n_q = SIZE_MAX / 2, .n_k = SIZE_MAX / 2, .group = 4, .d = 64};
        assert_true(p[i]->attention_scratch(p[i], &j) == SIZE_MAX);
        j.n_q = 1;
        j.n_k = 100;
        size_t few = p[i]->attention_scratch(p[i], &j);
        assert_true(few > 0 && few < 1 << 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(masks),
        cmocka_unit_test(tables),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
