// SPDX-License-Identifier: MIT
// From what a request says of its media to their bytes.
#ifndef IV_APPS_SERVE_SOURCES_H
#define IV_APPS_SERVE_SOURCES_H

#include "chatreq.h"
#include "httpio.h"

// Items of one request: one video, or images in order. Holds on them, to sources_drop.
struct sources {
    struct item *item[CHATREQ_MEDIA_MAX];
    size_t n;
    bool image;
    char *shown; // path of a file as the client named it; NULL = none
    struct server *server;
    uint64_t fetched; // bytes that count in server->body_bytes
};

// 0 or -1 with *r; then nothing is held. May take the time of a download.
int sources_open(struct sources *s, const struct request *q, const struct chatreq *c,
                 struct refusal *r);
void sources_drop(struct sources *s);

#endif
