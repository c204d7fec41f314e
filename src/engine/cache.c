// SPDX-License-Identifier: MIT
// The engine's memory tier: a table of entries with the time of their last use, under one lock. Few and
// large entries (megabytes each in a real model), so it is searched from end to end.
//
// Easy to get wrong: a parked KV belongs to the cache and may be freed by any thread, so a session must
// take it back before it looks at it; reading and writing of files happens outside the lock.
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
    pthread_mutex_t lock;  // for the rest
    struct entry *entry;   // [CACHE_ENTRIES_MAX], the first n in use, in no order
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

// Room for one more entry of `bytes`, or false: it is larger than everything.
static bool make_room(struct cache *c, uint64_t bytes)
{
    if (bytes > c->limit)
        return false;
    while (c->n == CACHE_ENTRIES_MAX || bytes > c->limit - c->bytes) {
        struct entry x;
        take(c, oldest(c), &x);
        entry_free(&x);
    }
    return true;
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
    struct entry x = {.key = *key, .rows = r, .bytes = shared_rows_bytes(r)};
    pthread_mutex_lock(&c->lock);
    if (!find_rows(c, key) && make_room(c, x.bytes)) {
        shared_rows_hold(r);
        put(c, &x);
    }
    pthread_mutex_unlock(&c->lock);
}

// ---- visual rows

struct shared_rows *cache_find(struct cache *c, const struct cache_key *key, size_t n, size_t d)
{
    if (!cache_on(c))
        return NULL;
    struct shared_rows *r = find_in_memory(c, key);
    if (!r && c->dir) {
        r = cache_dir_read(c->dir, key, n, d);
        if (r)
            keep_in_memory(c, key, r);
    }
    if (r && (r->n != n || r->d != d))
        shared_rows_drop(&r); // cannot be: both are part of the key
    return r;
}

void cache_keep(struct cache *c, const struct cache_key *key, struct shared_rows *r)
{
    if (!cache_on(c))
        return;
    keep_in_memory(c, key, r);
    if (c->dir)
        cache_dir_write(c->dir, key, r);
}

// ---- KV of idle sessions

void cache_park(struct cache *c, const void *owner, struct kv *kv, size_t bytes)
{
    struct entry x = {.owner = owner, .kv = *kv, .bytes = bytes};
    bool kept = false;
    pthread_mutex_lock(&c->lock);
    if (cache_on(c) && make_room(c, bytes)) {
        put(c, &x);
        kept = true;
    }
    pthread_mutex_unlock(&c->lock);
    if (!kept)
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
