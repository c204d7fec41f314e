// SPDX-License-Identifier: MIT
// Condition variables on the monotonic clock.
#include "base/cond.h"

#include <time.h>

void cond_open(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

void cond_wait_ms(pthread_cond_t *c, pthread_mutex_t *lock, double ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long ns = (long)(ms * 1e6) + t.tv_nsec;
    t.tv_sec += ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    (void)pthread_cond_timedwait(c, lock, &t);
}
