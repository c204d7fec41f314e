// SPDX-License-Identifier: MIT
// The bytes of one file: where they are, a range of chunks over one connection.
//
//   transfer_open     HEAD, lock, data file and journal
//   transfer_chunks   GET with Range, written in place, each whole chunk noted in the journal
//
// Easy to get wrong: a repetition begins at the very byte that is missing, not at its chunk; a server may
// ignore ranges (200 instead of 206) or answer with another one; addresses of storage hosts expire, and
// the answer is then 403 from that host, which says nothing about our access; bytes beyond what was asked for
// are never written.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "hub/fetch_parts.h"
#include "hub/filesum.h"
#include "hub/hubcache.h"

enum { REFRESH_MAX = 5 };

// A transfer under way.
struct span {
    struct fetch *fetch;
    struct fetch_file *file;
    uint64_t at, to; // next byte wanted, end
    bool ranged;
    bool ignored;   // the server sends all from the beginning though a range was asked for
    struct err odd; // what is wrong with the answer
    int rc;         // of writing
    struct err why;
};

static int set_url(struct fetch *p, struct fetch_file *f, const char *url, struct err *e)
{
    char *copy = mem_strndup(url, strlen(url));
    if (!copy)
        return err_set(e, ERR_LIMIT, "%s: out of memory for its address", f->remote->path);
    pthread_mutex_lock(&p->lock);
    char *old = f->url;
    f->url = copy;
    f->n_url++;
    pthread_mutex_unlock(&p->lock);
    mem_free(old);
    return 0;
}

static int locate(struct fetch_thread *t, struct fetch_file *f, struct err *e)
{
    const struct target *target = &t->fetch->order->target;
    struct remote_place where;
    int rc;
    TRY(remote_locate(&t->remote, target->commit, f->remote, &where, e));
    if (!*f->etag)
        memcpy(f->etag, where.etag, sizeof f->etag);
    else if (strcmp(f->etag, where.etag) != 0)
        TRY(err_set(e, ERR_NETWORK, "%s: its ETag changed during the download", f->remote->path));
    TRY(set_url(t->fetch, f, where.url, e));
    if (!f->place.whole)
        TRY(place_make(target, f->remote->path, f->etag, &f->place, e));
fail:
    return rc;
}

static void set_state(struct fetch *p, struct fetch_file *f, enum fetch_state state)
{
    pthread_mutex_lock(&p->lock);
    if (state == FETCH_DONE && f->state != FETCH_DONE)
        p->n_done++;
    f->state = state;
    pthread_cond_broadcast(&p->change);
    pthread_mutex_unlock(&p->lock);
}

// Whether this very download has, or is about to have, the lock of the same contents under another name. In the
// order of the list when both wait, so that one of them tells of another process.
static bool is_ours(struct fetch *p, const struct fetch_file *f)
{
    bool ours = false;
    pthread_mutex_lock(&p->lock);
    for (size_t i = p->first; i < p->next && !ours && !p->order->target.local_dir; i++) {
        const struct fetch_file *other = &p->file[i];
        bool ahead =
            other->state == FETCH_BUSY ? other < f : other != f && other->state != FETCH_DONE;
        ours = ahead && !strcmp(filesum_wanted(other->remote), filesum_wanted(f->remote));
    }
    pthread_mutex_unlock(&p->lock);
    return ours;
}

static void wait_for_other(struct fetch *p, struct fetch_file *f, bool ours)
{
    f->not_before = clock_s() + 0.1;
    if (!f->told_busy && !ours)
        fetch_say(p, "%s: another process is downloading it, waiting", f->remote->path);
    f->told_busy = f->told_busy || !ours;
    set_state(p, f, FETCH_BUSY);
}

int transfer_open(struct fetch_thread *t, struct fetch_file *f, struct err *e)
{
    struct fetch *p = t->fetch;
    bool done = false;
    int rc;
    if (!f->place.whole)
        TRY(locate(t, f, e));
    bool ours = is_ours(p, f);
    TRY(lock_try(f->place.lock, &f->lock_fd, e));
    if (f->lock_fd < 0) {
        wait_for_other(p, f, ours);
        return 0;
    }
    TRY(place_adopt(&p->order->target, &f->place, f->remote, f->etag, &p->stop, &done, e));
    if (done) {
        atomic_store(&f->arrived, f->remote->size);
        finish_close(f);
        set_state(p, f, FETCH_DONE);
        return 0;
    }
    f->n_chunk = journal_chunks(f->remote->size);
    f->chunk = mem_calloc(max_size(f->n_chunk, 1), 1);
    if (!f->chunk)
        TRY(err_set(e, ERR_LIMIT, "%s: out of memory", f->remote->path));
    TRY(path_make_folders(f->place.data, false, e));
    TRY(journal_open(f->place.data, f->place.journal, f->remote->size, f->chunk, &f->n_there,
                     &f->data_fd, &f->journal_fd, e));
    f->resumed = f->n_there > 0;
    for (size_t i = 0; i < f->n_chunk; i++) {
        if (f->chunk[i] == CHUNK_THERE)
            atomic_fetch_add(&f->arrived,
                             min_size(JOURNAL_CHUNK, f->remote->size - i * JOURNAL_CHUNK));
    }
    set_state(p, f, FETCH_RUNNING);
fail:
    return rc;
}

