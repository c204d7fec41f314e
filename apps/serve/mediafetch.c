// SPDX-License-Identifier: MIT
// A fetch for a stranger. Each hop by itself:
//
//   url_read -> on the list -> name resolved once -> every address public -> connect to exactly those -> https
//   a redirect begins again at the first step, at most five times
//
// Not src/hub/http.c, whose redirects, proxies and tokens are those of a person's own downloads.
//
// Easy to get wrong: one private address among several is enough to refuse (which one is taken is chance); libcurl gets a
// list of addresses and a socket callback that looks again, so that no second resolution can differ; no proxy, no
// cookies, no .netrc; a body is counted while it comes, whatever its Content-Length said.

#include "mediafetch.h"

#include <curl/curl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <unistd.h>

#include "items.h"
#include "jobs.h"
#include "textbuf.h"
#include "urlguard.h"

enum { REDIRECTS = 5, URL_MAX = 8192, CONNECT_S = 10 };

struct hop {
    const struct mediafetch *f;
    struct url url;
    struct addrinfo *found;
    int fd;
    int64_t until_ns; // of all hops together
    uint64_t size;
    bool too_large, crowded;
    char location[URL_MAX];
};

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    struct hop *h = user;
    size_t bytes = size * n;
    if (bytes > h->f->max - h->size) {
        h->too_large = true;
        return 0;
    }
    if (!h->f->room(h->f->user, bytes)) {
        h->crowded = true;
        return 0;
    }
    h->size += bytes;
    return item_append(h->fd, p, bytes) ? bytes : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct hop *h = user;
    (void)a, (void)b, (void)c, (void)d;
    return h->f->stop && h->f->stop(h->f->user);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET) {
        struct sockaddr_in x, y;
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return x.sin_addr.s_addr == y.sin_addr.s_addr;
    }
    struct sockaddr_in6 x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return memcmp(&x.sin6_addr, &y.sin6_addr, sizeof x.sin6_addr) == 0;
}

// The last look before a connection is made.
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
    const struct hop *h = user;
    (void)purpose;
    for (const struct addrinfo *i = h->found; i; i = i->ai_next) {
        if (same_address(i->ai_addr, &a->addr) && h->f->acceptable(&a->addr))
            return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    }
    return CURL_SOCKET_BAD;
}

static int not_allowed(struct refusal *r, const char *where)
{
    return refuse(r, 400, "remote_media_not_allowed", where,
                  "%s: this server does not fetch media from there", where);
}

// Every address of the host, each acceptable.
static int resolve(struct hop *h, const char *where, struct refusal *r)
{
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    (void)snprintf(port, sizeof port, "%u", h->url.port);
    if (getaddrinfo(h->url.host, port, &hints, &h->found) != 0) {
        h->found = NULL;
        return refuse(r, 400, "media_not_reachable", where, "%s: the host is not known", where);
    }
    for (const struct addrinfo *a = h->found; a; a = a->ai_next) {
        if (!h->f->acceptable(a->ai_addr))
            return not_allowed(r, where);
    }
    return 0;
}

// "host:port:address,address"
static bool pin(const struct hop *h, struct curl_slist **list)
{
    struct textbuf b = {.max = 65536};
    textbuf_printf(&b, "%s:%u:", h->url.host, h->url.port);
    for (const struct addrinfo *a = h->found; a; a = a->ai_next) {
        char text[INET6_ADDRSTRLEN + 2];
        if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        bool six = a->ai_family == AF_INET6;
        textbuf_printf(&b, "%s%s%s%s", a == h->found ? "" : ",", six ? "[" : "", text,
                       six ? "]" : "");
    }
    *list = b.failed ? NULL : curl_slist_append(NULL, b.data);
    textbuf_free(&b);
    return *list != NULL;
}

static bool configure(CURL *c, struct hop *h, const char *url, struct curl_slist *pinned)
{
    long left_ms = (long)((h->until_ns - clock_now_ns()) / 1000000);
    bool ok = curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_RESOLVE, pinned) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_socket) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, h) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEDATA, h) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_XFERINFODATA, h) == CURLE_OK;
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, left_ms > 1 ? left_ms : 1L);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "ivchat");
    if (h->f->ca_file)
        ok = ok && curl_easy_setopt(c, CURLOPT_CAINFO, h->f->ca_file) == CURLE_OK;
    return ok;
}

