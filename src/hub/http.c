// SPDX-License-Identifier: MIT
// libcurl behind our error convention.
//
//   http_perform: follow redirects by hand { one transfer { multi loop: bytes, stop flag, stall clock } }
//
// Easy to get wrong: libcurl's own redirect following would be free to carry our Authorization header
// along, so redirects are followed here and the header is chosen anew for each hop by comparing
// origins; the easy interface looks at its progress callback only once a second while nothing arrives,
// so the multi interface is used, which wakes ten times a second; a stalled server is noticed by the
// time since the last byte, not by an average speed.
#include "hub/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"

enum { ORIGIN_MAX = 320, POLL_MS = 100, DISCARD_MAX = 64 << 10 };

struct http {
    CURL *easy;
    CURLM *multi;
    struct curl_slist *anonymous, *authorized; // request headers
    char origin[ORIGIN_MAX];                   // of the endpoint
    char *ca_file;
    unsigned stall_s;
    void *user;
    bool (*stop)(void *user);
    char curl_said[CURL_ERROR_SIZE];
    // of the transfer under way
    const struct http_request *q;
    struct http_reply *r;
    double last_byte; // seconds
    size_t discarded;
    bool started, stopped, overlong;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); // a failure shows as a NULL handle
}

// "scheme://host:port" in lower case; false for what is no http(s) URL or carries a user.
static bool origin_of(const char *url, char out[ORIGIN_MAX])
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    CURLU *u = curl_url();
    bool good = u && curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                (!strcasecmp(scheme, "http") || !strcasecmp(scheme, "https"));
    out[0] = 0;
    if (good) {
        int n = snprintf(out, ORIGIN_MAX, "%s://%s:%s", scheme, host, port);
        good = n > 0 && n < ORIGIN_MAX;
        for (char *c = out; *c; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        }
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return good;
}

bool http_same_origin(const char *a, const char *b)
{
    char x[ORIGIN_MAX], y[ORIGIN_MAX];
    return origin_of(a, x) && origin_of(b, y) && !strcmp(x, y);
}

bool http_append_encoded(char *out, size_t cap, const char *text, size_t n, bool slashes)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t at = strlen(out);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && slashes);
        if (at + 4 > cap)
            return false;
        if (plain) {
            out[at++] = (char)c;
        } else {
            out[at++] = '%';
            out[at++] = hex[c >> 4];
            out[at++] = hex[c & 15];
        }
        out[at] = 0;
    }
    return true;
}

void http_describe(char *out, size_t cap)
{
    pthread_once(&once, init_curl);
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    snprintf(out, cap, "libcurl %s (%s)", v->version, v->ssl_version ? v->ssl_version : "no TLS");
}

// ---- callbacks

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    struct http *h = user;
    h->last_byte = clock_s();
    reply_take_line(h->r, line, n * size);
    return n * size;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
    struct http *h = user;
    size_t len = n * size;
    h->last_byte = clock_s();
    if (!h->started) {
        h->started = true;
        curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->r->status);
        if (h->r->status / 100 == 2 && h->q->start && !h->q->start(h->q->user, h->r)) {
            h->stopped = true;
            return 0;
        }
    }
    if (h->r->status / 100 != 2 || !h->q->body) {
        // the text of an error or of a redirect: read so that the connection can be used again
        h->discarded += len;
        h->overlong = h->discarded > DISCARD_MAX;
        return h->overlong ? 0 : len;
    }
    bool more = h->q->body(h->q->user, bytes, len);
    h->last_byte = clock_s(); // a slow disk is no stalled network
    if (!more) {
        h->stopped = true;
        return 0;
    }
    return len;
}

// ---- transfers

bool http_stopped(const struct http *h)
{
    return h->stop && h->stop(h->user);
}

