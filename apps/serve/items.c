// SPDX-License-Identifier: MIT
// Media as descriptors, so that a decoder's process can be handed them without a name, and the store of uploads.
//
// Easy to get wrong: memory that the decoder shares is sealed, or it could change what was hashed; ids are
// random and looked up together with their owner, so that knowing one is not having it; a uuid is the client's word, never
// a key across owners.

#define _GNU_SOURCE // seals
#include "items.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"

enum { ENTRIES = 4096, UUID = 257 };

struct entry {
    struct item *item; // NULL = free
    unsigned owner;
    uint64_t used; // clock of the store
    char uuid[UUID];
    struct stored about;
};

struct store {
    pthread_mutex_t lock;
    uint64_t max, bytes, clock;
    size_t n;
    struct entry *entry; // [ENTRIES]
};

int item_memory(void)
{
    return memfd_create("media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

bool item_append(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

struct item *item_make(int fd, uint64_t size, bool sealed, struct item_piece *piece, size_t n_piece,
                       bool (*stop)(void *user), void *user)
{
    struct item *i = heap_calloc(1, sizeof *i);
    bool ok = i != NULL;
    if (ok && sealed)
        ok = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    if (!ok || !digest_file(fd, size, stop, user, i->sha256)) {
        (void)close(fd);
        heap_free(piece);
        heap_free(i);
        return NULL;
    }
    i->fd = fd;
    i->size = size;
    i->sealed = sealed;
    i->piece = piece;
    i->n_piece = n_piece;
    atomic_init(&i->n_holder, 1);
    return i;
}

struct item *item_hold(struct item *i)
{
    atomic_fetch_add(&i->n_holder, 1);
    return i;
}

void item_drop(struct item *i)
{
    if (!i || atomic_fetch_sub(&i->n_holder, 1) != 1)
        return;
    (void)close(i->fd);
    heap_free(i->piece);
    heap_free(i);
}

struct store *store_open(uint64_t max)
{
    struct store *s = heap_calloc(1, sizeof *s);
    if (s)
        s->entry = heap_calloc(ENTRIES, sizeof *s->entry);
    if (!s || !s->entry || pthread_mutex_init(&s->lock, NULL) != 0) {
        if (s)
            heap_free(s->entry);
        heap_free(s);
        return NULL;
    }
    s->max = max;
    return s;
}

static void empty(struct store *s, struct entry *e)
{
    s->bytes -= e->item->size;
    s->n--;
    item_drop(e->item);
    *e = (struct entry){0};
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < ENTRIES; i++) {
        if (s->entry[i].item)
            empty(s, &s->entry[i]);
    }
    (void)pthread_mutex_destroy(&s->lock);
    heap_free(s->entry);
    heap_free(s);
}

static struct entry *oldest(struct store *s)
{
    struct entry *found = NULL;
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &s->entry[i];
        if (e->item && (!found || e->used < found->used))
            found = e;
    }
    return found;
}

static struct entry *vacant(struct store *s)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        if (!s->entry[i].item)
            return &s->entry[i];
    }
    return NULL;
}

static struct entry *find(struct store *s, unsigned owner, const char *id, size_t n,
                          const char *uuid)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &s->entry[i];
        if (!e->item || e->owner != owner)
            continue;
        if (uuid ? strcmp(e->uuid, uuid) == 0 && e->uuid[0]
                 : strlen(e->about.id) == n && memcmp(e->about.id, id, n) == 0)
            return e;
    }
    return NULL;
}

bool store_put(struct store *s, unsigned owner, struct item *i, const char *uuid, const char *name,
               struct stored *out)
{
    char id[2 * 16 + 1];
    if (i->size > s->max || !random_text(id, 16))
        return false;
    (void)pthread_mutex_lock(&s->lock);
    struct entry *e = uuid ? find(s, owner, "", 0, uuid) : NULL;
    if (e)
        empty(s, e);
    while (s->bytes + i->size > s->max || s->n == ENTRIES)
        empty(s, oldest(s));
    e = vacant(s);
    *e = (struct entry){.item = item_hold(i), .owner = owner, .used = ++s->clock};
    (void)snprintf(e->uuid, sizeof e->uuid, "%s", uuid ? uuid : "");
    (void)snprintf(e->about.id, sizeof e->about.id, "video-%s", id);
    (void)snprintf(e->about.name, sizeof e->about.name, "%s", name ? name : "");
    memcpy(e->about.sha256, i->sha256, sizeof e->about.sha256);
    e->about.size = i->size;
    e->about.created = (int64_t)time(NULL);
    s->bytes += i->size;
    s->n++;
    if (out)
        *out = e->about;
    (void)pthread_mutex_unlock(&s->lock);
    return true;
}

struct item *store_get(struct store *s, unsigned owner, const char *id, size_t n_id,
                       const char *uuid, struct stored *out)
{
    struct item *i = NULL;
    (void)pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, owner, id, n_id, uuid);
    if (e) {
        i = item_hold(e->item);
        e->used = ++s->clock;
        if (out)
            *out = e->about;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return i;
}

bool store_remove(struct store *s, unsigned owner, const char *id)
{
    (void)pthread_mutex_lock(&s->lock);
    struct entry *e = find(s, owner, id, strlen(id), NULL);
    if (e)
        empty(s, e);
    (void)pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

size_t store_list(struct store *s, unsigned owner, struct stored *out, size_t max)
{
    size_t n = 0;
    uint64_t below = UINT64_MAX;
    (void)pthread_mutex_lock(&s->lock);
    while (n < max) {
        struct entry *next = NULL;
        for (size_t i = 0; i < ENTRIES; i++) {
            struct entry *e = &s->entry[i];
            if (e->item && e->owner == owner && e->used < below && (!next || e->used > next->used))
                next = e;
        }
        if (!next)
            break;
        below = next->used;
        out[n++] = next->about;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

uint64_t store_bytes(struct store *s, size_t *n_item)
{
    (void)pthread_mutex_lock(&s->lock);
    uint64_t bytes = s->bytes;
    *n_item = s->n;
    (void)pthread_mutex_unlock(&s->lock);
    return bytes;
}
