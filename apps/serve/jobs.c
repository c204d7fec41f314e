// SPDX-License-Identifier: MIT
// The queue: first come, first served; a job that was cancelled while it waited leaves it at once.
//
//   maker: init, submit, read ... read, release          worker: run -> settle, write ..., end
//
// Lock order: queue before job. Easy to get wrong: run may still be at work when the maker has gone, so everything it
// touches lives until both let go; a full channel must not block the worker (others wait for it), so it fails.

#include "jobs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heap.h"
#include "workthread.h"

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct job *head, **tail;
    size_t n_wait, n_wait_max, n_running, n_worker;
    uint64_t n_run;
    double busy_s;
    bool closing, ending;
    struct job **current; // [n_worker]
    pthread_t *thread;
};

int64_t clock_now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int tick_open(pthread_cond_t *c)
{
    pthread_condattr_t a;
    int rc = pthread_condattr_init(&a);
    if (rc == 0) {
        (void)pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
        rc = pthread_cond_init(c, &a);
        (void)pthread_condattr_destroy(&a);
    }
    return rc;
}

static struct timespec moment(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
                             .tv_nsec = (long)(ns % 1000000000)};
}

void tick_wait(pthread_cond_t *c, pthread_mutex_t *lock, int ms)
{
    struct timespec until = moment(clock_now_ns() + (int64_t)ms * 1000000);
    (void)pthread_cond_timedwait(c, lock, &until);
}

int job_init(struct job *j, void (*run)(struct job *), void (*drop)(struct job *))
{
    j->run = run;
    j->drop = drop;
    j->n_holder = 1;
    j->out.max = JOB_OUT_MAX;
    atomic_init(&j->cancelled, false);
    if (pthread_mutex_init(&j->lock, NULL) != 0)
        return -1;
    if (tick_open(&j->changed) == 0)
        return 0;
    (void)pthread_mutex_destroy(&j->lock);
    return -1;
}

void job_release(struct job *j)
{
    (void)pthread_mutex_lock(&j->lock);
    bool last = --j->n_holder == 0;
    (void)pthread_mutex_unlock(&j->lock);
    if (!last)
        return;
    textbuf_free(&j->out);
    (void)pthread_cond_destroy(&j->changed);
    (void)pthread_mutex_destroy(&j->lock);
    j->drop(j);
}

void job_cancel(struct job *j)
{
    atomic_store(&j->cancelled, true);
}

bool job_late(const struct job *j)
{
    return j->deadline_ns && clock_now_ns() > j->deadline_ns;
}

bool job_stopped(struct job *j)
{
    return atomic_load(&j->cancelled) || job_late(j);
}

void job_settle(struct job *j)
{
    (void)pthread_mutex_lock(&j->lock);
    j->settled = true;
    (void)pthread_cond_broadcast(&j->changed);
    (void)pthread_mutex_unlock(&j->lock);
}

void job_write(struct job *j, const char *bytes, size_t n)
{
    (void)pthread_mutex_lock(&j->lock);
    textbuf_add(&j->out, bytes, n);
    bool failed = j->out.failed;
    (void)pthread_cond_broadcast(&j->changed);
    (void)pthread_mutex_unlock(&j->lock);
    if (failed)
        job_cancel(j);
}

void job_progress(struct job *j, const char *stage, uint64_t done, uint64_t total)
{
    (void)pthread_mutex_lock(&j->lock);
    (void)snprintf(j->stage, sizeof j->stage, "%s", stage);
    j->stage_done = done;
    j->stage_total = total;
    (void)pthread_mutex_unlock(&j->lock);
}

size_t job_read(struct job *j, char *to, size_t max, int ms, bool settled, struct job_view *view)
{
    struct timespec until = moment(clock_now_ns() + (int64_t)ms * 1000000);
    (void)pthread_mutex_lock(&j->lock);
    while (j->state != JOB_DONE && !(to && j->out.len > 0) && !(j->settled && !settled) &&
           !j->out.failed) {
        if (pthread_cond_timedwait(&j->changed, &j->lock, &until) == ETIMEDOUT)
            break;
    }
    size_t n = to ? j->out.len : 0;
    n = n < max ? n : max;
    if (n > 0) {
        memcpy(to, j->out.data, n);
        textbuf_shift(&j->out, n);
    }
    *view = (struct job_view){.state = j->state,
                              .settled = j->settled,
                              .failed = j->out.failed,
                              .stage_done = j->stage_done,
                              .stage_total = j->stage_total};
    memcpy(view->stage, j->stage, sizeof view->stage);
    // what is left in the channel is not the end of the job
    if (view->state == JOB_DONE && to && j->out.len > 0)
        view->state = JOB_RUNNING;
    (void)pthread_mutex_unlock(&j->lock);
    return n;
}

static void set_state(struct job *j, enum job_state state)
{
    (void)pthread_mutex_lock(&j->lock);
    j->state = state;
    (void)pthread_cond_broadcast(&j->changed);
    (void)pthread_mutex_unlock(&j->lock);
}

// The next job; NULL = the queue ends. Caller holds the lock.
static struct job *next_job(struct queue *q)
{
    while (!q->head && !q->ending)
        (void)pthread_cond_wait(&q->work, &q->lock);
    struct job *j = q->head;
    if (!j)
        return NULL;
    q->head = j->next;
    if (!q->head)
        q->tail = &q->head;
    q->n_wait--;
    q->n_running++;
    return j;
}

struct worker_place {
    struct queue *queue;
    size_t i;
};

