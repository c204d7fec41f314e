// SPDX-License-Identifier: MIT
// A list of offers under one lock. Whoever copies does so without it, counted as a reader of the offer, which stays
// where it is as long as it has any.
//
// Only the positions of a video are taken, never the questions behind them: that a video was there before is no secret
// to one who sent it, what others asked is.
//
// Easy to get wrong: whoever waits offers nothing yet, so no two wait for each other; a kv that is offered may grow,
// which moves it, but what lies before its prompt's end never changes; on a GPU nothing has been copied or moved before
// one has waited for it.
#include "engine/prefixes.h"

#include <pthread.h>

#include "base/cond.h"
#include "base/mem.h"
#include "base/size.h"

enum { POLL_MS = 20 };

struct prefixes {
    pthread_mutex_t lock;
    pthread_cond_t changed; // on the monotonic clock
    struct prefix *first;
};

int prefixes_open(struct prefixes **out, struct err *e)
{
    struct prefixes *p = *out = mem_calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_LIMIT, "engine: out of memory");
    pthread_mutex_init(&p->lock, NULL);
    cond_open(&p->changed);
    return 0;
}

void prefixes_close(struct prefixes *p)
{
    if (!p)
        return;
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

// Positions up to the last row of the video.
static size_t visual_end(const struct prefix *x)
{
    size_t n = x->n;
    while (n > 0 && x->ids[n - 1] >= 0)
        n--;
    return n;
}

// Positions that mine may take from x.
static size_t common(const struct prefix *mine, const struct prefix *x)
{
    size_t i = 0, most = min_size(visual_end(mine), x->n);
    if (x->rows != mine->rows || x->theta != mine->theta || mine->n < mine->tail)
        return 0;
    most = min_size(most, mine->n - mine->tail);
    while (i < most && x->ids[i] == mine->ids[i])
        i++;
    return i < mine->tail ? 0 : i;
}

// ---- under the lock

// The one that has most of mine, rather one that is there than one that is to come.
static struct prefix *find(const struct prefixes *p, const struct prefix *mine, size_t *n)
{
    struct prefix *best = NULL;
    *n = mine->kv->n;
    for (struct prefix *x = p->first; x; x = x->next) {
        size_t m = common(mine, x);
        if (m <= mine->kv->n)
            continue;
        if (!best || (x->ready && !best->ready) || (x->ready == best->ready && m > *n)) {
            best = x;
            *n = m;
        }
    }
    return best;
}

static void await_readers(struct prefixes *p, const struct prefix *mine)
{
    while (mine->readers > 0)
        pthread_cond_wait(&p->changed, &p->lock);
}

static int take(struct kv *kv, const struct kv *from, size_t n, struct err *e)
{
    size_t at = kv->n, rows = n - at;
    for (size_t l = 0; l < kv->n_layer; l++) {
        op_copy(kv->ops, mat_rows(kv->layer[l].k, at, rows), mat_rows(from->layer[l].k, at, rows));
        op_copy(kv->ops, mat_rows(kv->layer[l].v, at, rows), mat_rows(from->layer[l].v, at, rows));
    }
    ops_wait(kv->ops); // what is copied stays as it is only until the reader has gone
    int rc = ops_status(kv->ops, e);
    if (rc == 0)
        kv->n = n;
    return rc;
}

static int begin(struct prefixes *p, struct prefix *mine, const struct hooks *hooks, struct err *e)
{
    struct prefix *x;
    size_t n;
    int rc = 0;
    while ((x = find(p, mine, &n)) && !x->ready) {
        pthread_mutex_unlock(&p->lock);
        bool stop = hooks_abort(hooks);
        pthread_mutex_lock(&p->lock);
        if (stop)
            return err_set(e, ERR_ABORT, "stopped while another call computes the same beginning");
        x = find(p, mine, &n);
        if (x && !x->ready)
            cond_wait_ms(&p->changed, &p->lock, POLL_MS);
    }
    if (x) {
        x->readers++;
        pthread_mutex_unlock(&p->lock);
        rc = take(mine->kv, x->kv, n, e);
        pthread_mutex_lock(&p->lock);
        x->readers--;
        pthread_cond_broadcast(&p->changed);
    }
    if (rc != 0)
        return rc;
    mine->listed = true;
    mine->next = p->first;
    p->first = mine;
    return 0;
}

// ---- any thread

int prefix_begin(struct prefixes *p, struct prefix *mine, const struct hooks *hooks, struct err *e)
{
    if (!p || visual_end(mine) == 0)
        return 0;
    pthread_mutex_lock(&p->lock);
    int rc = begin(p, mine, hooks, e);
    pthread_mutex_unlock(&p->lock);
    return rc;
}

void prefix_ready(struct prefixes *p, struct prefix *mine)
{
    if (!mine->listed)
        return;
    pthread_mutex_lock(&p->lock);
    mine->ready = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void prefix_end(struct prefixes *p, struct prefix *mine)
{
    struct prefix **at;
    if (!mine->listed)
        return;
    pthread_mutex_lock(&p->lock);
    for (at = &p->first; *at != mine; at = &(*at)->next)
        ;
    *at = mine->next;
    mine->listed = mine->ready = false;
    pthread_cond_broadcast(&p->changed);
    await_readers(p, mine);
    pthread_mutex_unlock(&p->lock);
}

int prefix_reserve(struct prefixes *p, struct prefix *mine, size_t n_pos, struct err *e)
{
    if (!mine->listed)
        return kv_reserve(mine->kv, n_pos, e);
    pthread_mutex_lock(&p->lock);
    bool ready = mine->ready;
    mine->ready = false; // nobody begins to copy
    await_readers(p, mine);
    pthread_mutex_unlock(&p->lock);
    int rc = kv_reserve(mine->kv, n_pos, e);
    ops_wait(mine->kv->ops); // readers copy on streams of their own
    pthread_mutex_lock(&p->lock);
    mine->ready = ready;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return rc;
}
