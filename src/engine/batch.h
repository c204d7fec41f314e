// SPDX-License-Identifier: MIT
// Steps of several conversations of one engine in one forward pass: the weights are read once for all. A row's
// logits are, bit for bit, those that it would have alone.
#ifndef IV_ENGINE_BATCH_H
#define IV_ENGINE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "ivchat.h"
#include "model/kv.h"

struct batch;

// Who generates. The owner's thread only; zeroed at first.
struct batch_seat {
    bool waits, away; // inside, as the next one
    struct batch_seat *next;
};

// No thread yet. The engine outlives it.
int batch_open(const iv_engine *engine, struct batch **out, struct err *e);
// Also steps of a model so small that this does not pay. Before anybody sits; for tests.
void batch_join_always(struct batch *b);
// NULL is allowed; nobody sits any more.
void batch_close(struct batch *b);

// From before the first step of an answer to behind its last. b NULL = the caller always steps by itself.
void batch_sit(struct batch *b, struct batch_seat *seat);
void batch_rise(struct batch *b, struct batch_seat *seat);

struct batch_step {
    struct kv *kv; // has room for one more position
    int32_t id;
    float *logits; // host f32 [n_vocab]
    const struct hooks *hooks;
};
enum { BATCH_ALONE = 1 }; // nothing was done: the caller is to run the step by itself
// Appends id to the sequence of kv, together with what others ask for now. 0, BATCH_ALONE, or ERR_ABORT soon after
// the abort hook says so; but for 0 the cache has its old n.
int batch_step(struct batch *b, struct batch_seat *seat, const struct batch_step *s, struct err *e);

struct batch_counts {
    uint64_t n_pass, n_row; // forward passes, and the rows of all of them
    size_t most;            // rows of one
};
struct batch_counts batch_counts(struct batch *b);

#endif
