// SPDX-License-Identifier: MIT
// A list of what is under way, under one lock. The result travels in the flight itself, since a cache may be too
// small to keep it.
//
// Easy to get wrong: a thread holds one flight at most and waits for none while it does, so there is no circle; a
// flight leaves the list when it lands, so that whoever comes later looks into the cache, and its memory lives
// until the last of those who waited has looked.
#include "engine/flight.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/cond.h"
#include "base/mem.h"

enum { POLL_MS = 20 };

struct flight {
    uint8_t key[SHA256_BYTES];
    bool landed;
    struct shared_rows *rows; // when landed; NULL = failed
    size_t n_holder;          // who does the work and who waits
    struct flight *next;
};

struct flights {
    pthread_mutex_t lock;
    pthread_cond_t landed; // on the monotonic clock
    struct flight *first;
};

int flights_open(struct flights **out, struct err *e)
{
    *out = mem_calloc(1, sizeof **out);
    if (!*out)
        return err_set(e, ERR_LIMIT, "cache: out of memory");
    pthread_mutex_init(&(*out)->lock, NULL);
    cond_open(&(*out)->landed);
    return 0;
}

void flights_close(struct flights *f)
{
    if (!f)
        return;
    pthread_cond_destroy(&f->landed);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

// ---- under the lock

static struct flight *find(struct flights *f, const uint8_t *key)
{
    struct flight *x = f->first;
    while (x && memcmp(x->key, key, SHA256_BYTES) != 0)
        x = x->next;
    return x;
}

static void leave(struct flight *x)
{
    if (--x->n_holder > 0)
        return;
    shared_rows_drop(&x->rows);
    mem_free(x);
}

// Until x has landed; the lock is given up while hooks are asked.
static int wait_for(struct flights *f, const struct flight *x, const struct hooks *hooks,
                    struct err *e)
{
    while (!x->landed) {
        pthread_mutex_unlock(&f->lock);
        bool stop = hooks_abort(hooks);
        pthread_mutex_lock(&f->lock);
        if (stop)
            return err_set(e, ERR_ABORT, "stopped while another call encodes the same media");
        if (!x->landed)
            cond_wait_ms(&f->landed, &f->lock, POLL_MS);
    }
    return 0;
}

static int begin(struct flights *f, const uint8_t *key, struct flight **mine, struct err *e)
{
    struct flight *x = mem_calloc(1, sizeof *x);
    if (!x)
        return err_set(e, ERR_LIMIT, "cache: out of memory");
    memcpy(x->key, key, SHA256_BYTES);
    x->n_holder = 1;
    x->next = f->first;
    f->first = *mine = x;
    return 0;
}

// ---- any thread

int flight_join(struct flights *f, const uint8_t key[SHA256_BYTES], const struct hooks *hooks,
                struct flight **mine, struct shared_rows **rows, struct err *e)
{
    struct flight *x;
    int rc = 0;
    *mine = NULL;
    *rows = NULL;
    pthread_mutex_lock(&f->lock);
    while (rc == 0 && !*rows && (x = find(f, key))) {
        x->n_holder++;
        rc = wait_for(f, x, hooks, e);
        if (rc == 0)
            *rows = shared_rows_hold(x->rows);
        leave(x);
    }
    if (rc == 0 && !*rows)
        rc = begin(f, key, mine, e);
    pthread_mutex_unlock(&f->lock);
    return rc;
}

void flight_land(struct flights *f, struct flight *mine, struct shared_rows *rows)
{
    pthread_mutex_lock(&f->lock);
    struct flight **at = &f->first;
    while (*at != mine)
        at = &(*at)->next;
    *at = mine->next;
    mine->landed = true;
    mine->rows = shared_rows_hold(rows);
    leave(mine);
    pthread_cond_broadcast(&f->landed);
    pthread_mutex_unlock(&f->lock);
}
