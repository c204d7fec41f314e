// SPDX-License-Identifier: MIT
// The thread that works while a person types.
//
// Its progress, messages and failures are not shown: what it could not do the question does, and
// says so then. Its stages are computed, so with --dump there is no such thread.
//
// Easy to get wrong: a signal that someone sends is for the main thread, which waits for keys, so it is
// blocked here; one that the thread causes itself (SIGBUS of a truncated file) must not be, since a
// blocked one ends the process without its handler.

#include "chat_warm.h"

#include <signal.h>

#include "chat.h"
#include "workthread.h"

static void *run(void *user)
{
    struct chat *c = user;
    struct iv_error ignored;
    (void)iv_session_warm(c->session, &ignored);
    return NULL;
}

void chat_warm_begin(struct chat_warm *w, struct chat *c)
{
    static const int sent[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};
    sigset_t mask, before;
    *w = (struct chat_warm){.c = c};
    if (c->work.s->cache_mib == 0 || c->work.dump.dir)
        return;
    atomic_store(&c->work.halt, false);
    atomic_store(&c->work.con->muted, true);
    (void)sigemptyset(&mask);
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++)
        (void)sigaddset(&mask, sent[i]);
    (void)pthread_sigmask(SIG_BLOCK, &mask, &before);
    w->running = workthread_start(&w->thread, run, c) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!w->running)
        atomic_store(&c->work.con->muted, false);
}

void chat_warm_end(struct chat_warm *w)
{
    if (!w->running)
        return;
    atomic_store(&w->c->work.halt, true);
    (void)pthread_join(w->thread, NULL);
    atomic_store(&w->c->work.halt, false);
    atomic_store(&w->c->work.con->muted, false);
    w->running = false;
}
