// SPDX-License-Identifier: MIT
// Requests carry their whole history; a session that was left idle with most of it has the keys of that part.
//
// Easy to get wrong: sessions never go from one key holder to another; the history is always the request's own (the
// turns are set anew), so a session that fits badly costs time and never changes an answer.

#include "talks.h"

#include <string.h>

#include "heap.h"

struct talks {
    struct server *server;
    pthread_mutex_t lock;
    struct talk *head; // idle ones
    size_t n, max;
    uint64_t clock;
};

struct talks *talks_open(struct server *s, size_t max_idle)
{
    struct talks *t = heap_calloc(1, sizeof *t);
    if (!t || pthread_mutex_init(&t->lock, NULL) != 0) {
        heap_free(t);
        return NULL;
    }
    t->server = s;
    t->max = max_idle;
    return t;
}

static void talk_free(struct talk *t)
{
    iv_session_close(t->session);
    mediacache_drop(t->media);
    heap_free(t->instruction);
    heap_free(t->msg);
    heap_free(t);
}

void talks_close(struct talks *t)
{
    if (!t)
        return;
    while (t->head) {
        struct talk *k = t->head;
        t->head = k->next;
        talk_free(k);
    }
    (void)pthread_mutex_destroy(&t->lock);
    heap_free(t);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool fits(const struct talk *k, unsigned owner, const struct media_entry *media,
                 const struct chatreq *q)
{
    return k->owner == owner && k->media == media && same_text(k->instruction, q->instruction) &&
           same_text(k->msg, q->msg) && k->time_text == q->time_text;
}

// Turns in which they agree.
static size_t agreement(const struct talk *k, const struct chatreq *q)
{
    size_t i = 0, n = iv_session_n_turn(k->session);
    struct iv_turn turn;
    for (; i < n && i + 1 < q->n_turn; i++) {
        const char *answer = q->turn[i].answer; // text, whatever it spells
        if (iv_session_turn(k->session, i, &turn) != IV_OK || turn.answer_special ||
            strcmp(turn.prompt, q->turn[i].question) != 0 || strlen(answer) != turn.answer_len ||
            memcmp(turn.answer, answer, turn.answer_len) != 0)
            break;
    }
    return i;
}

// Takes the best idle one out of the list; NULL = none fits. Caller holds the lock.
static struct talk *best(struct talks *t, unsigned owner, const struct media_entry *media,
                         const struct chatreq *q)
{
    struct talk **found = NULL;
    size_t most = 0;
    for (struct talk **at = &t->head; *at; at = &(*at)->next) {
        if (!fits(*at, owner, media, q))
            continue;
        size_t n = agreement(*at, q);
        if (!found || n > most || (n == most && (*at)->used > (*found)->used)) {
            found = at;
            most = n;
        }
    }
    struct talk *k = found ? *found : NULL;
    if (k) {
        *found = k->next;
        t->n--;
    }
    return k;
}

static bool on_abort(void *user)
{
    struct talk *k = user;
    struct job *j = atomic_load(&k->job);
    return j && job_stopped(j);
}

static void on_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct talk *k = user;
    struct job *j = atomic_load(&k->job);
    if (j)
        job_progress(j, stage, done, total);
}

static char *copy(const char *s)
{
    char *out = s ? heap_calloc(strlen(s) + 1, 1) : NULL;
    if (out)
        memcpy(out, s, strlen(s));
    return out;
}

static struct talk *start(struct talks *t, unsigned owner, struct media_entry *media,
                          const struct chatreq *q, struct job *job, int *rc)
{
    struct iv_session_options o = iv_session_options_default();
    struct talk *k = heap_calloc(1, sizeof *k);
    *rc = IV_ERR_LIMIT;
    if (!k)
        return NULL;
    k->owner = owner;
    k->media = media;
    k->time_text = q->time_text;
    k->instruction = copy(q->instruction);
    k->msg = copy(q->msg);
    atomic_init(&k->job, job);
    o.n_ctx = (size_t)t->server->s->ctx;
    o.instruction = k->instruction;
    o.msg = k->msg;
    o.time_text = q->time_text && media;
    o.keep_cache = t->server->s->cache_mib > 0;
    o.callbacks = (struct iv_callbacks){.user = k, .abort = on_abort, .progress = on_progress};
    iv_media *of = media ? mediacache_view(media).media : NULL;
    if (q->time_text && of && iv_media_info(of)->image)
        *rc = IV_ERR_USAGE;
    else if ((!q->instruction || k->instruction) && (!q->msg || k->msg))
        *rc = iv_session_open(t->server->engine, of, &o, &k->session, NULL);
    if (*rc != IV_OK) {
        k->media = NULL; // the caller's hold
        talk_free(k);
        return NULL;
    }
    return k;
}

// The request's turns in place of what the session had.
static int set_turns(struct talk *k, const struct chatreq *q)
{
    int rc = IV_OK;
    iv_session_reset(k->session);
    for (size_t i = 0; i + 1 < q->n_turn && rc == IV_OK; i++) {
        struct iv_turn turn = {.prompt = q->turn[i].question, .answer = q->turn[i].answer};
        rc = iv_session_add_turn(k->session, &turn, NULL);
    }
    return rc;
}

int talks_take(struct talks *t, unsigned owner, struct media_entry *media, const struct chatreq *q,
               struct job *job, struct talk **out, struct refusal *r)
{
    int rc = IV_OK;
    (void)pthread_mutex_lock(&t->lock);
    struct talk *k = best(t, owner, media, q);
    (void)pthread_mutex_unlock(&t->lock);
    *out = NULL;
    if (k) {
        atomic_store(&k->job, job);
        mediacache_drop(media); // it has its own hold
    } else {
        k = start(t, owner, media, q, job, &rc);
        if (!k)
            mediacache_drop(media);
    }
    if (k && (rc = set_turns(k, q)) == IV_OK) {
        *out = k;
        return 0;
    }
    if (k)
        talks_give(t, k, false);
    if (rc == IV_ERR_USAGE)
        return refuse(r, 400, "invalid_value", "time_text",
                      "time_text: the times of the frames are not known");
    return refuse(r, 503, "out_of_memory", "", "out of memory");
}

// Takes those out of the list whose media the cache has dropped, and the last ones beyond the maximum. Caller
// holds the lock; returns them.
static struct talk *weed(struct talks *t)
{
    struct talk *dead = NULL, **at = &t->head;
    for (size_t n = 0; *at;) {
        struct talk *k = *at;
        if (n < t->max && (!k->media || mediacache_kept(k->media))) {
            n++;
            at = &k->next;
            continue;
        }
        *at = k->next;
        k->next = dead;
        dead = k;
        t->n--;
    }
    return dead;
}

void talks_give(struct talks *t, struct talk *k, bool reuse)
{
    atomic_store(&k->job, NULL);
    if (!reuse) {
        talk_free(k);
        return;
    }
    (void)pthread_mutex_lock(&t->lock);
    k->used = ++t->clock;
    k->next = t->head;
    t->head = k;
    t->n++;
    struct talk *dead = weed(t);
    (void)pthread_mutex_unlock(&t->lock);
    while (dead) {
        struct talk *next = dead->next;
        talk_free(dead);
        dead = next;
    }
}