// ---- ranges

static bool span_start(void *user, const struct http_reply *r)
{
    struct span *s = user;
    uint64_t size = s->file->remote->size;
    if (r->status == 206) {
        if (!r->has_range || r->range_from != s->at || r->range_to > s->to ||
            r->range_total != size)
            err_set(
                &s->odd, ERR_NETWORK,
                "%s: asked for bytes %llu to %llu of %llu, the server sends %llu to %llu of %llu",
                s->file->remote->path, (unsigned long long)s->at, (unsigned long long)s->to,
                (unsigned long long)size, (unsigned long long)r->range_from,
                (unsigned long long)r->range_to, (unsigned long long)r->range_total);
    } else if (s->ranged) {
        s->ignored = true;
    } else if (r->has_length && r->length != size) {
        err_set(&s->odd, ERR_NETWORK, "%s: has %llu bytes, the server sends %llu",
                s->file->remote->path, (unsigned long long)size, (unsigned long long)r->length);
    }
    return !s->odd.code && !s->ignored;
}

// Notes chunk i as arrived unless it was.
static int chunk_arrived(struct span *s, size_t i)
{
    struct fetch_file *f = s->file;
    pthread_mutex_lock(&s->fetch->lock);
    bool news = f->chunk[i] != CHUNK_THERE;
    pthread_mutex_unlock(&s->fetch->lock);
    if (!news)
        return 0;
    int rc = journal_mark(f->journal_fd, i, &s->why);
    pthread_mutex_lock(&s->fetch->lock);
    if (rc == 0 && f->chunk[i] != CHUNK_THERE) {
        f->chunk[i] = CHUNK_THERE;
        f->n_there++;
        f->n_refresh = 0; // on a slow line addresses expire often
        pthread_cond_broadcast(&s->fetch->change);
    }
    pthread_mutex_unlock(&s->fetch->lock);
    return rc;
}

