// SPDX-License-Identifier: MIT
// HTTP(S) requests as a hub needs them: the library's one door to libcurl.
#ifndef IV_HUB_HTTP_H
#define IV_HUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hub/http_reply.h"

enum { HTTP_REDIRECTS = 10 };

struct http_options {
    const char *endpoint; // scheme://host[:port][/path]: the only origin that sees the token
    const char *token;    // NULL = none
    const char *ca_file;  // certificates to trust; NULL = the system's
    unsigned stall_s;     // a transfer without a byte for so long has failed; > 0
    void *user;
    bool (*stop)(
        void *user); // true = give up within 100 ms (before libcurl 7.87: after the name of
                     // the host is resolved) with ERR_ABORT; NULL = never
};

struct http_request {
    const char *url;
    bool head;
    bool range; // ask for bytes [from,to)
    uint64_t from, to;
    bool stay; // do not follow a redirect to another origin: it is the answer
    void *user;
    // The head of the response that will be given to body, before its first byte. false = stop reading.
    bool (*start)(void *user, const struct http_reply *r);
    // Bytes of a 2xx response. false = stop reading.
    bool (*body)(void *user, const void *bytes, size_t n);
};

// A connection and what it remembers; one thread. Caller closes.
struct http;
int http_open(const struct http_options *o, struct http **out, struct err *e);
void http_close(struct http *h);

// One request, redirects followed. 0 when a response arrived (look at r->status) or when start or body
// stopped it; else ERR_NETWORK or ERR_ABORT. Messages name host and cause, never a token or a query.
int http_perform(struct http *h, const struct http_request *q, struct http_reply *r, struct err *e);

// Whether the caller of http_open asks to stop.
bool http_stopped(const struct http *h);

// Whether two URLs have the same scheme, host and port. false if one is no plain http(s) URL.
bool http_same_origin(const char *a, const char *b);
// Appends n bytes of text to the zero-terminated URL in out, percent-encoded except for unreserved
// characters and, with `slashes`, '/'. false when cap is too small.
bool http_append_encoded(char *out, size_t cap, const char *text, size_t n, bool slashes);

// For --version: "libcurl 7.88.1 (OpenSSL/3.0.19)".
void http_describe(char *out, size_t cap);

#endif
