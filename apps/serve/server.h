// SPDX-License-Identifier: MIT
// What the parts of `ivchat serve` share. Made by serve.c before the first connection, and the same until the last
// one has gone.
#ifndef IV_APPS_SERVE_SERVER_H
#define IV_APPS_SERVE_SERVER_H

#include <stdatomic.h>

#include "apikeys.h"
#include "console.h"
#include "counters.h"
#include "decoder.h"
#include "items.h"
#include "jobs.h"
#include "mediapath.h"
#include "settings.h"

struct mediacache;
struct talks;

struct server {
    const struct settings *s;
    struct console *con;
    iv_engine *engine;   // when ready
    atomic_bool ready;   // the model is loaded
    atomic_bool closing; // no new work
    atomic_uint n_connection;
    atomic_ullong body_bytes; // of requests that are being received, and of media fetched for them
    uint64_t most_bytes;      // of these together
    struct apikeys keys;
    struct mediapath files;
    struct store *store;
    struct mediacache *media;
    struct talks *talks;
    struct queue *queue;
    struct counters counters;
    // one text at a time becomes ids outside of the queue: they take forty times its memory
    pthread_mutex_t tokens;
    struct decoder_limits limits;
    uint64_t max_media_bytes; // pixels of one request's media
    int64_t started;          // Unix time
    double retry_s;           // Retry-After
};

// Positions of a conversation, of which a prompt may take all. The model is loaded.
size_t server_positions(const struct server *s);
// A line on standard error with -v; never what a client sent.
void server_note(struct server *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
