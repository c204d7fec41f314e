// SPDX-License-Identifier: MIT
// libmicrohttpd, one thread a connection: parsing and waiting happen there, work on the queue's workers.
//
//   head -> httpguard, key, route, size   a refusal needs no body
//   body -> collected, bounded            -> handler -> reply or stream of a job
//
// Slow clients (httppace_slow): the sweep shuts the socket; its thread then sees the end.
//
// Easy to get wrong: a reply can be queued only when the head or the whole body is there, so what is too long is dropped
// and refused afterwards, or cut when there is no end to it; a client that leaves is noticed while its job waits by
// looking at its socket, since nobody reads from it meanwhile; the socket of a connection may be shut only as long as it is
// in the list; MHD_OPTION_LISTENING_ADDRESS_REUSE is SO_REUSEPORT, with which two servers share a port without a word (by
// itself the library asks for SO_REUSEADDR, which is all that a restart needs).

#define _GNU_SOURCE // POLLRDHUP
#include "httpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "heap.h"
#include "httpguard.h"
#include "routes.h"
#include "savefile.h"
#include "wallclock.h"

enum {
    CONNECTIONS = 2048,
    IDLE_S = 60, // without a byte in either direction
    HEAD_BYTES = 64 << 10,
    STACK_BYTES = 1 << 20,
    BLOCK = 32 << 10,
    PING_MS = 5000,
    PEM_MAX = 1 << 20
};

struct conn {
    int fd;
    struct httppace pace;
    struct conn *next, **link;
};

struct httpd {
    struct server *server;
    struct MHD_Daemon *daemon;
    char address[320], *key, *cert;
    pthread_mutex_t lock; // of the list
    struct conn *head;
    atomic_uint active;
};

// One request and its reply.
struct call {
    struct request request; // first
    struct httpd *http;
    struct MHD_Connection *connection;
    struct conn *conn;
    const struct route *route;
    struct textbuf body;
    uint64_t dropped, counted;
    bool too_much, replied;
    int64_t start_ns;
    int status;
    char origin[300];       // to be allowed; "" = none
    struct refusal refusal; // to be told when the request is complete; status 0 = none
    char allow[64];
};

// ---- the request as handlers see it

const char *request_header(const struct request *q, const char *name)
{
    return MHD_lookup_connection_value(q->carrier, MHD_HEADER_KIND, name);
}

const char *request_query(const struct request *q, const char *name)
{
    return MHD_lookup_connection_value(q->carrier, MHD_GET_ARGUMENT_KIND, name);
}

