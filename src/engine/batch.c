// SPDX-License-Identifier: MIT
// Joint decoding. Each conversation's thread hands in its next token and sleeps; one thread of ours runs what is
// there as one forward pass over the caches where they are, and wakes them.
//
//   owner: sit -> { step: hand in, sleep, take the logits; choose a token } -> rise
//   ours:  wait for a row -> gather -> forward -> done
//
// Gathering: after a pass all owners choose their tokens at about the same time, and whoever went off with the first
// one would read all weights for it alone. So a pass waits for every seat that is expected, but no longer than a
// part of what a pass takes; a seat that came too late is not expected again until it hands in its next token.
//
// One who sits alone steps by itself, without the way through another thread, and so does everybody with a model that
// the processor's cache holds: nothing is gained by reading its weights once.
//
// On a GPU a pass is launched, not run, by the time its calls return: no row leaves before the end, and nobody is told of
// an end that was not waited for.
//
// Easy to get wrong: a row that nobody wants any more leaves between two layers, since its owner frees the cache as
// soon as it knows; the base of the rotary angles belongs to the pass (llm.h), so rows of different bases do not
// share one; the owner polls its abort hook, the pass stops at once when no row is wanted.
#include "engine/batch.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "ops/op_profile.h"

enum {
    POLL_MS = 20,             // between two looks at a waiting owner's abort hook
    PLAN_POSITIONS = 256,     // scratch is planned for a multiple
    CACHED_WEIGHTS = 1 << 25, // as many of a language model count as lying in the CPU's cache
};
static const double GATHER_PART = 0.25; // of a pass's time ...
static const double GATHER_MIN_MS = 0.3, GATHER_MAX_MS = 20;

enum row_state { ROW_WAITING, ROW_RUNNING, ROW_DONE };

struct row {
    const struct batch_step *step;
    struct batch_seat *seat;
    enum row_state state;
    atomic_bool unwanted;
    int rc;
    struct row *next;
};

struct batch {
    const iv_engine *engine;
    pthread_mutex_t lock;
    pthread_cond_t work, done; // both on the monotonic clock
    struct row *head, **tail;  // waiting, first come first
    struct batch_seat *seat;
    size_t n_wait, n_seat, n_away;
    struct batch_counts counts;
    bool apart; // steps are not joined
    bool started, broken, quit;
    pthread_t thread;
    // of our thread
    struct ops *ops;
    struct hooks hooks;
    size_t planned_rows, planned_pos;
    double pass_ms;
    atomic_size_t n_wanted; // rows of the pass under way
};

static bool none_wanted(void *user)
{
    const struct batch *b = user;
    return atomic_load_explicit(&b->n_wanted, memory_order_relaxed) == 0;
}

// ---- a pass

struct pass {
    struct batch *batch;
    struct row *row[OPS_STEP_ROWS]; // NULL = left
    uint32_t pos[OPS_STEP_ROWS];    // of each row
    size_t n;
};

// Caller holds the lock.
static void finish_row(struct row *r, int rc)
{
    r->rc = rc;
    r->state = ROW_DONE;
}

// Lets the owner of row i go when it wants to: neither its cache nor its row is touched from then on.
static bool let_go(void *user, size_t i)
{
    struct pass *p = user;
    struct row *r = p->row[i];
    if (!r || !atomic_load_explicit(&r->unwanted, memory_order_relaxed))
        return r == NULL;
    p->row[i] = NULL;
    pthread_mutex_lock(&p->batch->lock);
    finish_row(r, ERR_ABORT);
    pthread_cond_broadcast(&p->batch->done);
    pthread_mutex_unlock(&p->batch->lock);
    return true;
}

// Positions that scratch is needed for: a GPU's launches are laid out for a whole cache.
static size_t pass_positions(const struct pass *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->n; i++) {
        const struct kv *kv = p->row[i]->step->kv;
        most = max_size(most, p->batch->engine->gpu ? kv->cap : kv->n + 1);
    }
    return most;
}

// Ready for p's rows.
static int pass_begin(struct batch *b, const struct pass *p, struct err *e)
{
    size_t n_pos = pass_positions(p), bytes;
    int rc = 0;
    if (!b->ops)
        TRY(engine_open_ops(b->engine, &b->hooks, &b->ops, e));
    ops_clear(b->ops);
    if (p->n <= b->planned_rows && n_pos <= b->planned_pos)
        return 0;
    b->planned_rows = max_size(b->planned_rows, p->n);
    b->planned_pos = round_up(max_size(b->planned_pos, n_pos), PLAN_POSITIONS);
    TRY(runner_plan_step(b->engine, b->planned_pos, b->planned_rows, &bytes, e));
    TRY(ops_reserve(b->ops, bytes, e));
    return 0;
fail:
    b->planned_rows = b->planned_pos = 0;
    return rc;
}

