// SPDX-License-Identifier: MIT
// The engine's memory tier: a table of entries with the time of their last use, under one lock. Few and
// large entries (megabytes each in a real model), so it is searched from end to end.
//
// Easy to get wrong: a parked KV belongs to the cache and may be freed by any thread, so a session must
// take it back before it looks at it; reading and writing of files, and giving memory back (hundreds of
// megabytes take milliseconds), happen outside the lock.
#include "engine/cache.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "engine/cache_dir.h"

struct entry {
    struct cache_key key;     // of rows
    struct shared_rows *rows; // NULL = a KV
    const void *owner;        // of the KV
    struct kv kv;
    uint64_t bytes, used; // used: of the clock
};

struct cache {
    uint64_t limit;
    struct cache_dir *dir; // NULL = memory only
    struct flights *flights;
    pthread_mutex_t lock; // for the rest
    struct entry *entry;  // [CACHE_ENTRIES_MAX], the first n in use, in no order
    size_t n;
    uint64_t bytes, clock;
};

int cache_open(const struct cache_options *o, struct cache **out, struct err *e)
{
    int rc = 0;
    *out = NULL;
    struct cache *c = mem_calloc(1, sizeof *c);
    struct entry *entry = o->bytes > 0 ? mem_calloc(CACHE_ENTRIES_MAX, sizeof *entry) : NULL;
    if (!c || (o->bytes > 0 && !entry)) {
        mem_free(c);
        mem_free(entry);
        return err_set(e, ERR_LIMIT, "cache: out of memory");
    }
    c->entry = entry;
    c->limit = o->bytes;
    pthread_mutex_init(&c->lock, NULL);
    TRY(flights_open(&c->flights, e));
    if (o->dir && o->bytes > 0)
        TRY(cache_dir_open(o->dir, o->dir_bytes, o->hooks, &c->dir, e));
    *out = c;
    return 0;
fail:
    cache_close(c);
    return rc;
}

static void entry_free(struct entry *x)
{
    if (x->rows)
        shared_rows_drop(&x->rows);
    else
        kv_free(&x->kv);
}

void cache_close(struct cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n; i++)
        entry_free(&c->entry[i]);
    cache_dir_close(c->dir);
    flights_close(c->flights);
    pthread_mutex_destroy(&c->lock);
    mem_free(c->entry);
    mem_free(c);
}

bool cache_on(const struct cache *c)
{
    return c && c->limit > 0;
}

uint64_t cache_limit(const struct cache *c)
{
    return c->limit;
}

bool cache_on_disk(const struct cache *c)
{
    return c && c->dir;
}

// ---- under the lock

// Takes entry i out of the table; what it holds is *out's.
static void take(struct cache *c, size_t i, struct entry *out)
{
    *out = c->entry[i];
    c->bytes -= out->bytes;
    c->entry[i] = c->entry[--c->n];
}

static size_t oldest(const struct cache *c)
{
    size_t best = 0;
    for (size_t i = 1; i < c->n; i++)
        if (c->entry[i].used < c->entry[best].used)
            best = i;
    return best;
}

static void put(struct cache *c, const struct entry *x)
{
    c->entry[c->n] = *x;
    c->entry[c->n].used = ++c->clock;
    c->bytes += x->bytes;
    c->n++;
}

static struct entry *find_rows(struct cache *c, const struct cache_key *key)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->entry[i].rows && memcmp(&c->entry[i].key, key, sizeof *key) == 0)
            return &c->entry[i];
    return NULL;
}

// ---- taking the lock

// Puts x into the table, for which the oldest entries go; false: it is larger than everything, or rows of that key
// are there.
static bool put_with_room(struct cache *c, const struct entry *x)
{
    struct entry old;
    pthread_mutex_lock(&c->lock);
    bool wanted = x->bytes <= c->limit;
    while (wanted && (c->n == CACHE_ENTRIES_MAX || x->bytes > c->limit - c->bytes)) {
        take(c, oldest(c), &old);
        if (!old.rows) { // keys and values need their session's stream, which ends once unpark has had the lock
            entry_free(&old);
            continue;
        }
        pthread_mutex_unlock(&c->lock);
        entry_free(&old);
        pthread_mutex_lock(&c->lock);
    }
    wanted = wanted && !(x->rows && find_rows(c, &x->key));
    if (wanted)
        put(c, x);
    pthread_mutex_unlock(&c->lock);
    return wanted;
}

