// SPDX-License-Identifier: MIT
// The hub's API: revisions, lists of files, where a file lies; with retries, and refusals in words.
#ifndef IV_HUB_REMOTE_H
#define IV_HUB_REMOTE_H

#include "hub/http.h"
#include "hub/hubenv.h"
#include "hub/listing.h"
#include "hub/repo_name.h"

// One thread. `say` (may be NULL) gets a line before each wait.
struct remote {
    struct http *http;
    const struct hubenv *env;
    const struct repo_name *name;
    char base_model[REPO_ID_MAX + 1]; // whose page grants access too; "" = unknown
    unsigned retries;
    void *user;
    void (*say)(void *user, const char *line);
};

int remote_info(struct remote *r, struct repo_info *out, struct err *e);
// The files at a commit, sorted; listing_free in all cases.
int remote_list(struct remote *r, const char *commit, struct listing *out, struct err *e);

// Where the bytes of a file are now, and what they are.
struct remote_place {
    char url[HTTP_URL_MAX]; // may be of another host, and expire
    char etag[REPO_ETAG_MAX + 1];
    uint64_t size;
};
// ERR_NETWORK also when the answer contradicts the list.
int remote_locate(struct remote *r, const char *commit, const struct remote_file *f,
                  struct remote_place *out, struct err *e);

// A request that is repeated while that may help. 0 = an answer with status below 400.
int remote_request(struct remote *r, const struct http_request *q, const char *what,
                   struct http_reply *reply, struct err *e);
// The error that an answer of status >= 400 means for `what`.
int remote_refused(const struct remote *r, const struct http_reply *reply, const char *what,
                   struct err *e);
// Sleeps before the k-th repetition (from 0), or as long as the server asked; says why. false = stopped, or
// the server asks for more than REMOTE_WAIT_MAX.
enum { REMOTE_WAIT_MAX = 600 };
bool remote_wait(const struct remote *r, unsigned k, const struct http_reply *reply,
                 const char *why);

#endif
