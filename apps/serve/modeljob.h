// SPDX-License-Identifier: MIT
// A request whose answer needs the model or its media: the job, and the wait for it.
#ifndef IV_APPS_SERVE_MODELJOB_H
#define IV_APPS_SERVE_MODELJOB_H

#include "chatreq.h"
#include "httpio.h"
#include "mediacache.h"
#include "sources.h"

struct modeljob {
    struct job job; // first
    struct server *server;
    unsigned owner;
    struct chatreq q;
    struct sources from;
    int (*work)(struct modeljob *m); // 0, or -1 with refusal filled in
    int64_t made_ns, begun_ns;
    char id[64];     // of the reply
    int64_t created; // Unix time
    int number;      // for `work`
    bool flag;       // for `work`
    struct refusal refusal;
    char *body; // JSON of success, when it is no stream
    size_t n_body;
};

// NULL with *r. The request's texts and sources are moved into it.
struct modeljob *modeljob_new(const struct request *q, struct chatreq *c, struct sources *from,
                              int (*work)(struct modeljob *m), struct refusal *r);
// Runs it and fills in the reply; takes m over.
void modeljob_answer(struct modeljob *m, const struct request *q, struct reply *p);
// The job's media, NULL when the request names none; a hold. 0 or -1.
int modeljob_media(struct modeljob *m, struct media_entry **out, bool *found);
// What a failed call of the library means to the client.
int modeljob_failed(struct modeljob *m, int status, const struct iv_error *e);

#endif