static struct shared_rows *find_in_memory(struct cache *c, const struct cache_key *key)
{
    struct shared_rows *r = NULL;
    pthread_mutex_lock(&c->lock);
    struct entry *x = find_rows(c, key);
    if (x) {
        x->used = ++c->clock;
        r = shared_rows_hold(x->rows);
    }
    pthread_mutex_unlock(&c->lock);
    return r;
}

static void keep_in_memory(struct cache *c, const struct cache_key *key, struct shared_rows *r)
{
    struct entry x = {.key = *key, .rows = shared_rows_hold(r), .bytes = shared_rows_bytes(r)};
    struct shared_rows *there = find_in_memory(c, key); // before others go for its sake
    if (there || !put_with_room(c, &x))
        shared_rows_drop(&x.rows);
    shared_rows_drop(&there);
}

// ---- visual rows

static struct shared_rows *look_up(struct cache *c, const struct cache_key *key, size_t n, size_t d,
                                   const struct hooks *hooks)
{
    struct shared_rows *r = find_in_memory(c, key);
    if (!r && c->dir) {
        r = cache_dir_read(c->dir, key, n, d, hooks);
        if (r)
            keep_in_memory(c, key, r);
    }
    if (r && (r->n != n || r->d != d))
        shared_rows_drop(&r); // cannot be: both are part of the key
    return r;
}

int cache_want(struct cache *c, const struct cache_key *key, size_t n, size_t d,
               const struct hooks *hooks, struct flight **work, struct shared_rows **rows,
               struct err *e)
{
    int rc = 0;
    *work = NULL;
    *rows = NULL;
    if (!cache_on(c))
        return 0;
    TRY(flight_join(c->flights, key->digest, hooks, work, rows, e));
    if (*rows)
        return 0;
    *rows = look_up(c, key, n, d, hooks);
    if (*rows) {
        flight_land(c->flights, *work, *rows);
        *work = NULL;
    }
fail:
    return rc;
}

void cache_keep(struct cache *c, const struct cache_key *key, struct shared_rows *r,
                const struct hooks *hooks)
{
    if (!cache_on(c))
        return;
    keep_in_memory(c, key, r);
    if (c->dir)
        cache_dir_write(c->dir, key, r, hooks);
}

void cache_made(struct cache *c, const struct cache_key *key, struct flight *work,
                struct shared_rows *r, const struct hooks *hooks)
{
    if (r)
        keep_in_memory(c, key, r); // before it lands: who comes later finds it here
    flight_land(c->flights, work, r);
    if (r && c->dir)
        cache_dir_write(c->dir, key, r, hooks);
}

// ---- KV of idle sessions

void cache_park(struct cache *c, const void *owner, struct kv *kv, size_t bytes)
{
    struct entry x = {.owner = owner, .kv = *kv, .bytes = bytes};
    if (!cache_on(c) || !put_with_room(c, &x))
        kv_free(&x.kv);
    memset(kv, 0, sizeof *kv);
}

bool cache_unpark(struct cache *c, const void *owner, struct kv *kv)
{
    bool there = false;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n && !there; i++) {
        if (c->entry[i].rows || c->entry[i].owner != owner)
            continue;
        struct entry x;
        take(c, i, &x);
        *kv = x.kv;
        there = true;
    }
    pthread_mutex_unlock(&c->lock);
    return there;
}

struct cache_use cache_usage(struct cache *c)
{
    struct cache_use u = {0};
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n; i++) {
        u.n_rows += c->entry[i].rows != NULL;
        u.n_kv += c->entry[i].rows == NULL;
    }
    u.bytes = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return u;
}
