// SPDX-License-Identifier: MIT
// Condition variables with a limit to waiting that a change of the clock does not move.
#ifndef IV_BASE_COND_H
#define IV_BASE_COND_H

#include <pthread.h>

// On the monotonic clock; pthread_cond_destroy ends it.
void cond_open(pthread_cond_t *c);
// Until the condition is signalled, perhaps for no reason, or `ms` from now have passed. The caller holds the lock.
void cond_wait_ms(pthread_cond_t *c, pthread_mutex_t *lock, double ms);

#endif
