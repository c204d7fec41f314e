// SPDX-License-Identifier: MIT
// A request and its reply as the handlers see them, without the library that carries them (httpd.c).
#ifndef IV_APPS_SERVE_HTTPIO_H
#define IV_APPS_SERVE_HTTPIO_H

#include "jsontext.h"
#include "refusal.h"
#include "server.h"

struct request {
    struct server *server;
    const char *method, *path; // decoded, without the query
    const char *rest;          // what a "*" at the end of the route stands for, or ""
    unsigned owner;            // holder of the key
    char *body;                // zero-terminated; a handler may take it and set NULL
    size_t n_body;
    void *carrier; // httpd's
};

// NULL = there is none. Lives as long as the request.
const char *request_header(const struct request *q, const char *name);
const char *request_query(const struct request *q, const char *name);
// Whether the client has left. For stop callbacks: user is the request.
bool request_gone(void *request);

struct reply {
    int status;
    const char *type;  // of the content
    char *body;        // heap_free
    const char *fixed; // instead: static bytes
    size_t n;
    char *policy;      // Content-Security-Policy (heap_free); NULL = that of data
    const char *allow; // methods, of a 405
    int retry_s;       // Retry-After; 0 = none
    // A stream in place of a body: bytes of the job until it is done. The reply holds it. finish is asked once
    // then for last bytes (heap_free; NULL = none).
    struct job *stream;
    char *(*finish)(struct job *j, size_t *n);
};

void reply_refusal(struct reply *p, const struct refusal *r, const struct server *s);
// Takes what was written; 503 when memory is short.
void reply_json(struct reply *p, int status, struct json_writer *w);
void reply_text(struct reply *p, int status, const char *type, char *body, size_t n);
void reply_free(struct reply *p);

#endif