static int failed(const struct hop *h, CURLcode rc, const char *where, struct refusal *r)
{
    if (h->too_large)
        return refuse(r, 413, "media_too_large", where, "%s: more than %llu bytes", where,
                      (unsigned long long)h->f->max);
    if (h->crowded)
        return refuse(r, 503, "overloaded", where, "too many large requests at once");
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return refuse(r, 503, "stopped", where, "stopped");
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return refuse(r, 400, "media_not_reachable", where, "%s: the download took too long",
                      where);
    return refuse(r, 400, "media_not_reachable", where, "%s: the download failed", where);
}

// One request. 0: r is untouched, *status is HTTP's and h->location says where a redirect leads.
static int perform(struct hop *h, const char *where, long *status, struct refusal *r)
{
    char url[URL_MAX];
    struct curl_slist *pinned = NULL;
    char *to = NULL;
    CURL *c = curl_easy_init();
    int rc = -1;
    h->location[0] = 0;
    if (!c || !url_write(&h->url, url, sizeof url) || !pin(h, &pinned) ||
        !configure(c, h, url, pinned)) {
        rc = refuse(r, 503, "out_of_memory", where, "out of memory");
    } else {
        CURLcode code = curl_easy_perform(c);
        (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
        (void)curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, &to);
        if (to)
            (void)snprintf(h->location, sizeof h->location, "%s", to);
        rc = code == CURLE_OK ? 0 : failed(h, code, where, r);
    }
    curl_slist_free_all(pinned);
    curl_easy_cleanup(c);
    return rc;
}

static int one_hop(struct hop *h, const char *url, size_t n, const char *where, long *status,
                   struct refusal *r)
{
    h->found = NULL;
    if (!url_read(&h->url, url, n) || !url_allowed(&h->url, h->f->allowed))
        return not_allowed(r, where);
    int rc = resolve(h, where, r);
    if (rc == 0)
        rc = perform(h, where, status, r);
    if (h->found)
        freeaddrinfo(h->found);
    return rc;
}

// Follows redirects, each checked like the first URL.
static int follow(struct hop *h, const char *url, size_t n, const char *where, struct refusal *r)
{
    char next[URL_MAX];
    for (int i = 0; i <= REDIRECTS; i++) {
        long status = 0;
        if (one_hop(h, url, n, where, &status, r) != 0)
            return -1;
        if (status >= 200 && status < 300)
            return h->size > 0 ? 0 : refuse(r, 415, "not_a_video", where, "%s: empty", where);
        if (status < 300 || status >= 400 || !h->location[0])
            return refuse(r, 400, "media_not_reachable", where, "%s: the host said %ld", where,
                          status);
        if (ftruncate(h->fd, 0) != 0 || lseek(h->fd, 0, SEEK_SET) != 0)
            return refuse(r, 503, "out_of_memory", where, "out of memory");
        h->size = 0;
        memcpy(next, h->location, sizeof next);
        url = next;
        n = strlen(next);
    }
    return refuse(r, 400, "media_not_reachable", where, "%s: more than %d redirects", where,
                  REDIRECTS);
}

int mediafetch(const struct mediafetch *f, const char *url, size_t n, const char *where, int *fd,
               uint64_t *size, struct refusal *r)
{
    struct hop h = {.f = f, .fd = -1, .until_ns = clock_now_ns() + (int64_t)(f->seconds * 1e9)};
    *fd = -1;
    if (!f->allowed || !*f->allowed)
        return refuse(r, 400, "remote_media_not_allowed", where,
                      "%s: this server fetches no remote media; send the bytes", where);
    h.fd = item_memory();
    if (h.fd < 0)
        return refuse(r, 503, "out_of_memory", where, "out of memory");
    if (follow(&h, url, n, where, r) != 0) {
        (void)close(h.fd);
        return -1;
    }
    *fd = h.fd;
    *size = h.size;
    return 0;
}