static int run_multi(struct http *h, CURLcode *result, struct err *e)
{
    int rc = 0, running = 1, left = 0;
    *result = CURLE_OK;
    if (curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
        return err_set(e, ERR_LIMIT, "network: out of memory");
    while (running) {
        if (curl_multi_perform(h->multi, &running) != CURLM_OK) {
            rc = err_set(e, ERR_NETWORK, "network: the transfer library failed");
            break;
        }
        if (!running)
            break;
        if (http_stopped(h)) {
            rc = err_set(e, ERR_ABORT, "download stopped");
            break;
        }
        if (clock_s() - h->last_byte > h->stall_s) {
            *result = CURLE_OPERATION_TIMEDOUT;
            break;
        }
        (void)curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left));) {
        if (m->msg == CURLMSG_DONE)
            *result = m->data.result;
    }
    curl_multi_remove_handle(h->multi, h->easy);
    return rc;
}

static bool worth_a_retry(CURLcode c)
{
    return c != CURLE_PEER_FAILED_VERIFICATION && c != CURLE_SSL_CACERT_BADFILE &&
           c != CURLE_URL_MALFORMAT && c != CURLE_UNSUPPORTED_PROTOCOL && c != CURLE_OUT_OF_MEMORY;
}

static int transfer_error(struct http *h, CURLcode c, const char *origin, struct err *e)
{
    h->r->may_retry = worth_a_retry(c);
    if (c == CURLE_OPERATION_TIMEDOUT)
        return err_set(e, ERR_NETWORK, "%s: nothing arrived for %u s", origin, h->stall_s);
    if (c == CURLE_PARTIAL_FILE || c == CURLE_GOT_NOTHING)
        return err_set(e, ERR_NETWORK, "%s: the connection ended before the answer did", origin);
    return err_set(e, ERR_NETWORK, "%s: %s", origin,
                   h->curl_said[0] ? h->curl_said : curl_easy_strerror(c));
}

// libcurl's variadic setter, for readability of the list below
#define SET(option, value) (void)curl_easy_setopt(c, option, value)

static void set_request(struct http *h, const char *url, bool authorized)
{
    const struct http_request *q = h->q;
    CURL *c = h->easy;
    char range[64];
    curl_easy_reset(c); // keeps the connections
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    SET(CURLOPT_QUICK_EXIT, 1L); // a thread that resolves a name is left behind, not waited for
#endif
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, authorized ? h->authorized : h->anonymous);
    SET(CURLOPT_BUFFERSIZE, 512L << 10);
    SET(CURLOPT_ERRORBUFFER, h->curl_said);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, h);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, h);
    if (h->ca_file)
        SET(CURLOPT_CAINFO, h->ca_file);
    if (q->head)
        SET(CURLOPT_NOBODY, 1L);
    if (q->range) {
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)q->from,
                 (unsigned long long)q->to - 1);
        SET(CURLOPT_RANGE, range);
    }
}

// One hop. *next gets where a redirect leads, "" if it is none.
static int one_transfer(struct http *h, const char *url, char *next, struct err *e)
{
    char origin[ORIGIN_MAX];
    const char *target = NULL;
    CURLcode result;
    *next = 0;
    if (!origin_of(url, origin))
        return err_set(e, ERR_NETWORK, "an address that is no plain http or https URL was given");
    memset(h->r, 0, sizeof *h->r);
    h->r->at_endpoint = !strcmp(origin, h->origin);
    h->started = h->stopped = h->overlong = false;
    h->discarded = 0;
    h->curl_said[0] = 0;
    set_request(h, url, h->r->at_endpoint);
    h->last_byte = clock_s();
    int rc = run_multi(h, &result, e);
    if (rc != 0)
        return rc;
    if (result != CURLE_OK && !h->stopped && !h->overlong)
        return transfer_error(h, result, origin, e);
    curl_off_t wait = 0;
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->r->status);
    curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &target);
    curl_easy_getinfo(h->easy, CURLINFO_RETRY_AFTER, &wait);
    h->r->retry_after_s = (double)wait;
    h->r->may_retry = h->r->status == 408 || h->r->status == 429 || h->r->status >= 500;
    if (h->r->status / 100 == 3 && target) {
        if (strlen(target) >= HTTP_URL_MAX)
            return err_set(e, ERR_NETWORK, "%s: redirects to an address of %zu bytes", origin,
                           strlen(target));
        memcpy(next, target, strlen(target) + 1);
    }
    memcpy(h->r->location, *next ? next : url, strlen(*next ? next : url) + 1);
    return 0;
}

