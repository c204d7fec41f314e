// SPDX-License-Identifier: MIT
// Reads header lines of a response.
//
//   Content-Length  Content-Range  ETag  X-Linked-ETag  X-Linked-Size  X-Repo-Commit  X-Error-*  Link
//
// Easy to get wrong: "100 Continue" has a head of its own in front of the one that counts; a value that does
// not fit is left out, never cut, since half an ETag is another ETag.
#include "hub/http_reply.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool parse_u64(const char *s, const char **end, uint64_t *out)
{
    uint64_t v = 0;
    const char *p = s;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    }
    *out = v;
    *end = p;
    return p > s;
}

static void parse_content_range(struct http_reply *r, const char *v)
{
    uint64_t from, last, total;
    if (strncasecmp(v, "bytes ", 6) != 0 || !parse_u64(v + 6, &v, &from) || *v++ != '-' ||
        !parse_u64(v, &v, &last) || *v++ != '/' || !parse_u64(v, &v, &total) || *v || last < from ||
        last >= total)
        return;
    r->has_range = true;
    r->range_from = from;
    r->range_to = last + 1;
    r->range_total = total;
}

// Link: <url>; rel="next", <url>; rel="prev"
static void parse_link(struct http_reply *r, const char *v)
{
    while ((v = strchr(v, '<'))) {
        const char *end = strchr(v, '>');
        if (!end)
            return;
        const char *stop = strchr(end, '<');
        const char *rel = strstr(end, "rel=\"next\"");
        if (rel && (!stop || rel < stop)) {
            if ((size_t)(end - v) <= sizeof r->next)
                snprintf(r->next, sizeof r->next, "%.*s", (int)(end - v - 1), v + 1);
            return;
        }
        v = end;
    }
}

static void keep(char *out, size_t cap, const char *value)
{
    size_t n = strlen(value);
    if (n < cap)
        memcpy(out, value, n + 1);
}

static void take_header(struct http_reply *r, const char *name, const char *value)
{
    const char *end;
    uint64_t v;
    if (!strcasecmp(name, "content-length")) {
        r->has_length = parse_u64(value, &end, &v) && !*end;
        r->length = r->has_length ? v : 0;
    } else if (!strcasecmp(name, "content-range")) {
        parse_content_range(r, value);
    } else if (!strcasecmp(name, "etag")) {
        keep(r->etag, sizeof r->etag, value);
    } else if (!strcasecmp(name, "x-linked-etag")) {
        keep(r->linked_etag, sizeof r->linked_etag, value);
    } else if (!strcasecmp(name, "x-linked-size")) {
        r->has_linked_size = parse_u64(value, &end, &v) && !*end;
        r->linked_size = r->has_linked_size ? v : 0;
    } else if (!strcasecmp(name, "x-repo-commit")) {
        keep(r->commit, sizeof r->commit, value);
    } else if (!strcasecmp(name, "x-error-code")) {
        keep(r->error_code, sizeof r->error_code, value);
    } else if (!strcasecmp(name, "x-error-message")) {
        snprintf(r->error_message, sizeof r->error_message, "%s", value);
    } else if (!strcasecmp(name, "link")) {
        parse_link(r, value);
    }
}

static void forget_response(struct http_reply *r)
{
    bool at_endpoint = r->at_endpoint;
    memset(r, 0, sizeof *r);
    r->at_endpoint = at_endpoint;
}

void reply_take_line(struct http_reply *r, const char *line, size_t n)
{
    char text[HTTP_URL_MAX];
    if (n >= 5 && !memcmp(line, "HTTP/", 5)) {
        forget_response(r);
        return;
    }
    if (n >= sizeof text || memchr(line, 0, n))
        return;
    memcpy(text, line, n);
    text[n] = 0;
    char *value = strchr(text, ':');
    if (!value)
        return;
    *value++ = 0;
    while (*value == ' ' || *value == '\t')
        value++;
    size_t end = strlen(value);
    while (end > 0 && strchr(" \t\r\n", value[end - 1]))
        value[--end] = 0;
    take_header(r, text, value);
}
