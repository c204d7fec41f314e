// SPDX-License-Identifier: MIT
// Guards against a server that fetches what only it can reach.
//
// Easy to get wrong: what a checker and a fetcher read differently goes past the checker, so everything that is not
// plainly https://name/path is refused, and libcurl gets a URL written from what was checked; "127.1", "0x7f.1",
// "2130706433" and "0177.0.0.1" are addresses to resolvers, so a host whose last label begins with a digit must
// be four plain decimal numbers; IPv6 has several prefixes that carry IPv4 addresses, so only 2000::/3 counts
// as public and its special blocks are taken out.

#include "urlguard.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// Four decimal numbers without leading zeros.
static bool plain_ipv4(const char *host)
{
    unsigned parts = 0, value;
    for (const char *p = host;; p++) {
        const char *start = p;
        for (value = 0; is_digit(*p) && p - start < 4; p++)
            value = 10 * value + (unsigned)(*p - '0');
        if (p == start || p - start > 3 || value > 255 || (*start == '0' && p - start > 1))
            return false;
        parts++;
        if (*p != '.')
            return *p == 0 && parts == 4;
    }
}

static bool plain_name(const char *host)
{
    size_t label = 0;
    const char *last = host;
    for (const char *p = host; *p; p++) {
        if (*p == '.') {
            if (label == 0 || p[-1] == '-')
                return false;
            label = 0;
            last = p + 1;
            continue;
        }
        if (!is_digit(*p) && !is_letter(*p) && (*p != '-' || label == 0) && *p != '_')
            return false;
        if (++label > 63)
            return false;
    }
    // a last label with a digit in front would be read as a number by some
    return label > 0 && !is_digit(*last) && host[strlen(host) - 1] != '-';
}

// The host between the slashes and the port; *used bytes.
static bool read_host(struct url *u, const char *s, size_t n, size_t *used)
{
    size_t len = 0;
    struct in6_addr six;
    bool bracket = n > 0 && s[0] == '[';
    size_t at = bracket;
    while (at + len < n && s[at + len] != '/' && s[at + len] != '?' && s[at + len] != '#' &&
           s[at + len] != ']' && (bracket || s[at + len] != ':'))
        len++;
    if (len == 0 || len >= sizeof u->host || (bracket && (at + len >= n || s[at + len] != ']')))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = s[at + i];
        u->host[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    u->host[len] = 0;
    *used = at + len + bracket;
    u->literal = bracket ? inet_pton(AF_INET6, u->host, &six) == 1 : plain_ipv4(u->host);
    return u->literal || (!bracket && plain_name(u->host));
}

bool url_read(struct url *u, const char *text, size_t n)
{
    size_t used, at = 8;
    *u = (struct url){.port = 443};
    if (n < 9 || n > 4096 || strncasecmp(text, "https://", 8) != 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] <= ' ' || text[i] > '~' || strchr("\\\"<>^`{|}", text[i]))
            return false;
    }
    if (!read_host(u, text + at, n - at, &used))
        return false;
    at += used;
    if (at < n && text[at] == ':') {
        unsigned port = 0;
        size_t digits = 0;
        for (at++; at < n && is_digit(text[at]) && digits < 6; at++, digits++)
            port = 10 * port + (unsigned)(text[at] - '0');
        if (digits == 0 || port < 1 || port > 65535)
            return false;
        u->port = port;
    }
    if (at < n && text[at] != '/' && text[at] != '?')
        return false; // "@", a second ":" ... belong to no plain URL
    const char *hash = memchr(text + at, '#', n - at);
    u->tail = text + at;
    u->n_tail = hash ? (size_t)(hash - u->tail) : n - at;
    return true;
}

bool url_write(const struct url *u, char *out, size_t cap)
{
    bool six = strchr(u->host, ':') != NULL;
    int n =
        snprintf(out, cap, "https://%s%s%s:%u%s%.*s", six ? "[" : "", u->host, six ? "]" : "",
                 u->port, u->n_tail > 0 && u->tail[0] == '/' ? "" : "/", (int)u->n_tail, u->tail);
    return n > 0 && (size_t)n < cap;
}

bool url_allowed(const struct url *u, const char *list)
{
    char whole[280];
    for (const char *p = list; p && *p;) {
        size_t n = strcspn(p, ","), blank = strspn(p, " ");
        const char *word = p + (blank < n ? blank : n);
        size_t len = n - (size_t)(word - p);
        while (len > 0 && word[len - 1] == ' ')
            len--;
        (void)snprintf(whole, sizeof whole, "%s:%u", u->host, u->port);
        if (strlen(whole) == len && strncasecmp(whole, word, len) == 0)
            return true;
        if (u->port == 443 && strlen(u->host) == len && strncasecmp(u->host, word, len) == 0)
            return true;
        p += n + (p[n] == ',');
    }
    return false;
}

struct range {
    uint32_t first; // of an IPv4 address, or the first 32 bits of an IPv6 one
    unsigned bits;
};

static bool within(const struct range *ranges, size_t n, uint32_t a)
{
    for (size_t i = 0; i < n; i++) {
        if ((a ^ ranges[i].first) >> (32 - ranges[i].bits) == 0)
            return true;
    }
    return false;
}

static bool public_ipv4(uint32_t a)
{
    static const struct range special[] = {
        {0x00000000, 8},  // this network
        {0x0a000000, 8},  // private
        {0x64400000, 10}, // shared by providers
        {0x7f000000, 8},  // loopback
        {0xa9fe0000, 16}, // link-local, and the metadata of clouds
        {0xac100000, 12}, // private
        {0xc0000000, 24}, // protocol assignments
        {0xc0000200, 24}, // documentation
        {0xc0586300, 24}, // 6to4 relays
        {0xc0a80000, 16}, // private
        {0xc6120000, 15}, // benchmarks
        {0xc6336400, 24}, // documentation
        {0xcb007100, 24}, // documentation
        {0xe0000000, 3},  // multicast and reserved
    };
    return !within(special, sizeof special / sizeof *special, a);
}

static bool public_ipv6(const uint8_t *a)
{
    static const struct range special[] = {
        {0x20010000, 23}, // Teredo and other assignments
        {0x20010db8, 32}, // documentation
        {0x20020000, 16}, // 6to4: an IPv4 address inside
        {0x3fff0000, 20}, // documentation
    };
    uint32_t first = (uint32_t)a[0] << 24 | (uint32_t)a[1] << 16 | (uint32_t)a[2] << 8 | a[3];
    return first >> 29 == 1 && !within(special, sizeof special / sizeof *special, first);
}

bool address_public(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, a, sizeof four);
        return public_ipv4(ntohl(four.sin_addr.s_addr));
    }
    if (a->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, a, sizeof six);
        return public_ipv6(six.sin6_addr.s6_addr);
    }
    return false;
}
