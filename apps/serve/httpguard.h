// SPDX-License-Identifier: MIT
// What the head of a request must satisfy before its body is read.
#ifndef IV_APPS_SERVE_HTTPGUARD_H
#define IV_APPS_SERVE_HTTPGUARD_H

#include <stdbool.h>

#include "refusal.h"

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

#endif
