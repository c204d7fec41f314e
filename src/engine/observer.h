// SPDX-License-Identifier: MIT
// Sums the squares of what every linear layer of an engine reads: what an importance matrix is made of.
#ifndef IV_ENGINE_OBSERVER_H
#define IV_ENGINE_OBSERVER_H

#include "ops/ops.h"

struct observer;

int observer_open(struct observer **out, struct err *e);
void observer_close(struct observer *x);
// For ops_options; has its own lock.
const struct input_watch *observer_watch(const struct observer *x);

#endif