static int write_at(struct span *s, const uint8_t *p, size_t n)
{
    uint64_t at = s->at;
    while (n > 0) {
        ssize_t k = pwrite(s->file->data_fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return err_set(&s->why, ERR_FAIL, "%s: %s", s->file->place.data,
                           k < 0 ? strerror(errno) : "nothing could be written");
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

static bool span_body(void *user, const void *bytes, size_t n)
{
    struct span *s = user;
    bool surplus = n > s->to - s->at;
    if (surplus && s->ranged && s->at == s->to)
        return false; // all is here: the connection goes, what was asked for stays
    if (surplus && !s->ranged) {
        err_set(&s->odd, ERR_NETWORK, "%s: the server sends more than the %llu bytes asked for",
                s->file->remote->path, (unsigned long long)s->to);
    }
    if (surplus)
        n = (size_t)(s->to - s->at);
    s->rc = write_at(s, bytes, n);
    if (s->rc != 0)
        return false;
    uint64_t before = s->at;
    s->at += n;
    atomic_fetch_add(&s->fetch->fetched, n);
    atomic_fetch_add(&s->file->arrived, n);
    uint64_t size = s->file->remote->size;
    for (uint64_t i = before / JOURNAL_CHUNK; s->rc == 0 && i * JOURNAL_CHUNK < s->at; i++) {
        uint64_t end = i + 1 < s->file->n_chunk ? (i + 1) * JOURNAL_CHUNK : size;
        if (end <= s->at)
            s->rc = chunk_arrived(s, (size_t)i);
    }
    return s->rc == 0 && !s->odd.code && !atomic_load(&s->fetch->stop);
}

// The address number `used` is no longer good. One thread asks for a new one, the others wait for it. Returns rc,
// the error so far, or a graver one.
static int refresh(struct fetch_thread *t, struct fetch_file *f, unsigned used, bool *again, int rc,
                   struct err *e)
{
    struct fetch *p = t->fetch;
    struct err why = {0};
    int moved = 0;
    pthread_mutex_lock(&p->lock);
    while (f->locating && !atomic_load(&p->stop))
        (void)pthread_cond_wait(&p->change, &p->lock);
    bool mine = f->n_url == used && f->n_refresh < REFRESH_MAX && !atomic_load(&p->stop);
    *again = mine || f->n_url != used;
    f->locating = mine || f->locating;
    pthread_mutex_unlock(&p->lock);
    if (mine) {
        moved = locate(t, f, &why);
        pthread_mutex_lock(&p->lock);
        f->locating = false;
        f->n_refresh++;
        pthread_cond_broadcast(&p->change);
        pthread_mutex_unlock(&p->lock);
    }
    return moved != 0 ? err_set(e, moved, "%s", why.msg) : rc;
}

// One request for what is missing of the span. *again = a repetition may help.
static int span_try(struct fetch_thread *t, struct span *s, struct http_reply *reply, bool *again,
                    struct err *e)
{
    struct fetch *p = t->fetch;
    struct fetch_file *f = s->file;
    char url[HTTP_URL_MAX];
    pthread_mutex_lock(&p->lock);
    memcpy(url, f->url, strlen(f->url) + 1);
    unsigned n_url = f->n_url;
    pthread_mutex_unlock(&p->lock);
    s->ranged = s->at > 0 || s->to < f->remote->size;
    s->odd.code = 0;
    struct http_request q = {.url = url,
                             .range = s->ranged,
                             .from = s->at,
                             .to = s->to,
                             .user = s,
                             .start = span_start,
                             .body = span_body};
    int rc = http_perform(t->remote.http, &q, reply, e);
    *again = reply->may_retry;
    if (s->rc != 0)
        return err_set(e, s->rc, "%s", s->why.msg);
    if (atomic_load(&p->stop))
        return err_set(e, ERR_ABORT, "download stopped");
    if (rc != 0 || s->ignored)
        return rc;
    if (s->odd.code) {
        *again = true;
        return err_set(e, s->odd.code, "%s", s->odd.msg);
    }
    if (reply->status >= 400) {
        rc = remote_refused(&t->remote, reply, f->remote->path, e);
        bool expired = !reply->at_endpoint && reply->status < 500 && reply->status != 416 &&
                       reply->status != 429;
        return expired ? refresh(t, f, n_url, again, rc, e) : rc;
    }
    if (s->at < s->to) {
        *again = true;
        return err_set(e, ERR_NETWORK, "%s: the answer ended %llu bytes early", f->remote->path,
                       (unsigned long long)(s->to - s->at));
    }
    return 0;
}

// Gives the chunks that have not arrived back to whoever comes next.
static void give_back(struct span *s, size_t from, size_t n)
{
    struct fetch_file *f = s->file;
    pthread_mutex_lock(&s->fetch->lock);
    for (size_t i = from; i < from + n; i++) {
        if (f->chunk[i] == CHUNK_TAKEN) {
            f->chunk[i] = CHUNK_MISSING;
            f->first_missing = min_size(f->first_missing, i);
        }
    }
    if (s->ignored && !f->whole) {
        f->whole = true;
        f->first_missing = 0;
    }
    if (s->at % JOURNAL_CHUNK && s->at < s->to) // of a chunk that has to come once more
        atomic_fetch_sub(&f->arrived, s->at % JOURNAL_CHUNK);
    pthread_mutex_unlock(&s->fetch->lock);
}

int transfer_chunks(struct fetch_thread *t, struct fetch_file *f, size_t from, size_t n,
                    struct err *e)
{
    struct span s = {.fetch = t->fetch, .file = f};
    struct http_reply reply;
    bool again = true;
    int rc = 0;
    s.at = (uint64_t)from * JOURNAL_CHUNK;
    s.to = from + n == f->n_chunk ? f->remote->size : (uint64_t)(from + n) * JOURNAL_CHUNK;
    pthread_mutex_lock(&t->fetch->lock);
    bool whole = f->whole;
    pthread_mutex_unlock(&t->fetch->lock);
    for (unsigned k = 0; s.at < s.to; k++) {
        uint64_t before = s.at;
        rc = span_try(t, &s, &reply, &again, e);
        if (rc == 0 || rc != ERR_NETWORK || !again)
            break;
        if (s.at > before && !whole)
            k = 0; // it moves
        if (whole) {
            atomic_fetch_sub(&f->arrived, s.at);
            s.at = 0; // nothing but all of it can be had
        }
        if (k >= t->remote.retries || !remote_wait(&t->remote, k, &reply, e->msg))
            break;
    }
    if (rc != 0 && rc != ERR_ABORT && atomic_load(&t->fetch->stop))
        rc = err_set(e, ERR_ABORT, "download stopped");
    give_back(&s, from, n);
    return rc;
}
