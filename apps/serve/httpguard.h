// SPDX-License-Identifier: MIT
// What the head of a request must satisfy before its body is read.
#ifndef IV_APPS_SERVE_HTTPGUARD_H
#define IV_APPS_SERVE_HTTPGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "refusal.h"

enum {
    // from a connection's first moment, or the end of the reply before, to the end of the head
    HTTPPACE_HEAD_S = 20,
    HTTPPACE_BODY_S = 30,     // a stretch of a body ...
    HTTPPACE_BODY_RATE = 4096 // ... and the bytes a second that come in each
};

enum httpphase { HTTPPHASE_HEAD, HTTPPHASE_BODY, HTTPPHASE_WORK };

// How a client sends its request. Set anew with each phase.
struct httppace {
    enum httpphase phase;
    int64_t since_ns;
    uint64_t received; // bytes of the body since then
};

struct httphead {
    const char *host, *origin, *content_length, *transfer_encoding; // NULL = absent
    unsigned n_content_length, n_host;
};

struct httprules {
    const char *host_option; // --host
    const char *origins;     // --cors-origins; NULL = none
    bool guard_host;         // no keys: names of this machine only, against DNS rebinding
    unsigned long long max_body;
};

// Whether the list "ORIGIN,ORIGIN" or "*" names it.
bool httpguard_origin(const char *origins, const char *origin);
// 0 or -1 with *r: 400, 403, 413.
int httpguard_check(const struct httphead *h, const struct httprules *rules, struct refusal *r);

// Whether it is too slow. Begins the next stretch of a body where one is over.
bool httppace_slow(struct httppace *p, int64_t now_ns);

#endif
