// SPDX-License-Identifier: MIT
// The peak loops: each tier's run, count what they do and read what they are given, to the last word.
// What they measure is no test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/peak.h"

enum { BYTES = 4 * PEAK_READ_STEP };

// Multiply-adds are counted twice, so operations of a round are even, and as many for each round.
static void count_work(double (*work)(size_t n))
{
    if (!work)
        return;
    assert_true(work(0) == 0);
    double one = work(1);
    assert_true(one >= 8);
    assert_true(work(1000) == 1000 * one);
}

static void check_read(const struct peak_kernels *k)
{
    static _Alignas(64) unsigned char data[BYTES + 64];
    memset(data, 0, sizeof data);
    memset(data + BYTES, 0xff, 64);
    assert_true(k->read(data, BYTES) == 0); // and nothing behind it
    for (size_t i = 0; i < BYTES; i++) {
        data[i] = 0x10;
        assert_true(k->read(data, BYTES) != 0);
        data[i] = 0;
    }
    assert_true(k->read(data, 0) == 0);
}

static void tiers(void **state)
{
    (void)state;
    unsigned have = cpu_detect();
    for (int t = 0; t < CPU_TIER_N; t++) {
        struct peak_kernels k;
        if (!(have & 1u << t))
            continue;
        peak_init(&k, cpu_mask(have, (enum cpu_tier)t));
        assert_non_null(k.f32);
        count_work(k.f32);
        count_work(k.bf16);
        count_work(k.int8);
        check_read(&k);
        if (t == CPU_REF || t == CPU_AVX2)
            assert_true(!k.bf16 && !k.int8);
        if (t == CPU_AVXVNNI)
            assert_true(k.int8 && !k.bf16);
        if (t == CPU_AVX512BF16)
            assert_non_null(k.bf16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
