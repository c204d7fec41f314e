// SPDX-License-Identifier: MIT
// Conversations about one video begin alike: whoever comes second takes the keys and values of the video's positions from
// one who has them, or waits for one who is about to. What is taken is, bit for bit, what it would compute.
#ifndef IV_ENGINE_PREFIXES_H
#define IV_ENGINE_PREFIXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "model/kv.h"

struct prefixes;

int prefixes_open(struct prefixes **out, struct err *e);
// NULL is allowed; nothing is offered any more.
void prefixes_close(struct prefixes *p);

// A prompt that is being computed, or is there. The owner's thread.
struct prefix {
    const int32_t *ids; // [n], -1 = the next row of `rows`
    size_t n;
    const float *rows; // the same address means the same rows
    double theta;      // base of the rotary angles
    size_t tail;   // positions at the end that are not taken from others, nor a beginning of fewer
    struct kv *kv; // the owner's
    // inside
    bool listed, ready;
    size_t readers; // who copies from it
    struct prefix *next;
};
// Behind kv->n positions that are there already, copies what another one has of mine up to the last row of `rows`, and
// offers mine: what the owner is now to compute. kv has room for all. Waits while another one computes it.
int prefix_begin(struct prefixes *p, struct prefix *mine, const struct hooks *hooks, struct err *e);
// mine is computed, and stays as it is until prefix_end.
void prefix_ready(struct prefixes *p, struct prefix *mine);
// Also when it is offered no more. Waits for those who are copying.
void prefix_end(struct prefixes *p, struct prefix *mine);
// kv_reserve of mine's kv, which moves it: waits for those who are copying.
int prefix_reserve(struct prefixes *p, struct prefix *mine, size_t n_pos, struct err *e);

#endif
