// SPDX-License-Identifier: MIT
// GET /: the page, with a fresh nonce in place of each mark, so that only its own script and style run.
//
// Easy to get wrong: a nonce that repeats is none; what the page loads comes from here or from its own memory (blob:,
// data:), never from another host.

#include <stdio.h>
#include <string.h>

#include "embedded.h"
#include "heap.h"
#include "routes.h"

static const char mark[] = "@NONCE@";

void page_handle(struct request *q, struct reply *p)
{
    size_t n, len = 0;
    const char *page = embedded_page(&n), *end = page + n;
    char nonce[33];
    struct textbuf b = {0};
    (void)q;
    if (!random_text(nonce, 16))
        b.failed = true;
    for (const char *at = page, *next; at < end; at = next + sizeof mark - 1) {
        next = strstr(at, mark); // the page ends with a NUL behind it
        textbuf_add(&b, at, (size_t)((next ? next : end) - at));
        if (!next)
            break;
        textbuf_str(&b, nonce);
    }
    char *text = textbuf_take(&b, &len);
    reply_text(p, 200, "text/html; charset=utf-8", text, len);
    char *policy = heap_calloc(512, 1);
    if (policy && text) {
        (void)snprintf(
            policy, 512,
            "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; img-src 'self' blob: "
            "data:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            nonce, nonce);
        p->policy = policy;
    } else {
        heap_free(policy);
    }
}
