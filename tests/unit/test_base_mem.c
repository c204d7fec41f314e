// SPDX-License-Identifier: MIT
// Heap door and arenas: zeroing, overflow, alignment, sticky failure, marks, gaps, the failing k-th.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define ASAN 1
#endif
#endif

static void calloc_zeroes_and_checks(void **state)
{
    (void)state;
    uint8_t *p = mem_calloc(1000, 3);
    assert_non_null(p);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(p[i], 0);
    mem_free(p);
    assert_null(mem_calloc(SIZE_MAX / 2, 3));
    p = mem_calloc(0, 8); // a pointer all the same, so that NULL always means failure
    assert_non_null(p);
    mem_free(p);
    mem_free(NULL);
}

static void realloc_keeps_and_checks(void **state)
{
    (void)state;
    uint32_t *p = mem_realloc(NULL, 4, sizeof *p);
    assert_non_null(p);
    for (uint32_t i = 0; i < 4; i++)
        p[i] = i * 7;
    assert_null(mem_realloc(p, SIZE_MAX / 2, sizeof *p)); // p is still ours
    p = mem_realloc(p, 4000, sizeof *p);
    assert_non_null(p);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(p[i], i * 7);
    mem_free(p);
}

static void strndup_terminates(void **state)
{
    (void)state;
    char *p = mem_strndup("abcdef", 3);
    assert_string_equal(p, "abc");
    mem_free(p);
    p = mem_strndup(NULL, 0);
    assert_string_equal(p, "");
    mem_free(p);
    p = mem_strndup("a\0b", 3);
    assert_memory_equal(p, "a\0b", 4);
    mem_free(p);
    assert_null(mem_strndup("x", SIZE_MAX));
}

static void big_blocks_are_zero_and_aligned(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4097, 5u << 20};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *p = mem_alloc_big(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k += 509)
            assert_int_equal(p[k], 0);
        if (sizes[i]) {
            assert_int_equal(p[sizes[i] - 1], 0);
            p[sizes[i] - 1] = 1;
        }
        mem_free_big(p, sizes[i]);
    }
    mem_free_big(NULL, 5);
}

static void kth_allocation_fails_once(void **state)
{
    (void)state;
    mem_fail_after(3);
    void *a = mem_calloc(1, 1), *b = mem_realloc(NULL, 1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(mem_alloc_big(10));
    void *c = mem_alloc_big(10);
    assert_non_null(c);
    mem_free(a);
    mem_free(b);
    mem_free_big(c, 10);
    mem_fail_after(1);
    mem_fail_after(0); // off again
    a = mem_strndup("x", 1);
    assert_non_null(a);
    mem_free(a);
}

static void arena_of_nothing_says_what(void **state)
{
    struct arena a;
    struct err e = {0};
    (void)state;
    mem_fail_after(1);
    assert_int_equal(arena_init(&a, 100, "session", &e), ERR_LIMIT);
    mem_fail_after(0);
    assert_string_equal(e.msg, "session: out of memory for 100 bytes");
    assert_null(a.base);
    assert_null(arena_push(&a, 1));
    arena_free(&a);
}

static void arena_fits_what_costs_promise(void **state)
{
    static const size_t sizes[] = {1, 64, 65, 0, 1000, 63};
    const size_t n = sizeof sizes / sizeof sizes[0];
    struct arena a;
    uint8_t *p[sizeof sizes / sizeof sizes[0]];
    size_t cap = 0;
    (void)state;
    for (size_t i = 0; i < n; i++)
        cap += arena_cost(sizes[i]);
    assert_int_equal(arena_init(&a, cap, "t", NULL), 0);
    for (size_t i = 0; i < n; i++) {
        p[i] = arena_push(&a, sizes[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        memset(p[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[i][k], i + 1);
    assert_int_equal(a.used, cap);
    assert_int_equal(a.peak, cap);
    assert_false(arena_failed(&a));
    assert_null(arena_push(&a, 1));
    arena_free(&a);
    assert_null(a.base);
    assert_int_equal(a.cap, 0);
}

static void arena_failure_is_sticky_until_pop(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_init(&a, 4096, "t", NULL), 0);
    size_t mark = arena_mark(&a);
    assert_non_null(arena_push(&a, 100));
    assert_null(arena_push(&a, 5000));
    assert_true(arena_failed(&a));
    assert_null(arena_push(&a, 1)); // would fit, but a run of pushes is checked once
    arena_pop(&a, mark);
    assert_false(arena_failed(&a));
    assert_int_equal(a.used, 0);
    assert_true(a.peak >= 100);
    assert_non_null(arena_push(&a, 1));
    assert_null(arena_push_n(&a, SIZE_MAX / 2, 4));
    assert_true(arena_failed(&a));
    arena_free(&a);
}

static void arena_sizes_do_not_wrap(void **state)
{
    struct arena a;
    (void)state;
    assert_int_equal(arena_cost(SIZE_MAX), SIZE_MAX);
    assert_true(arena_cost(SIZE_MAX - 63) >= SIZE_MAX - 63);
    assert_true(arena_cost(1) >= 64);
    assert_int_equal(arena_init(&a, 4096, "t", NULL), 0);
    for (size_t off = 0; off < 130; off++) {
        assert_null(arena_push(&a, SIZE_MAX - off));
        arena_pop(&a, 0);
    }
    arena_free(&a);
}

static void arena_gaps_are_poisoned(void **state)
{
    (void)state;
#ifdef ASAN
    struct arena a;
    assert_int_equal(arena_init(&a, 4096, "t", NULL), 0);
    assert_true(__asan_address_is_poisoned(a.base));
    uint8_t *p = arena_push(&a, 100), *q = arena_push(&a, 64);
    assert_false(__asan_address_is_poisoned(p + 99));
    assert_true(__asan_address_is_poisoned(p + 104)); // 100 rounded up to ASan's grain of 8
    assert_false(__asan_address_is_poisoned(q + 63));
    assert_true(__asan_address_is_poisoned(q + 64));
    assert_true(__asan_address_is_poisoned(q - 1));
    arena_pop(&a, 0);
    assert_true(__asan_address_is_poisoned(p));
    arena_free(&a);
#else
    assert_int_equal(arena_cost(64), 64); // no gap, no cost
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calloc_zeroes_and_checks),
        cmocka_unit_test(realloc_keeps_and_checks),
        cmocka_unit_test(strndup_terminates),
        cmocka_unit_test(big_blocks_are_zero_and_aligned),
        cmocka_unit_test(kth_allocation_fails_once),
        cmocka_unit_test(arena_of_nothing_says_what),
        cmocka_unit_test(arena_fits_what_costs_promise),
        cmocka_unit_test(arena_failure_is_sticky_until_pop),
        cmocka_unit_test(arena_sizes_do_not_wrap),
        cmocka_unit_test(arena_gaps_are_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
