// SPDX-License-Identifier: MIT
// The scheduler of a download. Every thread owns one connection and takes the most urgent of
//
//   1. adding arrived bytes to a checksum       (a file's bytes in order, one thread a file)
//   2. a run of missing chunks of an open file  (64 MiB, smaller towards the end)
//   3. opening the next file
//
// until all files are in place or one thread has failed. The calling thread only looks on: it passes on
// progress and log lines and asks the caller whether to stop.
//
// Easy to get wrong: a file that another process has locked is put aside, not waited for, so that two
// processes share the work; a checksum is added in slices, or the last file's would begin when the network is
// already silent; a thread that fails must wake the others.
#include "hub/fetch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/cpu_count.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"
#include "hub/fetch_parts.h"

enum { THREADS_MAX = 64, RUN_MAX = 64, RUN_MIN = 4, TICK_MS = 100 }; // runs in chunks

enum job_kind { JOB_NONE, JOB_OPEN, JOB_CHUNKS, JOB_SUM };
struct job {
    enum job_kind kind;
    struct fetch_file *file;
    size_t from, n;
};

void fetch_say(struct fetch *p, const char *fmt, ...)
{
    char line[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&p->lock);
    if (p->n_said < sizeof p->said / sizeof *p->said)
        memcpy(p->said[p->n_said++], line, sizeof line);
    pthread_mutex_unlock(&p->lock);
}

static void say_line(void *user, const char *line)
{
    fetch_say(user, "%s", line);
}

// Waits for a change, at most TICK_MS. Under the lock.
static void wait_tick(struct fetch *p)
{
    cond_wait_ms(&p->change, &p->lock, TICK_MS);
}

// ---- choice of work, under the lock

static bool wants_sum(const struct fetch *p, const struct fetch_file *f)
{
    if (f->sum_busy || p->n_summing >= p->max_summing)
        return false;
    if (f->n_there == f->n_chunk)
        return f->n_stream == 0;
    return (uint64_t)f->n_there * JOURNAL_CHUNK >= f->summed + SUM_SLICE / 4 &&
           finish_ready(f) >= f->summed + SUM_SLICE / 4;
}

// A run of missing chunks from the first on; n 0 = none to be had.
static void pick_run(const struct fetch *p, struct fetch_file *f, struct job *j)
{
    j->n = 0;
    while (f->first_missing < f->n_chunk && f->chunk[f->first_missing] != CHUNK_MISSING)
        f->first_missing++;
    if (f->first_missing == f->n_chunk || (f->whole && f->n_stream > 0))
        return;
    j->from = f->whole ? 0 : f->first_missing;
    size_t left = f->n_chunk - f->n_there;
    size_t most = max_size(RUN_MIN, min_size(RUN_MAX, left / (2 * (size_t)p->n_thread)));
    if (f->whole)
        most = f->n_chunk;
    while (j->n < most && j->from + j->n < f->n_chunk &&
           (f->whole || f->chunk[j->from + j->n] == CHUNK_MISSING))
        j->n++;
}

static bool take_running(struct fetch *p, struct job *j)
{
    while (p->first < p->next && p->file[p->first].state == FETCH_DONE)
        p->first++;
    for (size_t i = p->first; i < p->next; i++) {
        struct fetch_file *f = &p->file[i];
        if (f->state == FETCH_RUNNING && wants_sum(p, f)) {
            f->sum_busy = true;
            p->n_summing++;
            *j = (struct job){.kind = JOB_SUM, .file = f};
            return true;
        }
    }
    for (size_t i = p->first; i < p->next; i++) {
        struct fetch_file *f = &p->file[i];
        if (f->state != FETCH_RUNNING)
            continue;
        pick_run(p, f, j);
        if (j->n == 0)
            continue;
        for (size_t c = j->from; c < j->from + j->n; c++) {
            if (f->chunk[c] == CHUNK_MISSING)
                f->chunk[c] = CHUNK_TAKEN;
        }
        f->n_stream++;
        j->kind = JOB_CHUNKS;
        j->file = f;
        return true;
    }
    return false;
}

