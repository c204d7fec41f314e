// SPDX-License-Identifier: MIT
// The head of an HTTP response, as far as a hub's client needs it.
#ifndef IV_HUB_HTTP_REPLY_H
#define IV_HUB_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_URL_MAX = 8192 };

struct http_reply {
    long status; // of the last response; 0 = none came
    bool has_length, has_range;
    uint64_t length;                              // Content-Length
    uint64_t range_from, range_to, range_total;   // Content-Range: [from,to) of total
    char etag[160], linked_etag[160], commit[64]; // ETag, X-Linked-Etag, X-Repo-Commit
    bool has_linked_size;
    uint64_t linked_size; // X-Linked-Size
    char error_code[64], error_message[256];
    char location[HTTP_URL_MAX]; // of a redirect, absolute; else the URL that answered
    char next[HTTP_URL_MAX];     // Link rel="next"
    double retry_after_s;        // 0 = not said
    bool at_endpoint;            // the answer is the endpoint's own
    bool may_retry;              // the failure may be gone next time
};

// Takes one line of a head, n bytes with or without its line end; a status line forgets what came before
// except at_endpoint. Lines that are too long, unknown or malformed are passed over.
void reply_take_line(struct http_reply *r, const char *line, size_t n);

#endif
