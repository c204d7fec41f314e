// SPDX-License-Identifier: MIT
// See thread.h.
#include "base/thread.h"

#include <signal.h>
#include <stddef.h>

static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t all;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

int thread_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    pthread_attr_t a;
    sigset_t before;
    size_t stack = 0;
    int rc = pthread_attr_init(&a);
    if (rc != 0)
        return rc;
    if (pthread_attr_getstacksize(&a, &stack) == 0 && stack < THREAD_STACK)
        rc = pthread_attr_setstacksize(&a, THREAD_STACK);
    if (rc == 0) {
        block_signals(&before); // a thread is born with its maker's mask
        rc = pthread_create(t, &a, fn, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&a);
    return rc;
}