static int pass_forward(struct batch *b, struct pass *p, struct err *e)
{
    struct ops *o = b->ops;
    const struct llm *m = &b->engine->model.llm;
    struct llm_span span[OPS_STEP_ROWS];
    int32_t ids[OPS_STEP_ROWS];
    for (size_t i = 0; i < p->n; i++) {
        struct kv *kv = p->row[i]->step->kv;
        span[i] = (struct llm_span){.kv = kv, .first_row = i, .n_row = 1};
        ids[i] = p->row[i]->step->id;
    }
    struct mat out = ops_mat(o, p->n, m->c.n_vocab);
    struct llm_batch lb = {.x = ops_mat(o, p->n, m->c.d_model),
                           .span = span,
                           .n_span = p->n,
                           .pos = p->pos,
                           .unwanted = b->engine->gpu ? NULL : let_go,
                           .user = p};
    ops_profile_stage(o, STAGE_DECODE);
    ops_step_begin(o, 0, ids, p->pos, p->n); // never the same caches for long: nothing is recorded
    op_embed(o, lb.x, &m->embed, ids);
    llm_forward(o, m, &lb, out);
    ops_step_end(o);
    for (size_t i = 0; i < p->n; i++)
        if (p->row[i])
            op_download(o, p->row[i]->step->logits, mat_rows(out, i, 1));
    return ops_status(o, e);
}

static void pass_run(struct pass *p)
{
    struct batch *b = p->batch;
    struct err e = {0};
    double start = clock_ms();
    for (size_t i = 0; i < p->n; i++)
        p->pos[i] = (uint32_t)p->row[i]->step->kv->n;
    int rc = pass_begin(b, p, &e);
    if (rc == 0)
        rc = pass_forward(b, p, &e);
    if (b->ops)
        ops_wait(b->ops);
    double ms = clock_ms() - start;
    b->pass_ms = b->pass_ms > 0 ? 0.75 * b->pass_ms + 0.25 * ms : ms;
    // what cannot be done together, for want of memory say, each does for itself, from where it was
    rc = rc == 0 || rc == ERR_ABORT ? rc : BATCH_ALONE;
    for (size_t i = 0; rc == BATCH_ALONE && i < p->n; i++)
        if (p->row[i])
            p->row[i]->step->kv->n = p->pos[i];
    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < p->n; i++)
        if (p->row[i])
            finish_row(p->row[i], rc);
    pthread_cond_broadcast(&b->done);
    pthread_mutex_unlock(&b->lock);
}

// ---- our thread; the lock is held

static void strike_off(struct batch *b)
{
    for (struct batch_seat *s = b->seat; s; s = s->next) {
        b->n_away += !s->waits && !s->away;
        s->away = s->away || !s->waits;
    }
}

// Waits until everybody who is expected has come, and strikes off who has not.
static void gather(struct batch *b)
{
    double until = clock_ms() + fmin(fmax(GATHER_PART * b->pass_ms, GATHER_MIN_MS), GATHER_MAX_MS);
    while (!b->quit && b->n_wait < b->n_seat - b->n_away) {
        double left = until - clock_ms();
        if (left <= 0) {
            strike_off(b);
            break;
        }
        cond_wait_ms(&b->work, &b->lock, left);
    }
}

static double theta_of(const struct batch *b, const struct row *r)
{
    return llm_rope_theta(&b->engine->model.llm.c, r->step->kv->n + 1);
}

// Rows for one pass, in the order in which they came.
static void take_rows(struct batch *b, struct pass *p)
{
    struct row **at = &b->head;
    double theta = theta_of(b, b->head);
    *p = (struct pass){.batch = b};
    while (*at) {
        struct row *r = *at;
        if (p->n == OPS_STEP_ROWS || theta_of(b, r) != theta) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->state = ROW_RUNNING;
        r->seat->waits = false;
        p->row[p->n++] = r;
        b->n_wait--;
    }
    b->tail = at;
    b->counts.n_pass++;
    b->counts.n_row += p->n;
    b->counts.most = max_size(b->counts.most, p->n);
    atomic_store_explicit(&b->n_wanted, p->n, memory_order_relaxed);
}

static void free_scratch(struct batch *b)
{
    if (!b->ops || b->planned_rows == 0)
        return;
    ops_clear(b->ops);
    (void)ops_reserve(b->ops, 0, NULL);
    b->planned_rows = b->planned_pos = 0;
}

