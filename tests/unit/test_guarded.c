// SPDX-License-Identifier: MIT
// What the kernel checks rely on: a byte beyond a guarded buffer cannot be touched, one that was written near it is noticed,
// also where the mapping has been used before.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guarded.h"

static const size_t sizes[] = {0, 1, 63, 64, 3000, 4096, 5000, 70000, 300000};
enum { N_SIZE = sizeof sizes / sizeof *sizes, ROUNDS = 3 };

// Whether a process can read a byte.
static int readable(const volatile uint8_t *p)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL); // not cmocka's, nor a sanitizer's
        (void)*p;
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * N_SIZE; i++) { // the second time from a spare mapping
        struct guarded g = guarded_new(sizes[i % N_SIZE], 1);
        uint8_t *end = (uint8_t *)g.data + g.bytes;
        assert_true(readable(end - 1));
        assert_false(readable(end));
        guarded_free(&g);
    }
}

static void test_fill(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS * N_SIZE; i++) {
        struct guarded g = guarded_new(sizes[i % N_SIZE], 64);
        const uint8_t *data = g.data;
        assert_int_equal((uintptr_t)data % 64, 0);
        for (size_t k = 0; k < g.bytes; k++)
            assert_int_equal(data[k], 0xff);
        assert_true(guarded_intact(&g));
        memset(g.data, 0, g.bytes);
        assert_true(guarded_intact(&g));
        guarded_free(&g);
        assert_null(g.map);
    }
}

static void test_near(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROUNDS * N_SIZE; i++) {
        struct guarded g = guarded_new(sizes[i % N_SIZE], 64);
        uint8_t *data = g.data;
        data[-1 - (int)(i * 37 % 256)] ^= 1;
        assert_false(guarded_intact(&g));
        guarded_free(&g);
        g = guarded_new(sizes[i % N_SIZE], 64); // where that was written
        assert_true(guarded_intact(&g));
        if (g.bytes % 64 != 0) {
            ((uint8_t *)g.data)[g.bytes] ^= 1;
            assert_false(guarded_intact(&g));
        }
        guarded_free(&g);
    }
}

// More at a time than are kept, of one size.
static void test_many(void **state)
{
    struct guarded g[80];
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < 80; i++) {
            g[i] = guarded_new(100, 4);
            memset(g[i].data, (int)i, 100);
        }
        for (size_t i = 0; i < 80; i++) {
            assert_int_equal(*(uint8_t *)g[i].data, i);
            assert_true(guarded_intact(&g[i]));
            guarded_free(&g[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_near),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
