// SPDX-License-Identifier: MIT
// The signal mask that threads of ours are born with.
#ifndef IV_BASE_THREAD_MASK_H
#define IV_BASE_THREAD_MASK_H

#include <signal.h>

// Blocks for the calling thread, and so for threads it starts now, what belongs to the caller's threads:
// all signals but faults. A fault in a worker (a mapped weight file cut short) must find the caller's
// handler: a blocked one kills the process without a word. *before: for thread_mask_restore.
void thread_mask_set(sigset_t *before);
void thread_mask_restore(const sigset_t *before);

#endif
