// SPDX-License-Identifier: MIT
// Long passes (prompts, clips) of several conversations take turns, a layer at a time: two at once would be no sooner
// done, and would leave a running answer a smaller share of the processors.
#ifndef IV_ENGINE_GATE_H
#define IV_ENGINE_GATE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"

struct gate;

int gate_open(struct gate **out, struct err *e);
// NULL is allowed; nobody is inside or waits.
void gate_close(struct gate *g);

// A way through the gate. One thread; it must not move while `hooks` are in use.
struct gate_pass {
    struct gate *gate;
    struct hooks inner; // the caller's
    struct hooks
        hooks; // what the pass reports to: hands on to inner, and lets others go first after each layer
    bool inside;
};
// Waits for the turn. ERR_ABORT when inner says so; p is then outside. gate NULL = there is no turn to wait for.
int gate_enter(struct gate *gate, struct gate_pass *p, const struct hooks *inner, struct err *e);
// Also behind a failure, and when it is outside already.
void gate_leave(struct gate_pass *p);

#endif