static bool take_waiting(struct fetch *p, struct job *j)
{
    double now = clock_s();
    struct fetch_file *f = NULL;
    for (size_t i = p->first; i < p->next && !f; i++) {
        if (p->file[i].state == FETCH_BUSY && p->file[i].not_before <= now)
            f = &p->file[i];
    }
    if (!f && p->next < p->order->n)
        f = &p->file[p->next++];
    if (!f)
        return false;
    f->state = FETCH_WAITING; // nobody else picks it up
    *j = (struct job){.kind = JOB_OPEN, .file = f};
    return true;
}

static bool take(struct fetch *p, struct job *j)
{
    *j = (struct job){0};
    pthread_mutex_lock(&p->lock);
    while (!atomic_load(&p->stop) && p->n_done < p->order->n) {
        if (take_running(p, j) || take_waiting(p, j))
            break;
        wait_tick(p);
    }
    pthread_mutex_unlock(&p->lock);
    return j->kind != JOB_NONE;
}

// ---- threads

static void done(struct fetch *p, const struct job *j, int rc, const struct err *e)
{
    pthread_mutex_lock(&p->lock);
    if (j->kind == JOB_CHUNKS)
        j->file->n_stream--;
    if (j->kind == JOB_SUM) {
        j->file->sum_busy = false;
        p->n_summing--;
    }
    if (rc != 0 && p->rc == 0 && !atomic_load(&p->stop)) {
        p->rc = rc;
        p->failure = *e;
        atomic_store(&p->stop, true);
    }
    pthread_cond_broadcast(&p->change);
    pthread_mutex_unlock(&p->lock);
}

static void *thread_main(void *user)
{
    struct fetch_thread *t = user;
    struct job j;
    while (take(t->fetch, &j)) {
        struct err e = {0};
        int rc = 0;
        if (j.kind == JOB_OPEN)
            rc = transfer_open(t, j.file, &e);
        else if (j.kind == JOB_CHUNKS)
            rc = transfer_chunks(t, j.file, j.from, j.n, &e);
        else
            rc = finish_sum(t, j.file, &e);
        done(t->fetch, &j, rc, &e);
    }
    return NULL;
}

static bool is_stopped(void *user)
{
    return atomic_load(&((struct fetch *)user)->stop);
}

static int thread_init(struct fetch *p, struct fetch_thread *t, struct err *e)
{
    const struct fetch_order *o = p->order;
    struct http_options options = {.endpoint = o->env->endpoint,
                                   .token = o->env->token,
                                   .ca_file = o->env->ca_file,
                                   .stall_s = o->env->stall_s,
                                   .user = p,
                                   .stop = is_stopped};
    t->fetch = p;
    t->remote = (struct remote){
        .env = o->env, .name = o->name, .retries = o->retries, .user = p, .say = say_line};
    memcpy(t->remote.base_model, o->base_model, strlen(o->base_model) + 1);
    t->piece = mem_calloc(SUM_PIECE, 1);
    if (!t->piece)
        return err_set(e, ERR_LIMIT, "download: out of memory");
    return http_open(&options, &t->remote.http, e);
}

static void thread_close(struct fetch_thread *t)
{
    http_close(t->remote.http);
    mem_free(t->piece);
}

// ---- the calling thread

static void show(struct fetch *p, struct fetch_view *view)
{
    char said[sizeof p->said / sizeof *p->said][ERR_MSG_MAX];
    const struct fetch_order *o = p->order;
    pthread_mutex_lock(&p->lock);
    unsigned n_said = p->n_said;
    memcpy(said, p->said, n_said * sizeof *said);
    p->n_said = 0;
    for (size_t i = 0; i < o->n; i++) {
        const struct fetch_file *f = &p->file[i];
        uint64_t arrived = atomic_load(&f->arrived);
        view[i].state = f->state;
        view[i].done =
            f->state == FETCH_DONE ? f->remote->size : min_size(arrived, f->remote->size);
    }
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < n_said; i++)
        log_line(o->hooks, LOG_WARN, "%s", said[i]);
    if (o->progress)
        o->progress(o->user, view, o->n);
}

