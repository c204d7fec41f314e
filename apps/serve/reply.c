// SPDX-License-Identifier: MIT
// Replies of the handlers. Easy to get wrong: without memory for a message there is still a status.

#include "httpio.h"

#include <string.h>

#include "heap.h"

static const char no_memory[] =
    "{\"error\":{\"message\":\"out of memory\",\"type\":\"overloaded_error\",\"param\":null,"
    "\"code\":\"out_of_memory\"}}";

void reply_text(struct reply *p, int status, const char *type, char *body, size_t n)
{
    heap_free(p->body);
    *p = (struct reply){.status = status, .type = type, .body = body, .n = n};
    if (!body)
        *p = (struct reply){.status = 503,
                            .type = "application/json",
                            .fixed = no_memory,
                            .n = sizeof no_memory - 1,
                            .retry_s = 1};
}

void reply_json(struct reply *p, int status, struct json_writer *w)
{
    char *text = jw_take(w);
    reply_text(p, status, "application/json", text, text ? strlen(text) : 0);
}

void reply_refusal(struct reply *p, const struct refusal *r, const struct server *s)
{
    char *text = refusal_json(r);
    reply_text(p, r->status, "application/json", text, text ? strlen(text) : 0);
    if (r->status == 429 || r->status == 503)
        p->retry_s = s->retry_s > 1 ? (int)s->retry_s : 1;
}

void reply_free(struct reply *p)
{
    heap_free(p->body);
    heap_free(p->policy);
    if (p->stream)
        job_release(p->stream);
    *p = (struct reply){0};
}
