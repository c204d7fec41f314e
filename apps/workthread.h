// SPDX-License-Identifier: MIT
// Threads that call the library.
#ifndef IV_APPS_WORKTHREAD_H
#define IV_APPS_WORKTHREAD_H

#include <pthread.h>
#include <stddef.h>

enum { WORKTHREAD_STACK = 1 << 20 }; // bytes at least: twice what ivchat.h asks for

// pthread_create, with that much stack where the system's default is less, as musl's is.
static inline int workthread_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    pthread_attr_t a;
    size_t stack = 0;
    int rc = pthread_attr_init(&a);
    if (rc != 0)
        return rc;
    if (pthread_attr_getstacksize(&a, &stack) == 0 && stack < WORKTHREAD_STACK)
        rc = pthread_attr_setstacksize(&a, WORKTHREAD_STACK);
    if (rc == 0)
        rc = pthread_create(t, &a, fn, arg);
    pthread_attr_destroy(&a);
    return rc;
}

#endif
