// SPDX-License-Identifier: MIT
// As much of cmocka's interface as the kernel checks use, for a static arm64 build where there is no
// cmocka for that architecture (see ../cross_aarch64.sh). The first failure ends the program.
#ifndef IV_TESTS_CROSS_CMOCKA_H
#define IV_TESTS_CROSS_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*fn)(void **state);
};

#define cmocka_unit_test(f) ((struct CMUnitTest){#f, f})

#define fail_msg(...)                                                                              \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(1);                                                                                   \
    } while (0)

#define assert_true(c)                                                                             \
    do {                                                                                           \
        if (!(c))                                                                                  \
            fail_msg("%s", #c);                                                                    \
    } while (0)

static inline int cross_run(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tests[i].fn(NULL);
        printf("ok %s\n", tests[i].name);
    }
    return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    ((void)(setup), (void)(teardown), cross_run(tests, sizeof(tests) / sizeof *(tests)))

#endif
