// SPDX-License-Identifier: MIT
// Heads of requests. A page of another site can make a browser send requests to this machine:
//
//   Origin          names a site that is not us and not in --cors-origins                 403
//   Host            without keys only names of this machine count, since a stranger's name may resolve to it 403
//   two lengths     Content-Length with Transfer-Encoding, or twice: two readers, two requests   400
//   two Hosts       likewise; a coding of the body other than "chunked" has no end that we know     400
//
// Easy to get wrong: the port of Origin counts; "null" is an origin; a browser sends no Origin with a plain GET of
// its own site; the rate of a body is that of its last stretch, or who sent much at once might hold it for hours.

#include "httpguard.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool httpguard_origin(const char *origins, const char *origin)
{
    size_t n = origin ? strlen(origin) : 0;
    for (const char *p = origins; p && *p && n > 0;) {
        size_t len = strcspn(p, ",");
        if ((len == 1 && *p == '*') || (len == n && strncasecmp(p, origin, n) == 0))
            return true;
        p += len + (p[len] == ',');
    }
    return false;
}

// Host without its port and brackets.
static bool bare_host(const char *host, char out[256])
{
    bool six = host[0] == '[';
    const char *from = host + six;
    size_t n = strcspn(from, six ? "]" : ":");
    if (n == 0 || n > 255)
        return false;
    memcpy(out, from, n);
    out[n] = 0;
    return true;
}

static bool host_is_ours(const char *host, const struct httprules *rules)
{
    char name[256], origin[300];
    struct in6_addr address;
    if (!bare_host(host, name))
        return false;
    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return true; // no name, nothing to rebind
    if (strcasecmp(name, "localhost") == 0 || strcasecmp(name, rules->host_option) == 0)
        return true;
    (void)snprintf(origin, sizeof origin, "https://%s", host);
    if (rules->origins && strcmp(rules->origins, "*") != 0 &&
        httpguard_origin(rules->origins, origin))
        return true;
    (void)snprintf(origin, sizeof origin, "http://%s", host);
    return rules->origins && strcmp(rules->origins, "*") != 0 &&
           httpguard_origin(rules->origins, origin);
}

static bool same_origin(const char *origin, const char *host)
{
    const char *slashes = strstr(origin, "://");
    return slashes && host && strcasecmp(slashes + 3, host) == 0;
}

int httpguard_check(const struct httphead *h, const struct httprules *rules, struct refusal *r)
{
    if (h->n_content_length > 1 || (h->content_length && h->transfer_encoding))
        return refuse(r, 400, "invalid_request", "", "the length of the body is told twice");
    if (h->n_host > 1)
        return refuse(r, 400, "invalid_request", "", "the host is told twice");
    if (h->transfer_encoding && strcasecmp(h->transfer_encoding, "chunked") != 0)
        return refuse(r, 400, "invalid_request", "",
                      "no transfer coding but chunked is known here");
    if (rules->guard_host && h->host && !host_is_ours(h->host, rules))
        return refuse(r, 403, "forbidden_host", "",
                      "this server answers to the name of its own machine only; set --api-key or "
                      "--cors-origins");
    if (h->origin && !same_origin(h->origin, h->host) &&
        !httpguard_origin(rules->origins, h->origin))
        return refuse(r, 403, "forbidden_origin", "",
                      "pages of other sites may not use this server; see --cors-origins");
    if (h->content_length) {
        char *end;
        size_t digits = strspn(h->content_length, "0123456789");
        unsigned long long n = strtoull(h->content_length, &end, 10);
        if (digits == 0 || h->content_length[digits])
            return refuse(r, 400, "invalid_request", "", "the length of the body is no number");
        if (digits > 18 || n > rules->max_body)
            return refuse(r, 413, "body_too_large", "",
                          "the body has more than %llu bytes, the most that this server accepts",
                          rules->max_body);
    }
    return 0;
}

bool httppace_slow(struct httppace *p, int64_t now_ns)
{
    int64_t s = (now_ns - p->since_ns) / 1000000000;
    if (p->phase == HTTPPHASE_HEAD)
        return s > HTTPPACE_HEAD_S;
    if (p->phase != HTTPPHASE_BODY || s <= HTTPPACE_BODY_S)
        return false;
    bool slow = p->received / (uint64_t)s < HTTPPACE_BODY_RATE;
    p->since_ns = now_ns;
    p->received = 0;
    return slow;
}
