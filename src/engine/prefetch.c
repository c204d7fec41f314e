// SPDX-License-Identifier: MIT
// Products touch the mapped weights in blocks of many rows; left to page faults, a disk sees scattered
// small reads (measured: 40 MB/s where reading in order gives 210). So one thread walks the tensors in the
// order of use and touches their pages, piece by piece. What is cached already costs next to nothing.
#include "engine/prefetch.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/filemap.h"
#include "base/mem.h"
#include "base/size.h"
#include "base/thread.h"

static const size_t PIECE = (size_t)8 << 20; // bytes between two looks at `stop`

struct prefetch {
    const struct model *model;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    size_t until; // tensors wanted; under lock
    bool stop;    // under lock
};

// Sleeps until tensor i is wanted; false = stop.
static bool wanted(struct prefetch *p, size_t i)
{
    pthread_mutex_lock(&p->lock);
    while (!p->stop && i >= p->until)
        pthread_cond_wait(&p->wake, &p->lock);
    bool go = !p->stop;
    pthread_mutex_unlock(&p->lock);
    return go;
}

static void *work(void *arg)
{
    struct prefetch *p = arg;
    for (size_t i = 0; i < p->model->n_order && wanted(p, i); i++) {
        const struct tensor *t = p->model->order[i];
        for (size_t at = 0; at < t->bytes && wanted(p, i); at += PIECE)
            filemap_touch((const char *)t->data + at, min_size(PIECE, t->bytes - at));
    }
    return NULL;
}

static bool model_fits(const struct model *m)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    double bytes = 0;
    for (size_t i = 0; i < m->n_order; i++)
        bytes += (double)m->order[i]->bytes;
    return pages > 0 && page > 0 && bytes < 0.9 * (double)pages * (double)page;
}

struct prefetch *prefetch_open(const struct model *m)
{
    struct prefetch *p = model_fits(m) ? mem_calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    p->model = m;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    if (thread_start(&p->thread, work, p) == 0)
        return p;
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
    return NULL;
}

void prefetch_close(struct prefetch *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

void prefetch_until(struct prefetch *p, size_t n)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->until = max_size(p->until, n);
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}