static void look_on(struct fetch *p, struct fetch_view *view)
{
    double shown = 0;
    pthread_mutex_lock(&p->lock);
    while (!atomic_load(&p->stop) && p->n_done < p->order->n) {
        wait_tick(p);
        double now = clock_s();
        if (now - shown < 1e-3 * TICK_MS)
            continue;
        shown = now;
        pthread_mutex_unlock(&p->lock);
        show(p, view);
        bool abort = hooks_abort(p->order->hooks);
        pthread_mutex_lock(&p->lock);
        if (abort && p->rc == 0) {
            p->rc = err_set(&p->failure, ERR_ABORT, "download stopped");
            atomic_store(&p->stop, true);
        }
    }
    pthread_cond_broadcast(&p->change);
    pthread_mutex_unlock(&p->lock);
}

static int run(struct fetch *p, struct fetch_view *view, struct err *e)
{
    struct fetch_thread *thread = mem_calloc(p->n_thread, sizeof *thread);
    unsigned n = 0, begun = 0;
    int rc = thread ? 0 : err_set(e, ERR_LIMIT, "download: out of memory");
    for (; rc == 0 && n < p->n_thread; n++)
        rc = thread_init(p, &thread[n], e);
    for (; rc == 0 && begun < p->n_thread; begun++) {
        if (thread_start(&thread[begun].id, thread_main, &thread[begun]) != 0)
            break;
    }
    if (rc == 0 && begun == 0)
        rc = err_set(e, ERR_LIMIT, "download: no thread can be had");
    if (rc == 0)
        look_on(p, view);
    for (unsigned i = 0; i < begun; i++)
        pthread_join(thread[i].id, NULL);
    for (unsigned i = 0; i < n; i++)
        thread_close(&thread[i]);
    mem_free(thread);
    if (rc == 0 && p->rc != 0)
        rc = err_set(e, p->rc, "%s", p->failure.msg);
    return rc;
}

static void init_sync(struct fetch *p)
{
    pthread_mutex_init(&p->lock, NULL);
    cond_open(&p->change);
}

int fetch_files(const struct fetch_order *o, uint64_t *fetched, struct err *e)
{
    struct fetch_view *view = mem_calloc(max_size(o->n, 1), sizeof *view);
    struct fetch *p = mem_calloc(1, sizeof *p);
    struct fetch_file *file = mem_calloc(max_size(o->n, 1), sizeof *file);
    int rc = 0;
    *fetched = 0;
    if (!view || !p || !file)
        TRY(err_set(e, ERR_LIMIT, "out of memory for a download of %zu files", o->n));
    p->order = o;
    p->file = file;
    p->n_thread = (unsigned)min_size(o->n_connection, THREADS_MAX);
    p->max_summing = cpu_count();
    init_sync(p);
    for (size_t i = 0; i < o->n; i++) {
        view[i] = (struct fetch_view){.path = o->file[i]->path, .size = o->file[i]->size};
        file[i].remote = o->file[i];
        file[i].data_fd = file[i].journal_fd = file[i].lock_fd = -1;
    }
    if (o->n)
        rc = run(p, view, e);
    show(p, view);
    *fetched = atomic_load(&p->fetched);
    for (size_t i = 0; i < o->n; i++) {
        finish_close(&file[i]);
        place_free(&file[i].place);
        mem_free(file[i].url);
        mem_free(file[i].chunk);
    }
    pthread_cond_destroy(&p->change);
    pthread_mutex_destroy(&p->lock);
fail:
    mem_free(file);
    mem_free(view);
    mem_free(p);
    return rc;
}
