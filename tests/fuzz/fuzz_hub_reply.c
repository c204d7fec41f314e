// SPDX-License-Identifier: MIT
// The head of an HTTP response, line by line.
#include <stdint.h>
#include <string.h>

#include "hub/http_reply.h"
#include "hub/repo_name.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct http_reply r; // large
    memset(&r, 0, sizeof r);
    for (size_t at = 0; at < n;) {
        const uint8_t *end = memchr(data + at, '\n', n - at);
        size_t len = end ? (size_t)(end - (data + at)) + 1 : n - at;
        reply_take_line(&r, (const char *)data + at, len);
        at += len;
    }
    require(!r.has_range || (r.range_from < r.range_to && r.range_to <= r.range_total));
    require(memchr(r.etag, 0, sizeof r.etag) && memchr(r.linked_etag, 0, sizeof r.linked_etag));
    require(memchr(r.next, 0, sizeof r.next) && memchr(r.commit, 0, sizeof r.commit));
    require(memchr(r.error_message, 0, sizeof r.error_message) != NULL);
    if (repo_etag_clean(r.etag))
        require(repo_path_is_safe(r.etag, strlen(r.etag)) && !strchr(r.etag, '/'));
    return 0;
}
