// SPDX-License-Identifier: MIT
// Long work of a server: a bounded queue, some workers, and for each job a channel from its worker to the thread that
// talks to the client. Knows neither HTTP nor models.
#ifndef IV_APPS_SERVE_JOBS_H
#define IV_APPS_SERVE_JOBS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "textbuf.h"

enum { JOB_OUT_MAX = 64 << 20 }; // bytes that a client may be behind

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE };

// Held by the thread that made it and by the queue; the last one to let go calls drop.
struct job {
    void (*run)(struct job *j);  // on a worker, at most once
    void (*drop)(struct job *j); // frees the job and what hangs on it
    atomic_bool cancelled;       // nobody waits for it any more
    int64_t deadline_ns;         // clock_now_ns() at which it is to stop; 0 = never

    // the rest is the queue's, under lock
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum job_state state;
    bool settled; // its first bytes, or its end, tell whether it is a success
    struct textbuf out;
    char stage[16]; // what it is doing
    uint64_t stage_done, stage_total;
    unsigned n_holder;
    struct job *next;
};

int64_t clock_now_ns(void); // monotonic
// A condition on that clock, and a wait of at most ms for it.
// (Not cond_*: the library has functions of these names, which builds with sanitizers link side by side.)
int tick_open(pthread_cond_t *c);
void tick_wait(pthread_cond_t *c, pthread_mutex_t *lock, int ms);

// Before submit. 0, or -1 when there is no memory; drop is then not called.
int job_init(struct job *j, void (*run)(struct job *), void (*drop)(struct job *));
void job_release(struct job *j); // of the maker
void job_cancel(struct job *j);
// Whether the work is to stop: cancelled, or its time is over. Any thread, often.
bool job_stopped(struct job *j);
bool job_late(const struct job *j); // the latter

// For the worker.
void job_settle(struct job *j); // what comes is a success
void job_write(struct job *j, const char *bytes, size_t n);
void job_progress(struct job *j, const char *stage, uint64_t done, uint64_t total);

struct job_view {
    enum job_state state;
    bool settled, failed; // failed: the client was too slow, or memory is short
    char stage[16];
    uint64_t stage_done, stage_total;
};
// For the maker: waits up to ms for bytes, for being settled (unless it was) or for the end; copies at most
// max bytes into to (NULL = none are taken).
size_t job_read(struct job *j, char *to, size_t max, int ms, bool settled, struct job_view *view);

struct queue;
enum { QUEUE_BUSY = -1, QUEUE_CLOSING = -2 };

// n_worker threads; at most n_wait jobs wait behind those that run. NULL = no memory or threads.
struct queue *queue_open(size_t n_worker, size_t n_wait);
// 0: the job will run, or be dropped when it was cancelled before its turn.
int queue_submit(struct queue *q, struct job *j);
// Takes no more jobs and returns when none is left, or after ms.
void queue_drain(struct queue *q, int ms);
// Cancels what is left and ends the workers; submit goes on to say QUEUE_CLOSING.
void queue_stop(struct queue *q);
// After that, when nobody can submit any more. NULL is allowed.
void queue_free(struct queue *q);

struct queue_load {
    size_t running, waiting, n_worker;
    uint64_t n_run; // jobs so far
    double busy_s;  // seconds that workers worked
};
struct queue_load queue_load_of(struct queue *q);

#endif
