// SPDX-License-Identifier: MIT
// Which URLs and addresses a server may fetch for a stranger. One strict reader for both the check and the fetch.
#ifndef IV_APPS_SERVE_URLGUARD_H
#define IV_APPS_SERVE_URLGUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct url {
    char host[256]; // lower case; an IPv6 address without brackets
    unsigned port;
    bool literal;     // host is an address
    const char *tail; // path, query: in the text that was read, "/..." or ""
    size_t n_tail;
};

// https://HOST[:PORT][/PATH] of plain ASCII, without user names, backslashes, fragments' tricks or unusual
// spellings of addresses. false = not such a URL.
bool url_read(struct url *u, const char *text, size_t n);
// The same text again from what was read, zero-terminated; false when cap is too small.
bool url_write(const struct url *u, char *out, size_t cap);

// Whether a list "HOST[:PORT],..." names u's host and port (443 when it names none).
bool url_allowed(const struct url *u, const char *list);
// Whether the address is one of the public internet: no loopback, private, link-local, shared, documentation,
// multicast, reserved or translated range.
bool address_public(const struct sockaddr *a);

#endif