int http_perform(struct http *h, const struct http_request *q, struct http_reply *r, struct err *e)
{
    char url[HTTP_URL_MAX], next[HTTP_URL_MAX];
    memset(r, 0, sizeof *r);
    h->q = q;
    h->r = r;
    if (strlen(q->url) >= sizeof url)
        return err_set(e, ERR_USAGE, "an address of %zu bytes", strlen(q->url));
    memcpy(url, q->url, strlen(q->url) + 1);
    for (int hop = 0; hop <= HTTP_REDIRECTS; hop++) {
        int rc = one_transfer(h, url, next, e);
        if (rc != 0 || !*next)
            return rc;
        if (!strncasecmp(url, "https:", 6) && strncasecmp(next, "https:", 6) != 0)
            return err_set(e, ERR_NETWORK, "%s: redirects from https to an unprotected address",
                           h->origin);
        if (q->stay && !http_same_origin(url, next))
            return 0;
        memcpy(url, next, strlen(next) + 1);
    }
    return err_set(e, ERR_NETWORK, "%s: redirected more than %d times", h->origin, HTTP_REDIRECTS);
}

static bool append(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer)
        *list = longer;
    return longer != NULL;
}

int http_open(const struct http_options *o, struct http **out, struct err *e)
{
    char *line = NULL;
    int rc = 0;
    *out = NULL;
    pthread_once(&once, init_curl);
    struct http *h = mem_calloc(1, sizeof *h);
    if (!h)
        return err_set(e, ERR_LIMIT, "network: out of memory");
    h->stall_s = o->stall_s;
    h->user = o->user;
    h->stop = o->stop;
    if (!origin_of(o->endpoint, h->origin))
        TRY(err_set(e, ERR_USAGE, "HF_ENDPOINT \"%s\": expected http://HOST or https://HOST",
                    strchr(o->endpoint, '@') ? "(with a user or an @)" : o->endpoint));
    h->easy = curl_easy_init();
    h->multi = curl_multi_init();
    size_t cap = 32 + (o->token ? strlen(o->token) : 0);
    line = mem_calloc(cap, 1);
    h->ca_file = o->ca_file ? mem_strndup(o->ca_file, strlen(o->ca_file)) : NULL;
    bool good = h->easy && h->multi && line && (h->ca_file || !o->ca_file);
    struct curl_slist **lists[] = {&h->anonymous, &h->authorized};
    for (int i = 0; i < 2 && good; i++)
        good = append(lists[i], "User-Agent: ivchat/" IV_VERSION) &&
               append(lists[i], "Accept-Encoding: identity");
    if (good && o->token) {
        snprintf(line, cap, "Authorization: Bearer %s", o->token);
        good = append(&h->authorized, line);
        explicit_bzero(line, cap);
    }
    if (!good)
        TRY(err_set(e, ERR_LIMIT, "network: out of memory"));
    mem_free(line);
    *out = h;
    return 0;
fail:
    mem_free(line);
    http_close(h);
    return rc;
}

// libcurl keeps a copy of each header line.
static void wipe(struct curl_slist *list)
{
    for (; list; list = list->next)
        explicit_bzero(list->data, strlen(list->data));
}

void http_close(struct http *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->anonymous);
    wipe(h->authorized);
    curl_slist_free_all(h->authorized);
    mem_free(h->ca_file);
    mem_free(h);
}