static void *worker(void *arg)
{
    struct worker_place place = *(struct worker_place *)arg;
    struct queue *q = place.queue;
    struct job *j;
    heap_free(arg);
    (void)pthread_mutex_lock(&q->lock);
    while ((j = next_job(q))) {
        q->current[place.i] = j;
        bool run = !q->ending;
        (void)pthread_mutex_unlock(&q->lock);
        int64_t start = clock_now_ns();
        if (run && !atomic_load(&j->cancelled)) {
            set_state(j, JOB_RUNNING);
            j->run(j);
        }
        set_state(j, JOB_DONE);
        (void)pthread_mutex_lock(&q->lock);
        q->current[place.i] = NULL;
        q->n_running--;
        q->n_run++;
        q->busy_s += (double)(clock_now_ns() - start) * 1e-9;
        if (!q->head && q->n_running == 0)
            (void)pthread_cond_broadcast(&q->idle);
        (void)pthread_mutex_unlock(&q->lock);
        job_release(j);
        (void)pthread_mutex_lock(&q->lock);
    }
    (void)pthread_mutex_unlock(&q->lock);
    return NULL;
}

static bool start_worker(struct queue *q)
{
    struct worker_place *place = heap_calloc(1, sizeof *place);
    sigset_t all, old;
    if (!place)
        return false;
    *place = (struct worker_place){q, q->n_worker};
    (void)sigfillset(&all); // signals are the main thread's
    (void)sigdelset(&all, SIGBUS);
    (void)sigdelset(&all, SIGSEGV);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = workthread_start(&q->thread[q->n_worker], worker, place) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ok)
        q->n_worker++;
    else
        heap_free(place);
    return ok;
}

struct queue *queue_open(size_t n_worker, size_t n_wait)
{
    struct queue *q = heap_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->tail = &q->head;
    q->n_wait_max = n_wait;
    q->thread = heap_calloc(n_worker, sizeof *q->thread);
    q->current = heap_calloc(n_worker, sizeof *q->current);
    if (!q->thread || !q->current || pthread_mutex_init(&q->lock, NULL) != 0)
        goto fail;
    if (tick_open(&q->work) != 0 || tick_open(&q->idle) != 0)
        goto fail; // so early in the program's life that a mutex may be left behind
    for (size_t i = 0; i < n_worker; i++) {
        if (!start_worker(q)) {
            queue_stop(q);
            queue_free(q);
            return NULL;
        }
    }
    return q;
fail:
    heap_free(q->thread);
    heap_free(q->current);
    heap_free(q);
    return NULL;
}

// Jobs nobody waits for make room. Caller holds the lock; returns them in a list.
static struct job *weed(struct queue *q)
{
    struct job *dead = NULL, **at = &q->head;
    while (*at) {
        struct job *j = *at;
        if (!atomic_load(&j->cancelled)) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->next = dead;
        dead = j;
        q->n_wait--;
    }
    q->tail = at;
    return dead;
}

int queue_submit(struct queue *q, struct job *j)
{
    int rc = 0;
    (void)pthread_mutex_lock(&j->lock);
    j->n_holder++;
    (void)pthread_mutex_unlock(&j->lock);
    (void)pthread_mutex_lock(&q->lock);
    struct job *dead = weed(q);
    if (q->closing) {
        rc = QUEUE_CLOSING;
    } else if (q->n_running + q->n_wait >= q->n_worker + q->n_wait_max) {
        rc = QUEUE_BUSY;
    } else {
        j->next = NULL;
        *q->tail = j;
        q->tail = &j->next;
        q->n_wait++;
        (void)pthread_cond_signal(&q->work);
    }
    (void)pthread_mutex_unlock(&q->lock);
    while (dead) {
        struct job *next = dead->next;
        set_state(dead, JOB_DONE);
        job_release(dead);
        dead = next;
    }
    if (rc != 0)
        job_release(j);
    return rc;
}

void queue_drain(struct queue *q, int ms)
{
    struct timespec until = moment(clock_now_ns() + (int64_t)ms * 1000000);
    (void)pthread_mutex_lock(&q->lock);
    q->closing = true;
    while (q->head || q->n_running > 0) {
        if (pthread_cond_timedwait(&q->idle, &q->lock, &until) == ETIMEDOUT)
            break;
    }
    (void)pthread_mutex_unlock(&q->lock);
}

void queue_stop(struct queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    q->closing = q->ending = true;
    for (struct job *j = q->head; j; j = j->next)
        job_cancel(j);
    for (size_t i = 0; i < q->n_worker; i++) {
        if (q->current[i])
            job_cancel(q->current[i]);
    }
    (void)pthread_cond_broadcast(&q->work);
    (void)pthread_mutex_unlock(&q->lock);
    for (size_t i = 0; i < q->n_worker; i++)
        (void)pthread_join(q->thread[i], NULL);
    q->n_worker = 0;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    (void)pthread_cond_destroy(&q->work);
    (void)pthread_cond_destroy(&q->idle);
    (void)pthread_mutex_destroy(&q->lock);
    heap_free(q->thread);
    heap_free(q->current);
    heap_free(q);
}

struct queue_load queue_load_of(struct queue *q)
{
    (void)pthread_mutex_lock(&q->lock);
    struct queue_load load = {.running = q->n_running,
                              .waiting = q->n_wait,
                              .n_worker = q->n_worker,
                              .n_run = q->n_run,
                              .busy_s = q->busy_s};
    (void)pthread_mutex_unlock(&q->lock);
    return load;
}
