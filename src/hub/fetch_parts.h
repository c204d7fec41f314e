// SPDX-License-Identifier: MIT
// What the scheduler of a download (fetch.c), its transfers (transfer.c) and its checks (finish.c) share.
#ifndef IV_HUB_FETCH_PARTS_H
#define IV_HUB_FETCH_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/sha256.h"
#include "hub/fetch.h"
#include "hub/http.h"
#include "hub/journal.h"
#include "hub/remote.h"

enum { CHUNK_MISSING, CHUNK_THERE, CHUNK_TAKEN };

// Guarded by fetch.lock except where noted.
struct fetch_file {
    const struct remote_file *remote;
    enum fetch_state state;
    double not_before; // FETCH_BUSY: when to look at the lock again, seconds
    bool told_busy;
    // set by the thread that opens the file, before it is FETCH_RUNNING
    char *url;      // where the bytes are; replaced when it has expired
    unsigned n_url; // counts them
    bool locating;  // a thread asks for the next one
    char etag[REPO_ETAG_MAX + 1];
    struct place place;
    int data_fd, journal_fd, lock_fd;
    bool resumed; // chunks of an earlier run were taken over
    // pieces
    uint8_t *chunk;                         // [n_chunk] CHUNK_*
    size_t n_chunk, n_there, first_missing; // no CHUNK_MISSING below first_missing
    bool whole;         // the server ignores ranges: one stream from the beginning
    unsigned n_stream;  // transfers under way
    unsigned n_refresh; // how often the URL was asked for again since a chunk arrived
    // checksum of [0,summed), by one thread at a time
    struct sha256 sum;
    bool sum_begun, sum_busy;
    uint64_t summed;
    atomic_ullong arrived; // for the eyes: bytes, those within chunks included; any thread
};

struct fetch {
    const struct fetch_order *order;
    pthread_mutex_t lock;
    pthread_cond_t change;
    atomic_bool stop;
    struct fetch_file *file; // [order->n]
    size_t first, next; // files below first are done, those from next on have not been looked at
    size_t n_done;
    unsigned n_thread, n_summing, max_summing;
    struct err failure; // the first one
    int rc;
    atomic_ullong fetched;
    char said[8][ERR_MSG_MAX]; // lines for the log, passed on by the calling thread
    unsigned n_said;
};

// One of the threads.
struct fetch_thread {
    struct fetch *fetch;
    pthread_t id;
    struct remote remote;
    uint8_t *piece; // for checksums
};

enum { SUM_PIECE = 1 << 20, SUM_SLICE = 32 << 20 };

void fetch_say(struct fetch *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Finds out where a file is, locks and opens it. It is then FETCH_RUNNING, FETCH_DONE, or FETCH_BUSY when
// another process has it.
int transfer_open(struct fetch_thread *t, struct fetch_file *f, struct err *e);
// Downloads chunks [from, from + n), which are CHUNK_TAKEN by the caller.
int transfer_chunks(struct fetch_thread *t, struct fetch_file *f, size_t from, size_t n,
                    struct err *e);

// Bytes from the beginning that have arrived without a gap. Under the lock.
uint64_t finish_ready(const struct fetch_file *f);
// Adds what is ready, at most SUM_SLICE, to the checksum; puts the file in place after its last byte. The
// caller has set sum_busy.
int finish_sum(struct fetch_thread *t, struct fetch_file *f, struct err *e);
// Closes what is open.
void finish_close(struct fetch_file *f);

#endif
