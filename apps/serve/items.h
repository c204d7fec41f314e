// SPDX-License-Identifier: MIT
// Bytes of media: sealed in memory, or an open file. And the store of those that clients refer to later.
#ifndef IV_APPS_SERVE_ITEMS_H
#define IV_APPS_SERVE_ITEMS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"

struct item_piece {
    uint64_t at, n;
};

// Never changes once made; counted holders.
struct item {
    atomic_uint n_holder;
    int fd;
    uint64_t size;
    bool sealed; // in memory: counts there
    char sha256[DIGEST_TEXT];
    struct item_piece *piece; // of a list of frames, each a file of its own; NULL = one file
    size_t n_piece;
};

// Bytes that are added, then sealed. -1 = no memory.
int item_memory(void); // descriptor
bool item_append(int fd, const void *bytes, size_t n);
// Takes fd over, and piece (may be NULL); on failure too. sealed: fd is of item_memory. NULL = no memory, or stopped.
struct item *item_make(int fd, uint64_t size, bool sealed, struct item_piece *piece, size_t n_piece,
                       bool (*stop)(void *user), void *user);
struct item *item_hold(struct item *i);
void item_drop(struct item *i); // NULL is allowed

enum { STORE_ID = 40, STORE_NAME = 128 };

struct store;

struct stored {
    char id[STORE_ID];
    char name[STORE_NAME]; // the client's file name, "" = none
    uint64_t size;
    int64_t created; // Unix time
    char sha256[DIGEST_TEXT];
};

// At most max bytes are kept; what was used longest ago goes first. NULL = no memory.
struct store *store_open(uint64_t max);
void store_close(struct store *s);
// Keeps a hold on the item for the owner. uuid: the client's own name, NULL = none; it replaces what had it.
// false = larger than the store, no memory.
bool store_put(struct store *s, unsigned owner, struct item *i, const char *uuid, const char *name,
               struct stored *out);
// By id, or by uuid when that is not NULL: a new hold, or NULL. Only the owner's. out may be NULL.
struct item *store_get(struct store *s, unsigned owner, const char *id, size_t n_id,
                       const char *uuid, struct stored *out);
bool store_remove(struct store *s, unsigned owner, const char *id);
// Up to max of the owner's, newest first.
size_t store_list(struct store *s, unsigned owner, struct stored *out, size_t max);
uint64_t store_bytes(struct store *s, size_t *n_item);

#endif