bool request_gone(void *request)
{
    const struct call *c = request;
    struct pollfd f = {.fd = c->conn ? c->conn->fd : -1, .events = POLLRDHUP};
    return poll(&f, 1, 0) > 0 && (f.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

// ---- replies

static void add_header(struct MHD_Response *r, const char *name, const char *value)
{
    (void)MHD_add_response_header(r, name, value);
}

static void add_headers(const struct call *c, const struct reply *p, struct MHD_Response *r)
{
    char number[16];
    bool streaming = p->stream != NULL;
    if (p->type)
        add_header(r, "Content-Type", p->type);
    add_header(r, "Content-Security-Policy",
               p->policy ? p->policy : "default-src 'none'; frame-ancestors 'none'");
    add_header(r, "X-Content-Type-Options", "nosniff");
    add_header(r, "Referrer-Policy", "no-referrer");
    add_header(r, "Cross-Origin-Resource-Policy", c->origin[0] ? "cross-origin" : "same-origin");
    add_header(r, "Cache-Control", "no-store");
    if (streaming)
        add_header(r, "X-Accel-Buffering", "no");
    if (p->allow)
        add_header(r, "Allow", p->allow);
    if (p->retry_s > 0) {
        (void)snprintf(number, sizeof number, "%d", p->retry_s);
        add_header(r, "Retry-After", number);
    }
    if (p->status == 401) // a browser that opens the page asks for the key as a password
        add_header(r, "WWW-Authenticate",
                   strcmp(c->request.path, "/") == 0 ? "Basic realm=\"ivchat\", charset=\"UTF-8\""
                                                     : "Bearer");
    if (c->origin[0]) {
        add_header(r, "Access-Control-Allow-Origin", c->origin);
        add_header(r, "Vary", "Origin");
    }
}

// A stream on its way.
struct sender {
    struct call *call; // gone when on_sent is called
    struct server *server;
    struct job *job;
    char *(*finish)(struct job *j, size_t *n);
    char *last; // bytes to send before anything else
    size_t n_last, at;
    bool over, ended; // nothing more to come; the client was told so
    int64_t spoke_ns;
    char stage[16];
    uint64_t done;
};

static bool send_rest(struct sender *s, char *to, size_t max, size_t *n)
{
    *n = s->n_last - s->at < max ? s->n_last - s->at : max;
    if (*n == 0)
        return false;
    memcpy(to, s->last + s->at, *n);
    s->at += *n;
    if (s->at == s->n_last) {
        heap_free(s->last);
        s->last = NULL;
        s->n_last = s->at = 0;
    }
    return true;
}

// A comment that keeps the connection alive and tells how far the work is.
static size_t ping(struct sender *s, const struct job_view *v, char *to, size_t max)
{
    bool moved = v->stage_done != s->done || strcmp(v->stage, s->stage) != 0;
    int64_t now = clock_now_ns(), quiet = now - s->spoke_ns;
    if (quiet < (int64_t)PING_MS * 1000000 && !(moved && !v->settled && quiet > 200 * 1000000) &&
        !(moved && quiet > 500 * 1000000))
        return 0;
    s->spoke_ns = now;
    s->done = v->stage_done;
    memcpy(s->stage, v->stage, sizeof s->stage);
    int n = v->stage[0]
                ? snprintf(to, max, ": %s %llu %llu\n\n", v->stage,
                           (unsigned long long)v->stage_done, (unsigned long long)v->stage_total)
                : snprintf(to, max, ": %s\n\n", v->state == JOB_QUEUED ? "waiting" : "working");
    return n > 0 && (size_t)n < max ? (size_t)n : 0;
}

static ssize_t on_read(void *user, uint64_t pos, char *to, size_t max)
{
    struct sender *s = user;
    struct job_view v;
    size_t n;
    (void)pos;
    for (;;) {
        if (send_rest(s, to, max, &n))
            return (ssize_t)n;
        if (s->over) {
            s->ended = true;
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        n = job_read(s->job, to, max, 100, true, &v);
        if (n > 0) {
            s->spoke_ns = clock_now_ns();
            return (ssize_t)n;
        }
        if (v.state == JOB_DONE) {
            s->over = true;
            s->last = s->finish ? s->finish(s->job, &s->n_last) : NULL;
            s->n_last = s->last ? s->n_last : 0;
            continue;
        }
        if (v.failed || request_gone(s->call)) {
            job_cancel(s->job);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        n = ping(s, &v, to, max);
        if (n > 0)
            return (ssize_t)n;
    }
}

// The end of a stream, also of one whose last piece found nobody: on_read is not asked again then.
static void on_sent(void *user)
{
    struct sender *s = user;
    if (!s->ended)
        counters_cancelled(&s->server->counters);
    job_cancel(s->job); // does nothing to one that is done
    job_release(s->job);
    heap_free(s->last);
    heap_free(s);
}

static struct MHD_Response *stream_response(struct call *c, struct reply *p)
{
    struct sender *s = heap_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct sender){.call = c,
                         .server = c->http->server,
                         .job = p->stream,
                         .finish = p->finish,
                         .spoke_ns = c->start_ns};
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, s, on_sent);
    if (!r)
        heap_free(s);
    return r;
}

static enum MHD_Result send_reply(struct call *c, struct reply *p)
{
    struct MHD_Response *r;
    c->status = p->status;
    c->replied = true;
    if (p->stream)
        r = stream_response(c, p);
    else if (p->fixed || !p->body)
        r = MHD_create_response_from_buffer(p->n, (void *)(uintptr_t)(p->fixed ? p->fixed : ""),
                                            MHD_RESPMEM_PERSISTENT);
    else
        r = MHD_create_response_from_buffer(p->n, p->body, MHD_RESPMEM_MUST_FREE);
    if (r) {
        add_headers(c, p, r);
        p->body = NULL;
        p->stream = NULL;
    }
    int status = p->status;
    reply_free(p);
    if (!r)
        return MHD_NO;
    enum MHD_Result rc = MHD_queue_response(c->connection, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result send_refusal(struct call *c, const struct refusal *r, const char *allow)
{
    struct reply p = {0};
    reply_refusal(&p, r, c->http->server);
    p.allow = allow && *allow ? allow : NULL;
    return send_reply(c, &p);
}

// ---- requests

static void set_phase(struct call *c, enum httpphase phase)
{
    (void)pthread_mutex_lock(&c->http->lock);
    if (c->conn)
        c->conn->pace = (struct httppace){.phase = phase, .since_ns = clock_now_ns()};
    (void)pthread_mutex_unlock(&c->http->lock);
}

static enum MHD_Result count_headers(void *user, enum MHD_ValueKind kind, const char *key,
                                     const char *value)
{
    struct httphead *h = user;
    (void)kind, (void)value;
    h->n_content_length += strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    h->n_host += strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0;
    return MHD_YES;
}

static int check_head(struct call *c, struct refusal *r)
{
    struct request *q = &c->request;
    const struct server *s = c->http->server;
    struct httphead head = {.host = request_header(q, "Host"),
                            .origin = request_header(q, "Origin"),
                            .content_length = request_header(q, "Content-Length"),
                            .transfer_encoding = request_header(q, "Transfer-Encoding")};
    const struct httprules rules = {.host_option = s->s->host,
                                    .origins = s->s->cors_origins,
                                    .guard_host = s->keys.n == 0,
                                    .max_body = s->s->max_body};
    (void)MHD_get_connection_values(c->connection, MHD_HEADER_KIND, count_headers, &head);
    if (head.origin && httpguard_origin(s->s->cors_origins, head.origin))
        (void)snprintf(c->origin, sizeof c->origin, "%s", head.origin);
    return httpguard_check(&head, &rules, r);
}

// Of a page of an allowed origin; it carries no key.
static enum MHD_Result preflight(struct call *c)
{
    struct reply p = {.status = 204};
    struct MHD_Response *r =
        MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    c->status = p.status;
    c->replied = true;
    if (!r)
        return MHD_NO;
    add_headers(c, &p, r);
    add_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    add_header(r, "Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, *");
    add_header(r, "Access-Control-Max-Age", "600");
    enum MHD_Result rc = MHD_queue_response(c->connection, 204, r);
    MHD_destroy_response(r);
    return rc;
}

static int check_server(const struct call *c, struct refusal *r)
{
    struct server *s = c->http->server;
    if (!c->route->model)
        return 0;
    if (atomic_load(&s->closing))
        return refuse(r, 503, "stopping", "", "the server is stopping");
    if (!atomic_load(&s->ready))
        return refuse(r, 503, "loading", "", "the model is being loaded");
    return 0;
}

// A refusal in front of the body ends the connection, so without a body it waits for the end of the head.
static enum MHD_Result refuse_early(struct call *c)
{
    const char *length = request_header(&c->request, "Content-Length");
    bool body =
        request_header(&c->request, "Transfer-Encoding") || (length && strcmp(length, "0") != 0);
    return body ? send_refusal(c, &c->refusal, c->allow) : MHD_YES;
}

// Whether a body that is too long is let pass, so that the refusal reaches a client that sends all before it reads: a
// key holder's, of twice the limit at most, who did not ask in front of it.
static bool let_pass(const struct call *c)
{
    const struct request *q = &c->request;
    const char *length = request_header(q, "Content-Length");
    return c->refusal.status == 413 && length && !request_header(q, "Expect") &&
           strtoull(length, NULL, 10) / 2 <= c->http->server->s->max_body &&
           apikeys_holder(&c->http->server->keys, request_header(q, "Authorization"),
                          request_header(q, "X-Api-Key")) != 0;
}

// The head is there: a refusal, or on with the body.
static enum MHD_Result begin(struct call *c)
{
    struct request *q = &c->request;
    struct server *s = c->http->server;
    struct refusal *r = &c->refusal;
    if (check_head(c, r) != 0 && let_pass(c)) {
        set_phase(c, HTTPPHASE_BODY);
        return MHD_YES;
    }
    if (r->status)
        return refuse_early(c);
    if (strcmp(q->method, "OPTIONS") == 0 && c->origin[0])
        return MHD_YES;
    q->owner = apikeys_holder(&s->keys, request_header(q, "Authorization"),
                              request_header(q, "X-Api-Key"));
    c->route = route_find(q->method, q->path, &q->rest, c->allow, r);
    if (q->owner == 0 && !(c->route && c->route->open)) {
        c->route = NULL;
        c->allow[0] = 0;
        (void)refuse(r, 401, "invalid_api_key", "", "a valid API key is needed");
        return refuse_early(c);
    }
    if (!c->route || check_server(c, r) != 0)
        return refuse_early(c);
    set_phase(c, HTTPPHASE_BODY);
    return MHD_YES;
}

static bool take_body(struct call *c, const char *bytes, size_t n)
{
    struct server *s = c->http->server;
    (void)pthread_mutex_lock(&c->http->lock);
    if (c->conn)
        c->conn->pace.received += n;
    (void)pthread_mutex_unlock(&c->http->lock);
    if (c->refusal.status)
        return true; // let pass, and dropped
    // what no handler reads is dropped: memory is for those who may ask for something
    if (!c->too_much && c->route && strcmp(c->route->method, "POST") == 0) {
        c->counted += n;
        c->too_much = atomic_fetch_add(&s->body_bytes, n) + n > s->most_bytes;
        textbuf_add(&c->body, bytes, n);
        if (!c->body.failed)
            return true;
    }
    c->dropped += n;
    return c->dropped <= s->s->max_body;
}

static enum MHD_Result answer(struct call *c)
{
    struct server *s = c->http->server;
    struct refusal r;
    struct reply p = {0};
    if (c->refusal.status)
        return send_refusal(c, &c->refusal, c->allow);
    if (!c->route)
        return preflight(c);
    if (c->body.failed && !c->too_much) {
        (void)refuse(&r, 413, "body_too_large", "",
                     "the body has more than %llu bytes, the most that this server accepts",
                     (unsigned long long)s->s->max_body);
        return send_refusal(c, &r, NULL);
    }
    if (c->too_much) {
        (void)refuse(&r, 503, "overloaded", "", "too many large requests at once");
        return send_refusal(c, &r, NULL);
    }
    set_phase(c, HTTPPHASE_WORK);
    c->request.body = textbuf_take(&c->body, &c->request.n_body);
    if (!c->request.body) {
        (void)refuse(&r, 503, "out_of_memory", "", "out of memory");
        return send_refusal(c, &r, NULL);
    }
    c->route->handle(&c->request, &p);
    heap_free(c->request.body);
    c->request.body = NULL;
    return send_reply(c, &p);
}

static struct conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *n_upload, void **context)
{
    struct httpd *h = user;
    struct call *c = *context;
    (void)version;
    if (!c) {
        c = heap_calloc(1, sizeof *c);
        if (!c)
            return MHD_NO;
        *context = c;
        *c = (struct call){.http = h,
                           .connection = connection,
                           .conn = conn_of(connection),
                           .start_ns = clock_now_ns(),
                           .body = {.max = (size_t)h->server->s->max_body}};
        c->request = (struct request){
            .server = h->server, .method = method, .path = url, .rest = "", .carrier = connection};
        (void)atomic_fetch_add(&h->active, 1);
        return begin(c);
    }
    if (*n_upload > 0) {
        bool ok = c->replied || take_body(c, upload, *n_upload);
        *n_upload = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    return c->replied ? MHD_YES : answer(c);
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why)
{
    struct call *c = *context;
    struct httpd *h = user;
    (void)connection, (void)why;
    if (!c)
        return;
    double seconds = (double)(clock_now_ns() - c->start_ns) * 1e-9;
    counters_request(&h->server->counters, c->route ? c->route->path : "other", c->status, seconds);
    if (c->route)
        server_note(h->server, "%s %s %d %.3f s", c->route->method, c->route->path, c->status,
                    seconds);
    (void)atomic_fetch_sub(&h->server->body_bytes, c->counted);
    (void)atomic_fetch_sub(&h->active, 1);
    set_phase(c, HTTPPHASE_HEAD);
    textbuf_free(&c->body);
    heap_free(c->request.body);
    heap_free(c);
    *context = NULL;
}

// ---- connections

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct httpd *h = user;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct conn *c = heap_calloc(1, sizeof *c);
        *context = c;
        if (!c)
            return;
        c->fd = i ? i->connect_fd : -1;
        c->pace.since_ns = clock_now_ns();
        (void)pthread_mutex_lock(&h->lock);
        c->next = h->head;
        c->link = &h->head;
        if (h->head)
            h->head->link = &c->next;
        h->head = c;
        (void)pthread_mutex_unlock(&h->lock);
        (void)atomic_fetch_add(&h->server->n_connection, 1);
        return;
    }
    struct conn *c = *context;
    if (!c)
        return;
    (void)pthread_mutex_lock(&h->lock);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    (void)pthread_mutex_unlock(&h->lock);
    (void)atomic_fetch_sub(&h->server->n_connection, 1);
    heap_free(c);
    *context = NULL;
}

void httpd_sweep(struct httpd *h)
{
    int64_t now = clock_now_ns();
    (void)pthread_mutex_lock(&h->lock);
    for (struct conn *c = h->head; c; c = c->next) {
        if (httppace_slow(&c->pace, now) && c->fd >= 0)
            (void)shutdown(c->fd, SHUT_RDWR);
    }
    (void)pthread_mutex_unlock(&h->lock);
}

// ---- opening

static int read_pem(const char *path, char **out, struct iv_error *e)
{
    FILE *f = fopen(path, "re");
    *out = heap_calloc(PEM_MAX, 1);
    size_t n = f && *out ? fread(*out, 1, PEM_MAX - 1, f) : 0;
    int failed = errno;
    bool bad = !f || ferror(f);
    if (f)
        (void)fclose(f);
    if (!*out)
        return app_error(e, IV_ERR_LIMIT, "out of memory");
    if (bad)
        return app_error(e, IV_ERR_USAGE, "%s: %s", path, strerror(failed));
    return n > 0 ? IV_OK : app_error(e, IV_ERR_USAGE, "%s: empty", path);
}

static void quiet(void *user, const char *format, va_list args)
{
    (void)user, (void)format, (void)args; // what strangers' requests are like is no news
}

static int start(struct httpd *h, const struct addrinfo *at)
{
    const struct settings *s = h->server->s;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                     MHD_USE_POLL | (at->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0) |
                     (h->cert ? MHD_USE_TLS : 0);
    struct MHD_OptionItem more[] = {
        {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert},
        {MHD_OPTION_END, 0, NULL},
    };
    if (!h->cert)
        more[0] = more[2];
    h->daemon = MHD_start_daemon(
        flags, (uint16_t)s->port, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, quiet,
        NULL, MHD_OPTION_SOCK_ADDR, at->ai_addr, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEAD_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        h, MHD_OPTION_LISTEN_BACKLOG_SIZE, 512u, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    return h->daemon ? 0 : -1;
}

static void name_address(struct httpd *h, const struct addrinfo *at)
{
    char host[256] = "?";
    const union MHD_DaemonInfo *i = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    bool six = at->ai_family == AF_INET6;
    (void)getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    (void)snprintf(h->address, sizeof h->address, "http%s://%s%s%s:%u", h->cert ? "s" : "",
                   six ? "[" : "", host, six ? "]" : "", i ? i->port : 0);
}

static int listen_at(struct httpd *h, struct iv_error *e)
{
    const struct settings *s = h->server->s;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    (void)snprintf(port, sizeof port, "%d", s->port);
    if (getaddrinfo(s->host, port, &hints, &found) != 0)
        return app_error(e, IV_ERR_USAGE, "--host: \"%.200s\" is no address of this machine",
                         s->host);
    int rc = IV_OK;
    errno = 0;
    if (start(h, found) == 0)
        name_address(h, found);
    else
        rc = app_error(e, IV_ERR_FAIL, "cannot listen at %.200s port %d%s%s", s->host, s->port,
                       errno ? ": " : (h->cert ? ": certificate, key or port" : ""),
                       errno ? strerror(errno) : "");
    freeaddrinfo(found);
    return rc;
}

// Sockets, uploads and files all take descriptors.
static void raise_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max < 65536 ? l.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &l);
    }
}

