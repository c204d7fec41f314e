// SPDX-License-Identifier: MIT
// `ivchat bench`, stage sessions: conversations on threads of their own, as a server has them.
//
// Each waits at its first token until all have theirs, and a step's time is that of all of them: from then
// until the last one has its n tokens, over n - 1.
//
// Easy to get wrong: when one fails the others must not wait for it for ever.

#include <pthread.h>
#include <string.h>

#include "bench.h"
#include "heap.h"
#include "savefile.h"
#include "signals.h"
#include "wallclock.h"
#include "workthread.h"

struct crowd {
    struct bench *b;
    const char *prompt;
    int n, n_new;
    pthread_mutex_t lock;
    pthread_cond_t all;
    int n_ready;
    bool failed;
    double begun, ended; // ms
};

struct talker {
    struct crowd *crowd;
    pthread_t thread;
    bool started, first;
    int rc;
    struct iv_error error;
};

static bool on_abort(void *user)
{
    struct crowd *c = user;
    pthread_mutex_lock(&c->lock);
    bool stop = c->failed;
    pthread_mutex_unlock(&c->lock);
    return stop || signals_caught() != 0;
}

static void on_token(void *user, int32_t id, const float *logits, size_t n_vocab)
{
    struct talker *t = user;
    struct crowd *c = t->crowd;
    (void)id;
    (void)logits;
    (void)n_vocab;
    if (!t->first)
        return;
    t->first = false;
    pthread_mutex_lock(&c->lock);
    if (++c->n_ready == c->n) {
        c->begun = 1e3 * clock_seconds();
        pthread_cond_broadcast(&c->all);
    }
    while (c->n_ready < c->n && !c->failed)
        pthread_cond_wait(&c->all, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static void *talk(void *arg)
{
    struct talker *t = arg;
    struct crowd *c = t->crowd;
    struct iv_session_options o = iv_session_options_default();
    struct iv_ask_options ask = iv_ask_options_default();
    struct iv_answer answer;
    iv_session *session;
    o.callbacks = (struct iv_callbacks){.user = c, .abort = on_abort};
    ask.max_new_tokens = c->n_new;
    ask.ignore_eos = true;
    ask.user = t;
    ask.token = on_token;
    t->rc = iv_session_open(c->b->work.engine, NULL, &o, &session, &t->error);
    if (t->rc == IV_OK) {
        t->rc = iv_session_ask(session, c->prompt, &ask, &answer, &t->error);
        if (t->rc == IV_OK)
            iv_answer_free(&answer);
        iv_session_close(session);
    }
    double now = 1e3 * clock_seconds();
    pthread_mutex_lock(&c->lock);
    c->failed = c->failed || t->rc != IV_OK;
    c->ended = now > c->ended ? now : c->ended;
    pthread_cond_broadcast(&c->all);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

// Runs all conversations once; the first failure that has a cause of its own is the one told.
static int run_crowd(struct crowd *c, struct talker *t)
{
    int rc = IV_OK;
    c->n_ready = 0;
    c->begun = c->ended = 0;
    for (int i = 0; i < c->n; i++) {
        t[i] = (struct talker){.crowd = c, .first = true};
        t[i].started = workthread_start(&t[i].thread, talk, &t[i]) == 0;
        if (!t[i].started) {
            pthread_mutex_lock(&c->lock);
            c->failed = true;
            pthread_cond_broadcast(&c->all);
            pthread_mutex_unlock(&c->lock);
            rc = app_error(&c->b->work.error, IV_ERR_LIMIT, "sessions: only %d threads of %d", i,
                           c->n);
            break;
        }
    }
    for (int i = 0; i < c->n && t[i].started; i++)
        (void)pthread_join(t[i].thread, NULL);
    for (int i = 0; i < c->n && rc == IV_OK; i++) {
        if (t[i].rc != IV_OK && (t[i].rc != IV_ERR_ABORT || signals_caught())) {
            rc = t[i].rc;
            c->b->work.error = t[i].error;
        }
    }
    return rc;
}

int bench_sessions(struct bench *b, struct bench_row *row)
{
    struct crowd c = {.b = b, .n = b->settings.sessions};
    char *prompt = NULL;
    int rc = bench_prompt(b, (size_t)b->settings.context, &prompt);
    struct talker *t = heap_calloc((size_t)c.n, sizeof *t);
    if (rc == IV_OK && !t)
        rc = app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for %d conversations", c.n);
    c.prompt = prompt;
    (void)pthread_mutex_init(&c.lock, NULL);
    (void)pthread_cond_init(&c.all, NULL);
    for (int i = 0; i <= b->settings.repeat && rc == IV_OK; i++) {
        c.n_new = i > 0 ? b->settings.max_new_tokens : 2;
        rc = run_crowd(&c, t);
        if (rc == IV_OK && i > 0 && c.n_new > 1 &&
            !samples_add(&row->time, (c.ended - c.begun) / (c.n_new - 1)))
            rc = app_error(&b->work.error, IV_ERR_LIMIT, "out of memory for times");
    }
    (void)pthread_cond_destroy(&c.all);
    (void)pthread_mutex_destroy(&c.lock);
    heap_free(t);
    heap_free(prompt);
    return rc;
}
