// SPDX-License-Identifier: MIT
// Conversations that may go on: sessions whose keys and values a next request of the same client can reuse.
#ifndef IV_APPS_SERVE_TALKS_H
#define IV_APPS_SERVE_TALKS_H

#include "mediacache.h"

struct talk {
    iv_session *session;
    // the rest belongs to talks.c
    struct media_entry *media; // held; NULL = text only
    unsigned owner;
    char *instruction, *msg;
    bool time_text, idle;
    uint64_t used;
    _Atomic(struct job *) job;
    struct talk *next;
};

struct talks *talks_open(struct server *s, size_t max_idle);
void talks_close(struct talks *t); // NULL is allowed
// A session of this owner about this media (NULL = none) under the request's texts: the one whose turns agree
// most with the request's, else a new one. The job's stop and progress are the session's until talks_give. The turns are
// those of the request except the last. 0 or -1 with *r.
int talks_take(struct talks *t, unsigned owner, struct media_entry *media, const struct chatreq *q,
               struct job *job, struct talk **out, struct refusal *r);
// reuse: it is sound.
void talks_give(struct talks *t, struct talk *talk, bool reuse);

#endif