int httpd_open(struct server *s, struct httpd **out, struct iv_error *e)
{
    int rc = IV_OK;
    *out = NULL;
    if (!s->s->ssl_cert_file != !s->s->ssl_key_file)
        return app_error(e, IV_ERR_USAGE, "--ssl-cert-file and --ssl-key-file go together");
    struct httpd *h = heap_calloc(1, sizeof *h);
    if (!h || pthread_mutex_init(&h->lock, NULL) != 0) {
        heap_free(h);
        return app_error(e, IV_ERR_LIMIT, "out of memory");
    }
    h->server = s;
    raise_descriptors();
    if (s->s->ssl_cert_file) {
        rc = read_pem(s->s->ssl_cert_file, &h->cert, e);
        if (rc == IV_OK)
            rc = read_pem(s->s->ssl_key_file, &h->key, e);
    }
    if (rc == IV_OK)
        rc = listen_at(h, e);
    if (rc != IV_OK) {
        httpd_close(h);
        return rc;
    }
    *out = h;
    return IV_OK;
}

const char *httpd_address(const struct httpd *h)
{
    return h->address;
}

void httpd_quiesce(struct httpd *h)
{
    MHD_socket fd = MHD_quiesce_daemon(h->daemon);
    if (fd != MHD_INVALID_SOCKET)
        (void)close(fd);
}

unsigned httpd_active(struct httpd *h)
{
    return atomic_load(&h->active);
}

void httpd_close(struct httpd *h)
{
    if (!h)
        return;
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    (void)pthread_mutex_destroy(&h->lock);
    heap_free(h->cert);
    heap_free(h->key);
    heap_free(h);
}

const char *httpd_library(void)
{
    return MHD_get_version();
}
