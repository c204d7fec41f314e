// SPDX-License-Identifier: MIT
// Between the thread of a connection and a worker.
//
//   submit -> 429 or 503 | wait: the client may leave -> settled: a stream begins | done: one reply
//
// Easy to get wrong: a stream's status is sent before its work is done, so it begins when the media are known to be
// sound; if that takes long it begins anyway, and a failure then comes as an event of the stream.

#include "modeljob.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heap.h"

enum { WAIT_MS = 100, STREAM_ANYWAY_MS = 5000 };

static void run(struct job *j)
{
    struct modeljob *m = (struct modeljob *)(void *)j;
    m->begun_ns = clock_now_ns();
    if (m->work(m) != 0 && m->refusal.status == 0)
        (void)refuse(&m->refusal, 500, "internal_error", "", "the request failed");
}

static void drop(struct job *j)
{
    struct modeljob *m = (struct modeljob *)(void *)j;
    chatreq_free(&m->q);
    sources_drop(&m->from);
    heap_free(m->body);
    heap_free(m);
}

struct modeljob *modeljob_new(const struct request *q, struct chatreq *c, struct sources *from,
                              int (*work)(struct modeljob *m), struct refusal *r)
{
    struct server *s = q->server;
    struct modeljob *m = heap_calloc(1, sizeof *m);
    char name[2 * 12 + 1];
    if (!m || job_init(&m->job, run, drop) != 0 || !random_text(name, 12)) {
        heap_free(m);
        (void)refuse(r, 503, "out_of_memory", "", "out of memory");
        return NULL;
    }
    m->server = s;
    m->owner = q->owner;
    m->q = *c;
    m->from = *from;
    *c = (struct chatreq){0};
    *from = (struct sources){0};
    m->work = work;
    m->made_ns = clock_now_ns();
    m->created = (int64_t)time(NULL);
    if (s->s->timeout > 0)
        m->job.deadline_ns = m->made_ns + (int64_t)(s->s->timeout * 1e9);
    (void)snprintf(m->id, sizeof m->id, "chatcmpl-%s", name);
    return m;
}

int modeljob_media(struct modeljob *m, struct media_entry **out, bool *found)
{
    *out = NULL;
    *found = false;
    if (m->from.n == 0)
        return 0;
    int rc = mediacache_get(m->server->media, &m->from, &m->q, &m->job, out, found, &m->refusal);
    if (rc != 0 && strcmp(m->refusal.param, "messages") == 0 && m->q.n_media > 0)
        (void)snprintf(m->refusal.param, sizeof m->refusal.param, "%s", m->q.media[0].where);
    return rc;
}

int modeljob_failed(struct modeljob *m, int status, const struct iv_error *e)
{
    struct refusal *r = &m->refusal;
    switch (status) {
    case IV_ERR_USAGE:
        return refuse(r, 400, "invalid_value", "", "%s", e->message);
    case IV_ERR_LIMIT:
        return refuse(r, 503, "out_of_memory", "", "not enough memory for this request now");
    case IV_ERR_ABORT:
        if (job_late(&m->job))
            return refuse(r, 503, "timeout", "", "the request took too long");
        return refuse(r, 503, "stopped", "", "the server is stopping");
    default:
        server_note(m->server, "a request failed: %s", e->message);
        return refuse(r, 500, "internal_error", "", "the request failed");
    }
}

// The last event of a stream that had begun when the work failed, or was never begun since the server stops; else nothing.
static char *finish(struct job *j, size_t *n)
{
    struct modeljob *m = (struct modeljob *)(void *)j;
    struct textbuf b = {0};
    *n = 0;
    if (m->begun_ns == 0)
        (void)refuse(&m->refusal, 503, "stopping", "", "the server is stopping");
    if (m->refusal.status == 0)
        return NULL;
    char *text = refusal_json(&m->refusal);
    textbuf_printf(&b, "data: %s\n\ndata: [DONE]\n\n", text ? text : "{\"error\":{}}");
    heap_free(text);
    return textbuf_take(&b, n);
}

// Until there is something to say. false = the client has left.
static bool wait(struct modeljob *m, const struct request *q, struct job_view *view)
{
    int64_t anyway = m->made_ns + (int64_t)STREAM_ANYWAY_MS * 1000000;
    for (;;) {
        (void)job_read(&m->job, NULL, 0, WAIT_MS, false, view);
        if (view->state == JOB_DONE || (m->q.stream && view->settled))
            return true;
        if (request_gone((void *)(uintptr_t)q)) {
            job_cancel(&m->job);
            counters_cancelled(&m->server->counters);
            return false;
        }
        if (m->q.stream && clock_now_ns() > anyway)
            return true;
        if (view->state == JOB_QUEUED && job_late(&m->job))
            return true;
    }
}

static void busy(struct modeljob *m, int rc, struct reply *p)
{
    struct refusal r;
    if (rc == QUEUE_BUSY)
        (void)refuse(&r, 429, "queue_full", "", "too many requests are waiting; try again later");
    else
        (void)refuse(&r, 503, "stopping", "", "the server is stopping");
    reply_refusal(p, &r, m->server);
}

void modeljob_answer(struct modeljob *m, const struct request *q, struct reply *p)
{
    struct job_view view;
    struct refusal r;
    int rc = queue_submit(m->server->queue, &m->job);
    if (rc != 0) {
        busy(m, rc, p);
    } else if (!wait(m, q, &view)) {
        (void)refuse(&r, 503, "stopped", "", "the client has left");
        reply_refusal(p, &r, m->server);
    } else if (view.state == JOB_QUEUED && job_late(&m->job)) {
        job_cancel(&m->job);
        (void)refuse(&r, 503, "timeout", "", "the request waited too long");
        reply_refusal(p, &r, m->server);
    } else if (view.state == JOB_DONE && m->refusal.status && !view.settled) {
        reply_refusal(p, &m->refusal, m->server);
    } else if (m->q.stream) {
        *p = (struct reply){.status = 200,
                            .type = "text/event-stream; charset=utf-8",
                            .stream = &m->job,
                            .finish = finish};
        return;            // the reply holds the job now
    } else if (!m->body) { // cancelled before its turn, when the server stops
        (void)refuse(&r, 503, "stopping", "", "the server is stopping");
        reply_refusal(p, m->refusal.status ? &m->refusal : &r, m->server);
    } else {
        char *body = m->body;
        m->body = NULL;
        reply_text(p, 200, "application/json", body, m->n_body);
    }
    job_release(&m->job);
}