static void *work(void *arg)
{
    struct batch *b = arg;
    struct pass p;
    pthread_mutex_lock(&b->lock);
    for (;;) {
        while (!b->quit && b->n_wait == 0) {
            if (b->n_seat == 0)
                free_scratch(b);
            pthread_cond_wait(&b->work, &b->lock);
        }
        if (b->quit)
            break;
        gather(b);
        if (b->n_wait == 0) // they left meanwhile
            continue;
        take_rows(b, &p);
        pthread_mutex_unlock(&b->lock);
        pass_run(&p);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

// ---- owners

// Weights that a step reads.
static double step_weights(const struct llm_config *c)
{
    double d = (double)c->d_model,
           heads = (double)(2 * c->n_head + 2 * c->n_kv) * (double)c->d_head;
    return (double)c->n_layer * d * (heads + 3.0 * (double)c->d_ffn) + d * (double)c->n_vocab;
}

int batch_open(const iv_engine *engine, struct batch **out, struct err *e)
{
    struct batch *b = *out = mem_calloc(1, sizeof *b);
    if (!b)
        return err_set(e, ERR_LIMIT, "decoding: out of memory");
    b->engine = engine;
    b->apart = !engine->gpu && step_weights(&engine->config.llm) < CACHED_WEIGHTS;
    b->tail = &b->head;
    b->hooks = (struct hooks){.user = b, .abort = none_wanted};
    pthread_mutex_init(&b->lock, NULL);
    cond_open(&b->work);
    cond_open(&b->done);
    return 0;
}

void batch_join_always(struct batch *b)
{
    b->apart = false;
}

void batch_close(struct batch *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->quit = true;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->lock);
    if (b->started)
        pthread_join(b->thread, NULL);
    ops_close(b->ops);
    pthread_cond_destroy(&b->work);
    pthread_cond_destroy(&b->done);
    pthread_mutex_destroy(&b->lock);
    mem_free(b);
}

// Whether our thread runs. Caller holds the lock.
static bool start(struct batch *b)
{
    if (b->started || b->broken)
        return b->started;
    b->started = thread_start(&b->thread, work, b) == 0;
    b->broken = !b->started;
    return b->started;
}

void batch_sit(struct batch *b, struct batch_seat *seat)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    *seat = (struct batch_seat){.next = b->seat};
    b->seat = seat;
    b->n_seat++;
    pthread_mutex_unlock(&b->lock);
}

void batch_rise(struct batch *b, struct batch_seat *seat)
{
    struct batch_seat **at;
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    for (at = &b->seat; *at != seat; at = &(*at)->next)
        ;
    *at = seat->next;
    b->n_seat--;
    b->n_away -= seat->away;
    pthread_cond_signal(
        &b->work); // a gathering waits for one less; the last one leaves scratch behind
    pthread_mutex_unlock(&b->lock);
}

// A row that is still waiting leaves. Caller holds the lock.
static void withdraw(struct batch *b, struct row *r)
{
    struct row **at = &b->head;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (!*at)
        b->tail = at;
    b->n_wait--;
    r->seat->waits = false;
    finish_row(r, ERR_ABORT);
}

static void leave(struct batch *b, struct row *r)
{
    if (r->state == ROW_WAITING)
        withdraw(b, r);
    else if (r->state == ROW_RUNNING && !atomic_load(&r->unwanted)) {
        atomic_store(&r->unwanted, true);
        atomic_fetch_sub(&b->n_wanted, 1);
    }
}

// Caller holds the lock, which is given up meanwhile.
static void await(struct batch *b, struct row *r)
{
    while (r->state != ROW_DONE) {
        cond_wait_ms(&b->done, &b->lock, POLL_MS);
        if (r->state == ROW_DONE)
            break;
        pthread_mutex_unlock(&b->lock);
        bool stop = hooks_abort(r->step->hooks);
        pthread_mutex_lock(&b->lock);
        if (stop)
            leave(b, r);
    }
}

int batch_step(struct batch *b, struct batch_seat *seat, const struct batch_step *s, struct err *e)
{
    struct row r = {.step = s, .seat = seat};
    if (!b)
        return BATCH_ALONE;
    pthread_mutex_lock(&b->lock);
    if (b->apart || b->n_seat <= 1 || !start(b)) {
        pthread_mutex_unlock(&b->lock);
        return BATCH_ALONE;
    }
    b->n_away -= seat->away;
    seat->away = false;
    seat->waits = true;
    *b->tail = &r;
    b->tail = &r.next;
    b->n_wait++;
    pthread_cond_signal(&b->work);
    await(b, &r);
    pthread_mutex_unlock(&b->lock);
    return r.rc == ERR_ABORT ? err_set(e, ERR_ABORT, "stopped on request") : r.rc;
}

struct batch_counts batch_counts(struct batch *b)
{
    pthread_mutex_lock(&b->lock);
    struct batch_counts c = b->counts;
    pthread_mutex_unlock(&b->lock);
    return c;
}
