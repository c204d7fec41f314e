// SPDX-License-Identifier: MIT
// First come, first served, in slices: whoever reports progress goes out and to the end of the line.
//
// Easy to get wrong: one who is told to stop while it waits in the middle of a pass goes on without a turn; its next
// operator polls the same hook and fails, so nothing is computed out of turn, and leaving does nothing.
#include "engine/gate.h"

#include <pthread.h>
#include <string.h>

#include "base/cond.h"
#include "base/mem.h"

enum { POLL_MS = 20 };

struct waiter {
    bool called;
    struct waiter *next;
};

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t called; // on the monotonic clock
    bool taken;
    struct waiter *head, **tail;
};

int gate_open(struct gate **out, struct err *e)
{
    struct gate *g = *out = mem_calloc(1, sizeof *g);
    if (!g)
        return err_set(e, ERR_LIMIT, "engine: out of memory");
    g->tail = &g->head;
    pthread_mutex_init(&g->lock, NULL);
    cond_open(&g->called);
    return 0;
}

void gate_close(struct gate *g)
{
    if (!g)
        return;
    pthread_cond_destroy(&g->called);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

// ---- under the lock

// The turn goes to the first in line.
static void pass_on(struct gate *g)
{
    struct waiter *w = g->head;
    g->taken = w != NULL;
    if (!w)
        return;
    g->head = w->next;
    if (!g->head)
        g->tail = &g->head;
    w->called = true;
    pthread_cond_broadcast(&g->called);
}

static void step_out(struct gate *g, struct waiter *w)
{
    struct waiter **at = &g->head;
    if (w->called) { // just now
        pass_on(g);
        return;
    }
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (!*at)
        g->tail = at;
}

// false = hooks say stop; the lock is given up while they are asked.
static bool stand_in_line(struct gate *g, const struct hooks *hooks)
{
    struct waiter w = {0};
    *g->tail = &w;
    g->tail = &w.next;
    while (!w.called) {
        cond_wait_ms(&g->called, &g->lock, POLL_MS);
        if (w.called)
            break;
        pthread_mutex_unlock(&g->lock);
        bool stop = hooks_abort(hooks);
        pthread_mutex_lock(&g->lock);
        if (stop) {
            step_out(g, &w);
            return false;
        }
    }
    return true;
}

// ---- any thread

// Waits for the turn; whether it came.
static bool come_in(struct gate_pass *p)
{
    struct gate *g = p->gate;
    pthread_mutex_lock(&g->lock);
    p->inside = !g->taken || stand_in_line(g, &p->inner);
    g->taken = g->taken || p->inside;
    pthread_mutex_unlock(&g->lock);
    return p->inside;
}

// Outside, since the caller's function may take its time or work with the engine itself.
static void on_progress(void *user, const char *stage, size_t done, size_t total)
{
    struct gate_pass *p = user;
    bool inside = p->inside;
    gate_leave(p);
    hooks_progress(&p->inner, stage, done, total);
    if (inside)
        (void)come_in(p);
}

static bool on_abort(void *user)
{
    const struct gate_pass *p = user;
    return hooks_abort(&p->inner);
}

static void on_log(void *user, enum log_level level, const char *line)
{
    const struct gate_pass *p = user;
    p->inner.log(p->inner.user, level, line);
}

int gate_enter(struct gate *g, struct gate_pass *p, const struct hooks *inner, struct err *e)
{
    *p = (struct gate_pass){.gate = g, .inner = *inner};
    p->hooks = (struct hooks){.user = p,
                              .log = inner->log ? on_log : NULL,
                              .progress = on_progress,
                              .abort = inner->abort ? on_abort : NULL};
    if (!g)
        return 0;
    return come_in(p) ? 0 : err_set(e, ERR_ABORT, "stopped while others are at work");
}

void gate_leave(struct gate_pass *p)
{
    if (!p->inside)
        return;
    p->inside = false;
    pthread_mutex_lock(&p->gate->lock);
    pass_on(p->gate);
    pthread_mutex_unlock(&p->gate->lock);
}
