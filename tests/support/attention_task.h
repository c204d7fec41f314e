// SPDX-License-Identifier: MIT
// Jobs for attention kernels, between guard pages.
#ifndef IV_TESTS_ATTENTION_TASK_H
#define IV_TESTS_ATTENTION_TASK_H

#include "guarded.h"
#include "kernel_check.h"
#include "kernels/kernels.h"

// A job with guarded inputs; q, k and v have different strides.
struct attention_task {
    struct attention_job j; // y unset
    struct guarded q, k, v;
    size_t y_elems;
};

// Inputs and strides for j's sizes and types. attention_task_free releases them, after a look at the guards.
struct attention_task attention_task_new(struct rng *r, struct attention_job j, enum data data);
void attention_task_free(struct attention_task *t);
// y [y_elems] of p's attention. Caller frees (guarded_free).
struct guarded attention_task_run(const struct product_kernels *p, const struct attention_job *job,
                                  size_t y_elems);

#endif
