// SPDX-License-Identifier: MIT
// Threads of the library's own.
#ifndef IV_BASE_THREAD_H
#define IV_BASE_THREAD_H

#include <pthread.h>

// Bytes of stack at least, where the system's default may be less, as musl's is; a function takes 128 KiB at most
// in C and with optimisation (CMakeLists.txt).
enum { THREAD_STACK = 512 << 10 };

// Begins fn(arg) on a thread that blocks what belongs to the caller's threads: all signals but faults. A fault in a
// worker (a mapped weight file cut short) must find the caller's handler: a blocked one kills the process without a
// word. 0 or the errno value; after 0 the caller joins *t.
int thread_start(pthread_t *t, void *(*fn)(void *), void *arg);

#endif
